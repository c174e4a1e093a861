"""An artifact whose device is a few lines of numpy: every branch of run.py can be tried without hardware."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.targets.device import run as program

__all__ = ["CLASSES", "PREPROCESSING", "SIZE", "FakeArtifact", "Outcome", "fake_sums", "run_here"]

SIZE, CLASSES = (6, 5), 4
PREPROCESSING = Preprocessing(size=SIZE, resize=8)

DEVICE = Path(__file__).with_name("fake_device.py")


def fake_sums(images: NDArray[np.uint8]) -> NDArray[np.int32]:
    """What the device answers: int32 [N, 4]."""
    sums: NDArray[np.int32] = images.astype(np.int32).sum((1, 2, 3))[:, None] * np.arange(1, 5)
    return sums.astype(np.int32)


class FakeArtifact:
    """A folder as ``compile`` writes it.

    Attributes:
        folder: the artifact.
        images: its golden ones, uint8 [3, 6, 5, 3].
        sums: theirs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.images = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3)).astype(np.uint8)
        self.sums = fake_sums(self.images)
        shutil.copy(program.__file__, folder / "run.py")
        shutil.copy(DEVICE, folder / "device.py")
        (folder / "weights.bin").write_bytes(np.arange(1, 5, dtype=np.int32).tobytes())
        np.savez(folder / "golden.npz", images=self.images, sums=self.sums)
        self.manifest: dict[str, Any] = {
            "schema": 3,
            "input": [*SIZE, 3],
            "labels": ["one", "two", "three", "four"],
            "logit_scale": [0.5, 0.25, 0.125, 0.125],
            "preprocessing": PREPROCESSING.to_json(),
            "compiled": {},
        }
        self.seal()

    def seal(self) -> None:
        """Write the manifest, with the checksums of the files as they are now."""
        self.manifest["files"] = {
            path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for path in self.folder.iterdir()
            if path.name != "manifest.json"
        }
        self.manifest["meaning_sha256"] = program.meaning_sha256(self.manifest)
        self.write_manifest(self.manifest)

    def write_manifest(self, manifest: object) -> None:
        """Write it as it is."""
        (self.folder / "manifest.json").write_text(json.dumps(manifest))

    def change_manifest(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change it in place; its checksum follows where it can."""
        change(self.manifest)
        with contextlib.suppress(KeyError):
            self.manifest["meaning_sha256"] = program.meaning_sha256(self.manifest)
        self.write_manifest(self.manifest)

    def run(self, *arguments: object, stdin: bytes = b"", **environment: str) -> Outcome:
        """The folder's run.py in this process."""
        return run_here(self.folder, arguments, stdin=stdin, environment=environment)

    def start(self, *arguments: object, stdin: bytes = b"", alone: bool = True, **environment: str) -> Outcome:
        """run.py as a program of its own; ``alone``: it finds nothing of this package, and PYTHONPATH is not read."""
        done = subprocess.run(
            [sys.executable, *(["-I"] if alone else []), str(self.folder / "run.py"), *map(str, arguments)],
            input=stdin,
            capture_output=True,
            check=False,
            cwd="/",
            env={"PATH": os.environ["PATH"], **environment},
        )
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

    def fails(self, code: int, text: str, *arguments: object, **environment: str) -> list[Mapping[str, Any]]:
        """Run, expecting an exit code and one line on stderr that matches; the lines on stdout."""
        return run_here(self.folder, arguments, environment=environment).fails(code, text)


def run_here(
    folder: Path,
    arguments: Sequence[object] = (),
    *,
    stdin: bytes = b"",
    modules: Sequence[Path] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Outcome:
    """An artifact's run.py in this process: it and what it finds in folders of modules are loaded anew."""
    spec = importlib.util.spec_from_file_location("artifact_run", folder / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    out, errors = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.dict(sys.modules),
        mock.patch.object(sys, "path", [*map(str, modules), *sys.path]),
        _standard_input(stdin),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        spec.loader.exec_module(module)
        try:
            code: int = module.main([str(argument) for argument in arguments])
        except SystemExit as end:  # of argparse
            code = int(end.code or 0)
    return Outcome(code, out.getvalue(), errors.getvalue())


@contextlib.contextmanager
def _standard_input(data: bytes) -> Iterator[None]:
    """Descriptor 0 gives these bytes, then ends."""
    before = os.dup(0)
    try:
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.seek(0)
            os.dup2(file.fileno(), 0)
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


@dataclass(frozen=True)
class Outcome:
    """What a run left: exit code, and what it printed."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[Mapping[str, Any]]:
        """The JSON lines; a device may print other ones."""
        return [json.loads(line) for line in self.stdout.splitlines() if line.startswith("{")]

    def fails(self, code: int, text: str) -> list[Mapping[str, Any]]:
        """It ended with an exit code and one line on stderr that matches; the lines on stdout."""
        assert re.fullmatch(f"run.py: error: .*{text}.*\n", self.stderr), self.stderr
        assert self.returncode == code, self.stderr
        return self.lines
