"""Tests of squeezeedge.quantization."""
