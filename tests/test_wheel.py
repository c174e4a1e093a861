"""The wheel: it has every file of the package, and works without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from squeezeedge.model import Model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PACKAGE = ("squeezeedge", "calib", "targets", "hls")
"""The folders that a wheel is made of; the last three are links in the first."""

OTHERS = ("pyproject.toml", "README.md", "LICENSE")

USE = """
import sys
from pathlib import Path
import squeezeedge as sq

assert Path(sq.__file__).is_relative_to(sys.argv[1]), sq.__file__
from squeezeedge.cli.commands.recipes import recipes_command
recipes_command()
model = sq.load(sys.argv[2])
artifact = sq.compile(model, "vta", "digits-vta")  # of all targets, the one that reads most files of the package
print(sq.evaluate(artifact, data="digits", device="vta-sim", limit=4).devices[0].bit_exact)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a copy, so that nothing is left in the checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in PACKAGE:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=ignored)
    for name in OTHERS:
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_has_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = set()
    for folder in PACKAGE:
        inside = folder if folder == "squeezeedge" else f"squeezeedge/{folder}"
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md":
                expected.add(f"{inside}/{path.relative_to(ROOT / folder)}")
    assert packed == expected


def test_works_without_the_checkout(wheel: Path, digits_model: Model, tmp_path: Path) -> None:
    """Installed beside this environment's other packages, which takes seconds instead of minutes."""
    site = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True)
    digits_model.save(tmp_path / "digits.sqe")
    command = [sys.executable, "-c", USE, str(site), str(tmp_path / "digits.sqe")]
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "True" and "cifar10" in done.stdout
    assert (site / "bin" / "squeezeedge").is_file()
