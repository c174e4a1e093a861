"""What a device says to images, with the oracle in the place of hardware."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from squeezeedge.calib.selection import calibration_images
from squeezeedge.calib.sources import ImageSource
from squeezeedge.device import Answer, Device, RankedClass
from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.graph.oracle import execute, run
from squeezeedge.targets.protocol import RunResult
from squeezeedge.targets.session import Session
from tests.graphs import random_graph, random_images

COUNT = 5


def scaled(graph: IntegerGraph, scale: float) -> IntegerGraph:
    """The graph with one scale for all classes."""
    return replace(
        graph, nodes=(*graph.nodes[:-1], replace(graph.head, scale=np.full(graph.classes, scale, np.float32)))
    )


IMAGES = random_images(random_graph(3), COUNT, 1)
GRAPH = scaled(random_graph(3), 5 / float(np.abs(run(random_graph(3), IMAGES)).max()))
NAMES = tuple(f"class {index}" for index in range(GRAPH.classes))
LOGITS = GRAPH.logits(run(GRAPH, IMAGES))


class FakeSession(Session):
    """FAKE: the oracle, or sums or tensors that are given."""

    def __init__(
        self,
        graph: IntegerGraph,
        sums: NDArray[np.int32] | None = None,
        tensors: Sequence[tuple[str, NDArray[Any]]] | None = None,
    ) -> None:
        self.device, self.kind = "fake", "emulation"
        self._graph, self._sums, self._tensors = graph, sums, tensors

    def trace(self, image: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[Any]]]:
        return iter(execute(self._graph, image) if self._tensors is None else self._tensors)

    def run(self, images: NDArray[np.uint8]) -> RunResult:
        sums = run(self._graph, images) if self._sums is None else self._sums
        return RunResult(sums, {"latency_ms": np.full(len(images), 2.5)}, {"threads": 3})


@pytest.fixture
def device() -> Device:
    graph = replace(GRAPH, labels=NAMES)
    return Device(FakeSession(graph), graph)


def answers_to(device: Device, images: ImageSource, top: int = 5) -> list[Answer]:
    return list(device.classify(images, top))


def test_it_says_what_it_is(device: Device) -> None:
    assert (device.name, device.kind) == ("fake", "emulation")


def test_preprocessed_images_run_as_they_are(device: Device) -> None:
    result = device.run(IMAGES)
    assert (result.sums == run(GRAPH, IMAGES)).all() and result.metrics == {"threads": 3}
    assert device.run(IMAGES[:0]).sums.shape == (0, GRAPH.classes)


def test_tensors_are_those_of_the_graph(device: Device) -> None:
    found, expected = dict(device.trace(IMAGES[0])), dict(execute(GRAPH, IMAGES[0]))
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    for image in (IMAGES, IMAGES[0, 1:], IMAGES[0].astype(np.int8)):
        with pytest.raises(UsageError, match=r"the image is .*; it must be uint8"):
            list(device.trace(image))


def test_tensors_that_the_graph_does_not_have() -> None:
    name, head = GRAPH.nodes[0].name, GRAPH.head.name
    right = dict(execute(GRAPH, IMAGES[0]))
    wrong: list[tuple[str, NDArray[Any]]] = [
        ("other", right[name]),
        (IMAGE, IMAGES[0]),
        (name, right[name][1:]),
        (name, right[name].view(np.int8)),
        (head, right[head].astype(np.int64)),
    ]
    for tensors in (*([one] for one in wrong), [(name, right[name])] * 2):
        with pytest.raises(SqueezeEdgeError, match=r"fake: it shows .* once more or not as the integer graph has it"):
            list(Device(FakeSession(GRAPH, tensors=tensors), GRAPH).trace(IMAGES[0]))


@pytest.mark.parametrize("images", [IMAGES[0], IMAGES[:, 1:], IMAGES[..., :1], IMAGES.astype(np.float32)])
def test_other_arrays_are_refused(device: Device, images: NDArray[np.uint8]) -> None:
    needed = r"the network takes uint8 \[N, {}, {}, {}\]".format(*GRAPH.input_shape)
    with pytest.raises(UsageError, match=rf"images are {images.dtype} \[.*\]; {needed}"):
        device.run(images)


def test_classes_are_ranked_by_their_logits(device: Device) -> None:
    answers = answers_to(device, IMAGES, top=2)
    for answer, row in zip(answers, LOGITS.astype(np.float64), strict=True):
        best = np.argsort(-row, kind="stable")[:2].tolist()
        scores = np.exp(row) / np.exp(row).sum()
        assert [ranked.index for ranked in answer.top] == best
        assert [ranked.label for ranked in answer.top] == [NAMES[index] for index in best]
        assert [ranked.logit for ranked in answer.top] == row[best].tolist()
        assert [ranked.score for ranked in answer.top] == pytest.approx(scores[best].tolist())
        first = RankedClass(answer.label, answer.index, answer.score, answer.logit)
        assert first == answer.top[0] and answer.latency_ms == 2.5


def test_more_classes_than_there_are_are_all_of_them(device: Device) -> None:
    (answer,) = answers_to(device, IMAGES[0], top=GRAPH.classes + 10)
    assert sorted(ranked.index for ranked in answer.top) == list(range(GRAPH.classes))
    assert sum(ranked.score for ranked in answer.top) == pytest.approx(1)


def test_equal_classes_rank_by_index_and_large_logits_have_scores() -> None:
    graph = scaled(GRAPH, 1.0)
    sums = np.zeros((1, GRAPH.classes), np.int32)
    sums[0, 1:3] = 2**30
    (answer,) = answers_to(Device(FakeSession(graph, sums), graph), IMAGES[0], top=3)
    assert [(ranked.index, ranked.score) for ranked in answer.top] == [(1, 0.5), (2, 0.5), (0, 0.0)]


def test_a_class_without_a_name_is_its_index() -> None:
    assert not GRAPH.labels
    (answer,) = answers_to(Device(FakeSession(GRAPH), GRAPH), IMAGES[0])
    assert answer.label == str(answer.index) == str(LOGITS[0].argmax())


@pytest.mark.slow
def test_every_kind_of_images_gets_the_same_answers(device: Device, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(COUNT)]
    for path, pixels in zip(files, IMAGES, strict=True):
        Image.fromarray(pixels).save(path)
    expected = answers_to(device, IMAGES)
    assert [answer.image for answer in expected] == list(range(COUNT))
    unnamed: list[ImageSource] = [list(IMAGES), (Image.fromarray(pixels) for pixels in IMAGES)]
    for images in unnamed:
        assert answers_to(device, images) == expected
    assert list(device.classify(calibration_images(IMAGES))) == expected, "a selection"
    named: list[ImageSource] = [files, map(str, files), tmp_path]
    for images in named:
        answers = answers_to(device, images)
        assert [answer.image for answer in answers] == list(map(str, files)), "a file is called by its path"
        assert [answer.top for answer in answers] == [answer.top for answer in expected]


def test_a_camera_is_answered_as_it_goes(device: Device) -> None:
    taken: list[int] = []

    def camera() -> Iterator[NDArray[np.uint8]]:
        for number, pixels in enumerate(IMAGES):
            taken.append(number)
            yield pixels

    answers = device.classify(camera())
    assert taken == []
    next(answers)
    assert taken == [0]
    next(answers)
    assert taken == [0, 1]
    assert [answer.image for answer in answers] == [2, 3, 4]


def test_what_is_refused(device: Device, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`top` is 0 \\(int\\); it must be a whole number of 1 or more"):
        device.classify(IMAGES, top=0)  # at once, before an answer is asked for
    with pytest.raises(UsageError, match="no such image file"):
        answers_to(device, "no.jpg")
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG")
    answers = device.classify([IMAGES[0], tmp_path / "damaged.png"])
    assert next(answers).image == 0, "what comes before it is answered"
    with pytest.raises(SqueezeEdgeError, match=r"damaged\.png"):
        next(answers)


def test_an_image_that_cannot_be_read_is_passed_over_where_somebody_is_told(device: Device, tmp_path: Path) -> None:
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG")
    lost: list[tuple[int, str]] = []
    images = [IMAGES[0], tmp_path / "damaged.png", IMAGES[1]]
    answers = device.classify(images, on_unreadable=lambda place, error: lost.append((place, str(error))))
    assert [answer.image for answer in answers] == [0, 2]
    assert [place for place, _ in lost] == [1] and "damaged.png" in lost[0][1]
