"""Board configurations and the sizes that follow from them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from squeezeedge.errors import CorruptFileError, UsageError
from squeezeedge.targets.vta.isa.geometry import CONFIGS, Geometry, Memory, config_names, load_config


def test_the_default_is_the_published_geometry() -> None:
    geometry = load_config().geometry
    depths = {memory: geometry.depth(memory) for memory in Memory}
    published = {Memory.UOP: 8192, Memory.WGT: 1024, Memory.INP: 2048, Memory.ACC: 2048, Memory.OUT: 2048}
    assert depths == {**published, Memory.PAR: 128}
    sizes = {memory: geometry.element_bytes(memory) for memory in published}
    assert sizes == {Memory.UOP: 4, Memory.WGT: 256, Memory.INP: 16, Memory.ACC: 64, Memory.OUT: 16}
    assert geometry == Geometry()


def test_every_configuration_loads() -> None:
    assert {"pynq-z1", "pynq-z2", "ultra96-v2", "zcu104", "kv260"} <= set(config_names())
    assert {load_config(name).geometry.block for name in config_names()} == {16, 32}
    for name in config_names():
        config = load_config(name)
        assert config.name == name
        slices = config.geometry.block**2 // (2 if config.geometry.dsp_packing else 1)
        available = {"xc7z020": 220, "xczu3eg": 360, "xczu7ev": 1728, "xck26-s": 1248}[config.part[:7]]
        assert slices <= available, f"{name}: {slices} multipliers, {available} DSP slices"


def test_a_path_is_a_configuration(tmp_path: Path) -> None:
    record = json.loads((CONFIGS / "pynq-z2.json").read_text())
    record["geometry"]["inp_buffer"] = 1 << 14
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(record))
    assert load_config(str(path)).geometry == replace(Geometry(), inp_buffer=1 << 14)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"block": 8}, "block 8"),
        ({"bus_bytes": 4}, "bus_bytes 4"),
        ({"inp_buffer": 3000}, "inp memory"),
        ({"inp_buffer": 0}, "inp memory"),
        ({"acc_buffer": 1 << 40}, "acc memory"),
        ({"par_entries": 256}, "par memory"),
        ({"wgt_buffer": 1 << 20, "inp_buffer": 1 << 17}, "too deep"),
    ],
)
def test_impossible_geometries(change: dict[str, int], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        replace(Geometry(), **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"geometry": 3}', '{"geometry": {}}', "[" * 100_000])
def test_damaged_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(CorruptFileError, match=r"x\.json"):
        load_config(str(path))


@pytest.mark.parametrize(("key", "value"), [("block", "16"), ("block", True), ("dsp_packing", 1), ("more", 1)])
def test_wrong_types_and_keys(tmp_path: Path, key: str, value: object) -> None:
    record = json.loads((CONFIGS / "pynq-z2.json").read_text())
    record["geometry"][key] = value
    path = tmp_path / "x.json"
    path.write_text(json.dumps(record))
    with pytest.raises(CorruptFileError, match=key):
        load_config(str(path))


def test_unknown_name() -> None:
    with pytest.raises(UsageError, match="pynq-z2"):
        load_config("de10-nano")
