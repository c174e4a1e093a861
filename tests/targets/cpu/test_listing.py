"""The machine code as binutils prints it, by a program that nothing in an artifact chooses."""

import json
import shutil
from pathlib import Path

import pytest

from squeezeedge.artifact import open_artifact, write_artifact
from squeezeedge.errors import CorruptFileError, UnavailableError
from squeezeedge.graph import IntegerGraph
from squeezeedge.targets.cpu import TARGET, CpuOptions
from squeezeedge.targets.cpu.listing import disassemble
from tests.graphs import random_images
from tests.targets.cpu.programs import AARCH64, ARM, Machine
from tests.targets.devices import seal

LIBRARY = "librandom.so"


def elf(machine: int) -> bytes:
    """The beginning of a library for a processor."""
    return b"\x7fELF\x02\x01\x01" + bytes(11) + machine.to_bytes(2, "little") + bytes(44)


def test_the_listing(library: Path) -> None:
    assert any("<random_run@@Base>:" in line for line in disassemble(library))


@pytest.mark.tool
@pytest.mark.slow
@pytest.mark.parametrize("machine", [AARCH64, ARM], ids=lambda machine: str(machine.triple))
def test_the_listing_of_another_processor(machine: Machine, two_layers: IntegerGraph, tmp_path: Path) -> None:
    machine.need()
    TARGET.lower(two_layers, machine.options).write(tmp_path)
    assert any("<random_run@@Base>:" in line for line in disassemble(tmp_path))


def test_a_hostile_manifest_starts_nothing(two_layers: IntegerGraph, tmp_path: Path) -> None:
    """Its checksums fit; every string in it that could name a program names one."""
    options = CpuOptions(isa="generic")
    golden = random_images(two_layers, 1, 0)
    artifact = write_artifact(two_layers, TARGET, options, tmp_path / "artifact", golden=golden, source={}).path
    started = tmp_path / "started"
    for program in (artifact / "evil-objdump", artifact / "objdump", tmp_path / "evil-objdump"):
        program.write_text(f"#!/bin/sh\ntouch {started}\n")
        program.chmod(0o755)
    seal(artifact)
    path = artifact / "manifest.json"
    manifest = json.loads(path.read_text())
    for evil in (str(artifact / "evil"), str(tmp_path / "evil"), "./evil", "../evil", "evil"):
        manifest["options"] = dict.fromkeys(manifest["options"], evil)
        manifest["compiled"]["llvm_target"] = {"kind": evil, "mtriple": evil}
        path.write_text(json.dumps(manifest))
        seal(artifact)
        assert any("<random_run@@Base>:" in line for line in TARGET.listing(open_artifact(artifact).path))
    assert not started.exists()


def test_programs_of_the_artifact_are_not_on_a_relative_path(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``PATH=.`` means the user's folder, not the artifact's."""
    artifact, here = tmp_path / "artifact", tmp_path / "here"
    shutil.copytree(library, artifact)
    here.mkdir()
    for place in (artifact, here):
        (place / "objdump").write_text(f"#!/bin/sh\necho started in {place.name}\n")
        (place / "objdump").chmod(0o755)
    monkeypatch.chdir(here)
    monkeypatch.setenv("PATH", ".:/bin")
    assert list(disassemble(artifact)) == ["started in here"]


@pytest.mark.parametrize("content", [b"nothing", b"", elf(62)[:19], elf(62)[:30]])
def test_a_library_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LIBRARY).write_bytes(content)
    with pytest.raises(CorruptFileError, match=rf"{LIBRARY}: .*compile again"):
        list(disassemble(tmp_path))


def test_no_library(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match="has 0 libraries, 1 is needed; compile again"):
        list(disassemble(tmp_path))


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        (62, "x86_64-linux-gnu-objdump is not on the path; install binutils-x86-64-linux-gnu"),
        (183, "aarch64-linux-gnu-objdump is not on the path; install binutils-aarch64-linux-gnu"),
        (40, "arm-linux-gnueabihf-objdump is not on the path; install binutils-arm-linux-gnueabihf"),
        (9999, "no disassembler is known for ELF machine 9999; there are some for x86_64"),
    ],
)
def test_missing_binutils(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: int, text: str) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / LIBRARY).write_bytes(elf(machine))
    with pytest.raises(UnavailableError, match=text):
        list(disassemble(tmp_path))


def test_many_warnings_and_strange_bytes_are_no_trouble(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More errors than a pipe holds, and names that are not UTF-8."""
    tool = tmp_path / "objdump"
    tool.write_text("#!/bin/sh\nhead -c 1000000 /dev/zero >&2\nprintf 'a\\377b\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert list(disassemble(library)) == ["a\ufffdb"]
