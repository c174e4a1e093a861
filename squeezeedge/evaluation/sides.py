"""The sides of a comparison: devices, the oracle, ONNX Runtime and fp32. Each shows the tensor of every layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.artifact import Artifact, prepare
from squeezeedge.errors import UnavailableError, UsageError
from squeezeedge.files import scratch_folder
from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.graph.oracle import execute
from squeezeedge.loading import load_reference
from squeezeedge.model import Model
from squeezeedge.targets.registry import all_targets, device_target

__all__ = ["FP32", "ONNX", "ORACLE", "WORDS", "Side", "Subject", "integer_graph", "is_name", "open_sides"]

ORACLE, FP32, ONNX = "oracle", "fp32", "onnx"
WORDS = (ORACLE, FP32, ONNX)

Subject = Artifact | Model | str
"""What a side is made of: a name is one of :data:`WORDS`, or a device's."""

Image = NDArray[np.uint8]
Tensors = Iterable[tuple[str, NDArray[Any]]]


@dataclass(frozen=True)
class Side:
    """One of the two.

    Attributes:
        label: for people.
        trace: an image, uint8 [height, width, 3] -> what every layer made, in execution order: (name, uint8 [height,
            width, channels]), last (head name, int32 [classes]); of fp32, float32, and logits at the end.
        unseen: of the tensors that are not among them, why.
        tolerance: what class sums may differ from the oracle's, as a share of the largest.
        floating: whether it is fp32.
    """

    label: str
    trace: Callable[[Image], Tensors]
    unseen: Callable[[], Mapping[str, str]] = field(default=dict)
    tolerance: float = 0.0
    floating: bool = False


def is_name(text: str) -> bool:
    """Whether a text is a word or a device's name, and no model's or artifact's."""
    return text in WORDS or any(text in target.devices for target in all_targets().values())


def integer_graph(a: Subject, b: Subject) -> tuple[IntegerGraph, Artifact | Model]:
    """The integer graph of both sides, and the first side that holds it.

    Raises:
        UsageError: neither holds one, both hold different ones, or a model is not quantized.
    """
    held = [subject for subject in (a, b) if not isinstance(subject, str)]
    if not held:
        words = " and ".join(dict.fromkeys(map(str, (a, b))))
        raise UsageError(f"{words}: of which network? Give an artifact or a model as one of the two sides")
    graphs = []
    for subject in held:
        graph = subject.graph if isinstance(subject, Artifact) else subject.integer
        if graph is None:
            raise UsageError(f"{_name(subject)}: is not quantized; quantize it on some images first")
        graphs.append(graph)
    if graphs[0].digest() != graphs[-1].digest():
        raise UsageError(
            f"{_name(held[0])} and {_name(held[-1])} hold different integer graphs, so their values mean different "
            f"things; compare each with {FP32}, or compile both of one .sqe"
        )
    return graphs[0], held[0]


def open_sides(
    stack: ExitStack,
    a: Subject,
    b: Subject,
    *,
    devices: Sequence[str] = (),
    board: str | None = None,
    timeout: float | None = None,
    weights: Path | None = None,
) -> tuple[Side, Side]:
    """Make both sides ready until a stack is closed; all checks that need no device come before one is opened.

    Args:
        stack: that closes them.
        a: the first.
        b: the second.
        devices: which device of its target an artifact runs on, the first one that fits; else its hardware.
        board: machine of the first device that can be on another one.
        timeout: seconds that the board may take for each answer.
        weights: the file that an integer graph was made of, for fp32.

    Raises:
        UsageError: they are the same, of no network or of different ones, fp32 is not known, no artifact runs on one
            of the devices, or no device can be on a board.
        UnavailableError: a device or tool is missing.
        SqueezeEdgeError: a device fails, or a file is damaged.
    """
    graph, source = integer_graph(a, b)
    meant = [ORACLE if isinstance(subject, Model) else subject for subject in (a, b)]
    if meant[0] == meant[1]:
        raise UsageError(f"both sides are {_same(a, b)}; compare with {FP32}, {ONNX} or a device (cpu, vta-sim, ...)")
    of_artifacts = {name for subject in (a, b) if isinstance(subject, Artifact) for name in subject.target.devices}
    for wish in devices:
        if wish not in of_artifacts:
            raise UsageError(f"`device`: neither side is an artifact that runs on {wish}; give {wish} itself as a side")
    chosen = [_device(subject, devices) for subject in meant]
    remote = [name is not None and name in device_target(name).remote for name in chosen]
    if board is not None and not any(remote):
        raise UsageError("`board`: neither side runs on another machine")
    for index, name in enumerate(chosen):
        if name is not None:
            there = board if remote[index] and remote.index(True) == index else None
            device_target(name).check_device(name, there)
    sides = []
    for index, (subject, name) in enumerate(zip(meant, chosen, strict=True)):
        if name is not None:
            artifact = _artifact_of(subject, meant, name, source, stack)
            there = board if remote[index] and remote.index(True) == index else None
            sides.append(_on_device(artifact, name, there, timeout, stack))
        elif subject == FP32:
            sides.append(_fp32(graph, source, weights))
        elif subject == ONNX:
            sides.append(Side("ONNX Runtime", _onnx_session(graph)))
        else:
            sides.append(Side(ORACLE, partial(execute, graph)))
    return sides[0], sides[1]


def _same(a: Subject, b: Subject) -> str:
    """What both sides are, where they are the same."""
    if isinstance(a, Artifact):
        return str(a.path)
    return f"the {ORACLE}, which runs models" if isinstance(a, Model) or isinstance(b, Model) else a


def _name(subject: Artifact | Model) -> str:
    return str(subject.path) if isinstance(subject, Artifact) else subject.name


def _device(subject: Artifact | str, devices: Sequence[str]) -> str | None:
    """The device that a side is on.

    Raises:
        UsageError: no such device.
    """
    if isinstance(subject, Artifact):
        own = subject.target.devices
        return next((name for name in devices if name in own), next(iter(own)))
    return None if subject in WORDS else next(name for name in device_target(subject).devices if name == subject)


def _artifact_of(
    subject: Artifact | str,
    both: Sequence[Artifact | str],
    device: str,
    source: Artifact | Model,
    stack: ExitStack,
) -> Artifact:
    """The artifact that a device runs: the side's own, the other side's, or the network compiled for its target."""
    target = device_target(device)
    for held in (subject, *both):
        if isinstance(held, Artifact) and device in held.target.devices:
            return held
    emulated = target.devices[device] == "emulation"
    options = {
        option.name: option.metadata["emulated"]
        for option in fields(target.options)
        if emulated and "emulated" in option.metadata
    }
    folder = stack.enter_context(scratch_folder())
    model = source.graph if isinstance(source, Artifact) else source
    golden = source.golden if isinstance(source, Artifact) else None
    return prepare(model, target.name, folder / target.name, golden=golden, **options)()


def _on_device(artifact: Artifact, name: str, board: str | None, timeout: float | None, stack: ExitStack) -> Side:
    device = stack.enter_context(artifact.open(name, board, timeout, trace=True))
    label = f"{name} on {board}" if board is not None else name
    return Side(label, device.trace, device.unseen, device.tolerance)


def _fp32(graph: IntegerGraph, source: Artifact | Model, weights: Path | None) -> Side:
    """The float network behind an integer graph, folded as by the quantizer, so that tensors have the same names.

    Raises:
        UsageError: it is not known, or is of another network.
    """
    import torch

    from squeezeedge.quantization.folded import execute_folded
    from squeezeedge.quantization.passes import folded_graph

    origin = source.manifest["source"] if isinstance(source, Artifact) else source.origin
    model = source if isinstance(source, Model) and source.floating is not None else None
    if model is None or weights is not None:
        model = load_reference(graph, origin, weights)
    if model is None or model.floating is None:
        raise UsageError(f"{graph.name}: its float network is not known here; give `weights`, the file it was made of")
    with torch.no_grad():
        folded = folded_graph(model.floating, graph.preprocessing)
    shapes = {name: tensor.shape for name, tensor in graph.tensors.items()}
    if dict(folded.shapes) != shapes:
        raise UsageError(f"{graph.name}: the float network has other layers; give the file that it was made of")

    def trace(image: Image) -> Iterator[tuple[str, NDArray[Any]]]:
        with torch.no_grad():
            for node, value in execute_folded(folded, torch.tensor(image).permute(2, 0, 1)[None].float()):
                if node.name in folded.rectified:
                    value = value.clamp(0, folded.rectified[node.name])
                if node is folded.head:
                    value = value.mean((2, 3), keepdim=True)
                shown = value[0].permute(1, 2, 0).numpy()
                yield node.name, shown.reshape(-1) if node is folded.head else shown

    return Side(FP32, trace, floating=True)


def _onnx_session(graph: IntegerGraph) -> Callable[[Image], Tensors]:
    """The graph in standard operators in ONNX Runtime, all tensors as outputs.

    Raises:
        UnavailableError: ONNX Runtime is missing.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UnavailableError(f"{ONNX}: needs the package onnxruntime ({error}): install it") from None
    from onnx import TensorProto, helper

    from squeezeedge.lower.onnx_module import to_onnx

    model = to_onnx(graph)
    names = [node.name for node in graph.nodes[:-1]]
    sums = model.graph.output[0].name
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def trace(image: Image) -> Iterator[tuple[str, NDArray[Any]]]:
        *tensors, last = session.run([*names, sums], {IMAGE: image[None]})
        for name, value in zip(names, tensors, strict=True):
            yield name, value[0].transpose(1, 2, 0)
        yield graph.head.name, last[0]

    return trace
