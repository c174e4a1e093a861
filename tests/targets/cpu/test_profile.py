"""A profile of the processor: every kernel of an artifact, and the peak of its instruction set and threads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from squeezeedge.artifact import Artifact
from squeezeedge.graph.oracle import run
from squeezeedge.targets.cpu import TARGET, CpuOptions, profile
from squeezeedge.targets.cpu.device import THREADS_VARIABLE
from squeezeedge.targets.protocol import Profiler
from tests.targets.devices import seal


def test_kernels_and_peak(digits_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak is measured with the artifact's instruction set on one thread, and told of all threads."""
    measured: list[object] = []

    def rate(target: object, options: CpuOptions, *_: object) -> float:
        measured.append((target, options))
        return 2e6

    monkeypatch.setattr(profile, "measured_rate", rate)
    monkeypatch.setenv(THREADS_VARIABLE, "2")
    image, graph = digits_artifact.golden[0], digits_artifact.graph
    found = TARGET.profile(digits_artifact.path, image, 3)
    assert isinstance(TARGET, Profiler) and measured == [(TARGET, CpuOptions(isa="generic"))]
    np.testing.assert_array_equal(found.sums, run(graph, image[None])[0])
    assert found.macs == graph.macs and found.layers[-1].name == graph.head.name
    assert found.time == pytest.approx(sum(layer.time for layer in found.layers)) and found.facts["threads"] == 2
    assert found.peak is not None and found.peak.rate == 4e6
    assert "the kernels for generic" in found.peak.meaning and "2.0 billion on one thread" in found.peak.meaning
    assert [event["name"] for event in found.timeline["traceEvents"][1:]] == [layer.name for layer in found.layers]


@pytest.mark.parametrize(
    "entry",
    [
        ("options", "mcpu", 5, "the manifest's mcpu is damaged"),
    ],
)
def test_what_is_no_processor(
    digits_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: tuple[str, str, object, str]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(digits_artifact.path, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    section, key, value, said = entry
    manifest[section][key] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))
    seal(folder)
    monkeypatch.setattr(profile, "measured_rate", lambda *_: 1.0)
    found = TARGET.profile(folder, digits_artifact.golden[0], 1)
    assert found.peak is None and said in found.notes[-1]
