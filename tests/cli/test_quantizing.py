"""The data options: which images are calibrated on and which evaluated on, and what is said about quantizing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.calib.selection import Selection
from squeezeedge.cli.quantizing import DataOptions, EffortOptions
from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.graph import IMAGE
from squeezeedge.model import GOLDEN_IMAGES, Model
from squeezeedge.networks.registry import DEFAULT
from squeezeedge.quantization.effort import EFFORTS
from tests.calib.images import png, write_folder
from tests.graphs import random_graph
from tests.quantization.networks import PREPROCESSING, FloatNet
from tests.test_loading import two_networks

MODEL = Model.of_graph(random_graph(3))
EMBEDDED = replace(MODEL, name=DEFAULT, classes=10)
SIZE = PREPROCESSING.size


def archive(path: Path, first: int, count: int, labels: int | None = None) -> str:
    """Grey images with the values first, first + 1, ..., of a class each if there are any."""
    values = np.arange(first, first + count, dtype=np.uint8)
    images: NDArray[np.uint8] = np.broadcast_to(values[:, None, None, None], (count, *SIZE, 3))
    if labels is None:
        np.savez(path, images=images)
    else:
        np.savez(path, images=images, labels=np.arange(count) % labels)
    return str(path)


def greys(selection: Selection) -> list[int]:
    return sorted(int(image.flat[0]) for image in selection.images() if isinstance(image, np.ndarray))


@pytest.fixture
def data(tmp_path: Path) -> str:
    return archive(tmp_path / "data.npz", 0, 10)


@pytest.fixture
def calib(tmp_path: Path) -> str:
    return archive(tmp_path / "calib.npz", 100, 5)


def test_calibration_images_are_of_calib_then_of_data_then_of_the_embedded_set(data: str, calib: str) -> None:
    assert greys(DataOptions(data, calib).calibration(EMBEDDED)) == [100, 101, 102, 103, 104]
    assert greys(DataOptions(data).calibration(EMBEDDED)) == list(range(10))
    embedded = DataOptions().calibration(EMBEDDED)
    assert embedded.dataset.name == "digits" and len(embedded) == 64
    with pytest.raises(UsageError, match=r"quantization needs calibration images; give --calib \(or --data\)"):
        DataOptions().calibration(MODEL)


def test_their_number_and_seed(data: str) -> None:
    first, second, other = (
        greys(DataOptions(data, calib_images=4, seed=seed).calibration(MODEL)) for seed in (0, 0, 1)
    )
    assert len(first) == 4 and first == second != other


def test_images_to_evaluate_on_are_of_data_then_of_the_embedded_set(data: str, calib: str) -> None:
    assert greys(DataOptions(data, calib).evaluation(MODEL)) == list(range(10))
    assert DataOptions(calib=calib).evaluation(EMBEDDED).dataset.name == "digits"
    assert len(DataOptions(data, limit=3).evaluation(MODEL)) == 3
    with pytest.raises(UsageError, match="evaluation needs images; give --data"):
        DataOptions(calib=calib).evaluation(MODEL)


def test_what_is_calibrated_on_is_not_evaluated_on_unless_it_is_asked_for(data: str, calib: str) -> None:
    given = DataOptions(data, calib_images=4)
    calibration = given.calibration(MODEL)
    rest = greys(given.evaluation(MODEL, calibration))
    assert sorted(rest + greys(calibration)) == list(range(10))
    named = DataOptions(data, calib=data, calib_images=4)
    assert greys(named.evaluation(MODEL, named.calibration(MODEL))) == list(range(10))
    with pytest.raises(UsageError, match="all its 10 images are calibrated on, none is left"):
        DataOptions(data).evaluation(MODEL, DataOptions(data).calibration(MODEL))


def test_labels_that_are_no_classes_of_the_network(tmp_path: Path) -> None:
    data = archive(tmp_path / "labels.npz", 0, MODEL.classes + 1, labels=MODEL.classes + 1)
    with pytest.raises(SqueezeEdgeError, match=f"1 labels are outside the network's classes 0..{MODEL.classes - 1}"):
        DataOptions(data).evaluation(MODEL)


def test_classes_are_those_of_the_list(data: str, tmp_path: Path) -> None:
    names = [f"n{i}" for i in range(MODEL.classes)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    given = DataOptions(data, classes=tmp_path / "names.txt")
    assert given.evaluation(MODEL).dataset.classes == given.calibration(MODEL).dataset.classes == tuple(names)


def test_an_integer_graph_stays_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert DataOptions().quantized(MODEL) is MODEL
    assert capsys.readouterr() == ("", "")


def test_a_float_network_is_quantized_with_a_note(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    net = FloatNet(0)
    floating = net.classifier(net.relu(net.conv(IMAGE, 4, 3, stride=2)))
    model = Model("net", PREPROCESSING, (), 7, {"network": "net"}, floating=floating)
    made = DataOptions(data, calib_images=6).quantized(model)
    assert made.integer is not None and made.floating is floating
    assert made.calibration is not None and len(made.calibration) == 6
    assert made.golden is not None and len(made.golden) == GOLDEN_IMAGES
    output = capsys.readouterr()
    first, *warnings = output.err.splitlines()
    assert output.out == "" and first == f"quantizing net on 6 images of {data}"
    assert warnings == [f"warning: {remark}" for remark in made.remarks] and "are blank" in warnings[0]


def test_what_the_options_of_effort_say() -> None:
    assert EffortOptions().chosen() is EFFORTS["fast"]
    assert EffortOptions("best").chosen() is EFFORTS["best"]
    assert EffortOptions("best", "2.5%").chosen().extra_macs == 0.025
    assert EffortOptions(extra_macs="3").chosen().extra_macs == 0.03
    for given, reason in (("much", "must be a percentage, as 5%"), ("nan%", "from 0 to 1"), ("101%", "from 0 to 1")):
        with pytest.raises(UsageError, match=f"`extra_macs`.*{reason}"):
            EffortOptions(extra_macs=given).chosen()


def test_the_network_of_a_checkpoint_is_tried_on_the_calibration_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And said; what says itself which network it is needs no images."""
    data = archive(tmp_path / "labels.npz", 0, 6, labels=1)
    chosen = DataOptions(data).settled(two_networks())
    assert chosen.name == "one"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("w.pth: right of 6 labelled images: one 6") and line.endswith(
        "one is taken, with an input of 23x27 (`network` and `size` say otherwise)"
    )
    assert DataOptions().settled(chosen) is chosen
    assert capsys.readouterr().err.splitlines() == [line], "what is known without images is said, too"


def test_images_that_cannot_be_read_are_told_once_where_they_have_chosen_the_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {f"{number % 3}/{number}.png": png(number) for number in range(14)}
    root = write_folder(tmp_path / "data", files | {"2/2.png": b"bad"})
    given = DataOptions(str(root), calib_images=14)
    net = FloatNet(0)
    settled = replace(given.settled(two_networks()), floating=net.classifier(net.relu(net.conv(IMAGE, 4, 3, stride=2))))
    made = given.quantized(settled)
    assert made.calibration is not None and len(made.calibration) == 13
    told = capsys.readouterr().err
    assert "right of 13 labelled images" in told and told.count("2/2.png: not an image") == 1
