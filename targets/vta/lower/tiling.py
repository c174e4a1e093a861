"""Cuts layers into tiles: the cheapest candidate by an analytic form of the cycle model.

A layer takes as long as the busiest of the three modules and the bus; halos that are loaded twice, short rows,
latencies and pipeline fills count.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from operator import itemgetter

from squeezeedge.errors import UnsupportedError
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.lower.cost import ALU_START, BYTES_PER_CYCLE, LATENCY, ROW, row_cycles
from squeezeedge.targets.vta.lower.layers import AddLayer, ConvLayer, Part
from squeezeedge.targets.vta.lower.window import Window

__all__ = [
    "MOST_ROWS",
    "WEIGHTS_AT_ONCE",
    "AddTiling",
    "Limits",
    "Piece",
    "Tiling",
    "add_tiling",
    "check_taps",
    "chunk_inputs",
    "conv_tiling",
    "fragment",
    "input_cycles",
    "spans",
    "steps_down",
]

MOST_TAPS = (1 << 10) - 1
MOST_ROWS = 255
WEIGHTS_AT_ONCE = 96
"""Weight elements of one load: long enough to hide its latency, short enough to fit between the tiles' inputs."""


@dataclass(frozen=True)
class Limits:
    """What the instructions allow.

    Attributes:
        wide: output elements of a tile.
        blocks: output channel blocks whose parameters lie on the chip together.
        micro_ops: rows x blocks of a tile (micro-ops of one published GEMM).
        sums: whether matrix instructions of the head sum over the map and need no output elements.
        start: cycles of a sub-tile of a piece beside its steps and its loads.
    """

    wide: int
    blocks: int
    micro_ops: int
    sums: bool
    start: Callable[[Part, Piece], int]


def spans(total: int, step: int) -> list[tuple[int, int]]:
    """0..total in spans of at most ``step``, as equal as possible."""
    count = -(-total // step)
    edges = [total * index // count for index in range(count + 1)]
    return list(itertools.pairwise(edges))


@dataclass(frozen=True)
class Piece:
    """Output channel blocks of one convolution of a layer: ``part`` of the layer, blocks first..end."""

    part: int
    first: int
    end: int


@dataclass(frozen=True)
class Tiling:
    """Of a layer without pooling.

    For every chunk of weights, for every tile of rows x columns outputs (its input is loaded once), for every
    sub-tile of ``sub_rows``, for every piece of the chunk: one matrix instruction and its stores.
    """

    rows: int
    columns: int
    sub_rows: int
    chunks: tuple[tuple[Piece, ...], ...] = field(repr=False)


@dataclass(frozen=True)
class AddTiling:
    """Of an addition: blocks and outputs of a tile."""

    blocks: int
    rows: int
    columns: int


def fragment(parts: Sequence[Part]) -> int:
    """The most weight elements that can stay unused at the memory's end, where a load must not wrap."""
    return max(WEIGHTS_AT_ONCE, *(part.taps for part in parts), 0)


def _chunks(parts: Sequence[Part], most: int, geometry: Geometry, entries: int) -> tuple[tuple[Piece, ...], ...]:
    """Pieces of at most ``most`` blocks, in chunks of at most ``entries`` whose weights lie on the chip together."""
    depth = geometry.depth(Memory.WGT)
    whole = sum(part.taps * part.blocks for part in parts) + fragment(parts) <= depth
    budget = depth if whole else depth // 2
    selective = _selective(parts)
    chunks: list[list[Piece]] = [[]]
    weights = blocks = 0
    for index, part in enumerate(parts):
        fit = max(1, min(most, budget // part.taps, entries))
        for first, end in spans(part.blocks, fit):
            size = (end - first) * part.taps
            other = selective and first == 0
            if chunks[-1] and (other or weights + size > budget or blocks + end - first > entries):
                chunks.append([])
                weights = blocks = 0
            chunks[-1].append(Piece(index, first, end))
            weights += size
            blocks += end - first
    return tuple(map(tuple, chunks))


def chunk_inputs(parts: Sequence[Part], chunks: Sequence[Sequence[Piece]]) -> list[tuple[tuple[int, int], bool]]:
    """For each chunk: the range of source blocks (first, end) that it reads, and whether the next reads others."""
    found = []
    for chunk in chunks:
        own = [parts[piece.part].inputs(piece.first, piece.end) for piece in chunk]
        found.append((min(first for first, _ in own), max(end for _, end in own)))
    return [(own, own != after) for own, after in zip(found, [*found[1:], None], strict=True)]


@dataclass(frozen=True)
class _Cut:
    """A layer's chunks.

    Attributes:
        chunks: as of :class:`Tiling`.
        pieces: of all chunks.
        start: cycles of a sub-tile of all pieces beside their steps.
        reads: blocks of the source that a chunk reads -> how many chunks read so many.
        fresh: the same, of those chunks that do not read what the chunk before read.
    """

    chunks: tuple[tuple[Piece, ...], ...]
    pieces: list[Piece]
    start: int
    reads: Counter[int]
    fresh: Counter[int]


def _cut(parts: Sequence[Part], most: int, geometry: Geometry, limits: Limits, entries: int) -> _Cut:
    chunks = _chunks(parts, most, geometry, entries)
    inputs = chunk_inputs(parts, chunks)
    pieces = [piece for chunk in chunks for piece in chunk]
    return _Cut(
        chunks,
        pieces,
        sum(limits.start(parts[piece.part], piece) for piece in pieces),
        Counter(end - first for (first, end), _ in inputs),
        Counter(end - first for (first, end), last in inputs if last),
    )


def _selective(parts: Sequence[Part]) -> bool:
    """Whether some output blocks read different source blocks than others."""
    return len({(part.depth, first) for part in parts for first in part.first}) > 1


def check_taps(layer: ConvLayer, geometry: Geometry) -> None:
    """Refuse a layer where the data of a single output exceed the memories.

    Raises:
        UnsupportedError: its weights or its input are more than fit.
    """
    most = min(MOST_TAPS, geometry.depth(Memory.WGT), geometry.depth(Memory.INP))
    for part in layer.parts:
        if part.taps > most:
            kernel = f"{part.kernel[0]}x{part.kernel[1]}"
            raise UnsupportedError(
                f"{layer.name}: one output needs {part.taps} weight and input elements ({kernel}, "
                f"{part.depth} blocks of {geometry.block} channels); the weight memory holds "
                f"{geometry.depth(Memory.WGT)}, the input memory {geometry.depth(Memory.INP)}, a reduction at most "
                f"{MOST_TAPS}; at most {most // (part.kernel[0] * part.kernel[1]) * geometry.block} input channels fit"
            )


def steps_down(total: int, most: int) -> Iterator[int]:
    """Sizes that cut ``total`` evenly, from the largest that is at most ``most`` down."""
    last = 0
    for count in range(1, total + 1):
        size = -(-total // count)
        if size <= most and size != last:
            last = size
            yield size


def input_cycles(window: Window, blocks: int, rows: int, columns: int) -> int:
    """Cycles of loading the input of rows x columns outputs, of so many blocks of the source."""
    height, width = window.rows(rows), window.columns(columns)
    dense = width == window.source.pitch or (height == 1 and width <= window.source.width)
    padded = window.width > 1 or window.height > 1
    if dense and not padded:
        return 4 + LATENCY + blocks * row_cycles(height * width, window.block)
    return blocks * (4 + LATENCY + height * (row_cycles(width, window.block) + 2))


def conv_tiling(layer: ConvLayer, geometry: Geometry, limits: Limits) -> Tiling:
    """Tiles of a layer without pooling.

    Raises:
        UnsupportedError: not even one output fits.
    """
    check_taps(layer, geometry)
    window, depth = Window.of(layer, layer.parts), geometry.depth(Memory.INP)
    for limit in (depth // 2, depth):
        found = [
            candidate
            for together in _together(layer.parts, limits.blocks)
            if (candidate := _cheapest(layer, geometry, limits, limit, together)) is not None
        ]
        if found:
            return min(found, key=itemgetter(0))[1]
    least = window.only(0, max(part.most_inputs(1) for part in layer.parts)).elements(1, 1)
    raise UnsupportedError(
        f"{layer.name}: one output needs {least} elements of the input memory, it has {depth}; "
        "use a configuration with a larger inp_buffer"
    )


def _together(parts: Sequence[Part], most: int) -> Sequence[int]:
    """Candidates for the output blocks of a chunk: all that fit, or also fewer where these read fewer source blocks."""
    if not _selective(parts):
        return (most,)
    return list(steps_down(max(part.blocks for part in parts), most))


def _cheapest(
    layer: ConvLayer, geometry: Geometry, limits: Limits, most: int, together: int
) -> tuple[float, Tiling] | None:
    """The cheapest tiling with ``most`` elements of input at once and ``together`` output blocks in a chunk."""
    window = Window.of(layer, layer.parts)
    read = window.only(0, max(part.most_inputs(together) for part in layer.parts))
    cut = cache(partial(_cut, tuple(layer.parts), geometry=geometry, limits=limits, entries=together))
    best: tuple[float, Tiling] | None = None
    for columns in steps_down(layer.width, 2047):
        if read.elements(1, columns) > most:
            continue
        for rows in steps_down(layer.height, MOST_ROWS):
            if read.elements(rows, columns) > most:
                continue
            for sub_rows, blocks in _sub_tiles(layer, geometry, rows, columns, limits):
                candidate = Tiling(rows, columns, sub_rows, cut(blocks).chunks)
                cost = _conv_cost(layer, geometry, window, candidate, cut(blocks))
                if best is None or cost < best[0]:
                    best = cost, candidate
        if best is not None and columns < layer.width // 4:
            break
    return best


def _sub_tiles(
    layer: ConvLayer, geometry: Geometry, rows: int, columns: int, limits: Limits
) -> Iterator[tuple[int, int]]:
    """Rows of a sub-tile and most blocks of a piece."""
    seen = set()
    summed = layer.head and limits.sums
    if summed and rows * columns > geometry.depth(Memory.ACC):
        return  # more outputs than one instruction may have
    for sub_rows in [rows] if summed else list(steps_down(rows, rows))[:6]:
        most = limits.blocks if summed else limits.wide // (sub_rows * columns)
        most = min(most, limits.blocks, limits.micro_ops // sub_rows)
        for blocks in (most, most // 2, most // 4):
            if blocks and (sub_rows, blocks) not in seen:
                seen.add((sub_rows, blocks))
                yield sub_rows, blocks


def _conv_cost(layer: ConvLayer, geometry: Geometry, window: Window, tiling: Tiling, cut: _Cut) -> float:
    strips, bands = -(-layer.width // tiling.columns), -(-layer.height // tiling.rows)
    tiles = strips * bands
    subs = tiles * -(-tiling.rows // tiling.sub_rows)
    pieces = cut.pieces
    outputs = layer.height * layer.width
    compute = sum(outputs * part.taps * part.blocks for part in layer.parts) + subs * cut.start
    weights = (
        sum(part.taps * part.blocks * window.block**2 // BYTES_PER_CYCLE for part in layer.parts)
        + len(pieces) * LATENCY
    )
    tile = max(input_cycles(window, blocks, tiling.rows, tiling.columns) for blocks in cut.reads)
    reads = cut.reads if tiles > 1 else cut.fresh
    loads = (times * input_cycles(window, blocks, tiling.rows, tiling.columns) for blocks, times in reads.items())
    load = tiles * sum(loads) + weights
    store = 0.0
    if not layer.head:
        dense = tiling.columns == layer.width
        rows = 1 if dense else tiling.sub_rows
        size = tiling.sub_rows * tiling.columns // rows
        for piece in pieces:
            blocks = piece.end - piece.first
            calls = 1 if dense else blocks
            store += subs * (calls * 4 + LATENCY + blocks * rows * row_cycles(size, window.block))
    # not hidden: part of the first tile's load and of the last sub-tile's store
    edge = 0.25 * tile + (store / (subs * len(pieces)) * 0.5)
    if sum(part.taps * part.blocks for part in layer.parts) > geometry.depth(Memory.WGT) // 2:
        # the first piece's weights, which find no room beside those of the layer before
        first = pieces[0]
        edge += layer.parts[first.part].taps * (first.end - first.first) * window.block**2 / BYTES_PER_CYCLE
    few = 0.01 * (compute + load + store)  # of two that take equally long, the one with less to do
    return max(compute, load, store, 0.95 * (load + store)) + edge + few


def add_tiling(layer: AddLayer, geometry: Geometry, *, outputs: int, most_blocks: int) -> AddTiling:
    """Tiles of an addition: two operands, double-buffered.

    Args:
        layer: the layer.
        geometry: of the accelerator.
        outputs: output elements of a tile.
        most_blocks: channel blocks whose parameters may lie on the chip.
    """
    target = layer.target
    most = min(geometry.depth(Memory.INP) // 4, outputs)
    best: tuple[float, AddTiling] | None = None
    for columns in steps_down(target.width, most):
        for rows in steps_down(target.height, most // columns):
            blocks = min(most // (rows * columns), len(target.origins), most_blocks)
            groups = -(-len(target.origins) // blocks)
            tiles = -(-target.width // columns) * -(-target.height // rows) * groups
            calls = 1 if columns == target.pitch else blocks
            cost = tiles * (ALU_START + calls * 3 * LATENCY + (rows if calls > 1 else 1) * ROW * blocks)
            if best is None or cost < best[0]:
                best = cost, AddTiling(blocks, rows, columns)
    assert best is not None
    return best[1]
