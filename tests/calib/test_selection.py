"""What is calibrated on is not evaluated on."""

from pathlib import Path

import numpy as np
import pytest

from squeezeedge.calib.preprocess import DIGITS
from squeezeedge.cli.pipeline import DataOptions, Images, calibration_images, evaluation_images
from squeezeedge.cli.source import Source
from squeezeedge.errors import UsageError
from tests.calib.images import png, write_folder

SOURCE = Source("net", DIGITS, (), 2, None, None, None, {})


def chosen(options: DataOptions) -> tuple[set[str], set[str]]:
    """Names of the images to calibrate on and of those to evaluate on."""
    calibration = calibration_images(SOURCE, options)
    return names(calibration), names(evaluation_images(SOURCE, options, calibration))


def names(images: Images) -> set[str]:
    assert not isinstance(images.dataset.images, np.ndarray)
    return {images.dataset.images[i].path.rpartition("data/")[2] for i in images.indices}


def folder(root: Path, *parts: str, count: int = 3) -> str:
    files = {f"{part}{kind}/{i}.png": png(i) for part in parts for kind in ("cat", "dog") for i in range(count)}
    return str(write_folder(root / "data", files))


def test_images_without_parts_are_divided(tmp_path: Path) -> None:
    calibration, evaluation = chosen(DataOptions(folder(tmp_path, ""), calib_images=4))
    assert len(calibration) == 4 and len(evaluation) == 2 and not calibration & evaluation


def test_images_in_parts(tmp_path: Path) -> None:
    calibration, evaluation = chosen(DataOptions(folder(tmp_path, "train/", "val/"), calib_images=4))
    assert len(calibration) == 4 and all(name.startswith("train/") for name in calibration)
    assert len(evaluation) == 6 and all(name.startswith("val/") for name in evaluation)


@pytest.mark.parametrize("part", ["train/", "test/"])
def test_a_single_part_is_divided(tmp_path: Path, part: str) -> None:
    calibration, evaluation = chosen(DataOptions(folder(tmp_path, part), calib_images=4))
    assert len(calibration) == 4 and len(evaluation) == 2 and not calibration & evaluation


def test_images_named_to_calibrate_on_are_evaluated_if_asked_for(tmp_path: Path) -> None:
    data = folder(tmp_path, "")
    calibration, evaluation = chosen(DataOptions(data, calib=data, calib_images=4))
    assert len(calibration) == 4 and len(evaluation) == 6


def test_none_is_left(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has 6 images and --calib-images is 64: none is left"):
        chosen(DataOptions(folder(tmp_path, "")))
