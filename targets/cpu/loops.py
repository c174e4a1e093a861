"""Small pieces that the kernel generators share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tvm.script.ir_builder import tirx as T

from squeezeedge.targets.cpu.layout import CACHE_LINE

__all__ = ["Expr", "broadcast_word", "clamped_tiles", "lanes", "loop", "scratch"]

Expr = Any
"""An int or a TVM expression; TVM's classes are untyped."""


def scratch(size: int, dtype: str) -> Expr:
    """A buffer on the stack, or in registers where every index is known.

    Without the annotation TVM would ask the runtime for it in every call.
    """
    return T.alloc_buffer((size,), dtype, scope="local", align=CACHE_LINE, annotations={"disable_lower_builtin": True})


def lanes(start: Expr, count: int) -> Expr:
    """Index of ``count`` neighbouring elements."""
    return T.ramp(start, 1, count) if count > 1 else start


def broadcast_word(data: Expr, address: Expr, count: int) -> Expr:
    """Four bytes at an address of a buffer as int32, ``count`` times."""
    return T.broadcast(T.reinterpret("int32", data[T.ramp(address, 1, 4)]), count)


@contextmanager
def loop(count: int, parallel: bool = False) -> Iterator[Expr]:
    """A loop, or just its body where there is one iteration."""
    if count == 1:
        yield 0
    else:
        with T.parallel(0, count) if parallel else T.serial(0, count) as i:
            yield i


def clamped_tiles(extent: int, size: int) -> tuple[int, Callable[[Expr], Expr]]:
    """How many tiles cover an extent, and the start of the i-th; the last one ends where the extent does."""
    count = -(-extent // size)
    if count * size == extent:
        return count, lambda i: i * size
    return count, lambda i: T.min(i * size, extent - size)
