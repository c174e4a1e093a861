"""Image files of a folder or a .tar, by relative name.

An archive is never extracted: its members are read by offset, so their names are labels and no paths, and
whatever they say, no file is written.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path, PurePosixPath

from squeezeedge.calib.decode import EncodedImage
from squeezeedge.errors import CorruptFileError

__all__ = ["SUFFIXES", "Listing", "list_folder", "list_tar"]

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

Listing = dict[tuple[str, ...], EncodedImage]
"""Components of an image's path in its folder or archive -> where it is; sorted."""


def list_folder(folder: Path) -> Listing:
    """The image files below a folder, hidden ones left out, links followed.

    Returns:
        Components of the path relative to ``folder`` -> image, sorted.
    """
    found: Listing = {}
    seen = set()
    for current, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(current)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above
            folders.clear()
            continue
        folders.sort()
        seen.add((status.st_dev, status.st_ino))
        above = Path(current).relative_to(folder).parts
        for file in files:
            path = Path(current, file)
            if _is_image((*above, file)) and path.is_file():
                found[*above, file] = EncodedImage(str(path))
    return dict(sorted(found.items()))


def list_tar(path: Path) -> Listing:
    """The image files in an uncompressed .tar.

    Returns:
        Components of the member's name -> image, sorted; a name that occurs twice means its last member.

    Raises:
        CorruptFileError: not such an archive, damaged or truncated.
    """
    found: Listing = {}
    end = 0
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.size < 0 or member.offset < end:  # would make tarfile go in circles
                    raise tarfile.ReadError(f"member of {member.size} bytes at byte {member.offset}")
                end = member.offset_data + member.size
                parts = tuple(part for part in PurePosixPath(member.name).parts if part not in ("/", "//"))
                if member.isreg() and not member.issparse() and _is_image(parts):
                    found[parts] = EncodedImage(str(path), member.name, member.offset_data, member.size)
            with path.open("rb") as file:
                # A damaged header looks like the end to tarfile; the real end is a block of zeros.
                file.seek(archive.offset)
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise tarfile.ReadError(f"no end of archive at byte {archive.offset}")
    except (tarfile.TarError, ValueError, OverflowError, MemoryError, RecursionError, EOFError) as error:
        raise CorruptFileError(
            f"{path}: not an uncompressed .tar, or damaged or truncated: {error}; get it again or decompress it"
        ) from error
    return dict(sorted(found.items()))


def _is_image(parts: tuple[str, ...]) -> bool:
    return bool(parts) and not any(part.startswith(".") for part in parts) and parts[-1].lower().endswith(SUFFIXES)
