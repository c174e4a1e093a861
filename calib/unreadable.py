"""Unreadable images are left out and counted; it is an error if more than half of all images are unreadable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, counted

__all__ = ["SHOWN", "Unreadable", "remark"]

SHOWN = 3
"""Images that a message names."""


class Unreadable:
    """Takes note of images that cannot be read: a reader calls it for each of them.

    Args:
        name: of the data, for messages.
        total: how many images are asked for.
        strict: any such image is an error.
        spare: whether others can take the place of those that cannot be read.

    Attributes:
        errors: why, one text that names the image for each of them; in their order.
    """

    def __init__(self, name: str, total: int, *, strict: bool = False, spare: bool = False) -> None:
        self._name, self._total, self._strict = name, total, strict
        self._alone = total == 1 and not spare
        self._places: list[int] = []
        self._before = 0
        self.errors: list[str] = []

    def __call__(self, place: int, error: SqueezeEdgeError) -> None:
        """Take note of one, which is later than all that are known.

        Raises:
            SqueezeEdgeError: the error itself where there was but one image, or any is an error.
            CorruptFileError: more than half of all images cannot be read.
        """
        if self._strict or self._alone:
            raise error
        self._places.append(self._before + place)
        self.errors.append(str(error))
        self.check(len(self.errors))

    def go_on(self, count: int) -> None:
        """Expect ``count`` more images, whose places count from 0 again; for :meth:`places` they follow the others."""
        self._before, self._total = self._total, self._total + count

    def check(self, count: int) -> None:
        """Refuse data if too many of its images, ``count``, cannot be read.

        Raises:
            CorruptFileError: they are more than half.
        """
        if 2 * count > max(self._total, 2):  # if a single image was asked for, the next one is tried
            first = f"; the first is {self.errors[0]}" if self.errors else ""
            raise CorruptFileError(f"{self._name}: more than half of {self._total} images cannot be read{first}")

    def places(self, first: int, count: int) -> NDArray[np.int64]:
        """Which images the readable ones are: places of all images, int64 [count].

        Args:
            first: number of readable ones before them.
            count: how many.
        """
        places = np.arange(first, first + count)
        for unreadable in self._places:
            places[places >= unreadable] += 1
        return places


def remark(name: str, errors: Sequence[str], total: int, replaced: int = 0) -> str:
    """One sentence on the images of data that are left out, with the first of them; empty where there are none.

    Args:
        name: of the data.
        errors: one text that names the image for each.
        total: how many images were asked for.
        replaced: how many of them were asked for in the place of others.
    """
    if not errors:
        return ""
    more = f"; and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
    verb = "is" if len(errors) == 1 else "are"
    instead = f", {replaced} {'is' if replaced == 1 else 'are'} taken instead" if replaced else ""
    return (
        f"{name}: {len(errors)} of {counted(total, 'image')} cannot be read and {verb} left out{instead} "
        f"(`strict` makes that an error): {'; '.join(errors[:SHOWN])}{more}"
    )
