"""Deployment compiler for small vision networks: one integer-only int8 model, the same bits everywhere.

The folders are in the order of the data's way: ``networks`` -> ``calib`` -> ``training`` -> ``graph`` ->
``quantize`` -> ``lower`` -> ``targets`` -> ``parity`` -> ``cli``. Imports never point back.
Importing this package loads neither torch nor tvm.
"""

from squeezeedge._version import __version__

__all__ = ["__version__"]
