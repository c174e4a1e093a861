"""Common small networks of torchvision and timm, with random weights, through torch's exporters.

What imports gives ONNX Runtime's answers; what is refused names the node that blocks. All devices of a few networks are
tried, of all of them where SQUEEZEEDGE_ALL_NETWORKS is set (about half an hour).
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.float.run import run_float
from squeezeedge.graph.importers.from_onnx import from_onnx
from squeezeedge.graph.oracle import run
from squeezeedge.quantization.pipeline import quantize
from tests.quantization.networks import natural_images
from tests.test_targets_agree import TOLERANCE, WAYS

SIDE = 64
TORCHVISION = (
    "squeezenet1_0 squeezenet1_1 resnet18 resnet50 densenet121 googlenet shufflenet_v2_x0_5 shufflenet_v2_x1_0 "
    "mobilenet_v2 mnasnet0_5 mnasnet1_0 regnet_x_400mf"
)
TIMM = (
    "resnet18d res2net50_26w_4s tf_efficientnet_lite0 fbnetc_100 spnasnet_100 mobilenetv2_050 mobilenetv4_conv_small "
    "repvgg_a0 mobileone_s0 dla46x_c darknet17 gernet_s dpn68"
)
IMPORTED = [*(("torchvision", name) for name in TORCHVISION.split()), *(("timm", name) for name in TIMM.split())]
ON_DEVICES = ("shufflenet_v2_x0_5", "tf_efficientnet_lite0")
PLAIN = {"init_weights": False, "aux_logits": False}
REFUSED = {
    ("torchvision", "mobilenet_v3_small"): r"/features/features\.0/features\.0\.2/HardSwish \(HardSwish\): ",
    ("torchvision", "efficientnet_b0"): r"/features/features\.0/features\.0\.2/Sigmoid \(Sigmoid\): ",
    ("torchvision", "regnet_y_400mf"): r"/trunk_output/block1/block1-0/f/se/scale_activation/Sigmoid \(Sigmoid\): ",
    ("timm", "lcnet_050"): r"/bn1/act/HardSwish \(HardSwish\): ",
    ("timm", "ghostnet_100"): r"/blocks/blocks\.3/blocks\.3\.0/se/gate/HardSigmoid \(HardSigmoid\): ",
    ("timm", "hrnet_w18_small"): r"/stage2/.*/Resize \(Resize\): ",
}
"""Networks and the node that blocks them."""


@cache
def _libraries() -> dict[str, Any]:
    """Torchvision is built for another build of torch: its operators in C++, which no classifier uses, are declared."""
    declared = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            signature = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            declared.define(signature)  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        timm = pytest.importorskip("timm")
        torchvision = pytest.importorskip("torchvision")
    return {
        "timm": lambda name: timm.create_model(name, num_classes=10),
        "torchvision": lambda name: torchvision.models.get_model(
            name, weights=None, num_classes=10, **(PLAIN if name == "googlenet" else {})
        ),
        "declared": declared,
    }


def _export(library: str, name: str, path: Path, dynamo: bool = False) -> None:
    """Write a network in evaluation mode, with running statistics as after some training."""
    torch.manual_seed(0)
    network = _libraries()[library](name).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.25)
    image = torch.zeros(1, 3, SIDE, SIDE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            torch.onnx.export(network, (image,), str(path), dynamo=True, verbose=False, external_data=False)
        else:
            names: dict[str, Any] = {"input_names": ["image"], "output_names": ["logits"]}
            axes = {"image": {0: "batch"}, "logits": {0: "batch"}}
            torch.onnx.export(network, (image,), str(path), dynamo=False, dynamic_axes=axes, **names)


def _check(path: Path) -> None:
    graph = from_onnx(path).graph
    images = np.random.default_rng(0).normal(0, 1, (1, 3, SIDE, SIDE)).astype(np.float32)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: images})[0]
    np.testing.assert_allclose(run_float(graph, images), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize(("library", "name"), IMPORTED)
def test_networks_that_import(tmp_path: Path, library: str, name: str) -> None:
    path = tmp_path / f"{name}.onnx"
    _export(library, name, path)
    _check(path)


@pytest.mark.slow
@pytest.mark.parametrize(("library", "name"), IMPORTED)
def test_networks_on_every_device(tmp_path: Path, library: str, name: str) -> None:
    if name not in ON_DEVICES and not os.environ.get("SQUEEZEEDGE_ALL_NETWORKS"):
        pytest.skip("takes half an hour for all networks: set SQUEEZEEDGE_ALL_NETWORKS=1")
    path = tmp_path / f"{name}.onnx"
    _export(library, name, path)
    images = natural_images(6, (SIDE, SIDE))
    graph = quantize(from_onnx(path).graph, Preprocessing(size=(SIDE, SIDE), resize=None), images[:4], name=name)
    expected = run(graph, images[4:])
    assert len(np.unique(expected)) > 10
    for way in ("cpu", "vta extended", "ascend emulation", "onnx runtime"):
        folder = tmp_path / way
        folder.mkdir()
        difference = np.abs(WAYS[way](graph, images[4:], folder) - expected.astype(np.int64)).max()
        assert difference <= TOLERANCE.get(way, 0) * np.abs(expected).max(), way


@pytest.mark.slow
def test_the_exporter_through_torch_export(tmp_path: Path) -> None:
    """It writes other operators; channel shuffles are what it has to show."""
    path = tmp_path / "network.onnx"
    _export("torchvision", "shufflenet_v2_x0_5", path, dynamo=True)
    _check(path)


@pytest.mark.slow
@pytest.mark.parametrize(("library", "name"), REFUSED)
def test_networks_that_are_refused(tmp_path: Path, library: str, name: str) -> None:
    path = tmp_path / f"{name}.onnx"
    _export(library, name, path)
    with pytest.raises(UnsupportedError, match=REFUSED[library, name]):
        from_onnx(path)


def test_enough_networks_are_tried() -> None:
    assert len(IMPORTED) >= 24 and len(IMPORTED) + len(REFUSED) >= 31
