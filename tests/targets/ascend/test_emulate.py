"""The emulation: its arithmetic, and that exact rounding makes it equal to the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from squeezeedge.graph import IntegerGraph, rules
from squeezeedge.graph.oracle import execute, run
from squeezeedge.lower.legalize import legalize
from squeezeedge.targets.ascend import TARGET
from squeezeedge.targets.ascend.deploy import GRID, deploy_model, sum_scale
from squeezeedge.targets.ascend.emulate import EmulatedNetwork, Emulator, differing_values, quantize
from squeezeedge.targets.device.run import Artifact
from tests.graphs import TOPOLOGIES, integer_graphs, largest_shift_graph, random_images, squeezenet_graph
from tests.targets.ascend.conftest import Make

NAMES = ["squeezenet1_1", *(pytest.param(n, marks=pytest.mark.slow) for n in TOPOLOGIES[:-1] if n != "squeezenet1_1")]


def error(graph: IntegerGraph, emulator: Emulator, images: NDArray[np.uint8]) -> float:
    """Largest difference of class sums, as a share of the largest."""
    expected = run(graph, images).astype(np.float64)
    means = emulator.run(images).astype(np.float64).reshape(len(images), 2, -1).sum(1)
    return float(np.abs(means * sum_scale(graph) - expected).max() / max(1, np.abs(expected).max()))


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(integer_graphs(max_size=16), st.integers(0, 999))
def test_exact_rounding_gives_the_oracle_s_values(graph: IntegerGraph, seed: int) -> None:
    dense = legalize(graph, TARGET.supports)
    images, emulator = random_images(graph, 2, seed), Emulator(deploy_model(dense, "exact"))
    assert set(differing_values(graph, emulator, images).values()) <= {0.0}
    assert error(graph, emulator, images) < 2**-10


@pytest.mark.parametrize("name", NAMES)
def test_whole_networks(name: str) -> None:
    graph = squeezenet_graph(name, 48, 10)
    images = random_images(graph, 1, 0)
    exact, fused = (Emulator(deploy_model(graph, rounding)) for rounding in ("exact", "fused"))
    assert set(differing_values(graph, exact, images).values()) == {0.0}
    assert error(graph, exact, images) < 2**-10
    shares = differing_values(graph, fused, images)
    assert shares.keys() == {node.name for node in graph.nodes[:-1]}
    assert max(shares.values()) > 1, "values are rounded twice"


@pytest.mark.parametrize("shift", range(16))
def test_every_accumulator_is_rounded_as_the_graph_does(shift: int) -> None:
    """R3 in the arithmetic of fp16 alone: all accumulators around the range of q, all ties, and far outside."""
    step = max(1, 2**shift >> 6)
    around = np.arange(-(2 << shift), 260 << shift, step, dtype=np.int64)
    ties = (np.arange(-3, 300) << shift)[:, None] + ((1 << shift) >> 1) + np.arange(-2, 3)
    acc = np.concatenate([around, ties.ravel(), [-(2**31) + (1 << 25), 2**31 - 1 - (1 << 25)]])
    expected = ((acc + ((1 << shift) >> 1)) >> shift).clip(0, 255)
    moved = acc + (GRID << shift) + (1 if shift == 1 else (1 << shift) >> 2)
    with np.errstate(over="ignore"):
        half = (moved * 2.0**-shift).astype(np.float16)
        value = np.maximum((half - np.float16(GRID)) - np.float16(0.25), np.float16(0))
    result = quantize(torch.from_numpy(value), 1.0, -128.0).numpy().astype(np.int64) + 128
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("limit", [8, 15, 18, 20])
def test_any_limit_of_shifts_gives_the_oracle_s_values(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_SHIFT", limit)
    for seed in range(4):
        graph = largest_shift_graph(seed)
        images, emulator = random_images(graph, 2, seed), Emulator(deploy_model(graph, "exact"))
        assert set(differing_values(graph, emulator, images).values()) == {0.0}
        assert error(graph, emulator, images) < 2**-10


def test_quantization_rounds_in_float16_and_to_even() -> None:
    values = [0.5, 1.5, 2.5, 0.52, 127.4, 254.49, 255.6, 1e4, float("inf"), -3.0, -float("inf")]
    result = quantize(torch.tensor(values), 1.0, -128.0).numpy().astype(int) + 128
    # 0.52 - 128 is -127.48, which fp16 makes the tie -127.5
    assert result.tolist() == [0, 2, 2, 0, 127, 254, 255, 255, 255, 0, 0]
    assert quantize(torch.tensor([3.0, 5.0]), 0.5, 0.0).tolist() == [2, 2]


def test_narrow_convolutions_run_in_float16_if_nothing_is_done() -> None:
    """Their input is neither rounded nor clipped, so fire2's expand layers differ more than those behind."""
    graph = squeezenet_graph("squeezenet1_1", 48, 10)
    model = deploy_model(graph, "fused")
    images = random_images(graph, 1, 1)
    tensors = dict(Emulator(model).tensors(images))
    squeezed = tensors["fire2.squeeze"].float()
    assert (squeezed != squeezed.round()).any() and squeezed.max() > 255
    weight = next(node for node in graph.nodes if node.name == "fire2.expand1x1")
    scale = np.exp2(-weight.shift.astype(np.float64))  # type: ignore[union-attr]
    half = (weight.bias * scale).astype(np.float16).astype(np.float64)  # type: ignore[union-attr]
    products = np.einsum("ihw,oi->ohw", squeezed[0].double().numpy(), weight.weight[:, 0, 0].astype(np.float64))  # type: ignore[union-attr]
    expected = (products * scale[:, None, None] + half[:, None, None]).astype(np.float16)
    np.testing.assert_array_equal(tensors["fire2.expand1x1.float"][0].numpy(), expected)


def test_a_float32_dequantization_is_not_rounded() -> None:
    graph = squeezenet_graph("squeezenet1_1", 48, 10)
    model = deploy_model(graph, "fused")
    for node in model.graph.node:
        if node.op_type == "AscendDequant":
            node.attribute[0].i = 0
    images = random_images(graph, 1, 1)
    value = dict(Emulator(model).tensors(images))["fire4.expand1x1.float"]
    assert value.dtype == torch.float32 and (value != value.half().float()).any()


def test_tensors_under_the_graph_s_names(make: Make, network: tuple[IntegerGraph, NDArray[np.uint8]]) -> None:
    graph, images = network
    opened = EmulatedNetwork(Artifact(make(soc_version="emulated")))
    found, expected = dict(opened.trace(images[0])), dict(execute(graph, images[0]))
    assert list(found) == list(expected) and not opened.unseen()
    for name in list(expected)[:-1]:
        np.testing.assert_array_equal(found[name], expected[name], name)
    np.testing.assert_array_equal(found[graph.head.name], opened.run(images[:1])[0][0])
    with pytest.raises(ValueError, match="an image must be uint8"):
        next(opened.trace(images))
