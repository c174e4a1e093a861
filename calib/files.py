"""Image files of a folder or a .tar, by relative name.

An archive is never extracted: its members are read by offset. Their names serve as labels only, so no name can make
this module write a file.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from squeezeedge.calib.decode import EncodedImage
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError

__all__ = ["SUFFIXES", "Listing", "list_folder", "list_tar"]

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpeg", ".jpg"),
    *(".png", ".ppm", ".tif", ".tiff", ".webp"),
)

NOT_READ = (".jp2", ".jpe", ".jxl", ".pbm", ".pgm", ".svg", ".tga")
"""Endings of pictures that are not read; a class may have no others."""

MADE_BY_SYSTEMS = (
    *("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__pycache__"),
    *("Thumbs.db", "desktop.ini"),
)
"""What file managers and servers leave; like what is hidden, it is no part of the data."""

MAX_LINKS = 40
"""Most links in a row that are followed, as in Linux."""

_Parts = tuple[str, ...]


class Listing(NamedTuple):
    """What lies in a folder or archive.

    Attributes:
        images: components of an image's path -> where it is; sorted.
        empty: components of the path of each folder without any image that may still be a class: nothing is in it, or
            only pictures of formats that are not read.
    """

    images: Mapping[_Parts, EncodedImage]
    empty: frozenset[_Parts] = frozenset()


def list_folder(folder: Path) -> Listing:
    """The image files below a folder, hidden ones left out, links followed; paths are relative to it.

    Anything with the name of an image is listed, and counted as unreadable later if it is none: a link to nothing, a
    device, a folder that holds no image itself.

    Raises:
        SqueezeEdgeError: a folder in it cannot be read.
    """
    found: dict[_Parts, EncodedImage] = {}
    visited: list[_Parts] = []
    others: list[_Parts] = []
    seen = set()
    for current, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        status = os.stat(current)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if _is_visible((name,)))
        seen.add((status.st_dev, status.st_ino))
        above = Path(current).relative_to(folder).parts
        visited.append(above)
        for file in filter(lambda name: _is_visible((name,)), files):
            if file.lower().endswith(SUFFIXES):
                found[*above, file] = EncodedImage(str(Path(current, file)))
            else:
                others.append((*above, file))
    holding = {above for parts in (*found, *others) for above in _with_those_above(parts[:-1])}
    named = [parts for parts in visited if parts and parts[-1].lower().endswith(SUFFIXES) and parts not in holding]
    found |= {parts: EncodedImage(str(folder.joinpath(*parts))) for parts in named}
    return Listing(dict(sorted(found.items())), _empty([p for p in visited if p not in found], [*found, *others]))


def _refuse(error: OSError) -> None:
    """Refuse a folder that cannot be read: it may be a class, and without it the others' indices would change."""
    raise SqueezeEdgeError(
        f"{error.filename}: cannot be read: {error.strerror or error}; make it readable or move it away"
    ) from error


def list_tar(path: Path) -> Listing:
    """The image files in an uncompressed .tar; of a name that occurs twice, the last member.

    Links are followed within the archive. Anything with the name of an image is listed, and counted as unreadable later
    if it is none: a link to nothing, a device.

    Raises:
        CorruptFileError: not such an archive, damaged or truncated.
    """
    found: dict[_Parts, EncodedImage] = {}
    folders: list[_Parts] = []
    others: list[_Parts] = []
    files: dict[_Parts, EncodedImage] = {}
    links: dict[_Parts, _Parts] = {}
    end = 0
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.size < 0 or member.offset < end:  # would make tarfile go in circles
                    raise tarfile.ReadError(f"member of {member.size} bytes at byte {member.offset}")
                end = member.offset_data + member.size
                parts = _parts(member.name)
                below = posixpath.dirname(member.name) if member.issym() else ""
                links.pop(parts, None)
                if member.isreg() and not member.issparse():
                    files[parts] = EncodedImage(str(path), member.name, member.offset_data, member.size)
                elif member.issym() or member.islnk():
                    links[parts] = _parts(posixpath.normpath(posixpath.join(below, member.linkname)))
                if not _is_visible(parts):
                    continue
                if member.isdir():
                    folders.append(parts)
                elif not parts[-1].lower().endswith(SUFFIXES):
                    others.append(parts)
                else:
                    found[parts] = files.get(parts, EncodedImage(str(path), member.name, 0, 0))
            with path.open("rb") as file:
                # A damaged header looks like the end to tarfile; the real end is a block of zeros.
                file.seek(archive.offset)
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise tarfile.ReadError(f"no end of archive at byte {archive.offset}")
    except (tarfile.TarError, ValueError, OverflowError, MemoryError, RecursionError, EOFError) as error:
        raise CorruptFileError(
            f"{path}: not an uncompressed .tar, or damaged or truncated: {error}; get it again or decompress it"
        ) from error
    for parts in found.keys() & links:
        target = parts
        for _ in range(MAX_LINKS):
            target = links.get(target, target)
        found[parts] = replace(files.get(target, found[parts]), member=found[parts].member)
    return Listing(dict(sorted(found.items())), _empty(folders, [*found, *others]))


def _parts(name: str) -> _Parts:
    """Components of a member's name."""
    return tuple(part for part in PurePosixPath(name).parts if part not in ("/", "//"))


def _is_visible(parts: _Parts) -> bool:
    return bool(parts) and not any(part.startswith(".") or part in MADE_BY_SYSTEMS for part in parts)


def _empty(folders: Iterable[_Parts], files: Collection[_Parts]) -> frozenset[_Parts]:
    """The folders that may be classes without an image: named, or holding pictures that are not read."""
    named, full = {above for parts in folders for above in _with_those_above(parts)}, set[_Parts]()
    for above, not_read in {(parts[:-1], parts[-1].lower().endswith(NOT_READ)) for parts in files}:
        (named if not_read else full).update(_with_those_above(above))
    return frozenset(named - full)


def _with_those_above(parts: _Parts) -> Iterable[_Parts]:
    return (parts[:depth] for depth in range(1, len(parts) + 1))
