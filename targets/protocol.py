"""What a target is: two phases of compiling, and devices that run what was compiled. Nothing heavy is imported.

Every folder under targets/ has the same files: ``__init__`` (its ``TARGET``), ``options`` (a dataclass), ``lower``
(graph -> :class:`Lowered`), ``device`` (the device's side, copied into artifacts), ``listing``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:  # numpy is not needed to list targets and their options
    import numpy as np
    from numpy.typing import NDArray

    from squeezeedge.graph import IntegerGraph
    from squeezeedge.lower.feature import Feature
    from squeezeedge.targets.device.run import Artifact

__all__ = [
    "Column",
    "Kind",
    "LayerProfile",
    "Lowered",
    "Network",
    "NetworkOpener",
    "Peak",
    "Profile",
    "Profiler",
    "Requirement",
    "RunResult",
    "Target",
    "Timer",
    "Tracer",
]

Kind = Literal["hardware", "simulator", "emulation", "reference"]


@dataclass(frozen=True)
class Requirement:
    """A tool or device that a target uses, and whether it is here.

    Attributes:
        name: what is looked for.
        needed_for: "compile" or "run"; "option": what only some options or devices of the target need.
        found: version or path; ``None`` if missing.
        fix: how to get it, shown when missing.
    """

    name: str
    needed_for: Literal["compile", "run", "option"]
    found: str | None
    fix: str


@dataclass(frozen=True)
class RunResult:
    """What a device answered.

    Attributes:
        sums: int32 [N, classes]; each class has a scale of its own, so sums of different classes are not comparable
            (R6): :meth:`squeezeedge.graph.IntegerGraph.logits` makes logits of them.
        timings: name -> float64 [N] in milliseconds; ``latency_ms`` is always there.
        metrics: further JSON values of this device (cycles, clock, ...).
    """

    sums: NDArray[np.int32]
    timings: Mapping[str, NDArray[np.float64]]
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def latency_ms(self) -> NDArray[np.float64]:
        """float64 [N]: from an image in memory to its class sums there."""
        return self.timings["latency_ms"]


class Network(Protocol):
    """A device that is ready to run one artifact: what every ``device.py``, simulator and emulation offers."""

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.int32], Mapping[str, NDArray[np.float64]]]:
        """Images uint8 [N, height, width, 3] -> class sums int32 [N, classes], timings as in :class:`RunResult`.

        Sums of different classes are not comparable: each class has a scale of its own.

        Raises:
            ValueError: images of another shape or type.
            RuntimeError: the device failed.
        """

    def about(self) -> Mapping[str, Any]:
        """What ran, as JSON values; asked after a run."""

    def close(self) -> None:
        """Give everything back; the object is not used again."""


@runtime_checkable
class Tracer(Protocol):
    """A :class:`Network` that can show the tensors between its kernels; the kernels are unchanged."""

    def trace(self, image: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[Any]]]:
        """Run an image, uint8 [height, width, 3], and yield what every layer made, in execution order.

        Yields:
            (name in the integer graph, uint8 [height, width, channels]); last (the head's name, class sums int32
            [classes]). The image is not among them.

        Raises:
            ValueError: an image of another shape or type, or a file that says where the tensors lie is damaged.
            RuntimeError: the device failed.
        """

    def unseen(self) -> Mapping[str, str]:
        """Name of every tensor that :meth:`trace` does not yield -> why, a part of a sentence."""


@runtime_checkable
class Timer(Protocol):
    """A :class:`Network` that can read a clock between its kernels; the kernels are unchanged."""

    def kernel_times(self, image: NDArray[np.uint8], runs: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Run an image, uint8 [height, width, 3], so many times.

        Returns:
            Class sums int32 [classes]; float64 [runs, kernels + 1]: milliseconds since the start of each run's first
            kernel. The first column is that start, 0; the others are the end of each kernel.

        Raises:
            ValueError: an image of another shape or type, or the artifact's files tell no times.
            RuntimeError: the device failed.
        """


class NetworkOpener(Protocol):
    """Makes a device ready: a class :class:`Network`, or a function that returns one.

    A parameter ``threads`` with a default means that the number of threads can be chosen; a parameter ``batch``, the
    number of images that are computed at once. On another machine, ``--threads`` of run.py chooses the threads.
    """

    def __call__(self, artifact: Artifact) -> Network:
        """Open an artifact, whose files are checked as they are read.

        Raises:
            the device module's ``Unavailable``: this machine lacks the device or a library for it.
            ValueError, OSError, RuntimeError: a file is damaged, or the device fails.
        """


class Lowered(Protocol):
    """A graph that a target has accepted: every error in the graph has already been raised."""

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the target's files into a folder; return the manifest's entry "compiled".

        Its key ``note``, if there is one, is also shown to the user.

        Raises:
            SqueezeEdgeError: a tool fails.
        """


class Target(Protocol):
    """What every folder's ``TARGET`` offers.

    Attributes:
        name: as in ``--target``.
        summary: one line of help.
        devices: ``--device`` names it serves -> kind.
        remote: those of the devices that may be on another machine, reached by ssh.
        needs_root: whether the device side needs root on another machine.
        options: dataclass of compile options; each field has ``metadata["help"]`` and a default, and becomes
            ``--field-name`` of ``squeezeedge compile`` and ``eval``. ``metadata["emulated"]`` is the default for an
            emulation; ``metadata["names"]`` are the option's names on the command line where they differ;
            ``metadata["values"]`` are those that a shell offers.
        device_module: dotted name of the module that is copied into artifacts as device.py. Its ``FILES`` are glob
            patterns of the artifact's files that the hardware needs; its ``REQUIRED`` pairs (pattern, remedy) of those
            that an artifact may lack: they are looked for before a device is opened or a board is reached.
        supports: what its kernels have beyond the base; :meth:`lower` begins with
            :func:`squeezeedge.lower.legalize.legalize`, which rewrites everything else.
    """

    name: str
    summary: str
    devices: Mapping[str, Kind]
    remote: Collection[str]
    needs_root: bool
    options: type[Any]
    device_module: str

    @property
    def supports(self) -> frozenset[Feature]:
        """See the attributes."""
        ...

    def requirements(self) -> list[Requirement]:
        """What the target uses and whether it is on this machine."""

    def check_options(self, options: Any) -> None:  # noqa: ANN401  (each target's own dataclass)
        """Raise before any work is done: UnavailableError (a tool is missing) or UsageError."""

    def check_device(self, device: str, board: str | None, options: Any = None) -> None:  # noqa: ANN401
        """Raise UnavailableError before any work is done if it is certain that the device cannot be opened.

        Args:
            device: one of :attr:`devices`.
            board: the machine that it is on; ``None``: this one.
            options: of what is going to be compiled for it; ``None``: of an artifact, whose files tell more.
        """

    def lower(self, graph: IntegerGraph, options: Any) -> Lowered:  # noqa: ANN401
        """Take a graph, in memory; nothing is written.

        Raises:
            UnsupportedError: the target cannot run it; the text names the layer, the reason and the fix.
        """

    def network(self, device: str) -> NetworkOpener:
        """What opens one of :attr:`devices` on this machine: hardware, simulator or emulation."""

    def listing(self, artifact: Path, layer: str | None = None) -> Iterator[str]:
        """What the device executes, line by line.

        Args:
            artifact: the folder.
            layer: only what makes this layer of the integer graph, with what is fused with it; ``None``: everything.

        Raises:
            UsageError: there is no such layer.
            UnavailableError: a tool is missing.
            CorruptFileError: a file is damaged.
        """


@dataclass(frozen=True)
class Column:
    """A figure that one kind of device reports for every layer, in addition to the figures of all devices.

    Attributes:
        key: in :attr:`LayerProfile.figures` and in JSON.
        title: for people.
        scale: what the figure is multiplied by for people.
        digits: behind the point.
    """

    key: str
    title: str
    scale: float = 1.0
    digits: int = 0


@dataclass(frozen=True)
class LayerProfile:
    """The cost of one kernel of a run, under the name of the tensor that it makes.

    Attributes:
        name: of the layer.
        macs: its multiply-accumulates; 0 of what does not multiply.
        time: in the profile's unit; the layers' sum is the profile's.
        bytes: moved for it: :attr:`Profile.moved` says between what.
        figures: by the keys of the profile's columns: numbers, or words.
    """

    name: str
    macs: int
    time: float
    bytes: int
    figures: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peak:
    """The most that a device multiplies.

    Attributes:
        rate: multiply-accumulates in one unit of time of the profile.
        meaning: how it is known, a part of a sentence.
    """

    rate: float
    meaning: str


@dataclass(frozen=True)
class Profile:
    """Where a run's time goes.

    Attributes:
        device: what was run.
        kind: what that is.
        unit: of all times.
        unit_ms: milliseconds of one unit.
        time: of the run.
        runs: how many were made; the times are their medians.
        moved: what the layers' bytes are, for people: the title of their column.
        layers: in execution order.
        columns: of the layers' figures.
        peak: the most that the device multiplies; ``None``: it was not measured.
        facts: what else is to be known of the device or the runs, as JSON values.
        notes: the same for people, parts of sentences.
        sums: int32 [classes]: what the device answered.
        timeline: Chrome trace (Trace Event Format) of one run as JSON values, times in microseconds.
    """

    device: str
    kind: Kind
    unit: Literal["cycles", "ms"]
    unit_ms: float
    time: float
    runs: int
    moved: str
    layers: Sequence[LayerProfile]
    columns: Sequence[Column]
    peak: Peak | None
    facts: Mapping[str, Any]
    notes: Sequence[str]
    sums: NDArray[np.int32]
    timeline: Mapping[str, Any]

    @property
    def macs(self) -> int:
        """Of all layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def milliseconds(self) -> float:
        """Of the run."""
        return self.time * self.unit_ms

    def share(self, layer: LayerProfile) -> float:
        """A layer's part of the run, 0 to 1."""
        return layer.time / self.time if self.time else 0.0

    def utilization(self, layer: LayerProfile | None = None) -> float | None:
        """Share of the multiply-accumulates possible in the time of a layer, or of the run; ``None``: no peak."""
        macs, time = (self.macs, self.time) if layer is None else (layer.macs, layer.time)
        if self.peak is None:
            return None
        return macs / (self.peak.rate * time) if time else 0.0


@runtime_checkable
class Profiler(Protocol):
    """A target whose device or simulator can tell where the time goes."""

    def profile(self, artifact: Path, image: NDArray[np.uint8], runs: int = 50) -> Profile:
        """Run one image (uint8 [H, W, 3]) so many times, and before that until the device is warm.

        A simulator, whose runs all take the same cycles, makes one.

        Raises:
            UnavailableError: the device or a tool is missing.
            SqueezeEdgeError: the device fails, or a file is damaged.
        """
