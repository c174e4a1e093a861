"""Fixtures and helpers that every test folder shares."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from squeezeedge.artifact import Artifact
    from squeezeedge.model import Model

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes: threads of each would wait for each other's
    os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C interrupts, also where the tests were started with it ignored (in the background, under ``nohup``)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def digits_pixels() -> NDArray[np.uint8]:
    """Some images of the embedded data set, uint8 [6, 8, 8, 3]."""
    import numpy as np

    from squeezeedge.calib.datasets import open_dataset

    images = open_dataset("digits", "calib").images
    assert isinstance(images, np.ndarray)
    return images[:6]


@pytest.fixture(scope="session")
def digits_network() -> Model:
    """The embedded network."""
    from squeezeedge.loading import load

    return load()


@pytest.fixture(scope="session")
def digits_model(digits_network: Model, digits_pixels: NDArray[np.uint8]) -> Model:
    """The embedded network, quantized on these images."""
    from squeezeedge.model import quantize

    return quantize(digits_network, digits_pixels)


@pytest.fixture(scope="session")
def digits_artifact(digits_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The same, compiled for any processor."""
    from squeezeedge.artifact import compile

    return compile(digits_model, "cpu", tmp_path_factory.mktemp("digits") / "digits", isa="generic")


@pytest.fixture(scope="session")
def small_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A few random layers on small images, whose classes have names, compiled for any processor."""
    from dataclasses import replace

    from squeezeedge.artifact import compile
    from tests.graphs import random_graph

    graph = random_graph(1)
    named = replace(graph, labels=tuple(f"class {index}" for index in range(graph.classes)))
    return compile(named, "cpu", tmp_path_factory.mktemp("small") / "small", isa="generic")


@pytest.fixture(scope="session")
def shared_file() -> Callable[[str], Path]:
    """``shared_file("weights/x.pth")``: a file of the folder beside the checkout, or skip the test."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"needs {name} in the folder shared/ beside the checkout")
        return path

    return find


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden("x.txt", text)``: the text equals golden/x.txt beside the test."""

    def compare(name: str, text: str) -> None:
        path = request.path.parent / "golden" / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == text, f"{path} differs; if that is meant: pytest --update-golden"

    return compare
