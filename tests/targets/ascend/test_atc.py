"""ATC's command line, configuration and messages; the fake atc checks them as the real one does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from squeezeedge.artifact import open_artifact
from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.graph.rules import Shape
from squeezeedge.targets.ascend.atc import aipp_config, atc_command
from tests.targets.ascend.conftest import Make


def test_the_script_converts_later(make: Make, atc: Path) -> None:
    atc.rename(atc.with_name("hidden"))
    path = make()
    assert not (path / "model.om").exists()
    atc.with_name("hidden").rename(atc)
    result = subprocess.run(["sh", str(path / "atc.sh")], cwd="/", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (path / "model.om").read_bytes().startswith(b"FAKE OFFLINE MODEL")
    open_artifact(path)


def test_a_failing_atc(make: Make, atc: Path, tmp_path: Path) -> None:
    with pytest.raises(SqueezeEdgeError) as caught:
        make(soc_version="=Ascend999")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("atc failed (atc --framework=5 ") and "--soc_version=Ascend999" in lines[0]
    assert lines[1].startswith("ATC run failed")
    assert lines[2].startswith("E10001: Value [Ascend999] for parameter [--soc_version] is invalid")
    assert lines[3].strip() == "Solution: Check the value."
    assert len(lines) == 4, "the traceback is left out"
    assert not (tmp_path / "artifact").exists()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("exit 3", "exit code 3, no output"),
        ("echo something strange >&2; exit 1", "something strange"),
        ("echo ATC run success", "ATC run success"),  # and nothing is there
    ],
)
def test_a_strange_atc(make: Make, atc: Path, body: str, text: str) -> None:
    atc.write_text(f"#!/bin/sh\n# FAKE\n{body}\n")
    with pytest.raises(SqueezeEdgeError, match=text):
        make()


def test_an_atc_that_adds_the_system_to_the_name(make: Make, atc: Path) -> None:
    atc.write_text(atc.read_text() + "\n")
    atc.write_text(atc.read_text().replace('exec "', '"') + "mv model.om model_linux_x86_64.om\n")
    assert (make() / "model.om").is_file()


def test_command_and_preprocessing_of_an_oblong_image() -> None:
    image = Shape(40, 30, 3)
    assert "--input_shape=image:1,3,40,30" in atc_command(image, "Ascend310")
    assert "src_image_size_w : 30\n" in aipp_config(image)
