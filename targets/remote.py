"""Another machine over ssh: its name, commands there, copies of artifacts, and what a failure means.

Copies lie in ``~/.cache/squeezeedge/copies`` there, one folder each, with a list of checksums. A copy is made under
another name and renamed, so that sessions do not disturb each other. Its checksums are tested before every use. It is
removed when it is damaged or when newer ones were used. The machine needs ssh, a shell, tar, sha256sum and Python.
"""

from __future__ import annotations

import hashlib
import io
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass

from squeezeedge.errors import GateError, SqueezeEdgeError, UnavailableError, UsageError
from squeezeedge.targets.device.run import SCRIPT

__all__ = ["COPIES", "Remote"]

SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=10")

USER, HOST, ADDRESS = (
    r"[A-Za-z0-9_][A-Za-z0-9_.\\-]*",
    r"[A-Za-z0-9_][A-Za-z0-9_.-]*",
    r"[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?",
)
NAME = re.compile(
    rf"(?:ssh://)?(?P<user>{USER}@)?(?:(?P<host>{HOST})|\[(?P<address>{ADDRESS})\])(?::(?P<port>[0-9]{{1,5}}))?/?"
)
BARE_ADDRESS = re.compile(rf"(?P<user>{USER}@)?(?P<address>{ADDRESS})")

COPIES = ".cache/squeezeedge/copies"
MOST_COPIES = 8
SUMS = "SHA256SUMS"

ANSWER_S = 60.0
"""How long a short command may take; copying may take longer, by the bytes at :data:`SLOWEST` bytes a second."""
SLOWEST = 50_000

LOGIN = "root="
AS_ROOT = 'if [ "$(id -u)" = 0 ]; then root=; else root="sudo -n"; fi'
SHELL = 'exec $root sh -c \'exec 3<&0 </dev/null; exec bash -lc "$0" "$1"\''
"""A login shell: that is where boards set up Python and their device's libraries (/etc/profile.d).

What it runs on the way may read the standard input, which is kept from it: the command finds it as descriptor 3.
"""

SSH_FAILED, NOT_FOUND = 255, 127
MOST_SHOWN = 500
"""Characters of a line that are repeated in a message."""

CHANGED_KEY = "REMOTE HOST IDENTIFICATION HAS CHANGED"
REFUSED = {
    CHANGED_KEY: "if the board was set up anew, forget its old key with ssh-keygen -R {host} and log in once by hand; "
    "else another machine answers in its place",
    "Permission denied": "it must log in without a password: ssh-copy-id {login}",
    "Host key verification failed": "log in once by hand to see its key: ssh {login}",
}
"""What ssh says when it may not log in, and what to do."""

TOLD = f"{SCRIPT}: error: "
PYTHON_NEEDED = "Python 3.8 or later with numpy is needed there, as python3"

READY = f"""
import platform, sys
try:
    if sys.version_info < (3, 8):
        raise ImportError("this is Python " + sys.version.split()[0])
    import numpy
except ImportError as error:
    sys.stderr.write("{TOLD}" + str(error) + " ({PYTHON_NEEDED})\\n")
    sys.exit(3)
print("\\nmachine " + platform.machine())
"""
"""Says what the machine is, if Python and numpy are there."""


@dataclass(frozen=True)
class Remote:
    """A machine that ssh reaches.

    Attributes:
        name: as the user gave it.
        login: ``user@host`` as ssh takes it.
        port: of its sshd; ``None``: ssh's configuration decides.
    """

    name: str
    login: str
    port: str | None

    @classmethod
    def of(cls, name: str) -> Remote:
        """From ``[user@]host[:port]``, also as ``ssh://...``; an IPv6 address with a port is in brackets.

        Raises:
            UsageError: it is no such name.
            UnavailableError: ssh is not installed.
        """
        found = NAME.fullmatch(name) or (BARE_ADDRESS.fullmatch(name) if name.count(":") > 1 else None)
        groups: Mapping[str, str | None] = found.groupdict() if found else {}
        port = groups.get("port")
        if not found or (port is not None and not 0 < int(port) < 1 << 16):
            raise UsageError(
                f"board {name!r}: must be user@host or user@host:port, as root@pynq:22 or user@[fd00::1]:22"
            )
        if shutil.which("ssh") is None:
            raise UnavailableError("ssh is not on the path; install an OpenSSH client")
        host = groups.get("host") or groups.get("address") or ""
        return cls(name, f"{groups.get('user') or ''}{host}", port)

    def command(self, script: str) -> list[str]:
        """The command that runs a shell script there."""
        port = [] if self.port is None else ["-p", self.port]
        return ["ssh", *SSH_OPTIONS, *port, self.login, f"sh -c {shlex.quote(script)}"]

    def logged_in(self, script: str, argument: str, *, root: bool) -> list[str]:
        """The command that runs a script in a login shell; ``$0`` is the argument, expanded by the remote shell.

        The exit code is never 255, which is ssh's own. It is 128 + the signal where a signal ended the program.
        """
        whole = f'{script} <&3 3<&-; code=$?; [ "$code" = {SSH_FAILED} ] && code=1; exit $code'
        return self.command(f'{AS_ROOT if root else LOGIN}; {SHELL} {shlex.quote(whole)} "{argument}"')

    def run(self, script: str, data: bytes = b"") -> bytes:
        """Run a shell script there and return its output.

        Raises:
            UnavailableError: the machine is not reached, or takes too long.
            SqueezeEdgeError: the script failed.
        """
        return self._run(self.command(script), data)

    def _run(self, command: list[str], data: bytes = b"") -> bytes:
        limit = ANSWER_S + len(data) / SLOWEST
        try:
            done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=limit)
        except subprocess.TimeoutExpired:
            raise UnavailableError(f"board {self.name}: no answer in {limit:.0f} s") from None
        if done.returncode:
            raise self.failure(done.returncode, done.stderr)
        return done.stdout

    def check_ready(self, *, root: bool) -> str:
        """Check that the machine is reached and has Python and numpy; return its processor's name (``uname -m``).

        Args:
            root: whether root is needed there.

        Raises:
            UnavailableError: it is not reached, or lacks something.
        """
        out = self._run(self.logged_in(f"python3 -c {shlex.quote(READY)}", "", root=root)).decode(errors="replace")
        machines = [line.removeprefix("machine ") for line in out.splitlines() if line.startswith("machine ")]
        if not machines:
            raise UnavailableError(
                f"board {self.name}: its login shell did not come to python3; look into ~/.profile and /etc/profile.d"
            )
        return _shown(machines[-1])

    def place(self, files: Mapping[str, bytes]) -> str:
        """Put files into a folder there, completely or not at all; return its name, relative to the login's home.

        Args:
            files: name relative to the folder -> content.

        Raises:
            UnavailableError: the machine is not reached.
            SqueezeEdgeError: they can not be written there.
        """
        lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()]
        sums = "".join(lines).encode()
        digest = hashlib.sha256(sums).hexdigest()[:24]
        found = self.run(LOOK.format(copies=COPIES, digest=digest, sums=SUMS)).decode(errors="replace").splitlines()
        there = [line.removeprefix("found ") for line in found if line.startswith("found ")]
        if there:
            return f"{COPIES}/{there[0]}"
        name = f"{digest}.{secrets.token_hex(4)}"
        archive = _archive({SUMS: sums, **files})
        self.run(COPY.format(copies=COPIES, name=name, most=MOST_COPIES), archive)
        return f"{COPIES}/{name}"

    def failure(self, code: int, errors: bytes) -> SqueezeEdgeError:
        """The error for a failure of ssh or of a program there; a message of run.py is preferred to others."""
        lines = [_shown(line) for line in errors.decode(errors="replace").split("\n") if line.strip()]
        told = [line for line in lines if line.startswith(TOLD)]
        last = (told or lines or [f"exit code {code}"])[-1].removeprefix(TOLD)
        if code == SSH_FAILED:
            for words, fix in REFUSED.items():
                for line in lines:
                    if words in line:
                        said = line.strip("@ ").removeprefix(f"{self.login}: ")
                        advice = fix.format(login=self._by_hand, host=self._host)
                        return UnavailableError(f"board {self.name}: {said} (ssh failed; {advice})")
            return UnavailableError(f"board {self.name}: {last} (ssh failed)")
        text = f"board {self.name}: {last}"
        if code < 0:
            return SqueezeEdgeError(f"board {self.name}: ssh was ended by {_signal(-code)}")
        if not told and code > 128:
            name = _signal(code - 128)
            why = "; is the board's memory full?" if name == "SIGKILL" else ""
            return SqueezeEdgeError(f"board {self.name}: the program there was ended by {name}{why}")
        if "sudo:" in last:
            return UnavailableError(f"{text} (this needs root: log in as root or allow sudo without a password)")
        if code == NOT_FOUND:
            return UnavailableError(f"{text} ({PYTHON_NEEDED})")
        kinds = {UnavailableError.exit_code: UnavailableError, GateError.exit_code: GateError}
        return kinds.get(code, SqueezeEdgeError)(text)

    @property
    def _by_hand(self) -> str:
        return self.login if self.port is None else f"-p {self.port} {self.login}"

    @property
    def _host(self) -> str:
        host = self.login.rpartition("@")[2]
        return host if self.port is None else f"'[{host}]:{self.port}'"


LOOK = """
cd {copies} 2>/dev/null || exit 0
for copy in {digest}.*; do
  [ -d "$copy" ] || continue
  if (cd "$copy" && [ "$(sha256sum < {sums} | cut -c1-24)" = {digest} ] && sha256sum -c {sums}) >/dev/null 2>&1; then
    touch "$copy"
    printf '\\nfound %s\\n' "$copy"
    exit 0
  fi
  rm -rf "$copy"
done
"""
"""Names a whole copy and makes it the newest one; removes damaged ones."""

COPY = """
mkdir -p {copies} && cd {copies} || exit 1
find . -maxdepth 1 -name '.*.partial' -mmin +1440 -exec rm -rf {{}} + 2>/dev/null
mkdir .{name}.partial && tar -xf - -C .{name}.partial && mv .{name}.partial {name} || {{
  rm -rf .{name}.partial
  exit 1
}}
touch {name}
ls -t | grep -E '^[0-9a-f]{{24}}[.][0-9a-f]{{8}}$' | tail -n +$(({most} + 1)) | while read -r old; do
  rm -rf "$old"
done
"""
"""Unpacks an archive under a name that nobody else has, and removes what is old."""


def _archive(files: Mapping[str, bytes]) -> bytes:
    """The files as a tar archive."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return archive.getvalue()


def _shown(line: str) -> str:
    """A machine's output as a part of a message: without control characters, and cut to a fixed length."""
    return "".join(character if character.isprintable() else " " for character in line[:MOST_SHOWN]).strip()


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
