"""The known failures: each has one message that names the file or layer, the reason and the fix.

The command line prints the message without a traceback and exits with ``exit_code``
(0 done / 1 known failure / 2 usage / 3 tool or device not available / 4 gate failed).
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar

__all__ = [
    "CorruptFileError",
    "GateError",
    "SqueezeEdgeError",
    "UnavailableError",
    "UnsupportedError",
    "UsageError",
    "did_you_mean",
]


class SqueezeEdgeError(Exception):
    """A known failure; the text names what, why and how to fix it."""

    exit_code: ClassVar[int] = 1


class CorruptFileError(SqueezeEdgeError):
    """A file is truncated, damaged or not of the kind it was taken for."""


class UnsupportedError(SqueezeEdgeError):
    """A network or graph uses something outside what is supported (the text says what is)."""


class UsageError(SqueezeEdgeError):
    """The command or function was called with arguments that do not fit together."""

    exit_code = 2


class UnavailableError(SqueezeEdgeError):
    """A tool or device that the target needs is not on this machine."""

    exit_code = 3


class GateError(SqueezeEdgeError):
    """An accuracy, parity or bit-exactness gate failed."""

    exit_code = 4


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """For a message: the known word that an unknown one is nearest to, as ``" (did you mean X?)"``, or nothing."""
    nearest = get_close_matches(word, list(known), 1)
    return f" (did you mean {nearest[0]}?)" if nearest else ""
