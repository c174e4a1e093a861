"""FAKE: stands for Ascend's ais_bench package; there is no device behind it."""
