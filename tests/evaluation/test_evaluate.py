"""Reports and gates, with devices that answer right and wrong."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import GateError
from squeezeedge.evaluation.evaluate import run_devices
from squeezeedge.evaluation.gates import Gates
from squeezeedge.evaluation.reports import DeviceReport, Report
from squeezeedge.graph import IMAGE, Head, IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.targets.protocol import Kind, RunResult

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


def _reports(graph: IntegerGraph, offset: int) -> list[DeviceReport]:
    images = np.random.default_rng(1).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
    truth = graph.logits(run(graph, images))
    done: list[int] = []
    reports = run_devices(
        graph,
        [FakeDevice(graph, offset)],
        [123],
        [images[:3], images[3:]],
        truth.argmax(1),
        lambda batch: graph.logits(run(graph, batch)),
        done.append,
    )
    assert done == [3, 2]
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
    Gates(0.0, 100.0, True).check([report])


def test_one_wrong_sum_a_batch_is_counted_and_gated(graph: IntegerGraph) -> None:
    (report,) = _reports(graph, 1)
    assert not report.bit_exact and report.differing_sums == 2
    with pytest.raises(GateError, match="test: 2 class sums differ"):
        Gates(require_bit_exact=True).check([report])


def test_a_report_reads_as_a_table(graph: IntegerGraph) -> None:
    (exact,), (wrong,) = _reports(graph, 0), _reports(graph, -(10**8))
    report = Report("some", (exact, replace(wrong, device="other")))
    lines = str(report).splitlines()
    assert lines[0] == "tiny, 5 images of some" and lines[1].split()[:3] == ["device", "kind", "top-1"]
    assert [line.split()[0] for line in lines[2:5]] == ["fp32", "test", "other"]
    assert "yes" in lines[3] and "no: 2" in lines[4]
    assert wrong.top1 is not None
    assert lines[5].startswith("other - test") and f"{wrong.top1 - 100:+.2f}" in lines[5]
    assert [values["device"] for values in report.to_json()] == ["test", "other"]


def test_accuracy_gates(graph: IntegerGraph) -> None:
    (report,) = _reports(graph, -(10**8))
    assert report.agreement is not None and report.agreement < 100
    with pytest.raises(GateError, match="agreement"):
        Gates(min_agreement=100).check([report])
    with pytest.raises(GateError, match="points below fp32"):
        Gates(max_drop=0.1).check([report])


def test_gates_that_cannot_be_judged_fail(graph: IntegerGraph) -> None:
    images = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    (report,) = run_devices(graph, [FakeDevice(graph)], [1], [images], None, None)
    assert report.top1 is None and report.agreement is None
    with pytest.raises(GateError, match="unknown"):
        Gates(max_drop=1.0).check([report])
    with pytest.raises(GateError, match="unknown"):
        Gates(min_agreement=1.0).check([report])
