"""The accelerator: C++ for Vitis HLS, and the simulator that runs the same source. README.md describes both."""

if __name__ != "squeezeedge.hls":  # from the checkout's root, where the folder lies
    raise ImportError("this package is squeezeedge.hls: import it by that name")
