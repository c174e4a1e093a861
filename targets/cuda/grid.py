"""One kernel, two forms: CUDA threads, or loops over blocks and threads that any processor runs.

A kernel body is written once, against :class:`Block`. Between two barriers (``region``) it alternates code of every
thread (``threads``) with instructions of whole warps. The forms are in :mod:`.threads` and :mod:`.loops`; each is
written for one instruction set (:mod:`.isa`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

if TYPE_CHECKING:
    from squeezeedge.targets.cuda.isa import InstructionSet

__all__ = ["WARP", "Block", "Expr", "Kernel", "Memory", "Registers", "arguments", "only", "vector"]

Expr = Any
"""An int or a TVM expression; TVM's classes are untyped."""

WARP = 32


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel before it has a form.

    Attributes:
        name: its symbol; the CUDA function is called ``<name>_kernel``.
        blocks: thread blocks an image; the images of a batch are the grid's third dimension.
        threads: of a block; a multiple of 32.
        shared: 32-bit words of shared memory.
        inputs: bytes of each input of one image.
        constants: 1-D arrays.
        out: (elements, dtype) of the output of one image.
        body: writes the code of a block.
        macs: multiply-accumulates of one image, padding included.
    """

    name: str
    blocks: int
    threads: int
    shared: int
    inputs: tuple[int, ...]
    constants: tuple[NDArray[Any], ...]
    out: tuple[int, str]
    body: Callable[[Block], None]
    macs: int = 0


class Registers(ABC):
    """A few 32-bit registers of every thread; use inside ``threads`` only."""

    @abstractmethod
    def index(self, i: Expr) -> Expr:
        """Element of the underlying buffer that is register i of the current thread."""

    def __init__(self, buffer: Expr) -> None:
        self.buffer = buffer

    def __getitem__(self, i: Expr) -> Expr:
        return self.buffer[self.index(i)]

    def __setitem__(self, i: Expr, value: Expr) -> None:
        T.buffer_store(self.buffer, value, [self.index(i)])

    def load(self, i: Expr, count: int, value: Expr) -> None:
        """Set ``count`` registers, from i on, to the lanes of a vector."""
        T.buffer_store(self.buffer, value, [vector(self.index(i), count)])

    def lanes(self, i: Expr, count: int) -> Expr:
        """``count`` registers, from i on, as a vector."""
        return self.buffer[vector(self.index(i), count)]


class Memory:
    """A buffer, in elements; use inside ``threads`` only."""

    def __init__(self, buffer: Expr) -> None:
        self.buffer = buffer

    def load(self, index: Expr, count: int = 1) -> Expr:
        """``count`` elements from an index on."""
        return self.buffer[vector(index, count)]

    def store(self, index: Expr, value: Expr, count: int = 1) -> None:
        """Set ``count`` elements from an index on."""
        T.buffer_store(self.buffer, value, [vector(index, count)])


class Block(ABC):
    """What a kernel body may do.

    Attributes:
        isa: how its warps multiply.
        index: which of the kernel's blocks.
        image: which image of the batch.
        inputs: uint8, of the whole batch.
        constants: as the kernel's.
        out: of the whole batch.
        shared: its shared memory, uint32.
        threads_count: threads of the block.
    """

    shared: Memory

    def __init__(
        self, kernel: Kernel, isa: InstructionSet, memories: Sequence[Memory], index: Expr, image: Expr
    ) -> None:
        count = len(kernel.inputs)
        self.isa = isa
        self.index = index
        self.image = image
        self.inputs = list(memories[:count])
        self.constants = list(memories[count:-1])
        self.out = memories[-1]
        self.threads_count = kernel.threads

    @abstractmethod
    def registers(self, count: int, dtype: str) -> Registers:
        """Registers that live from here to the end of the kernel."""

    @abstractmethod
    def region(self, barrier: bool = True) -> AbstractContextManager[None]:
        """Code between two barriers; ``barrier``: whether there is one after it."""

    @abstractmethod
    def threads(self) -> AbstractContextManager[Expr]:
        """Code of every thread; yields the thread's number."""

    @abstractmethod
    def unrolled(self, count: int) -> AbstractContextManager[Expr]:
        """A short loop, the same for every thread."""

    @abstractmethod
    def dot(self, activations: Expr, weights: Expr, total: Expr) -> Expr:
        """Add four products to ``total``: bytes of a uint32 times signed bytes of another."""

    @abstractmethod
    def byte_max(self, a: Expr, b: Expr) -> Expr:
        """The larger of each of the four bytes of two uint32."""

    @abstractmethod
    def permute_bytes(self, a: Expr, b: Expr, selector: int) -> Expr:
        """A uint32 of any bytes of two uint32: hexadecimal digit i of the selector is that of byte i, b's from 4 on."""

    @abstractmethod
    def atomic_add(self, index: Expr, value: Expr) -> None:
        """Add an int32 to an element of ``out``; other blocks may add to it at the same time."""

    @abstractmethod
    def multiply(self, acc: Registers, first: Expr, a: Registers, a_first: Expr, b: Registers, b_first: Expr) -> None:
        """``mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32`` of each warp: 4 += 4 x 2 registers a lane (PTX ISA)."""

    @contextmanager
    def strided(self, count: int, thread: Expr) -> Iterator[Expr]:
        """Divide ``count`` items among the threads; neighbours take neighbouring items."""
        steps = -(-count // self.threads_count)
        with self.unrolled(steps) as step:
            item = step * self.threads_count + thread
            with only(None if count % self.threads_count == 0 else item < count):
                yield item


@contextmanager
def only(*conditions: Expr | None) -> Iterator[None]:
    """Code for threads that fulfil all conditions; ``None`` is none."""
    with ExitStack() as stack:
        for condition in conditions:
            if condition is not None:
                stack.enter_context(T.If(condition))
                stack.enter_context(T.Then())
        yield


def vector(start: Expr, count: int) -> Expr:
    """Index of ``count`` neighbouring elements."""
    return T.ramp(start, 1, count) if count > 1 else start


def arguments(kernel: Kernel, batch: Expr) -> list[Expr]:
    """Buffers of a whole batch."""
    arguments = [T.arg(f"x{i}", T.Buffer((batch * size,), "uint8")) for i, size in enumerate(kernel.inputs)]
    arguments += [T.arg(f"c{i}", T.Buffer(array.shape, str(array.dtype))) for i, array in enumerate(kernel.constants)]
    size, dtype = kernel.out
    return [*arguments, T.arg("y", T.Buffer((batch * size,), dtype))]
