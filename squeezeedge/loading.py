"""Networks by name, from checkpoints, ONNX files and integer graphs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.labels import UNPRINTABLE, read_class_list
from squeezeedge.calib.preprocess import IMAGENET, Preprocessing
from squeezeedge.calib.selection import Selection, evaluation_images
from squeezeedge.calib.statement import (
    ASSUMED,
    ChannelOrder,
    NetworkInput,
    Resolved,
    Statement,
    agreed,
    of_preset,
    resolve,
    triple,
)
from squeezeedge.calib.statement_files import beside, given_statement, in_metadata, unrelated
from squeezeedge.errors import (
    SqueezeEdgeError,
    UsageError,
    check_path,
    check_type,
    check_whole,
    did_you_mean,
)
from squeezeedge.files import sha256_of
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.sqe import AVERAGED, CHANNEL_ORDER, read_recorded
from squeezeedge.model import Model
from squeezeedge.networks.endings import CHECKPOINTS, ending_of
from squeezeedge.networks.registry import DEFAULT, NETWORKS, default_weights
from squeezeedge.trial import Reading

if TYPE_CHECKING:
    from torch.nn import Module

    from squeezeedge.graph.float.graph import FloatGraph
    from squeezeedge.networks.checkpoints import Checkpoint

__all__ = ["choose_network", "load", "load_reference"]


def load(
    model: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    *,
    pretrained: bool = False,
    size: int | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    network: str | None = None,
    ema: bool = False,
    preprocessing: Statement | Mapping[str, object] | str | os.PathLike[str] | None = None,
) -> Model:
    """Load a network.

    Its preprocessing is what is given here. The rest comes from the file's metadata or a file beside it
    (docs/preprocessing.md). What nothing states is assumed, and the model names the assumption.

    Args:
        model: a network's name (:data:`squeezeedge.networks.registry.NETWORKS`), a checkpoint
            (:data:`squeezeedge.networks.endings.CHECKPOINTS`), an .onnx or an .sqe; ``None``: the network of
            ``weights``, or the embedded default.
        weights: checkpoint for a network given by name; of an .sqe, the file that it was made of.
        pretrained: download the published weights.
        size: input height and width in pixels, if not the network's own.
        labels: class names in index order, or the path of a class list (JSON or one name a line); ``None``: those that
            the file holds.
        network: name of a checkpoint's network, if the file does not say it; ``None``: what the file says, or the
            likeliest network that its tensors fit.
        ema: take the moving average from a checkpoint that holds weights and their moving average.
        preprocessing: what is stated of it: a statement, a table such as ``{"mean": [104, 117, 123], "std": 1, "scale":
            1, "channel_order": "bgr"}`` (:func:`squeezeedge.calib.statement_files.statement_of`), or a .toml file.

    Raises:
        UsageError: the arguments do not fit together, or there is no such file or network.
        UnsupportedError: the network has an operator that is not supported; the text names it.
        SqueezeEdgeError: a file is damaged or does not fit the network.
    """
    for argument, path in (("model", model), ("weights", weights)):
        if path is not None:
            check_path(argument, path)
    if size is not None:
        check_whole("size", size, 1)
    if labels is not None:
        _check_names(labels)
    given = given_statement(preprocessing)
    found = _load(model, None if weights is None else Path(weights), pretrained, size, network, ema, given)
    return found if labels is None else _labelled(found, labels)


def _check_names(labels: object) -> None:
    if isinstance(labels, str | os.PathLike):
        check_path("labels", labels)
        return
    what = "a path, or the classes' names"
    check_type("labels", labels, Sequence, what)
    for name in labels if isinstance(labels, Sequence) else ():
        check_type("labels", name, str, what)
        if UNPRINTABLE.search(name):
            raise UsageError(f"`labels`: the name {name!r} contains control characters")


def _load(
    model: str | os.PathLike[str] | None,
    weights: Path | None,
    pretrained: bool,
    size: int | None,
    network: str | None,
    ema: bool,
    given: Statement,
) -> Model:
    if weights is not None and pretrained:
        raise UsageError("`weights` and `pretrained` exclude each other")
    if model is None:
        model = DEFAULT if weights is None else weights
    name = os.fspath(model)
    if network is not None and (name in NETWORKS or ending_of(name) not in CHECKPOINTS):
        raise UsageError(f"{name}: says which network it is; only a checkpoint is of the network {network} on request")
    if name in NETWORKS:
        return _from_network(name, weights, pretrained, size, ema, given)
    path = Path(name)
    ending = ending_of(path)
    if weights is not None and weights != path and ending != ".sqe":
        raise UsageError(f"`weights` goes with a network's name or an .sqe, not with {name}")
    if pretrained:
        raise UsageError(f"`pretrained` goes with a network's name, not with {name}")
    if not path.exists():
        known = ", ".join(NETWORKS)
        raise UsageError(
            f"{name}: neither a file nor a network{did_you_mean(name, NETWORKS)}; the networks are: {known}"
        )
    if ending in CHECKPOINTS:
        return _from_checkpoint(network, path, size, ema, given=given)
    if ema:
        raise UsageError(f"`ema` goes with a checkpoint, not with {name}")
    if ending == ".sqe":
        if given.stated():
            raise UsageError(
                f"{path}: the preprocessing of an integer graph is part of its numbers; quantize the network again "
                f"with {' and '.join(sorted(set(given.sources.values())))}"
            )
        return _from_sqe(path, None if weights == path else weights, size)
    if ending == ".onnx":
        return _from_onnx(path, None if size is None else (size, size), given)
    from squeezeedge.networks.checkpoints import refuse_ending

    raise refuse_ending(path, f"the ending must be one of .sqe .onnx {' '.join(CHECKPOINTS)}")


def load_reference(
    graph: IntegerGraph,
    origin: Mapping[str, Any],
    weights: str | os.PathLike[str] | None = None,
    *,
    floating: bool = True,
) -> Model | None:
    """The float network that an integer graph was made of.

    Args:
        graph: the integer graph.
        origin: of the graph, as in :attr:`Model.origin`.
        weights: the weight file it was made of; ``None``: the embedded one, if it was made of that.
        floating: whether its float graph is needed, which takes torch seconds to export.

    Returns:
        ``None`` if it is not known.

    Raises:
        UsageError: ``weights`` is not the file that the graph was made of.
        SqueezeEdgeError: that file is missing or damaged.
    """
    network = str(origin.get("network"))
    if weights is not None:
        path = Path(weights)
        _check_source(path, graph, origin)
    elif network in NETWORKS and NETWORKS[network].embedded and _is_default(origin):
        path = default_weights()
    else:
        return None
    order: ChannelOrder = "bgr" if origin.get(CHANNEL_ORDER) == "bgr" else "gray" if graph.preprocessing.gray else "rgb"
    known = Resolved(graph.preprocessing, order)
    if ending_of(path) == ".onnx":
        return _from_onnx(path, graph.preprocessing.size, known=known)
    ema, name = origin.get(AVERAGED) is not None, network if network in NETWORKS else None
    return _from_checkpoint(name, path, None, ema, floating, known=known)


def _is_default(origin: Mapping[str, Any]) -> bool:
    """Whether the embedded weights are those that a graph was made of."""
    return _file(default_weights())["sha256"] == origin.get("sha256")


def _check_source(weights: Path, graph: IntegerGraph, origin: Mapping[str, Any]) -> None:
    """Refuse a file that an integer graph was not made of.

    Raises:
        UsageError: it is another one, or nobody knows.
        SqueezeEdgeError: it cannot be read.
    """
    name, expected = str(origin.get("weights", "")), origin.get("sha256")
    if expected is None or name.endswith(".sqe"):
        raise UsageError(
            f"`weights` {weights}: {graph.name} does not say which file it was made of, so it cannot be compared "
            "with fp32; quantize the network again"
        )
    found = _file(weights)["sha256"]
    if found != expected:
        raise UsageError(
            f"`weights` {weights}: {graph.name} was made of another file, {name} (SHA-256 {str(expected)[:16]}..., "
            f"this one has {found[:16]}...)"
        )


def choose_network(model: Model, images: Selection) -> Model:
    """Try the networks that a checkpoint fits on labelled images, and take the one that answers them best.

    Args:
        model: as :func:`load` has returned it.
        images: to try them on; they should not be those that a figure is measured on afterwards.

    Returns:
        The model itself if it has no alternatives, or the images have no labels for it. Else the model that is most
        certain of the right classes (:func:`squeezeedge.training.validate.certainty`), among equals the likeliest; it
        has no alternatives any more.

    Raises:
        SqueezeEdgeError: an image is damaged.
    """
    if not model.alternatives:
        return model
    settled = replace(model, alternatives={})
    try:
        labels = evaluation_images(images, model.classes, model.labels).labels
    except SqueezeEdgeError:  # they are of other classes
        return settled
    if labels is None:
        return settled
    from squeezeedge.training.validate import certainty

    images, pixels = images.readable(model.preprocessing)
    labels = evaluation_images(images, model.classes, model.labels).labels
    assert labels is not None
    tried = {model.name: settled, **{name: make() for name, make in model.alternatives.items()}}
    found: dict[str, float] = {}
    figures = []
    for name, other in tried.items():
        assert other.float_logits is not None
        answers = other.float_logits(pixels)
        found[name] = certainty(answers, labels)
        figures.append(
            f"{name} {(answers.argmax(1) == labels).sum()} (mean probability of the right class {found[name]:.1f} %)"
        )
    best = max(found, key=found.__getitem__)
    tried_on = f"{model.origin['weights']}: right of {len(labels)} labelled images"
    height, width = tried[best].preprocessing.size
    taken = f"{best} is taken, with an input of {height}x{width} (`network` and `size` say otherwise)"
    text = f"{tried_on}: {', '.join(figures)}; {taken}"
    text += f"; {images.loss}" if images.unreadable else ""
    return replace(tried[best], remarks=(*model.remarks[:-1], text))


def _from_network(
    name: str, weights: Path | None, pretrained: bool, size: int | None, ema: bool, given: Statement
) -> Model:
    from squeezeedge.networks import registry

    if weights is None and pretrained:
        weights = registry.download(name)
    elif weights is None:
        if name != DEFAULT:
            raise UsageError(f"{name} has no embedded weights: give `weights` or `pretrained`")
        weights = registry.default_weights()
    return _from_checkpoint(name, weights, size, ema, given=given)


def _from_checkpoint(
    name: str | None,
    path: Path,
    size: int | None,
    ema: bool = False,
    floating: bool = True,
    *,
    given: Statement | None = None,
    known: Resolved | None = None,
) -> Model:
    """Of a checkpoint; ``known`` is its preprocessing if that is not to be found out."""
    from squeezeedge.networks import registry
    from squeezeedge.networks.checkpoints import read_checkpoint
    from squeezeedge.networks.image_input import read_rgb, stated_of
    from squeezeedge.training.validate import logits

    checkpoint, origin = read_checkpoint(path, ema=ema), _file(path)
    try:
        fitting, classes = registry.networks_of(checkpoint, origin["sha256"])
    except SqueezeEdgeError as failure:
        if name is None:
            raise SqueezeEdgeError(f"{path}: {failure}") from None
        fitting, classes = (name,), registry.spec_of(name).classes
    others = fitting[1:] if name is None else ()
    name = name or fitting[0]
    module = registry.build(name, classes)
    registry.load_weights(module, checkpoint.state, str(path))
    resolved = known or stated_of(path, name, checkpoint, origin["sha256"], given, size)
    preprocessing = resolved.preprocessing
    if resolved.channel_order == "bgr":
        read_rgb(module, preprocessing.size)
    graph = _exported(module, preprocessing, name) if floating else None
    reading = Reading(lambda normalization, images: logits(module, images, normalization), graph)
    choice = (name, *others)
    assumed = registry.assumed(path, checkpoint, choice, name, preprocessing.size, origin["sha256"])
    return Model(
        name=name,
        preprocessing=preprocessing,
        labels=_labels(checkpoint, classes) or registry.class_names(name, classes),
        classes=classes,
        floating=graph,
        float_logits=lambda images: logits(module, images, preprocessing),
        origin={"network": name, **origin, **({AVERAGED: "ema"} if checkpoint.averaged else {}), **_ordered(resolved)},
        module=module,
        alternatives={
            other: partial(_from_checkpoint, other, path, size, ema, given=given, known=known) for other in others
        },
        remarks=(*checkpoint.notes, *unrelated(path), *assumed),
        resolved=resolved,
        reading=reading,
    )


def _exported(module: Module, preprocessing: Preprocessing, name: str) -> FloatGraph:
    from squeezeedge.graph.importers.from_torch import from_torch

    return from_torch(module, preprocessing.size, name)


def _from_onnx(
    path: Path, size: tuple[int, int] | None, given: Statement | None = None, known: Resolved | None = None
) -> Model:
    """Of an ONNX file; ``known`` is its preprocessing if that is not to be found out."""
    from squeezeedge.graph.float.image import with_channels
    from squeezeedge.graph.float.run import run_float
    from squeezeedge.graph.importers.from_onnx import from_onnx

    imported = from_onnx(path, size)
    network = NetworkInput(
        imported.graph.input_size,
        triple(imported.multiplier),
        triple(imported.offset),
        imported.gray,
        imported.pixels,
    )
    given = given or Statement()
    sources = [*in_metadata(imported.metadata, path, "metadata_props"), *beside(path)]
    stated = given.over(agreed(sources, given, str(path)))
    found = resolve(stated, of_preset(IMAGENET, ASSUMED), network, name=str(path))
    resolved = replace(known, signs=found.signs) if known is not None else found
    preprocessing = resolved.preprocessing
    order = (2, 1, 0) if resolved.channel_order == "bgr" else (0, 1, 2)
    floating = with_channels(imported.graph, order, resolved.signs)

    def answer(normalization: Preprocessing, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return run_float(floating, normalization.normalize(images))

    return Model(
        name=path.stem,
        preprocessing=preprocessing,
        labels=(),
        classes=floating.shapes[floating.nodes[-1].name].channels,
        floating=floating,
        float_logits=lambda images: answer(preprocessing, images),
        origin={"network": path.stem, **_file(path), **_ordered(resolved)},
        remarks=(*imported.notes, *unrelated(path)),
        resolved=resolved,
        reading=Reading(answer, floating, network),
    )


def _ordered(resolved: Resolved) -> dict[str, str]:
    return {CHANNEL_ORDER: "bgr"} if resolved.channel_order == "bgr" else {}


def _from_sqe(path: Path, weights: Path | None, size: int | None) -> Model:
    if size is not None:
        raise UsageError("`size`: the input size of an integer graph is fixed; quantize again at the size you need")
    graph, record = read_recorded(path)
    if record is None:
        model = Model.of_graph(graph, {"network": graph.name, **_file(path)})
    else:
        model = replace(Model.of_graph(graph, record.origin), calibrated_on=record.calibrated_on, golden=record.golden)
    reference = None if weights is None else load_reference(graph, model.origin, weights)
    if reference is None:
        return model
    return replace(
        model,
        floating=reference.floating,
        float_logits=reference.float_logits,
        module=reference.module,
        reading=reference.reading,
    )


def _labelled(model: Model, labels: str | os.PathLike[str] | Sequence[str]) -> Model:
    names = read_class_list(Path(labels)).names if isinstance(labels, str | os.PathLike) else tuple(labels)
    if len(names) != model.classes:
        raise UsageError(f"{model.name}: has {model.classes} classes, {len(names)} names were given")
    integer = None if model.integer is None else replace(model.integer, labels=names)
    return replace(model, labels=names, integer=integer)


def _labels(checkpoint: Checkpoint, classes: int) -> tuple[str, ...]:
    labels = json.loads(checkpoint.metadata.get("labels", "[]"))
    return tuple(map(str, labels)) if len(labels) == classes else ()


def _file(path: Path) -> dict[str, str]:
    return {"weights": path.name, "sha256": sha256_of(path)}
