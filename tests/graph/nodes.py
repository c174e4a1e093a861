"""Nodes of small integer graphs, each valid until a test changes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IMAGE, Conv, Head, IntegerGraph, Node

__all__ = ["SIZE", "build", "conv_node", "full", "head_node", "refused"]

SIZE = (6, 8)


def conv_node(name: str = "conv", source: str = IMAGE, out: int = 4, channels: int = 3, **changes: Any) -> Conv:  # noqa: ANN401
    node = Conv(
        name=name,
        input=source,
        weight=np.ones((out, 3, 3, channels), np.int8),
        bias=np.zeros(out, np.int32),
        shift=np.full(out, 4, np.uint8),
        stride=(1, 1),
        padding=(1, 1, 1, 1),
        pad_value=np.zeros(channels, np.uint8),
        zero_point=0,
        scale=np.ones(out, np.float32),
    )
    return replace(node, **changes)


def head_node(source: str = "conv", channels: int = 4, classes: int = 5, **changes: Any) -> Head:  # noqa: ANN401
    node = Head(
        name="head",
        input=source,
        weight=np.ones((classes, 1, 1, channels), np.int8),
        bias=np.zeros(classes, np.int32),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        pad_value=np.zeros(channels, np.uint8),
        relu=True,
        scale=np.ones(classes, np.float32),
    )
    return replace(node, **changes)


def build(*nodes: Node, name: str = "graph", labels: tuple[str, ...] = ()) -> IntegerGraph:
    return IntegerGraph(name, nodes, Preprocessing(size=SIZE, resize=None), labels)


def refused(match: str, *nodes: Node) -> None:
    with pytest.raises(UnsupportedError, match=match):
        build(*nodes)


def full(value: int | float, count: int, dtype: type[np.generic]) -> NDArray[Any]:
    return np.full(count, value, dtype)
