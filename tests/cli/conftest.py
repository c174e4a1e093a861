"""The command line in this process, and artifacts that several tests share."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from squeezeedge.cli import app

Invoke = Callable[..., Result]


@pytest.fixture(scope="session")
def invoke() -> Invoke:
    """``invoke("eval", "--json")``; a known failure is in ``result.exception``."""

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="session")
def artifact(invoke: Invoke, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded network, compiled for any processor."""
    out = tmp_path_factory.mktemp("cli") / "digits"
    result = invoke("compile", "--isa", "generic", "-o", out, "--calib-images", "16")
    assert result.exit_code == 0, result.output
    return out
