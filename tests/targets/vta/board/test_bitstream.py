"""Building a bitstream with fake tools: sh scripts on the path that emulate Vitis HLS and Vivado, or fail."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from squeezeedge.errors import SqueezeEdgeError, UnavailableError, UsageError
from squeezeedge.targets.vta.board.bitstream import BITSTREAM_FILES, MASTERS, build_bitstream, check_bitstream
from squeezeedge.targets.vta.isa.geometry import load_config

STUBS = Path(__file__).parents[3] / "hls" / "stubs.tcl"
CONFIG = load_config("pynq-z2")


class Tools:
    """A path with fake tools only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"

    def add(self, name: str, body: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n# FAKE {name}: an emulation for tests\necho {name} >> {self.calls}\n{body}\n")
        path.chmod(0o755)

    def emulate(self, name: str) -> None:
        """The tool's commands are emulated by tests/hls/stubs.tcl."""
        tclsh = shutil.which("tclsh", path=os.defpath)
        if tclsh is None:
            pytest.skip("needs tclsh")
        script = 'for script; do :; done  # the last argument\necho "FAKE: $*"\n'
        self.add(name, f'{script}exec {tclsh} {STUBS} "$script" record.txt {" ".join(MASTERS)}')


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Tools(folder)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


@pytest.mark.tool
@pytest.mark.parametrize(("hls", "arguments"), [("vitis_hls", "-f"), ("vitis-run", "--mode hls --tcl")])
def test_build(tools: Tools, out: Path, tmp_path: Path, hls: str, arguments: str) -> None:
    tools.emulate(hls)
    tools.emulate("vivado")
    files = build_bitstream(CONFIG, 100, out)
    assert files == [out / name for name in BITSTREAM_FILES]
    assert {file.read_text() for file in files} == {"emulated\n"}
    (log,) = tmp_path.glob("cache/squeezeedge/bitstream-pynq-z2-100mhz-*/hls.log")
    assert f"FAKE: {arguments} " in log.read_text()
    assert "slack 0.125 ns at 100 MHz" in (log.parent / "vivado.log").read_text()

    build_bitstream(CONFIG, 100, out)
    assert tools.calls.read_text().split() == [hls, "vivado"], "the second build is the first one's"
    build_bitstream(CONFIG, 80, out)
    assert len(tools.calls.read_text().split()) == 4, "another clock is another bitstream"

    (tools.folder / "vivado").unlink()
    check_bitstream(CONFIG, 100)
    with pytest.raises(UnavailableError, match="not on the path: vivado"):
        check_bitstream(CONFIG, 120)


@pytest.mark.parametrize(
    ("present", "missing"),
    [
        ([], "vitis_hls (or vitis-run) and vivado"),
        (["vivado"], "vitis_hls (or vitis-run)"),
        (["vitis_hls"], "vivado"),
        (["vitis-run"], "vivado"),
    ],
)
def test_missing_tools_are_named(tools: Tools, out: Path, present: list[str], missing: str) -> None:
    for name in present:
        tools.add(name, "exit 1")
    with pytest.raises(UnavailableError) as caught:
        build_bitstream(CONFIG, 100, out)
    assert f"not on the path: {missing}; install" in str(caught.value)
    assert caught.value.exit_code == 3
    assert not list(out.iterdir())
    assert not tools.calls.exists()


def test_failing_lines_are_reported(tools: Tools, out: Path) -> None:
    lines = "".join(f"echo 'ERROR: [HLS {n}] reason {n}'\n" for n in range(20))
    tools.add("vitis_hls", f"echo 'INFO: fine'\n{lines}exit 1")
    tools.add("vivado", "exit 0")
    with pytest.raises(SqueezeEdgeError, match=r"vitis_hls failed \(exit code 1\); log: (.*hls\.log)") as caught:
        build_bitstream(CONFIG, 100, out)
    text = str(caught.value)
    assert "ERROR: [HLS 9] reason 9" in text
    assert "reason 10" not in text
    assert "INFO" not in text
    assert not list(out.iterdir())
    assert tools.calls.read_text().split() == ["vitis_hls"]


def test_a_tool_that_gives_nothing(tools: Tools, out: Path) -> None:
    tools.add("vitis_hls", "exit 0")
    tools.add("vivado", "exit 0")
    with pytest.raises(SqueezeEdgeError, match=r"it gave no hls/solution/impl/ip/component\.xml.*printed no error"):
        build_bitstream(CONFIG, 100, out)


@pytest.mark.tool
def test_too_fast_a_clock(tools: Tools, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools.emulate("vitis_hls")
    tools.emulate("vivado")
    monkeypatch.setenv("EMULATED_SLACK", "-0.75")
    with pytest.raises(SqueezeEdgeError, match=r"250 MHz are too fast: the longest path is 0\.75 ns"):
        build_bitstream(CONFIG, 250, out)
    assert not list(tmp_path.glob("cache/squeezeedge/*/done"))


def test_a_clock_that_no_board_makes(out: Path) -> None:
    with pytest.raises(UsageError, match="clock of 0 MHz"):
        build_bitstream(CONFIG, 0, out)
