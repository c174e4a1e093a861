"""ONNX file -> float graph. Operators: https://onnx.ai/onnx/operators/, opset 7 and later; :mod:`onnx` is the way.

Dropout, identity, casts between floating-point types and whatever only moves numbers about disappear. What follows the
class scores and changes no class's rank (Softmax and its like) is dropped. A layer has its weight's name
("features.3.squeeze" from "features.3.squeeze.weight"), any other node its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from squeezeedge.errors import CorruptFileError, UnsupportedError, UsageError
from squeezeedge.graph.importers.imported import Imported
from squeezeedge.graph.importers.onnx.channels import float_graph
from squeezeedge.graph.importers.onnx.file import load_onnx
from squeezeedge.graph.importers.onnx.front import read_front
from squeezeedge.graph.importers.onnx.tidy import tidied
from squeezeedge.graph.importers.onnx.walk import walk

__all__ = ["from_onnx"]


def from_onnx(path: Path, size: tuple[int, int] | None = None) -> Imported:
    """Import an ONNX file.

    Its input is an image, [N, 3, height, width], [N, height, width, 3], or with one channel; the graph is of one image,
    whatever N is. Weights of other floating-point types become float32.

    Args:
        path: the file; external data must lie in its folder or below.
        size: (height, width) of the image, where the file leaves them open.

    Returns:
        The graph, named as the file, and what the file says about its input.

    Raises:
        CorruptFileError: the file is truncated, damaged or no valid ONNX.
        UnsupportedError: it uses something outside of what is supported; the text names the node.
        UsageError: its size is open and none is given, or fixed and another one is.
    """
    try:
        model = load_onnx(path)
        front = read_front(model, size)
        context, scores = walk(model, front)
        network = tidied(context.steps.steps, scores.channels, context.steps.joined)
        graph = float_graph(path.stem, front.size, network)
    except (CorruptFileError, UnsupportedError, UsageError) as error:
        raise type(error)(f"{path}: {error}") from error.__cause__
    multiplier, offset = network.multiplier, network.offset
    if front.gray:
        multiplier, offset = np.full(3, multiplier[0]), np.full(3, offset[0])
    notes = [*context.notes]
    if network.on_image:
        notes.append(f"part of the preprocessing: {', '.join(network.on_image)}")
    if network.folded:
        notes.append(f"folded into the convolution in front: {', '.join(network.folded)}")
    metadata = {entry.key: _text(entry.value) for entry in model.metadata_props if isinstance(entry.key, str)}
    return Imported(graph, multiplier, offset, front.gray, front.pixels, metadata, tuple(notes))


def _text(value: str | bytes) -> str:
    """Protobuf hands out what is not UTF-8 as bytes."""
    return value if isinstance(value, str) else value.decode(errors="replace")
