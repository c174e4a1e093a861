"""The known failures: each has one message that names the file or layer, the reason and the fix.

The command line prints the message without a traceback and exits with ``exit_code``
(0 done / 1 known failure / 2 usage / 3 tool or device not available / 4 gate failed).

Arguments are checked before any work. A wrong type, an empty path, a number out of range, a path where nothing is, or
where something of another kind is, raises a :class:`UsageError` that names the argument. A damaged file of the right
kind raises a :class:`CorruptFileError`.
"""

import os
from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar

__all__ = [
    "CorruptFileError",
    "GateError",
    "PackageWarning",
    "SqueezeEdgeError",
    "UnavailableError",
    "UnsupportedError",
    "UsageError",
    "check_path",
    "check_type",
    "check_whole",
    "counted",
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


class PackageWarning(UserWarning):
    """An extension from another package cannot be used; the text names it, the reason and the remedy."""


def counted(count: int, noun: str) -> str:
    """``"1 image"``, ``"2 images"``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """For a message: the known word that an unknown one is nearest to, as ``" (did you mean X?)"``, or nothing."""
    nearest = get_close_matches(word, list(known), 1)
    return f" (did you mean {nearest[0]}?)" if nearest else ""


def check_type(name: str, value: object, kinds: type | tuple[type, ...], what: str) -> None:
    """Refuse an argument of another type.

    Args:
        name: of the argument.
        value: what was given.
        kinds: what it may be.
        what: the same in words, such as ``"a Model"``.

    Raises:
        UsageError: it is none of them.
    """
    if not isinstance(value, kinds):
        raise UsageError(f"`{name}` is {_shown(value)}; it must be {what}")


def check_path(name: str, value: object) -> None:
    """Refuse what is no path (a text or an ``os.PathLike``), or an empty one.

    Raises:
        UsageError: as :func:`check_type`.
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str) or not os.fspath(value):
        raise UsageError(f"`{name}` is {_shown(value)}; it must be a path")


def check_whole(name: str, value: object, least: int | None = None) -> None:
    """Refuse what is no whole number, or less than the least one.

    Raises:
        UsageError: as :func:`check_type`.
    """
    whole = hasattr(value, "__index__") and not isinstance(value, bool)  # numpy's integers, too
    if not whole or (least is not None and int(value) < least):  # type: ignore[call-overload]
        bound = "" if least is None else f" of {least} or more"
        raise UsageError(f"`{name}` is {_shown(value)}; it must be a whole number{bound}")


def _shown(value: object) -> str:
    """A value in a message: short ones as they are written, others by their type."""
    text = repr(value)
    kind = type(value).__name__
    if value is None or (isinstance(value, str) and not value):
        return text
    return f"{text} ({kind})" if len(text) <= 40 and "\n" not in text else f"a {kind}"
