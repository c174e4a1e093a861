"""Is an artifact whole, right and reproducible: each check fails on what it is for, and on nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezeedge.artifact import Artifact, open_artifact
from squeezeedge.errors import GateError, SqueezeEdgeError, UnavailableError, UsageError
from squeezeedge.evaluation import verify as module
from squeezeedge.evaluation.verify import CHECKS, Verification, verify
from squeezeedge.model import Model
from tests.targets.devices import seal

NAMES = ["manifest", "checksums", "graph rules", "golden sums", "device cpu", "rebuild"]
VERSIONS = "versions differ, which is why files may: numpy 1.0, here "


@pytest.fixture
def whole(small_artifact: Artifact) -> Artifact:
    return small_artifact


@pytest.fixture
def copy(whole: Artifact, tmp_path: Path) -> Path:
    shutil.copytree(whole.path, tmp_path / "copy")
    return tmp_path / "copy"


def results(found: Verification) -> dict[str, str]:
    return {check.name: check.result for check in found.checks}


def details(found: Verification) -> dict[str, str]:
    return {check.name: check.detail for check in found.checks}


def stated(copy: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest, whose own checksums fit."""
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    seal(copy)


@pytest.fixture
def recompiled(whole: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``recompiled("x.so", x=b"y")``: what a new compilation makes: the same without files, and with others."""

    def make(*missing: str, **others: bytes) -> None:
        def prepare(model: Model, target: str, out: Path, **options: object) -> Callable[[], Artifact]:
            assert target == "cpu" and options.pop("golden") is not None
            assert options == whole.manifest["options"]
            shutil.copytree(whole.path, out)
            for name in missing:
                (out / name).unlink()
            for name, content in others.items():
                (out / name).write_bytes(content)
            seal(out)
            return lambda: open_artifact(out)

        monkeypatch.setattr(module, "prepare", prepare)

    return make


@pytest.mark.slow
def test_a_whole_artifact_is_compiled_again(whole: Artifact) -> None:
    done: list[int] = []
    found = verify(whole.path, on_progress=done.append)
    assert found.passed and list(results(found)) == NAMES and len(done) == CHECKS == len(NAMES), str(found)
    assert details(found)["rebuild"] == f"{len(whole.manifest['files']) + 1} files byte for byte equal"
    found.check()


def test_without_a_rebuild(whole: Artifact) -> None:
    found = verify(whole.path, "cpu", rebuild=False)
    assert results(found) == dict.fromkeys(NAMES[:-1], "pass")
    assert details(found)["device cpu"] == "cpu (hardware): 4 golden inputs, all class sums equal"
    assert found.to_json()["passed"] is True and json.loads(json.dumps(found.to_json()))["device"] == "cpu"


def test_a_file_that_was_changed(copy: Path) -> None:
    (copy / "trace.json").write_text("{}")
    (copy / "squeezeedge.h").unlink()
    found = verify(copy, rebuild=False)
    assert results(found) == dict(zip(NAMES[:4], ["pass", "fail", "pass", "pass"], strict=True)), "no device is opened"
    assert (
        "trace.json: differs" in details(found)["checksums"] and "squeezeedge.h: No such" in details(found)["checksums"]
    )
    with pytest.raises(GateError, match="copy: checksums: not as"):
        found.check()


def test_files_beside_it_are_named(copy: Path) -> None:
    (copy / "notes.txt").touch()
    assert "; not of the artifact: notes.txt" in details(verify(copy, rebuild=False))["checksums"]


def test_a_manifest_that_is_damaged(copy: Path) -> None:
    (copy / "manifest.json").write_text("{")
    found = verify(copy)
    assert results(found) == {"manifest": "fail"} and found.device == ""
    with pytest.raises(UsageError, match="not an artifact"):
        verify(copy.parent / "nothing")


def test_a_graph_of_another_network(copy: Path) -> None:
    stated(copy, lambda manifest: manifest.update(graph_sha256="0" * 64))
    assert results(verify(copy)) == {"manifest": "pass", "checksums": "pass", "graph rules": "fail"}


def test_sums_that_are_not_the_oracle_s(whole: Artifact, copy: Path) -> None:
    sums = whole.golden_sums.copy()
    sums[0, 0] += 3
    np.savez(copy / "golden.npz", images=whole.golden, sums=sums)
    seal(copy)
    found = verify(copy, rebuild=False)
    assert results(found)["golden sums"] == results(found)["device cpu"] == "fail"
    assert details(found)["golden sums"] == f"1 of {sums.size} class sums are not the oracle's"
    assert f"1 of {sums.size} class sums differ, by up to 3" in details(found)["device cpu"]


def test_a_device_that_is_missing_is_told_after_the_rest(
    whole: Artifact, recompiled: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*arguments: object) -> None:
        raise UnavailableError("no such processor")

    monkeypatch.setattr(module, "check_device", missing)
    recompiled()
    found = verify(whole.path)
    assert results(found) == dict(zip(NAMES, [*["pass"] * 4, "not run", "pass"], strict=True)) and not found.passed
    with pytest.raises(UnavailableError, match="no such processor"):
        found.check()


def test_files_that_differ(whole: Artifact, recompiled: Callable[..., None]) -> None:
    recompiled(**{"trace.json": b"{}", "more": b""})
    found = verify(whole.path)
    assert results(found)["rebuild"] == "fail"
    assert details(found)["rebuild"] == f"2 of {len(whole.manifest['files']) + 2} files differ: more, trace.json"


def test_other_versions_are_why(copy: Path, recompiled: Callable[..., None]) -> None:
    stated(copy, lambda manifest: manifest["versions"].update(numpy="1.0"))
    recompiled(**{"trace.json": b"{}"})
    assert VERSIONS in details(verify(copy))["rebuild"]
    recompiled()
    found = verify(copy)
    assert results(found)["rebuild"] == "pass" and "equal, with other versions: numpy 1.0" in details(found)["rebuild"]


def test_a_manifest_that_says_something_else(copy: Path, recompiled: Callable[..., None]) -> None:
    recompiled()
    stated(copy, lambda manifest: manifest["source"].update(network="other"))
    assert details(verify(copy))["rebuild"].endswith("differ: manifest.json: source")


def test_what_a_tool_that_is_not_here_made_is_not_compared(whole: Artifact, recompiled: Callable[..., None]) -> None:
    recompiled("squeezeedge.h")
    found = verify(whole.path)
    assert results(found)["rebuild"] == "not run"
    assert "what makes squeezeedge.h is missing here; the other files are equal" in details(found)["rebuild"]


@pytest.mark.parametrize(
    ("error", "result"),
    [(UnavailableError("no compiler"), "not run"), (UsageError("no isa"), "not run"), (SqueezeEdgeError("x"), "fail")],
)
def test_what_cannot_be_compiled_here(
    whole: Artifact, monkeypatch: pytest.MonkeyPatch, error: SqueezeEdgeError, result: str
) -> None:
    def prepare(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(module, "prepare", prepare)
    found = verify(whole.path)
    assert results(found)["rebuild"] == result and str(error) in details(found)["rebuild"]


def test_the_instruction_set_that_was_chosen_is_taken(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def prepare(*arguments: object, **options: object) -> None:
        given.update(options)
        raise UnavailableError("enough")

    monkeypatch.setattr(module, "prepare", prepare)
    stated(copy, lambda manifest: manifest["options"].update(isa="auto"))
    verify(copy)
    assert given["isa"] == "generic"


@pytest.mark.parametrize(
    ("options", "message"), [({"device": "vta"}, "vta is not one of cpu"), ({"artifact": ""}, "path")]
)
def test_what_is_refused(whole: Artifact, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        verify(**{"artifact": whole.path, **options})
