"""A device that is ready to run one artifact: hardware, simulator or emulation, here or on another machine over ssh.

On this machine, the target's ``Network`` runs in this process on the artifact's files. On another machine, the
artifact's run.py and device.py run, and :mod:`.board` communicates with run.py.
"""

from __future__ import annotations

import importlib
import inspect
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeezeedge.errors import SqueezeEdgeError, UnavailableError, UsageError
from squeezeedge.targets.protocol import Kind, Network, RunResult, Target, Timer, Tracer

if TYPE_CHECKING:  # numpy is loaded when a device is opened
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Session", "check_device", "check_files", "check_ready", "open_session", "takes"]

SETTINGS = ("threads", "batch")
"""What can be chosen of a device whose opener has a parameter of the name."""


class Session:
    """A device with an artifact.

    Attributes:
        device: as in ``--device``.
        kind: what that is.
    """

    def __init__(self, network: Network, device: str, kind: Kind, origin: _Failures) -> None:
        self.device, self.kind = device, kind
        self._network, self._origin = network, origin
        self._closed = False
        self._timings: dict[str, list[NDArray[np.float64]]] = {}

    def run(self, images: NDArray[np.uint8]) -> RunResult:
        """Run images.

        Args:
            images: uint8 [N, height, width, 3].

        Returns:
            The class sums and timings of these images; its metrics are what the device says of itself and, under their
            names, the medians of all timings but the latency, over all images of this session.

        Raises:
            UsageError: the device is closed.
            SqueezeEdgeError: images of another shape or type, or the device failed.
        """
        import numpy as np

        self._check_open()
        with self._origin.named():
            sums, timings = self._network.run(images)
            about = self._network.about()
        for name, values in timings.items():
            self._timings.setdefault(name, []).append(values)
        medians = {
            name: float(np.median(np.concatenate(values)))
            for name, values in self._timings.items()
            if name != "latency_ms" and len(images)
        }
        return RunResult(sums, timings, {**about, **medians})

    @property
    def tolerance(self) -> float:
        """The largest allowed difference of class sums from the oracle's, as a share of the largest; 0 without fp16."""
        return float(getattr(self._network, "tolerance", 0))

    def trace(self, image: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[Any]]]:
        """Run an image and yield what every layer made: :meth:`squeezeedge.targets.protocol.Tracer.trace`.

        Raises:
            UsageError: the device is closed, or shows no tensors.
            SqueezeEdgeError: an image of another shape or type, or the device failed.
        """
        tracer = self._tracer()
        with self._origin.named():
            yield from tracer.trace(image)

    def unseen(self) -> Mapping[str, str]:
        """Name of every tensor that :meth:`trace` does not yield -> why.

        Raises:
            UsageError, SqueezeEdgeError: as :meth:`trace`.
        """
        tracer = self._tracer()
        with self._origin.named():
            return tracer.unseen()

    def kernel_times(self, image: NDArray[np.uint8], runs: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Run an image so many times: :meth:`squeezeedge.targets.protocol.Timer.kernel_times`.

        Raises:
            UsageError: the device is closed, or tells no times of its kernels.
            SqueezeEdgeError: an image of another shape or type, or the device failed.
        """
        self._check_open()
        if not isinstance(self._network, Timer):
            raise UsageError(f"{self.device}: the device tells no times of its kernels")
        with self._origin.named():
            return self._network.kernel_times(image, runs)

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"{self.device}: the device is closed; run images inside of the block that opens it")

    def _tracer(self) -> Tracer:
        self._check_open()
        if not isinstance(self._network, Tracer):
            raise UsageError(f"{self.device}: the device shows no tensors but the class sums; use another one")
        return self._network

    def close(self) -> None:
        """Take no more images."""
        self._closed = True


class _Failures:
    """Turns failures of a target's device module into the package's errors, which name the artifact.

    Args:
        origin: the artifact.
        unavailable: the module's exception for a device or library that this machine lacks.
        elsewhere: what to do then, a sentence's end.
    """

    def __init__(self, origin: Path, unavailable: type[Exception], elsewhere: str) -> None:
        self._origin, self._unavailable, self._elsewhere = origin, unavailable, elsewhere

    @contextmanager
    def named(self) -> Iterator[None]:
        try:
            yield
        except SqueezeEdgeError:
            raise
        except self._unavailable as error:
            raise UnavailableError(f"{error}{self._elsewhere}") from None
        except (OSError, ValueError, RuntimeError, LookupError, MemoryError) as error:
            text = str(error) or repr(error)
            raise SqueezeEdgeError(text if str(self._origin) in text else f"{self._origin}: {text}") from error


@contextmanager
def open_session(
    artifact: Path,
    target: Target,
    device: str,
    board: str | None = None,
    timeout: float | None = None,
    *,
    trace: bool = False,
    elsewhere: bool = True,
    threads: int | None = None,
    batch: int | None = None,
) -> Iterator[Session]:
    """Open a device for one artifact; it is given back at the end of the block.

    Args:
        artifact: the folder.
        target: that it was compiled for.
        device: one of the target's.
        board: ``user@host[:port]`` of a machine that has the device, reached by ssh; ``None``: this one.
        timeout: seconds that a board may take to set the device up and for each answer; ``None``: 300, then 100 times
            what a golden input took, at least 60.
        trace: whether the tensors between the kernels are asked for, which a board must know from the start.
        elsewhere: whether the message that this machine lacks the device says where else images could be run.
        threads: how many compute; ``None``: the device's own choice.
        batch: how many images are computed at once, on this machine; ``None``: the device's own choice.

    Raises:
        UsageError: the target has no such device, or that can not be on another machine, or it has no choice of threads
            or batches.
        UnavailableError: the device or a library for it is missing, or the board is not reached.
        GateError: the board's own check on the golden inputs failed.
        SqueezeEdgeError: a file is damaged, or the device fails.
    """
    _check_place(target, device, board)
    settings = {name: value for name, value in zip(SETTINGS, (threads, batch), strict=True) if value is not None}
    for name in settings:
        if not takes(target, device, name):
            raise UsageError(f"`{name}`: device {device} has no choice of it; leave it out")
    if board is not None and batch is not None:
        raise UsageError("`batch`: another machine gets one image after the other; leave it out")
    check_files(artifact, target, device)
    from squeezeedge.targets.device.run import Artifact

    module: Any = importlib.import_module(target.device_module)
    failures = _Failures(artifact, module.Unavailable, _elsewhere(target, device) if elsewhere else "")
    with nullcontext() if board is None else _closed_when_terminated():
        with failures.named():
            files = Artifact(artifact)
            network: Network
            if board is None:
                opener: Any = target.network(device)
                network = opener(files, **settings)
            else:
                from squeezeedge.targets.board import BoardNetwork

                network = BoardNetwork(
                    files, board, module.FILES, root=target.needs_root, timeout=timeout, trace=trace, threads=threads
                )
        done = False
        try:
            session = Session(network, device, target.devices[device], failures)
            yield session
            session.close()
            done = True
        finally:
            try:
                with failures.named():
                    network.close()
            except SqueezeEdgeError:
                if done:  # else what went wrong before tells more
                    raise


def takes(target: Target, device: str, setting: str) -> bool:
    """Whether one of :data:`SETTINGS` can be chosen for a device; a program on another machine is the same one."""
    return setting in inspect.signature(target.network(device)).parameters


def check_ready(board: str, *, root: bool) -> None:
    """Look whether a board is reached and has what run.py needs.

    Args:
        board: ``user@host[:port]``.
        root: whether the device needs root there.

    Raises:
        UsageError: not the name of a board.
        UnavailableError: it is not reached, or has no Python or numpy.
    """
    from squeezeedge.targets.remote import Remote

    with _closed_when_terminated():
        Remote.of(board).check_ready(root=root)


@contextmanager
def _closed_when_terminated() -> Iterator[None]:
    """Turn SIGTERM into SystemExit, so that ssh is ended, too; a handler that the program has set is kept.

    Devices of this machine do without it: Python would see the signal only after a library's call returns.
    """
    main = threading.current_thread() is threading.main_thread()  # which alone may set handlers
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def check_device(artifact: Path, target: Target, device: str, board: str | None = None) -> None:
    """Raise before any work where it is certain that a device cannot run an artifact.

    Args:
        artifact: the folder.
        target: that it was compiled for.
        device: one of the target's.
        board: ``user@host[:port]`` of the machine that it is on; ``None``: this one.

    Raises:
        UsageError: the target has no such device, or it runs on this machine only.
        UnavailableError: the device, or a file that it needs, is missing.
    """
    _check_place(target, device, board)
    target.check_device(device, board)
    check_files(artifact, target, device)


def _check_place(target: Target, device: str, board: str | None) -> None:
    """Raise UsageError if a target has no such device, or the device cannot be on another machine and is to be."""
    if device not in target.devices:
        raise UsageError(f"target {target.name} has no device {device!r}; it has: {', '.join(target.devices)}")
    if board is not None and device not in target.remote:
        raise UsageError(f"`board`: device {device} runs on this machine only")


def check_files(artifact: Path, target: Target, device: str) -> None:
    """Raise UnavailableError if an artifact lacks a file that the device needs but the compiler does not always make.

    Args:
        artifact: the folder.
        target: that it was compiled for.
        device: one of the target's; simulators and emulations need none of these files.
    """
    module: Any = importlib.import_module(target.device_module)
    for pattern, remedy in module.REQUIRED if target.devices[device] == "hardware" else ():
        if not any(artifact.glob(pattern)):
            raise UnavailableError(f"{artifact / pattern}: {remedy}")


def _elsewhere(target: Target, device: str) -> str:
    """Where else the artifact could be run, for the message that this machine lacks the device."""
    ways = ["use `board` user@host"] if device in target.remote else []
    if target.devices[device] != "emulation":
        ways += [f"`device` {name}" for name, kind in target.devices.items() if kind == "emulation"]
    return "".join(f"; or {way}" if i == 0 else f", or {way}" for i, way in enumerate(ways))
