"""A graph in memory, and the files that it becomes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.targets.vta.device import DRAM, PROGRAM
from squeezeedge.targets.vta.isa.program import VtaProgram
from squeezeedge.targets.vta.lower.network import MODULE, VtaLowered, lower
from squeezeedge.targets.vta.options import VtaOptions
from tests.graphs import GraphBuilder
from tests.targets.vta.compiled import check


@pytest.fixture(scope="module")
def graph() -> IntegerGraph:
    builder = GraphBuilder(np.random.default_rng(0), (9, 8))
    return builder.finish(builder.conv(IMAGE, 20, (3, 3), name="first"), 5)


@pytest.fixture(scope="module")
def lowered(graph: IntegerGraph) -> VtaLowered:
    return lower(graph, VtaOptions(), ())


def test_files(graph: IntegerGraph, lowered: VtaLowered, tmp_path: Path) -> None:
    entry = lowered.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([PROGRAM, DRAM, "trace.json"])
    program = VtaProgram.from_json(json.loads((tmp_path / PROGRAM).read_text()), (tmp_path / DRAM).read_bytes())
    check(graph, program)
    assert entry == {
        "clock_mhz": 100,
        "instruction_count": program.count,
        "dram_bytes": program.dram_bytes,
        "layers": [{"name": layer.name, "macs": layer.macs} for layer in program.layers],
        "macs": graph.macs,
    }


def test_a_clock_and_files_of_the_user(lowered: VtaLowered, tmp_path: Path) -> None:
    bit, out = tmp_path / "mine.bit", tmp_path / "out"
    bit.write_bytes(b"bits")
    bit.with_suffix(".hwh").write_text("handoff")
    out.mkdir()
    entry = replace(lowered, options=VtaOptions(clock=50, bitstream_file=bit)).write(out)
    assert entry["clock_mhz"] == 50
    assert (out / "vta.bit").read_bytes() == b"bits" and (out / "vta.hwh").read_text() == "handoff"


@pytest.mark.slow
def test_a_module_of_tvm(lowered: VtaLowered, tmp_path: Path) -> None:
    replace(lowered, options=VtaOptions(tvm_module=True)).write(tmp_path)
    assert (tmp_path / MODULE).read_bytes().startswith(b"\x7fELF")


def test_the_options_choose_instructions_and_geometry(graph: IntegerGraph) -> None:
    program = lower(graph, VtaOptions("published", "zcu104-block32"), ()).network.program
    assert program.instructions == "published" and program.geometry.block == 32
    check(graph, program)


def test_a_layer_that_does_not_fit_is_named() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (9, 9))
    wide = builder.finish(builder.conv(builder.conv(IMAGE, 600), 16, (7, 7), name="reduce"), 3)
    with pytest.raises(UnsupportedError, match=r"^reduce: one output needs 1862 weight and input elements"):
        lower(wide, VtaOptions(), ())
