"""Data sets, preprocessing and range observers."""
