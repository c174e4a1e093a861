"""Where a processor's time goes, kernel by kernel, and its measured peak with the artifact's instructions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError
from squeezeedge.targets.cpu.device import Network, variant_entry
from squeezeedge.targets.cpu.options import CpuOptions
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.kernel_times import profile_kernels
from squeezeedge.targets.peak import measured_rate, suitable
from squeezeedge.targets.protocol import Peak, Profile, Target

__all__ = ["profile_on_processor"]

SIZE, CHANNELS = 16, (32, 32, 64, 64)
"""Of the convolutions that suit every instruction set: at most 96 kB of the fastest caches for each."""


def profile_on_processor(target: Target, folder: Path, image: NDArray[np.uint8], runs: int) -> Profile:
    """Run an image, uint8 [H, W, 3]; raises as :meth:`squeezeedge.targets.protocol.Profiler.profile`."""
    return profile_kernels(folder, target, "cpu", image, runs, partial(_peak, target), _entry)


def _entry(artifact: Artifact, about: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest says of the kernels that ran."""
    try:
        return variant_entry(artifact, about["isa"])
    except (LookupError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{artifact.folder}: the manifest's variants are damaged; compile again") from error


def _peak(target: Target, artifact: Artifact, about: Mapping[str, Any]) -> Peak:
    """The peak of one thread times the number of threads, as if the threads shared nothing."""
    isa, tuned = about["isa"], artifact.manifest.get("options", {}).get("mcpu")
    if not isinstance(tuned, str | None):
        raise CorruptFileError(f"{artifact.folder}: the manifest's mcpu is damaged; compile the model again")
    options = CpuOptions(isa=isa, mcpu=tuned)
    target.check_options(options)
    rate = measured_rate(target, options, suitable(SIZE, CHANNELS), partial(Network, threads=1))
    threads = about["threads"]
    used = f" ({rate / 1e6:.1f} billion on one thread, times {threads} threads)" if threads > 1 else ", one thread"
    return Peak(rate * threads, f"measured with the kernels for {isa} on 3x3 convolutions in the cache{used}")
