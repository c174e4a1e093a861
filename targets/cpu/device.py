"""Device side of a CPU artifact: the network's shared library through ctypes. It needs Linux and nothing else."""

from __future__ import annotations

import _ctypes
import argparse
import ctypes
import os
import re
import struct
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squeezeedge.targets.device.run import Artifact, Trace

__all__ = [
    "FILES",
    "LIBRARIES",
    "REQUIRED",
    "THREADS_VARIABLE",
    "Network",
    "Unavailable",
    "add_arguments",
    "library_name",
    "machine_of",
    "variant_entry",
]

LIBRARIES = "lib*.so"
FILES = (LIBRARIES, "trace*.json")
REQUIRED: tuple[tuple[str, str], ...] = ()

PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
"""What the names of a library in C begin with."""

MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv"}
"""ELF's number of a processor -> its name."""

API_VERSION, BAD_ARGUMENT = 1, -2
"""Of the library's interface in C."""

THREADS_VARIABLE = "SQUEEZEEDGE_THREADS"
DEFAULT_THREADS, MAX_THREADS = 8, 64

SEEN = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64)
"""What the library calls after each kernel: (user, kernel, address of what it made, bytes)."""


class Unavailable(Exception):
    """This machine can't run the library; the text says why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The device's own options."""
    text = f"threads (default: ${THREADS_VARIABLE}, else the processors of this process, at most {DEFAULT_THREADS})"
    parser.add_argument("--threads", type=_threads, help=text)
    text = "instruction set whose kernels run, of a library with several (default: the best that the processor has)"
    parser.add_argument("--isa", metavar="NAME", help=text)


def _threads(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_THREADS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads: 1 to {MAX_THREADS}")
    return int(text)


def variant_entry(artifact: Artifact, isa: str) -> dict[str, Any]:
    """What the manifest says of a library's kernels for an instruction set; of others than several, all that it says.

    Raises:
        ValueError: it does not say that.
    """
    several = artifact.compiled.get("variants")
    if several is None:
        return artifact.compiled
    found = [one for one in several if type(one) is dict and one.get("isa") == isa] if type(several) is list else []
    if len(found) != 1:
        raise ValueError(f"{artifact.folder}: the manifest does not describe the kernels for {isa}; compile again")
    return cast("dict[str, Any]", found[0])


def library_name(prefix: str) -> str:
    """File name of the library whose names in C begin with a prefix."""
    return f"lib{prefix}.so"


def machine_of(path: Path) -> str | None:
    """The processor that a library or program is for; ``None`` if it is none (by its ELF header)."""
    with path.open("rb") as file:
        header = file.read(20)
    if len(header) < 20 or header[:4] != b"\x7fELF" or header[5] not in (1, 2):
        return None
    (number,) = struct.unpack_from("<H" if header[5] == 1 else ">H", header, 18)
    return MACHINES.get(number, f"ELF machine {number}")


def _load_from_memory(name: str, content: bytes) -> tuple[ctypes.CDLL, BinaryIO]:
    """The library, and the file in memory that it was loaded from: its path is its own as long as that is open."""
    file = os.fdopen(os.memfd_create(name), "wb")
    try:
        file.write(content)
        file.flush()
        return ctypes.CDLL(f"/proc/self/fd/{file.fileno()}"), file
    except BaseException:
        file.close()
        raise


def _load(path: Path, content: bytes) -> tuple[ctypes.CDLL, BinaryIO | None]:
    """The library, loaded from a copy of its own; the reason why that fails is looked for in its header.

    By the artifact's path, the system would give the library that was loaded from there before, whatever is there now;
    and two devices in one process would share their threads. Where no folder for temporary files can be written, or
    nothing in it executed (mounted ``noexec``), the copy is in memory: a file that is to be closed after the library.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="squeezeedge-") as folder:
            private = Path(folder, path.name)
            private.write_bytes(content)
            return ctypes.CDLL(str(private)), None  # stays loaded without its file
    except OSError as error:
        with suppress(OSError, AttributeError):  # no memfd_create: an old kernel or C library
            return _load_from_memory(path.name, content)
        try:
            wanted, here = machine_of(path), machine_of(Path("/proc/self/exe"))
        except OSError:  # no Linux
            wanted = here = None
        if wanted is None or here is None or wanted == here:
            raise Unavailable(f"{path}: can't be loaded here: {error}") from error
        text = f"compiled for {wanted}, and this machine is {here}: run it there, or compile for this one"
        raise Unavailable(f"{path}: {text} (--mtriple)") from error


def default_threads() -> int:
    """Threads to use: the environment's choice, else the processors that this process may use, at most 8.

    Raises:
        ValueError: the environment's choice is none.
    """
    chosen = os.environ.get(THREADS_VARIABLE)
    if chosen is None:
        return min(len(os.sched_getaffinity(0)), DEFAULT_THREADS)
    try:
        return _threads(chosen)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"environment variable {THREADS_VARIABLE}: {error}") from None


class Network:
    """The library of an artifact, loaded into this process.

    Args:
        artifact: its files.
        threads: how many compute, unless there are fewer processors; ``None``: :func:`default_threads`.
        batch: images a call of the library: so many, or a multiple of it, as threads are computed by one thread each.
        isa: the instruction set whose kernels run; ``None``: the best one that the processor has.

    Raises:
        Unavailable: this processor is not what the library was compiled for.
        ArgumentError: the library has no kernels for ``isa``.
        ValueError: a damaged file, the library of another network, or a wrong number of threads.
    """

    tolerance = 0.0

    def __init__(self, artifact: Artifact, threads: int | None = None, batch: int = 1, isa: str | None = None) -> None:
        if batch < 1:
            raise ValueError(f"a batch has 1 image or more, not {batch}")
        self._artifact, self._batch, self._wanted = artifact, batch, isa
        self._threads = default_threads() if threads is None else threads
        if not 1 <= self._threads <= MAX_THREADS:  # the library takes 32 bits of it
            raise ValueError(f"{threads} is not a number of threads: 1 to {MAX_THREADS}")
        prefix = artifact.compiled.get("prefix")
        if type(prefix) is not str or not PREFIX.fullmatch(prefix):
            raise ValueError(f"{artifact.folder}: the manifest names no library; compile the model again")
        name = library_name(prefix)
        path = artifact.folder / name
        library, self._memory = _load(path, artifact.read(name))
        self._handle: int | None = library._handle
        self._trace = getattr(library, f"{prefix}_trace", None)
        self._profile = getattr(library, f"{prefix}_profile", None)
        try:
            self._begin(library, prefix, path, artifact)
        except BaseException:
            self._unload()
            raise

    def _begin(self, library: ctypes.CDLL, prefix: str, path: Path, artifact: Artifact) -> None:
        """Find what the library has, compare it with the artifact and open the network."""
        try:
            version = library[f"{prefix}_api_version"]()
            if version != API_VERSION:
                raise ValueError(f"version {version} of the interface instead of {API_VERSION}")
            self._open, self._run, self._close = (library[f"{prefix}_{name}"] for name in ("open", "run", "close"))
            self._error, isa = (library[f"{prefix}_{name}"] for name in ("error", "isa"))
            self._shape = tuple((ctypes.c_int32 * 3).in_dll(library, f"{prefix}_input"))
            self._classes = ctypes.c_int32.in_dll(library, f"{prefix}_classes").value
            if self._profile is not None:
                self._kernels = ctypes.c_int32.in_dll(library, f"{prefix}_kernels").value
        except (AttributeError, ValueError) as error:
            raise ValueError(f"{path}: another library ({error}); compile the model again") from error
        self._error.restype = isa.restype = ctypes.c_char_p
        self._open.argtypes = [ctypes.c_int32, ctypes.c_char_p]
        self._run.argtypes = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p]
        if (self._shape, self._classes) != (artifact.shape, artifact.classes):
            raise ValueError(f"{path}: the library of another network; compile the model again")
        failed = self._open(self._threads, None if self._wanted is None else os.fsencode(self._wanted))
        if failed == BAD_ARGUMENT:
            raise argparse.ArgumentError(None, f"--isa {self._wanted}: {self._error().decode()}")
        if failed:
            raise Unavailable(f"{path}: {self._error().decode()}")
        self._isa = isa().decode()
        self._threads = library[f"{prefix}_threads"]()

    def run(self, images: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Images uint8 [N, H, W, 3] -> (class sums int32 [N, classes], milliseconds float64 [N] of each image's batch).

        Each class has a scale of its own: sums of different classes are not comparable, sums * artifact.logit_scale
        (float32) are.

        Raises:
            ValueError: images of another shape or type.
            RuntimeError: the library failed.
        """
        images = np.ascontiguousarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != self._shape:
            raise ValueError(f"images must be uint8 [N, {', '.join(map(str, self._shape))}]")
        sums = np.empty((len(images), self._classes), np.int32)
        latency = np.empty(len(images))
        for first in range(0, len(images), self._batch):
            part = slice(first, min(first + self._batch, len(images)))
            start = time.perf_counter()
            failed = self._run(images[part].ctypes.data, part.stop - first, sums[part].ctypes.data)
            latency[part] = (time.perf_counter() - start) * 1e3
            if failed:
                raise RuntimeError(f"the library failed: {self._error().decode()}")
        return sums, {"latency_ms": latency}

    def trace(self, image: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Image uint8 [H, W, 3] -> (name, uint8 [height, width, channels]) of each tensor; last the class sums.

        Raises:
            ValueError: an image of another shape or type, or trace.json is damaged or of another library.
            RuntimeError: the library failed.
        """
        image = np.ascontiguousarray(image)
        if image.dtype != np.uint8 or image.shape != self._shape:
            raise ValueError(f"an image must be uint8 [{', '.join(map(str, self._shape))}]")
        said, sums = self._said(), np.empty(self._classes, np.int32)
        if self._trace is None:
            raise ValueError(f"{self._artifact.folder}: the library shows no tensors; compile the model again")
        found: dict[str, bytes] = {}

        def seen(user: int, kernel: int, address: int, size: int) -> None:
            for place in said.places:
                if place.step == kernel and place.end <= size:
                    found[place.name] = ctypes.string_at(address + place.begin, place.end - place.begin)

        if self._trace(ctypes.c_void_p(image.ctypes.data), ctypes.c_void_p(sums.ctypes.data), SEEN(seen), None):
            raise RuntimeError(f"the library failed: {self._error().decode()}")
        if len(found) != len(said.places):
            raise ValueError(f"{self._artifact.folder}: trace.json is of another library; compile the model again")
        for place in said.places:
            yield place.name, place.values(np.frombuffer(found[place.name], np.uint8))
        yield said.head, sums

    def kernel_times(self, image: np.ndarray, runs: int) -> tuple[np.ndarray, np.ndarray]:
        """Run an image, uint8 [H, W, 3], so many times.

        Returns:
            Class sums int32 [classes]; float64 [runs, kernels + 1]: milliseconds from the beginning of each run's first
            kernel, which are 0, to that, and to the end of each kernel.

        Raises:
            ValueError: an image of another shape or type, or a library that reads no clock.
            RuntimeError: the library failed.
        """
        image = np.ascontiguousarray(image)
        if image.dtype != np.uint8 or image.shape != self._shape:
            raise ValueError(f"an image must be uint8 [{', '.join(map(str, self._shape))}]")
        if self._profile is None:
            raise ValueError(f"{self._artifact.folder}: the library tells no times; compile the model again")
        sums, clock = np.empty(self._classes, np.int32), np.empty((runs, self._kernels + 1), np.int64)
        for times in clock:
            arguments = (ctypes.c_void_p(array.ctypes.data) for array in (image, sums, times))
            if self._profile(*arguments):
                raise RuntimeError(f"the library failed: {self._error().decode()}")
        return sums, (clock - clock[:, :1]) / 1e6

    def unseen(self) -> dict[str, str]:
        """The tensors that lie nowhere in memory -> why."""
        return self._said().unseen

    def _said(self) -> Trace:
        """Where the tensors of the kernels that run lie."""
        name = variant_entry(self._artifact, self._isa).get("trace", "trace.json")
        if type(name) is not str:
            raise ValueError(f"{self._artifact.folder}: the manifest's name of a trace is damaged; compile again")
        return self._artifact.trace(name)

    def about(self) -> dict[str, Any]:
        """How many threads compute, with the kernels for which instruction set."""
        return {"threads": self._threads, "isa": self._isa}

    def close(self) -> None:
        """Stop its threads and unload it."""
        if self._handle is not None:
            self._close()
            self._unload()

    def _unload(self) -> None:
        assert self._handle is not None
        _ctypes.dlclose(self._handle)
        self._handle = None
        if self._memory is not None:
            self._memory.close()
