"""Expected agreement: errors of some images on the logits of all."""

from __future__ import annotations

import numpy as np
import pytest

from squeezeedge.compression import judge as module
from squeezeedge.compression.judge import Judge, graph_logits
from squeezeedge.graph.oracle import run
from tests.graphs import random_graph, random_images

GRAPH = random_graph(3)
KNOWN = np.array([[3.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 3.0]], np.float32)


def test_errors_are_tried_on_every_image(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = Judge(np.zeros((1, 8, 8, 3), np.uint8), KNOWN[:1], KNOWN, np.array([0, 0, 1, 1]))
    monkeypatch.setattr(module, "graph_logits", lambda *_: np.array([[1.0, 0.0]], np.float32))  # 2 less for class 0
    point = judged.point(GRAPH, 5, 30.0)
    assert (point.agreement, point.top1, point.top1_drop, point.bytes) == (75.0, 75.0, 25.0, 5)
    monkeypatch.setattr(module, "graph_logits", lambda *_: KNOWN[:1])
    same = judged.point(GRAPH, 5, None)
    assert (same.agreement, same.drop, same.sqnr_db) == (100.0, 0.0, None)


def test_logits_are_those_of_the_oracle() -> None:
    images = random_images(GRAPH, 3, 0)
    assert np.array_equal(graph_logits(GRAPH, images), GRAPH.logits(run(GRAPH, images)))
