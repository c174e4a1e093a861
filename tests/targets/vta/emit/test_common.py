"""Constants, micro-ops and loads that both kinds of emitters share."""

from __future__ import annotations

import re

import numpy as np
import pytest

from squeezeedge.errors import UnsupportedError
from squeezeedge.targets.vta.emit.common import Constants, Emitter
from squeezeedge.targets.vta.emit.extended import ExtendedEmitter
from squeezeedge.targets.vta.emit.schedule import Schedule
from squeezeedge.targets.vta.isa.extended import XAdd
from squeezeedge.targets.vta.isa.geometry import Memory
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.published import Load
from squeezeedge.targets.vta.lower.layers import Layer
from tests.targets.vta.compiled import SMALL
from tests.targets.vta.lower.by_hand import add_layer, conv_layer

UOPS = SMALL.depth(Memory.UOP)


@pytest.fixture
def emitter() -> Emitter:
    return ExtendedEmitter(SMALL, Schedule(SMALL, 1 << 14, wrap=True))


def ops(first: int, count: int) -> list[MicroOp]:
    return [MicroOp(dst=(first + index) % 512, src=(first + index) // 512) for index in range(count)]


def loads(emitter: Emitter, memory: Memory) -> list[Load]:
    program, _ = emitter.schedule.finish()
    return [instruction for instruction in program if isinstance(instruction, Load) and instruction.memory == memory]


def test_equal_constants_are_kept_once() -> None:
    constants = Constants(4)
    assert [constants.add(data) for data in (b"aaaabbbb", b"cccc", b"aaaabbbb")] == [0, 2, 0]
    assert constants.append(b"cccc") == 3
    assert (constants.data, constants.elements) == (b"aaaabbbbcccccccc", 4)


def test_micro_ops_are_loaded_together(emitter: Emitter) -> None:
    assert [emitter.micro_ops(ops(*span)) for span in ((0, 5), (7, 3), (0, 5))] == [0, 5, 0]
    emitter.close_micro_ops()
    (load,) = loads(emitter, Memory.UOP)
    assert (load.dram_base, load.x_size) == (0, 8)
    words = np.frombuffer(emitter.constants[Memory.UOP].data, "<u4")
    assert [MicroOp.decode(int(word), SMALL) for word in words] == ops(0, 5) + ops(7, 3)


def test_micro_ops_that_do_not_fit_beside_the_others(emitter: Emitter) -> None:
    """The memory is filled anew; what was there is loaded again if it is needed again."""
    assert emitter.micro_ops(ops(0, UOPS - 2)) == 0
    assert emitter.micro_ops(ops(5000, 3)) == 0
    assert emitter.micro_ops(ops(0, UOPS - 4)) == 3
    emitter.close_micro_ops()
    assert [(load.dram_base, load.x_size) for load in loads(emitter, Memory.UOP)] == [
        (0, UOPS - 2),
        (UOPS - 2, UOPS - 1),
    ]


def test_too_many_micro_ops(emitter: Emitter) -> None:
    with pytest.raises(UnsupportedError, match=f"{UOPS + 1} micro-ops, the memory holds {UOPS}; use a larger uop_buff"):
        emitter.micro_ops(ops(0, UOPS + 1))


def test_constants_are_loaded_in_the_order_of_the_requests(emitter: Emitter) -> None:
    weights = np.arange(3 * 256).astype(np.int8)
    first, second, third = (emitter.request(Memory.WGT, weights[: 256 * count], count) for count in (3, 2, 3))
    assert (first.load.dram_base, third.load.dram_base, second.load.dram_base) == (0, 0, 3)
    block = emitter.need(second)
    assert first.block is not None and third.block is None
    assert (first.block.first, block.first, block.count) == (0, 3, 2)
    assert emitter.need(second) is block
    emitter.schedule.compute(XAdd(blocks=1, count=1, par=0, a_base=0, b_base=0, dst_base=0), [first.block, block])
    assert [load.dram_base for load in loads(emitter, Memory.WGT)] == [0, 3]


def test_constants_are_prefetched_while_there_is_time(emitter: Emitter) -> None:
    constants = [emitter.request(Memory.WGT, np.full(256, value, np.int8), 1) for value in range(3)]
    emitter.prefetch(0)
    assert [constant.block for constant in constants] == [None] * 3, "compute has nothing to do: its data comes first"
    emitter.schedule.compute(XAdd(blocks=1, count=200, par=0, a_base=0, b_base=0, dst_base=0))
    emitter.prefetch(0)  # 412 cycles are worth four loads of 100
    assert all(constant.block is not None for constant in constants)


def test_a_tile_of_planes(emitter: Emitter) -> None:
    """Rows 1..2, columns 2..4 of the second and third block."""
    value = add_layer((4, 6), 48).operands[0]
    block = emitter.plane_tile(value, (1, 3), (1, 2), (2, 3))
    assert block.count == 2 * 2 * 3
    emitter.schedule.compute(XAdd(blocks=1, count=1, par=0, a_base=0, b_base=0, dst_base=0), [block])
    assert [(load.sram_base, load.dram_base, load.y_size, load.x_size) for load in loads(emitter, Memory.INP)] == [
        (0, 24 + 6 + 2, 2, 3),
        (6, 48 + 6 + 2, 2, 3),
    ]


def test_what_became_of_each_layer(emitter: Emitter) -> None:
    layers: list[Layer] = [conv_layer((9, 8), 16, (20,)), add_layer((4, 4), 32)]
    records = emitter.emit_all(layers)
    assert [record.name for record in records] == ["layer", "sum"]
    assert re.fullmatch(r"Tiling\(rows=\d+, columns=\d+, sub_rows=\d+\)", records[0].tiling)
    assert records[1].tiling.startswith("AddTiling(")
    _, owners = emitter.schedule.finish()
    assert set(owners) == {0, 1}


def test_the_layer_that_does_not_fit_is_named(emitter: Emitter) -> None:
    layer = conv_layer((40, 40), 16, (16,), (17, 3), padding=(16, 0))
    with pytest.raises(UnsupportedError, match=r"^layer: padding of more than 15 pixels"):
        emitter.emit_all([layer])
