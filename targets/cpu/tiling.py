"""What a convolution computes at a time: a tile of accumulators, and what its sums are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from squeezeedge.targets.cpu.loops import Expr, loop

__all__ = ["UNROLL", "Accumulators", "Operands", "Tile", "covers"]

UNROLL = 4
"""Reduction steps; more cost a factor of two."""

Accumulators = Callable[[int, int, int], Expr]
"""(row, pixel, block) of a tile -> its sums, an int32 vector of ``lanes``."""


@dataclass(frozen=True)
class Tile:
    """Output pixels and channels whose accumulators are held during the reduction.

    Attributes:
        rows: output rows.
        pixels: neighbouring output pixels of each row.
        blocks: blocks of ``lanes`` output channels.
    """

    rows: int
    pixels: int
    blocks: int


@dataclass(frozen=True, eq=False)
class Operands:
    """What the sums of one tile are made of: buffers, and offsets in them.

    Attributes:
        data: buffer of the input, uint8.
        start: byte of the first pixel's window.
        down: bytes from the window of an output pixel to that of the one below.
        right: to that of the next one.
        row: bytes from one row of a window to the next.
        rows: rows of a window.
        steps: reduction steps of a window's row.
        group: bytes of a step.
        weights: buffer of weights, int8.
        weight: the tile's first; the first of all tiles where there is a plan.
        parameters: buffer of biases, shifts and plans, int32.
        parameter: the tile's first.
        plan: where the plan of all tiles begins in the parameters, if there is one.
        index: the tile's number, in the plan.
    """

    data: Expr
    start: Expr
    down: int
    right: int
    row: int
    rows: int
    steps: int
    group: int
    weights: Expr
    weight: Expr
    parameters: Expr
    parameter: Expr
    plan: Expr
    index: Expr

    def reduce(self, step: Callable[[Expr, Expr], None], unroll: int = UNROLL) -> None:
        """Call ``step(window row, step of the row)`` for the whole reduction, so many steps in one iteration."""
        with loop(self.rows) as row:
            whole = self.steps // unroll if self.steps > unroll else 0
            if whole:
                with loop(whole) as i:
                    for k in range(unroll):
                        step(row, i * unroll + k)
            for k in range(whole * unroll, self.steps):
                step(row, k)

    def reduce_chunks(self, most: int, chunk: Callable[[Expr, Expr, int], None]) -> None:
        """Call ``chunk(window row, first step, number of steps)``: ``most`` steps of a row, the last time the rest."""
        whole, rest = divmod(self.steps, most)
        with loop(self.rows) as row:
            if whole:
                with loop(whole) as i:
                    chunk(row, i * most, most)
            if rest:
                chunk(row, whole * most, rest)


def covers(height: int, width: int, limit: int) -> Iterator[tuple[int, int, int]]:
    """Tiles of one or two rows and at most ``limit`` pixels: (how many of them cover a map, rows, pixels)."""
    for rows in range(1, min(height, 2, limit) + 1):
        for pixels in range(1, min(width, limit // rows) + 1):
            yield -(-height // rows) * -(-width // pixels), rows, pixels
