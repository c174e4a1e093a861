"""What a target runs by its own kernels agrees with what legalization leaves and makes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from squeezeedge.graph import IntegerGraph
from squeezeedge.lower import legalize as module
from squeezeedge.lower.feature import Feature
from squeezeedge.lower.legalize import legalize
from squeezeedge.lower.support import NATIVE, Convolution, Support, support_of
from tests.graphs import integer_graphs

DENSE = Convolution("dense", 8, 8, 1, 64)
GROUPED = Convolution("grouped", 8, 2, 4, 16)
DEPTHWISE = Convolution("depthwise", 8, 1, 8, 72)
ONE_EACH = Convolution("two outputs of one input", 16, 1, 8, 16)
ALL = (DENSE, GROUPED, DEPTHWISE, ONE_EACH)


@pytest.mark.parametrize(
    ("supported", "native"),
    [
        ((), ["dense"]),
        ((Feature.DEPTHWISE,), ["dense", "depthwise"]),
        ((Feature.GROUPS,), ["dense", "grouped", "two outputs of one input"]),
        (tuple(Feature), [conv.name for conv in ALL]),
    ],
)
def test_what_is_native(supported: tuple[Feature, ...], native: list[str]) -> None:
    found = support_of(ALL, supported)
    assert [name for name, support in found.items() if support == NATIVE] == native
    for conv in ALL:
        if conv.name not in native:
            assert found[conv.name] == Support("legalized", "dense convolution", conv.groups)


def test_what_would_be_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It alone: a later one that still fits is rewritten."""
    monkeypatch.setattr(module, "MAX_DENSE_BYTES", 600)
    large = DEPTHWISE._replace(name="large")
    small = DEPTHWISE._replace(name="small", weights=1)
    found = support_of((DEPTHWISE, large, small), ())
    assert [support.how for support in found.values()] == ["legalized", "refused", "legalized"]
    assert found["large"].why.startswith("large: its 8 groups become a dense convolution here")


@given(integer_graphs(max_channels=12, max_size=8))
@settings(max_examples=10, deadline=None)
def test_it_agrees_with_legalization(graph: IntegerGraph) -> None:
    convolutions = [
        Convolution(conv.name, len(conv.weight), conv.weight.shape[3], conv.groups, conv.weight.size)
        for conv in graph.convolutions
    ]
    for supported in ((), (Feature.DEPTHWISE,), (Feature.GROUPS,)):
        legal = {conv.name: conv for conv in legalize(graph, supported).convolutions}
        for conv in graph.convolutions:
            found = support_of(convolutions, supported)[conv.name]
            assert (found == NATIVE) == (legal[conv.name] is conv)
            assert legal[conv.name].weight.size == conv.weight.size * found.factor
