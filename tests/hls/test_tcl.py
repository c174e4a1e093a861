"""The Tcl scripts under an emulation of Vitis HLS and Vivado: commands, parts, boards, files, every pin connected."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from squeezeedge.targets.vta.board.bitstream import BITSTREAM_FILES, MASTERS, SCRIPTS, TOP, tcl_settings
from squeezeedge.targets.vta.isa.config_header import HLS
from squeezeedge.targets.vta.isa.geometry import Config, config_names, load_config

STUBS = Path(__file__).parent / "stubs.tcl"

PARTS = {
    "pynq-z1": "xc7z020clg400-1",
    "pynq-z2": "xc7z020clg400-1",
    "ultra96-v2": "xczu3eg-sbva484-1-i",
    "zcu104": "xczu7ev-ffvc1156-2-e",
    "zcu104-block32": "xczu7ev-ffvc1156-2-e",
    "kv260": "xck26-sfvc784-2LV-c",
}

Build = Callable[[Config], str]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Run both scripts for a configuration: the recorded commands, without this machine's paths."""
    tclsh = shutil.which("tclsh")
    if tclsh is None:
        pytest.skip("needs tclsh")
    record = tmp_path / "record.txt"

    def run(config: Config) -> str:
        settings = re.sub(r"set jobs .*", "set jobs {2}", tcl_settings(config, config.clock_mhz))
        (tmp_path / "settings.tcl").write_text(settings)
        for script in ("hls.tcl", "vivado.tcl"):
            command = [tclsh, str(STUBS), str(SCRIPTS / script), str(record), *MASTERS]
            result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert result.returncode == 0, result.stdout + result.stderr
        return record.read_text().replace(str(HLS), "HLS").replace(str(tmp_path), "BUILD")

    return run


@pytest.mark.tool
@pytest.mark.parametrize("name", config_names())
def test_every_board(build: Build, tmp_path: Path, name: str) -> None:
    config = load_config(name)
    recorded = build(config)
    assert config.part == PARTS[name]
    assert f"set_part {{}} {PARTS[name]}\n" in recorded
    assert all((tmp_path / "results" / file).read_text() == "emulated\n" for file in BITSTREAM_FILES)


@pytest.mark.tool
@pytest.mark.parametrize("name", ["pynq-z2", "kv260"])
def test_commands(build: Build, golden: Callable[[str, str], None], name: str) -> None:
    golden(f"{name}.tcl.txt", build(load_config(name)))


@pytest.mark.tool
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"part": "xc7z020clg484-1"}, "unknown part"),
        ({"board_part": "*:zedboard:part0:*"}, "Vivado has no board files for .*zedboard.*install"),
        ({"board_part": "*:zcu104:part0:*"}, "does not have the part"),
    ],
)
def test_a_wrong_board_fails(build: Build, change: dict[str, str], text: str) -> None:
    with pytest.raises(AssertionError, match=text):
        build(replace(load_config("pynq-z2"), **change))  # type: ignore[arg-type]


@pytest.mark.tool
@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("EMULATED_SLACK", "-1.5", r"100 MHz are too fast: the longest path is 1\.5 ns too long"),
        ("EMULATED_HOLD", "-0.1", r"hold time violated by -0\.1 ns"),
        ("EMULATED_PROGRESS", "40%", "implementation stopped at 40%: place_design ERROR"),
    ],
)
def test_a_failed_implementation(
    build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str, text: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(AssertionError, match=text):
        build(load_config("pynq-z2"))
    assert not (tmp_path / "results").exists()


def test_names_of_the_source() -> None:
    """Top function and bundles that the scripts connect are those of the source."""
    text = (HLS / "vta.cpp").read_text()
    assert f"void {TOP}(" in text
    assert tuple(re.findall(r"interface m_axi \S+ bundle=(\w+)", text)) == MASTERS
    assert set(re.findall(r"interface s_axilite port=\S+ bundle=(\w+)", text)) == {"control"}
