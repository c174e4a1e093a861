"""Where a GPU's time goes, kernel by kernel, and its measured peak with the code that it executes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.targets.cuda.device import Network
from squeezeedge.targets.cuda.options import CudaOptions
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.kernel_times import profile_kernels
from squeezeedge.targets.peak import measured_rate, suitable
from squeezeedge.targets.protocol import Peak, Profile, Target

__all__ = ["profile_on_gpu"]

SIZE, CHANNELS = 64, (64, 512, 512)
"""Of the convolutions that suit a GPU: enough blocks for all of its processors, some megabytes of its cache."""


def profile_on_gpu(target: Target, folder: Path, image: NDArray[np.uint8], runs: int) -> Profile:
    """Run an image, uint8 [H, W, 3]; raises as :meth:`squeezeedge.targets.protocol.Profiler.profile`."""
    return profile_kernels(folder, target, "cuda", image, runs, partial(_peak, target))


def _peak(target: Target, artifact: Artifact, about: Mapping[str, Any]) -> Peak:
    """Of the architecture whose code the GPU executes for the artifact, as device.py says it: sm_90, PTX of sm_80."""
    code = str(about["code"])
    options = CudaOptions(arch=code.rpartition(" ")[2])
    target.check_options(options)
    rate = measured_rate(target, options, suitable(SIZE, CHANNELS), Network)
    text = (
        f"measured with the kernels of {code} on 3x3 convolutions of {SIZE}x{SIZE} pixels and {CHANNELS[-1]} channels"
    )
    return Peak(rate, text)
