"""Bit-exactness with the oracle of every kernel's loop form: random graphs, real topologies, the digits network.

And what is said before anything is written.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from squeezeedge.errors import SqueezeEdgeError, UnavailableError, UnsupportedError
from squeezeedge.graph import IMAGE, Add, Conv, IntegerGraph, rules
from squeezeedge.graph.oracle import run
from squeezeedge.targets.cuda import TARGET, CudaOptions, lower
from squeezeedge.targets.cuda.lower import graph_launches
from squeezeedge.targets.cuda.options import ARCHITECTURES, DOT_PRODUCT, TENSOR_CORE
from squeezeedge.targets.cuda.packing import MAX_SHIFT
from tests.graphs import GraphBuilder, integer_graphs, largest_shift_graph, random_images, squeezenet_graph
from tests.targets.cuda.conftest import Digits, Toolchain
from tests.targets.cuda.emulation import run_loops

BOTH = [TENSOR_CORE, DOT_PRODUCT]


@pytest.mark.slow
@pytest.mark.parametrize("isa", BOTH)
@settings(max_examples=6, deadline=None)
@given(graph=integer_graphs(max_blocks=4))
def test_random_graphs(graph: IntegerGraph, isa: str) -> None:
    images = random_images(graph, 3, 0)
    np.testing.assert_array_equal(run_loops(graph, images, isa), run(graph, images))


@pytest.mark.slow
@pytest.mark.parametrize("isa", BOTH)
def test_every_kind_of_kernel(every_kernel: IntegerGraph, isa: str) -> None:
    names = [launch.kernel.name for launch in graph_launches(every_kernel)]
    kinds = {name.partition("_")[2] or name for name in names}
    assert kinds == {"image", "max_pool", "concat", "conv", "concat_convs", "add", "head"}
    images = random_images(every_kernel, 2, 1)
    np.testing.assert_array_equal(run_loops(every_kernel, images, isa), run(every_kernel, images))


@pytest.mark.slow
@pytest.mark.parametrize("isa", BOTH)
def test_no_races_and_nothing_outside_a_buffer(every_kernel: IntegerGraph, isa: str) -> None:
    images = random_images(every_kernel, 2, 1)
    np.testing.assert_array_equal(run_loops(every_kernel, images, isa, checked=True), run(every_kernel, images))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet1_0_complex_bypass", "squeezenet1_1_mindcv", "resnet18"])
def test_topologies(name: str) -> None:
    graph = squeezenet_graph(name, (75, 64), 13)
    images = random_images(graph, 2, 1)
    np.testing.assert_array_equal(run_loops(graph, images, TENSOR_CORE), run(graph, images))


@pytest.mark.slow
def test_full_size() -> None:
    """224 x 224, the shapes that the tiles are chosen for."""
    graph = squeezenet_graph("squeezenet1_1")
    images = random_images(graph, 1, 2)
    np.testing.assert_array_equal(run_loops(graph, images, TENSOR_CORE, checked=True), run(graph, images))


@pytest.mark.slow
@pytest.mark.parametrize("isa", BOTH)
def test_the_digits_network(digits: Digits, isa: str) -> None:
    graph, images = digits
    np.testing.assert_array_equal(run_loops(graph, images, isa), run(graph, images))


@pytest.mark.slow
@pytest.mark.parametrize("limit", [8, 18, MAX_SHIFT])
@pytest.mark.parametrize("isa", BOTH)
def test_shifts(isa: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another largest shift in the one place where it stands."""
    monkeypatch.setattr(rules, "MAX_SHIFT", limit)
    graph = largest_shift_graph(limit)
    images = random_images(graph, 2, 1)
    np.testing.assert_array_equal(run_loops(graph, images, isa), run(graph, images))


@pytest.mark.slow
def test_a_failing_compiler_is_reported_before_anything_is_written(
    few_kernels: IntegerGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lower, "find_compiler", lambda: Toolchain(fails=True))
    with pytest.raises(SqueezeEdgeError, match="no code for sm_80"):
        TARGET.lower(few_kernels, CudaOptions(arch="sm_80"))


@pytest.mark.slow
def test_what_is_written(every_kernel: IntegerGraph, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every launch's arguments lie within their places; a kernel's parameters are in the order of its signature."""
    monkeypatch.setattr(lower, "find_compiler", Toolchain)
    entry = TARGET.lower(every_kernel, CudaOptions(arch="all")).write(tmp_path)
    launches = graph_launches(every_kernel)
    plan = json.loads((tmp_path / "plan.json").read_text())
    sizes = {"workspace": plan["workspace_bytes"], "constants": plan["constant_bytes"], "input": 13 * 11 * 3}
    assert (tmp_path / "constants.bin").stat().st_size == plan["constant_bytes"] == entry["constant_bytes"]
    assert [(tmp_path / name).read_text() for name in plan["cubins"].values()] == list(plan["cubins"])
    assert list(plan["cubins"]) == entry["architectures"] == list(ARCHITECTURES) and entry["left_out"] == []
    assert plan["ptx"] == {arch: f"kernels.{arch}.ptx" for arch in ("sm_72", "sm_80")}, "dp4a, and tensor cores"
    assert [(tmp_path / name).read_text() for name in plan["ptx"].values()] == ["ptx of sm_72", "ptx of sm_80"]
    assert len(plan["launches"]) == entry["kernels"] == len(launches)
    for listed, launch in zip(plan["launches"], launches, strict=True):
        kernel = launch.kernel
        assert (listed["kernel"], listed["blocks"], listed["threads"]) == (
            f"{kernel.name}_kernel",
            kernel.blocks,
            kernel.threads,
        )
        assert len(listed["arguments"]) == len(kernel.inputs) + len(kernel.constants) + 1
        places = [place for place, _ in listed["arguments"]]
        assert places.count("constants") == len(kernel.constants)
        for place, offset in listed["arguments"]:
            assert offset == 0 if place == "output" else 0 <= offset < sizes[place]
    assert plan["launches"][-1]["arguments"].count(["output", 0]) == 1


@pytest.mark.slow
def test_what_the_compiler_does_not_know_is_left_out(
    every_kernel: IntegerGraph, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """CUDA 13 has no sm_72, older ones no sm_120; an architecture that is asked for by name must be there."""
    monkeypatch.setattr(lower, "find_compiler", lambda: Toolchain({"sm_86", "sm_87", "sm_75", "sm_61"}))
    entry = TARGET.lower(every_kernel, CudaOptions()).write(tmp_path)
    assert entry["architectures"] == ["sm_75", "sm_86", "sm_87"] and entry["ptx"] == ["sm_75", "sm_86"]
    assert entry["left_out"] == ["sm_72", "sm_80", "sm_89", "sm_90", "sm_100", "sm_120"]
    with pytest.raises(UnavailableError, match=r"none makes no code for sm_72, only for .*sm_61.*sm_72: 12"):
        TARGET.lower(every_kernel, CudaOptions(arch="sm_72"))


def test_shifts_beyond_int32_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_SHIFT", 33)
    builder = GraphBuilder(np.random.default_rng(0), (5, 5))
    first, second = (builder.conv(IMAGE, 4, name=name) for name in ("a", "b"))
    builder.add(first, second, name="sum")
    operand, _, added = builder.nodes
    assert isinstance(operand, Conv) and isinstance(added, Add)
    added.shift[:] += 33 - added.shift.max()
    added.scale[:] = operand.scale * np.exp2(added.shift[0].astype(np.float32))
    with pytest.raises(UnsupportedError, match="sum: shift 33, CUDA's kernels shift by at most 30"):
        graph_launches(builder.finish("sum", 3))
