"""Every target by name: the folders beside this file, and those that other packages register.

A package adds a target by an entry point of the group ``squeezeedge.targets`` that names its ``TARGET``.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import warnings
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib import metadata
from pathlib import Path

from squeezeedge.errors import PackageWarning, SqueezeEdgeError, UsageError
from squeezeedge.targets.protocol import Target

__all__ = ["ENTRY_POINTS", "all_targets", "device_target", "emulation", "get_target", "hardware", "source_file"]

ENTRY_POINTS = "squeezeedge.targets"


@cache
def all_targets() -> Mapping[str, Target]:
    """Every target by name.

    Warns:
        PackageWarning: another package's target cannot be loaded, or takes a name that is taken. It is left out; the
            text names it, the reason and the remedy.
    """
    package = importlib.import_module(__package__)
    found: dict[str, Target] = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.ispkg and module.name != "device":
            target: Target = importlib.import_module(f"{__package__}.{module.name}").TARGET
            found[target.name] = target
    devices = {device for target in found.values() for device in target.devices}
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        origin = f"target {entry.name} of {entry.dist.name if entry.dist else entry.value}"
        try:
            target = entry.load()
            taken = ({target.name} & found.keys()) | (target.devices.keys() & devices)
            for option in fields(target.options):
                option.metadata["help"]
        except (Exception, SystemExit) as error:  # another package's code
            left_out = f"{origin} cannot be loaded and is left out: {error!r}; update or uninstall that package"
            warnings.warn(left_out, PackageWarning, stacklevel=2)
            continue
        if taken:
            left_out = f"{origin} is left out: the name {min(taken)} is taken; uninstall one of the packages"
            warnings.warn(left_out, PackageWarning, stacklevel=2)
            continue
        found[target.name] = target
        devices |= target.devices.keys()
    return found


def get_target(name: str) -> Target:
    """The target of that name.

    Raises:
        UsageError: no such target.
    """
    try:
        return all_targets()[name]
    except KeyError:
        raise UsageError(f"no target {name!r}; there are: {', '.join(all_targets())}") from None


def emulation(device: str) -> str:
    """The name of a device's emulation on this machine; the device's own name where its target has none."""
    devices = device_target(device).devices
    return next((name for name, kind in devices.items() if kind == "emulation"), device)


def hardware(target: Target) -> str:
    """The first device of a target, which is the real one."""
    return next(iter(target.devices))


def device_target(device: str) -> Target:
    """The target that serves a device name.

    Raises:
        UsageError: no such device.
    """
    for target in all_targets().values():
        if device in target.devices:
            return target
    known = ", ".join(name for target in all_targets().values() for name in target.devices)
    raise UsageError(f"no device {device!r}; there are: {known}")


def source_file(module: str) -> Path:
    """The file of a device's module, which is copied into artifacts.

    Raises:
        SqueezeEdgeError: there is none.
    """
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None or found.origin is None:
        raise SqueezeEdgeError(f"{module}: no such module; install the package that it belongs to again")
    return Path(found.origin)
