"""MODEL on the command line -> a network: by name, checkpoint, ONNX file or integer graph."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import IMAGENET, PRESETS, Preprocessing
from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.float.graph import FloatGraph
from squeezeedge.networks.registry import DEFAULT, NETWORKS

if TYPE_CHECKING:
    from torch.nn import Module

    from squeezeedge.networks.checkpoints import Checkpoint

__all__ = ["CHECKPOINTS", "Source", "integer_source", "load_source"]

CHECKPOINTS = (".pth", ".pt", ".safetensors", ".ckpt", ".net")


@dataclass(frozen=True)
class Source:
    """A network ready to quantize, or already quantized.

    Attributes:
        name: for people and file names.
        preprocessing: image -> input.
        labels: class names, empty if unknown.
        classes: number of classes.
        floating: the float graph; ``None`` for an .sqe.
        integer: the integer graph of an .sqe.
        float_logits: fp32 on uint8 [N, H, W, 3] -> float32 [N, classes]; ``None`` for an .sqe.
        origin: network, weight file and its SHA-256: where the numbers came from.
        module: the torch network, if it is one.
    """

    name: str
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    classes: int
    floating: FloatGraph | None
    integer: IntegerGraph | None
    float_logits: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None
    origin: Mapping[str, Any]
    module: Module | None = None


def load_source(
    model: str | None, weights: Path | None = None, pretrained: bool = False, size: int | None = None
) -> Source:
    """Find and load what MODEL names.

    Args:
        model: see ``--help``; ``None`` is the network of ``weights``, or the embedded default.
        weights: checkpoint for a network given by name.
        pretrained: download the published weights.
        size: input height and width, if not the network's own.

    Raises:
        UsageError: the arguments do not fit together.
        SqueezeEdgeError: a file is missing, damaged or does not fit the network.
    """
    if weights is not None and pretrained:
        raise UsageError("--weights and --pretrained exclude each other")
    if model is None:
        model = DEFAULT if weights is None else str(weights)
    if model in NETWORKS:
        return _from_network(model, weights, pretrained, size)
    path = Path(model)
    if weights is not None and weights != path:
        raise UsageError(f"--weights goes with a network's name, not with {model}")
    if pretrained:
        raise UsageError(f"--pretrained goes with a network's name, not with {model}")
    if not path.exists():
        known = ", ".join(NETWORKS)
        raise UsageError(f"{model}: neither a file nor a network; the networks are: {known}")
    if path.suffix == ".sqe":
        return _from_sqe(path, size)
    if path.suffix == ".onnx":
        return _from_onnx(path, size)
    if path.suffix in CHECKPOINTS:
        return _from_checkpoint(None, path, size)
    raise UsageError(f"{model}: the ending must be one of .sqe .onnx {' '.join(CHECKPOINTS)}")


def _from_network(name: str, weights: Path | None, pretrained: bool, size: int | None) -> Source:
    from squeezeedge.networks import registry

    if weights is not None:
        return _from_checkpoint(name, weights, size)
    if pretrained:
        return _from_checkpoint(name, registry.download(name), size)
    if name != DEFAULT:
        raise UsageError(f"{name} has no embedded weights: give --weights FILE or --pretrained")
    return _from_checkpoint(name, registry.default_weights(), size)


def _from_checkpoint(name: str | None, path: Path, size: int | None) -> Source:
    from squeezeedge.graph.importers.from_torch import from_torch
    from squeezeedge.networks import registry
    from squeezeedge.networks.checkpoints import read_checkpoint
    from squeezeedge.training.validate import logits

    checkpoint = read_checkpoint(path)
    try:
        found, classes = registry.identify(checkpoint.state)
    except SqueezeEdgeError as failure:
        if name is None:
            raise SqueezeEdgeError(f"{path}: {failure}") from None
        found, classes = name, NETWORKS[name].classes
    name = name or checkpoint.metadata.get("network") or found
    module = registry.build(name, classes)
    registry.load_weights(module, checkpoint.state, str(path))
    preprocessing = _resized(_preprocessing(name, checkpoint), size)
    return Source(
        name=name,
        preprocessing=preprocessing,
        labels=_labels(checkpoint, classes),
        classes=classes,
        floating=from_torch(module, preprocessing.size, name),
        integer=None,
        float_logits=lambda images: logits(module, images, preprocessing),
        origin={"network": name, **_file(path)},
        module=module,
    )


def _from_onnx(path: Path, size: int | None) -> Source:
    from squeezeedge.graph.float.run import run_float
    from squeezeedge.graph.importers.from_onnx import from_onnx

    if size is not None:
        raise UsageError("--size: the input size of an ONNX file is fixed; export it at the size you need")
    floating = from_onnx(path)
    side = max(floating.input_size)
    preprocessing = replace(IMAGENET, size=floating.input_size, resize=round(side * 256 / 224))
    classes = run_float(floating, preprocessing.normalize(np.zeros((1, *floating.input_size, 3), np.uint8))).shape[1]
    return Source(
        name=path.stem,
        preprocessing=preprocessing,
        labels=(),
        classes=classes,
        floating=floating,
        integer=None,
        float_logits=lambda images: run_float(floating, preprocessing.normalize(images)),
        origin={"network": path.stem, **_file(path)},
    )


def _from_sqe(path: Path, size: int | None) -> Source:
    from squeezeedge.graph.sqe import read_sqe

    if size is not None:
        raise UsageError("--size: the input size of an integer graph is fixed; quantize again at the size you need")
    graph = read_sqe(path)
    return integer_source(graph, {"network": graph.name, **_file(path)})


def integer_source(graph: IntegerGraph, origin: Mapping[str, Any]) -> Source:
    """A source of which only the integer graph is known."""
    return Source(
        name=graph.name,
        preprocessing=graph.preprocessing,
        labels=graph.labels,
        classes=graph.classes,
        floating=None,
        integer=graph,
        float_logits=None,
        origin=origin,
    )


def _preprocessing(name: str, checkpoint: Checkpoint) -> Preprocessing:
    import json

    record = checkpoint.metadata.get("preprocessing")
    if record is None:
        return PRESETS[NETWORKS[name].preprocessing]
    try:
        return Preprocessing.from_json(json.loads(record))
    except ValueError as failure:
        raise SqueezeEdgeError(f"metadata 'preprocessing' is not JSON: {failure}") from failure


def _labels(checkpoint: Checkpoint, classes: int) -> tuple[str, ...]:
    import json

    labels = json.loads(checkpoint.metadata.get("labels", "[]"))
    return tuple(map(str, labels)) if len(labels) == classes else ()


def _resized(preprocessing: Preprocessing, size: int | None) -> Preprocessing:
    """The same preprocessing for another input size; the crop keeps its share of the image."""
    if size is None:
        return preprocessing
    resize = preprocessing.resize
    if resize is not None:
        resize = max(size, round(resize * size / max(preprocessing.size)))
    return replace(preprocessing, size=(size, size), resize=resize)


def _file(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        return {"weights": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
