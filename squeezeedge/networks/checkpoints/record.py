"""What every reader returns, and what they share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import Tensor

from squeezeedge.errors import CorruptFileError

__all__ = ["MAX_BYTES", "Checkpoint", "Contents", "Place", "Stored", "check_bytes", "corrupt", "other"]

MAX_BYTES = 1 << 29

Place = tuple[str, ...]
"""The keys under which a mapping lies in the mappings around it; empty: it is the outermost."""


class Stored(Protocol):
    """A tensor that is made when it is needed."""

    @property
    def shape(self) -> Sequence[int]:
        """Declared, not compared with anything yet."""

    def tensor(self) -> Tensor:
        """The tensor.

        Raises:
            ValueError: its description does not fit what is stored.
        """


@dataclass(frozen=True)
class Contents:
    """What lies in a file.

    Attributes:
        tensors: of each mapping that holds some, by name.
        metadata: as in :class:`Checkpoint`.
        mindspore: the file was written by MindSpore.
        others: what else these mappings hold that might have been meant as a tensor: its name -> what it is.
    """

    tensors: Mapping[Place, Mapping[str, Tensor | Stored]]
    metadata: dict[str, str] = field(default_factory=dict)
    mindspore: bool = False
    others: Mapping[Place, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A trained network's tensors.

    Attributes:
        state: by name, as in torchvision's state dicts.
        metadata: what the file says about itself: "network" (a name of the registry), "preprocessing" and "labels"
            (JSON), and the keys of :mod:`squeezeedge.calib.statement_files`, each only where it is known.
        likely: the network that a file of this kind is mostly of, where its tensors fit several; empty: not known.
        notes: what people should know of which tensors were taken.
        averaged: they are a moving average (EMA) of the trained ones, taken on request.
    """

    state: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)
    likely: str = ""
    notes: tuple[str, ...] = ()
    averaged: bool = False


def corrupt(path: Path, kind: str, reason: object) -> CorruptFileError:
    """The error for a file that is not a sound file of its kind.

    Args:
        path: the file.
        kind: the format, with an article.
        reason: what is wrong; only the start of the first line is shown.
    """
    line = next(iter(str(reason).splitlines()), "") or type(reason).__name__
    return CorruptFileError(f"{path}: not {kind}, truncated or damaged ({line[:200]}); get or save the file again")


def other(path: Path, found: str, fix: str) -> CorruptFileError:
    """The error for a file that may well be sound, but holds something else than a network's tensors.

    Args:
        path: the file.
        found: what it is or holds, as a verb and its object; only the start is shown.
        fix: what to do.
    """
    return CorruptFileError(f"{path}: {found[:300]}; {fix}")


def check_bytes(dims: Sequence[int], item_bytes: int, found: int) -> str | None:
    """Compare a tensor's declared shape with the bytes that are there, before anything is allocated.

    Returns:
        What is wrong, or ``None``.
    """
    if len(dims) > 8 or min(dims, default=0) < 0:
        return f"shape {list(dims)[:8]} is not possible"
    needed = math.prod(dims) * item_bytes
    return None if needed == found else f"shape {list(dims)} needs {needed} bytes and {found} are there"
