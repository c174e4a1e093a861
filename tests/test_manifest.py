"""What is no artifact, and artifacts whose manifest is damaged (more of these: tests/test_artifact.py)."""

from pathlib import Path

import pytest

from squeezeedge.errors import CorruptFileError, UsageError
from squeezeedge.manifest import is_artifact, read_manifest


def test_what_is_no_artifact_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    places = {tmp_path: "has no manifest.json", tmp_path / "nowhere": "does not exist", tmp_path / "file": "is a file"}
    for place, known in places.items():
        with pytest.raises(UsageError, match=f"^{place}: not an artifact: it {known}; an artifact is the folder"):
            read_manifest(place)
        assert not is_artifact(place)


def test_an_artifact_without_a_manifest_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "model.sqe").write_bytes(b"")
    with pytest.raises(CorruptFileError, match=r"manifest\.json: missing from the artifact; compile the model again"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(CorruptFileError, match=r"not readable as JSON: .*Is a directory"):
        read_manifest(tmp_path)
    assert not is_artifact(tmp_path)


def test_artifacts_of_every_version_are_known(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"schema": 1, "graph_sha256": "", "files": {}}')
    assert is_artifact(tmp_path)
    with pytest.raises(CorruptFileError, match="schema 1; this version reads 3"):
        read_manifest(tmp_path)
