"""Preprocessing as data: how an image file becomes the network's uint8 input, and how fp32 normalizes it.

It is stored with every model (rule R2). The device gets the uint8 image, and ``mean`` and ``std`` are folded into the
first convolution. So only ``resize`` and the crop are left to the host.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from squeezeedge.errors import CorruptFileError, UnsupportedError

__all__ = ["DIGITS", "IMAGENET", "MAX_PIXELS", "PRESETS", "Interpolation", "Preprocessing"]

MAX_PIXELS = 89_478_485
"""Largest image that is decoded or made by scaling: Pillow's default limit, 256 MiB as RGB."""

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
"""Pillow's filters."""


@dataclass(frozen=True)
class Preprocessing:
    """Image -> uint8 HWC crop -> (fp32 only) (x / 255 - mean) / std.

    The same pixels as torchvision's ``Resize`` and ``CenterCrop`` on a PIL image, scaled along the rows, then along the
    columns, with bytes between. Pillow 13 itself takes the other order where the height shrinks by more than twice as
    many pixels as the width.

    Attributes:
        size: (height, width) of the network's input in pixels.
        resize: length in pixels to which the image's shorter side is scaled before the centre crop;
            ``None`` scales the whole image to ``size`` (aspect ratio not kept).
        mean: per-channel RGB mean, pixels being 0..1.
        std: per-channel RGB standard deviation, likewise.
        interpolation: Pillow's filter for the scaling.
        gray: the image becomes gray (ITU-R 601 luma, as Pillow's mode L) before it is scaled; its three channels are
            equal.

    Raises:
        ValueError: a value is out of range.
    """

    size: tuple[int, int] = (224, 224)
    resize: int | None = 256
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: Interpolation = "bilinear"
    gray: bool = False

    def __post_init__(self) -> None:
        for name, values, count in (("size", self.size, 2), ("mean", self.mean, 3), ("std", self.std, 3)):
            if len(values) != count:
                raise ValueError(f"preprocessing: {name} {values} must be {count} numbers")
        if min(self.size) < 1 or math.prod(self.size) > MAX_PIXELS:
            raise ValueError(f"preprocessing: size {self.size} must be positive and at most {MAX_PIXELS} pixels")
        if self.resize is not None and not max(self.size) <= self.resize <= MAX_PIXELS:
            raise ValueError(f"preprocessing: resize {self.resize} does not cover the crop {self.size}")
        if not all(map(math.isfinite, (*self.mean, *self.std))):
            raise ValueError(f"preprocessing: mean {self.mean} and std {self.std} must be finite")
        if min(self.std) <= 0:
            raise ValueError(f"preprocessing: std {self.std} must be positive")

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Scale and centre-crop one image.

        Returns:
            uint8 [height, width, 3], RGB.

        Raises:
            CorruptFileError: its palette or transparency does not fit its pixels.
            UnsupportedError: the image has more than 8 bits a channel, or is so elongated that its scaled form
                would exceed :data:`MAX_PIXELS`.
        """
        image = _to_rgb(image)
        if self.gray:
            image = image.convert("L")
        return np.asarray(self._scaled(image).convert("RGB"))

    def _scaled(self, image: Image.Image) -> Image.Image:
        resample = Image.Resampling[self.interpolation.upper()]
        height, width = self.size
        if self.resize is None:
            return _resized(image, (width, height), resample)
        short = min(image.size)
        if short != self.resize:
            scaled = (image.width * self.resize // short, image.height * self.resize // short)
            image = _resized(image, scaled, resample)
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        return image.crop((left, top, left + width, top + height))

    def normalize(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, H, W, 3] -> float32 [N, 3, H, W], as the float network was trained."""
        every = np.arange(256, dtype=np.float32) / 255
        x = np.empty((len(images), 3, *images.shape[1:3]), np.float32)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            x[:, channel] = ((every - np.float32(mean)) / np.float32(std))[images[..., channel]]
        return x

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; ``channel_order`` is present, as ``"gray"``, only if the image becomes gray."""
        values = asdict(self)
        return values | {"channel_order": "gray"} if values.pop("gray") else values

    @classmethod
    def from_json(cls, data: object) -> Preprocessing:
        """Read what :meth:`to_json` wrote.

        Raises:
            CorruptFileError: a field is missing, unknown, of the wrong type or out of range.
        """
        names = [field.name for field in fields(cls) if field.name != "gray"]
        if not isinstance(data, dict) or sorted(data.keys() - {"channel_order"}) != sorted(names):
            found = sorted(map(str, data)) if isinstance(data, dict) else type(data).__name__
            raise CorruptFileError(f"preprocessing record is not valid: its fields must be {names}, found {found}")
        try:
            if data["interpolation"] not in get_args(Interpolation):
                raise ValueError(f"interpolation {data['interpolation']!r} is none of {get_args(Interpolation)}")
            if data.get("channel_order", "gray") != "gray":
                raise ValueError(f"channel_order {data['channel_order']!r} is not 'gray'")
            return cls(
                size=(_integer(data["size"][0]), _integer(data["size"][1])),
                resize=None if data["resize"] is None else _integer(data["resize"]),
                mean=_triple(data["mean"]),
                std=_triple(data["std"]),
                interpolation=data["interpolation"],
                gray="channel_order" in data,
            )
        except (TypeError, ValueError, LookupError, OverflowError) as error:
            raise CorruptFileError(f"preprocessing record is not valid: {error}") from error


def _resized(image: Image.Image, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    """An image of (width, height) pixels, scaled along the rows and then along the columns by any version of Pillow."""
    width, height = size
    if width * max(height, image.height) > MAX_PIXELS:
        raise UnsupportedError(f"{image.width}x{image.height} pixels are too elongated to scale; crop the image")
    return image.resize((width, image.height), resample).resize(size, resample)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # convert() would clip these at 255, not scale them
        raise UnsupportedError(f"pixels of mode {image.mode} have more than 8 bits a channel; convert the image to RGB")
    try:
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        return image.convert("RGB")
    except Exception as error:  # a palette or transparency that does not fit the pixels; Pillow documents no set
        raise CorruptFileError(f"damaged image, its colours cannot be read: {error}; replace or remove it") from error


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not an integer")
    return value


def _triple(values: object) -> tuple[float, float, float]:
    if not isinstance(values, list | tuple):
        raise TypeError(f"{values!r} is not a list of three numbers")
    red, green, blue = map(float, values)
    return red, green, blue


IMAGENET = Preprocessing()
DIGITS = Preprocessing(size=(96, 96), resize=None, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
PRESETS = {"imagenet": IMAGENET, "digits": DIGITS}
