"""Evaluate, compare, find the first diverging layer, report."""
