"""Meters of energy: of a made-up sysfs, and of a library that answers as NVIDIA's does."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import Any

import pytest

from squeezeedge.evaluation.energy import Counter, PowerSensor, find_meters, measured


def rapl(sys: Path, name: str, zone: str, microjoules: int, wrap: int = 1_000_000) -> Path:
    folder = sys / "class" / "powercap" / zone
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{wrap}\n")
    return folder / "energy_uj"


def test_a_machine_without_a_meter_says_so(tmp_path: Path) -> None:
    meters, reason = find_meters(tmp_path, "libno-such-library.so")
    assert meters == []
    for part in ("this machine has no meter", f"RAPL (processor): no zone in {tmp_path}", "libno-such-library.so"):
        assert part in reason


def test_processors_count_their_energy(tmp_path: Path) -> None:
    file = rapl(tmp_path, "package-0", "intel-rapl:0", 900_000)
    rapl(tmp_path, "core", "intel-rapl:0:0", 5)
    rapl(tmp_path, "psys", "intel-rapl:1", 5)
    meters, reason = find_meters(tmp_path, "libno-such-library.so")
    assert [meter.name for meter in meters] == ["processor package-0"] and not reason
    with measured(meters) as joules:
        file.write_text("950000")
    assert joules == {"processor package-0": pytest.approx(0.05)}
    with measured(meters) as joules:
        file.write_text("150000")
    assert joules["processor package-0"] == pytest.approx(0.2), "the counter began anew at 1 J"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_counter_that_root_alone_reads(tmp_path: Path) -> None:
    rapl(tmp_path, "package-0", "intel-rapl:0", 0).chmod(0)
    meters, reason = find_meters(tmp_path, "libno-such-library.so")
    assert meters == [] and "readable by root alone" in reason


def test_a_counter_that_is_damaged(tmp_path: Path) -> None:
    rapl(tmp_path, "package-0", "intel-rapl:0", 0).with_name("max_energy_range_uj").write_text("much")
    meters, reason = find_meters(tmp_path, "libno-such-library.so")
    assert meters == [] and "invalid literal" in reason


def test_a_jetson_tells_its_power(tmp_path: Path) -> None:
    sensor = tmp_path / "class" / "hwmon" / "hwmon3"
    sensor.mkdir(parents=True)
    (sensor / "name").write_text("ina3221\n")
    for channel, (label, millivolts, milliamperes) in enumerate([("VDD_IN", 5000, 2000), ("VDD_SOC", 1000, 500)], 1):
        (sensor / f"in{channel}_label").write_text(f"{label}\n")
        (sensor / f"in{channel}_input").write_text(f"{millivolts}\n")
        (sensor / f"curr{channel}_input").write_text(f"{milliamperes}\n")
    (meter,), _ = find_meters(tmp_path, "libno-such-library.so")
    assert isinstance(meter, PowerSensor) and meter.name == "board" and meter.read() == pytest.approx(10)
    (sensor / "in1_label").write_text("CAM")
    (meter,), _ = find_meters(tmp_path, "libno-such-library.so")
    assert meter.read() == pytest.approx(10.5), "no channel is the whole board's: all together"


def test_energy_of_a_sensor_is_power_times_time() -> None:
    start = time.perf_counter()
    with measured([PowerSensor("board", lambda: 10.0), Counter("none", lambda: 1.0)]) as joules:
        time.sleep(0.03)
    seconds = time.perf_counter() - start
    assert 0.3 <= joules["board"] <= 10 * seconds and joules["none"] == 0


class Nvml:
    """FAKE: NVIDIA's library with a GPU that counts energy, and an older one that only tells its power."""

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetCount_v2(self, number: Any) -> int:  # noqa: ANN401
        number._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: ctypes.c_uint, handle: Any) -> int:  # noqa: ANN401
        handle._obj.value = 1 + index.value
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: ctypes.c_void_p, value: Any) -> int:  # noqa: ANN401
        value._obj.value = 2500
        return 0 if handle.value == 1 else 3

    def nvmlDeviceGetPowerUsage(self, handle: ctypes.c_void_p, value: Any) -> int:  # noqa: ANN401
        value._obj.value = 70_000
        return 0


def test_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Nvml())
    (new, old), reason = find_meters(tmp_path)
    assert isinstance(new, Counter) and isinstance(old, PowerSensor) and not reason
    assert (new.name, new.read()) == ("GPU 0", 2.5) and (old.name, old.read()) == ("GPU 1", 70.0)
