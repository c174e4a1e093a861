"""The command line in this process, and artifacts that several tests share."""

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
