"""``squeezeedge classify``: what is on images, by an artifact's device, the float network or the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from squeezeedge.cli.completion import images as completed_images
from squeezeedge.cli.completion import models
from squeezeedge.cli.groups import expanded
from squeezeedge.cli.model_options import ModelOptions
from squeezeedge.cli.options import ArtifactDevice, Board, Json, Strict, Threads, Timeout, check_timeout
from squeezeedge.errors import CorruptFileError, UsageError, counted

if TYPE_CHECKING:
    from squeezeedge.device import Answer, Device
    from squeezeedge.errors import SqueezeEdgeError
    from squeezeedge.model import Model

__all__ = ["classify_command", "register"]


def classify_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="ARTIFACT|MODEL",
            help="An artifact folder, which its device runs; or a MODEL as for `compile`: an .sqe is run by the "
            "oracle, any other by fp32.",
            autocompletion=models,
        ),
    ],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            autocompletion=completed_images,
            help="Image files, patterns, folders, a .tar or .npz; -: paths or an image from the standard input.",
        ),
    ],
    device: ArtifactDevice = None,
    board: Board = None,
    timeout: Timeout = None,
    threads: Threads = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to name of each image, the likeliest ones.")] = 5,
    *,
    source: ModelOptions,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Say what is on images: classes and their probabilities, of each image as soon as it is answered.

    An image that cannot be read is named on the standard error and counted, and the others are answered; exit code 1
    tells that more than half cannot be read, or, with --strict, that one cannot.
    """
    from squeezeedge.cli.images import named_images
    from squeezeedge.cli.output import emit_json, error, note

    chosen = named_images(images)
    lost: list[int] = []

    def unreadable(position: int, failure: SqueezeEdgeError) -> None:
        if strict:
            raise failure
        lost.append(position)
        error(str(failure))

    answered = 0
    with _opened(model, source, device, board, timeout, threads) as (subject, labels, who):
        note(f"{model}: run by {who['device']} ({who['kind']})")
        for answer in subject.classify(chosen, top, unreadable):
            answered += 1
            if json:
                emit_json(_to_json(answer, named=bool(labels)) | who)
            else:
                _show(answer)
    count = answered + len(lost)
    if json and lost:
        emit_json({"unreadable": len(lost), "images": count})
    if not count:
        raise UsageError("-: the standard input holds no image")
    if lost:
        text = f"{len(lost)} of {counted(count, 'image')} cannot be read"
        if 2 * len(lost) > count:
            raise CorruptFileError(f"{text}; give whole image files")
        note(text)


@contextmanager
def _opened(
    model: str, source: ModelOptions, device: str | None, board: str | None, timeout: float | None, threads: int | None
) -> Iterator[tuple[Device | Model, tuple[str, ...], dict[str, str]]]:
    """What classifies, the names of its classes, and what it is: its name, and its kind.

    Raises:
        UsageError: options were given that it does not take, or a checkpoint fits several networks.
        UnavailableError: the device is missing.
    """
    from squeezeedge.artifact import open_artifact
    from squeezeedge.targets.registry import hardware
    from squeezeedge.targets.session import check_device

    if Path(model).is_dir():
        check_timeout(timeout, board)
        if source != ModelOptions():
            raise UsageError(f"{model}: is compiled already; options of a model are for a MODEL")
        artifact = open_artifact(model)
        name = hardware(artifact.target) if device is None else device
        check_device(artifact.path, artifact.target, name, board)
        with artifact.open(name, board, timeout, threads=threads) as opened:
            yield opened, artifact.labels, {"device": opened.name, "kind": opened.kind}
        return
    for option, value in (("--device", device), ("--board", board), ("--timeout", timeout), ("--threads", threads)):
        if value is not None:
            raise UsageError(f"{option}: {model} is no artifact; compile it, and give the artifact to run on a device")
    loaded = source.load(model)
    if loaded.alternatives:
        fitting = ", ".join([loaded.name, *loaded.alternatives])
        raise UsageError(f"{model}: fits several networks, which answer differently: {fitting}; choose with --network")
    device = "oracle" if loaded.float_logits is None else "fp32"
    yield loaded, loaded.labels, {"device": device, "kind": "reference"}


def _to_json(answer: Answer, *, named: bool) -> dict[str, object]:
    """The keys of run.py's lines."""
    return {
        "image": answer.image,
        "classes": [ranked.index for ranked in answer.top],
        "labels": [ranked.label for ranked in answer.top] if named else None,
        "scores": [ranked.score for ranked in answer.top],
        "logits": [ranked.logit for ranked in answer.top],
        "latency_ms": answer.latency_ms,
    }


def _show(answer: Answer) -> None:
    """An image's name, and its classes below."""
    from squeezeedge.cli.output import emit_lines

    emit_lines([str(answer.image), *(f"  {100 * ranked.score:5.1f} %  {ranked.label}" for ranked in answer.top)])


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("classify")(expanded(classify_command))
