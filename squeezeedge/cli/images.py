"""The images that a command line names: files, globs, folders, archives, and what comes through the standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from squeezeedge.errors import UsageError

if TYPE_CHECKING:
    from squeezeedge.calib.decode import AnyImage

__all__ = ["PIPE", "named_images"]

PIPE = "-"
"""Stands for the standard input."""


def named_images(arguments: Sequence[str]) -> Iterator[AnyImage]:
    """The images of arguments, in their order; nothing is decoded.

    An argument is an image file, a pattern (``*.jpg``), a folder (all images below it), a .tar, an .npz, a data set's
    name, or ``-``: an image, or paths of images, one a line, each of which is answered as it comes.

    Raises:
        UsageError: at once, where an argument names nothing, ``-`` is given twice, or the standard input is a terminal.
        SqueezeEdgeError: at once, where a folder or archive is damaged or holds no image.
    """
    from squeezeedge.calib.decode import EncodedImage
    from squeezeedge.calib.files import list_folder
    from squeezeedge.calib.sources import open_images

    if arguments.count(PIPE) > 1:
        raise UsageError("-: is given twice, but there is one standard input")
    parts: list[Sequence[AnyImage] | None] = []
    for argument in arguments:
        path = Path(argument)
        if argument == PIPE:
            if sys.stdin.isatty():
                raise UsageError("-: the standard input is a terminal; pipe an image or paths into the command")
            parts.append(None)
        elif path.is_dir():
            found = list(list_folder(path).images.values())
            if not found:
                raise UsageError(f"{argument}: holds no image")
            parts.append(found)
        elif has_magic(argument) and not path.exists():
            files = [EncodedImage(name) for name in sorted(glob(argument, recursive=True)) if Path(name).is_file()]  # noqa: PTH207
            if not files:
                raise UsageError(f"{argument}: no file has such a name")
            parts.append(files)
        elif path.suffix.lower() in (".tar", ".npz") or not path.exists():
            parts.append(list(open_images(argument, labelled=False).images))
        else:
            parts.append([EncodedImage(argument)])
    return (image for part in parts for image in (_piped(sys.stdin.buffer) if part is None else part))


def _piped(stream: BinaryIO) -> Iterator[AnyImage]:
    """One image, or those whose paths are the lines of a text."""
    from squeezeedge.calib.decode import MAX_FILE_BYTES, EncodedImage

    first = stream.readline(MAX_FILE_BYTES)
    if not _is_text(first):
        yield EncodedImage(PIPE, data=first + stream.read(MAX_FILE_BYTES))
        return
    while first:
        name = first.decode().strip("\r\n")
        if name:
            yield EncodedImage(name)
        first = stream.readline(MAX_FILE_BYTES)


def _is_text(line: bytes) -> bool:
    """Whether a line is a path: images begin with bytes that no text has."""
    if line.startswith((b"GIF8", b"P3\n", b"P6\n")):
        return False
    try:
        return "\0" not in line.decode()
    except UnicodeDecodeError:
        return False
