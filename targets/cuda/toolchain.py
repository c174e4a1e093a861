"""CUDA C -> machine code and PTX: nvcc where it is installed, else NVRTC from its wheel. No GPU, no driver."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Sequence
from importlib import metadata
from pathlib import Path
from typing import Protocol

from squeezeedge.errors import SqueezeEdgeError, UnavailableError
from squeezeedge.files import scratch_folder

__all__ = ["FIX", "Compiler", "Nvcc", "Nvrtc", "find_compiler", "known_architectures"]

FIX = "install the CUDA toolkit (nvcc on the path), or: pip install nvidia-cuda-nvrtc"
WHEELS = ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12")
DEFAULT_NVCC = Path("/usr/local/cuda/bin/nvcc")


class Compiler(Protocol):
    """One way to compile."""

    @property
    def version(self) -> str:
        """Name and version, for people."""

    def architectures(self) -> frozenset[str]:
        """What it makes machine code for, as ``sm_80``."""

    def cubin(self, source: str, arch: str) -> bytes:
        """Machine code.

        Args:
            source: CUDA C without includes.
            arch: as ``sm_80``.

        Raises:
            SqueezeEdgeError: the compiler fails; the text has its first error.
        """

    def ptx(self, source: str, arch: str) -> bytes:
        """PTX that a driver compiles for this architecture and later ones."""


class Nvcc:
    """The CUDA toolkit's compiler."""

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def version(self) -> str:
        """As nvcc says it."""
        said = self._run(["--version"])
        found = re.search(r"release [\d.]+, V([\d.]+)", said)
        return f"nvcc {found[1] if found else said.strip()}"

    def architectures(self) -> frozenset[str]:
        """See :class:`Compiler`."""
        return frozenset(self._run(["--list-gpu-code"]).split())

    def cubin(self, source: str, arch: str) -> bytes:
        """See :class:`Compiler`."""
        return self._compile(source, ["-cubin", f"-arch={arch}"])

    def ptx(self, source: str, arch: str) -> bytes:
        """See :class:`Compiler`."""
        return self._compile(source, ["-ptx", f"-arch={arch.replace('sm', 'compute')}"])

    def _compile(self, source: str, options: Sequence[str]) -> bytes:
        with scratch_folder() as folder:
            path, out = folder / "kernels.cu", folder / "out"
            path.write_text(source)
            self._run([*options, "-w", str(path), "-o", str(out)])
            return out.read_bytes()

    def _run(self, arguments: Sequence[str]) -> str:
        try:
            done = subprocess.run([self.path, *arguments], capture_output=True, text=True, check=False)
        except OSError as error:
            raise UnavailableError(f"{self.path} can't be started: {error.strerror}; {FIX}") from error
        if done.returncode != 0:
            raise SqueezeEdgeError(f"{self.path} failed: {_first_error(done.stderr) or done.returncode}")
        return done.stdout


class Nvrtc:
    """NVIDIA's runtime compiler, a library that does not need the driver."""

    def __init__(self, path: Path) -> None:
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise UnavailableError(f"{path} can't be loaded: {error}; {FIX}") from error
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p

    @property
    def version(self) -> str:
        """As the library says it."""
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        return f"NVRTC {major.value}.{minor.value}"

    def architectures(self) -> frozenset[str]:
        """See :class:`Compiler`."""
        count = ctypes.c_int()
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        numbers = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", numbers)
        return frozenset(f"sm_{number}" for number in numbers)

    def cubin(self, source: str, arch: str) -> bytes:
        """See :class:`Compiler`."""
        return self._compile(source, arch, "CUBIN")

    def ptx(self, source: str, arch: str) -> bytes:
        """See :class:`Compiler`."""
        return self._compile(source, arch.replace("sm", "compute"), "PTX").rstrip(b"\0")

    def _compile(self, source: str, arch: str, kind: str) -> bytes:
        program = ctypes.c_void_p()
        self._call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
        try:
            options = [f"--gpu-architecture={arch}".encode(), b"-w"]
            listed = (ctypes.c_char_p * len(options))(*options)
            if self._library.nvrtcCompileProgram(program, len(options), listed):
                said = self._read(program, "ProgramLog").decode(errors="replace")
                raise SqueezeEdgeError(f"NVRTC failed for {arch}: {_first_error(said)}")
            return self._read(program, kind)
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, text)
        return text.raw

    def _call(self, function: str, *arguments: object) -> None:
        code = getattr(self._library, function)(*arguments)
        if code:
            raise SqueezeEdgeError(f"{function}: {self._library.nvrtcGetErrorString(code).decode()}")


def find_compiler() -> Compiler:
    """The compiler of this machine.

    Raises:
        UnavailableError: there is none.
    """
    nvcc = shutil.which("nvcc") or (str(DEFAULT_NVCC) if os.access(DEFAULT_NVCC, os.X_OK) else None)
    if nvcc is not None:
        return Nvcc(nvcc)
    library = _nvrtc_library()
    if library is not None:
        return Nvrtc(library)
    raise UnavailableError(f"no CUDA compiler: neither nvcc nor NVRTC is here; {FIX}")


def known_architectures(compiler: Compiler, asked: Sequence[str]) -> tuple[str, ...]:
    """Those of the architectures that a compiler makes machine code for, in the same order.

    Raises:
        UnavailableError: none of them.
    """
    known: Collection[str] = compiler.architectures()
    kept = tuple(arch for arch in asked if arch in known)
    if not kept:
        only = ", ".join(sorted(known, key=lambda arch: (len(arch), arch)))
        raise UnavailableError(
            f"{compiler.version} makes no code for {', '.join(asked)}, only for {only}; "
            "install the CUDA release that does (sm_72: 12, sm_120: 12.8 or later), or choose another `arch`"
        )
    return kept


def _nvrtc_library() -> Path | None:
    """The library of an installed wheel, wherever that puts it."""
    for wheel in WHEELS:
        try:
            files = metadata.files(wheel) or []
        except metadata.PackageNotFoundError:
            continue
        for file in files:
            if re.fullmatch(r"libnvrtc\.so\.\d+", file.name):
                return Path(str(file.locate()))
    return None


def _first_error(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else "")
