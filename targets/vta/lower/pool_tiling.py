"""Cuts a convolution and the pooling behind it into tiles, with the cost model of :mod:`.tiling`."""

from __future__ import annotations

from dataclasses import dataclass

from squeezeedge.errors import UnsupportedError
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.lower.cost import BYTES_PER_CYCLE, GEMM_START, LATENCY, ROW
from squeezeedge.targets.vta.lower.layers import ConvLayer, Part
from squeezeedge.targets.vta.lower.tiling import MOST_ROWS, Limits, check_taps, fragment, input_cycles, steps_down
from squeezeedge.targets.vta.lower.window import Window

__all__ = ["FlatPoolTiling", "PoolTiling", "flat_pool_tiling", "pool_tiling"]


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
class FlatPoolTiling:
    """Of one convolution with the pooling behind it, without a ring: ``group`` blocks, ``rows`` x ``columns`` pooled.

    Rows and columns of windows that overlap a neighbouring tile are computed twice.
    """

    group: int
    rows: int
    columns: int


def pool_tiling(layer: ConvLayer, part: Part, geometry: Geometry) -> PoolTiling:
    """Tiles of one convolution with the pooling behind it, in extended instructions.

    Raises:
        UnsupportedError: not even one pooled output fits.
    """
    assert layer.pool is not None
    check_taps(layer, geometry)
    window, pool = Window.of(layer, [part]), layer.pool
    depth, ring = geometry.depth(Memory.INP), geometry.depth(Memory.OUT)
    pooled_h, pooled_w = layer.out.height, layer.out.width
    best: tuple[float, PoolTiling] | None = None
    for overlap in (True, False):
        for columns in list(steps_down(pooled_w, pooled_w)):
            wide = min((columns - 1) * pool.stride[1] + pool.kernel[1], layer.width)
            for group in steps_down(
                part.blocks, min(geometry.par_entries // 2, geometry.depth(Memory.WGT) // part.taps)
            ):
                room = ring // group // wide  # rows of the ring
                inputs = part.most_inputs(group)
                for rows in range(1, min(pooled_h, 32) + 1):
                    fresh, kept = rows * pool.stride[0], max(pool.kernel[0] - pool.stride[0], 0)
                    if room < fresh * (2 if overlap else 1) + kept or fresh + kept > MOST_ROWS:
                        break
                    for steps in range(1, -(-pooled_h // rows) + 1):
                        tall = min(fresh * steps + kept, layer.height)
                        if window.only(0, inputs).elements(tall, wide) > (depth // 2 if overlap else depth):
                            break
                        candidate = PoolTiling(group, columns, rows, steps)
                        cost = _pool_cost(layer, part, window, inputs, candidate)
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


def _pool_cost(layer: ConvLayer, part: Part, window: Window, inputs: int, tiling: PoolTiling) -> float:
    pool = layer.pool
    assert pool is not None
    strips, groups = -(-layer.out.width // tiling.columns), -(-part.blocks // tiling.group)
    wide = min((tiling.columns - 1) * pool.stride[1] + pool.kernel[1], layer.width)
    steps = -(-layer.out.height // tiling.rows)
    tiles = -(-steps // tiling.steps)
    compute = strips * (layer.height * wide * part.taps * part.blocks + groups * steps * GEMM_START)
    fresh = tiling.rows * tiling.steps * pool.stride[0]
    tile = input_cycles(window, inputs, min(fresh, layer.height), wide)
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
    check_taps(layer, geometry)
    window, pool = Window.of(layer, [part]), layer.pool
    best: tuple[float, FlatPoolTiling] | None = None
    for share in (2, 1):
        for group in steps_down(
            part.blocks, min(limits.blocks, max(1, (geometry.depth(Memory.WGT) - fragment([part])) // part.taps))
        ):
            inputs = part.most_inputs(group)
            for columns in steps_down(layer.out.width, layer.out.width):
                across = min((columns - 1) * pool.stride[1] + pool.kernel[1], layer.width)
                for rows in steps_down(layer.out.height, layer.out.height):
                    down = min((rows - 1) * pool.stride[0] + pool.kernel[0], layer.height)
                    if group * down > limits.micro_ops:
                        continue
                    if group * (down * across + rows * columns) * share > 2 * limits.wide:
                        continue
                    if window.only(0, inputs).elements(down, across) * share > geometry.depth(Memory.INP):
                        continue
                    tiles = -(-layer.out.height // rows) * -(-layer.out.width // columns)
                    groups = -(-part.blocks // group)
                    pooling = 2 * pool.kernel[0] * pool.kernel[1] + 14
                    elements = down * across * (part.taps + 1) + rows * columns * pooling
                    overhead = (pool.kernel[0] * pool.kernel[1] + 8 + part.kernel[0] * part.kernel[1]) * GEMM_START
                    compute = tiles * (part.blocks * elements + groups * overhead)
                    load = groups * tiles * input_cycles(window, inputs, down, across)
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
