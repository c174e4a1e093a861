"""What an Ascend artifact holds, as text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import onnx

from squeezeedge.errors import CorruptFileError
from squeezeedge.targets.ascend.atc import DEPLOY_MODEL
from squeezeedge.targets.ascend.reading import read_deploy_model
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.trace import no_such_layer

__all__ = ["model_lines"]

NODE = re.compile(r'\s*\["([^"]*)"\]')
"""How the line of a node begins."""


def model_lines(folder: Path, layer: str | None = None) -> Iterator[str]:
    """The deploy model's graph in ONNX's text form, without the constants' values.

    Args:
        folder: the artifact.
        layer: only the nodes of a layer, ``LAYER`` and ``LAYER.*``.

    Raises:
        UsageError: no node has that name.
        CorruptFileError: it can not be read.
    """
    try:
        graph = read_deploy_model(Artifact(folder)).graph
        del graph.initializer[:]
        lines = onnx.printer.to_text(graph).splitlines()
    except (ValueError, RuntimeError) as error:
        text = str(error)
        if str(folder) not in text:
            text = f"{folder / DEPLOY_MODEL}: damaged ({text}); compile the model again"
        raise CorruptFileError(text) from error
    if layer is None:
        yield from lines
        return
    names = [node.name for node in graph.node]
    if not any(_is_of(layer, name) for name in names):
        raise no_such_layer(layer, [name for name in names if f"{name}.quant" in names])
    for line in lines:
        node = NODE.match(line)
        if node is not None and _is_of(layer, node[1]):
            yield line


def _is_of(layer: str, name: str) -> bool:
    return name == layer or name.startswith(f"{layer}.")
