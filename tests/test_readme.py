"""The README's commands run as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(sh|console)\n(.*?)```", README, re.DOTALL)
SCRIPTS = [text.strip() for kind, text in BLOCKS if kind == "sh"]
BIN = Path(sys.executable).parent


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def test_first_run_and_device_side(folder: Path) -> None:
    """What follows the installation, which this environment stands for."""
    first, device, _ = SCRIPTS
    install, *commands = first.split(" && .venv/bin/squeezeedge ")
    assert install == "python3 -m venv .venv && .venv/bin/pip install -q ."
    for command in commands:
        done = run(f"squeezeedge {command}", folder)
        assert done.returncode == 0, done.stderr
    for word in ("fp32", "bit-exact", "yes", "400 images of digits"):
        assert word in done.stdout
    done = run(device, folder)
    assert done.returncode == 0 and '"differing_sums": 0' in done.stdout, done.stderr


def test_ci_runs_the_test_command() -> None:
    assert SCRIPTS[2] in (ROOT / ".ci" / "run").read_text()


def test_console_commands(folder: Path) -> None:
    (session,) = (text for kind, text in BLOCKS if kind == "console")
    for line in session.splitlines():
        assert line.startswith("$ squeezeedge ")
        done = run(line.removeprefix("$ "), folder)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
