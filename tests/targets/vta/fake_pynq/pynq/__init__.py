"""FAKE: an emulation of the `pynq` package for tests; its board is the VTA simulator behind registers and buffers.

Names and signatures are those of the real package (../../pynq_api.json). Buffers are cached: the board sees what was
flushed, the host what it invalidated. Environment variables choose the board and what is wrong with it:

    EMULATED_BOARD      configuration that the board was built for (default: pynq-z2)
    EMULATED_FAULT      hang: a started program never ends; no-device: no board; wrong: one bit of every answer flips;
                        memory: there is none; old: a version without allocate
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from squeezeedge.targets.vta.device import core_version
from squeezeedge.targets.vta.isa.geometry import load_config
from squeezeedge.targets.vta.sim.simulator import Registers, Simulator

__all__ = ["MMIO", "Overlay", "allocate"]

__version__ = "emulated"

CONTROL_ADDRESS = 0xA000_0000
CONTROL_RANGE = 0x1_0000
MEMORY_ADDRESS = 0x9_1000_0000  # above 4 GB: the high words of the registers matter
MEMORY_BYTES = 1 << 25
PAGE = 4096
ADDRESSES = {"program": 0x20, "uop": 0x30, "inp": 0x40, "wgt": 0x50, "acc": 0x60, "out": 0x70, "par": 0x80}


class _Board:
    """Registers, DRAM and the accelerator."""

    def __init__(self) -> None:
        self.fault = os.environ.get("EMULATED_FAULT")
        geometry = load_config(os.environ.get("EMULATED_BOARD", "pynq-z2")).geometry
        self.simulator, self.version = Simulator(geometry), core_version(asdict(geometry))
        self.memory = np.full(MEMORY_BYTES, 0xA5, np.uint8)
        self.free = 0
        self.loaded = False
        self.words = np.zeros(CONTROL_RANGE // 4, np.uint32)

    def read(self, offset: int) -> int:
        value = int(self.words[offset // 4])
        if offset == 0:
            self.words[0] &= 0xFFFFFFFD  # done is cleared by reading
        return value

    def write(self, offset: int, value: int) -> None:
        if offset != 0:
            self.words[offset // 4] = value
        elif value & 1:
            self.start()

    def start(self) -> None:
        if self.fault == "hang":
            self.words[0] = 1
            return
        bases = {
            name: (int(self.words[offset // 4]) | int(self.words[offset // 4 + 1]) << 32) - MEMORY_ADDRESS
            for name, offset in ADDRESSES.items()
        }
        before = self.memory.copy()
        self.simulator.run(self.memory, Registers(count=int(self.words[4]), **bases))
        if self.fault == "wrong":
            self.memory[self.memory != before] ^= 1
        self.words[0] = 6  # done and idle


_board: _Board | None = None


def _active() -> _Board:
    if _board is None or not _board.loaded:
        raise RuntimeError("emulated pynq: no overlay is loaded")
    return _board


class Overlay:
    """Loads a bitstream; the emulation looks at its file only."""

    def __init__(
        self,
        bitfile_name: str,
        dtbo: str | None = None,
        download: bool = True,
        ignore_version: bool = False,
        device: object = None,
        gen_cache: bool = False,
    ) -> None:
        global _board
        if os.environ.get("EMULATED_FAULT") == "no-device":
            raise RuntimeError("No Devices Found")
        for path in (Path(bitfile_name), Path(bitfile_name).with_suffix(".hwh")):
            if not path.is_file():
                raise OSError(f"emulated pynq: {path} not found")
        _board = _Board()
        self.ip_dict = {
            "vta": {
                "phys_addr": CONTROL_ADDRESS,
                "addr_range": CONTROL_RANGE,
                "type": f"squeezeedge:hls:squeezeedge_vta:{_board.version}",
            },
            "ps": {"type": "xilinx.com:ip:zynq_ultra_ps_e:3.5"},
        }
        if download:
            self.download()

    def download(self, dtbo: str | None = None) -> None:
        assert _board is not None
        _board.loaded = True
        _board.words[:] = 0


class MMIO:
    """Registers of the accelerator."""

    def __init__(self, base_addr: int, length: int = 4, device: object = None, **kwargs: object) -> None:
        _active()
        if base_addr != CONTROL_ADDRESS or length > CONTROL_RANGE:
            raise OSError(f"emulated pynq: nothing at {base_addr:#x}")
        self.length = length
        self.write = self.write_mm

    def _check(self, offset: int) -> None:
        if not 0 <= offset < self.length or offset % 4:
            raise MemoryError("Unaligned access")

    def read(self, offset: int = 0, length: int = 4, word_order: str = "little") -> int:
        self._check(offset)
        assert length == 4, "the emulation reads words"
        return _active().read(offset)

    def write_mm(self, offset: int, data: int) -> None:
        self._check(offset)
        if type(data) is not int or not 0 <= data < 1 << 32:
            raise ValueError("Data type must be int or bytes.")
        _active().write(offset, data)


class PynqBuffer(np.ndarray[Any, Any]):
    """The host's view (its cache) of a piece of the board's memory."""

    device_address: int

    def __new__(
        cls,
        *args: Any,  # noqa: ANN401  (numpy's)
        device: object = None,
        device_address: int = 0,
        bo: int = 0,
        coherent: bool = False,
        **kwargs: Any,  # noqa: ANN401
    ) -> PynqBuffer:
        self = super().__new__(cls, *args, **kwargs)
        self.device_address = device_address
        return self

    def __array_finalize__(self, obj: np.ndarray[Any, Any] | None) -> None:
        if isinstance(obj, PynqBuffer) and hasattr(obj, "device_address"):
            self.device_address = obj.device_address + self.virtual_address - obj.virtual_address

    @property
    def virtual_address(self) -> int:
        return int(self.__array_interface__["data"][0])

    @property
    def physical_address(self) -> int:
        return self.device_address

    def _there(self) -> np.ndarray[Any, Any]:
        assert self.flags.c_contiguous
        start = self.device_address - MEMORY_ADDRESS
        return _active().memory[start : start + self.nbytes]

    def flush(self) -> None:
        self._there()[:] = np.asarray(self).reshape(-1).view(np.uint8)

    def invalidate(self) -> None:
        np.asarray(self).reshape(-1).view(np.uint8)[:] = self._there()


def allocate(shape: tuple[int, ...], dtype: str = "u4", target: object = None, **kwargs: object) -> PynqBuffer:
    """A buffer in the board's memory, aligned to pages."""
    board = _active()
    if board.fault == "memory":
        raise RuntimeError("Allocate failed")
    buffer = PynqBuffer(shape, dtype, device_address=MEMORY_ADDRESS + board.free)
    board.free += -(-buffer.nbytes // PAGE) * PAGE
    if board.free > len(board.memory):
        raise RuntimeError("BO allocation failed")
    np.asarray(buffer)[...] = 0x5A
    return buffer


if os.environ.get("EMULATED_FAULT") == "old":
    del allocate
