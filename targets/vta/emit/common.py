"""What the emitters of both instruction sets share: constants in DRAM, micro-ops, loads of activations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.dispatch import Table
from squeezeedge.targets.vta.emit.schedule import Block, Schedule
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.program import Layer as LayerRecord
from squeezeedge.targets.vta.isa.published import Load
from squeezeedge.targets.vta.lower.cost import load_cycles
from squeezeedge.targets.vta.lower.layers import LAYERS, AddLayer, ConvLayer, Layer
from squeezeedge.targets.vta.lower.tensors import Value
from squeezeedge.targets.vta.lower.window import runs

__all__ = ["Constant", "Constants", "Emitter", "Prepared"]


class Constants:
    """The constants of one memory in DRAM; equal ones are kept once."""

    def __init__(self, element_bytes: int) -> None:
        self.element_bytes = element_bytes
        self.elements = 0
        self.parts: list[bytes] = []
        self._known: dict[bytes, int] = {}

    def add(self, data: bytes) -> int:
        """The first element of some whole elements."""
        if data not in self._known:
            self._known[data] = self.append(data)
        return self._known[data]

    def append(self, data: bytes) -> int:
        """As :meth:`add`, even if there are equal ones."""
        first = self.elements
        self.parts.append(data)
        self.elements += len(data) // self.element_bytes
        return first

    @property
    def data(self) -> bytes:
        """All of them."""
        return b"".join(self.parts)


@dataclass(eq=False)
class Constant:
    """Elements that a layer will need on the chip.

    Attributes:
        load: brings them; its ``sram_base`` is 0.
        block: where they are, once they are loaded.
    """

    load: Load
    block: Block | None = None


@dataclass(frozen=True, eq=False)
class Prepared:
    """A layer with its tilings; its constants are requested.

    Attributes:
        layer: the layer.
        tilings: how it is cut, of every convolution where they are cut apart.
        emit: adds its operations to the schedule.
    """

    layer: Layer
    tilings: tuple[object, ...]
    emit: Callable[[], None]


class Emitter(ABC):
    """Turns layers into operations of a schedule: all are prepared first, then emitted in the same order."""

    def __init__(self, geometry: Geometry, schedule: Schedule) -> None:
        self.geometry = geometry
        self.schedule = schedule
        self.constants = {
            memory: Constants(geometry.element_bytes(memory))
            for memory in (Memory.UOP, Memory.WGT, Memory.PAR, Memory.ACC)
        }
        self._requests: deque[Constant] = deque()
        self._micro_ops: dict[bytes, int] = {}
        self._epoch = (0, schedule.compute(_load_micro_ops(0, 0)))  # first micro-op in DRAM, the computation

    @abstractmethod
    def convolution(self, layer: ConvLayer) -> Prepared:
        """Choose the tiling of convolutions side by side and request their constants.

        Raises:
            UnsupportedError: the geometry can't hold them.
        """

    @abstractmethod
    def addition(self, layer: AddLayer) -> Prepared:
        """The same for an addition."""

    @abstractmethod
    def sums(self, arena: int, blocks: int) -> None:
        """Store the class sums.

        Args:
            arena: elements of the activations, behind which the sums lie in DRAM.
            blocks: elements of the sums on the chip.
        """

    def emit_all(self, layers: Sequence[Layer]) -> tuple[LayerRecord, ...]:
        """Emit a network's layers; what became of each.

        Raises:
            UnsupportedError: the geometry can't hold a layer; the text names it.
        """
        prepared = []
        for layer in layers:
            with _named(layer):
                prepared.append(_PREPARE(layer, self))
        for index, item in enumerate(prepared):
            self.schedule.layer = index
            with _named(item.layer):
                item.emit()
        return tuple(
            LayerRecord(item.layer.name, item.layer.macs, "; ".join(map(str, item.tilings))) for item in prepared
        )

    def micro_ops(self, sequence: Iterable[MicroOp]) -> int:
        """The place on the chip of some micro-ops.

        All are loaded at once as long as they fit; then the memory is filled anew. The instructions that use them must
        therefore be added before the next call.

        Raises:
            UnsupportedError: the memory can't hold them.
        """
        data = np.array([op.encode(self.geometry) for op in sequence], "<u4").tobytes()
        count, depth = len(data) // 4, self.geometry.depth(Memory.UOP)
        if count > depth:
            raise UnsupportedError(f"{count} micro-ops, the memory holds {depth}; use a larger uop_buffer")
        if data not in self._micro_ops:
            elements = self.constants[Memory.UOP].elements
            if elements - self._epoch[0] + count > depth:
                self.close_micro_ops()
                self._epoch = (elements, self.schedule.compute(_load_micro_ops(0, 0)))
                self._micro_ops.clear()
            self._micro_ops[data] = self.constants[Memory.UOP].append(data) - self._epoch[0]
        return self._micro_ops[data]

    def close_micro_ops(self) -> None:
        """Let the load of the current micro-ops cover all of them."""
        first, computation = self._epoch
        self.schedule.replace(computation, _load_micro_ops(first, self.constants[Memory.UOP].elements - first))

    def request(self, memory: Memory, array: NDArray[np.generic], count: int) -> Constant:
        """Announce a constant; constants are loaded in the order of the requests."""
        dram = self.constants[memory].add(np.ascontiguousarray(array).tobytes())
        constant = Constant(Load(memory=memory, sram_base=0, dram_base=dram, y_size=1, x_size=count, x_stride=count))
        self._requests.append(constant)
        return constant

    def need(self, constant: Constant) -> Block:
        """Load a constant if it is not there."""
        while constant.block is None:
            self._issue()
        return constant.block

    def prefetch(self, cycles: int) -> None:
        """Load the next constants while there is room and compute still has work for ``cycles`` after the load."""
        while self._requests:
            load = self._requests[0].load
            if not self.schedule.room(load.memory, load.x_size) or self.schedule.slack(load) < cycles:
                return
            self._issue()

    def _issue(self) -> None:
        constant = self._requests.popleft()
        constant.block = self.schedule.load(constant.load.memory, constant.load.x_size, [constant.load])

    def input_tile(self, count: int, loads: Sequence[Load]) -> Block:
        """Load activations, and before them the constants for which there is time."""
        self.prefetch(sum(load_cycles(load, self.geometry) for load in loads))
        return self.schedule.load(Memory.INP, count, loads)

    def plane_tile(
        self, value: Value, blocks: tuple[int, int], vertical: tuple[int, int], horizontal: tuple[int, int]
    ) -> Block:
        """Load a tile of some blocks of a tensor, plane by plane."""
        (row, rows), (column, columns) = vertical, horizontal
        origins = [origin + row * value.pitch + column for origin in value.origins[slice(*blocks)]]
        loads = [run.load() for run in runs(origins, value.pitch, rows, columns)]
        return self.input_tile(len(origins) * rows * columns, loads)


_PREPARE: Table[Layer, Prepared] = Table("VTA emitters", LAYERS)


@_PREPARE.implements(ConvLayer)
def _convolution(layer: ConvLayer, emitter: Emitter) -> Prepared:
    return emitter.convolution(layer)


@_PREPARE.implements(AddLayer)
def _addition(layer: AddLayer, emitter: Emitter) -> Prepared:
    return emitter.addition(layer)


def _load_micro_ops(first: int, count: int) -> Load:
    return Load(memory=Memory.UOP, sram_base=0, dram_base=first, y_size=1, x_size=count, x_stride=count)


@contextmanager
def _named(layer: Layer) -> Iterator[None]:
    """Put the layer's name in front of what the geometry can't hold."""
    try:
        yield
    except UnsupportedError as error:
        text = str(error)
        raise UnsupportedError(text if text.startswith(layer.name) else f"{layer.name}: {text}") from error
