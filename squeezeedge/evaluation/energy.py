"""Meters of energy that a machine has: processors' counters (RAPL), NVIDIA GPUs (NVML), Jetson boards (INA3221).

Each meter measures a whole part of the machine: everything that runs on it, idle power included.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

__all__ = ["Counter", "Meter", "PowerSensor", "find_meters", "measured"]

SYS = Path("/sys")
NVML = "libnvidia-ml.so.1"
SAMPLE_S = 0.02
"""Between two readings of a sensor of power."""

MICRO, MILLI = 1e-6, 1e-3


@dataclass(frozen=True)
class Counter:
    """A meter that counts energy.

    Attributes:
        name: of what it measures.
        read: joules since some time.
        wrap: joules after which it begins anew; 0: never.
    """

    name: str
    read: Callable[[], float]
    wrap: float = 0.0

    @contextmanager
    def measured(self) -> Iterator[Callable[[], float]]:
        """Yield a function for the block's joules, valid once that has ended."""
        begin, used = self.read(), 0.0
        yield lambda: used
        used = self.read() - begin
        if used < 0:
            used += self.wrap


@dataclass(frozen=True)
class PowerSensor:
    """A meter of the present power; a thread reads it.

    Attributes:
        name: of what it measures.
        read: watts.
    """

    name: str
    read: Callable[[], float]

    @contextmanager
    def measured(self) -> Iterator[Callable[[], float]]:
        """Yield a function for the block's joules, valid once that has ended: mean power times the block's time."""
        watts, done, used = [self.read()], threading.Event(), 0.0

        def sample() -> None:
            while not done.wait(SAMPLE_S):
                with suppress(OSError, ValueError):
                    watts.append(self.read())

        thread = threading.Thread(target=sample, daemon=True)
        start = time.perf_counter()
        thread.start()
        try:
            yield lambda: used
        finally:
            seconds = time.perf_counter() - start
            done.set()
            thread.join()
        used = seconds * sum(watts) / len(watts)


Meter = Counter | PowerSensor


@contextmanager
def measured(meters: Sequence[Meter]) -> Iterator[dict[str, float]]:
    """Measure a block; what is yielded holds the joules of each meter by name once the block has ended."""
    found: dict[str, float] = {}
    with ExitStack() as stack:
        tell = {meter.name: stack.enter_context(meter.measured()) for meter in meters}
        yield found
    found.update((name, joules()) for name, joules in tell.items())


def find_meters(sys: Path = SYS, nvml: str = NVML) -> tuple[list[Meter], str]:
    """The meters of this machine.

    Args:
        sys: where sysfs is mounted.
        nvml: the library of NVIDIA's driver.

    Returns:
        Those that can be read, and a sentence on those that cannot; empty where some can.
    """
    kinds: dict[str, Callable[[], tuple[list[Meter], str]]] = {
        "RAPL (processor)": lambda: _rapl(sys / "class" / "powercap"),
        "NVML (NVIDIA GPU)": lambda: _nvml(nvml),
        "INA3221 (Jetson)": lambda: _ina3221(sys / "class" / "hwmon"),
    }
    meters: list[Meter] = []
    reasons = []
    for name, find in kinds.items():
        found, reason = find()
        meters += found
        reasons.append(f"{name}: {reason}")
    return meters, "" if meters else f"energy is not measured: this machine has no meter; {'; '.join(reasons)}"


def _rapl(folder: Path) -> tuple[list[Meter], str]:
    """A counter of each processor package: Linux's powercap."""
    found: list[Meter] = []
    zones = sorted(zone for zone in folder.glob("intel-rapl:*") if zone.name.count(":") == 1)
    reason = f"no zone in {folder}"
    for zone in zones:
        file = zone / "energy_uj"
        try:
            name = (zone / "name").read_text().strip()
            wrap = int((zone / "max_energy_range_uj").read_text()) * MICRO
            file.read_text()
        except PermissionError:
            reason = f"{file} is readable by root alone (chmod a+r, or run as root)"
            continue
        except (OSError, ValueError) as error:
            reason = f"{zone}: {error}"
            continue
        if name.startswith("package"):
            found.append(Counter(f"processor {name}", partial(_joules, file), wrap))
    return found, reason


def _joules(file: Path) -> float:
    return int(file.read_text()) * MICRO


def _nvml(library: str) -> tuple[list[Meter], str]:
    """An energy counter for each GPU from Volta on; a power sensor for an older one."""
    try:
        nvml = ctypes.CDLL(library)
    except OSError:
        return [], f"no {library}, so no NVIDIA driver"
    if failed := nvml.nvmlInit_v2():
        return [], f"nvmlInit fails with {failed}"
    number = ctypes.c_uint()
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(number))
    found: list[Meter] = []
    for index in range(number.value):
        handle = ctypes.c_void_p()
        if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)):
            continue

        def energy(handle: ctypes.c_void_p = handle) -> float:
            millijoules = ctypes.c_ulonglong()
            if failed := nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)):
                raise OSError(f"nvmlDeviceGetTotalEnergyConsumption fails with {failed}")
            return millijoules.value * MILLI

        def power(handle: ctypes.c_void_p = handle) -> float:
            milliwatts = ctypes.c_uint()
            if failed := nvml.nvmlDeviceGetPowerUsage(handle, ctypes.byref(milliwatts)):
                raise OSError(f"nvmlDeviceGetPowerUsage fails with {failed}")
            return milliwatts.value * MILLI

        with suppress(OSError):
            energy()
            found.append(Counter(f"GPU {index}", energy))
            continue
        with suppress(OSError):
            power()
            found.append(PowerSensor(f"GPU {index}", power))
    return found, "the driver tells neither energy nor power of a GPU"


def _ina3221(folder: Path) -> tuple[list[Meter], str]:
    """The input power of a Jetson: the channel VDD_IN of its sensor, or the sum of all its channels."""
    found: list[Meter] = []
    for sensor in sorted(folder.glob("hwmon*")):
        with suppress(OSError):
            if (sensor / "name").read_text().strip() != "ina3221":
                continue
            labels = {path: path.read_text().strip() for path in sorted(sensor.glob("in[1-3]_label"))}
            whole = [path for path, label in labels.items() if label in ("VDD_IN", "POM_5V_IN")]
            channels = [path.name[2] for path in whole or labels]
            files = [(sensor / f"in{channel}_input", sensor / f"curr{channel}_input") for channel in channels]

            def watts(files: Sequence[tuple[Path, Path]] = files) -> float:
                return sum(int(v.read_text()) * MILLI * int(a.read_text()) * MILLI for v, a in files)

            if files:
                watts()
                found.append(PowerSensor("board" if whole else f"sensor {sensor.name}", watts))
    return found, f"no such sensor in {folder}"
