"""Reads the deploy model of an artifact: everything is checked before it is executed or printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto

from squeezeedge.errors import CorruptFileError, SqueezeEdgeError
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.rules import Shape
from squeezeedge.targets.ascend.atc import DEPLOY_MODEL
from squeezeedge.targets.ascend.shapes import tensor_shapes
from squeezeedge.targets.ascend.structure import check_structure, constants

if TYPE_CHECKING:
    from squeezeedge.targets.device.run import Artifact

__all__ = ["read_deploy_model"]


def read_deploy_model(artifact: Artifact, graph: IntegerGraph | None = None) -> ModelProto:
    """Read an artifact's deploy model and check that it has ATC's form and the artifact's image and classes.

    Args:
        artifact: its files.
        graph: the integer graph that the model must be made of; ``None``: any.

    Raises:
        CorruptFileError: it is damaged; the text names the file, the reason and the remedy.
    """
    path = artifact.folder / DEPLOY_MODEL
    try:
        data = artifact.read(DEPLOY_MODEL)
    except ValueError as error:
        raise CorruptFileError(str(error)) from error
    try:
        model = onnx.load_model_from_string(data)
        check_structure(model)
        shapes = tensor_shapes(model, Shape(*artifact.shape), constants(model))
        _check_ends(model, shapes, artifact, graph)
    except (SqueezeEdgeError, DecodeError, ValueError, RuntimeError) as error:
        # a ValueError: names that are no UTF-8
        reason = str(error).removeprefix("deploy model: ") or repr(error)
        raise CorruptFileError(f"{path}: damaged ({reason}); compile the model again") from error
    return model


def _check_ends(model: ModelProto, shapes: dict[str, Shape], artifact: Artifact, graph: IntegerGraph | None) -> None:
    if shapes.get(model.graph.output[0].name) != Shape(1, 1, 2 * artifact.classes):
        raise SqueezeEdgeError(f"its output is not that of {artifact.classes} classes")
    if graph is None:
        return
    for node in graph.nodes[:-1]:
        shape, made = graph.tensors[node.name].shape, shapes.get(node.name)
        if made is None or made[:2] != shape[:2] or made.channels < shape.channels:
            raise SqueezeEdgeError(f"it is not of this network: it makes no {node.name} of {list(shape)}")
