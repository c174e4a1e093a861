"""Shares of a run, from a report by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from squeezeedge.targets.vta.isa.program import Layer, VtaProgram
from squeezeedge.targets.vta.sim.profile import UNITS, layer_profiles
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
    assert fire.cycles == 100 - 80
    assert stem.cycles == 210 - fire.cycles
    assert (stem.name, fire.name) == ("stem", "fire")


def test_the_unit_that_limits_a_layer(good: VtaProgram) -> None:
    stem, fire = layer_profiles(good, GOOD, report(210), Timing())
    moved = (32 * 4 + 8 * 16, 8 * 256 + 8 * 16)  # micro-ops and inputs; weights and outputs
    assert (stem.dram_bytes, fire.dram_bytes) == moved
    assert stem.busy == {"gemm": 8, "alu": 200 - 196, "pool": 0, "dram": moved[0] // 8}
    assert fire.busy == {"gemm": 8, "alu": 0, "pool": 0, "dram": moved[1] // 8}
    assert (stem.bound, stem.bound_cycles) == ("dram", 32)
    assert set(stem.busy) == set(UNITS)
    faster, _ = layer_profiles(good, GOOD, report(210), Timing(bytes_per_cycle=64))
    assert (faster.bound, faster.bound_cycles) == ("gemm", 8)


def test_utilization(good: VtaProgram) -> None:
    stem, fire = layer_profiles(good, GOOD, report(210), Timing())
    assert (stem.macs, stem.utilization) == (5120, 5120 / 256 / 190)
    assert fire.utilization == 100 / 256 / 20
