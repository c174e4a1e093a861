"""The command as a process: exit codes, streams, and that help is cheap."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import squeezeedge
from squeezeedge import cli
from tests.marks import first_quick

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "squeezeedge", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_version() -> None:
    assert run("--version").stdout == f"squeezeedge {squeezeedge.__version__}\n"


@pytest.mark.parametrize(
    "command", first_quick(["eval", "compile", "quantize", "validate", "train", "models", "targets"])
)
def test_every_command_has_help(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0 and "--json" in done.stdout


def test_help_says_what_may_be_left_out_and_is_wrapped_once() -> None:
    code = """
import os
from typer.testing import CliRunner
from squeezeedge.cli import app
for command in ("eval", "finetune", "profile"):
    print(CliRunner().invoke(app, [command, "--help"]).stdout)
"""
    environment = os.environ | {"COLUMNS": "80"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "eval [OPTIONS] [ARTIFACT|MODEL]" in done.stdout and "finetune [OPTIONS] [NETWORK]" in done.stdout
    assert "Default: the hardware of an artifact's target" in " ".join(done.stdout.replace("│", " ").split())
    assert "of the layer's cycles: above" in done.stdout, "the terminal wraps a paragraph, not its source"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from squeezeedge.cli import app; from typer.main import get_command; "
        "get_command(app); print([m for m in ('torch', 'tvm', 'numpy', 'onnx', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("given", "seen"), [(None, "1"), ("0", "0")])
def test_pytorch_takes_huge_pages_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: str | None, seen: str
) -> None:
    monkeypatch.setenv(HUGE_PAGES, "")  # restored afterwards
    monkeypatch.delenv(HUGE_PAGES) if given is None else monkeypatch.setenv(HUGE_PAGES, given)
    monkeypatch.setattr(cli, "app", lambda: None)
    cli.main()
    assert os.environ[HUGE_PAGES] == seen


@pytest.mark.slow
def test_a_known_failure_ends_in_one_line_without_a_traceback(tmp_path: Path) -> None:
    done = run("eval", str(tmp_path / "missing.pth"))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("squeezeedge: error: ") and "Traceback" not in done.stderr


def test_a_wrong_option_is_usage() -> None:
    assert run("eval", "--no-such-option").returncode == 2


@pytest.mark.slow
def test_a_reader_that_goes_away() -> None:
    command = f"{sys.executable} -m squeezeedge targets --json | head -n 0"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
