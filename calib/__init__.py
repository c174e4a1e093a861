"""Image data sets, decoding and preprocessing."""
