"""Building and finding the simulator's library."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from squeezeedge.errors import UnavailableError
from squeezeedge.targets.vta.isa.config_header import HLS
from squeezeedge.targets.vta.isa.geometry import Geometry
from squeezeedge.targets.vta.sim import native
from squeezeedge.targets.vta.sim.native import compiler, load_simulator


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    load_simulator.cache_clear()
    yield
    load_simulator.cache_clear()


@pytest.mark.slow
def test_one_library_per_geometry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native, "COMPILE_FLAGS", (*native.COMPILE_FLAGS, "-O0"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_simulator(Geometry())
    load_simulator(Geometry())
    (library,) = (tmp_path / "squeezeedge").iterdir()  # nothing else is left
    built = library.stat().st_mtime_ns
    load_simulator.cache_clear()
    load_simulator(Geometry())
    assert library.stat().st_mtime_ns == built
    load_simulator(replace(Geometry(), dsp_packing=False))
    assert len(list((tmp_path / "squeezeedge").iterdir())) == 2

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    (tmp_path / "other" / "squeezeedge").mkdir(parents=True)
    (tmp_path / "other" / "squeezeedge" / library.name).write_bytes(b"not a library")
    load_simulator.cache_clear()
    with pytest.raises(UnavailableError, match="delete it"):
        load_simulator(Geometry())


@pytest.mark.slow
def test_the_driver_s_simulator_is_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For all networks of a geometry; a change of the driver's own files is seen."""
    shutil.copytree(HLS, tmp_path / "hls")
    monkeypatch.setattr(native, "HLS", tmp_path / "hls")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source, flags = tmp_path / "hls" / "driver" / "simulator.cpp", ("-O0", "-c", "-Wno-unknown-pragmas")
    made = native.build_simulator(source, Geometry(), flags, ".o")
    before = made.stat().st_mtime_ns
    assert native.build_simulator(source, Geometry(), flags, ".o") == made and made.stat().st_mtime_ns == before
    header = source.with_name("device.h")
    header.write_text(header.read_text() + "\n")
    assert native.build_simulator(source, Geometry(), flags, ".o") != made


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert compiler() is None
    with pytest.raises(UnavailableError, match="needs a C\\+\\+ compiler"):
        load_simulator(Geometry())


def test_with_a_broken_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'no space left' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UnavailableError, match="no space left"):
        load_simulator(Geometry())
    assert not list((tmp_path / "squeezeedge").iterdir())


def test_with_a_folder_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UnavailableError, match="XDG_CACHE_HOME"):
        load_simulator(Geometry())
