"""Every target's run.py stands alone, so it has its own copy of the preprocessing: it must cut the same pixels."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from squeezeedge.calib.preprocess import DIGITS, Preprocessing
from squeezeedge.targets.registry import all_targets

SIZES = [(96, 96), (97, 130), (131, 96), (333, 250), (255, 64), (65, 257)]
PREPROCESSINGS = [
    DIGITS,
    Preprocessing(size=(64, 64), resize=64),
    Preprocessing(size=(48, 61), resize=65, interpolation="bicubic"),
    Preprocessing(size=(31, 40), resize=None, interpolation="nearest"),
]


@pytest.fixture(params=sorted(all_targets()))
def script(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(f"squeezeedge.targets.{request.param}.run")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_pixels(script: ModuleType, tmp_path: Path, size: tuple[int, int], mode: str) -> None:
    pixels = np.random.default_rng(sum(size)).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).convert(mode).save(path)
    for preprocessing in PREPROCESSINGS:
        with Image.open(path) as image:
            expected = preprocessing(image)
        np.testing.assert_array_equal(script.read_images(path, preprocessing.to_json())[0], expected)


def test_deep_pixels_are_refused(script: ModuleType, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((96, 96), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="more than 8 bits"):
        script.read_images(tmp_path / "deep.png", DIGITS.to_json())
