"""How a layer is cut into tiles: the cheapest of all candidates by the cycle model, analytically.

A layer takes as long as the busiest of the three modules and the bus; halos that are loaded twice, short rows,
latencies and pipeline fills count.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from operator import itemgetter

from squeezeedge.errors import UnsupportedError
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.lower.cost import ALU_START, BYTES_PER_CYCLE, GEMM_START, LATENCY, ROW, row_cycles
from squeezeedge.targets.vta.lower.layers import AddLayer, ConvLayer, Part
from squeezeedge.targets.vta.lower.window import Window

__all__ = [
    "WEIGHTS_AT_ONCE",
    "AddTiling",
    "FlatPoolTiling",
    "Limits",
    "Piece",
    "PoolTiling",
    "Tiling",
    "add_tiling",
    "chunk_inputs",
    "conv_tiling",
    "flat_pool_tiling",
    "pool_tiling",
    "spans",
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
        start: cycles of a tile beside its steps and its loads.
    """

    wide: int
    blocks: int
    micro_ops: int
    sums: bool
    start: int


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
class PoolTiling:
    """Of one convolution with the pooling behind it.

    For every group of output blocks, for every strip of columns (in pooled columns), row by row: the input of
    ``steps`` steps is loaded at once; a step makes ``rows`` pooled rows. The convolution's rows lie in a ring, so none
    is computed twice in a strip.
    """

    group: int
    columns: int
    rows: int
    steps: int


@dataclass(frozen=True)
class AddTiling:
    """Of an addition: blocks and outputs of a tile."""

    blocks: int
    rows: int
    columns: int


@dataclass(frozen=True)
class FlatPoolTiling:
    """Of one convolution with the pooling behind it, without a ring: ``group`` blocks, ``rows`` x ``columns`` pooled.

    Rows and columns of windows that overlap a neighbouring tile are computed twice.
    """

    group: int
    rows: int
    columns: int


def _fragment(parts: Sequence[Part]) -> int:
    """Most weight elements that can be left over at the memory's end, where a load must not wrap."""
    return max(WEIGHTS_AT_ONCE, *(part.taps for part in parts), 0)


def _chunks(parts: Sequence[Part], most: int, geometry: Geometry, entries: int) -> tuple[tuple[Piece, ...], ...]:
    """Pieces of at most ``most`` blocks, in chunks of at most ``entries`` whose weights lie on the chip together."""
    depth = geometry.depth(Memory.WGT)
    whole = sum(part.taps * part.blocks for part in parts) + _fragment(parts) <= depth
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


def chunk_inputs(
    parts: Sequence[Part], chunks: Sequence[Sequence[Piece]]
) -> list[tuple[tuple[int, int], bool]]:
    """For each chunk: the blocks of the source, first and end, that it reads, and whether the next reads others."""
    found = []
    for chunk in chunks:
        own = [parts[piece.part].inputs(piece.first, piece.end) for piece in chunk]
        found.append((min(first for first, _ in own), max(end for _, end in own)))
    return [(own, own != after) for own, after in zip(found, [*found[1:], None], strict=True)]


def _selective(parts: Sequence[Part]) -> bool:
    """Whether not all output blocks read the same blocks of the source."""
    return len({(part.depth, first) for part in parts for first in part.first}) > 1


def _check_taps(layer: ConvLayer, geometry: Geometry) -> None:
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


def _steps_down(total: int, most: int) -> Iterator[int]:
    """Sizes that cut ``total`` evenly, from the largest that is at most ``most`` down."""
    last = 0
    for count in range(1, total + 1):
        size = -(-total // count)
        if size <= most and size != last:
            last = size
            yield size


def _load_cycles(window: Window, rows: int, columns: int) -> int:
    height, width = window.rows(rows), window.columns(columns)
    blocks = len(window.source.origins)
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
    _check_taps(layer, geometry)
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
    """How many output blocks a chunk may have: all that fit, unless fewer of them read fewer blocks of the source."""
    if not _selective(parts):
        return (most,)
    return list(_steps_down(max(part.blocks for part in parts), most))


def _cheapest(
    layer: ConvLayer, geometry: Geometry, limits: Limits, most: int, together: int
) -> tuple[float, Tiling] | None:
    """The cheapest tiling with ``most`` elements of input at once and ``together`` output blocks in a chunk."""
    window = Window.of(layer, layer.parts)
    read = window.only(0, max(part.most_inputs(together) for part in layer.parts))
    chunks = cache(partial(_chunks, tuple(layer.parts), geometry=geometry, entries=together))
    best: tuple[float, Tiling] | None = None
    for columns in _steps_down(layer.width, 2047):
        if read.elements(1, columns) > most:
            continue
        for rows in _steps_down(layer.height, MOST_ROWS):
            if read.elements(rows, columns) > most:
                continue
            for candidate in _sub_tiles(layer, geometry, rows, columns, limits, chunks):
                cost = _conv_cost(layer, geometry, window, candidate, limits)
                if best is None or cost < best[0]:
                    best = cost, candidate
        if best is not None and columns < layer.width // 4:
            break
    return best


def _sub_tiles(
    layer: ConvLayer,
    geometry: Geometry,
    rows: int,
    columns: int,
    limits: Limits,
    chunks: Callable[[int], tuple[tuple[Piece, ...], ...]],
) -> Iterator[Tiling]:
    seen = set()
    summed = layer.head and limits.sums
    if summed and rows * columns > geometry.depth(Memory.ACC):
        return  # more outputs than one instruction may have
    for sub_rows in [rows] if summed else list(_steps_down(rows, rows))[:6]:
        most = limits.blocks if summed else limits.wide // (sub_rows * columns)
        most = min(most, limits.blocks, limits.micro_ops // sub_rows)
        for blocks in (most, most // 2, most // 4):
            if blocks and (sub_rows, blocks) not in seen:
                seen.add((sub_rows, blocks))
                yield Tiling(rows, columns, sub_rows, chunks(blocks))


def _conv_cost(layer: ConvLayer, geometry: Geometry, window: Window, tiling: Tiling, limits: Limits) -> float:
    strips, bands = -(-layer.width // tiling.columns), -(-layer.height // tiling.rows)
    tiles = strips * bands
    subs = tiles * -(-tiling.rows // tiling.sub_rows)
    pieces = [piece for chunk in tiling.chunks for piece in chunk]
    outputs = layer.height * layer.width
    starts = sum(1 for piece in pieces for _ in layer.parts[piece.part].alike(piece.first, piece.end))
    compute = sum(outputs * part.taps * part.blocks for part in layer.parts) + subs * starts * limits.start
    weights = (
        sum(part.taps * part.blocks * window.block**2 // BYTES_PER_CYCLE for part in layer.parts)
        + len(pieces) * LATENCY
    )
    inputs = chunk_inputs(layer.parts, tiling.chunks)
    loads = [_load_cycles(window.only(*own), tiling.rows, tiling.columns) for own, last in inputs if last or tiles > 1]
    tile = loads[0]
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
    # what nothing hides: part of the first tile's load, and of the last sub-tile's store
    edge = 0.25 * tile + (store / (subs * len(pieces)) * 0.5)
    if sum(part.taps * part.blocks for part in layer.parts) > geometry.depth(Memory.WGT) // 2:
        # the first piece's weights, which find no room beside those of the layer before
        first = pieces[0]
        edge += layer.parts[first.part].taps * (first.end - first.first) * window.block**2 / BYTES_PER_CYCLE
    few = 0.01 * (compute + load + store)  # of two that take equally long, the one with less to do
    return max(compute, load, store, 0.95 * (load + store)) + edge + few


def pool_tiling(layer: ConvLayer, part: Part, geometry: Geometry) -> PoolTiling:
    """Tiles of one convolution with the pooling behind it, in extended instructions.

    Raises:
        UnsupportedError: not even one pooled output fits.
    """
    assert layer.pool is not None
    _check_taps(layer, geometry)
    window, pool = Window.of(layer, [part]), layer.pool
    depth, ring = geometry.depth(Memory.INP), geometry.depth(Memory.OUT)
    pooled_h, pooled_w = layer.out.height, layer.out.width
    best: tuple[float, PoolTiling] | None = None
    for overlap in (True, False):
        for columns in list(_steps_down(pooled_w, pooled_w)):
            wide = min((columns - 1) * pool.stride[1] + pool.kernel[1], layer.width)
            for group in _steps_down(
                part.blocks, min(geometry.par_entries // 2, geometry.depth(Memory.WGT) // part.taps)
            ):
                room = ring // group // wide  # rows of the ring
                read = window.only(0, part.most_inputs(group))
                for rows in range(1, min(pooled_h, 32) + 1):
                    fresh, kept = rows * pool.stride[0], max(pool.kernel[0] - pool.stride[0], 0)
                    if room < fresh * (2 if overlap else 1) + kept or fresh + kept > MOST_ROWS:
                        break
                    for steps in range(1, -(-pooled_h // rows) + 1):
                        tall = min(fresh * steps + kept, layer.height)
                        if read.elements(tall, wide) > (depth // 2 if overlap else depth):
                            break
                        candidate = PoolTiling(group, columns, rows, steps)
                        cost = _pool_cost(layer, part, read, candidate)
                        if best is None or cost < best[0]:
                            best = cost, candidate
        if best is not None:
            return best[1]
    least = window.only(0, part.most_inputs(1)).elements(*pool.kernel)
    raise UnsupportedError(
        f"{layer.name}: one window of the {pool.kernel[0]}x{pool.kernel[1]} pooling does not fit into the output "
        f"memory of {ring} elements or its input of {least} into {depth}; "
        "use a configuration with larger ones"
    )


def _pool_cost(layer: ConvLayer, part: Part, window: Window, tiling: PoolTiling) -> float:
    pool = layer.pool
    assert pool is not None
    strips, groups = -(-layer.out.width // tiling.columns), -(-part.blocks // tiling.group)
    wide = min((tiling.columns - 1) * pool.stride[1] + pool.kernel[1], layer.width)
    steps = -(-layer.out.height // tiling.rows)
    tiles = -(-steps // tiling.steps)
    compute = strips * (layer.height * wide * part.taps * part.blocks + groups * steps * GEMM_START)
    fresh = tiling.rows * tiling.steps * pool.stride[0]
    tile = _load_cycles(window, min(fresh, layer.height), wide)
    load = groups * strips * tiles * tile + part.taps * part.blocks * window.block**2 // BYTES_PER_CYCLE
    taps = max(pool.kernel[0], 2)
    store = strips * part.blocks * (steps * (4 + LATENCY / tiling.group) + layer.out.height * (taps * wide + ROW + 2))
    bus = load + strips * part.blocks * layer.out.height * tiling.columns * 2
    return max(compute, load, store, bus) + 0.25 * tile


def flat_pool_tiling(layer: ConvLayer, part: Part, geometry: Geometry, limits: Limits) -> FlatPoolTiling:
    """Tiles of one convolution with the pooling behind it, in published instructions.

    Raises:
        UnsupportedError: not even one pooled output fits.
    """
    assert layer.pool is not None
    _check_taps(layer, geometry)
    window, pool = Window.of(layer, [part]), layer.pool
    best: tuple[float, FlatPoolTiling] | None = None
    for share in (2, 1):
        for group in _steps_down(
            part.blocks, min(limits.blocks, max(1, (geometry.depth(Memory.WGT) - _fragment([part])) // part.taps))
        ):
            read = window.only(0, part.most_inputs(group))
            for columns in _steps_down(layer.out.width, layer.out.width):
                across = min((columns - 1) * pool.stride[1] + pool.kernel[1], layer.width)
                for rows in _steps_down(layer.out.height, layer.out.height):
                    down = min((rows - 1) * pool.stride[0] + pool.kernel[0], layer.height)
                    if group * down > limits.micro_ops:
                        continue
                    if group * (down * across + rows * columns) * share > 2 * limits.wide:
                        continue
                    if read.elements(down, across) * share > geometry.depth(Memory.INP):
                        continue
                    tiles = -(-layer.out.height // rows) * -(-layer.out.width // columns)
                    groups = -(-part.blocks // group)
                    pooling = 2 * pool.kernel[0] * pool.kernel[1] + 14
                    elements = down * across * (part.taps + 1) + rows * columns * pooling
                    overhead = (pool.kernel[0] * pool.kernel[1] + 8 + part.kernel[0] * part.kernel[1]) * GEMM_START
                    compute = tiles * (part.blocks * elements + groups * overhead)
                    load = groups * tiles * _load_cycles(read, down, across)
                    cost = float(max(compute, load))
                    if best is None or cost < best[0]:
                        best = cost, FlatPoolTiling(group, rows, columns)
        if best is not None:
            return best[1]
    least = window.only(0, part.most_inputs(1)).elements(*pool.kernel)
    raise UnsupportedError(
        f"{layer.name}: one window of the {pool.kernel[0]}x{pool.kernel[1]} pooling does not fit into "
        f"{2 * limits.wide} accumulators or its input of {least} elements into "
        f"{geometry.depth(Memory.INP)}; use a configuration with larger ones"
    )


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
    for columns in _steps_down(target.width, most):
        for rows in _steps_down(target.height, most // columns):
            blocks = min(most // (rows * columns), len(target.origins), most_blocks)
            groups = -(-len(target.origins) // blocks)
            tiles = -(-target.width // columns) * -(-target.height // rows) * groups
            calls = 1 if columns == target.pitch else blocks
            cost = tiles * (ALU_START + calls * 3 * LATENCY + (rows if calls > 1 else 1) * ROW * blocks)
            if best is None or cost < best[0]:
                best = cost, AddTiling(blocks, rows, columns)
    assert best is not None
    return best[1]
