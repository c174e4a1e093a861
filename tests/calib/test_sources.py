"""Every kind of images becomes a data set."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from squeezeedge.calib.datasets import Dataset
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.calib.sources import ImageSource, image_stream, open_images
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UnsupportedError, UsageError
from tests.calib.images import png, write_folder, write_tar

AS_IT_IS = Preprocessing(size=(8, 8), resize=None)
GREY = np.full((8, 8, 3), 7, np.uint8)


def pixels(images: ImageSource) -> list[int]:
    """The grey value of each image."""
    dataset = open_images(images)
    loaded = dataset.load(AS_IT_IS, np.arange(len(dataset)))
    assert loaded.shape == (len(dataset), 8, 8, 3) and (loaded == loaded[:, :1, :1, :1]).all()
    return [int(value) for value in loaded[:, 0, 0, 0]]


def test_paths(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", {"a/1.png": png(1), "b/2.png": png(2)})
    archive = write_tar(tmp_path / "data.tar", {"a/1.png": png(1), "b/2.png": png(2)})
    np.savez(tmp_path / "data.npz", images=np.stack([GREY, GREY + 1]))
    assert pixels(folder) == pixels(str(folder)) == pixels(archive) == [1, 2]
    assert pixels(tmp_path / "data.npz") == [7, 8]
    assert pixels(folder / "a" / "1.png") == pixels(str(folder / "a" / "1.png")) == [1]
    assert pixels([folder / "b" / "2.png", str(folder / "a" / "1.png")]) == [2, 1]
    assert len(open_images("digits")) == 400


def test_pixels_and_pil_images() -> None:
    large = np.full((20, 30, 3), 9, np.uint8)
    assert pixels(GREY) == [7] and pixels(np.stack([GREY, GREY])) == [7, 7]
    assert pixels([GREY, large]) == [7, 9], "each of its own size"
    assert pixels(Image.fromarray(GREY)) == [7]
    assert pixels((Image.new("L", (5, 9), 3), Image.fromarray(large), GREY)) == [3, 9, 7]
    assert pixels(Image.new("L", (4, 4), value) for value in (1, 2)) == [1, 2]
    assert pixels({1: GREY}.values()) == [7]


def test_a_data_set_stays_what_it_is() -> None:
    dataset = Dataset("mine", np.stack([GREY]), np.array([0]))
    assert open_images(dataset) is dataset


def test_a_stream_is_read_as_it_is_asked_for() -> None:
    taken = []

    def camera() -> Iterator[NDArray[np.uint8]]:
        for value in range(3):
            taken.append(value)
            yield GREY

    stream = image_stream(camera())
    assert taken == []
    next(stream)
    assert taken == [0]
    assert len(list(image_stream([GREY, GREY]))) == 2


@pytest.mark.parametrize(
    ("images", "error", "reason"),
    [
        ("no.png", UsageError, "no.png: no such image file"),
        ("nowhere", UsageError, "nowhere: no such file or folder"),
        (["no.jpg"], UsageError, "no.jpg: no such image file"),
        (np.zeros((2, 8, 8, 3)), UsageError, r"images are float64 \[2, 8, 8, 3\]; they must be uint8"),
        (np.zeros((2, 8, 8, 1), np.uint8), UsageError, "they must be uint8"),
        (np.zeros((2, 0, 8, 3), np.uint8), UsageError, "they must be uint8"),
        ([np.zeros((8, 8), np.uint8)], UsageError, r"image 0 is uint8 \[8, 8\]; it must be"),
        ([GREY, 3], UsageError, "image 1 is a int; it must be a path, a PIL image or a uint8 array"),
        (5, UsageError, "images are a int"),
        (np.zeros((0, 8, 8, 3), np.uint8), SqueezeEdgeError, "no image was given"),
        ([], SqueezeEdgeError, "no image was given"),
    ],
)
def test_what_is_refused(images: ImageSource, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        open_images(images)


def test_damaged_images(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(png(1, (64, 64))[:-40])
    with pytest.raises(CorruptFileError, match=r"cut\.png"):
        pixels(path)
    with Image.open(path) as opened, pytest.raises(CorruptFileError, match="damaged or truncated"):
        pixels(opened)
    with pytest.raises(UnsupportedError, match="more than 8 bits"):
        pixels(Image.new("I", (8, 8)))
