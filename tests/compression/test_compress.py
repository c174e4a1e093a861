"""Whole networks: goals that are met, and those that are not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezeedge.calib.selection import calibration_images
from squeezeedge.compression import compress as module
from squeezeedge.compression.compress import Compression, compress
from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.graph.sqe import read_sqe
from squeezeedge.model import Model, quantize
from tests.graphs import random_graph
from tests.quantization.networks import PREPROCESSING, FloatNet, natural_images

IMAGES = natural_images(8, PREPROCESSING.size)


@pytest.fixture(scope="module")
def network() -> Model:
    net = FloatNet(1)
    x = net.pool(net.relu(net.conv("image", 8, 3, 2)))
    floating = net.classifier(net.fire(x, 8, 12))
    return Model("net", PREPROCESSING, (), 7, {"network": "net"}, floating=floating)


@pytest.fixture(scope="module")
def whole(network: Model) -> int:
    return module.file_bytes(quantize(network, IMAGES))


@pytest.fixture(scope="module")
def made(network: Model, whole: int) -> tuple[Compression, list[str], int]:
    phases: list[str] = []
    target = whole - 400
    return compress(network, IMAGES, target_size=target, on_phase=phases.append), phases, target


@pytest.mark.slow
def test_a_size_is_met(network: Model, made: tuple[Compression, list[str], int], whole: int, tmp_path: Path) -> None:
    compression, phases, target = made
    file = tmp_path / "net.sqe"
    compression.model.save(file)
    assert file.stat().st_size == compression.result.bytes <= target
    graph = read_sqe(file)
    assert compression.model.integer is not None and graph.digest() == compression.model.integer.digest()
    assert compression.uncompressed.bytes == whole and compression.uncompressed.drop == 0
    assert [point.bytes for point in compression.curve] == sorted(point.bytes for point in compression.curve)
    compressed = [point for point in compression.curve if point.quality is not None]
    assert compressed and all(point.sqnr_db is not None for point in compressed)  # each judges its own graph
    assert len(compression.model.calibrated_on) == 8 and compression.model.golden is not None
    assert phases[0] == "quantizing without compression, on 8 images" and "on all 8 images" in phases[-1]
    again = compress(network, IMAGES, target_size=target)
    assert again.to_json() == compression.to_json() and again.model.integer is not None
    assert again.model.integer.digest() == graph.digest()


@pytest.mark.slow
def test_fine_tuning_keeps_the_size(network: Model, whole: int) -> None:
    images = np.concatenate([IMAGES, natural_images(16, PREPROCESSING.size, seed=5)])
    compression = compress(network, images, target_size=whole - 600, count=8, epochs=1)
    tuned = compression.finetuning
    assert tuned is not None and (tuned.learned, tuned.judged) == (8 + 12, 4)
    assert module.file_bytes(compression.model) == compression.result.bytes <= whole - 600
    assert compression.result.bytes == (tuned.after if tuned.kept else tuned.before).bytes


@pytest.mark.slow
def test_a_drop_is_met(network: Model, whole: int) -> None:
    compression = compress(network, IMAGES, max_drop=20)
    assert compression.result.drop <= 20 and compression.result.bytes < whole


@pytest.mark.slow
def test_a_size_that_is_met_without_compression(network: Model, whole: int) -> None:
    compression = compress(network, IMAGES, target_size=whole)
    quantized = quantize(network, IMAGES).integer
    assert compression.model.integer is not None and quantized is not None
    assert compression.model.integer.digest() == quantized.digest()
    assert compression.result == compression.uncompressed


@pytest.mark.slow
def test_a_size_that_cannot_be_met_says_what_was_reached(network: Model) -> None:
    with pytest.raises(SqueezeEdgeError, match=r"`target_size`: 100 bytes cannot be met; the smallest file .* has \d"):
        compress(network, IMAGES, target_size=100)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "give either `target_size` or `max_drop`"),
        ({"target_size": 1, "max_drop": 1.0}, "give either"),
        ({"target_size": 0}, "`target_size` is 0 (int); it must be a whole number of 1 or more"),
        ({"target_size": 1.5}, "`target_size` is 1.5 (float)"),
        ({"max_drop": float("nan")}, "`max_drop` is nan; it must be 0 to 100 points"),
        ({"max_drop": -1}, "0 to 100 points"),
        ({"max_drop": "1"}, "0 to 100 points"),
        ({"max_drop": 1, "count": 1}, "`count` is 1 (int); it must be a whole number of 2 or more"),
        ({"max_drop": 1, "epochs": -1}, "`epochs` is -1"),
        ({"max_drop": 1, "epochs": 1}, "has 0 images beside the 8 to calibrate on, and fine-tuning needs at least 12"),
        ({"max_drop": 1, "images": IMAGES[:1]}, "cannot both calibrate and judge"),
    ],
)
def test_bad_arguments(network: Model, given: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=re.escape(reason)):
        compress(network, **({"images": IMAGES} | given))


def test_an_integer_graph_has_no_float_weights() -> None:
    with pytest.raises(UsageError, match="give the file that it was made of in its place"):
        compress(Model.of_graph(random_graph(3)), IMAGES, max_drop=1)
    origin = {"network": "squeezenet1_1_digits", "weights": "squeezenet1_1_digits.safetensors", "sha256": "0"}
    with pytest.raises(UsageError, match=r"small\.sqe: is an .* give squeezenet1_1_digits, the embedded network"):
        module.check_float(Model.of_graph(random_graph(3), origin), "small.sqe")


def test_labels_of_other_classes_are_not_judged_by(network: Model, tmp_path: Path) -> None:
    file = tmp_path / "images.npz"
    np.savez(file, images=IMAGES, labels=np.arange(8) + 50)
    images = calibration_images(str(file))
    assert module._labels(network, images) is None
    np.savez(file, images=IMAGES, labels=np.arange(8) % 7)
    labels = module._labels(network, calibration_images(str(file)))
    assert labels is not None and labels.tolist() == (np.arange(8) % 7).tolist()
