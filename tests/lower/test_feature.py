"""Features are known without what computes: the targets' declarations name them."""

from __future__ import annotations

import subprocess
import sys

from squeezeedge.lower.feature import Feature
from squeezeedge.lower.legalize import legalize
from tests.graphs import random_graph


def test_declaring_features_loads_nothing_heavy() -> None:
    code = "import sys, squeezeedge.lower.feature; print('numpy' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_every_feature_can_be_rewritten() -> None:
    graph = random_graph(3, blocks=3, groups=True)
    for feature in Feature:
        legal = legalize(graph, frozenset(Feature) - {feature})
        assert legal.classes == graph.classes
