"""Tests of squeezeedge.quantize."""
