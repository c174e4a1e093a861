"""Files are there whole or not at all, whatever stops the writing of them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.files import write_figure, write_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A file that is there before."""
    path = tmp_path / "file.bin"
    path.write_bytes(b"before")
    return path


def test_a_file_is_made_or_replaced(before: Path) -> None:
    write_file(before, b"after")
    write_file(before.with_name("new"), b"")
    assert before.read_bytes() == b"after" and before.with_name("new").read_bytes() == b""
    assert names(before.parent) == ["file.bin", "new"]


@pytest.mark.parametrize(
    "stop", [OSError(errno.ENOSPC, "No space left on device"), OSError("odd"), KeyboardInterrupt(), MemoryError()]
)
def test_writing_that_is_stopped_leaves_what_was_there(
    before: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    whole = Path.write_bytes

    def part(path: Path, content: bytes) -> int:
        whole(path, content[:3])
        raise stop

    monkeypatch.setattr(Path, "write_bytes", part)
    if isinstance(stop, OSError):
        with pytest.raises(SqueezeEdgeError) as failure:
            write_file(before, b"after")
        assert str(failure.value) == f"{before}: cannot be written: {stop.strerror or 'odd'}"
    else:
        with pytest.raises(type(stop)):
            write_file(before, b"after")
    assert before.read_bytes() == b"before" and names(before.parent) == ["file.bin"]


def test_a_folder_of_that_name_stays(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(SqueezeEdgeError, match="file: cannot be written: Is a directory"):
        write_file(tmp_path / "file", b"content")
    assert names(tmp_path) == ["file"] and (tmp_path / "file").is_dir()


def test_without_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SqueezeEdgeError, match="cannot be written: No such file or directory"):
        write_file(tmp_path / "no" / "file", b"content")
    assert names(tmp_path) == []


@pytest.mark.parametrize(("ending", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_a_figure_has_the_format_of_its_ending(tmp_path: Path, ending: str, magic: bytes) -> None:
    write_figure(tmp_path / f"figure{ending}", Figure((1, 1)))
    assert (tmp_path / f"figure{ending}").read_bytes().startswith(magic)
    assert len(names(tmp_path)) == 1


def test_a_figure_that_cannot_be_drawn_leaves_what_was_there(before: Path) -> None:
    class Broken(Figure):
        def savefig(self, *arguments: object, **options: object) -> None:
            raise RuntimeError("no such font")

    with pytest.raises(RuntimeError, match="no such font"):
        write_figure(before, Broken())
    assert before.read_bytes() == b"before" and names(before.parent) == ["file.bin"]
