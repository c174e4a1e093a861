"""Checks that an artifact is whole, that its device answers correctly, and that a new compilation gives the same bytes.

Artifacts are reproducible: the graph, the options and the versions of the compilers decide every byte of every file.
"""

from __future__ import annotations

import filecmp
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from squeezeedge.artifact import Artifact, prepare
from squeezeedge.errors import (
    CorruptFileError,
    GateError,
    SqueezeEdgeError,
    UnavailableError,
    UsageError,
    check_path,
    counted,
)
from squeezeedge.evaluation.metrics import sums_error
from squeezeedge.evaluation.tables import Table
from squeezeedge.files import scratch_folder
from squeezeedge.graph.oracle import run
from squeezeedge.manifest import MANIFEST, read_manifest
from squeezeedge.model import Model
from squeezeedge.targets.device.run import Artifact as DeviceArtifact
from squeezeedge.targets.registry import hardware
from squeezeedge.targets.session import check_device

__all__ = ["Check", "Verification", "verify"]

Result = Literal["pass", "fail", "not run"]

COMPILER = "compiler"
"""Key of the manifest's entry "compiled": name and version of a compiler that is no package."""
CHOSEN = "auto"
"""Value of an option that leaves the choice to the compiler; the manifest's entry "compiled" has what it chose."""
VERSIONS, OPTIONS, FILES, COMPILED = "versions", "options", "files", "compiled"
MEANING = "meaning_sha256"
SHOWN = 3
"""Files that a message names."""
CHECKS = 6


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: of it.
        result: "pass", "fail" or "not run".
        detail: what was compared, what differs, or why it was not run; a sentence or a part of one.
    """

    name: str
    result: Result
    detail: str


@dataclass(frozen=True)
class Verification:
    """What :func:`verify` has found.

    Attributes:
        artifact: the folder.
        device: that the golden inputs were for.
        checks: in the order in which they were made.
    """

    artifact: str
    device: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether everything was looked at, and nothing differs."""
        return all(check.result == "pass" for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Stable keys."""
        return {
            "artifact": self.artifact,
            "device": self.device,
            "passed": self.passed,
            "checks": [vars(check) for check in self.checks],
        }

    def __str__(self) -> str:
        return str(self.table())

    def table(self) -> Table:
        """A row a check."""
        rows = [[check.name, check.result, check.detail] for check in self.checks]
        return Table(self.artifact, ["check", "result", "what was found"], rows)

    def check(self) -> None:
        """Raise an error unless everything is right.

        Raises:
            GateError: something differs.
            UnavailableError: nothing differs, but a check was not run, because the device or a tool is missing.
        """
        failed = [check.name for check in self.checks if check.result == "fail"]
        if failed:
            raise GateError(f"{self.artifact}: {' and '.join(failed)}: not as {MANIFEST} and the oracle say")
        missing = [check.detail for check in self.checks if check.result == "not run"]
        if missing:
            raise UnavailableError("; ".join(missing))


def verify(
    artifact: str | os.PathLike[str],
    device: str | None = None,
    *,
    board: str | None = None,
    timeout: float | None = None,
    rebuild: bool = True,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Verification:
    """Make every check of an artifact.

    These are the manifest, the files' checksums, the rules of the integer graph, the golden sums against the oracle,
    the device's answers to the golden inputs, and every byte of every file against a new compilation.

    Args:
        artifact: the folder.
        device: of its target; ``None``: the target's hardware.
        board: ``user@host[:port]`` of the machine with the device; ``None``: this one.
        timeout: seconds that a board may take for each answer.
        rebuild: whether to compile again.
        on_progress: called with 1 after each of :data:`CHECKS` checks.

    Raises:
        UsageError: the folder is no artifact, or its target has no such device.
    """
    check_path("artifact", artifact)
    path = Path(artifact)
    checks = []
    for check in _checks(path, device, board, timeout, rebuild=rebuild):
        checks.append(check)
        on_progress(1)
    name = device or ""
    if not name and checks[0].result == "pass":
        name = hardware(Artifact(path, read_manifest(path)).target)
    return Verification(str(path), name, tuple(checks))


def _checks(
    path: Path, device: str | None, board: str | None, timeout: float | None, *, rebuild: bool
) -> Iterator[Check]:
    """The checks one after the other; those that a failed one makes meaningless are left out."""
    try:
        artifact = Artifact(path, read_manifest(path))
        files = DeviceArtifact(path)
    except (CorruptFileError, ValueError) as error:
        yield Check("manifest", "fail", str(error))
        return
    name = hardware(artifact.target) if device is None else device
    if name not in artifact.target.devices:
        raise UsageError(f"{path}: `device` {name} is not one of {', '.join(artifact.target.devices)}")
    if board is not None and name not in artifact.target.remote:
        raise UsageError(f"`board`: device {name} runs on this machine only")
    yield Check("manifest", "pass", f"{artifact.manifest['model']} for {artifact.target.name}")
    whole = _checksums(files, artifact)
    yield whole
    try:
        graph = artifact.graph
    except SqueezeEdgeError as error:
        yield Check("graph rules", "fail", str(error))
        return
    layers = counted(len(graph.nodes), "layer")
    yield Check("graph rules", "pass", f"{layers}: rules R1 to R7 hold, SHA-256 {graph.digest()[:16]}...")
    yield _golden(artifact)
    if whole.result == "pass":
        yield _on_device(artifact, name, board, timeout)
    if rebuild:
        yield _rebuilt(artifact)


def _checksums(files: DeviceArtifact, artifact: Artifact) -> Check:
    wrong = []
    for name in artifact.manifest[FILES]:
        try:
            files.path(name)
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        return Check("checksums", "fail", "; ".join(wrong))
    size = sum(int(entry["bytes"]) for entry in artifact.manifest[FILES].values())
    found = f"{counted(len(artifact.manifest[FILES]), 'file')}, {size / 1e6:.2f} MB"
    known = {MANIFEST, *artifact.manifest[FILES]}
    others = sorted(
        path.relative_to(artifact.path).as_posix()
        for path in artifact.path.rglob("*")
        if path.is_file() and path.relative_to(artifact.path).as_posix() not in known
    )
    return Check("checksums", "pass", f"{found}; not of the artifact: {_some(others)}" if others else found)


def _golden(artifact: Artifact) -> Check:
    try:
        images, sums = artifact.golden, artifact.golden_sums
    except CorruptFileError as error:
        return Check("golden sums", "fail", str(error))
    differing = int(np.count_nonzero(run(artifact.graph, images) != sums))
    if differing:
        return Check("golden sums", "fail", f"{differing} of {sums.size} class sums are not the oracle's")
    return Check("golden sums", "pass", f"{counted(len(images), 'input')}: the oracle's class sums")


def _on_device(artifact: Artifact, device: str, board: str | None, timeout: float | None) -> Check:
    kind = artifact.target.devices[device]
    name = f"device {device}"
    where = f"{device} ({kind}){f' of {board}' if board else ''}"
    try:
        check_device(artifact.path, artifact.target, device, board)
        with artifact.open(device, board, timeout) as opened:
            images, sums = artifact.golden, artifact.golden_sums
            answer = opened.run(images).sums
            tolerance = opened.tolerance
    except UnavailableError as error:
        return Check(name, "not run", str(error))
    except SqueezeEdgeError as error:
        return Check(name, "fail", str(error))
    differences = np.abs(answer - sums.astype(np.int64))
    count = int(np.count_nonzero(differences))
    if sums_error(answer, sums) > tolerance:
        allowed = f", more than the tolerance of {tolerance:g} allows" if tolerance else ""
        text = f"{where}: {count} of {sums.size} class sums differ, by up to {int(differences.max())}{allowed}"
        return Check(name, "fail", text)
    text = f"within the tolerance of {tolerance:g}" if count else "all class sums equal"
    return Check(name, "pass", f"{where}: {counted(len(images), 'golden input')}, {text}")


def _rebuilt(artifact: Artifact) -> Check:
    """Compile again with the recorded options, and compare every file."""
    manifest = artifact.manifest
    compiled = manifest[COMPILED]
    options = {
        name: compiled[name] if value == CHOSEN and name in compiled else value
        for name, value in manifest[OPTIONS].items()
    }
    try:
        model = replace(Model.of_graph(artifact.graph, manifest["source"]), calibrated_on=artifact.calibrated_on)
        golden = artifact.golden
        with scratch_folder() as scratch:
            out = scratch / "rebuilt"
            rebuilt = prepare(model, artifact.target.name, out, golden=golden, **options)()
            return _compared(artifact, replace(rebuilt, manifest=read_manifest(rebuilt.path)))
    except (UnavailableError, UsageError) as error:
        return Check("rebuild", "not run", f"cannot be compiled again here: {error}")
    except SqueezeEdgeError as error:
        return Check("rebuild", "fail", f"cannot be compiled again: {error}")


def _compared(old: Artifact, new: Artifact) -> Check:
    """Compare two artifacts byte for byte. Versions in the manifests are not compared, but explain differences."""
    names = old.manifest[FILES].keys() | new.manifest[FILES].keys()
    missing = sorted(names - new.manifest[FILES].keys())
    differing = sorted(
        name
        for name in names - {*missing}
        if not (old.path / name).is_file() or not filecmp.cmp(old.path / name, new.path / name, shallow=False)
    )
    said = _said(old.manifest, new.manifest)
    other_versions = _changes(_versions(old.manifest), _versions(new.manifest))
    if differing or (said and not (missing and said == [COMPILED])):
        what = [*differing, *(f"{MANIFEST}: {key}" for key in said)]
        text = f"{len(what)} of {counted(len(names) + 1, 'file')} differ: {_some(what)}"
        if other_versions:
            text += f"; versions differ, which is why files may: {'; '.join(other_versions)}"
        return Check("rebuild", "fail", text)
    if missing:
        return Check("rebuild", "not run", f"what makes {_some(missing)} is missing here; the other files are equal")
    text = f"{counted(len(names) + 1, 'file')} byte for byte equal"
    return Check(
        "rebuild", "pass", f"{text}, with other versions: {'; '.join(other_versions)}" if other_versions else text
    )


def _said(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Entries of the manifest that differ, without those that follow from the files, the versions and the options."""
    found = []
    for key in sorted((old.keys() | new.keys()) - {FILES, VERSIONS, OPTIONS, MEANING}):
        values = [one.get(key) for one in (old, new)]
        if key == COMPILED:
            values = [{name: value for name, value in (said or {}).items() if name != COMPILER} for said in values]
        if values[0] != values[1]:
            found.append(key)
    return found


def _versions(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What an artifact was compiled with."""
    compiler = manifest[COMPILED].get(COMPILER)
    return {**manifest[VERSIONS], **({} if compiler is None else {COMPILER: compiler})}


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Values that differ, each ``name: old, here new``."""
    return [
        f"{name} {_short(old.get(name))}, here {_short(new.get(name))}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
