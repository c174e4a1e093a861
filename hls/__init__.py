"""The accelerator: C++ for Vitis HLS, and the simulator that runs the same source. README.md describes both."""
