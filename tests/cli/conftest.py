"""The command line in this process, and artifacts that several tests share."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from squeezeedge import loading
from squeezeedge.artifact import Artifact
from squeezeedge.calib.statement import Statement
from squeezeedge.cli import app
from squeezeedge.graph import IMAGE
from squeezeedge.graph.sqe import write_sqe
from squeezeedge.model import Model
from squeezeedge.networks.registry import DEFAULT
from tests.graphs import GraphBuilder, random_images

Invoke = Callable[..., Result]


@pytest.fixture(scope="session")
def invoke() -> Invoke:
    """``invoke("eval", "--json")``; a known failure is in ``result.exception``."""

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


class Terminal:
    """A pseudo-terminal that stdout and stderr are while a command runs in it; its width is what it says itself.

    Args:
        monkeypatch: of the test.
        columns: how many it has.

    Attributes:
        raw: what was written last.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
        self._monkeypatch, self.columns, self.raw = monkeypatch, columns, b""
        for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "_TYPER_FORCE_DISABLE_TERMINAL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("TERM", "xterm")

    def __call__(self, *arguments: str | Path) -> list[str]:
        """The lines that a command leaves there, without colours; a failure is raised."""
        return self.shows(lambda: app([str(argument) for argument in arguments], standalone_mode=False))

    def shows(self, print_: Callable[[], object]) -> list[str]:
        """The lines that a function leaves there."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, self.columns, 0, 0))
        received: list[bytes] = []

        def read() -> None:
            with contextlib.suppress(OSError):  # the other end is closed
                while data := os.read(master, 1 << 16):
                    received.append(data)

        reader = threading.Thread(target=read)
        reader.start()
        with open(slave, "w", encoding="utf-8") as stream, self._monkeypatch.context() as patch:  # noqa: PTH123
            patch.setattr(sys, "stdout", stream)
            patch.setattr(sys, "stderr", stream)
            try:
                print_()
            finally:
                stream.flush()
        reader.join()
        os.close(master)
        self.raw = b"".join(received)
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw.decode())
        return [line.split("\r")[-1] for line in text.replace("\r\n", "\n").split("\n")]


@pytest.fixture(params=[80, 120])
def terminal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """``terminal("models")``: what is seen, once in 80 and once in 120 columns."""
    return Terminal(monkeypatch, request.param)


@pytest.fixture(scope="session")
def artifact(digits_artifact: Artifact) -> Path:
    """The embedded network, compiled for any processor."""
    return digits_artifact.path


@pytest.fixture
def embedded_once(digits_network: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded network, which takes a second to export, is loaded once for all tests that ask for this."""
    load = loading.load

    def known(name: str | Path | None = None, weights: Path | None = None, **options: Any) -> Model:  # noqa: ANN401
        own = options.get("size") in (None, digits_network.preprocessing.size[0]) and not options.get("pretrained")
        own = own and not options.get("preprocessing", Statement()).stated()
        return digits_network if own and weights is None and name in (None, DEFAULT) else load(name, weights, **options)

    monkeypatch.setattr(loading, "load", known)


@pytest.fixture(scope="session")
def program(invoke: Invoke, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small graph, compiled into a program for the VTA accelerator."""
    folder = tmp_path_factory.mktemp("vta")
    builder = GraphBuilder(np.random.default_rng(0), (12, 12))
    fire = builder.fire(builder.conv(IMAGE, 24, (3, 3), stride=(2, 2), name="first"), 16, (16, 24), name="fire")
    graph = builder.finish(builder.pool(fire, name="pool"), 5)
    write_sqe(graph, folder / "small.sqe")
    np.savez(folder / "images.npz", images=random_images(graph, 6, 0), labels=np.arange(6) % 5)
    out = folder / "artifact"
    result = invoke("compile", folder / "small.sqe", "--target", "vta", "--data", folder / "images.npz", "-o", out)
    assert result.exit_code == 0, result.output
    return out
