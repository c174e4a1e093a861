"""A process that runs one runtime: ``python -m benchmarks.worker RUNTIME FOLDER IMAGES``.

Every line of its input is a JSON object that asks for something, every line of its output the answer. What a runtime
itself prints goes to the standard error. It is a process of its own because some libraries read what they may use from
environment variables once, when they are loaded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runtimes import PEAK, RUNTIMES, Images, Opened

__all__ = ["Worker", "WorkerError"]

WARM_UP_S = 0.002


class WorkerError(Exception):
    """A worker failed; the text says why."""


class Worker:
    """The parent's side.

    Args:
        runtime: a key of :data:`benchmarks.runtimes.RUNTIMES`.
        folder: what was prepared for it.
        images: .npz with ``pixels``, uint8 [N, H, W, 3], and ``normalized``, float32 [N, 3, H, W].
        environment: variables beside those of this process, without others' choices for threads and kernels.
    """

    def __init__(self, runtime: str, folder: Path, images: Path, environment: Mapping[str, str]) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "ONEDNN_", "DNNL_"))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", runtime, str(folder), str(images)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**kept, **environment},
        )

    def ask(self, **request: object) -> dict[str, Any]:
        """The answer to a request.

        Raises:
            WorkerError: the process failed or ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError as error:
            raise WorkerError(f"its process ended ({error})") from error
        if not line:
            raise WorkerError(f"its process ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


class _Work:
    """The process's side."""

    def __init__(self, runtime: str, folder: Path, images: Path) -> None:
        self._runtime, self._folder = RUNTIMES[runtime], folder
        with np.load(images) as arrays:
            self._images = Images(arrays["pixels"], arrays["normalized"])
        self._opened: dict[tuple[int, int], Opened] = {}

    def open(self, threads: int, batch: int) -> dict[str, Any]:
        """Open the network for a batch; the classes that it answers."""
        images = Images(self._images.pixels[:batch], self._images.normalized[:batch])
        opened = self._opened[threads, batch] = self._runtime.open(self._folder, threads, images)
        return {"classes": opened.run().argmax(1).tolist(), "kernels": opened.kernels}

    def measure(self, threads: int, batch: int, seconds: float) -> dict[str, Any]:
        """Milliseconds of each call in that time, of one call at least; a long one is its own warm-up."""
        run = self._opened[threads, batch].run
        begin = time.perf_counter()
        run()
        once = time.perf_counter() - begin
        if once > seconds:
            return {"ms": [once * 1e3]}
        while time.perf_counter() - begin < WARM_UP_S:
            run()
        calls = []
        for _ in range(round(seconds / once)):
            start = time.perf_counter()
            run()
            calls.append((time.perf_counter() - start) * 1e3)
        return {"ms": calls}

    def peak(self) -> dict[str, Any]:
        """Multiply-accumulates in a millisecond, of one thread."""
        from squeezeedge.graph.rules import Shape
        from squeezeedge.targets.cpu.device import Network
        from squeezeedge.targets.device.run import Artifact
        from squeezeedge.targets.peak import fastest_rate

        artifact = Artifact(self._folder / PEAK)
        network = Network(artifact, 1)
        try:
            return {"rate": fastest_rate(network, Shape(*artifact.shape), artifact.compiled)}
        finally:
            network.close()


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    runtime, folder, images = sys.argv[1:]
    work = _Work(runtime, Path(folder), Path(images))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(work, request.pop("do"))(**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
