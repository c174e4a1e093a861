"""Shares of a run, from a report by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from squeezeedge.targets.vta.isa.program import Layer, VtaProgram
from squeezeedge.targets.vta.sim.profile import COLUMNS, UNITS, layer_profiles
from squeezeedge.targets.vta.sim.simulator import Report, Timing
from tests.targets.vta.verify.by_hand import GOOD, program

STARTS = [0, 0, 90, 80, 110, 130, 196]
ENDS = [80, 90, 110, 100, 130, 190, 200]
"""Of GOOD: micro-ops, weights, inputs, reset, products, store, finish; the layers take turns."""


@pytest.fixture
def good() -> VtaProgram:
    return replace(program(GOOD), layers=(Layer("stem", 5120, ""), Layer("fire", 100, "")))


def report(cycles: int) -> Report:
    events = np.array([STARTS, STARTS, ENDS], np.uint64).T
    return Report(cycles, gemm_steps=16, bus_busy=0, modules={}, events=events)


def test_shares_add_up_to_the_run(good: VtaProgram) -> None:
    """Along the compute module, waits included; what comes after the last instruction is the last layer's."""
    stem, fire = layer_profiles(good, GOOD, report(210), Timing())
    assert fire.time == 100 - 80
    assert stem.time == 210 - fire.time
    assert (stem.name, fire.name) == ("stem", "fire")


def test_the_unit_that_limits_a_layer(good: VtaProgram) -> None:
    stem, fire = layer_profiles(good, GOOD, report(210), Timing())
    moved = (32 * 4 + 8 * 16, 8 * 256 + 8 * 16)  # micro-ops and inputs; weights and outputs
    assert (stem.bytes, fire.bytes) == moved
    assert [stem.figures[unit] for unit in UNITS] == [8, 200 - 196, 0, moved[0] // 8]
    assert [fire.figures[unit] for unit in UNITS] == [8, 0, 0, moved[1] // 8]
    assert (stem.figures["bound"], stem.figures["busy"]) == ("dram", 32 / 190)
    assert stem.figures.keys() == {column.key for column in COLUMNS}
    faster, _ = layer_profiles(good, GOOD, report(210), Timing(bytes_per_cycle=64))
    assert (faster.figures["bound"], faster.figures["busy"]) == ("gemm", 8 / 190)


def test_multiply_accumulates(good: VtaProgram) -> None:
    stem, fire = layer_profiles(good, GOOD, report(210), Timing())
    assert (stem.macs, fire.macs) == (5120, 100)
