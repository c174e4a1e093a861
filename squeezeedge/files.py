"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from squeezeedge.errors import SqueezeEdgeError

__all__ = ["write_file"]


def write_file(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside it and rename it.

    Raises:
        SqueezeEdgeError: it cannot be written; whatever was there before is still there.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise SqueezeEdgeError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # renamed, or never made
            partial.unlink()
