"""The images that a command line names: files, globs, folders, archives, and the standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeezeedge.errors import CorruptFileError, UsageError

if TYPE_CHECKING:
    from squeezeedge.calib.decode import AnyImage

__all__ = ["PIPE", "named_images"]

PIPE = "-"
"""Stands for the standard input."""
HEADER = 32
"""Bytes by which an image is known: it begins so, or one of them is 0, which no path has."""
IMAGES = (b"\xff\xd8", b"\x89PNG", b"GIF8", *(b"P%d\n" % kind for kind in range(1, 8)))
"""How images begin that may have no 0 there."""


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
    return (image for part in parts for image in (_piped() if part is None else part))


def _piped() -> Iterator[AnyImage]:
    """One image, or those whose paths are the lines of a text."""
    from squeezeedge.calib.decode import MAX_FILE_BYTES, EncodedImage

    stream: Any = sys.stdin.buffer  # typeshed does not know its peek
    begin = stream.peek(HEADER)[:HEADER]
    if begin.startswith(IMAGES) or b"\0" in begin:
        yield EncodedImage(PIPE, data=stream.read(MAX_FILE_BYTES + 1))
        return
    while line := stream.readline(MAX_FILE_BYTES):
        name = os.fsdecode(line.rstrip(b"\r\n"))
        if "\0" in name:
            raise CorruptFileError(f"{PIPE}: a line has a NUL, so it is no path; give paths, one a line, or one image")
        if name:
            yield EncodedImage(name)
