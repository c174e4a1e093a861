"""A network: loaded by name, from a checkpoint, an ONNX file or an integer graph; quantized."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.fingerprint import fingerprints
from squeezeedge.calib.labels import read_class_list
from squeezeedge.calib.preprocess import IMAGENET, PRESETS, Preprocessing
from squeezeedge.calib.selection import Selection, calibration_images
from squeezeedge.calib.sources import ImageSource
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.float.graph import FloatGraph
from squeezeedge.graph.sqe import GOLDEN_IMAGES, ORIGIN, Record, read_recorded, write_sqe
from squeezeedge.networks.registry import DEFAULT, NETWORKS, default_weights

if TYPE_CHECKING:
    from torch.nn import Module

    from squeezeedge.networks.checkpoints import Checkpoint

__all__ = ["CHECKPOINTS", "GOLDEN_IMAGES", "Model", "load", "load_reference", "quantize"]

CHECKPOINTS = (".pth", ".pt", ".safetensors", ".ckpt", ".net")


@dataclass(frozen=True, eq=False)
class Model:
    """A network, ready to quantize, quantized, or both.

    Attributes:
        name: for people and file names.
        preprocessing: image -> input.
        labels: class names in index order, empty if unknown.
        classes: number of classes.
        origin: network, weight file and its SHA-256: where the numbers came from (JSON values).
        floating: the float graph; ``None`` if only the integer graph is known.
        integer: the integer graph; ``None`` before quantization.
        float_logits: fp32 on preprocessed images, uint8 [N, H, W, 3] -> float32 [N, classes]; ``None`` as ``floating``.
        module: the torch network, if it is one.
        calibration: the images that it was quantized on, if it was quantized here.
        calibrated_on: their fingerprints (:func:`squeezeedge.calib.fingerprint.fingerprints`); empty if not known.
        golden: a few of them, preprocessed, uint8 [n, H, W, 3].
        remarks: what people should know of the quantization, if it was done here, such as images that tell little.
    """

    name: str
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    classes: int
    origin: Mapping[str, Any]
    floating: FloatGraph | None = field(default=None, repr=False)
    integer: IntegerGraph | None = field(default=None, repr=False)
    float_logits: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None = field(default=None, repr=False)
    module: Module | None = field(default=None, repr=False)
    calibration: Selection | None = field(default=None, repr=False)
    calibrated_on: frozenset[str] = field(default=frozenset(), repr=False)
    golden: NDArray[np.uint8] | None = field(default=None, repr=False)
    remarks: tuple[str, ...] = ()

    @classmethod
    def of_graph(cls, graph: IntegerGraph, origin: Mapping[str, Any] | None = None) -> Model:
        """A model of which only the integer graph is known."""
        return cls(
            name=graph.name,
            preprocessing=graph.preprocessing,
            labels=graph.labels,
            classes=graph.classes,
            origin=origin or {"network": graph.name},
            integer=graph,
        )

    @property
    def dataset(self) -> str | None:
        """The embedded data set that the network was trained on, if there is one."""
        spec = NETWORKS.get(self.name)
        return spec.dataset if spec is not None else None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the integer graph as .sqe, with origin, fingerprints and golden images, whole or not at all.

        Raises:
            UsageError: the model is not quantized.
            SqueezeEdgeError: the file cannot be written.
        """
        if self.integer is None:
            raise UsageError(f"{self.name}: only an integer graph is written; save what quantize has returned")
        known = self.origin if all(key in self.origin for key in ORIGIN) else {}
        origin = {"network": self.name, **{key: str(known[key]) for key in ORIGIN if key in known}}
        write_sqe(self.integer, Path(path), Record(origin, self.calibrated_on, self.golden))


def load(
    model: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    *,
    pretrained: bool = False,
    size: int | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
) -> Model:
    """Load a network.

    Args:
        model: a network's name (:data:`squeezeedge.networks.registry.NETWORKS`), a checkpoint (.pth, .pt, .safetensors,
            .ckpt, .net), an .onnx or an .sqe; ``None``: the network of ``weights``, or the embedded default.
        weights: checkpoint for a network given by name; of an .sqe, the file that it was made of.
        pretrained: download the published weights.
        size: input height and width in pixels, if not the network's own.
        labels: class names in index order, or the path of a class list (JSON or one name a line); ``None``: those that
            the file holds.

    Raises:
        UsageError: the arguments do not fit together, or there is no such file or network.
        UnsupportedError: the network has an operator that is not supported; the text names it.
        SqueezeEdgeError: a file is damaged or does not fit the network.
    """
    found = _load(model, None if weights is None else Path(weights), pretrained, size)
    return found if labels is None else _labelled(found, labels)


def _load(model: str | os.PathLike[str] | None, weights: Path | None, pretrained: bool, size: int | None) -> Model:
    if weights is not None and pretrained:
        raise UsageError("--weights and --pretrained exclude each other")
    if model is None:
        model = DEFAULT if weights is None else weights
    name = os.fspath(model)
    if name in NETWORKS:
        return _from_network(name, weights, pretrained, size)
    path = Path(name)
    if weights is not None and weights != path and path.suffix != ".sqe":
        raise UsageError(f"--weights goes with a network's name or an .sqe, not with {name}")
    if pretrained:
        raise UsageError(f"--pretrained goes with a network's name, not with {name}")
    if not path.exists():
        known = ", ".join(NETWORKS)
        raise UsageError(f"{name}: neither a file nor a network; the networks are: {known}")
    if path.suffix == ".sqe":
        return _from_sqe(path, None if weights == path else weights, size)
    if path.suffix == ".onnx":
        return _from_onnx(path, size)
    if path.suffix in CHECKPOINTS:
        return _from_checkpoint(None, path, size)
    raise UsageError(f"{name}: the ending must be one of .sqe .onnx {' '.join(CHECKPOINTS)}")


def load_reference(
    graph: IntegerGraph, origin: Mapping[str, Any], weights: str | os.PathLike[str] | None = None
) -> Model | None:
    """The float network that an integer graph was made of.

    Args:
        graph: the integer graph.
        origin: of the graph, as in :attr:`Model.origin`.
        weights: the weight file it was made of; ``None``: the embedded one, if it was made of that.

    Returns:
        ``None`` if it is not known.

    Raises:
        UsageError: ``weights`` is not the file that the graph was made of.
        SqueezeEdgeError: that file is missing or damaged.
    """
    network, size = str(origin.get("network")), graph.preprocessing.size[0]
    found = None
    if weights is not None:
        weights = Path(weights)
        _check_source(weights, graph, origin)
        by_name = network in NETWORKS and weights.suffix not in (".onnx", ".sqe")
        # the input size of a file that says it itself is not chosen
        found = load(network, weights, size=size) if by_name else load(weights)
    elif network in NETWORKS and NETWORKS[network].embedded:
        if _file(default_weights())["sha256"] == origin.get("sha256"):
            found = load(network, size=size)
    return replace(found, preprocessing=graph.preprocessing) if found is not None else None


def _check_source(weights: Path, graph: IntegerGraph, origin: Mapping[str, Any]) -> None:
    """Refuse a file that an integer graph was not made of.

    Raises:
        UsageError: it is another one, or nobody knows.
        SqueezeEdgeError: it cannot be read.
    """
    name, expected = str(origin.get("weights", "")), origin.get("sha256")
    if expected is None or name.endswith(".sqe"):
        raise UsageError(
            f"--weights {weights}: {graph.name} does not say which file it was made of, so it cannot be compared "
            "with fp32; quantize the network again"
        )
    found = _file(weights)["sha256"]
    if found != expected:
        raise UsageError(
            f"--weights {weights}: {graph.name} was made of another file, {name} (SHA-256 {str(expected)[:16]}..., "
            f"this one has {found[:16]}...)"
        )


def quantize(
    model: Model | str | os.PathLike[str],
    images: ImageSource | Selection | None = None,
    *,
    count: int = 64,
    seed: int = 0,
    classes: Path | None = None,
    on_decode: Callable[[int], None] = lambda done: None,
    on_layer: Callable[[str, int, int], None] = lambda name, index, total: None,
) -> Model:
    """Quantize a network to one integer-only int8 graph.

    The result depends on the model, the images and the seed only.

    Args:
        model: a network with its float graph, or what :func:`load` takes.
        images: to calibrate on, in any form, each preprocessed as the model says (pixels of the model's own input size,
            too, unless it only scales); ``None``: of the embedded data set that the network was trained on. A
            selection is taken as it is.
        count: how many of them at most, drawn by the seed; of an iterator the first ones.
        seed: of the choice.
        classes: class list of the data.
        on_decode: called with the number of images decoded since the last call.
        on_layer: called with (name, index, total) before each convolution and addition.

    Returns:
        The model with its integer graph, beside its float one, :data:`GOLDEN_IMAGES` of the images, and remarks.

    Raises:
        UsageError: the model is quantized already, no images are known, or they are more than fit into memory.
        UnsupportedError: the network cannot be expressed as integers; the text names the node.
        SqueezeEdgeError: an image is damaged, or a layer computes values that are not finite.
    """
    from squeezeedge.quantization import pipeline

    if not isinstance(model, Model):
        model = load(model)
    if model.floating is None:
        raise UsageError(f"{model.name}: is an integer graph already")
    if images is None:
        images = model.dataset
    if images is None:
        raise UsageError(f"{model.name}: calibration images are needed: give some (--calib or --data)")
    chosen = calibration_images(images, count=count, seed=seed, classes=classes)
    pixels = chosen.load(model.preprocessing, on_decode)
    remarks: list[str] = []
    graph = pipeline.quantize(
        model.floating,
        model.preprocessing,
        pixels,
        name=model.name,
        labels=model.labels,
        on_layer=on_layer,
        on_remark=remarks.append,
    )
    return replace(
        model,
        integer=graph,
        calibration=chosen,
        calibrated_on=frozenset(fingerprints(pixels)),
        golden=pixels[:GOLDEN_IMAGES].copy(),
        remarks=tuple(remarks),
    )


def _from_network(name: str, weights: Path | None, pretrained: bool, size: int | None) -> Model:
    from squeezeedge.networks import registry

    if weights is not None:
        return _from_checkpoint(name, weights, size)
    if pretrained:
        return _from_checkpoint(name, registry.download(name), size)
    if name != DEFAULT:
        raise UsageError(f"{name} has no embedded weights: give --weights FILE or --pretrained")
    return _from_checkpoint(name, registry.default_weights(), size)


def _from_checkpoint(name: str | None, path: Path, size: int | None) -> Model:
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
    preprocessing = _resized(_preprocessing(path, name, checkpoint), size)
    return Model(
        name=name,
        preprocessing=preprocessing,
        labels=_labels(checkpoint, classes) or registry.class_names(name, classes),
        classes=classes,
        floating=from_torch(module, preprocessing.size, name),
        float_logits=lambda images: logits(module, images, preprocessing),
        origin={"network": name, **_file(path)},
        module=module,
    )


def _from_onnx(path: Path, size: int | None) -> Model:
    from squeezeedge.graph.float.run import run_float
    from squeezeedge.graph.importers.from_onnx import from_onnx

    if size is not None:
        raise UsageError("--size: the input size of an ONNX file is fixed; export it at the size you need")
    floating = from_onnx(path)
    side = max(floating.input_size)
    preprocessing = replace(IMAGENET, size=floating.input_size, resize=round(side * 256 / 224))
    return Model(
        name=path.stem,
        preprocessing=preprocessing,
        labels=(),
        classes=floating.shapes[floating.nodes[-1].name].channels,
        floating=floating,
        float_logits=lambda images: run_float(floating, preprocessing.normalize(images)),
        origin={"network": path.stem, **_file(path)},
    )


def _from_sqe(path: Path, weights: Path | None, size: int | None) -> Model:
    if size is not None:
        raise UsageError("--size: the input size of an integer graph is fixed; quantize again at the size you need")
    graph, record = read_recorded(path)
    if record is None:
        model = Model.of_graph(graph, {"network": graph.name, **_file(path)})
    else:
        model = replace(Model.of_graph(graph, record.origin), calibrated_on=record.calibrated_on, golden=record.golden)
    reference = None if weights is None else load_reference(graph, model.origin, weights)
    if reference is None:
        return model
    return replace(model, floating=reference.floating, float_logits=reference.float_logits, module=reference.module)


def _labelled(model: Model, labels: str | os.PathLike[str] | Sequence[str]) -> Model:
    names = read_class_list(Path(labels)).names if isinstance(labels, str | os.PathLike) else tuple(labels)
    if len(names) != model.classes:
        raise UsageError(f"{model.name}: has {model.classes} classes, {len(names)} names were given")
    integer = None if model.integer is None else replace(model.integer, labels=names)
    return replace(model, labels=names, integer=integer)


def _preprocessing(path: Path, name: str, checkpoint: Checkpoint) -> Preprocessing:
    import json

    record = checkpoint.metadata.get("preprocessing")
    if record is None:
        return PRESETS[NETWORKS[name].preprocessing]
    try:
        return Preprocessing.from_json(json.loads(record))
    except (CorruptFileError, ValueError) as failure:
        raise CorruptFileError(f"{path}: metadata 'preprocessing': {failure}; write the file again") from failure


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
    try:
        with path.open("rb") as file:
            return {"weights": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
