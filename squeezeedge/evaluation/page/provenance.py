"""Sizes, files, versions, machine and origin of what was evaluated."""

from __future__ import annotations

from pathlib import PurePath

from squeezeedge.evaluation.machine import machine, versions
from squeezeedge.evaluation.page.findings import Findings
from squeezeedge.evaluation.page.grids import Grid, grid
from squeezeedge.evaluation.tables import Table
from squeezeedge.manifest import GRAPH

__all__ = ["about", "files", "origin", "sizes"]

PACKAGES = ("squeezeedge", "apache-tvm", "numpy", "torch", "onnx")
ORIGIN = {"weights": "weight file", "sha256": "weight file, SHA-256"}
"""Keys of a source, in words."""


def sizes(findings: Findings) -> Grid:
    """Bytes of the same network in its forms."""
    rows, fp32 = [], None if findings.parameters is None else 4 * findings.parameters
    if fp32 is not None:
        rows.append(["fp32: 4 bytes a parameter", f"{fp32:,}", "1.0"])
    forms = {"integer graph (.sqe)": int(findings.artifacts[0].manifest["files"][GRAPH]["bytes"])}
    for artifact, device in zip(findings.artifacts, findings.evaluation.devices, strict=True):
        forms[f"what {device.device} loads"] = artifact.model_bytes
    for name, size in forms.items():
        rows.append([name, f"{size:,}", "" if fp32 is None else f"{fp32 / max(size, 1):.1f}"])
    return grid(Table("", ("", "bytes", "times smaller"), rows))


def files(findings: Findings) -> Grid:
    """Every artifact's files."""
    rows = [
        [name, artifact.target.name, f"{entry['bytes']:,}", str(entry["sha256"])[:16]]
        for artifact in findings.different
        for name, entry in artifact.manifest["files"].items()
    ]
    return grid(Table("", ("file", "target", "bytes", "SHA-256, first 16 digits"), rows))


def about(findings: Findings) -> Grid:
    """The machine, and versions of what compiled and what measured."""
    rows = [[key, value] for key, value in machine().items()]
    if findings.board is not None:
        rows.append(["board", findings.board])
    rows += [[f"{key}, here", value] for key, value in versions(PACKAGES).items()]
    compiled: dict[str, str] = {}
    for artifact in findings.artifacts:
        compiled |= {f"{key}, compiled with": str(value) for key, value in artifact.manifest["versions"].items()}
    return grid(Table("", ("", "value"), [*rows, *map(list, compiled.items())]))


def origin(findings: Findings) -> Grid:
    """What the network was made of: names and hashes, and how each artifact was compiled."""
    first = findings.artifacts[0].manifest
    rows = [["integer graph, SHA-256", findings.graph.digest()]]
    for key, value in first["source"].items():
        shown = PurePath(str(value)).name if key == "weights" else str(value)  # not where it lay
        rows.append([ORIGIN.get(key, key), shown])
    rows.append(["calibration images", str(first.get("calibration", {}).get("images", 0))])
    for artifact in findings.different:
        options = artifact.manifest["options"].items()
        told = ", ".join(f"{key}={value}" for key, value in options if value not in (None, False))
        rows.append([f"options of {artifact.target.name}", told])
    return grid(Table("", ("", "value"), rows))
