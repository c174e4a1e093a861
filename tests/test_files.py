"""Files are there whole or not at all, whatever stops the writing of them."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from squeezeedge import files
from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.files import (
    LOCK,
    check_output,
    check_unlocked,
    is_leftover,
    locked_folder,
    scratch_folder,
    write_figure,
    write_file,
    write_folder,
)


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


@pytest.mark.parametrize("offered", [True, False])
def test_a_file_that_is_not_to_be_replaced_stays(before: Path, monkeypatch: pytest.MonkeyPatch, offered: bool) -> None:
    if not offered:
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    with pytest.raises(UsageError, match=r"file\.bin: exists already; choose another output \(`out`\) or replace it"):
        write_file(before, b"after", force=False)
    write_file(before.with_name("new"), b"new", force=False)
    assert before.read_bytes() == b"before" and before.with_name("new").read_bytes() == b"new"
    assert names(before.parent) == ["file.bin", "new"]


STOPS = [OSError(errno.ENOSPC, "No space left on device"), OSError("odd"), KeyboardInterrupt(), MemoryError()]


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("step", ["fsync", "open"])
def test_writing_that_is_stopped_leaves_what_was_there(
    before: Path, monkeypatch: pytest.MonkeyPatch, step: str, stop: BaseException
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise stop

    monkeypatch.setattr(os, step, stopped)
    if isinstance(stop, OSError):
        with pytest.raises(SqueezeEdgeError) as failure:
            write_file(before, b"after")
        assert str(failure.value) == f"{before}: cannot be written: {stop.strerror or 'odd'}"
    else:
        with pytest.raises(type(stop)):
            write_file(before, b"after")
    assert before.read_bytes() == b"before" and names(before.parent) == ["file.bin"]


def test_files_are_on_the_disk_before_they_have_their_names(before: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut leaves the old content or the new one, never a name of nothing."""
    steps: list[str] = []
    sync, replace, rename = os.fsync, Path.replace, files._rename

    def synced(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def replaced(path: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(path, target)

    def renamed(old: Path, new: Path, flags: int) -> None:
        steps.append("rename")
        rename(old, new, flags)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    monkeypatch.setattr(files, "_rename", renamed)
    write_file(before, b"after")
    assert steps == ["file", "rename", "folder"]
    steps.clear()
    with write_folder(before.with_name("folder")) as folder:
        (folder / "in").mkdir()
        (folder / "in" / "a").write_bytes(b"a")
    assert steps == ["folder", "file", "folder", "rename", "folder"]


WRITES = re.compile(
    r"write_text\(|write_bytes\(|savefig\(|\.tofile\(|np\.save|save_file\(|[\"'][wax]b?[\"']\)|TemporaryDir"
)
WRITERS = {
    "files.py": "here",
    "artifact.py": "into the folder that write_folder gives",
    "networks/checkpoints/kinds.py": "a line for people to run",
}


def test_all_that_is_written_is_written_here() -> None:
    """Targets write into folders that are given to them: an artifact's, or one of scratch_folder's."""
    package = Path(files.__file__).parent
    modules = [path for path in package.rglob("*.py") if path.relative_to(package).parts[0] not in ("targets", "hls")]
    found = {str(path.relative_to(package)) for path in modules if WRITES.search(path.read_text())}
    assert len(modules) > 80 and found == WRITERS.keys()


def test_a_long_name(tmp_path: Path) -> None:
    name = "n" * 255
    write_file(tmp_path / name, b"content")
    assert names(tmp_path) == [name]
    with pytest.raises(SqueezeEdgeError, match="cannot be written: File name too long"):
        write_file(tmp_path / f"{name}n", b"content")
    with pytest.raises(SqueezeEdgeError, match="cannot be written: embedded null byte"):
        write_file(tmp_path / "a\0b", b"content")
    assert names(tmp_path) == [name]


# Folders


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with write_folder(tmp_path / "out") as folder:
        (folder / "a").write_bytes(b"a")
        assert names(tmp_path) != ["out"] and folder.parent == tmp_path
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["a"]
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("force", [False, True])
def test_a_folder_that_is_not_finished_does_not_appear(tmp_path: Path, stop: BaseException, force: bool) -> None:
    if force:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "old").write_bytes(b"old")
    with pytest.raises(type(stop)) as failure, write_folder(tmp_path / "out", force=force) as folder:
        (folder / "a").write_bytes(b"a")
        raise stop
    assert failure.value is stop and names(tmp_path) == ["out"] * force
    assert not force or names(tmp_path / "out") == ["old"]


@pytest.mark.parametrize("offered", [True, False])
@pytest.mark.parametrize("there", ["folder", "empty folder", "file", "link"])
def test_what_is_there_stays_without_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str, offered: bool
) -> None:
    out = tmp_path / "out"
    if not offered:
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    with pytest.raises(FileExistsError), write_folder(out) as folder:
        (folder / "a").write_bytes(b"a")
        if there == "file":
            out.write_bytes(b"old")
        elif there == "link":
            out.symlink_to("nowhere")
        else:
            out.mkdir()
            if there == "folder":
                (out / "old").write_bytes(b"old")
    assert names(tmp_path) == ["out"] and not (out / "a").exists()


@pytest.mark.parametrize("offered", [True, False])
@pytest.mark.parametrize("link", [True, False])
def test_force_replaces_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: bool, offered: bool) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_bytes(b"old")
    if not offered:
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    if link:
        (tmp_path / "link").symlink_to("out")
    with write_folder(tmp_path / "link" if link else out, force=True) as folder:
        (folder / "a").write_bytes(b"a")
        assert names(out) == ["old"]
    assert names(out) == ["a"] and names(tmp_path) == [*["link"] * link, "out"]
    with write_folder(tmp_path / "new", force=True) as folder:
        pass
    assert names(tmp_path / "new") == []


# What killed processes leave


def leftover(folder: Path, name: str = "net") -> Path:
    path = folder / f".{name}.sqe-0123abcd.partial"
    path.mkdir()
    (path / "big").write_bytes(bytes(100))
    return path


def test_the_next_one_clears_what_killed_ones_left(tmp_path: Path) -> None:
    kept = [".net.0123abcd.partial", "net.sqe-0123abcd.partial", ".net.sqe-0123abcd", ".net.sqe-xyz.partial"]
    for name in kept:
        (tmp_path / name).write_bytes(b"")
    leftover(tmp_path)
    (tmp_path / ".a\nb.sqe-00000000.partial").write_bytes(b"half")
    os.mkfifo(tmp_path / ".c.sqe-00000000.partial")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"kept")
    (tmp_path / ".d.sqe-00000000.partial").symlink_to("elsewhere")
    write_file(tmp_path / "other", b"content")
    assert names(tmp_path) == sorted([*kept, "other", "elsewhere", ".d.sqe-00000000.partial"])
    assert names(tmp_path / "elsewhere") == ["file"]


def test_what_a_live_one_writes_is_left_alone(tmp_path: Path) -> None:
    with write_folder(tmp_path / "first") as first:
        (first / "a").write_bytes(b"a")
        write_file(tmp_path / "second", b"content")
        with write_folder(tmp_path / "third") as third:
            assert first.is_dir() and third.is_dir()
    assert names(tmp_path) == ["first", "second", "third"] and names(tmp_path / "first") == ["a"]


def test_what_another_user_left_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = leftover(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    write_file(tmp_path / "file", b"content")
    assert names(tmp_path) == [path.name, "file"]


def test_without_locks_all_is_written_and_nothing_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = leftover(tmp_path)

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    write_file(tmp_path / "file", b"content")
    assert names(tmp_path) == [path.name, "file"] and (path / "big").exists()


def test_a_killed_process_keeps_no_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from squeezeedge import files\n"
        "with files.write_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'a').write_bytes(b'a'); print('half', flush=True); time.sleep(100)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "net")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"half\n"
            write_file(tmp_path / "file", b"")
            assert len(names(tmp_path)) == 2, "it is alive"
        finally:
            process.kill()
    assert len(names(tmp_path)) == 2
    write_file(tmp_path / "file", b"")
    assert names(tmp_path) == ["file"]


def test_scratch_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leftover(tmp_path, "squeezeedge")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder() as first, scratch_folder() as second, scratch_folder(tmp_path) as third:
        assert {first.parent, second.parent, third.parent} == {tmp_path} and len(names(tmp_path)) == 3
        assert first.stat().st_mode & 0o777 == 0o700
        (first / "a").write_bytes(b"a")
    assert names(tmp_path) == []


# Folders that one process works in


def test_one_process_works_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with locked_folder(folder):
        with pytest.raises(UsageError, match=rf"run: process {os.getpid()} of \S+ is using this folder; wait"):
            with locked_folder(folder):
                pass
        with pytest.raises(UsageError, match=rf"run: process {os.getpid()} of \S+ is using this folder; wait"):
            check_unlocked(folder)
        assert names(folder) == [LOCK], "the second one leaves the first one's lock"
        assert is_leftover(folder / LOCK) and not is_leftover(folder)
    assert names(tmp_path) == [], "nothing was written"
    with locked_folder(folder):
        (folder / "a").write_bytes(b"a")
    assert names(folder) == ["a"]
    with pytest.raises(ZeroDivisionError), locked_folder(folder):
        raise ZeroDivisionError
    assert names(folder) == ["a"]


def test_a_killed_process_s_lock_keeps_nobody_out(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_bytes(b"process 1 of a machine with a longer name than this one's, whatever that is")
    check_unlocked(tmp_path)
    with locked_folder(tmp_path):
        text = (tmp_path / LOCK).read_text()
        assert text.startswith(f"process {os.getpid()} of ") and "longer" not in text
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "no" / "run", tmp_path / "a\0b"):
        with pytest.raises(SqueezeEdgeError, match="cannot be written: "), locked_folder(path):
            pass
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "file")
    with pytest.raises(SqueezeEdgeError, match="cannot be written: "), locked_folder(tmp_path / "run"):
        pass
    (tmp_path / "run" / LOCK).unlink()

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with locked_folder(tmp_path / "run"):
        assert names(tmp_path / "run") == [LOCK]
    assert names(tmp_path / "run") == []


# What is refused before any work


def test_outputs_that_can_be_written(before: Path) -> None:
    check_output(before.with_name("new"))
    check_output(before, force=True)
    assert names(before.parent) == ["file.bin"] and before.read_bytes() == b"before"


def test_outputs_that_are_refused(before: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = before.parent
    (folder / "link").symlink_to("nowhere")
    for path in (before, folder, folder / "link"):
        with pytest.raises(
            UsageError, match=r"exists already; choose another output \(`out`\) or replace it \(`force`\)"
        ):
            check_output(path)
    for path in (folder, folder / "link"):
        with pytest.raises(UsageError, match="is no file, so `force` does not replace it"):
            check_output(path, force=True)
    with pytest.raises(UsageError, match="is no net, so `force` does not replace it"):
        check_output(before, force=True, kind="net", is_kind=Path.is_dir)
    for path in (folder / "no" / "file", before / "file"):
        with pytest.raises(SqueezeEdgeError, match="its parent folder does not exist"):
            check_output(path)
    with pytest.raises(SqueezeEdgeError, match="cannot be written: File name too long"):
        check_output(folder / ("n" * 256))
    with pytest.raises(SqueezeEdgeError, match="cannot be written: embedded null byte"):
        check_output(folder / "a\0b")

    def denied(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files, "_make_file", denied)
    with pytest.raises(SqueezeEdgeError, match="new: cannot be written: Permission denied"):
        check_output(folder / "new")


@pytest.mark.parametrize("place", ["/proc/net.sqe"])
def test_a_file_system_that_takes_nothing(place: str) -> None:
    with pytest.raises(SqueezeEdgeError, match=f"{place}: cannot be written: "):
        check_output(Path(place))


# Files in the way


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


def test_a_full_folder_for_temporary_files_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(files, "SCRATCH_BYTES", 1 << 60)
    with pytest.raises(SqueezeEdgeError, match=r"has less than .* variable TMPDIR"), scratch_folder():
        pass
    with scratch_folder(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
