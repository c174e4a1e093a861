"""Devices as tests use them: opened for one call, and boards that are local folders."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import squeezeedge
from squeezeedge.targets.device.run import meaning_sha256
from squeezeedge.targets.protocol import RunResult, Target
from squeezeedge.targets.session import open_session

CHECKOUT = Path(squeezeedge.__file__).parents[1]

SSH = """#!/bin/sh
# FAKE ssh: works in a local folder
echo ssh >> {log}
case "$*" in *unreachable*) echo "ssh: connect to host unreachable port 22: Connection refused" >&2; exit 255;; esac
while [ "$1" = -o ] || [ "$1" = -p ]; do shift 2; done
shift
export XDG_CACHE_HOME="${{XDG_CACHE_HOME:-$HOME/.cache}}"
cd {home} && HOME={home} exec sh -c "$*"
"""

SUDO = """#!/bin/sh
# FAKE sudo: stays who it is
shift
exec "$@"
"""

PROFILE = """export PYTHONPATH={modules} OMP_NUM_THREADS=1 {environment}
python3() {{ {python} "$@"; }}
"""


def answers(
    target: Target, artifact: Path, images: NDArray[np.uint8], device: str, board: str | None = None
) -> RunResult:
    """What a device says to images: it is opened, asked and closed."""
    with open_session(artifact, target, device, board) as session:
        return session.run(images)


def seal(artifact: Path) -> None:
    """Let an artifact's manifest have the checksums of the files and of its own values as they are now."""
    path = artifact / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {
        file.relative_to(artifact).as_posix(): {
            "bytes": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in artifact.rglob("*")
        if file.is_file() and file != path
    }
    manifest["meaning_sha256"] = meaning_sha256(manifest)
    path.write_text(json.dumps(manifest))


class FakeBoard:
    """FAKE ssh and sudo come first on the path.

    Args:
        folder: where to put everything.
        monkeypatch: changes the path.
        modules: folders of Python modules that the board's login shell finds, beside this package.
        python: the command that the board's python3 is.
        environment: further settings of that shell.

    Attributes:
        home: the login's home folder.
        programs: folder of the fakes.
    """

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        modules: Sequence[Path] = (),
        python: str = sys.executable,
        **environment: object,
    ) -> None:
        self.home, self.programs, self._log = folder / "home", folder / "programs", folder / "log"
        for path in (self.home, self.programs):
            path.mkdir(parents=True)
        for name, text in (("ssh", SSH), ("sudo", SUDO)):
            (self.programs / name).write_text(text.format(home=self.home, log=self._log))
            (self.programs / name).chmod(0o755)
        (self.home / ".profile").write_text(
            PROFILE.format(
                modules=os.pathsep.join(map(str, (CHECKOUT, *modules))),
                environment=" ".join(f"{name}={value}" for name, value in environment.items()),
                python=python,
            )
        )
        monkeypatch.setenv("PATH", f"{self.programs}{os.pathsep}{os.environ['PATH']}")

    @property
    def calls(self) -> list[str]:
        """The programs that were started since the last look, in order."""
        names = self._log.read_text().split() if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        return names
