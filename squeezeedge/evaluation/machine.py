"""The machine that figures were measured on, and the versions of what made them."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

__all__ = ["machine", "processor", "versions"]

CPU_INFO = Path("/proc/cpuinfo")


def processor() -> str:
    """The processor's name."""
    try:
        lines = CPU_INFO.read_text(errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def machine() -> dict[str, str]:
    """A description of this machine, without its name; each value is one line for people."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": processor(),
        "architecture": platform.machine(),
        "processors usable": str(usable),
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Package -> version, of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
