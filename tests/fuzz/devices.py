"""What readers of device.py and run.py, which know nothing of this package's errors, may raise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from squeezeedge.errors import SqueezeEdgeError, UnavailableError

__all__ = ["Refused", "of_device"]


class Refused(SqueezeEdgeError):
    """A device's program refused a file: a ValueError that names it."""


@contextmanager
def of_device(folder: Path, *unavailable: type[Exception]) -> Iterator[None]:
    """Take a ValueError that names a file of the input for a refusal, and ``unavailable`` for what it is."""
    try:
        yield
    except SqueezeEdgeError:
        raise
    except unavailable as error:
        raise UnavailableError(str(error)) from error
    except ValueError as error:
        if str(folder) not in str(error):
            raise
        raise Refused(str(error)) from error
