"""The README's scripts and lines of Python run as they stand there; its console block: test_docs.py."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from squeezeedge.calib.datasets import open_dataset
from squeezeedge.networks.checkpoints import read_checkpoint
from squeezeedge.networks.registry import default_weights

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, re.DOTALL)
SCRIPTS = [text.strip() for kind, text in BLOCKS if kind == "sh"]
BIN = Path(sys.executable).parent


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


@pytest.mark.slow
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


@pytest.mark.slow
def test_python_lines(tmp_path: Path) -> None:
    """On files of these names: the embedded network as a checkpoint of PyTorch, and the digits as pictures."""
    images = open_dataset("digits", "test")
    assert isinstance(images.images, np.ndarray) and images.labels is not None
    for name, chosen in (("calibration-images", range(8)), ("validation", range(20, 50))):
        for number in chosen:
            folder = tmp_path / name / str(images.labels[number])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images.images[number]).save(folder / f"{number}.png")
    for number, name in enumerate(("cat.jpg", "dog.png")):
        Image.fromarray(images.images[number]).save(tmp_path / name)
    torch.save(read_checkpoint(default_weights()).state, tmp_path / "squeezenet1_1.pth")
    (lines,) = (text for kind, text in BLOCKS if kind == "python")
    assert len(lines.splitlines()) <= 10
    (tmp_path / "lines.py").write_text(lines)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "lines.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second, title, *table = done.stdout.splitlines()
    for line in (first, second):
        label, score = line.split()
        assert 0 <= int(label) < 10 and 0 < float(score) <= 1
    assert title == "squeezenet1_1, 30 images of validation/"
    blank, columns, *rows, remark = table
    assert not blank and columns.split() == ["fp32", "(reference)", "cpu", "(hardware)"]
    assert ["bit-exact", "yes"] in [row.split() for row in rows]
    assert remark.startswith("validation/: "), "the file has no names, so the folders' order counts, which is said"
