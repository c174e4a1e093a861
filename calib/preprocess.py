"""Preprocessing as data: how an image file becomes the network's uint8 input, and how fp32 normalizes it.

It is stored with every model (design rule R2): the device gets the uint8 image; ``mean`` and ``std`` are
folded into the first convolution, so only ``resize``/``crop`` are left to do on the host.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from squeezeedge.errors import CorruptFileError

__all__ = ["DIGITS", "IMAGENET", "PRESETS", "Preprocessing"]


@dataclass(frozen=True)
class Preprocessing:
    """Image -> uint8 HWC crop -> (fp32 only) (x / 255 - mean) / std.

    Attributes:
        size: (height, width) of the network's input in pixels.
        resize: length in pixels to which the image's shorter side is scaled before the centre crop;
            ``None`` scales the whole image to ``size`` (aspect ratio not kept).
        mean: per-channel RGB mean in 0..1.
        std: per-channel RGB standard deviation in 0..1.
        interpolation: Pillow's filter for the scaling.
    """

    size: tuple[int, int] = (224, 224)
    resize: int | None = 256
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"

    def __post_init__(self) -> None:
        if min(self.size) < 1 or (self.resize is not None and self.resize < max(self.size)):
            raise ValueError(f"preprocessing: resize {self.resize} does not cover the crop {self.size}")
        if min(self.std) <= 0:
            raise ValueError(f"preprocessing: std {self.std} must be positive")

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Scale and centre-crop one image.

        Returns:
            uint8 [height, width, 3], RGB.
        """
        resample = Image.Resampling[self.interpolation.upper()]
        rgb = image.convert("RGB")
        height, width = self.size
        if self.resize is None:
            return np.asarray(rgb.resize((width, height), resample))
        short = min(rgb.size)
        if short != self.resize:
            scaled = tuple(max(self.resize, round(side * self.resize / short)) for side in rgb.size)
            rgb = rgb.resize((scaled[0], scaled[1]), resample)
        left, top = (rgb.width - width) // 2, (rgb.height - height) // 2
        return np.asarray(rgb.crop((left, top, left + width, top + height)))

    def normalize(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, H, W, 3] -> float32 [N, 3, H, W], as the float network was trained."""
        x = (images.astype(np.float32) / 255 - np.float32(self.mean)) / np.float32(self.std)
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Preprocessing:
        """Read what :meth:`to_json` wrote.

        Raises:
            CorruptFileError: a field is missing, unknown or of the wrong type.
        """
        try:
            fields = dict(data)  # type: ignore[call-overload]
            for key in ("size", "mean", "std"):
                fields[key] = tuple(fields[key])
            if len(fields["size"]) != 2 or len(fields["mean"]) != 3 or len(fields["std"]) != 3:
                raise ValueError("wrong number of values")
            if fields["interpolation"] not in ("nearest", "bilinear", "bicubic"):
                raise ValueError(f"interpolation {fields['interpolation']!r}")
            return cls(**fields)
        except (TypeError, ValueError, KeyError) as error:
            raise CorruptFileError(f"preprocessing record is not valid: {error}") from error


IMAGENET = Preprocessing()
DIGITS = Preprocessing(
    size=(96, 96), resize=None, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bilinear"
)
PRESETS = {"imagenet": IMAGENET, "digits": DIGITS}
