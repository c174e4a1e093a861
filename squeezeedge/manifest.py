"""manifest.json of an artifact: it is read and checked before any file that it names is opened."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from squeezeedge._version import __version__
from squeezeedge.errors import CorruptFileError, UsageError

__all__ = ["GOLDEN", "GRAPH", "MANIFEST", "SCHEMA", "is_artifact", "is_part", "read_manifest", "versions"]

MANIFEST = "manifest.json"
SCHEMA = 3
GRAPH = "model.sqe"
GOLDEN = "golden.npz"


def is_artifact(path: Path) -> bool:
    """Whether a folder is one, of any version, be it damaged."""
    return bool(_files(path))


def is_part(file: Path) -> bool:
    """Whether a file is one of an artifact, which would be damaged without it."""
    file = file.resolve()
    return any(file.relative_to(folder).as_posix() in _files(folder) for folder in file.parents)


def _files(folder: Path) -> set[str]:
    """Names of an artifact's files, of any version, be it damaged; empty if the folder is none."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError, RecursionError):
        return set()
    if not isinstance(manifest, dict) or not {"schema", "graph_sha256", "files"} <= manifest.keys():
        return set()
    return {MANIFEST, *(manifest["files"] if isinstance(manifest["files"], dict) else ())}


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check the manifest: entries exist and have the right types, and all files lie inside the folder.

    Raises:
        UsageError: the folder is no artifact.
        CorruptFileError: the manifest is missing, damaged or of another schema.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        known = "has no manifest.json" if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
        if (folder / GRAPH).exists():
            raise CorruptFileError(f"{path}: missing from the artifact; compile the model again") from None
        raise UsageError(
            f"{folder}: not an artifact: it {known}; an artifact is the folder that `squeezeedge compile` makes"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptFileError(f"{path}: not readable as JSON: {error}; compile the model again") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else None
        raise CorruptFileError(f"{path}: has schema {found!r}; this version reads {SCHEMA}; compile the model again")
    expected = {
        "model": str,
        "target": str,
        "graph_sha256": str,
        "options": dict,
        "source": dict,
        "versions": dict,
        "compiled": dict,
        "files": dict,
    }
    for key, kind in expected.items():
        if not isinstance(manifest.get(key), kind):
            raise CorruptFileError(f"{path}: {key!r} is missing or damaged; compile the model again")
    calibration = manifest.get("calibration", {"fingerprints": []})
    prints = calibration.get("fingerprints") if isinstance(calibration, dict) else None
    if not isinstance(prints, list) or not all(isinstance(text, str) for text in prints):
        raise CorruptFileError(f"{path}: 'calibration' is damaged; compile the model again")
    for name in (GRAPH, GOLDEN):
        if name not in manifest["files"]:
            raise CorruptFileError(f"{path}: lists no file named {name}; compile the model again")
    for name, entry in manifest["files"].items():
        if not isinstance(entry, dict) or not {"bytes", "sha256"} <= entry.keys():
            raise CorruptFileError(f"{path}: the entry of {name} is damaged; compile the model again")
    for name in manifest["files"]:
        _check_name(folder, name)
    return manifest


def versions() -> dict[str, str]:
    """Versions of what compiles artifacts here: the manifest's entry "versions"."""
    return {
        "squeezeedge": __version__,
        "python": platform.python_version(),
        "apache-tvm": metadata.version("apache-tvm"),
        "numpy": metadata.version("numpy"),
    }


def _check_name(folder: Path, name: str) -> None:
    """Refuse a name that is none of a file inside of an artifact.

    Raises:
        CorruptFileError: it is absolute, leads out of the folder, also by a symbolic link, or no file can have it.
    """
    where = f"{folder / MANIFEST}: "
    try:
        name.encode()
        inside = not {"", ".", ".."} & set(name.split("/")) and (folder / name).resolve(strict=False).is_relative_to(
            folder.resolve()
        )
        (folder / name).lstat()
    except FileNotFoundError:
        pass
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CorruptFileError(f"{where}no file can have the name {name[:80]!a}: {reason}") from error
    if not inside:
        raise CorruptFileError(f"{where}names a file outside the artifact: {name[:80]!a}")
