"""What is found of the embedded network: evaluation, noise, profile, and what is not known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from squeezeedge.artifact import Artifact
from squeezeedge.errors import UnavailableError
from squeezeedge.evaluation.page import findings as module
from squeezeedge.evaluation.page.findings import Findings, find
from squeezeedge.evaluation.profiling import profile_json
from tests.evaluation.test_profile_plot import PROFILE


def test_json(findings: Findings) -> None:
    values = json.loads(json.dumps(findings.to_json()))
    assert values["model"] == findings.graph.name and [one["device"] for one in values["devices"]] == ["cpu", "vta-sim"]
    assert values["noise"]["kind"] == "fp32" and values["profiles"] == [profile_json(PROFILE, findings.graph.name)]
    assert values["unknown"] == ["Nothing is known of <x>."] and values["remarks"] == ["remark <u>"]


@pytest.mark.slow
def test_of_the_embedded_network(digits_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(artifact: Artifact) -> None:
        raise UnavailableError(f"{artifact.path}: no clock")

    monkeypatch.setattr(module, "profile", refused)
    told: list[tuple[str, int, int]] = []
    found = find(digits_artifact, limit=10, on_progress=lambda *progress: told.append(progress))
    (device,) = found.evaluation.devices
    assert device.images == 10 and device.bit_exact and found.artifacts == (digits_artifact,)
    answers, dataset = found.evaluation.answers, found.evaluation.dataset
    assert answers is not None and dataset is not None and dataset.labels is not None and answers.labels is not None
    assert np.array_equal(dataset.labels[answers.places], answers.labels)
    assert device.top1 == 100 * np.mean(answers.devices[0].classes == answers.labels)
    assert found.noise is not None and found.noise.images == 8
    assert [layer.name for layer in found.noise.layers] == [node.name for node in found.graph.nodes]
    assert found.parameters is not None and found.parameters > 500_000
    assert found.unknown == ("Where the time of cpu goes is not known: no clock.",), "without a machine's path"
    assert ("images", 10, 0) in told and ("layers", 8, 8) in told
