"""What every reader returns, and what they share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from squeezeedge.errors import CorruptFileError

__all__ = ["MAX_BYTES", "Checkpoint", "check_bytes", "corrupt"]

MAX_BYTES = 1 << 29


@dataclass(frozen=True)
class Checkpoint:
    """A trained network's tensors.

    Attributes:
        state: by name, as in torchvision's state dicts.
        metadata: what the file says about itself: "network" (a name of the registry), "preprocessing" and "labels"
            (JSON), each only where it is known.
        likely: the network that a file of this kind is mostly of, where its tensors fit several; empty: not known.
    """

    state: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)
    likely: str = ""


def corrupt(path: Path, kind: str, reason: object) -> CorruptFileError:
    """The error for a file that is not a sound file of its kind.

    Args:
        path: the file.
        kind: the format, with an article.
        reason: what is wrong; only the start of the first line is shown.
    """
    line = next(iter(str(reason).splitlines()), "") or type(reason).__name__
    return CorruptFileError(f"{path}: not {kind}, truncated or damaged ({line[:200]}); get or save the file again")


def check_bytes(dims: Sequence[int], item_bytes: int, found: int) -> str | None:
    """Compare a tensor's declared shape with the bytes that are there, before anything is allocated.

    Returns:
        What is wrong, or ``None``.
    """
    if len(dims) > 8 or min(dims, default=0) < 0:
        return f"shape {list(dims)[:8]} is not possible"
    needed = math.prod(dims) * item_bytes
    return None if needed == found else f"shape {list(dims)} needs {needed} bytes and {found} are there"
