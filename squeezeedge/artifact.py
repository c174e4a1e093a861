"""What ``compile`` writes: a folder with manifest.json, model.sqe, golden.npz, the device program, the target's files.

It is written to a temporary folder beside its destination and renamed, so an interrupted or failing compile
leaves nothing behind. ``open_artifact`` checks every file against the manifest before anything is loaded.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import (
    CorruptFileError,
    SqueezeEdgeError,
    UnavailableError,
    UsageError,
    check_path,
    check_type,
    check_whole,
)
from squeezeedge.files import check_output, sha256_of, write_folder
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.graph.sqe import read_sqe, write_sqe
from squeezeedge.loading import load
from squeezeedge.manifest import GOLDEN, GRAPH, MANIFEST, SCHEMA, is_artifact, read_manifest, versions
from squeezeedge.model import GOLDEN_IMAGES, Model
from squeezeedge.targets.device.run import TRACE, meaning_sha256
from squeezeedge.targets.device.run import Artifact as DeviceArtifact
from squeezeedge.targets.protocol import Lowered, Target
from squeezeedge.targets.registry import get_target, hardware, source_file

if TYPE_CHECKING:
    from squeezeedge.device import Device

__all__ = [
    "GOLDEN",
    "MANIFEST",
    "Artifact",
    "check_artifact_output",
    "compile",
    "open_artifact",
    "prepare",
    "write_artifact",
]

PROGRAM = "run.py"
"""The program that every device runs; it imports :data:`DEVICE` beside it."""
DEVICE = "device.py"
"""The target's device module."""
PROGRAM_MODULE = "squeezeedge.targets.device.run"
NOT_THE_MODEL = (".py", ".sh", ".cfg", ".log", ".ref.onnx", ".a")
"""Endings of files that a device does not load."""


@dataclass(frozen=True)
class Artifact:
    """An opened and verified artifact.

    Attributes:
        path: its folder.
        manifest: the parsed manifest.json.
    """

    path: Path
    manifest: Mapping[str, Any] = field(repr=False)

    @property
    def target(self) -> Target:
        """The target it was compiled for.

        Raises:
            UnavailableError: no installed package has it.
        """
        try:
            return get_target(str(self.manifest["target"]))
        except UsageError as error:
            text = f"{self.path}: {error}; install the package that added the target, or compile the model again"
            raise UnavailableError(text) from None

    @cached_property
    def graph(self) -> IntegerGraph:
        """The integer graph inside.

        Raises:
            CorruptFileError: it is not the graph that the manifest names.
        """
        graph = read_sqe(self.path / GRAPH)
        if graph.digest() != self.manifest["graph_sha256"]:
            raise CorruptFileError(
                f"{self.path / GRAPH}: is not the graph that {MANIFEST} names; compile the model again"
            )
        said = {
            "labels": list(graph.labels),
            "logit_scale": graph.head.scale.tolist(),
            "input": list(graph.input_shape),
        }
        for key, value in said.items():
            if self.manifest.get(key) != value:
                raise CorruptFileError(
                    f"{self.path / MANIFEST}: its {key} differs from that of {GRAPH}; compile the model again"
                )
        return graph

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in index order; empty if unknown."""
        return self.graph.labels

    @property
    def calibrated_on(self) -> frozenset[str]:
        """Fingerprints of the images that the network was quantized on; empty if they are not known."""
        return frozenset(self.manifest.get("calibration", {}).get("fingerprints", ()))

    @property
    def golden(self) -> NDArray[np.uint8]:
        """The inputs with which a device checks itself: uint8 [n, H, W, 3].

        Raises:
            CorruptFileError: the file is damaged.
        """
        return self._golden()[0]

    @property
    def golden_sums(self) -> NDArray[np.int32]:
        """The oracle's class sums of the golden inputs, int32 [n, classes]; errors are those of ``golden``."""
        return self._golden()[1]

    def _golden(self) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        try:
            return DeviceArtifact(self.path).golden()
        except ValueError as error:
            raise CorruptFileError(str(error)) from error

    @property
    def model_bytes(self) -> int:
        """Size of the target's files in bytes: what a device needs, without graph, golden data, scripts and logs."""
        return sum(
            int(entry["bytes"])
            for name, entry in self.manifest["files"].items()
            if name not in (GRAPH, GOLDEN, TRACE) and not name.endswith(NOT_THE_MODEL)
        )

    def reference(self, weights: str | os.PathLike[str] | None = None) -> Model | None:
        """The float network that it was made of, to evaluate beside.

        Args:
            weights: the weight file it was made of; ``None``: the embedded one, if it was made of that.

        Returns:
            ``None`` if it is not known.

        Raises:
            UsageError: it was made of another file.
            SqueezeEdgeError: that file is missing or damaged.
        """
        return Model.of_graph(self.graph, self.manifest["source"]).reference(weights)

    @contextmanager
    def open(
        self,
        device: str | None = None,
        board: str | None = None,
        timeout: float | None = None,
        *,
        trace: bool = False,
        threads: int | None = None,
        batch: int | None = None,
    ) -> Iterator[Device]:
        """Make a device ready, until the end of the block.

        Args:
            device: a device of the target (hardware, simulator or emulation, see ``squeezeedge targets``); ``None``:
                its hardware. Missing hardware is never replaced by a simulator or an emulation.
            board: ``user@host[:port]`` of the machine with the device, reached by ssh; ``None``: this machine.
            timeout: seconds that a board may take to set the device up and for each answer; ``None``: 300, then 100
                times what a golden input took, at least 60.
            trace: whether :meth:`squeezeedge.device.Device.trace` will be called; a board must know this from the
                start.
            threads: how many compute; ``None``: as the device chooses.
            batch: how many images are computed at once; ``None``: as the device chooses.

        Yields:
            What runs images.

        Raises:
            UsageError: the target has no such device, it runs on this machine only, or it has no choice of threads or
                batches.
            UnavailableError: the device or a tool that it needs is missing.
            GateError: the device's own check on the golden inputs failed.
            SqueezeEdgeError: the device fails, or a file is damaged.
        """
        from squeezeedge.device import Device
        from squeezeedge.targets.session import open_session

        target, graph = self.target, self.graph
        if read_manifest(self.path)["graph_sha256"] != self.manifest["graph_sha256"]:
            raise UsageError(f"{self.path}: holds another network than when it was opened; open it again")
        for argument, text in (("device", device), ("board", board)):
            check_type(argument, text, (str, type(None)), "a name, or None")
        for argument, count in (("threads", threads), ("batch", batch)):
            if count is not None:
                check_whole(argument, count, 1)
        name = hardware(target) if device is None else device
        target.check_device(name, board)
        with open_session(
            self.path, target, name, board, timeout, trace=trace, threads=threads, batch=batch
        ) as session:
            yield Device(session, graph)


def compile(
    model: Model | IntegerGraph | str | os.PathLike[str],
    target: str = "cpu",
    out: str | os.PathLike[str] | None = None,
    *,
    golden: NDArray[np.uint8] | None = None,
    force: bool = False,
    **options: object,
) -> Artifact:
    """Compile a quantized network into an artifact folder: :func:`prepare`, and the call of what it returns.

    Raises:
        SqueezeEdgeError: what :func:`prepare` raises; a tool fails, or the folder cannot be written.
    """
    return prepare(model, target, out, golden=golden, force=force, **options)()


def prepare(
    model: Model | IntegerGraph | str | os.PathLike[str],
    target: str = "cpu",
    out: str | os.PathLike[str] | None = None,
    *,
    golden: NDArray[np.uint8] | None = None,
    force: bool = False,
    **options: object,
) -> Callable[[], Artifact]:
    """Lower a quantized network for a target; nothing is written yet.

    Of several targets, each says what it refuses before anything is compiled for another.

    Args:
        model: a quantized model, an integer graph, or the path of an .sqe.
        target: what to compile for (``squeezeedge targets``).
        out: the folder to make. ``None``: MODEL-TARGET in the working directory.
        golden: uint8 [n, H, W, 3], preprocessed: inputs with which a device checks itself; ``None``: some of those
            that the model was quantized on, else noise.
        force: replace an artifact that is there, once the new one is whole.
        options: the target's own, fields of its ``options`` (such as ``isa="avx2"``); the others have their defaults.

    Returns:
        What compiles and writes the artifact.

    Raises:
        UsageError: the model is not quantized, there is no such target or option, ``out`` exists and is not to be
            replaced, its parent does not exist, or ``golden`` is of another shape or type.
        UnavailableError: a tool that the target needs is missing.
        UnsupportedError: the target cannot run the graph; the text names the layer, the reason and the fix.
        SqueezeEdgeError: the folder cannot be written.
    """
    check_type("target", target, str, "a target's name")
    chosen = get_target(target)
    if out is not None:
        check_path("out", out)
    if golden is not None:
        check_type("golden", golden, np.ndarray, "an array, uint8 [n, height, width, 3]")
    own = _options(chosen, options)
    if isinstance(model, IntegerGraph):
        model = Model.of_graph(model)
    elif not isinstance(model, Model):
        check_path("model", model)
        model = load(model)
    graph = model.integer
    if graph is None:
        raise UsageError(f"{model.name}: is not quantized; quantize it on some images first")
    if golden is None:
        golden = model.golden
    if golden is None:
        shape = (GOLDEN_IMAGES, *graph.input_shape)
        golden = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    if golden.dtype != np.uint8 or golden.ndim != 4 or golden.shape[1:] != tuple(graph.input_shape) or not len(golden):
        needed = ", ".join(map(str, graph.input_shape))
        raise UsageError(f"golden images are {golden.dtype} {list(golden.shape)}; they must be uint8 [n, {needed}]")
    folder = Path(f"{model.name}-{target}") if out is None else Path(out)
    return _lower(
        graph,
        chosen,
        chosen.options(**own),
        folder,
        golden=golden,
        source=model.origin,
        calibrated_on=model.calibrated_on,
        force=force,
    )


def _options(target: Target, given: Mapping[str, object]) -> dict[str, object]:
    """A target's options, of the types of its fields; a path may be given as text.

    Raises:
        UsageError: there is no such option, or a value is of another type.
    """
    known = [option.name for option in fields(target.options)]
    unknown = sorted(given.keys() - set(known))
    if unknown:
        raise UsageError(f"target {target.name} has no option {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    hints, own = get_type_hints(target.options), {}
    for name, value in given.items():
        kinds = get_args(hints[name]) or (hints[name],)
        if Path in kinds and isinstance(value, str | os.PathLike):
            check_path(name, value)
            value = Path(value)
        names = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        check_type(name, value, kinds if bool in kinds or not isinstance(value, bool) else (), names)
        own[name] = value
    return own


def write_artifact(
    graph: IntegerGraph,
    target: Target,
    options: Any,  # noqa: ANN401  (the target's own dataclass)
    out: Path,
    *,
    golden: NDArray[np.uint8],
    source: Mapping[str, Any],
    calibrated_on: Collection[str] = (),
    force: bool = False,
) -> Artifact:
    """Compile a graph and write the artifact folder ``out``.

    Args:
        graph: the integer graph.
        target: what to compile for.
        options: the target's options.
        out: the folder to make.
        golden: uint8 [n, H, W, 3]: inputs with which a device checks itself.
        source: where the network came from (JSON values), kept in the manifest.
        calibrated_on: fingerprints of the images that it was quantized on, kept there, too.
        force: replace an artifact that is there, once the new one is whole.

    Raises:
        UsageError: ``out`` exists and is not to be replaced, or its parent does not exist.
        SqueezeEdgeError: the target refuses the graph, a tool is missing or the disk is full.
    """
    return _lower(graph, target, options, out, golden=golden, source=source, calibrated_on=calibrated_on, force=force)()


def _lower(
    graph: IntegerGraph,
    target: Target,
    options: Any,  # noqa: ANN401
    out: Path,
    **rest: Any,  # noqa: ANN401
) -> Callable[[], Artifact]:
    """Do all of :func:`write_artifact` that can refuse the graph; returns the function that does the rest."""
    check_artifact_output(out, force=rest["force"])
    target.check_options(options)
    lowered = target.lower(graph, options)
    return lambda: _write(lowered, graph, target, options, out, **rest)


def _write(
    lowered: Lowered,
    graph: IntegerGraph,
    target: Target,
    options: Any,  # noqa: ANN401
    out: Path,
    *,
    golden: NDArray[np.uint8],
    source: Mapping[str, Any],
    calibrated_on: Collection[str],
    force: bool,
) -> Artifact:
    program = {PROGRAM: source_file(PROGRAM_MODULE), DEVICE: source_file(target.device_module)}
    try:
        with write_folder(out, force=force) as partial:
            compiled = lowered.write(partial)
            for name, module in program.items():
                shutil.copyfile(module, partial / name)
            write_sqe(graph, partial / GRAPH)
            np.savez_compressed(partial / GOLDEN, images=golden, sums=run(graph, golden))
            manifest = {
                "schema": SCHEMA,
                "model": graph.name,
                "target": target.name,
                "graph_sha256": graph.digest(),
                "options": asdict(options),
                "source": dict(source),
                "calibration": {"images": len(calibrated_on), "fingerprints": sorted(calibrated_on)},
                "input": list(graph.input_shape),
                "preprocessing": graph.preprocessing.to_json(),
                "labels": list(graph.labels),
                "logit_scale": [float(scale) for scale in graph.head.scale],
                "versions": versions(),
                "compiled": compiled,
                "files": {
                    path.relative_to(partial).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
                    for path in sorted(partial.rglob("*"))
                    if path.is_file()
                },
            }
            manifest["meaning_sha256"] = meaning_sha256(json.loads(json.dumps(manifest, default=str)))
            (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, default=str) + "\n")
            if out.exists() and not is_artifact(out):
                raise FileExistsError
    except FileExistsError as error:
        raise UsageError(f"{out}: another process has written it meanwhile; choose another output folder") from error
    except OSError as error:
        raise SqueezeEdgeError(f"{out}: cannot be written: {error.strerror or error}") from error
    return Artifact(out, manifest)


def check_artifact_output(out: Path, *, force: bool = False) -> None:
    """Refuse, before any work is done, a place where no artifact can be made.

    Raises:
        UsageError: it exists and is not to be replaced, is no artifact, or its parent does not exist.
        SqueezeEdgeError: it cannot be written.
    """
    check_output(out, force=force, kind="artifact", is_kind=is_artifact)


def open_artifact(path: str | os.PathLike[str]) -> Artifact:
    """Read and verify an artifact folder.

    Raises:
        UsageError: there is no artifact at ``path``.
        CorruptFileError: the manifest is damaged or of another schema, or a file is missing or changed.
    """
    check_path("path", path)
    path = Path(path)
    manifest = read_manifest(path)
    try:
        files = DeviceArtifact(path)
        for name in manifest["files"]:
            files.path(name)
    except ValueError as error:
        raise CorruptFileError(str(error)) from error
    return Artifact(path, manifest)
