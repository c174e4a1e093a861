"""A profile of a GPU: events around the launches, by a fake driver; without a GPU, that is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from squeezeedge.errors import UnavailableError
from squeezeedge.graph.oracle import run
from squeezeedge.targets.cuda import TARGET, CudaOptions, profile
from squeezeedge.targets.cuda import device as device_side
from squeezeedge.targets.kernel_times import WARM_UP
from tests.graphs import random_images
from tests.targets.cuda.conftest import Emulated


@pytest.mark.tool
def test_kernels_and_peak(
    emulated: Emulated, fake_driver: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each launched alone, with an event after it, and nothing left over."""
    fake_driver(FAKE_CUDA_TRACE=str(tmp_path / "trace.txt"))
    measured: list[CudaOptions] = []

    def rate(target: object, options: CudaOptions, *_: object) -> float:
        measured.append(options)
        return 1e9

    monkeypatch.setattr(profile, "measured_rate", rate)
    (image,) = random_images(emulated.graph, 1, 0)
    found = TARGET.profile(emulated.artifact, image, 3)
    np.testing.assert_array_equal(found.sums, run(emulated.graph, image[None])[0])
    assert (found.layers[0].name, found.layers[-1].name) == ("conv0", "head")
    assert found.macs == emulated.graph.macs and found.device == "cuda" and found.facts["code"] == "sm_90"
    assert measured == [CudaOptions(arch="sm_90")] and found.peak is not None and "sm_90" in found.peak.meaning
    assert all(layer.time > 0 and layer.bytes > 0 for layer in found.layers)
    calls = [line.split() for line in (tmp_path / "trace.txt").read_text().splitlines()]
    launched = [call[1] for call in calls if call[0] == "cuLaunchKernel"]
    assert len(launched) == len(found.layers) * (2 + WARM_UP + 3), "twice before the graph is made"
    assert calls[-1] == ["cuDevicePrimaryCtxRelease", "leaks", "0"]


def test_no_gpu(uncompiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_side, "DRIVER", "libcuda-that-is-not-here.so.1")
    with pytest.raises(UnavailableError, match="driver is not installed here: libcuda-that-is-not-here") as failed:
        TARGET.profile(uncompiled, np.zeros((13, 11, 3), np.uint8))
    assert "board" not in str(failed.value), "a profile is made here"
