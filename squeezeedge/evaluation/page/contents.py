"""What the page shows, in words and figures: the findings as the templates need them."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from squeezeedge.calib.datasets import Dataset
from squeezeedge.calib.decode import AnyImage, EncodedImage
from squeezeedge.errors import counted
from squeezeedge.evaluation.answers import Answers, Ranked
from squeezeedge.evaluation.inspection import inspect_integer
from squeezeedge.evaluation.page.charts import Histogram, Timeline, colors_of, histogram, timeline
from squeezeedge.evaluation.page.classes import (
    Confusion,
    Group,
    changed_images,
    class_accuracies,
    confusions,
    groups,
)
from squeezeedge.evaluation.page.findings import Findings
from squeezeedge.evaluation.page.grids import NOTHING, Grid, grid
from squeezeedge.evaluation.page.pictures import Picture, thumbnail
from squeezeedge.evaluation.page.provenance import about, files, origin, sizes
from squeezeedge.evaluation.profiling import profile_notes, profile_table, profile_title
from squeezeedge.evaluation.reports import DeviceReport
from squeezeedge.evaluation.tables import number
from squeezeedge.targets.protocol import Kind, Profile

__all__ = ["Page", "page_of"]

MOST_IMAGES = 24
"""Images whose answers are shown."""
MOST_PAIRS = 12
"""Pairs of classes that are shown."""
FIRST_CLASSES = 20
"""Classes that are shown at once; the others are folded away."""
KINDS: dict[Kind, str] = {
    "hardware": "Measured on the device.",
    "simulator": "By the simulator's clock, not measured on hardware; the host's part is this machine's.",
    "emulation": "Time that the emulation takes on this machine; it tells nothing of the device's.",
    "reference": "Time that the reference takes on this machine.",
}


@dataclass(frozen=True)
class Verdict:
    """A sentence, and whether it is good news; ``None``: neither good nor bad."""

    good: bool | None
    text: str


@dataclass(frozen=True)
class Figure:
    """A figure of the summary, what it is, and what it is beside."""

    name: str
    value: str
    beside: str


@dataclass(frozen=True)
class ClassRow:
    """A class: its name, how many images it has, and the percentage that fp32 and each group are right on."""

    name: str
    images: int
    fp32: float | None
    right: tuple[float, ...]


@dataclass(frozen=True)
class Pair:
    """Two classes that are confused, by their names."""

    label: str
    answer: str
    found: Confusion


@dataclass(frozen=True)
class Guess:
    """Who answered, the class, its probability in percent, and whether it is right (``None``: nobody knows)."""

    who: str
    name: str
    percent: float
    right: bool | None


@dataclass(frozen=True)
class Changed:
    """An image with another answer than fp32's."""

    name: str
    picture: Picture
    label: str | None
    guesses: tuple[Guess, ...]


@dataclass(frozen=True)
class Latency:
    """A device's times."""

    device: str
    kind: str
    note: str
    chart: Histogram
    mean: float


@dataclass(frozen=True)
class LayerRow:
    """A layer of the integer graph: what it is, what it costs, and its noise beside fp32 (``None``: not known)."""

    name: str
    operator: str
    shape: str
    macs: str
    kilobytes: str
    sqnr_db: float | None
    bar: float
    error: str
    saturated: str


@dataclass(frozen=True)
class ProfileView:
    """Where a device's time goes."""

    title: str
    notes: tuple[str, ...]
    grid: Grid
    colors: tuple[int | None, ...]
    shares: tuple[float | None, ...]
    timeline: Timeline


@dataclass(frozen=True)
class Page:
    """All that the template shows; every text may hold anything and is escaped there."""

    model: str
    subtitle: str
    date: str
    verdicts: tuple[Verdict, ...]
    summary: tuple[Figure, ...]
    parity: Grid
    groups: tuple[str, ...]
    has_labels: bool
    has_fp32: bool
    classes: tuple[ClassRow, ...]
    folded_classes: tuple[ClassRow, ...]
    pairs: tuple[Pair, ...]
    changed: tuple[Changed, ...]
    all_changed: int
    latencies: tuple[Latency, ...]
    layers: tuple[LayerRow, ...]
    noise: tuple[str, ...]
    profiles: tuple[ProfileView, ...]
    sizes: Grid
    files: Grid
    about: Grid
    origin: Grid
    command: str
    remarks: tuple[str, ...]


def page_of(findings: Findings, command: Sequence[str], date: str, words: Callable[[str], str] = str) -> Page:
    """Make the page's contents.

    Args:
        findings: what was found.
        command: the words of the command line that makes this report; empty: nobody typed one.
        date: when.
        words: makes the options of a program of the library's arguments in backquotes.

    Raises:
        SqueezeEdgeError: an image that was evaluated cannot be read any more.
    """
    report, graph = findings.evaluation, findings.graph
    answers, dataset = report.answers, report.dataset
    assert answers is not None and dataset is not None
    first = report.devices[0]
    grouped = groups([device.device for device in report.devices], answers)
    names = _Names(graph.labels or dataset.classes)
    rows = tuple(
        ClassRow(
            names[row.index],
            row.images,
            None if row.fp32 is None else 100 * row.fp32 / row.images,
            tuple(100 * right / row.images for right in row.right),
        )
        for row in class_accuracies(answers, grouped)
    )
    changed = changed_images(answers, grouped)
    return Page(
        model=graph.name,
        subtitle=f"{counted(first.images, 'image')} of {report.data}",
        date=date,
        verdicts=tuple(_verdicts(report.devices, answers, grouped)),
        summary=tuple(_summary(report.devices)),
        parity=grid(report.full_table()),
        groups=tuple(group.name for group in grouped),
        has_labels=answers.labels is not None,
        has_fp32=answers.fp32 is not None,
        classes=rows[:FIRST_CLASSES],
        folded_classes=rows[FIRST_CLASSES:],
        pairs=tuple(
            Pair(names[found.label], names[found.answer], found)
            for found in confusions(answers, grouped[0], MOST_PAIRS)
        ),
        changed=tuple(_changed(findings, dataset, answers, grouped, names, changed[:MOST_IMAGES].tolist())),
        all_changed=len(changed),
        latencies=tuple(
            Latency(device.device, device.kind, KINDS[device.kind], histogram(times), float(times.mean()))
            for device, times in zip(report.devices, answers.latency_ms, strict=True)
        ),
        layers=tuple(_layers(findings)),
        noise=() if findings.noise is None else tuple(map(_sentence, findings.noise.sentences())),
        profiles=tuple(_profile(profile, graph.name) for profile in findings.profiles),
        sizes=sizes(findings),
        files=files(findings),
        about=about(findings),
        origin=origin(findings),
        command=shlex.join(command),
        remarks=tuple(map(words, _remarks(findings))),
    )


def _remarks(findings: Findings) -> list[str]:
    """What people should know of the images, and what is not known."""
    report = findings.evaluation
    return [*report.remarks, *([] if report.suspicion is None else [str(report.suspicion)]), *findings.unknown]


class _Names:
    """Index -> a class's name; its number where names are not known."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __getitem__(self, index: int) -> str:
        return self._names[index] if index < len(self._names) else str(index)


def _verdicts(devices: Sequence[DeviceReport], answers: Answers, grouped: Sequence[Group]) -> list[Verdict]:
    """Of each device beside the oracle, then of those that answer alike beside fp32."""
    found = []
    for device in devices:
        who, images = f"{device.device} ({device.kind})", counted(device.images, "image")
        if device.bit_exact:
            found.append(Verdict(True, f"{who}: every class sum equals the oracle's on {images}."))
            continue
        sums = device.images * device.classes
        found.append(
            Verdict(
                False,
                f"{who}: {device.differing_sums:,} of {sums:,} class sums differ from the oracle's, by at most "
                f"{device.largest_difference:,}; {device.reclassified} of {images} "
                f"{'gets' if device.reclassified == 1 else 'get'} another class. "
                "`squeezeedge compare` finds the layer.",
            )
        )
    return [*found, *(_beside_fp32(answers, answers.fp32, group) for group in grouped if answers.fp32 is not None)]


def _beside_fp32(answers: Answers, fp32: Ranked, group: Group) -> Verdict:
    """What becomes of fp32's answers."""
    own, images = group.answers.classes, counted(len(answers.places), "image")
    changed = int((own != fp32.classes).sum())
    if not changed:
        return Verdict(True, f"{group.name}: {images}, and all of them get fp32's class.")
    text = f"{group.name}: {changed} of {images} {'gets' if changed == 1 else 'get'} another class than fp32"
    if answers.labels is not None:
        gained = int(((own == answers.labels) & (fp32.classes != answers.labels)).sum())
        lost = int(((own != answers.labels) & (fp32.classes == answers.labels)).sum())
        text += f"; right before and wrong now: {lost}, wrong before and right now: {gained}"
    return Verdict(None, f"{text}.")


def _summary(devices: Sequence[DeviceReport]) -> list[Figure]:
    """Of the first device."""
    first, found = devices[0], []
    if first.top1 is not None:
        beside = "" if first.fp32_top1 is None else f"fp32 {first.fp32_top1:.2f} %"
        found.append(Figure("top-1 accuracy", f"{first.top1:.2f} %", beside))
    if first.agreement is not None:
        found.append(
            Figure("same class as fp32", f"{first.agreement:.2f} %", f"{counted(first.changed or 0, 'image')} changed")
        )
    if first.logits_sqnr_db is not None:
        found.append(Figure("SQNR of the logits", f"{first.logits_sqnr_db:.1f} dB", "beside fp32"))
    for device in devices:
        value = f"{_milliseconds(device.latency_ms['p50'])} ms"
        found.append(Figure(f"latency, {device.device}", value, f"median, {device.kind}"))
    found.append(Figure("size", f"{first.model_bytes / 1e6:.2f} MB", f"for {first.device}"))
    return found


def _milliseconds(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _changed(
    findings: Findings,
    dataset: Dataset,
    answers: Answers,
    grouped: Sequence[Group],
    names: _Names,
    numbers: Sequence[int],
) -> list[Changed]:
    if not numbers or answers.fp32 is None:
        return []
    places = answers.places[list(numbers)]
    pixels = dataset.load(findings.graph.preprocessing, places)
    sides = [("fp32", answers.fp32), *((group.name, group.answers) for group in grouped)]
    found = []
    for number_, place, image in zip(numbers, places.tolist(), pixels, strict=True):
        label = None if answers.labels is None else int(answers.labels[number_])
        guesses = tuple(
            Guess(
                who,
                names[int(side.classes[number_])],
                100 * float(side.scores[number_]),
                None if label is None else int(side.classes[number_]) == label,
            )
            for who, side in sides
        )
        named = _image_name(dataset.images[place], place)
        found.append(Changed(named, thumbnail(image), None if label is None else names[label], guesses))
    return found


def _image_name(image: AnyImage, place: int) -> str:
    """Folder and file of an image, or its number; not where it lies on this machine."""
    if isinstance(image, EncodedImage):
        return "/".join(PurePath(image.member or image.path).parts[-2:])
    return f"image {place}"


def _layers(findings: Findings) -> list[LayerRow]:
    """The integer graph's layers, with their noise where it is known."""
    noise = {} if findings.noise is None else {layer.name: layer for layer in findings.noise.layers}
    finite = [layer.sqnr_db for layer in noise.values() if math.isfinite(layer.sqnr_db)]
    highest = max([1.0, *finite])
    rows = []
    for layer in inspect_integer(findings.graph, {}).layers:
        own = noise.get(layer.name)
        known = own is not None and not own.unseen
        ratio = own.sqnr_db if own is not None and known and math.isfinite(own.sqnr_db) else None
        rows.append(
            LayerRow(
                layer.name,
                layer.operator,
                "x".join(map(str, layer.shape)),
                f"{layer.macs / 1e6:.1f}" if layer.macs else NOTHING,
                f"{layer.integer['weight_bytes'] / 1e3:.1f}" if "weight_bytes" in layer.integer else NOTHING,
                ratio,
                0.0 if ratio is None else min(1.0, max(0.0, ratio / highest)),
                f"{own.largest_error:.3g}" if own is not None and known else NOTHING,
                number(100 * own.saturated / own.values) if own is not None and known else NOTHING,
            )
        )
    return rows


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _profile(profile: Profile, model: str) -> ProfileView:
    table, colors = profile_table(profile, model), colors_of(profile)
    shares: list[float | None] = [profile.share(layer) for layer in profile.layers]
    return ProfileView(
        profile_title(profile, model),
        tuple(_sentence(note) for note in profile_notes(profile)),
        grid(table),
        tuple(colors.get(row[0]) for row in table.rows),
        tuple([*shares, *[None] * (len(table.rows) - len(shares))]),
        timeline(profile),
    )
