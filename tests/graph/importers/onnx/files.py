"""Small ONNX files, and the comparison of what is imported with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.float.graph import FloatConv, FloatGraph
from squeezeedge.graph.float.run import run_float
from squeezeedge.graph.importers.from_onnx import from_onnx
from squeezeedge.graph.importers.imported import Imported
from tests.graph.networks import OnnxWriter

__all__ = [
    "SIZE",
    "end",
    "imported",
    "kinds",
    "multiplications",
    "network",
    "random",
    "refused",
    "same_as_runtime",
    "start",
]

SIZE = (9, 12)


def random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def start(channels: int = 5, size: Sequence[int] = SIZE, batch: int | str = 1) -> tuple[OnnxWriter, str]:
    """A model with one convolution so far; its map is 7x10."""
    writer = OnnxWriter([batch, 3, *size])
    weight = writer.weight("first.weight", random(channels, 3, 3, 3))
    return writer, writer.node("Conv", "input", weight, writer.weight("first.bias", random(channels)))


def end(writer: OnnxWriter, value: str) -> str:
    """A vector of class scores from a map."""
    return writer.node("Flatten", writer.node("GlobalAveragePool", value))


def same_as_runtime(path: Path, found: Imported, batch: int | None = None) -> None:
    """Random images, as many as the file is made for, give the same answers here and in ONNX Runtime."""
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    batch = image.shape[0] if isinstance(image.shape[0], int) else batch or 2
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (batch, 3, *found.graph.input_size)).astype(np.float32)
    given = pixels if found.pixels else (pixels / 64 - 2).astype(np.float32)
    if found.gray:
        given[:, 1:] = given[:, :1]
    feed = given[:, :1] if found.gray else given
    if image.shape[1] != feed.shape[1]:
        feed = feed.transpose(0, 2, 3, 1)
    feed = feed.astype({"tensor(uint8)": np.uint8, "tensor(int32)": np.int32}.get(image.type, np.float32))
    expected = session.run(None, {image.name: feed})[0].reshape(batch, -1)
    multiplier, offset = (values[:, None, None] for values in (found.multiplier, found.offset))
    answer = run_float(found.graph, (given * multiplier + offset).astype(np.float32))
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5 * max(1.0, float(np.abs(expected).max())))


def network(folder: Path, writer: OnnxWriter, output: str, opset: int = 17, rank: int = 2) -> Imported:
    """Import, and compare with ONNX Runtime."""
    path = folder / "network.onnx"
    onnx.save(writer.model(output, opset, rank), path)
    found = from_onnx(path)
    same_as_runtime(path, found)
    return found


def imported(folder: Path, writer: OnnxWriter, output: str, opset: int = 17, rank: int = 2) -> FloatGraph:
    """The same; the graph alone."""
    return network(folder, writer, output, opset, rank).graph


def refused(folder: Path, writer: OnnxWriter, output: str, match: str, opset: int = 17, rank: int = 2) -> None:
    path = folder / "network.onnx"
    onnx.save(writer.model(output, opset, rank), path)
    with pytest.raises(UnsupportedError, match=rf"network\.onnx: .*{match}"):
        from_onnx(path)


def kinds(graph: FloatGraph) -> list[str]:
    """The operators, in order."""
    return [type(node).__name__.removeprefix("Float") for node in graph.nodes]


def multiplications(graph: FloatGraph) -> int:
    """Of all convolutions."""
    return sum(
        node.weight.size * graph.shapes[node.name].height * graph.shapes[node.name].width
        for node in graph.nodes
        if isinstance(node, FloatConv)
    )
