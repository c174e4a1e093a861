"""A Python with numpy for 64-bit ARM under user-mode emulation, so that an artifact for such a board can be run here.

It is Debian's Python, unpacked and not installed, and numpy's wheel. Both are fetched once, by apt (with settings of
its own: nothing changes on this machine, and root is not needed) and pip, and kept outside the checkout.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

__all__ = ["EMULATOR", "aarch64_python"]

EMULATOR = "qemu-aarch64-static"
TOOLS = (EMULATOR, "apt-get", "apt-cache", "dpkg")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "squeezeedge-tests" / "aarch64-python"

LIBRARIES = ("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8")
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64")

APT = """APT::Architecture "arm64";
APT::Architectures {{ "arm64"; }};
Dir::State "{folder}/state";
Dir::State::status "/dev/null";
Dir::Cache "{folder}/cache";
Acquire::Languages "none";
Acquire::Retries "0";
Acquire::http::Timeout "10";
APT::Update::Error-Mode "any";
"""

LAUNCHER = """#!/bin/sh
exec {emulator} -cpu max -L {folder}/root -E PYTHONHOME={folder}/root/usr -E PYTHONPATH={folder}/site \\
    -E OPENBLAS_NUM_THREADS=1 {folder}/root/usr/bin/python{version} "$@"
"""


def aarch64_python() -> Path:
    """The program, fetched if it is not here yet; where that can't be, the test is skipped with the reason."""
    for tool in TOOLS:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    program = CACHE / "python"
    if not program.exists():
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE.parent) as folder:
            _fetch(Path(folder))
            try:
                Path(folder, "made").rename(CACHE)
            except OSError:  # another test run was faster
                assert program.exists(), f"{CACHE} is in the way: remove it"
    return program


def _fetch(folder: Path) -> None:
    made, apt = folder / "made", {**os.environ, "APT_CONFIG": str(folder / "apt.conf")}
    for name in ("state/lists/partial", "cache/archives/partial", "packages", "made/root"):
        (folder / name).mkdir(parents=True)
    (folder / "apt.conf").write_text(APT.format(folder=folder))
    _run(["apt-get", "-q", "update"], folder, apt)
    depends = _run(["apt-cache", "depends", "python3-minimal"], folder, apt)
    found = re.search(r"python(3\.\d+)-minimal", depends)
    if found is None:
        pytest.skip("apt knows no Python for arm64")
    version = found[1]
    python = (f"python{version}-minimal", f"libpython{version}-minimal", f"libpython{version}-stdlib")
    _run(["apt-get", "-q", "download", *python, *LIBRARIES], folder / "packages", apt)
    for package in (folder / "packages").iterdir():
        _run(["dpkg", "-x", str(package), str(made / "root")], folder)
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "download", "-q", "--timeout", "10", "--retries", "0", "--no-deps"]
    _run([*pip, "--only-binary=:all:", "--python-version", version, *platforms, "-d", "wheels", "numpy"], folder)
    for wheel in (folder / "wheels").iterdir():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(made / "site")
    (made / "python").write_text(LAUNCHER.format(emulator=shutil.which(EMULATOR), folder=CACHE, version=version))
    (made / "python").chmod(0o755)


def _run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    """Its output; a failure skips the test."""
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "no output").splitlines()[-1]
        pytest.skip(f"no Python for aarch64: {' '.join(command[:4])}: {last}")
    return done.stdout
