"""Where tensors lie in memory: what compilers write is what devices read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeezeedge.errors import UsageError
from squeezeedge.graph.rules import Shape
from squeezeedge.targets.device.run import MAX_TENSOR
from squeezeedge.targets.device.run import Trace as Read
from squeezeedge.targets.trace import Place, Trace, runs, step_of


@given(st.lists(st.integers(0, 50), max_size=20))
def test_runs_are_the_addresses(addresses: list[int]) -> None:
    assert [first + i for first, count in runs(addresses) for i in range(count)] == addresses


def test_neighbours_are_one_run() -> None:
    assert runs([7, 8, 9, 3, 4, 11]) == ((7, 3), (3, 2), (11, 1))
    assert runs([]) == ()


@given(st.permutations(range(5)), st.integers(0, 2), st.integers(0, 3), st.sampled_from([0, 128]))
def test_a_tensor_in_any_order_of_channels_with_a_border(order: list[int], border: int, gap: int, flip: int) -> None:
    """NHWC, channels permuted, pixels filled up, a border around: what a kernel may leave."""
    values = np.random.default_rng(0).integers(0, 256, (3, 4, 5)).astype(np.uint8)
    pixel = 5 + gap
    memory = np.full((3 + border, 4 + border, pixel), 77, np.uint8)
    memory[border:, border:][:, :, order] = values ^ np.uint8(flip)
    row = (4 + border) * pixel
    start = border * (row + pixel)
    place = Place("x", 2, Shape(3, 4, 5), runs(start + c for c in order), row, pixel, flip)
    (found,) = Read(json.loads(json.dumps(Trace("head", (place,)).to_json()))).places
    assert (found.name, found.step, found.shape) == ("x", 2, (3, 4, 5))
    np.testing.assert_array_equal(found.values(memory.ravel()[found.begin : found.end]), values)
    with pytest.raises(ValueError, match="other memory"):
        found.values(memory.ravel()[found.begin : found.end - 1])


def test_blocks_of_channels(tmp_path: Path) -> None:
    """Planes of 2 lanes, of which the second one comes first."""
    memory = np.arange(24, dtype=np.uint8)
    place = Place("x", 0, Shape(2, 3, 3), ((12, 2), (0, 1)), 6, 2)
    Trace("head", (place,), {"y": "fused"}).write(tmp_path)
    read = Read(json.loads((tmp_path / "trace.json").read_text()))
    assert read.head == "head" and read.unseen == {"y": "fused"}
    planes = memory.reshape(2, 2, 3, 2)
    expected = np.concatenate([planes[1], planes[0, :, :, :1]], 2)
    (found,) = read.places
    np.testing.assert_array_equal(found.values(memory[found.begin : found.end]), expected)


RECORD = {"name": "x", "step": 0, "shape": [2, 3, 4], "runs": [[0, 4]], "row": 12, "pixel": 4, "flip": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"name": 3},
        {"step": -1},
        {"step": True},
        {"shape": [2, 3]},
        {"shape": [2, 3, 0]},
        {"shape": [2, MAX_TENSOR, 4]},
        {"runs": [[0, 3]]},
        {"runs": [[-1, 4]]},
        {"runs": [[0, 2], [2, 1]]},
        {"runs": []},
        {"runs": 4},
        {"row": -12},
        {"pixel": 1 << 70},
        {"flip": 0.5},
    ],
)
def test_damaged_places_are_refused(change: dict[str, Any]) -> None:
    Read({"head": "h", "tensors": [RECORD], "unseen": {}})
    with pytest.raises((ValueError, TypeError)):
        Read({"head": "h", "tensors": [{**RECORD, **change}], "unseen": {}})


@pytest.mark.parametrize("record", [{"head": "x"}, {"unseen": {"h": "y"}}, {"unseen": {"z": 3}}, {"unseen": []}])
def test_a_damaged_trace_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError)):
        Read({"head": "h", "tensors": [RECORD], "unseen": {}, **record})


class _Said:
    """FAKE: an artifact of which only trace.json is asked."""

    def trace(self) -> Read:
        place = Place("a", 3, Shape(1, 1, 1), ((0, 1),), 1, 1)
        return Read(json.loads(json.dumps(Trace("head", (place,), {"b": "it is pooled"}).to_json())))


def test_the_step_of_a_layer() -> None:
    artifact: Any = _Said()
    assert step_of(artifact, "a", 7) == 3 and step_of(artifact, "head", 7) == 7
    with pytest.raises(UsageError, match="`layer` b: is part of another one: it is pooled"):
        step_of(artifact, "b", 7)
    with pytest.raises(UsageError, match=r"`layer` xyz: the artifact has no such layer; there are: a, head"):
        step_of(artifact, "xyz", 7)
