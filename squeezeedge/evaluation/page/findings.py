"""What a report tells: an evaluation, the noise of every layer beside fp32, and where each device's time goes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from squeezeedge.artifact import Artifact, open_artifact
from squeezeedge.calib.selection import Selection
from squeezeedge.calib.sources import ImageSource
from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.evaluation.compare import IMAGES, compare_sides
from squeezeedge.evaluation.comparison import FloatComparison
from squeezeedge.evaluation.evaluate import artifact_for, evaluate
from squeezeedge.evaluation.inspection import inspect_float
from squeezeedge.evaluation.profiling import profile, profile_json
from squeezeedge.evaluation.reports import Report
from squeezeedge.evaluation.sides import FP32, open_sides
from squeezeedge.graph import IntegerGraph
from squeezeedge.model import Model
from squeezeedge.targets.protocol import Profile

__all__ = ["Findings", "Progress", "find"]

Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it is done, and how much there is; in images, devices or layers."""


@dataclass(frozen=True)
class Findings:
    """All that a report is made of.

    Attributes:
        graph: the integer graph.
        artifacts: what ran, one for each device, in the order of the evaluation's reports.
        evaluation: of all devices, with the answers to each image.
        parameters: weights and biases of the float network; ``None`` if it is not known.
        noise: of every layer beside fp32, on a few of the images; ``None`` if that is not known.
        profiles: of the devices that tell where their time goes.
        unknown: what is not known, and why; one sentence each.
        board: the machine of the devices that can be on another one.
    """

    graph: IntegerGraph
    artifacts: tuple[Artifact, ...]
    evaluation: Report
    parameters: int | None = None
    noise: FloatComparison | None = None
    profiles: tuple[Profile, ...] = ()
    unknown: tuple[str, ...] = field(default=())
    board: str | None = None

    @property
    def different(self) -> list[Artifact]:
        """The artifacts, each once."""
        return list({id(artifact): artifact for artifact in self.artifacts}.values())

    def to_json(self) -> dict[str, Any]:
        """Stable keys; the devices' are those of an evaluation."""
        return {
            "model": self.graph.name,
            "data": self.evaluation.data,
            "devices": self.evaluation.to_json(),
            "noise": None if self.noise is None else self.noise.to_json(),
            "profiles": [profile_json(found, self.graph.name) for found in self.profiles],
            "unknown": list(self.unknown),
            "remarks": list(self.evaluation.remarks),
        }


def find(
    artifact: Artifact | str | os.PathLike[str] | Sequence[Artifact],
    data: ImageSource | Selection | None = None,
    device: str | Sequence[str] | None = None,
    *,
    board: str | None = None,
    timeout: float | None = None,
    threads: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    reference: Model | None = None,
    classes: Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    strict: bool = False,
    on_progress: Progress = lambda what, done, total: None,
) -> Findings:
    """Evaluate artifacts, compare every layer with fp32 and profile the devices.

    Args:
        artifact: what runs, see :func:`squeezeedge.evaluation.evaluate.evaluate`, as the next ones.
        data: images; ``None``: the embedded ones.
        device: device or devices.
        board: machine of those that can be on another one.
        timeout: seconds that it may take for each answer.
        threads: how many compute, of devices that have a choice.
        weights: the weight file that the network was made of, for fp32; ``None``: the embedded one, if it is that.
        reference: a model with the float network, where it is loaded already.
        classes: class list of the data.
        limit: at most so many images.
        seed: of the choice.
        strict: an image that cannot be read is an error.
        on_progress: see :data:`Progress`.

    Raises:
        UsageError, UnavailableError, GateError, SqueezeEdgeError: as ``evaluate``. What is only missing for a part of
            the report (the float network, a profile) is told in it.
    """
    if isinstance(artifact, str | os.PathLike):
        artifact = open_artifact(artifact)
    artifacts = [artifact] if isinstance(artifact, Artifact) else list(artifact)
    first = artifacts[0] if artifacts else None
    if reference is None and first is not None:
        reference = first.reference(weights)
    done = 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        on_progress("images", done, 0)

    report = evaluate(
        artifacts,
        data,
        device,
        board=board,
        timeout=timeout,
        threads=threads,
        reference=reference,
        classes=classes,
        limit=limit,
        seed=seed,
        strict=strict,
        on_progress=count,
    )
    assert first is not None
    graph, unknown = first.graph, []
    noise = None
    try:
        noise = _noise(graph, first, report, reference, weights, on_progress)
    except SqueezeEdgeError as error:
        unknown.append(f"The noise of the layers is not known: {_reason(error, first)}.")
    chosen = [artifact_for(each.device, artifacts) for each in report.devices]
    profiles: list[Profile] = []
    for one in {id(each): each for each in chosen}.values():
        on_progress("profiles", len(profiles), len(chosen))
        try:
            profiles.append(_profile(one, board))
        except SqueezeEdgeError as error:
            unknown.append(f"Where the time of {one.target.name} goes is not known: {_reason(error, one)}.")
    parameters = None if reference is None else _parameters(reference)
    return Findings(graph, tuple(chosen), report, parameters, noise, tuple(profiles), tuple(unknown), board)


def _noise(
    graph: IntegerGraph,
    artifact: Artifact,
    report: Report,
    reference: Model | None,
    weights: str | os.PathLike[str] | None,
    on_progress: Progress,
) -> FloatComparison:
    """Of the first images that were evaluated.

    Raises:
        SqueezeEdgeError: the float network is not known, or has other layers.
    """
    answers, dataset = report.answers, report.dataset
    assert answers is not None and dataset is not None
    model = Model.of_graph(graph, artifact.manifest["source"])
    if reference is not None and reference.floating is not None:
        model = replace(reference, integer=graph)
        weights = None
    with ExitStack() as stack:
        sides = open_sides(stack, model, FP32, weights=None if weights is None else Path(weights))
        pixels = dataset.load(graph.preprocessing, np.sort(answers.places[:IMAGES]))
        found = compare_sides(graph, sides, pixels, (), lambda done, total: on_progress("layers", done, total))
    assert isinstance(found, FloatComparison)
    return found


def _reason(error: SqueezeEdgeError, artifact: Artifact) -> str:
    """Why something is not known, without the folder, which may be a temporary one."""
    return str(error).removeprefix(f"{artifact.path}: ")


def _parameters(reference: Model) -> int | None:
    """Weights and biases of a float network."""
    if reference.module is not None:
        return sum(parameter.numel() for parameter in reference.module.parameters())
    if reference.floating is None:
        return None
    return inspect_float(reference.floating, reference.preprocessing, {}).parameters


def _profile(artifact: Artifact, board: str | None) -> Profile:
    """Of an artifact's device or simulator on this machine.

    Raises:
        UsageError: the device is on another machine.
        SqueezeEdgeError: as :func:`squeezeedge.evaluation.profiling.profile`.
    """
    target = artifact.target
    if board is not None and target.remote and "simulator" not in target.devices.values():
        raise UsageError(f"profiles are made on this machine, and the device is on {board}")
    return profile(artifact)
