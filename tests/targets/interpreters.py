"""Other Pythons of this machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["interpreter"]


def interpreter(version: str) -> str:
    """Path of a Python, as ``3.6``; skips the test if there is none, on the path or of pyenv."""
    candidates = [
        shutil.which(f"python{version}"),
        *sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python")),
    ]
    for path in candidates:
        if path and subprocess.run([str(path), "-c", ""], capture_output=True, check=False).returncode == 0:
            return str(path)
    pytest.skip(f"needs Python {version}")
