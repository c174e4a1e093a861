"""What a target may have kernels for beyond the base: dense convolution, max pooling, concatenation, addition, head."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Feature"]


class Feature(StrEnum):
    """What :mod:`squeezeedge.lower.legalize` rewrites for a target without it; the value is for people."""

    GROUPS = "grouped convolution"
    DEPTHWISE = "depthwise convolution"
    """One output channel for each input channel, a group of its own; :data:`GROUPS` is every other grouping."""
