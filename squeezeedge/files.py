"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from squeezeedge.errors import SqueezeEdgeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_figure", "write_file"]


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


def write_figure(path: Path, figure: Figure) -> None:
    """Write a picture; the file's ending chooses the format.

    Raises:
        SqueezeEdgeError: it cannot be written.
    """
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:], dpi=120)
    write_file(path, picture.getvalue())
