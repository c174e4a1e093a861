"""``squeezeedge disasm``: golden listings, and artifacts that are none."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from squeezeedge.errors import CorruptFileError, UnavailableError, UsageError
from tests.cli.conftest import Invoke
from tests.targets.devices import seal


def test_vta(invoke: Invoke, program: Path, golden: Callable[[str, str], None]) -> None:
    result = invoke("disasm", program)
    assert result.exit_code == 0, result.output
    golden("disasm-vta.txt", result.stdout)
    layer = invoke("disasm", program, "--layer", "pool").stdout
    assert (
        layer.splitlines() == [line for line in result.stdout.splitlines() if line.endswith("; fire.concat+pool")] != []
    )
    assert len(result.stdout.splitlines()) == json.loads((program / "program.json").read_text())["count"]


def test_cpu(invoke: Invoke, artifact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = invoke("disasm", artifact)
    assert result.exit_code == 0 and "<squeezenet1_1_digits_open@@Base>:" in result.stdout
    layer = invoke("disasm", artifact, "--layer", "features.3.squeeze", "-o", tmp_path / "layer.txt")
    assert layer.exit_code == 0 and not layer.stdout, layer.output
    functions = [line for line in (tmp_path / "layer.txt").read_text().splitlines() if line.endswith(">:")]
    assert len(functions) == 2 and all("stage1_conv" in line for line in functions)
    again = invoke("disasm", artifact, "-o", tmp_path / "layer.txt")
    assert isinstance(again.exception, UsageError) and "exists already" in str(again.exception)
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = invoke("disasm", artifact)
    assert isinstance(missing.exception, UnavailableError) and "install binutils" in str(missing.exception)


@pytest.mark.parametrize("kernels", [None, [], "many"])
def test_a_number_of_kernels_that_is_none(invoke: Invoke, artifact: Path, tmp_path: Path, kernels: object) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(artifact, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["compiled"]["kernels"] = kernels
    (copy / "manifest.json").write_text(json.dumps(manifest))
    seal(copy)
    result = invoke("disasm", copy, "--layer", "features.3.squeeze")
    assert isinstance(result.exception, CorruptFileError) and str(copy) in str(result.exception)


@pytest.mark.parametrize("command", ["disasm", "profile"])
def test_what_is_no_artifact(invoke: Invoke, program: Path, tmp_path: Path, command: str) -> None:
    places = {
        program / "model.sqe": "it is a file",
        tmp_path: "it has no manifest.json",
        tmp_path / "nowhere": "it does not exist",
    }
    for place, reason in places.items():
        result = invoke(command, place)
        assert isinstance(result.exception, UsageError), result.output
        text = "an artifact is the folder that `squeezeedge compile` makes"
        assert str(result.exception) == f"{place}: not an artifact: {reason}; {text}"


def test_damaged(invoke: Invoke, program: Path, tmp_path: Path) -> None:
    result = invoke("disasm", tmp_path)
    assert isinstance(result.exception, UsageError) and "not an artifact" in str(result.exception)
    copy = tmp_path / "copy"
    shutil.copytree(program, copy)
    (copy / "dram.bin").write_bytes((copy / "dram.bin").read_bytes()[:-16])
    result = invoke("disasm", copy)
    assert isinstance(result.exception, CorruptFileError) and "dram.bin" in str(result.exception)
