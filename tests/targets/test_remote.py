"""Machines over ssh: their names, copies there, failures; over a fake ssh and over a real one."""

from __future__ import annotations

import getpass
import os
import re
import sys
import threading
from pathlib import Path

import pytest

from squeezeedge.errors import GateError, SqueezeEdgeError, UnavailableError, UsageError
from squeezeedge.targets.remote import COPIES, MOST_COPIES, Remote
from tests.targets.devices import FakeBoard
from tests.targets.interpreters import interpreter

FILES = {"run.py": b"print(1)", "some/weights.bin": bytes(range(256)), "an odd name": b""}


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBoard:
    return FakeBoard(tmp_path / "remote", monkeypatch, python=f"{sys.executable} -I")


@pytest.fixture
def remote(board: FakeBoard) -> Remote:
    return Remote.of("user@board")


@pytest.mark.parametrize(
    ("name", "login", "port"),
    [
        ("pynq", "pynq", None),
        ("root@192.168.2.99", "root@192.168.2.99", None),
        ("user@board.local:2222", "user@board.local", "2222"),
        ("ssh://user@board:22", "user@board", "22"),
        ("user@[fe80::1%eth0]:22", "user@fe80::1%eth0", "22"),
        ("user@[::1]", "user@::1", None),
        ("user@fd00::7", "user@fd00::7", None),
    ],
)
def test_names(board: FakeBoard, name: str, login: str, port: str | None) -> None:
    remote = Remote.of(name)
    assert (remote.login, remote.port) == (login, port)
    assert remote.command("true")[-2:] == [login, "sh -c true"]
    assert (["-p", port] == remote.command("true")[-4:-2]) == (port is not None)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "-oProxyCommand=x",
            "",
            "a b",
            "x;reboot",
            "$(x)",
            "a\nb",
            "user@",
            "@board",
            "a@b@c",
            "user@-oX",
            "user@[::1",
        ),
        *("board:0", "board:65536", "board:x", "board:", "user@[board]", "user@[::1]:", "user@h:22:23", "ssh://"),
    ],
)
def test_names_that_are_no_machine(board: FakeBoard, name: str) -> None:
    with pytest.raises(UsageError, match="must be user@host or user@host:port"):
        Remote.of(name)


def test_no_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnavailableError, match="ssh is not on the path; install an OpenSSH client"):
        Remote.of("user@board")


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_are_placed_once(board: FakeBoard, remote: Remote) -> None:
    place = board.home / remote.place(FILES)
    assert board.calls == ["ssh"] * 2 and list(place.parent.iterdir()) == [place]
    there = content(place)
    assert there.pop("SHA256SUMS") and there == FILES
    assert board.home / remote.place(FILES) == place and board.calls == ["ssh"]
    assert board.home / remote.place({**FILES, "run.py": b"print(2)"}) != place and board.calls == ["ssh"] * 2


@pytest.mark.parametrize("name", ["run.py", "an odd name", "SHA256SUMS"])
@pytest.mark.parametrize("data", [None, b"", b"print(3)"])
def test_a_damaged_copy_is_replaced(board: FakeBoard, remote: Remote, name: str, data: bytes | None) -> None:
    """Another network's copy stays."""
    other = board.home / remote.place({"run.py": b"other"})
    damaged = board.home / remote.place(FILES)
    (damaged / name).unlink()
    if data is not None:
        (damaged / name).write_bytes(data)
    if (name, data) == ("an odd name", b""):
        assert board.home / remote.place(FILES) == damaged, "nothing was changed"
        return
    place = board.home / remote.place(FILES)
    assert set(place.parent.iterdir()) == {place, other} and place != damaged
    assert content(place).items() >= FILES.items()


def test_two_at_once(board: FakeBoard, remote: Remote) -> None:
    """First copies do not meet; each is whole."""
    places: list[str] = []
    threads = [threading.Thread(target=lambda: places.append(remote.place(FILES))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(places) == 4
    for place in places:
        assert content(board.home / place).items() >= FILES.items()
    assert not list((board.home / COPIES).glob(".*")), "nothing is left of copying"
    assert remote.place(FILES) in places


@pytest.mark.slow
def test_old_copies_are_removed(board: FakeBoard, remote: Remote) -> None:
    """The least recently used ones; and what broke off a day ago. What is no copy stays."""
    copies = board.home / COPIES
    places = [board.home / remote.place({"run.py": bytes([n])}) for n in range(MOST_COPIES)]
    stale, fresh = copies / ".a.partial", copies / ".b.partial"
    for path in (stale, fresh, copies / "mine", copies.parent / "bitstream-pynq-z1"):
        path.mkdir()
    for age, path in enumerate([*places, stale]):
        os.utime(path, (0, 10**9 + age))
    assert board.home / remote.place({"run.py": b"\0"}) == places[0], "and so it is the newest"
    new = board.home / remote.place({"run.py": b"another"})
    assert set(copies.iterdir()) == {places[0], *places[2:], new, fresh, copies / "mine"}
    assert (copies.parent / "bitstream-pynq-z1").is_dir()


def test_a_full_disk(board: FakeBoard, remote: Remote) -> None:
    """One sentence, without a word of passwords; nothing half-written stays."""
    tar = board.programs / "tar"
    tar.write_text("#!/bin/sh\n# FAKE tar\ntouch .*.partial/half\necho 'tar: No space left on device' >&2\nexit 2\n")
    tar.chmod(0o755)
    with pytest.raises(SqueezeEdgeError, match=r"^board user@board: tar: No space left on device$"):
        remote.place(FILES)
    assert not list((board.home / COPIES).iterdir())


def test_a_machine_that_does_not_answer(board: FakeBoard, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    (board.programs / "ssh").write_text("#!/bin/sh\n# FAKE ssh\nexec sleep 9\n")
    monkeypatch.setattr("squeezeedge.targets.remote.ANSWER_S", 0.1)
    with pytest.raises(UnavailableError, match="board user@board: no answer in 0 s"):
        remote.place(FILES)


@pytest.mark.slow
def test_ready(board: FakeBoard, remote: Remote) -> None:
    assert remote.check_ready(root=False) == remote.check_ready(root=True) == os.uname().machine


def test_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Python or numpy is found before any work, and is something that is missing there."""
    needed = re.escape("(Python 3.8 or later with numpy is needed there, as python3)")
    for number, (python, text) in enumerate(
        {"python9": "python9: command not found", f"{sys.executable} -IS": "No module named 'numpy'"}.items()
    ):
        FakeBoard(tmp_path / str(number), monkeypatch, python=python)
        with pytest.raises(UnavailableError, match=f"board user@board: .*{text} {needed}$"):
            Remote.of("user@board").check_ready(root=False)


def test_a_login_shell_that_ends(board: FakeBoard, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that all is well, and nothing of what was to run."""
    monkeypatch.setattr(Remote, "command", lambda *_: ["echo", "Welcome"])
    with pytest.raises(UnavailableError, match="board user@board: its login shell did not come to python3"):
        remote.check_ready(root=False)


@pytest.mark.slow
@pytest.mark.tool
def test_an_old_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeBoard(tmp_path, monkeypatch, python=interpreter("3.6"))
    with pytest.raises(UnavailableError, match=r"board user@board: this is Python 3\.6\.\d+ \(Python 3\.8 or later"):
        Remote.of("user@board").check_ready(root=False)


CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Offending ED25519 key in /home/me/.ssh/known_hosts:1
Host key verification failed."""

FAILURES: list[tuple[int, str, type[SqueezeEdgeError], str]] = [
    (
        255,
        "Warning: banner\nuser@board: Permission denied (publickey).\nlost connection",
        UnavailableError,
        r"Permission denied \(publickey\)\. \(ssh failed; it must log in without a password: ssh-copy-id user@board\)",
    ),
    (
        255,
        "No ED25519 host key is known for board\nHost key verification failed.",
        UnavailableError,
        r"Host key verification failed\. \(ssh failed; log in once by hand to see its key: ssh user@board\)",
    ),
    (255, CHANGED, UnavailableError, r"WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! .*ssh-keygen -R board and .*"),
    (255, "ssh: Could not resolve hostname board", UnavailableError, r"ssh: .* board \(ssh failed\)"),
    (255, "Connection to board closed by remote host.", UnavailableError, r"Connection .* host\. \(ssh failed\)"),
    (255, "", UnavailableError, r"exit code 255 \(ssh failed\)"),
    (1, "tar: No space left on device", SqueezeEdgeError, "tar: No space left on device"),
    (
        137,
        "bash: line 1: 12 Killed  python3",
        SqueezeEdgeError,
        r"the program .* SIGKILL; is the board's memory full\?",
    ),
    (139, "", SqueezeEdgeError, "the program there was ended by SIGSEGV"),
    (128 + 77, "", SqueezeEdgeError, "the program there was ended by signal 77"),
    (1, "sudo: a password is required", UnavailableError, r"sudo: .* root: log in as root or allow sudo .*\)"),
    (127, "bash: python3: command not found", UnavailableError, r"bash: .* found \(Python 3\.8 or later with numpy .*"),
    (3, "run.py: error: no device\ndriver: bye", UnavailableError, "no device"),
    (4, "run.py: error: 3 class sums differ", GateError, "3 class sums differ"),
    (1, "noise\nrun.py: error: fire\nWarning: late", SqueezeEdgeError, "fire"),
    (9, "", SqueezeEdgeError, "exit code 9"),
    (-9, "", SqueezeEdgeError, "ssh was ended by SIGKILL"),
    (1, "\x1b]0;title\x07\x1b[2J" + "x" * 99999, SqueezeEdgeError, r"\]0;title  \[2Jx{400,500}"),
]


@pytest.mark.parametrize(("code", "said", "kind", "text"), FAILURES)
def test_failures(remote: Remote, code: int, said: str, kind: type[SqueezeEdgeError], text: str) -> None:
    """A password is only spoken of where ssh was refused."""
    failure = remote.failure(code, said.encode())
    assert type(failure) is kind and re.fullmatch(f"board user@board: {text}", str(failure)), failure


def test_failures_name_the_port(board: FakeBoard) -> None:
    remote = Remote.of("me@board:2222")
    assert "ssh-copy-id -p 2222 me@board)" in str(remote.failure(255, b"me@board: Permission denied."))
    assert "ssh-keygen -R '[board]:2222' " in str(remote.failure(255, CHANGED.encode()))


@pytest.mark.tool
def test_a_key_that_a_real_ssh_does_not_know(loopback: Path) -> None:
    (loopback.parent / "authorized_keys").write_text("")
    text = r"board .*@loopback: .*Permission denied .*ssh failed; it must log in without a password"
    with pytest.raises(UnavailableError, match=text):
        Remote.of(f"{getpass.getuser()}@loopback").place(FILES)


@pytest.mark.slow
@pytest.mark.tool
def test_a_host_key_that_changed_over_a_real_ssh(loopback: Path) -> None:
    known = loopback.parent / "known_hosts"
    known.write_text(known.read_text().split()[0] + " " + (loopback.parent / "user_key.pub").read_text())
    with pytest.raises(UnavailableError, match=r"REMOTE HOST IDENTIFICATION HAS CHANGED.*ssh-keygen -R"):
        Remote.of(f"{getpass.getuser()}@loopback").run("true")


@pytest.mark.slow
@pytest.mark.tool
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_ports_and_ipv6_over_a_real_ssh(loopback: Path, host: str) -> None:
    config = loopback.parent / "ssh_config"
    lines = config.read_text().splitlines()
    port = next(line.split()[1] for line in lines if line.startswith("Port"))
    config.write_text("".join(f"{line}\n" for line in lines if not line.startswith(("Port", "HostName"))))
    if f"on {host.strip('[]')} port" not in loopback.read_text():
        pytest.skip(f"no sshd on {host} here")
    assert Remote.of(f"{getpass.getuser()}@{host}:{port}").run("echo yes") == b"yes\n"
    with pytest.raises(UnavailableError, match=r"Connection refused.* \(ssh failed\)"):
        Remote.of(f"{getpass.getuser()}@{host}:1").run("true")


@pytest.mark.slow
@pytest.mark.tool
def test_a_program_that_is_killed_over_a_real_ssh(loopback: Path) -> None:
    """No failure of ssh, though ssh ends with 255 for a command that a signal ends."""
    remote = Remote.of(f"{getpass.getuser()}@loopback")
    with pytest.raises(SqueezeEdgeError, match="the program there was ended by SIGKILL"):
        remote._run(remote.logged_in("python3 -c 'import os; os.kill(os.getpid(), 9)'", "", root=False), b"")
