"""A target whose device is a few lines of numpy, as a session needs it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import cast

from squeezeedge.targets.protocol import Kind, NetworkOpener, Target
from tests.targets.device import fake_device

__all__ = ["TARGET", "FakeTarget"]


class FakeTarget:
    """As much of a target as a session needs."""

    name = "fake"
    devices: Mapping[str, Kind] = {"fake": "hardware", "fake-emulation": "emulation"}
    remote: Collection[str] = ("fake",)
    needs_root = False
    device_module = "tests.targets.device.fake_device"

    def network(self, device: str) -> NetworkOpener:
        return fake_device.Network


TARGET = cast(Target, FakeTarget())
