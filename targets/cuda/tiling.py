"""How a convolution is divided among blocks and warps.

Nothing here was measured on a GPU: :func:`choose_tile` compares candidates by a rough estimate of cycles.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from squeezeedge.graph.rules import Shape
from squeezeedge.targets.cuda.grid import WARP, Expr

__all__ = [
    "CHANNEL_TILES",
    "GROUP_WORDS",
    "SHARED_BYTES",
    "STEP_BYTES",
    "STEP_WORDS",
    "THREADS",
    "TILES",
    "WORD",
    "ChannelPlan",
    "ChannelTile",
    "Plan",
    "Tile",
    "choose_channel_tile",
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
INTEGER_CYCLES = 0.5
"""Of a warp's integer instruction, such as a permutation of bytes or a dot product."""
DEPENDENT_CYCLES = 2
"""Of an instruction where a warp is alone."""
LOAD, RESULT, THREAD = 4, 20, 40
"""Instructions of a depthwise convolution: of a load with its address and mask, of four results, of a thread."""
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
        """Words from one pixel to the next; one extra group makes neighbours start in different banks."""
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
    """Divide a reduction of so many steps into chunks of equal size; they fit if one round of the warps fits."""
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


WORD = 4
"""Channels that a thread of a depthwise convolution computes: the bytes of one load."""
MOST_UNROLLED = 20
"""Most quads of a thread that are written one after the other; more are a loop, which waits for memory in each step."""
MOST_REGISTERS = 96
"""Most that hold sums and weights: with addresses and pixels, four blocks fit a multiprocessor."""


@dataclass(frozen=True)
class ChannelTile:
    """What a thread of a depthwise convolution computes, for four channels.

    Attributes:
        rows: of output pixels; 1 where there are several parts.
        columns: of output pixels.
        parts: threads among which the kernel's rows are divided; their sums are added at the end.
    """

    rows: int
    columns: int
    parts: int = 1


CHANNEL_TILES = (
    *(ChannelTile(rows, columns) for rows, columns in product((1, 2, 4), (1, 2, 4))),
    *(ChannelTile(1, columns, parts) for columns, parts in product((1, 2, 4), (2, 4, 8, 16))),
)
"""Those that are considered."""


@dataclass(frozen=True)
class ChannelPlan:
    """How a depthwise convolution is divided among threads.

    A thread goes through the rows of its tile's window, each in quads: four neighbouring columns. A block has
    neighbouring words of channels, ``lanes`` of them, of neighbouring tiles.

    Attributes:
        tile: of a thread.
        channels: of the output.
        kernel: height, width.
        stride: vertical, horizontal.
    """

    tile: ChannelTile
    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]

    @property
    def words(self) -> int:
        """Groups of four channels."""
        return -(-self.channels // WORD)

    @property
    def lanes(self) -> int:
        """Words of a block: 32 bytes of a pixel, the least that a load from memory takes, or all if it has fewer."""
        return 8 if self.words > 4 else 4

    @property
    def filled_channels(self) -> int:
        """Channels of the constants."""
        return -(-self.words // self.lanes) * self.lanes * WORD

    @property
    def block_tiles(self) -> int:
        """Tiles of a block."""
        return THREADS // (self.lanes * self.tile.parts)

    @property
    def window_columns(self) -> int:
        """Input columns of a tile."""
        return (self.tile.columns - 1) * self.stride[1] + self.kernel[1]

    @property
    def quads(self) -> int:
        """Of a row of a tile's window."""
        return -(-self.window_columns // 4)

    @property
    def kernel_rows(self) -> int:
        """Rows of the kernel, filled up for its parts."""
        return -(-self.kernel[0] // self.tile.parts) * self.tile.parts

    @property
    def steps(self) -> int:
        """Input rows of a thread."""
        return ((self.tile.rows - 1) * self.stride[0] + self.kernel_rows) // self.tile.parts

    @property
    def unrolled(self) -> bool:
        """Whether a thread's quads are written one after the other."""
        return self.steps * self.quads <= MOST_UNROLLED

    @property
    def accumulators(self) -> int:
        """Registers of a thread that hold sums."""
        return WORD * self.tile.rows * self.tile.columns

    @property
    def held(self) -> int:
        """Registers of a thread that hold weights from its beginning, where several rows use them; otherwise 0."""
        return WORD * self.kernel_rows * self.quads * self.tile.columns if self.tile.rows > 1 else 0

    @property
    def shared(self) -> int:
        """Words of shared memory: the sums of every part."""
        return THREADS * self.accumulators if self.tile.parts > 1 else 0

    def across(self, out: Shape) -> int:
        """Tiles side by side."""
        return -(-out.width // self.tile.columns)

    def tiles(self, out: Shape) -> int:
        """Tiles of a map."""
        return -(-out.height // self.tile.rows) * self.across(out)

    def tile_blocks(self, out: Shape) -> int:
        """Blocks over the tiles."""
        return -(-self.tiles(out) // self.block_tiles)

    def blocks(self, out: Shape) -> int:
        """Thread blocks of an image."""
        return self.tile_blocks(out) * -(-self.words // self.lanes)

    def last(self, out: Shape, axis: int) -> int:
        """Last row or column of the last tile's window, which may be one of a pixel that does not exist."""
        each, taps = ((self.tile.rows, self.kernel_rows), (self.tile.columns, self.kernel[1]))[axis]
        return (-(-out[axis] // each) * each - 1) * self.stride[axis] + taps - 1


def _channel_cycles(plan: ChannelPlan, out: Shape) -> float:
    """Estimated cycles an image, summed over BATCHES."""
    tile = plan.tile
    windows = [(j * plan.stride[1], j * plan.stride[1] + plan.kernel[1] - 1) for j in range(tile.columns)]
    words = sum(last // 4 - first // 4 + 1 for first, last in windows) * plan.kernel_rows // tile.parts
    loads = plan.steps * plan.window_columns
    weights = words + tile.parts * plan.accumulators * (tile.parts > 1)
    permutations = 2 * WORD * plan.steps * plan.quads
    products = WORD * words * tile.rows
    instructions = THREAD + RESULT * tile.rows * tile.columns + LOAD * loads + permutations + weights + products
    waits = 2 + (0 if plan.unrolled else plan.steps * plan.quads)
    one = LATENCY * waits + DEPENDENT_CYCLES * instructions
    busy = INTEGER_CYCLES * WARPS * instructions
    resident = MOST_BLOCKS // (4 if plan.held or plan.accumulators > 32 else 2)
    total = 0.0
    for batch in BATCHES:
        each = -(-plan.blocks(out) * batch // MULTIPROCESSORS)
        total += max(-(-each // resident) * one, each * busy) / batch
    return total


def choose_channel_tile(out: Shape, kernel: tuple[int, int], stride: tuple[int, int]) -> ChannelPlan:
    """The candidate of a depthwise convolution with the smallest estimate.

    Args:
        out: shape of the output.
        kernel: height, width.
        stride: vertical, horizontal.
    """
    plans = [ChannelPlan(tile, out.channels, kernel, stride) for tile in CHANNEL_TILES]
    fitting = [
        plan
        for plan in plans
        if plan.tile.rows == 1 or (plan.unrolled and plan.held + plan.accumulators <= MOST_REGISTERS)
    ]
    return min(fitting, key=lambda plan: _channel_cycles(plan, out))
