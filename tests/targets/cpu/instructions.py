"""Which x86 instructions of an object file the GNU assembler does not know as some features'."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection
from pathlib import Path

__all__ = ["beyond"]

LEAVES = re.compile(r"(j\w+|call\w*|ret\w*|loop\w*)\b")
"""Where to is a number in the listing; such instructions are every processor's."""


def beyond(machine_code: bytes, features: Collection[str], folder: Path) -> list[str]:
    """What is neither in x86-64's first version nor in the features, which the assembler calls as /proc/cpuinfo does.

    Args:
        machine_code: the object file.
        features: that are allowed.
        folder: for files.
    """
    (folder / "code.o").write_bytes(machine_code)
    command = ["objdump", "--disassemble", "--no-show-raw-insn", "--no-addresses", "code.o"]
    listing = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    lines = {line.split("#")[0].strip() for line in listing.splitlines() if line.startswith("\t")}
    code = sorted(line for line in lines if not LEAVES.match(line) and not re.match(r"(data16|cs nop)", line))
    assert len(code) > 200 and not any("(bad)" in line for line in code)
    (folder / "code.s").write_text("".join(f"{line}\n" for line in code))
    options = [f"-march={'+'.join(('generic64', *features))}", "code.s", "-o", "again.o"]
    done = subprocess.run(["as", *options], cwd=folder, capture_output=True, text=True, check=False)
    refused = re.findall(r"^code\.s:(\d+): Error: (.*)", done.stderr, re.MULTILINE)
    assert done.returncode == 0 or refused, done.stderr
    return [f"{code[int(number) - 1]}: {reason}" for number, reason in refused]
