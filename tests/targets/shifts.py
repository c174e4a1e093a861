"""A graph whose shifts reach any limit, unlike those of :mod:`tests.graphs`, whose shifts follow from small images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.graph import IMAGE, Add, Conv, Head, IntegerGraph

__all__ = ["shifted_graph"]


def shifted_graph(seed: int, limit: int, channels: int = 37) -> IntegerGraph:
    """Convolutions, an addition and a head with every shift from 0 to a limit; outputs spread or saturate.

    Args:
        seed: decides everything.
        limit: the largest shift; the graph is refused where :data:`squeezeedge.graph.rules.MAX_SHIFT` is smaller.
        channels: of every tensor, more than ``limit``.
    """
    rng = np.random.default_rng(seed)

    def shifts() -> NDArray[np.uint8]:
        every: NDArray[np.uint8] = rng.permutation(np.arange(channels) % (limit + 1)).astype(np.uint8)
        return every

    def conv(name: str, source: str, inputs: int, kernel: int, zero_point: int, scale: NDArray[np.float64]) -> Conv:
        pad = 0 if source == IMAGE else {"first": 0, "second": 128, "sum": 128}[source]
        shift = shifts()
        bias = np.rint(np.exp2(shift.astype(np.float64)) * rng.normal(0, 100, channels)).clip(-(2**29), 2**29)
        weight = rng.integers(-127, 128, (channels, kernel, kernel, inputs)).astype(np.int8)
        padding = (kernel // 2,) * 4
        pads = np.full(inputs, pad, np.uint8)
        return Conv(
            name,
            source,
            weight,
            bias.astype(np.int32),
            shift,
            (1, 1),
            padding,
            pads,
            zero_point,
            scale.astype(np.float32),
        )

    # scale = scale of an operand * 2 ** its shift, per channel (R5)
    both = np.stack([shifts(), shifts()])
    first, second = (np.exp2(-both.astype(np.float64))[i] for i in (0, 1))
    nodes = (
        conv("first", IMAGE, 3, 3, 0, first),
        conv("second", "first", channels, 1, 128, second),
        Add("sum", ("first", "second"), both, 128, np.ones(channels, np.float32)),
        conv("last", "sum", channels, 3, 0, np.ones(channels)),
    )
    head = Head(
        name="head",
        input="last",
        weight=rng.integers(-127, 128, (11, 1, 1, channels)).astype(np.int8),
        bias=rng.integers(-1000, 1000, 11).astype(np.int32),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        pad_value=np.zeros(channels, np.uint8),
        relu=bool(rng.integers(2)),
        scale=np.ones(11, np.float32),
    )
    return IntegerGraph("shifted", (*nodes, head), Preprocessing(size=(9, 13), resize=None))
