"""What the values of shared options must be."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from squeezeedge.artifact import Artifact
from squeezeedge.cli.options import check_file, check_picture
from squeezeedge.errors import UsageError
from tests.cli.conftest import Invoke


def test_a_file_is_not_written_over_one_of_an_artifact(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(
        '{"schema": 3, "graph_sha256": "", "files": {"trace.json": {}, "in/a.png": {}}}'
    )
    (tmp_path / "in").mkdir()
    for name in ("manifest.json", "trace.json", "in/a.png"):
        (tmp_path / name).touch()
        (tmp_path / "link.json").unlink(missing_ok=True)
        (tmp_path / "link.json").symlink_to(tmp_path / name)
        for path in (tmp_path / name, tmp_path / "link.json"):
            with pytest.raises(UsageError, match="is a file of an artifact"):
                check_file(path, force=True)
    for name in ("report.html", "in/b.png"):
        (tmp_path / name).touch()
        check_file(tmp_path / name, force=True)


def test_a_name_must_have_a_known_ending(tmp_path: Path) -> None:
    check_picture(None)
    for name in ("a.png", "A.PNG", "a.svg", "a.pdf"):
        check_picture(tmp_path / name)
    with pytest.raises(UsageError, match=r"^--plot .*a\.txt: must end in \.png, \.svg or \.pdf$"):
        check_picture(tmp_path / "a.txt")
    with pytest.raises(UsageError, match=r"^--timeline .*a: must end in \.json$"):
        check_file(tmp_path / "a", force=True, option="--timeline", endings=(".json",))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command", [("bench",), ("verify",), ("classify", "a.png"), ("compare",), ("eval",), ("report",)]
)
def test_a_time_limit_is_for_a_board(
    invoke: Invoke, small_artifact: Artifact, tmp_path: Path, command: tuple[str, ...]
) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    name, *images = command
    others = ["-o", tmp_path / "report.html"] if name == "report" else [tmp_path / image for image in images]
    result = invoke(name, small_artifact.path, *others, "--timeout", "5")
    assert isinstance(result.exception, UsageError) and "--timeout is for a board" in str(result.exception)
