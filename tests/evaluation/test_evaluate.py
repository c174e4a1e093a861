"""Devices that answer right and wrong, beside fp32 and the oracle; what cannot be evaluated."""

import os
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.artifact import Artifact, compile
from squeezeedge.calib.fingerprint import fingerprints
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.calib.unreadable import Unreadable
from squeezeedge.errors import CorruptFileError, UsageError
from squeezeedge.evaluation.evaluate import check_threads, evaluate, run_devices
from squeezeedge.evaluation.metrics import paired_interval
from squeezeedge.evaluation.reports import DeviceReport
from squeezeedge.graph import IMAGE, Head, IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.model import Model
from squeezeedge.targets.protocol import Kind, RunResult
from tests.graphs import random_graph, random_images

SIZE = 8


@pytest.fixture
def graph() -> IntegerGraph:
    rng = np.random.default_rng(0)
    head = Head(
        name="head",
        input=IMAGE,
        weight=rng.integers(-127, 128, (6, 3, 3, 3)).astype(np.int8),
        bias=rng.integers(-500, 500, 6).astype(np.int32),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        pad_value=np.zeros(3, np.uint8),
        relu=True,
        scale=np.full(6, 0.01, np.float32),
    )
    return IntegerGraph("tiny", (head,), Preprocessing(size=(SIZE, SIZE), resize=None))


class FakeDevice:
    """FAKE: the oracle, with one sum of each batch changed.

    Attributes:
        name: of the device.
        kind: simulator.
    """

    name = "test"
    kind: Kind = "simulator"

    def __init__(self, graph: IntegerGraph, offset: int = 0) -> None:
        self._graph, self._offset = graph, offset

    def run(self, images: NDArray[np.uint8]) -> RunResult:
        sums = run(self._graph, images)
        sums[0, sums[0].argmax()] += self._offset
        return RunResult(sums, {"latency_ms": np.full(len(images), 2.0)}, {"cycles": 7, "device_ms": 1.5})


def test_devices_are_compared_with_each_other(graph: IntegerGraph) -> None:
    """By their answers to the same images: the second one is wrong on the first image of each batch."""
    images = np.random.default_rng(1).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
    truth = graph.logits(run(graph, images)).argmax(1)
    devices = [FakeDevice(graph), FakeDevice(graph, -(2**30)), FakeDevice(graph)]
    for device, name in zip(devices, ("a", "b", "c"), strict=True):
        device.name = name
    (a, b, c), _ = run_devices(graph, devices, [1, 1, 1], [images[:3], images[3:]], truth, None)
    assert a.others == {} and list(b.others) == ["a"] and list(c.others) == ["a", "b"]
    assert (b.others["a"].agreement, b.others["a"].changed, b.others["a"].top1_difference) == (60, 2, -40)
    assert b.others["a"].top1_difference_interval == paired_interval(0, 2, 5)
    assert c.others["a"].agreement == 100 and c.others["b"].top1_difference == 40


def test_threads_are_those_that_were_asked_for(small_artifact: Artifact) -> None:
    for count in (1, 2):
        (report,) = evaluate(small_artifact, small_artifact.golden, "cpu", threads=count).devices
        assert report.metrics["threads"] == min(count, len(os.sched_getaffinity(0))) and report.bit_exact
    check_threads(["cpu", "vta-sim"], 2)
    with pytest.raises(UsageError, match="`threads`: vta-sim has no choice of threads"):
        check_threads(["vta-sim"], 2)


def _reports(graph: IntegerGraph, offset: int) -> list[DeviceReport]:
    images = np.random.default_rng(1).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
    truth = graph.logits(run(graph, images))
    done: list[int] = []
    reports, answers = run_devices(
        graph,
        [FakeDevice(graph, offset)],
        [123],
        [images[:3], images[3:]],
        truth.argmax(1),
        lambda batch: graph.logits(run(graph, batch)),
        done.append,
    )
    assert done == [3, 2] and answers.fp32 is not None and answers.labels is not None
    assert answers.places.tolist() == [0, 1, 2, 3, 4] and answers.labels.tolist() == truth.argmax(1).tolist()
    assert answers.fp32.classes.tolist() == truth.argmax(1).tolist() and answers.latency_ms[0].tolist() == [2.0] * 5
    (own,) = answers.devices
    assert reports[0].changed == int((own.classes != answers.fp32.classes).sum())
    return reports


def test_an_exact_device(graph: IntegerGraph) -> None:
    (report,) = _reports(graph, 0)
    assert report.bit_exact and report.differing_sums == 0
    assert report.top1 == report.fp32_top1 == report.agreement == 100.0
    assert report.images == 5
    values = report.to_json()
    assert (
        values["cycles"] == 7
        and values["device_ms"] == 1.5
        and values["kind"] == "simulator"
        and values["model_bytes"] == 123
    )
    assert values["latency_ms"] == {"p50": 2.0, "p90": 2.0, "min": 2.0} and values["images_per_s"] == 500.0


def test_one_wrong_sum_a_batch_is_counted(graph: IntegerGraph) -> None:
    (report,) = _reports(graph, 1)
    assert not report.bit_exact and report.differing_sums == 2


def test_a_wrong_device_is_compared_with_fp32(graph: IntegerGraph) -> None:
    (report,) = _reports(graph, -(10**8))
    assert report.fp32_top1 == 100.0 and report.top1 is not None and report.top1 < 100
    assert report.agreement == report.top1 and report.logits_sqnr_db is not None and report.logits_sqnr_db < 0


def test_images_quantized_on_are_left_out(graph: IntegerGraph) -> None:
    images = np.random.default_rng(1).integers(0, 256, (7, SIZE, SIZE, 3), dtype=np.uint8)
    labels = graph.logits(run(graph, images)).argmax(1)
    labels[[0, 3, 4]] = 99  # their answers would be wrong
    done: list[int] = []
    decoded = iter([images[:3], images[3:5], images[5:]])  # one batch has no other images
    arguments = (graph, [FakeDevice(graph)], [1], decoded, labels, lambda batch: graph.logits(run(graph, batch)))
    without = frozenset(fingerprints(images[[0, 3, 4]]))
    (report,), answers = run_devices(*arguments, done.append, without)
    assert answers.places.tolist() == [1, 2, 5, 6]
    assert (report.images, report.left_out, report.top1, report.fp32_top1) == (4, 3, 100.0, 100.0)
    assert done == [3, 2, 2] and report.to_json()["left_out"] == 3
    with pytest.raises(UsageError, match=r"was quantized on all 2 images, none is left .* \(`data`\)"):
        run_devices(graph, [FakeDevice(graph)], [1], [images[3:4], images[4:5]], None, None, without=without)


def test_images_that_cannot_be_read_shift_no_label(graph: IntegerGraph) -> None:
    images = np.random.default_rng(1).integers(0, 256, (7, SIZE, SIZE, 3), dtype=np.uint8)
    labels = graph.logits(run(graph, images)).argmax(1)
    labels[[0, 2, 5]] = 99
    unreadable = Unreadable("data", 7)

    def batches() -> Iterator[NDArray[np.uint8]]:
        unreadable(2, CorruptFileError("bad"))
        yield images[[0, 1, 3]]
        unreadable(5, CorruptFileError("bad"))
        yield images[[4, 6]]

    without = frozenset(fingerprints(images[:1]))
    (report,), answers = run_devices(
        graph, [FakeDevice(graph)], [1], batches(), labels, None, without=without, unreadable=unreadable
    )
    assert (report.images, report.left_out, report.unreadable, report.top1) == (4, 1, 2, 100.0)
    assert answers.places.tolist() == [1, 3, 4, 6] and answers.fp32 is None


def test_what_is_not_known_is_none(graph: IntegerGraph) -> None:
    images = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    (report,), answers = run_devices(graph, [FakeDevice(graph)], [1], [images], None, None)
    assert answers.labels is None and answers.fp32 is None
    assert report.bit_exact and report.images == 2
    unknown = (report.top1, report.top5, report.fp32_top1, report.fp32_top5, report.agreement, report.logits_sqnr_db)
    assert unknown == (None,) * 6


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return compile(random_graph(3), "vta", tmp_path_factory.mktemp("evaluate") / "net")


@pytest.mark.slow
def test_devices_in_the_order_asked_for(artifact: Artifact, tmp_path: Path) -> None:
    graph = artifact.graph
    images = random_images(graph, 3, 0)
    done: list[int] = []
    cpu = compile(graph, "cpu", tmp_path / "cpu", isa="generic")
    report = evaluate([artifact, cpu], images, ["cpu", "vta-sim"], on_progress=done.append)
    assert [(device.device, device.kind) for device in report.devices] == [
        ("cpu", "hardware"),
        ("vta-sim", "simulator"),
    ]
    assert all(device.bit_exact and device.images == 3 for device in report.devices) and sum(done) == 3
    assert [device.model_bytes for device in report.devices] == [cpu.model_bytes, artifact.model_bytes]


def test_what_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    graph = artifact.graph
    images = random_images(graph, 2, 0)
    other = compile(random_graph(4), "vta", tmp_path / "other")
    with pytest.raises(UsageError, match="holds another integer graph than"):
        evaluate([artifact, other], images)
    with pytest.raises(
        UsageError, match="net: compiled for vta, which `device` cpu does not run; choose among: vta, vta-sim"
    ):
        evaluate(artifact, images, "cpu")
    with pytest.raises(UsageError, match="images to evaluate on are needed"):
        evaluate(artifact, device="vta-sim")
    with pytest.raises(UsageError, match="the reference is an integer graph"):
        evaluate(artifact, images, "vta-sim", reference=Model.of_graph(graph))
    model = replace(
        Model.of_graph(graph), classes=graph.classes + 1, float_logits=lambda _: np.zeros((1, 1), np.float32)
    )
    with pytest.raises(UsageError, match="give the network that it was made of"):
        evaluate(artifact, images, "vta-sim", reference=model)
    with pytest.raises(UsageError, match="no device was given"):
        evaluate(artifact, images, [])
    with pytest.raises(UsageError, match="no artifact was given"):
        evaluate([], images)
    with pytest.raises(UsageError, match="vta-sim does not run on another machine"):
        evaluate(artifact, images, "vta-sim", board="me@there")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images(graph: IntegerGraph) -> None:
    """A thousand classes, so that what is kept of an image would be seen."""
    wide = replace(
        graph.head,
        weight=np.tile(graph.head.weight, (167, 1, 1, 1)),
        bias=np.tile(graph.head.bias, 167),
        scale=np.tile(graph.head.scale, 167),
    )
    many = replace(graph, nodes=(wide,))
    batch = np.random.default_rng(1).integers(0, 256, (50, SIZE, SIZE, 3), dtype=np.uint8)

    def peak(batches: int) -> int:
        tracemalloc.start()
        given = (batch for _ in range(batches))
        run_devices(many, [FakeDevice(many)], [1], given, None, lambda images: many.logits(run(many, images)))
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    of_an_image = 8 + 4 * many.classes  # less than the latency and one array of class sums
    few = max(peak(2) for _ in range(10))  # the threads of the oracle and of fp32 do not always meet at their largest
    assert peak(20) - few < 18 * len(batch) * of_an_image / 4
