"""Files and folders that appear whole or not at all, also where a process is killed or the power fails.

Each is written under a temporary name beside its place, ``.NAME.sqe-xxxxxxxx.partial``, flushed to the disk and
renamed. Meanwhile, its process holds a lock on it (flock, which ends with the process). Every writer first removes
what has such a name in the folder and no lock: a killed process left it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import io
import os
import platform
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from squeezeedge.errors import SqueezeEdgeError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "LOCK",
    "check_output",
    "check_unlocked",
    "is_leftover",
    "locked_folder",
    "scratch_folder",
    "sha256_of",
    "write_figure",
    "write_file",
    "write_folder",
]

LOCK = ".sqe-lock"
"""In a folder that a process works in: its number and machine."""

SCRATCH_BYTES = 8 << 20
"""Free bytes that the folder for temporary files must have."""

_TEMPORARY = re.compile(r"\..*\.sqe-[0-9a-f]{8}\.partial", re.DOTALL)
_LONGEST_NAME = 200
"""Bytes of a name that are part of its temporary name; file systems allow 255."""
_NOREPLACE, _EXCHANGE = 1, 2
"""Flags of renameat2(2)."""
_NOT_OFFERED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def check_output(
    path: Path, *, force: bool = False, kind: str = "file", is_kind: Callable[[Path], bool] = Path.is_file
) -> None:
    """Refuse, before any work is done, a place that cannot be written; nothing is changed there.

    Args:
        path: where a file or folder is to be made.
        force: whether something of that kind is replaced.
        kind: what is made, for the message.
        is_kind: whether something that exists is of that kind.

    Raises:
        UsageError: it exists and is not to be replaced, or its parent folder does not exist.
        SqueezeEdgeError: it cannot be written.
    """
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path}: its parent folder does not exist")
    try:
        if os.path.lexists(path):
            if not force:
                raise _exists(path)
            if not is_kind(path):
                raise UsageError(f"{path}: is no {kind}, so `force` does not replace it; choose another output (`out`)")
        else:
            with contextlib.suppress(FileNotFoundError):
                path.lstat()  # it is too long, or has a NUL
        with _claimed(path.absolute(), _make_file):
            pass
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error


def write_file(path: Path, content: bytes, *, force: bool = True) -> None:
    """Make or replace a file.

    Args:
        path: of the file.
        content: of the file.
        force: replace what is there.

    Raises:
        UsageError: something is there that is not to be replaced.
        SqueezeEdgeError: it cannot be written; whatever was there before is still there.
    """
    try:
        with _claimed(path.absolute(), _make_file) as (partial, descriptor):
            with open(descriptor, "wb", closefd=False) as file:
                file.write(content)
            os.fsync(descriptor)
            if force:
                partial.replace(path)
            else:
                _rename(partial, path, _NOREPLACE)
            _sync_folder(path.absolute().parent)
    except FileExistsError as error:
        raise _exists(path) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _unwritable(path, error) from error


@contextlib.contextmanager
def write_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Make a folder of what the block writes; if the block fails, nothing appears.

    Args:
        path: the folder.
        force: replace what is there, which is removed once the new one is whole.

    Yields:
        The folder to write into.

    Raises:
        FileExistsError: something is there, and it is not to be replaced.
        OSError: it cannot be written.
    """
    path = path.resolve() if force else path.absolute()
    with _claimed(path, _make_folder) as (partial, _):
        yield partial
        for folder, _, names in os.walk(partial):
            for file in (Path(folder, name) for name in names):
                if not file.is_symlink():
                    _sync(file)
            _sync_folder(Path(folder))
        if force and path.exists():
            _exchange(partial, path)  # the old one has the temporary name then and is removed as such
        else:
            _rename(partial, path, _NOREPLACE)
        _sync_folder(path.parent)


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder that is removed at the end of the block, or by the next one if this process is killed.

    Args:
        parent: where it is; ``None``: the folder for temporary files.

    Raises:
        OSError: it cannot be made.
        SqueezeEdgeError: the folder for temporary files is nearly full, where compilers end the process.
    """
    place = parent or Path(tempfile.gettempdir())
    if parent is None and shutil.disk_usage(place).free < SCRATCH_BYTES:
        raise SqueezeEdgeError(
            f"{place}: the folder for temporary files has less than {SCRATCH_BYTES >> 20} MiB left; make room there, "
            "or name another folder in the environment variable TMPDIR"
        )
    with _claimed(place / "squeezeedge", _make_private_folder) as (folder, _):
        yield folder


@contextlib.contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Make a folder if it is not there, and keep other processes that ask for it out until the block ends.

    The lock is on a file in it, which is removed at the end, as is a folder that is made and stays empty. It ends with
    the process. Where the file system has no locks, nobody is kept out.

    Args:
        path: the folder; its parent is there.

    Raises:
        UsageError: another process has it.
        SqueezeEdgeError: it cannot be written.
    """
    lock = path / LOCK
    try:
        made = not path.is_dir()
        path.mkdir(exist_ok=True)
        while True:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            if _lock(lock, descriptor, unless=True):
                break
            refusal = _taken(path, descriptor)
            os.close(descriptor)
            if lock.exists():
                raise refusal
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} of {platform.node()}".encode(), 0)
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(descriptor)
        if made:
            with contextlib.suppress(OSError):
                path.rmdir()


def check_unlocked(path: Path) -> None:
    """Refuse a folder that another process has (:func:`locked_folder`); it may take it later.

    Raises:
        UsageError: another process has it.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(path / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _taken(path, descriptor) from error
        finally:
            os.close(descriptor)


def is_leftover(path: Path) -> bool:
    """Whether a file or folder has the temporary name of something unfinished; the next writer there removes it."""
    return path.name == LOCK or _TEMPORARY.fullmatch(path.name) is not None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def write_figure(path: Path, figure: Figure) -> None:
    """Write a picture; the file's ending chooses the format.

    Raises:
        SqueezeEdgeError: it cannot be written.
    """
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:], dpi=120)
    write_file(path, picture.getvalue())


def _unwritable(path: Path, error: OSError | ValueError) -> SqueezeEdgeError:
    return SqueezeEdgeError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}")


def _taken(path: Path, descriptor: int) -> UsageError:
    holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
    return UsageError(f"{path}: {holder} is using this folder; wait until it ends, or choose another folder")


def _exists(path: Path) -> UsageError:
    return UsageError(f"{path}: exists already; choose another output (`out`) or replace it (`force`)")


def _make_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def _make_folder(path: Path, mode: int = 0o777) -> int:
    path.mkdir(mode)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _make_private_folder(path: Path) -> int:
    return _make_folder(path, 0o700)


@contextlib.contextmanager
def _claimed(path: Path, make: Callable[[Path], int]) -> Iterator[tuple[Path, int]]:
    """Make something new under a temporary name beside a path, locked; whatever has that name at the end is removed.

    Yields:
        Its path, and its descriptor.
    """
    parent, name = path.parent, path.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f"{name[:20]}~"
    _clear(parent)
    for last in (*[False] * 9, True):
        partial = parent / f".{name}.sqe-{secrets.token_hex(4)}.partial"
        try:
            descriptor = make(partial)
        except (FileExistsError, FileNotFoundError):  # one that clears may have been between making and opening it
            if last:
                raise
            continue
        try:
            if _lock(partial, descriptor, unless=True):
                yield partial, descriptor
                return
        finally:
            _remove(partial)
            os.close(descriptor)
    raise FileExistsError(errno.EEXIST, "others remove what is written there", str(path))


def _lock(path: Path, descriptor: int, *, unless: bool) -> bool:
    """Lock an open file; returns whether that succeeded and the path still names this file.

    Args:
        path: of it.
        descriptor: of it.
        unless: the answer where the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return unless
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _clear(folder: Path) -> None:
    """Remove what killed processes of this user left in a folder."""
    try:
        left = [path for path in folder.iterdir() if _TEMPORARY.fullmatch(path.name)]
    except OSError:
        return  # whoever writes there will say so
    for path in left:
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                own = os.fstat(descriptor).st_uid == os.geteuid()
                if own and _lock(path, descriptor, unless=False):
                    _remove(path)
            finally:
                os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _exchange(new: Path, old: Path) -> None:
    """Exchange two names; if the system cannot do so atomically, nothing is at ``old`` for a moment."""
    try:
        _rename(new, old, _EXCHANGE)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise
        aside = old.with_name(f"{new.name}.old")
        old.rename(aside)
        new.rename(old)
        aside.rename(new)


def _rename(old: Path, new: Path, flags: int) -> None:
    """Rename by renameat2(2); without it, a test beforehand refuses a name that exists."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    code = errno.ENOSYS
    if call is not None:
        here = -100  # AT_FDCWD
        if call(here, os.fsencode(old), here, os.fsencode(new), ctypes.c_uint(flags)) == 0:
            return
        code = ctypes.get_errno()
    if flags == _NOREPLACE and code in _NOT_OFFERED:
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
        old.rename(new)
        return
    raise OSError(code, os.strerror(code), str(new))


def _sync(path: Path) -> None:
    """Bring a file to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    """Bring a folder's names to the disk, where its file system can do that."""
    with contextlib.suppress(OSError):
        _sync(path)
