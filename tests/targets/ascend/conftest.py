"""The fake atc on the path, the fake runtimes, and artifacts made with them."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from squeezeedge.artifact import write_artifact
from squeezeedge.graph import IntegerGraph
from squeezeedge.targets.ascend.options import AscendOptions
from squeezeedge.targets.registry import get_target
from tests.graphs import random_images, squeezenet_graph

TARGET = get_target("ascend")
HERE = Path(__file__).parent
RUNTIMES = ("ais_bench", "acl")

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors: threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def atc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """FAKE atc on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "atc"
    script.write_text(f'#!/bin/sh\n# FAKE atc\nexec "{sys.executable}" "{HERE / "fake_atc.py"}" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return script


@pytest.fixture(scope="session")
def network() -> tuple[IntegerGraph, NDArray[np.uint8]]:
    """A small SqueezeNet 1.1 and six images; the first two are an artifact's golden ones."""
    graph = squeezenet_graph("squeezenet1_1", 48, 12)
    return graph, random_images(graph, 6, 3)


@pytest.fixture
def make(tmp_path: Path, network: tuple[IntegerGraph, NDArray[np.uint8]]) -> Make:
    """``make(soc_version="Ascend310P3")``: the network as an artifact folder."""

    def write(name: str = "artifact", **options: Any) -> Path:  # noqa: ANN401  (of the target's options)
        graph, images = network
        settings = AscendOptions(**{"soc_version": "Ascend310P3", **options})
        return write_artifact(graph, TARGET, settings, tmp_path / name, golden=images[:2], source={}).path

    return write


@dataclass(frozen=True)
class Outcome:
    """What a run of run.py left: exit code, JSON lines and the text on stderr."""

    code: int
    records: list[dict[str, Any]]
    errors: str


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Outcome]]:
    """``script(artifact, "images.npy", runtimes=["acl"], FAKE_FAULT="wrong")``: the artifact's run.py, in here."""
    forgotten = set(sys.modules)

    def run(artifact: Path, *arguments: object, runtimes: Sequence[str] = (), **variables: str) -> Outcome:
        spec = importlib.util.spec_from_file_location("artifact_run", artifact / "run.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            for runtime in runtimes:
                patch.syspath_prepend(str(HERE / f"fake_{runtime}"))
            patch.setitem(sys.modules, "device", None)  # run.py puts the artifact's there
            code = module.main([str(argument) for argument in arguments])
            forget_runtimes()
        captured = capsys.readouterr()
        return Outcome(code, [json.loads(line) for line in captured.out.splitlines()], captured.err)

    yield run
    assert not {name for name in set(sys.modules) - forgotten if name.partition(".")[0] in RUNTIMES}


def forget_runtimes() -> None:
    """Unload the fakes."""
    for name in [name for name in sys.modules if name.partition(".")[0] in RUNTIMES]:
        del sys.modules[name]
