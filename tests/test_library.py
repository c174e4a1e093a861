"""The library as a user has it: load, quantize, compile, open, classify, evaluate."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import squeezeedge as sq
from squeezeedge.calib.datasets import open_dataset
from squeezeedge.calib.selection import calibration_images
from squeezeedge.graph.oracle import run


@pytest.fixture
def artifact(digits_artifact: sq.Artifact) -> sq.Artifact:
    return digits_artifact


@pytest.mark.slow
def test_nothing_heavy_is_loaded_before_it_is_used() -> None:
    code = (
        "import sys, squeezeedge as sq; assert set(sq.__all__) <= set(dir(sq)); "
        "print([m for m in ('torch', 'tvm', 'numpy', 'onnx', 'PIL', 'typer') if m in sys.modules]); "
        "print(sq.load.__module__, 'tvm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "squeezeedge.loading False"]


def test_every_name_is_there() -> None:
    for name in sq.__all__:
        assert getattr(sq, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sq.nothing  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.slow
def test_an_artifact_opens_again(artifact: sq.Artifact, digits_model: sq.Model) -> None:
    opened = sq.open_artifact(str(artifact.path))
    assert opened.graph.digest() == artifact.graph.digest() and opened.labels == digits_model.labels
    assert opened.target.name == "cpu" and opened.model_bytes == artifact.model_bytes > 1e5
    assert digits_model.golden is not None and (opened.golden == digits_model.golden).all()
    reference = opened.reference()
    assert reference is not None and reference.float_logits is not None
    assert reference.floating is None, "its export would take seconds"


@pytest.mark.slow
def test_images_are_answered(artifact: sq.Artifact, digits_pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(len(digits_pixels))]
    for path, pixels in zip(files, digits_pixels, strict=True):
        Image.fromarray(pixels).save(path)
    graph = artifact.graph
    logits = graph.logits(run(graph, calibration_images(digits_pixels).load(graph.preprocessing)))
    with artifact.open("cpu") as device:
        assert (device.name, device.kind) == ("cpu", "hardware")
        answers = list(device.classify(files, top=3))
    assert [answer.image for answer in answers] == list(map(str, files))
    for answer, row in zip(answers, logits, strict=True):
        assert [best.index for best in answer.top] == np.argsort(-row, kind="stable")[:3].tolist()
        weights = np.exp(row - row.max())
        assert answer.score == pytest.approx(weights.max() / weights.sum())
        assert answer.logit == row.max() and answer.latency_ms > 0
        assert answer.label == artifact.labels[answer.index]


@pytest.mark.slow
def test_devices_are_evaluated(artifact: sq.Artifact, digits_network: sq.Model, tmp_path: Path) -> None:
    images = open_dataset("digits", "test")
    assert isinstance(images.images, np.ndarray) and images.labels is not None
    np.savez(tmp_path / "some.npz", images=images.images[:20], labels=images.labels[:20])
    report = sq.evaluate(artifact, tmp_path / "some.npz", "cpu", reference=digits_network)
    (cpu,) = report.devices
    assert cpu.images == 20 and cpu.bit_exact and cpu.top1 is not None and cpu.fp32_top1 is not None
    assert cpu.agreement is not None and cpu.agreement >= 90
    assert "fp32" in str(report) and "bit-exact" in str(report) and str(tmp_path) in str(report)
    (values,) = report.to_json()
    assert values["device"] == "cpu" and values["latency_ms"]["min"] > 0 and values["threads"] >= 1
    embedded = sq.evaluate(artifact, limit=5)
    assert embedded.data == "digits" and embedded.devices[0].fp32_top1 is not None, "the embedded network"
    plain = sq.evaluate(artifact, images.images[:3], ["cpu"])
    assert plain.devices[0].top1 is None and plain.devices[0].agreement is not None
