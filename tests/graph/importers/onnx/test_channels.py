"""Parts and mixtures of tensors: the same function, and no multiplication is added where that is possible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezeedge.graph.float.graph import FloatConv
from tests.graph.importers.onnx.files import end, imported, kinds, multiplications, random, refused, start
from tests.graph.networks import OnnxWriter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("channels")


def _ints(writer: OnnxWriter, *values: int) -> str:
    return writer.weight(f"ints{len(writer.weights)}", np.array(values, np.int64))


def _conv(writer: OnnxWriter, value: str, channels: int, out: int, groups: int = 1, side: int = 1) -> str:
    weight = writer.weight(
        f"w{len(writer.weights)}", random(out, channels // groups, side, side, seed=len(writer.weights))
    )
    return writer.node("Conv", value, weight, group=groups, pads=[side // 2] * 4)


def _slice(writer: OnnxWriter, value: str, first: int, last: int, step: int = 1) -> str:
    return writer.node("Slice", value, *(_ints(writer, number) for number in (first, last, 1, step)))


def _shuffle(writer: OnnxWriter, value: str, groups: int, channels: int) -> str:
    """Zhang et al., "ShuffleNet", arXiv:1707.01083."""
    value = writer.node("Reshape", value, _ints(writer, 1, groups, channels // groups, 7, 10))
    value = writer.node("Transpose", value, perm=[0, 2, 1, 3, 4])
    return writer.node("Reshape", value, _ints(writer, 1, channels, 7, 10))


def _split(writer: OnnxWriter, value: str, *sizes: int) -> list[str]:
    place = len(writer.nodes)
    outputs = [f"part{place}_{number}" for number in range(len(sizes))]
    first = writer.node("Split", value, _ints(writer, *sizes), axis=1)
    assert writer.nodes[-1].output[0] == first
    writer.nodes[-1].output[:] = outputs
    return outputs


def test_units_of_shufflenet_v2(folder: Path) -> None:
    """Ma et al., "ShuffleNet V2", arXiv:1807.11164: half of the channels goes through, then both halves are mixed."""
    writer, value = start(channels=16)
    needed = 16 * 27 * 70
    for _ in range(3):
        kept, worked = _split(writer, value, 8, 8)
        worked = writer.node("Relu", _conv(writer, worked, 8, 8))
        worked = _conv(writer, _conv(writer, worked, 8, 8, groups=8, side=3), 8, 8)
        needed += (64 + 72 + 64) * 70
        value = _shuffle(writer, writer.node("Concat", kept, writer.node("Relu", worked), axis=1), 2, 16)
    graph = imported(folder, writer, end(writer, _conv(writer, value, 16, 6)))
    assert multiplications(graph) == needed + 16 * 6 * 70
    assert not [node.name for node in graph.nodes if "channels" in node.name]


@pytest.mark.parametrize(("groups", "channels"), [(2, 8), (3, 18), (4, 16), (4, 8)])
def test_shuffled_groups(folder: Path, groups: int, channels: int) -> None:
    """Of ShuffleNet's first version, with its residual."""
    writer, value = start(channels=channels)
    mixed = _shuffle(writer, _conv(writer, value, channels, channels, groups), groups, channels)
    mixed = _conv(writer, mixed, channels, channels, channels, side=3)
    mixed = writer.node("Add", _conv(writer, mixed, channels, channels, groups), value)
    graph = imported(folder, writer, end(writer, _conv(writer, writer.node("Relu", mixed), channels, 5)))
    dense = 70 * channels * channels
    assert multiplications(graph) == 70 * channels * (27 + 9 + 5) + 2 * dense // groups


@st.composite
def _moves(draw: st.DrawFn) -> list[tuple[str, tuple[int, ...]]]:
    return draw(
        st.lists(
            st.one_of(
                st.tuples(st.just("gather"), st.permutations(range(8)).map(tuple)),
                st.tuples(st.just("repeat"), st.lists(st.integers(0, 7), min_size=8, max_size=8).map(tuple)),
                st.tuples(st.just("slice"), st.tuples(st.integers(0, 3), st.integers(1, 2))),
                st.tuples(
                    st.sampled_from(["relu", "conv", "depthwise", "grouped", "pool", "add", "norm"]), st.just(())
                ),
            ),
            min_size=1,
            max_size=6,
        )
    )


@pytest.mark.slow
@given(_moves())
@settings(max_examples=60, deadline=None)
def test_moves_between_layers(folder: Path, moves: list[tuple[str, tuple[int, ...]]]) -> None:
    writer, value = start(channels=8)
    before = value
    for operator, numbers in moves:
        latest = value
        if operator in ("gather", "repeat"):
            value = writer.node("Gather", value, _ints(writer, *numbers), axis=1)
        elif operator == "slice":
            first, step = numbers
            part = _slice(writer, value, first, first + 4 * step if first + 4 * step <= 8 else 8, step)
            rest = _slice(writer, before, 0, 8)
            value = _slice(writer, writer.node("Concat", part, rest, axis=1), 0, 8)
        elif operator == "conv":
            value = _conv(writer, value, 8, 8)
        elif operator == "depthwise":
            value = _conv(writer, value, 8, 8, groups=8, side=3)
        elif operator == "grouped":
            value = _conv(writer, value, 8, 8, groups=2)
        elif operator == "pool":
            value = writer.node("MaxPool", value, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        elif operator == "add":
            value = writer.node("Add", value, before)
        elif operator == "norm":
            vectors = [writer.weight(f"n{len(writer.weights)}", random(8, seed=place) ** 2 + 1) for place in range(4)]
            value = writer.node("BatchNormalization", value, *vectors)
        else:
            value = writer.node("Relu", value)
        before = latest
    imported(folder, writer, end(writer, value))


def test_channels_that_nothing_reads_are_not_computed(folder: Path) -> None:
    writer, value = start(channels=8)
    graph = imported(folder, writer, end(writer, writer.node("Relu", _slice(writer, value, 2, 5))))
    assert isinstance(graph.nodes[0], FloatConv) and len(graph.nodes[0].weight) == 3
    assert graph.nodes[0].name == "first.part1"


def test_class_scores_without_the_first(folder: Path) -> None:
    """A class for the background, which TensorFlow's networks have."""
    writer, value = start()
    scores = writer.node("Gemm", end(writer, value), writer.weight("fc.weight", random(5, 7)))
    graph = imported(folder, writer, _slice(writer, scores, 1, 7))
    assert kinds(graph) == ["Conv", "GlobalAveragePool", "Linear"] and graph.shapes[graph.nodes[-1].name].channels == 6


def test_channels_of_the_image_in_another_order(folder: Path) -> None:
    """The convolution follows: its weights change places."""
    writer = OnnxWriter([1, 3, 9, 12])
    swapped = writer.node("Gather", "input", _ints(writer, 2, 1, 0), axis=1)
    weight = random(4, 3, 3, 3)
    graph = imported(folder, writer, end(writer, writer.node("Conv", swapped, writer.weight("w", weight))))
    assert isinstance(graph.nodes[0], FloatConv)
    np.testing.assert_array_equal(graph.nodes[0].weight, weight[:, ::-1])


def test_parts_of_the_image(folder: Path) -> None:
    """As GoogLeNet normalizes its input: one convolution each picks the channels."""
    writer = OnnxWriter([1, 3, 9, 12])
    parts = [writer.node("Relu", _slice(writer, "input", place, place + 1)) for place in (2, 0)]
    value = _conv(writer, writer.node("Concat", *parts, axis=1), 2, 4, side=3)
    imported(folder, writer, end(writer, value))


def test_an_addition_of_channels_in_two_orders(folder: Path) -> None:
    """Nothing can follow both orders: one convolution picks them."""
    writer, value = start(channels=6)
    turned = writer.node("Gather", value, _ints(writer, 5, 3, 1, 0, 2, 4), axis=1)
    graph = imported(folder, writer, end(writer, writer.node("Add", turned, value)))
    assert [node.name for node in graph.nodes if "channels" in node.name] == ["/add_2.channels"]


def test_concatenations_have_the_names_of_their_nodes_and_are_shared(folder: Path) -> None:
    writer, value = start()
    both = writer.node("Concat", value, writer.node("Relu", value), axis=1, name="both")
    total = writer.node("Add", _conv(writer, both, 10, 4), _conv(writer, both, 10, 4))
    graph = imported(folder, writer, end(writer, total))
    assert [node.name for node in graph.nodes if type(node).__name__ == "FloatConcat"] == ["both"]


@pytest.mark.slow
def test_orders_that_nothing_can_follow_have_a_bound(folder: Path) -> None:
    writer, value = start(channels=4096, size=(3, 3))
    for place in range(6):
        order = np.random.default_rng(place).permutation(4096)
        value = writer.node("Add", value, writer.node("Gather", value, _ints(writer, *order), axis=1))
    refused(folder, writer, end(writer, value), "picking channels up to here takes more than .* weights")


@pytest.mark.slow
def test_endless_concatenation(folder: Path) -> None:
    """Each doubles the channels: an error before memory ends."""
    writer, value = start()
    for _ in range(60):
        value = writer.node("Concat", value, value, axis=1)
    refused(folder, writer, end(writer, value), "Concat makes moved tensors of more than|read more than")
