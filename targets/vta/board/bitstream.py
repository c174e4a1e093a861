"""Builds the FPGA's bitstream with Vitis HLS and Vivado, where they are installed.

The scripts are hls/tcl/hls.tcl and hls/tcl/vivado.tcl; this module writes the settings.tcl that both read. A bitstream
depends on the accelerator's source, the board's configuration and the clock, but not on the network. A build takes an
hour, so the bitstream is built once and kept in the user's cache folder, beside the logs.

Part names are those of the boards' vendors, as in their published Vivado projects: PYNQ-Z1 and PYNQ-Z2
xc7z020clg400-1, Ultra96-V2 xczu3eg-sbva484-1-i (the first version of that board has the -1-e), ZCU104
xczu7ev-ffvc1156-2-e, KV260 xck26-sfvc784-2LV-c (the K26 module).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from squeezeedge.errors import SqueezeEdgeError, UnavailableError, UsageError
from squeezeedge.targets.vta.device import core_version
from squeezeedge.targets.vta.isa.config_header import CONFIG_HEADER, HLS, config_header, hardware_sources
from squeezeedge.targets.vta.isa.geometry import Config

__all__ = [
    "BITSTREAM_FILES",
    "MASTERS",
    "SCRIPTS",
    "TOP",
    "bitstream_tools",
    "build_bitstream",
    "check_bitstream",
    "tcl_settings",
]

BITSTREAM_FILES = ("vta.bit", "vta.hwh", "vta.xsa")
"""What a build gives: bitstream, hardware hand-off (pynq reads it), platform (Vitis reads it)."""

SCRIPTS = HLS / "tcl"
"""Folder of the Tcl scripts."""

TOP = "squeezeedge_vta"
"""The accelerator's top function and the name of its IP."""

MASTERS = ("fetch", "load", "compute", "store")
"""The accelerator's DRAM ports, each on a high-performance port of its own."""

DONE = "done"

CLOCKS_MHZ = range(10, 501)

REPORTED_LINES = 10


def bitstream_tools() -> dict[str, str | None]:
    """Each tool that a build needs -> its path; ``None`` if it is not installed.

    Vitis HLS is started by ``vitis_hls``, from 2024.2 on by ``vitis-run``.
    """
    return {
        "vitis_hls (or vitis-run)": shutil.which("vitis_hls") or shutil.which("vitis-run"),
        "vivado": shutil.which("vivado"),
    }


def check_bitstream(config: Config, clock_mhz: int) -> None:
    """Raise unless :func:`build_bitstream` can begin.

    Raises:
        UsageError: no board makes that clock.
        UnavailableError: a tool is missing (the text says which) and the cache has no such bitstream.
    """
    if clock_mhz not in CLOCKS_MHZ:
        raise UsageError(f"clock of {clock_mhz} MHz: must be {CLOCKS_MHZ.start} to {CLOCKS_MHZ.stop - 1}")
    if (_build_folder(config, clock_mhz) / DONE).is_dir():
        return
    missing = " and ".join(name for name, path in bitstream_tools().items() if path is None)
    if missing:
        raise UnavailableError(
            f"no bitstream for {config.name}: not on the path: {missing}; install Vitis 2022.1 or later, source its "
            "settings64.sh and try again"
        )


def build_bitstream(config: Config, clock_mhz: int, out: Path) -> list[Path]:
    """Build the bitstream of a configuration, or take it from the cache, and copy it into a folder.

    Args:
        config: the board and the accelerator's geometry.
        clock_mhz: clock of the accelerator.
        out: folder that gets the :data:`BITSTREAM_FILES`; it exists.

    Returns:
        The files written.

    Raises:
        UsageError, UnavailableError: as :func:`check_bitstream`; or the cache folder cannot be written.
        SqueezeEdgeError: a tool failed; the text has the failing lines and names the log.
    """
    check_bitstream(config, clock_mhz)
    folder = _build_folder(config, clock_mhz)
    results, built = folder / "results", folder / DONE
    if not built.is_dir():
        hls, vivado = (str(path) for path in bitstream_tools().values())
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            (folder / CONFIG_HEADER).write_text(config_header(config.geometry), encoding="utf-8")
            (folder / "settings.tcl").write_text(tcl_settings(config, clock_mhz), encoding="utf-8")
            hls_script, vivado_script = str(SCRIPTS / "hls.tcl"), str(SCRIPTS / "vivado.tcl")
            options = ["-f"] if Path(hls).name == "vitis_hls" else ["--mode", "hls", "--tcl"]
            _run([hls, *options, hls_script], folder, "hls.log", Path("hls/solution/impl/ip/component.xml"))
            options = ["-mode", "batch", "-nojournal", "-nolog", "-notrace", "-source"]
            _run([vivado, *options, vivado_script], folder, "vivado.log", *(results / f for f in BITSTREAM_FILES))
            results.rename(built)
        except OSError as error:
            raise UnavailableError(
                f"{folder}: the bitstream cannot be built there ({error}); set XDG_CACHE_HOME"
            ) from error
    return [Path(shutil.copy(built / name, out)) for name in BITSTREAM_FILES]


def tcl_settings(config: Config, clock_mhz: int) -> str:
    """The text of settings.tcl, the scripts' only input."""
    values = {
        "top": TOP,
        "version": core_version(asdict(config.geometry)),
        "sources": [str(path) for path in hardware_sources() if path.suffix == ".cpp"],
        "include_dir": str(HLS),
        "part": config.part,
        "board_part": config.board_part,
        "clock_mhz": str(clock_mhz),
        "bus_bytes": str(config.geometry.bus_bytes),
        "masters": MASTERS,
        "jobs": str(os.cpu_count() or 1),
    }
    return "".join(f"set {name} {_tcl_value(value)}\n" for name, value in values.items())


def _tcl_value(value: str | Sequence[str]) -> str:
    """A word of Tcl in which nothing is substituted."""
    if not isinstance(value, str):
        return f"[list {' '.join(_tcl_value(item) for item in value)}]"
    if any(character in value for character in "{}\\"):
        raise UsageError(f"{value!r} has a character that Vivado cannot have in a name")
    return f"{{{value}}}"


def _build_folder(config: Config, clock_mhz: int) -> Path:
    text = tcl_settings(config, clock_mhz).replace(str(HLS), "").rpartition("set jobs")[0]
    hasher = hashlib.sha256((text + config_header(config.geometry)).encode())
    for source in [*hardware_sources(), *sorted(SCRIPTS.glob("*.tcl"))]:
        hasher.update(source.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "squeezeedge" / f"bitstream-{config.name}-{clock_mhz}mhz-{hasher.hexdigest()[:16]}"


def _run(command: list[str], folder: Path, log: str, *results: Path) -> None:
    """Run a tool in a folder, its output into a log; it must give the results.

    Raises:
        SqueezeEdgeError: it failed.
    """
    with (folder / log).open("wb") as file:
        status = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, check=False
        ).returncode
    missing = [str(path) for path in results if not (folder / path).is_file() or not (folder / path).stat().st_size]
    if not status and not missing:
        return
    with (folder / log).open(encoding="utf-8", errors="replace") as lines:
        errors = [line.strip() for line in lines if line.startswith(("ERROR", "CRITICAL WARNING"))]
    reason = f"exit code {status}" if status else f"it gave no {', '.join(missing)}"
    shown = "".join(f"\n  {line}" for line in errors[:REPORTED_LINES]) or " (it printed no error)"
    raise SqueezeEdgeError(f"{Path(command[0]).name} failed ({reason}); log: {folder / log}{shown}")
