"""A real ssh server on a port of 127.0.0.1, for this user and for one test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["serve_ssh"]


@contextmanager
def serve_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A real sshd for this user on a port of 127.0.0.1, with keys of its own; yields the file that it logs to.

    ``ssh`` on the path is the real one with a configuration that knows this server only. The login's home is a folder
    of the test, whose login shell has this Python.
    """
    sshd, ssh, keygen = _program("sshd"), _program("ssh"), _program("ssh-keygen")
    folder, home = tmp_path / "sshd", tmp_path / "home"
    folder.mkdir(mode=0o700)
    home.mkdir()
    (home / ".profile").write_text(f'python3() {{ {sys.executable} -I "$@"; }}\n')
    for name in ("host_key", "user_key"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "authorized_keys").write_text((folder / "user_key.pub").read_text())
    (folder / "authorized_keys").chmod(0o600)
    port, log = _free_port(), folder / "log"
    server = {
        "Port": port,
        "ListenAddress": f"127.0.0.1\nListenAddress [::1]:{port}",
        "HostKey": folder / "host_key",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "PidFile": "none",
        "UsePAM": "no",
        "StrictModes": "no",
        "PasswordAuthentication": "no",
        "ForceCommand": f'cd {home} && HOME={home} exec sh -c "$SSH_ORIGINAL_COMMAND"',
    }
    (folder / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in server.items()))
    client = {
        "HostName": "127.0.0.1",
        "Port": port,
        "IdentityFile": folder / "user_key",
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": folder / "known_hosts",
    }
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port},[::1]:{port} {(folder / 'host_key.pub').read_text()}")
    (folder / "ssh_config").write_text("".join(f"{key} {value}\n" for key, value in client.items()))
    (folder / "bin").mkdir()
    (folder / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {ssh} -F {folder}/ssh_config "$@"\n')
    (folder / "bin" / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    command = [sshd, "-D", "-f", str(folder / "sshd_config"), "-E", str(log)]
    with _privilege_separation(), subprocess.Popen(command) as process:
        try:
            _wait_for(lambda: log.exists() and "Server listening" in log.read_text(), process, log)
            yield log
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (OpenSSH)")
    return found


@contextmanager
def _privilege_separation() -> Iterator[None]:
    """The empty folder without which root's sshd does not start; a machine that has started its own sshd has it."""
    folder = Path("/run/sshd")
    if os.geteuid() != 0 or folder.exists():
        yield
        return
    folder.mkdir(mode=0o755)
    try:
        yield
    finally:
        folder.rmdir()


def _wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 10
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.skip(f"sshd does not start here: {log.read_text() if log.exists() else process.returncode}")
        time.sleep(0.02)
