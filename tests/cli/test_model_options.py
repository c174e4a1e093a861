"""The options of preprocessing: the same on every command, told where nothing states it, wrong ones refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from squeezeedge.calib.statement import Statement
from squeezeedge.cli.model_options import PreprocessingOptions
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError
from squeezeedge.networks.checkpoints import read_checkpoint
from tests.cli.conftest import Invoke
from tests.quantization.networks import natural_images
from tests.test_loading import onnx_file

OPTIONS = ("--preprocessing", "--mean", "--std", "--scale", "--channel-order", "--resize", "--crop", "--interpolation")


@pytest.mark.parametrize("command", ["compile", "eval", "finetune", "quantize", "train", "validate"])
def test_every_command_that_loads_a_model_has_them(invoke: Invoke, command: str) -> None:
    text = invoke(command, "--help").output
    assert all(option in text for option in OPTIONS)


def test_options_go_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('mean = 0.5\nchannel_order = "bgr"')
    stated = PreprocessingOptions(tmp_path / "a.toml", mean="104,117,123", scale="1", crop="0.9").statement()
    sources = {"mean": "`mean`", "scale": "`scale`", "share": "`crop`", "channel_order": "a.toml"}
    assert stated == Statement((104, 117, 123), None, 1, "bgr", share=0.9, sources=sources)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (("--std", "0"), "--std: std [0.0, 0.0, 0.0] must be positive"),
        (("--mean", "0.5,0.5"), "--mean: mean has 2 values; it must be three"),
        (("--mean", "nan"), "--mean: mean 'nan' is not finite"),
        (("--mean", "104,117,123"), "state the --scale that it belongs to"),
        (("--channel-order", "brg"), "--channel-order: channel_order 'brg' is none of rgb, bgr, gray"),
        (("--crop", "64"), "input is 10x10 pixels, but --crop says a crop of 64x64; --crop must be that"),
        (
            ("--resize", "8"),
            "a shorter side of 8 pixels (--resize) does not cover the crop of 10x10; give --resize of 10",
        ),
        (("--preprocessing", "none.toml"), "none.toml: cannot be read: No such file"),
    ],
)
def test_wrong_options(invoke: Invoke, tmp_path: Path, given: tuple[str, ...], reason: str) -> None:
    result = invoke("quantize", onnx_file(tmp_path / "own.onnx"), "-o", tmp_path / "own.sqe", *given)
    assert isinstance(result.exception, SqueezeEdgeError) and reason in str(result.exception), result.exception
    assert not isinstance(result.exception, CorruptFileError)


def test_what_is_assumed_is_told_once_and_in_the_json(invoke: Invoke, tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", images=natural_images(6, (10, 10)))
    weights, file = onnx_file(tmp_path / "own.onnx"), tmp_path / "own.sqe"
    command = ("quantize", weights, "--data", tmp_path / "images.npz", "-o", file, "--json", "--force")
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    text = "own.onnx: assuming RGB, ImageNet mean and standard deviation; --mean/--std to change\n"
    assert result.stderr.count(text) == 1
    report = json.loads(result.stdout)
    assert report["preprocessing"]["source"]["mean"] == "assumed" and report["suspicion"] is None
    result = invoke(*command, "--mean", "0.5", "--std", "0.5", "--channel-order", "bgr")
    assert "assuming" not in result.stderr
    said = json.loads(result.stdout)["preprocessing"]
    assert said["mean"] == [0.5] * 3 and said["channel_order"] == "bgr" and said["source"]["std"] == "--std"
    compiled = invoke("compile", file, "--mean", "0.5", "-o", tmp_path / "out")
    assert isinstance(compiled.exception, UsageError) and "quantize the network again with --mean" in str(
        compiled.exception
    )


def test_an_artifact_takes_none(invoke: Invoke, artifact: Path) -> None:
    result = invoke("eval", artifact, "--mean", "0.5")
    assert isinstance(result.exception, UsageError) and "--mean: the preprocessing of an artifact" in str(
        result.exception
    )


def caffe_checkpoint(path: Path, source: Path) -> Path:
    """SqueezeNet with its first convolution rewritten for BGR pixels of 0..255 less (104, 117, 123)."""
    state = read_checkpoint(source).state
    weight = state["features.0.weight"].double()
    mean, std, caffe = (
        torch.tensor(values, dtype=torch.float64)[:, None, None]
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (123, 117, 104))
    )
    state["features.0.bias"] = (
        state["features.0.bias"] + (weight * ((caffe / 255 - mean) / std)).sum((1, 2, 3))
    ).float()
    state["features.0.weight"] = (weight / (255 * std)).flip(1).float()
    torch.save(state, path)
    return path


@pytest.mark.shared
@pytest.mark.slow
def test_a_network_of_caffe(invoke: Invoke, tmp_path: Path, shared_file: Callable[[str], Path]) -> None:
    data = shared_file("data/imagenet700.tar")
    path = caffe_checkpoint(tmp_path / "caffe.pth", shared_file("weights/squeezenet1_1-imagenet.pth"))
    command = ("validate", path, "--network", "squeezenet1_1", "--data", data, "--limit", "32", "--json")
    result = invoke(*command)
    report = json.loads(result.stdout)
    assert report["fp32_top1"] < 2 and report["suspicion"]["better"] == "Caffe BGR"
    assert "warning: fp32 is right on 0 of 32 labelled images, no more than chance (1000 classes)" in result.stderr
    given = report["suspicion"]["tried"][0]
    assert given["options"] == "--mean 104,117,123 --std 1 --scale 1 --channel-order bgr"
    result = invoke(*command, *given["options"].split())
    report = json.loads(result.stdout)
    assert report["fp32_top1"] == given["top1"] > 40 and report["suspicion"] is None
