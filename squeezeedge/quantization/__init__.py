"""Passes, one per file: float graph + calibration images -> integer graph."""
