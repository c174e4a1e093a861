"""Damaged and hostile inputs for every reader of the project, made by mutators that know the formats.

An input is a few files, made from one of a format's seeds by its mutator; everything follows from (seed, format,
number), so that any input can be made again. The readers of its format run on it in a worker process.

A fault is (:mod:`.judge` and :mod:`.runner` enforce it):

- an exception that is none of :mod:`squeezeedge.errors`; of device.py and run.py, which use nothing of this package:
  one that is neither their ``Unavailable`` nor a ``ValueError`` whose text names a file of the input;
- a CorruptFileError whose text names no file of the input;
- a traceback on the standard error, or an exception that leaves the command line or run.py;
- more than :data:`SECONDS` of processor time, or of :data:`HARD_SECONDS` on the clock;
- more than :data:`MEMORY_BYTES` of memory beyond what the worker had before;
- a file that is written, removed or renamed outside of the input's own folder;
- a file outside of it that the input chose and that was opened (:data:`BAIT` lies beside it), a library loaded from
  it that is not :data:`LIBRARY`, or a program started that is none of :data:`PROGRAMS`;
- the end of the process: a signal, an abort, an exit.

Refusing an input is right, and so is taking it: whether what was damaged still means something is not asked here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

__all__ = [
    "BAIT",
    "HARD_SECONDS",
    "LIBRARY",
    "MEMORY_BYTES",
    "PROGRAMS",
    "RARE",
    "SECONDS",
    "Files",
    "Format",
    "Mutator",
    "Reader",
]

SECONDS = 10.0
HARD_SECONDS = 60.0
"""The clock goes on while other processes have the processor."""
MEMORY_BYTES = 2 << 30
BAIT = "outside.bin"
"""A file beside the input's folder; mutators write its name into inputs."""
LIBRARY = "/libmodel.so"
"""What a CPU artifact is, so it is loaded; its bytes are not mutated."""
PROGRAMS = frozenset({"objdump", "aarch64-linux-gnu-objdump", "fc-list"})

Files = Mapping[str, bytes]
"""Relative path -> content."""
Mutator = Callable[[Random, Files], Files]
Reader = Callable[[Path], object]
"""Reads an input, given its folder."""

RARE = 400
"""One in so many inputs also goes to the readers that take long."""


@dataclass(frozen=True)
class Format:
    """A kind of input.

    Attributes:
        name: as in ``--format``.
        share: of the inputs, relative to that of other formats.
        seeds: makes sound inputs; called once in each process.
        mutate: makes an input of a seed.
        readers: what is tried on it, each on its own.
        rare: readers that take long, tried on one in :data:`RARE` inputs.
        command: arguments of the command line, tried as rarely; the folder's files are named in it.
    """

    name: str
    share: int
    seeds: Callable[[], list[Files]]
    mutate: Mutator
    readers: tuple[Reader, ...]
    rare: tuple[Reader, ...] = ()
    command: Callable[[Path], list[str]] | None = None
