"""Profiles by clocks between kernels: medians, the typical run, the peak or why there is none, damaged manifests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError, UnavailableError
from squeezeedge.targets import kernel_times
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.kernel_times import WARM_UP, KernelLayer, profile_kernels
from squeezeedge.targets.protocol import Peak, RunResult
from tests.targets.device.artifact import FakeArtifact
from tests.targets.device.target import TARGET

CLOCK = np.array([[0, 1, 4, 9], [0, 2, 3, 5], [0, 3, 9, 12]], np.float64)
"""The second kernel takes 3, 1, 6 ms; the first run takes the median time."""
LAYERS = [{"name": name, "macs": macs, "bytes": 10} for name, macs in (("image", 0), ("a", 600), ("b", 400))]


@dataclass
class Clocked:
    """A session whose device has that clock."""

    asked: list[int]

    def kernel_times(self, image: NDArray[np.uint8], runs: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        self.asked.append(runs)
        return np.array([7, 8], np.int32), CLOCK

    def run(self, images: NDArray[np.uint8]) -> RunResult:
        return RunResult(np.zeros((len(images), 2), np.int32), {"latency_ms": np.array([8.0, 7, 9])}, {"threads": 2})


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Clocked:
    made = Clocked([])

    @contextmanager
    def opened(*_: object, **__: object) -> Iterator[Clocked]:
        yield made

    monkeypatch.setattr(kernel_times, "open_session", opened)
    return made


def artifact(folder: Path, **compiled: Any) -> tuple[Path, NDArray[np.uint8]]:  # noqa: ANN401
    made = FakeArtifact(folder / "artifact")
    made.manifest["compiled"] = compiled
    made.seal()
    return made.folder, made.images[0]


def test_medians_and_the_typical_run(tmp_path: Path, session: Clocked) -> None:
    folder, image = artifact(tmp_path, layers=LAYERS)
    told: list[object] = []

    def peak(given: Artifact, about: object) -> Peak:
        told.append((given.folder, about))
        return Peak(500, "made up")

    found = profile_kernels(folder, TARGET, "fake", image, 3, peak)
    assert session.asked == [WARM_UP, 3] and told == [(folder, {"threads": 2})]
    assert [(layer.name, layer.macs, layer.time, layer.bytes) for layer in found.layers] == [
        ("image", 0, 2.0, 10),
        ("a", 600, 3.0, 10),
        ("b", 400, 3.0, 10),
    ]
    assert found.time == 8 == sum(layer.time for layer in found.layers) and found.macs == 1000
    assert [layer.figures for layer in found.layers] == [{"fastest": 1}, {"fastest": 1}, {"fastest": 2}]
    assert [found.utilization(layer) for layer in found.layers] == [0, 600 / 1500, 400 / 1500]
    assert found.utilization() == 1000 / 4000 and found.share(found.layers[1]) == 3 / 8
    assert (found.unit, found.milliseconds, found.kind, found.runs) == ("ms", 8, "hardware", 3)
    assert found.sums.tolist() == [7, 8] and found.facts == {"threads": 2, "latency_ms": 8.0}
    bars = [event for event in found.timeline["traceEvents"] if event["ph"] == "X"]
    assert [(bar["name"], bar["ts"], bar["dur"]) for bar in bars] == [
        ("image", 0, 1000),
        ("a", 1000, 3000),
        ("b", 4000, 5000),
    ]
    assert found.notes == ["a run without clocks between the kernels: 8.000 ms"]


@pytest.mark.usefixtures("session")
def test_without_a_peak(tmp_path: Path) -> None:
    def peak(*_: object) -> Peak:
        raise UnavailableError("no compiler: install one")

    found = profile_kernels(*artifact(tmp_path, layers=LAYERS)[:1], TARGET, "fake", np.zeros(0, np.uint8), 3, peak)
    assert found.peak is None and found.utilization() is None and found.utilization(found.layers[1]) is None
    assert found.notes[-1] == "the peak was not measured: no compiler: install one"


@pytest.mark.parametrize(
    "compiled",
    [
        {},
        {"layers": 3},
        {"layers": LAYERS[1:]},
        {"layers": [*LAYERS[1:], {"name": "c"}]},
        {"layers": [*LAYERS[1:], {"name": "c", "macs": -1, "bytes": 0}]},
        {"layers": [*LAYERS[1:], {"name": 3, "macs": 1, "bytes": 0}]},
    ],
)
@pytest.mark.usefixtures("session")
def test_a_manifest_of_other_kernels(tmp_path: Path, compiled: dict[str, Any]) -> None:
    with pytest.raises(CorruptFileError, match="the manifest does not say what the kernels make"):
        KernelLayer.all_of(tmp_path, compiled, 3)
