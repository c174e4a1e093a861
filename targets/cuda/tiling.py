"""How a convolution is divided among blocks and warps.

Nothing here was measured on a GPU: :func:`choose_tile` compares candidates by a rough estimate of cycles.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from squeezeedge.targets.cuda.grid import WARP, Expr

__all__ = [
    "GROUP_WORDS",
    "SHARED_BYTES",
    "STEP_BYTES",
    "STEP_WORDS",
    "THREADS",
    "TILES",
    "Plan",
    "Tile",
    "choose_tile",
    "divide",
]

GROUP_WORDS = 4
"""Words of a group: 16 bytes, what one lane loads at once."""
STEP_BYTES = 32
"""Bytes of each pixel that one matrix instruction takes."""
STEP_WORDS = STEP_BYTES // 4
WARPS = 4
THREADS = WARPS * WARP
"""Of every convolution's blocks, so that several convolutions can share a kernel."""
SPARE_WORDS = THREADS * GROUP_WORDS
"""Of shared memory: a group for each thread (see :mod:`.loading`)."""
SHARED_BYTES = 32 * 1024
"""Most of a block: two blocks fit the smallest multiprocessor (sm_75: 64 KiB), seven an H100's."""

# The estimate's machine: an H100 (132 multiprocessors, 227 KiB of shared memory and 64 warps each), cycles.
MULTIPROCESSORS = 132
SHARED_OF_MULTIPROCESSOR = 227 * 1024
MOST_BLOCKS = 16
LATENCY = 800
"""Of one round of loads and of what follows it."""
BYTES_PER_CYCLE = 32
CYCLES_PER_MULTIPLY = 8
BATCHES = (1, 256)
"""The batch sizes that count, each as much as the other, per image."""


@dataclass(frozen=True)
class Tile:
    """What a block of four warps computes at a time.

    Attributes:
        warp_rows: warps side by side along the pixels.
        warp_columns: along the output channels.
        warp_steps: along the reduction; their sums are added at the end.
        row_tiles: 16 pixels each, of a warp.
        column_tiles: 8 output channels each, of a warp: 2 or 4.
    """

    warp_rows: int
    warp_columns: int
    warp_steps: int
    row_tiles: int
    column_tiles: int

    @property
    def rows(self) -> int:
        """Pixels of a block."""
        return self.warp_rows * self.row_tiles * 16

    @property
    def columns(self) -> int:
        """Output channels of a block."""
        return self.warp_columns * self.column_tiles * 8

    @property
    def accumulators(self) -> int:
        """Registers of a lane that hold sums."""
        return 4 * self.row_tiles * self.column_tiles

    @property
    def lane_channels(self) -> int:
        """Neighbouring output channels of one lane."""
        return 2 * self.column_tiles

    def warp(self, number: Expr) -> tuple[Expr, Expr, Expr]:
        """Position of a warp along (pixels, channels, reduction)."""
        inner = self.warp_rows * self.warp_columns
        return number % inner // self.warp_columns, number % self.warp_columns, number // inner


TILES = tuple(
    Tile(*warps, rows, columns)
    for warps, rows, columns in product(
        [(4, 1, 1), (2, 2, 1), (1, 4, 1), (1, 2, 2), (2, 1, 2), (1, 1, 4)], (1, 2), (2, 4)
    )
)
"""Those that are considered."""


@dataclass(frozen=True)
class Plan:
    """A tile and how the reduction goes through shared memory.

    Attributes:
        tile: the tile.
        steps: of 32 bytes, of a chunk; a multiple of the tile's ``warp_steps``.
        chunks: loads of shared memory.
    """

    tile: Tile
    steps: int
    chunks: int

    @property
    def pitch(self) -> int:
        """Words from one pixel to the next; the group more makes neighbours start in different banks."""
        return self.steps * STEP_WORDS + GROUP_WORDS

    @property
    def pixel_words(self) -> int:
        """Words of a chunk's pixels."""
        return self.tile.rows * self.pitch

    @property
    def spare(self) -> int:
        """First of ``SPARE_WORDS`` behind a chunk's operands."""
        return self.pixel_words + self.tile.columns * self.steps * STEP_WORDS

    @property
    def shared(self) -> int:
        """Words of shared memory: a chunk's operands, or afterwards the sums of the warps along the reduction."""
        sums = (self.tile.warp_steps - 1) * self.tile.rows * self.tile.columns
        return max(self.spare + SPARE_WORDS, sums)


def divide(tile: Tile, steps: int) -> Plan:
    """Divide a reduction of so many steps into chunks of equal size, which fit if one round of the warps does."""
    room = SHARED_BYTES // 4 - SPARE_WORDS - tile.rows * GROUP_WORDS
    most = max(room // ((tile.rows + tile.columns) * STEP_WORDS) // tile.warp_steps, 1) * tile.warp_steps
    chunks = -(-steps // most)
    each = -(-steps // chunks)
    each = -(-each // tile.warp_steps) * tile.warp_steps
    return Plan(tile, each, -(-steps // each))


def _cycles(plan: Plan, pixels: int, channels: int) -> float:
    """Estimated cycles an image, summed over BATCHES."""
    tile = plan.tile
    blocks = -(-pixels // tile.rows) * -(-channels // tile.columns)
    bytes_ = (tile.rows + tile.columns) * plan.steps * STEP_BYTES
    multiplies = tile.row_tiles * tile.column_tiles * plan.steps // tile.warp_steps * WARPS
    chunk = LATENCY + bytes_ / BYTES_PER_CYCLE + multiplies * CYCLES_PER_MULTIPLY / WARPS
    one = LATENCY + plan.chunks * chunk
    resident = min(MOST_BLOCKS, SHARED_OF_MULTIPROCESSOR // (plan.shared * 4))
    busy = bytes_ / BYTES_PER_CYCLE * plan.chunks
    total = 0.0
    for batch in BATCHES:
        each = -(-blocks * batch // MULTIPROCESSORS)
        total += max(-(-each // resident) * one, each * busy) / batch
    return total


def choose_tile(pixels: int, channels: int, steps: int) -> Plan:
    """The candidate with the smallest estimate.

    Args:
        pixels: of the output map.
        channels: of the output.
        steps: of 32 bytes, of the reduction.
    """
    plans = [divide(tile, steps) for tile in TILES]
    fitting = [plan for plan in plans if plan.shared * 4 <= SHARED_BYTES]
    return min(fitting, key=lambda plan: _cycles(plan, pixels, channels))
