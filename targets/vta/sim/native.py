"""Builds the simulator from the accelerator's source, once for every geometry, and loads it.

The wheel carries the source and not the library, because the geometry (any board's JSON) is compiled in. The library
is kept in the user's cache folder under a name that changes with source, geometry, compiler and flags. The object file
that TVM modules are linked with is kept there in the same way.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from squeezeedge.errors import UnavailableError
from squeezeedge.files import scratch_folder
from squeezeedge.targets.vta.isa.config_header import CONFIG_HEADER, HLS, config_header, hardware_sources
from squeezeedge.targets.vta.isa.geometry import Geometry

__all__ = ["COMPILE_FLAGS", "SIMULATOR", "build_simulator", "compiler", "load_simulator", "require_compiler"]

SIMULATOR = "the VTA simulator"

COMPILE_FLAGS = ("-std=c++14", "-O3", "-fPIC", "-shared", "-pthread", "-Wno-unknown-pragmas")

COMPILERS = ("g++", "c++", "clang++")


def compiler() -> str | None:
    """Path of the C++ compiler: ``$CXX``, or the first of g++, c++ and clang++; ``None`` if there is none."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    return next((path for name in names if (path := shutil.which(name))), None)


def require_compiler(who: str) -> str:
    """Path of the C++ compiler.

    Raises:
        UnavailableError: there is none, which ``who`` needs.
    """
    command = compiler()
    if command is None:
        raise UnavailableError(f"{who} needs a C++ compiler; install g++ or set CXX")
    return command


@cache
def load_simulator(geometry: Geometry) -> ctypes.CDLL:
    """The simulator's library, built if this machine has none for the geometry yet.

    Raises:
        UnavailableError: no C++ compiler, it failed, or the cache folder cannot be written.
    """
    library = build_simulator(HLS / "sim" / "simulator.cpp", geometry, COMPILE_FLAGS, ".so")
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise UnavailableError(f"{library}: cannot be loaded ({error}); delete it") from error


def build_simulator(source: Path, geometry: Geometry, flags: Sequence[str], suffix: str) -> Path:
    """Build the library or object file of a C++ file that holds the simulator, unless the cache folder has it.

    Args:
        source: in a folder of :data:`.HLS`; it includes nothing but that folder, the hardware's and the simulator's.
        geometry: compiled in.
        flags: of the compiler.
        suffix: of what they make.

    Raises:
        UnavailableError: no C++ compiler, it failed, or the cache folder cannot be written.
    """
    command = require_compiler(SIMULATOR)
    header = config_header(geometry)
    version = subprocess.run([command, "--version"], capture_output=True, check=False).stdout
    hasher = hashlib.sha256(repr((command, version, tuple(flags), source.name, header)).encode())
    for path in [*hardware_sources(), *sorted((HLS / "sim").iterdir()), *sorted(source.parent.iterdir())]:
        hasher.update(path.read_bytes())
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "squeezeedge"
    target = folder / f"vta-{hasher.hexdigest()[:24]}{suffix}"
    if not target.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _build(command, source, flags, header, target)
        except OSError as error:
            raise UnavailableError(f"{folder}: {SIMULATOR} cannot be built ({error}); set XDG_CACHE_HOME") from error
    return target


def _build(command: str, source: Path, flags: Sequence[str], header: str, target: Path) -> None:
    with scratch_folder(target.parent) as folder:
        (folder / CONFIG_HEADER).write_text(header, encoding="utf-8")
        built = folder / target.name
        result = subprocess.run(
            [command, *flags, f"-I{folder}", f"-I{HLS}", str(source), "-o", str(built)],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise UnavailableError(f"{command} failed to build {SIMULATOR}:\n{result.stderr[-2000:]}")
        built.replace(target)
