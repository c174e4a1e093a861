"""Findings that are made up: two devices, classes with hostile names, images of which some get another class."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezeedge.artifact import Artifact
from squeezeedge.calib.datasets import Dataset
from squeezeedge.evaluation.answers import Answers, Ranked
from squeezeedge.evaluation.comparison import FloatComparison, FloatLayer
from squeezeedge.evaluation.page.findings import Findings
from squeezeedge.evaluation.reports import Report
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.rules import Shape
from tests.evaluation.sample import REPORT
from tests.evaluation.test_profile_plot import PROFILE
from tests.graphs import GraphBuilder

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnp.exe",
    "&amp;</style><svg onload=alert(3)>",
    "half \udce9",
    "w" * 300,
    "javascript:alert(4)",
    "' onmouseover='alert(5)",
    "<!-- <![CDATA[",
)
COUNT = 40


def _graph() -> IntegerGraph:
    builder = GraphBuilder(np.random.default_rng(0), (12, 12))
    graph = builder.finish(builder.conv("image", 16, (3, 3), stride=(2, 2), name="first"), len(HOSTILE))
    return replace(graph, name='net<b>&"', labels=HOSTILE)


def _artifact(target: str, options: dict[str, object]) -> Artifact:
    files = {name: {"bytes": size, "sha256": "ab" * 32} for name, size in (("model.sqe", 1000), ("net<i>.so", 2500))}
    source = {"network": "net", "weights": "/secret/place/net.pth", "sha256": "cd" * 32}
    manifest = {"target": target, "files": files, "source": source, "options": options, "versions": {"numpy": "1.2.3"}}
    return Artifact(Path(f"net-{target}"), manifest)


@pytest.fixture
def findings() -> Findings:
    """Of 40 images: the first three get another class than fp32's; the second device is wrong on one more."""
    rng, graph = np.random.default_rng(0), _graph()
    labels = np.arange(COUNT) % len(HOSTILE)
    fp32 = labels.copy()
    fp32[[2, 9]] = [5, 1]  # wrong
    first = fp32.copy()
    first[[0, 1, 2]] = [7, 4, 2]  # two become wrong, one becomes right
    second = first.copy()
    second[30] = 9
    sides = [Ranked(classes, rng.uniform(0.5, 1, COUNT).astype(np.float32)) for classes in (fp32, first, second)]
    latency = rng.gamma(3, 1, COUNT)
    answers = Answers(np.arange(COUNT), labels, sides[0], tuple(sides[1:]), (latency, np.full(COUNT, 2.25)))
    images = rng.integers(0, 256, (COUNT, 12, 12, 3), np.uint8)
    size: dict[str, Any] = {"images": COUNT, "classes": len(HOSTILE)}
    devices = (
        replace(REPORT, **size, changed=3),
        replace(
            REPORT,
            **size,
            device="vta-sim",
            kind="simulator",
            changed=4,
            bit_exact=False,
            differing_sums=17,
            largest_difference=123,
            reclassified=1,
        ),
    )
    dataset = Dataset("data <b>", images, labels, HOSTILE)
    evaluation = Report("data <b>", devices, ("remark <u>",), None, dataset, answers)
    layers = (
        FloatLayer("first", Shape(5, 5, 16), 400, 33.5, 0.25, 4),
        FloatLayer("head", Shape(1, 1, 10), 10, math.inf),
    )
    noise = FloatComparison(graph.name, "oracle", "fp32", 8, 1, (), layers)
    artifacts = (_artifact("cpu", {"isa": "avx2"}), _artifact("vta", {"clock": 100}))
    return Findings(graph, artifacts, evaluation, 2500, noise, (PROFILE,), ("Nothing is known of <x>.",), "user@board")
