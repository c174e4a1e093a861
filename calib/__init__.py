"""Image data sets, decoding and preprocessing."""

if __name__ != "squeezeedge.calib":  # from the checkout's root, where the folder lies
    raise ImportError("this package is squeezeedge.calib: import it by that name")
