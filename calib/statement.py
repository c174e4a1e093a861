"""What is said of a network's preprocessing, by people and files, and what follows from all of it together.

A network's file reads x = (pixel * scale - mean) / std of pixels in 0..255, a channel at a time in its own order of
channels. A :class:`Statement` holds what one source says about that, the scaling and the crop; it may be incomplete.
:func:`resolve` combines statements and an assumption into the :class:`~squeezeedge.calib.preprocess.Preprocessing` of
a network that reads RGB.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, SupportsFloat, TypeAlias

import numpy as np

from squeezeedge.calib.preprocess import IMAGENET, MAX_PIXELS, Interpolation, Preprocessing
from squeezeedge.errors import SqueezeEdgeError, UsageError

__all__ = [
    "ASSUMED",
    "FIELDS",
    "NORMALIZATION",
    "ONE",
    "PLAIN",
    "ZERO",
    "ChannelOrder",
    "NetworkInput",
    "Resolved",
    "Statement",
    "Triple",
    "agreed",
    "of_preset",
    "resolve",
    "triple",
]

ChannelOrder: TypeAlias = Literal["rgb", "bgr", "gray"]
Triple: TypeAlias = tuple[float, float, float]

ZERO: Triple = (0.0, 0.0, 0.0)
ONE: Triple = (1.0, 1.0, 1.0)
ASSUMED = "assumed"
"""The source of what nothing states."""
STATED = "stated"
"""The source of a statement whose author is unknown."""
UNIT = 1 / 255
"""The scale where none is stated: pixels of 0..1."""
WHOLE = 0
"""``resize``: the whole image is scaled to the network's input, its aspect ratio is not kept."""
MOST_NORMALIZED = 512.0
"""Largest span of normalized values that is no mistake: 0..255 with a standard deviation of 1 spans 255."""
LEAST_NORMALIZED = 1 / 32
"""Smallest one: 0..1 with a standard deviation of 58, which is of pixels in 0..255, spans 1/58."""
SAME = 2e-3
"""Relative difference of statements that are equal but for rounding: 123.68 is 0.485 * 255."""
NORMALIZATION = ("mean", "std", "scale")
RESIZING = ("resize", "share")


@dataclass(frozen=True)
class Statement:
    """What is said of preprocessing; ``None``: nothing of that.

    Attributes:
        mean: of a channel, in the units of pixel * scale, in the network's order of channels.
        std: standard deviation, likewise.
        scale: what a pixel of 0..255 is multiplied by; 1/255 if it is not stated.
        channel_order: in which the network reads the channels.
        size: (height, width) of the centre crop, which is the network's input, in pixels.
        resize: length to which the image's shorter side is scaled before the crop, in pixels; 0: the whole image is
            scaled to ``size``.
        share: of the shorter side that the crop keeps (``crop_pct`` of timm); in place of ``resize``.
        interpolation: Pillow's filter for the scaling.
        sources: field -> who says so, for messages.
    """

    mean: Triple | None = None
    std: Triple | None = None
    scale: float | None = None
    channel_order: ChannelOrder | None = None
    size: tuple[int, int] | None = None
    resize: int | None = None
    share: float | None = None
    interpolation: Interpolation | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def stated(self) -> dict[str, Any]:
        """The fields that something is said of."""
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not None}

    def said_by(self, source: str) -> Statement:
        """The same from one source."""
        return replace(self, sources=dict.fromkeys(self.stated(), source))

    def over(self, other: Statement) -> Statement:
        """What this one says, and what the other one says of the rest."""
        mine = self.stated()
        without = set(RESIZING) if mine.keys() & set(RESIZING) else set()
        rest = {name: value for name, value in other.stated().items() if name not in without}
        sources = {name: other.sources.get(name, "") for name in rest} | dict(self.sources)
        return Statement(**(rest | mine), sources=sources)

    def affine(self) -> tuple[Triple, Triple] | None:
        """X = pixel * multiplier + offset, or ``None`` where nothing of that is stated.

        Of mean, standard deviation and scale, those that are not stated are 0, 1 and 1/255.
        """
        if not any(getattr(self, name) is not None for name in NORMALIZATION):
            return None
        mean, std, scale = self.mean or ZERO, self.std or ONE, self.scale or UNIT
        return triple(scale / s for s in std), triple(-m / s for m, s in zip(mean, std, strict=True))


FIELDS = tuple(item.name for item in fields(Statement) if item.name != "sources")


@dataclass(frozen=True)
class NetworkInput:
    """What a network's file does with its input before the graph that is taken of it.

    Attributes:
        size: (height, width), if it is fixed.
        multiplier: the file computes x * multiplier + offset first, a channel at a time, in its order of channels.
        offset: see ``multiplier``.
        gray: its input has one channel.
        pixels: its input are integers, 0 to 255.
    """

    size: tuple[int, int] | None = None
    multiplier: Triple = ONE
    offset: Triple = ZERO
    gray: bool = False
    pixels: bool = False

    @property
    def plain(self) -> bool:
        """Whether the file says nothing of its input's normalization."""
        return not self.pixels and (self.multiplier, self.offset) == (ONE, ZERO)


PLAIN = NetworkInput()


@dataclass(frozen=True)
class Resolved:
    """A network's preprocessing, and how it came about.

    Attributes:
        preprocessing: for a network that reads RGB; mean and standard deviation hold for what the graph reads.
        channel_order: in which the file's own network reads the channels.
        signs: 1 or -1 a channel, in the file's order: the graph reads the normalized values times these.
        sources: field of :class:`Statement` -> who says so.
        assumption: one sentence on what nothing states; empty if there is no such thing.
        normalization: mean, standard deviation and scale in the units and the order in which they are stated; ``None``:
            not known, or the file normalizes the image itself, too.
    """

    preprocessing: Preprocessing
    channel_order: ChannelOrder
    signs: Triple = ONE
    sources: Mapping[str, str] = field(default_factory=dict)
    assumption: str = ""
    normalization: tuple[Triple, Triple, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """The preprocessing, the file's order of channels and who says so; JSON values."""
        return {
            **self.preprocessing.to_json(),
            "channel_order": self.channel_order,
            "source": dict(self.sources),
        }


def of_preset(preset: Preprocessing, source: str) -> Statement:
    """All that a preprocessing says, by one source."""
    resize = WHOLE if preset.resize is None else preset.resize
    order: ChannelOrder = "gray" if preset.gray else "rgb"
    return Statement(preset.mean, preset.std, UNIT, order, preset.size, resize, None, preset.interpolation).said_by(
        source
    )


def agreed(statements: Sequence[Statement], over: Statement, file: str) -> Statement:
    """What several sources say of one file together.

    Args:
        statements: of one rank, each by one source.
        over: of a higher rank, which decides where they contradict each other.
        file: for the message.

    Raises:
        SqueezeEdgeError: two of them contradict each other in what ``over`` says nothing of.
    """
    merged = Statement()
    for statement in statements:
        for names in (NORMALIZATION, ("channel_order",), ("size",), RESIZING, ("interpolation",)):
            decided = {*names} & over.stated().keys()
            if decided and names != NORMALIZATION:
                continue
            if decided.issuperset(("mean", "std")) or not _contradict(merged, statement, names):
                continue
            first, second = (_told(one, names) for one in (merged, statement))
            name = next(name for name in names if name in statement.stated())
            raise SqueezeEdgeError(
                f"{file}: what is said of its preprocessing is contradictory: {first}, but {second}; decide by "
                f"`{'crop' if name in ('size', 'share') else name}` or `preprocessing`, or correct what is wrong"
            )
        merged = merged.over(statement)
    return merged


def _contradict(first: Statement, second: Statement, names: Sequence[str]) -> bool:
    if names == NORMALIZATION:
        one, other = first.affine(), second.affine()
        if one is None or other is None:
            return False
        return not all(np.allclose(a, b, rtol=SAME, atol=SAME) for a, b in zip(one, other, strict=True))
    mine, others = first.stated(), second.stated()
    return any(name in mine and name in others and mine[name] != others[name] for name in names)


def _told(statement: Statement, names: Sequence[str]) -> str:
    """``"mean (0.5, 0.5, 0.5) by config.json"``, of the first of the fields that are stated."""
    stated = statement.stated()
    values = ", ".join(f"{name} {stated[name]}" for name in names if name in stated)
    source = next(statement.sources.get(name, "") for name in names if name in stated)
    return f"{source} says {values}"


def resolve(
    stated: Statement, base: Statement, network: NetworkInput = PLAIN, size: int | None = None, name: str = ""
) -> Resolved:
    """What follows from all that is known.

    Args:
        stated: by people and files.
        base: all fields, for what is not stated.
        network: what the network's file does itself.
        size: height and width that are asked for, in pixels.
        name: of the network's file, for messages.

    Raises:
        SqueezeEdgeError: values that do not fit together or the network; the text says which and what to do.
    """
    known = stated.over(base)
    if stated.affine() is not None:
        known = replace(known, **{key: getattr(stated, key) for key in NORMALIZATION})
    elif network.gray or not network.plain:
        known = _own_normalization(network, known)
    order = _order(stated, known, network, name)
    mean, std = (np.array(values) / (255 * (known.scale or UNIT)) for values in (known.mean or ZERO, known.std or ONE))
    if stated.affine() is not None:
        _check_units(stated, name)
    elif order == "bgr":  # what is assumed is so by colour
        mean, std = mean[::-1], std[::-1]
    scale = known.scale or UNIT
    told = (triple(mean * 255 * scale), triple(std * 255 * scale), scale) if network.plain else None
    if not (np.isfinite([network.multiplier, network.offset]).all() and all(network.multiplier)):
        raise SqueezeEdgeError(
            f"{name}: its first layers multiply the image by {network.multiplier}, which leaves nothing of a channel; "
            "export the network again"
        )
    signs = np.sign(network.multiplier)
    std = std / network.multiplier
    mean, std = mean - std * network.offset, np.abs(std)
    if order == "gray" and network.gray and not (_same(std) and _same(mean)):
        raise SqueezeEdgeError(f"{name}: has one input channel, so `mean` and `std` are one number each")
    if order == "bgr":
        mean, std = mean[::-1], std[::-1]
    crop, resize = _geometry(stated, known, base, network, size, name)
    assert known.interpolation is not None
    try:
        preprocessing = Preprocessing(
            crop, resize or None, triple(mean), triple(std), known.interpolation, order == "gray"
        )
    except ValueError as error:
        text = str(error).removeprefix("preprocessing: ")
        raise SqueezeEdgeError(f"{name}: its preprocessing is not possible: {text}; state another one") from error
    sources = _sources(stated, known, base)
    return Resolved(preprocessing, order, triple(signs), sources, _assumption(stated, sources, order, known), told)


def _own_normalization(network: NetworkInput, known: Statement) -> Statement:
    """The input for which a file that normalizes it itself was made, as its numbers imply.

    ``center`` becomes 0, and ``spread`` above it becomes 1. For pixels in 0..255 both are tens; for pixels in 0..1 they
    are about a half and a quarter. Around 0, the values are normalized already; gray images are taken as 0..1.
    """
    center = float(np.median(np.divide(-np.array(network.offset), _nonzero(network.multiplier))))
    spread = float(np.median(1 / np.abs(_nonzero(network.multiplier))))
    if network.pixels or spread > 8 or abs(center) > 8:
        scale = 1.0
    elif network.gray or 0.25 <= center <= 0.75 or (center > 0 and spread < 0.5):
        scale = UNIT
    else:
        return known
    return replace(known, mean=ZERO, std=ONE, scale=scale)


def _order(stated: Statement, known: Statement, network: NetworkInput, name: str) -> ChannelOrder:
    if not network.gray:
        return known.channel_order or "rgb"
    if stated.channel_order in ("rgb", "bgr"):
        source = stated.sources.get("channel_order", "")
        raise SqueezeEdgeError(
            f"{name}: its input has one channel, but {source} says {stated.channel_order}; `channel_order` must be gray"
        )
    return "gray"


def _check_units(stated: Statement, name: str) -> None:
    """Refuse a mean outside of the pixels' range, and a deviation far below or above it: they are in other units."""
    top = 255 * (stated.scale or UNIT)
    mean, std = stated.mean or ZERO, stated.std or ONE
    sources = sorted({stated.sources[key] for key in NORMALIZATION if key in stated.sources})
    said = f" ({', '.join(sources)})" if sources else ""
    if max(mean) > 2 * top or min(mean) < -top:
        raise SqueezeEdgeError(
            f"{name}: a mean of {mean}{said} is not within pixels of 0..{top:.4g}; "
            "state the `scale` that it belongs to (1 for pixels of 0..255, 1/255 for 0..1)"
        )
    for span in (top / min(std), top / max(std)):
        if not LEAST_NORMALIZED <= span <= MOST_NORMALIZED:
            raise SqueezeEdgeError(
                f"{name}: pixels of 0..{top:.4g} with a standard deviation of {std}{said} span {span:.6g} after it; "
                "state the `scale` that it belongs to (1 for pixels of 0..255, 1/255 for 0..1)"
            )


def _geometry(
    stated: Statement, known: Statement, base: Statement, network: NetworkInput, size: int | None, name: str
) -> tuple[tuple[int, int], int]:
    """The crop, and the shorter side before it or :data:`WHOLE`."""
    assert base.size is not None and known.size is not None
    if network.size is not None:
        if stated.size not in (None, network.size):
            source = stated.sources.get("size", "")
            kind = UsageError if source.startswith("`") else SqueezeEdgeError
            raise kind(
                f"{name}: its input is {_pixels(network.size)} pixels, but {source} says a crop of "
                f"{_pixels(stated.size)}; `crop` must be that, or export the network at the size you need"
            )
        known = replace(known, size=network.size)
    own = known.size
    assert own is not None
    if size is not None and stated.size is not None and stated.sources.get("size") == "`crop`":
        if stated.size != (size, size):
            raise UsageError(f"`size` {size} and `crop` {_pixels(stated.size)} contradict each other; give one")
    resize = _resize(stated, base, own)
    wanted = own if size is None else (size, size)
    if math.prod(wanted) > MAX_PIXELS:
        raise UsageError(
            f"`size` {size}: {_pixels(wanted)} are more than the {MAX_PIXELS} pixels that an image may have"
        )
    if wanted != own and resize and stated.sources.get("resize") != "`resize`":
        resize = max(*wanted, round(resize * max(wanted) / max(own)))  # the crop keeps its share of the image
    if resize and resize < max(wanted):
        source = stated.sources.get("resize", ASSUMED)
        raise SqueezeEdgeError(
            f"{name}: a shorter side of {resize} pixels ({source}) does not cover the crop of {_pixels(wanted)}; "
            f"give `resize` of {max(wanted)} or more, or 0 to scale the whole image"
        )
    return wanted, resize


def _resize(stated: Statement, base: Statement, own: tuple[int, int]) -> int:
    assert base.resize is not None and base.size is not None
    if stated.resize is not None:
        return stated.resize
    if stated.share is not None:
        return math.floor(max(own) / stated.share)
    return max(*own, round(base.resize * max(own) / max(base.size))) if base.resize else WHOLE


def _sources(stated: Statement, known: Statement, base: Statement) -> dict[str, str]:
    """Of each field that means something; ``share`` is another way to say ``resize``."""
    sources = {name: base.sources.get(name, ASSUMED) for name in FIELDS if name != "share"}
    if stated.affine() is not None:
        sources |= {"mean": ASSUMED, "std": ASSUMED}
        del sources["scale"]
    found = {**sources, **dict.fromkeys(stated.stated(), STATED), **stated.sources}
    if "share" in found:
        found["resize"] = found.pop("share")
    return found


def _assumption(stated: Statement, sources: Mapping[str, str], order: ChannelOrder, known: Statement) -> str:
    parts, options = [], []
    if sources["channel_order"] == ASSUMED:
        parts.append("gray images" if order == "gray" else order.upper())
        options.append("channel_order")
    missing = [name for name in ("mean", "std") if sources[name] == ASSUMED]
    if stated.affine() is None:
        if missing:
            parts.append(_named(known))
            options = ["mean", "std"]
    elif missing == ["mean"]:
        parts.append("a mean of 0")
        options.append("mean")
    elif "std" in missing:
        parts.append("a standard deviation of 1" if len(missing) == 1 else "a mean of 0 and a standard deviation of 1")
        options += missing
    if not parts:
        return ""
    return f"assuming {', '.join(parts)}; {'/'.join(f'`{name}`' for name in options)} to change"


def _named(known: Statement) -> str:
    if (known.mean, known.std) == (IMAGENET.mean, IMAGENET.std):
        return "ImageNet mean and standard deviation"
    if (known.mean, known.std) == (ZERO, ONE):
        return "pixels of 0..255" if known.scale == 1 else "pixels of 0..1"
    return f"mean {known.mean} and standard deviation {known.std} of pixels of 0..1"


def _nonzero(values: Triple) -> np.ndarray[Any, np.dtype[np.float64]]:
    array = np.array(values, np.float64)
    return np.where(array == 0, np.finfo(np.float64).tiny, array)


def _same(values: np.ndarray[Any, Any]) -> bool:
    return bool(np.allclose(values, values[0], rtol=1e-9, atol=1e-12))


def triple(values: Iterable[SupportsFloat]) -> Triple:
    """Three numbers in any form, as floats."""
    first, second, third = map(float, values)
    return first, second, third


def _pixels(size: tuple[int, int] | None) -> str:
    return "x".join(map(str, size or ()))
