"""Networks are quantized on images of every kind, and saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from squeezeedge.calib.selection import calibration_images
from squeezeedge.calib.sources import ImageSource
from squeezeedge.errors import CorruptFileError, UsageError
from squeezeedge.graph import IMAGE
from squeezeedge.loading import load
from squeezeedge.model import GOLDEN_IMAGES, Model, quantize
from squeezeedge.networks.registry import DEFAULT
from tests.calib.images import write_folder, write_tar
from tests.graphs import random_graph
from tests.quantization.networks import PREPROCESSING, FloatNet, natural_images
from tests.test_loading import onnx_file

GRAPH = random_graph(3)


def small_network() -> Model:
    """Two convolutions, of which only the graph is known."""
    net = FloatNet(0)
    floating = net.classifier(net.relu(net.conv(IMAGE, 4, 3, stride=2)))
    return Model("net", PREPROCESSING, (), 7, {"network": "net"}, floating=floating)


def test_a_float_network_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="net: only an integer graph can be saved; save what quantize returned"):
        small_network().save(tmp_path / "net.sqe")
    assert not list(tmp_path.iterdir())


def test_a_model_is_quantized_beside_its_float_network(digits_network: Model, digits_model: Model) -> None:
    graph = digits_model.integer
    assert graph is not None and digits_model.floating is digits_network.floating
    assert (graph.name, graph.labels, graph.classes) == (DEFAULT, digits_network.labels, 10)
    assert digits_model.calibration is not None and digits_model.golden is not None
    pixels = digits_model.calibration.load(digits_network.preprocessing)
    assert (digits_model.golden == pixels[:GOLDEN_IMAGES]).all()
    assert digits_network.integer is None, "the model that was given stays as it is"


def test_every_kind_of_images_is_the_same(
    digits_network: Model, digits_pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    """What is calibrated on are equal pixels, so one kind is quantized below."""
    count = len(digits_pixels)
    files = [tmp_path / f"{number}.png" for number in range(count)]
    for path, pixels in zip(files, digits_pixels, strict=True):
        Image.fromarray(pixels).save(path)
    members = {path.name: path.read_bytes() for path in files}
    np.savez(tmp_path / "images.npz", images=digits_pixels)
    kinds: dict[str, Callable[[], ImageSource]] = {
        "paths": lambda: files,
        "texts": lambda: map(str, files),
        "folder": lambda: write_folder(tmp_path / "folder", members),
        "archive": lambda: write_tar(tmp_path / "images.tar", members),
        "array file": lambda: tmp_path / "images.npz",
        "pixels": lambda: list(digits_pixels),
        "PIL": lambda: (Image.fromarray(pixels) for pixels in digits_pixels),
    }
    expected = calibration_images(digits_pixels).load(digits_network.preprocessing)
    for name, make in kinds.items():
        selection = calibration_images(make(), count=count)
        assert (selection.load(digits_network.preprocessing) == expected).all(), name


@pytest.mark.slow
def test_images_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    """The result is that of the others; with ``strict`` such an image is an error."""
    pixels = natural_images(6, PREPROCESSING.size)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    (tmp_path / "3a.png").write_bytes(b"no image")
    quantized = quantize(small_network(), tmp_path, count=9)
    expected = quantize(small_network(), pixels, count=9)
    assert quantized.integer is not None and expected.integer is not None and quantized.calibration is not None
    assert quantized.integer.digest() == expected.integer.digest() and len(quantized.calibration) == 6
    assert "3a.png: not an image" in quantized.remarks[0] and quantized.remarks[1:] == expected.remarks
    with pytest.raises(CorruptFileError, match=r"3a\.png: not an image"):
        quantize(small_network(), tmp_path, count=9, strict=True)


def test_the_result_depends_on_images_and_seed_only() -> None:
    network, images = small_network(), natural_images(12, PREPROCESSING.size)
    first = quantize(network, images, count=6)
    same = quantize(network, images, count=6)
    assert first.integer is not None and same.integer is not None
    assert first.integer.digest() == same.integer.digest()
    chosen = calibration_images(images, count=6)
    given = quantize(network, [Image.fromarray(images[index]) for index in chosen.indices])
    assert given.integer is not None and given.integer.digest() == first.integer.digest()
    other = quantize(network, images, count=6, seed=1)
    assert other.integer is not None and other.integer.digest() != first.integer.digest()


def test_progress_is_told() -> None:
    decoded: list[int] = []
    layers: list[tuple[str, int, int]] = []
    quantize(
        small_network(),
        natural_images(5, PREPROCESSING.size),
        on_decode=decoded.append,
        on_layer=lambda *layer: layers.append(layer),
    )
    assert sum(decoded) == 5
    assert [(index, total) for _, index, total in layers] == [(0, 2), (1, 2)]


def test_what_people_should_know_is_told(tmp_path: Path) -> None:
    images = natural_images(12, (10, 10))
    network = load(onnx_file(tmp_path / "net.onnx"))
    assert quantize(network, images).remarks == ()
    (remark,) = quantize(network, images[:3]).remarks
    assert "the calibration images (3) show 3 different scenes" in remark


def test_what_quantize_refuses(tmp_path: Path) -> None:
    network = small_network()
    with pytest.raises(UsageError, match="is an integer graph already"):
        quantize(Model.of_graph(GRAPH), "digits")
    with pytest.raises(UsageError, match="net: quantization needs calibration images; give some"):
        quantize(network)
    with pytest.raises(UsageError, match="no such file or folder"):
        quantize(network, tmp_path / "nowhere")
    with pytest.raises(UsageError, match="`count` is 0"):
        quantize(network, natural_images(2, PREPROCESSING.size), count=0)
    with pytest.raises(UsageError, match="`seed` is -1"):
        quantize(network, natural_images(2, PREPROCESSING.size), seed=-1)
