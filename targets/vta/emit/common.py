"""What the compilers of both profiles share: constants in DRAM, micro-ops, and rows of tensors as transfers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.targets.vta.emit.schedule import Block, Schedule
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.program import Layer
from squeezeedge.targets.vta.isa.published import Load, MicroOp, Store
from squeezeedge.targets.vta.lower.cost import load_cycles
from squeezeedge.targets.vta.lower.layers import AddLayer, ConvLayer, Part, Value

__all__ = ["Constant", "Constants", "Emitter", "Prepared", "Run", "Window", "runs"]

MOST_STRIDE = (1 << 16) - 1
MOST_PAD = 15


@dataclass(frozen=True)
class Run:
    """Rows that one transfer covers; on the chip they lie one after the other.

    Attributes:
        offset: first element on the chip, from the tile's start.
        dram: first element in DRAM.
        rows: rows.
        size: elements of a row.
        stride: from one row to the next in DRAM.
    """

    offset: int
    dram: int
    rows: int
    size: int
    stride: int

    def load(self) -> Load:
        """The transfer into the input memory."""
        return Load(
            memory=Memory.INP,
            sram_base=self.offset,
            dram_base=self.dram,
            y_size=self.rows,
            x_size=self.size,
            x_stride=self.stride,
        )

    def store(self, sram_base: int) -> Store:
        """The transfer out of the output memory, from an element on."""
        return Store(
            memory=Memory.OUT,
            sram_base=sram_base,
            dram_base=self.dram,
            y_size=self.rows,
            x_size=self.size,
            x_stride=self.stride,
        )


def runs(origins: Sequence[int], pitch: int, rows: int, columns: int, first: int = 0) -> list[Run]:
    """A tile of ``rows`` x ``columns`` of some planes, plane by plane on the chip, in as few transfers as possible.

    Args:
        origins: DRAM element of the tile's first pixel in each plane.
        pitch: from one row to the next in DRAM.
        rows: rows of the tile.
        columns: columns of the tile.
        first: element on the chip.
    """
    if rows == 1 or columns == pitch:  # a plane is one run: the planes are the rows of a transfer
        found = []
        size, start = rows * columns, 0
        while start < len(origins):
            end, stride = start + 1, size
            if end < len(origins) and 0 < origins[end] - origins[start] <= MOST_STRIDE:
                stride = origins[end] - origins[start]
                while end < len(origins) and origins[end] - origins[end - 1] == stride:
                    end += 1
            found.append(Run(first + start * size, origins[start], end - start, size, stride))
            start = end
        return found
    return [Run(first + i * rows * columns, origin, rows, columns, pitch) for i, origin in enumerate(origins)]


@dataclass(frozen=True)
class Window:
    """The input that a tile of outputs of some convolutions side by side needs.

    Attributes:
        source: the input tensor.
        stride: of the convolutions.
        top: rows of padding above, the most of all convolutions.
        left: columns of padding before.
        height: rows that one output needs, over all convolutions.
        width: columns that one output needs.
        block: channels of an element.
    """

    source: Value
    stride: tuple[int, int]
    top: int
    left: int
    height: int
    width: int
    block: int

    @classmethod
    def of(cls, layer: ConvLayer, parts: Sequence[Part]) -> Window:
        """The window of a layer's convolutions."""
        top, left = (max(part.padding[axis] for part in parts) for axis in (0, 1))
        height = max(top - part.padding[0] + part.kernel[0] for part in parts)
        width = max(left - part.padding[1] + part.kernel[1] for part in parts)
        return cls(layer.source, layer.stride, top, left, height, width, parts[0].weight.shape[-1])

    def rows(self, count: int) -> int:
        """Input rows of ``count`` output rows."""
        return (count - 1) * self.stride[0] + self.height

    def columns(self, count: int) -> int:
        """Input columns of ``count`` output columns."""
        return (count - 1) * self.stride[1] + self.width

    def elements(self, rows: int, columns: int) -> int:
        """Elements on the chip of a tile of outputs."""
        return len(self.source.origins) * self.rows(rows) * self.columns(columns)

    def offsets(self, part: Part, rows: int, columns: int) -> NDArray[np.int64]:
        """Where the taps of one output lie in a tile of that many output rows and columns, in the weights' order."""
        plane, pitch = self.rows(rows) * self.columns(columns), self.columns(columns)
        ky, kx = np.arange(part.kernel[0])[:, None, None], np.arange(part.kernel[1])[None, :, None]
        at = (ky + self.top - part.padding[0]) * pitch + kx + self.left - part.padding[1]
        return (at + np.arange(len(self.source.origins)) * plane).reshape(-1)

    def loads(self, row: int, rows: int, column: int, columns: int) -> list[Load]:
        """The transfers that bring the input of outputs from (row, column) on.

        Raises:
            UnsupportedError: padding that is too wide for the instruction.
        """
        source, (y, x) = self.source, (row * self.stride[0] - self.top, column * self.stride[1] - self.left)
        height, width = self.rows(rows), self.columns(columns)
        halo_top, halo_left, halo_bottom, halo_right = source.halo
        before = (max(-halo_top - y, 0), max(-halo_left - x, 0))
        after = (max(y + height - source.height - halo_bottom, 0), max(x + width - source.width - halo_right, 0))
        before = (min(before[0], height), min(before[1], width))
        after = (min(after[0], height - before[0]), min(after[1], width - before[1]))
        valid = (height - before[0] - after[0], width - before[1] - after[1])
        if max(*before, *after) > MOST_PAD:
            raise UnsupportedError(f"padding of more than {MOST_PAD} pixels on one side is not supported")
        shift = (y + before[0]) * source.pitch + x + before[1] if min(valid) else 0
        origins = [origin + shift for origin in source.origins]
        if not any((*before, *after)):
            return [run.load() for run in runs(origins, source.pitch, height, width)]
        return [
            Load(
                memory=Memory.INP,
                sram_base=index * height * width,
                dram_base=origin,
                y_size=valid[0],
                x_size=valid[1],
                x_stride=source.pitch,
                y_pad_0=before[0],
                y_pad_1=after[0],
                x_pad_0=before[1],
                x_pad_1=after[1],
                pad_low=source.zero_point == 0,
            )
            for index, origin in enumerate(origins)
        ]


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
    """

    layer: ConvLayer | AddLayer
    tilings: tuple[object, ...]


P = TypeVar("P", bound=Prepared)


class Emitter(ABC, Generic[P]):
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
    def prepare(self, layer: ConvLayer | AddLayer) -> P:
        """Choose a layer's tiling and request its constants.

        Raises:
            UnsupportedError: the geometry can't hold it.
        """

    @abstractmethod
    def emit(self, prepared: P) -> None:
        """Emit a layer."""

    def emit_all(self, layers: Sequence[ConvLayer | AddLayer]) -> tuple[Layer, ...]:
        """Emit a network's layers; what became of each.

        Raises:
            UnsupportedError: the geometry can't hold a layer; the text names it.
        """
        prepared = []
        for layer in layers:
            with _named(layer):
                prepared.append(self.prepare(layer))
        for index, item in enumerate(prepared):
            self.schedule.layer = index
            with _named(item.layer):
                self.emit(item)
        return tuple(
            Layer(
                item.layer.name,
                0 if isinstance(item.layer, AddLayer) else item.layer.macs,
                "; ".join(map(str, item.tilings)),
            )
            for item in prepared
        )

    def micro_ops(self, sequence: Iterable[MicroOp]) -> int:
        """The place on the chip of some micro-ops.

        All are loaded at once as long as they fit; then the memory is filled anew. So the instructions that use them
        have to be added before the next call.

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
        """Load the next constants if there is room and the load module has time, ``cycles`` before it is needed."""
        while self._requests:
            load = self._requests[0].load
            if not self.schedule.room(load.memory, load.x_size) or self.schedule.slack(load) < cycles:
                return
            self._issue()

    def _issue(self) -> None:
        constant = self._requests.popleft()
        constant.block = self.schedule.load(constant.load.memory, constant.load.x_size, [constant.load])

    def input_tile(self, count: int, loads: Sequence[Load]) -> Block:
        """Load activations, and before them what there is time for."""
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


def _load_micro_ops(first: int, count: int) -> Load:
    return Load(memory=Memory.UOP, sram_base=0, dram_base=first, y_size=1, x_size=count, x_stride=count)


@contextmanager
def _named(layer: ConvLayer | AddLayer) -> Iterator[None]:
    """Put the layer's name in front of what the geometry can't hold."""
    try:
        yield
    except UnsupportedError as error:
        text = str(error)
        raise UnsupportedError(text if text.startswith(layer.name) else f"{layer.name}: {text}") from error
