"""Imports, quantizes and runs common small networks of torchvision and timm on every device of this machine.

    python -m benchmarks.networks --data IMAGES -o FILE.json

Each network has random weights and ten classes and is written by torch's exporter. An imported network is compared with
ONNX Runtime in floating point, quantized, and compiled for every device below; the devices' class sums are compared
with the oracle's. A refused network is recorded with the node that blocks. The input is small, as bit-exactness needs
every layer but not many pixels. Prints a table (docs/onnx.md) and writes a JSON file anew after every network; the
file's results of other networks are kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

import squeezeedge as sq
from benchmarks.report import note, versions, write_report
from squeezeedge.calib.selection import calibration_images
from squeezeedge.evaluation.metrics import sqnr_db, sums_error
from squeezeedge.evaluation.tables import number
from squeezeedge.graph.float.graph import FloatGraph
from squeezeedge.graph.float.run import run_float
from squeezeedge.graph.oracle import run
from squeezeedge.lower.onnx_module import to_onnx

__all__ = ["IMPORTED", "REFUSED", "Name", "export", "float_difference", "libraries", "table", "try_network"]

Name = tuple[str, str]
"""Library and network."""

_TORCHVISION = (
    "squeezenet1_0 squeezenet1_1 resnet18 resnet50 densenet121 googlenet shufflenet_v2_x0_5 shufflenet_v2_x1_0 "
    "mobilenet_v2 mnasnet0_5 mnasnet1_0 regnet_x_400mf"
)
_TIMM = (
    "resnet18d res2net50_26w_4s tf_efficientnet_lite0 fbnetc_100 spnasnet_100 mobilenetv2_050 mobilenetv4_conv_small "
    "repvgg_a0 mobileone_s0 dla46x_c darknet17 gernet_s dpn68"
)
IMPORTED: tuple[Name, ...] = (
    *(("torchvision", name) for name in _TORCHVISION.split()),
    *(("timm", name) for name in _TIMM.split()),
)
"""Networks of operators that the integer graph has."""

REFUSED: tuple[Name, ...] = (
    ("torchvision", "mobilenet_v3_small"),
    ("torchvision", "efficientnet_b0"),
    ("torchvision", "regnet_y_400mf"),
    ("timm", "lcnet_050"),
    ("timm", "ghostnet_100"),
    ("timm", "hrnet_w18_small"),
)
"""Networks of others: products of two tensors, resizing."""

SIDE = 64
CALIBRATION, TEST = 8, 2
DEVICES: dict[str, tuple[str, dict[str, Any]]] = {
    "cpu": ("cpu", {}),
    "vta-sim": ("vta", {}),
    "ascend-emulation": ("ascend", {"soc_version": "emulated"}),
}
"""Device -> target and its options."""

HALF = 2.0**-10
"""What class sums of Ascend's emulation may differ by, as a share of the largest: its head is fp16."""

_PLAIN = {"googlenet": {"init_weights": False, "aux_logits": False}}


@cache
def libraries() -> dict[str, Any]:
    """Library -> what makes a network by name.

    Torchvision may not match the build of torch. Its C++ operators, which no classifier uses, are therefore declared.

    Raises:
        ImportError: one is not installed.
    """
    declared = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            signature = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            declared.define(signature)  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        timm, torchvision = map(import_module, ("timm", "torchvision"))
    return {
        "timm": lambda name: timm.create_model(name, num_classes=10),
        "torchvision": lambda name: torchvision.models.get_model(
            name, weights=None, num_classes=10, **_PLAIN.get(name, {})
        ),
        "declared": declared,
    }


def export(name: Name, path: Path, dynamo: bool = False) -> None:
    """Write a network in evaluation mode, with running statistics as after some training.

    Args:
        name: library and network.
        path: of the .onnx file.
        dynamo: by the exporter through torch.export, which writes other operators.
    """
    torch.manual_seed(0)
    library, network_name = name
    network = libraries()[library](network_name).eval()
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


def main() -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help="of the list (default: all)")
    parser.add_argument("--data", required=True, help="images, for calibration and to run")
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSON file")
    options = parser.parse_args()

    images = calibration_images(options.data, count=CALIBRATION + TEST)
    found: dict[Name, dict[str, Any]] = {}
    if options.out.exists():
        found = {(each["library"], each["network"]): each for each in json.loads(options.out.read_bytes())["networks"]}
    results: list[dict[str, Any]] = []
    for name in (*IMPORTED, *REFUSED):
        if options.networks and name[1] not in options.networks:
            continue
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            found[name] = try_network(name, Path(folder), images.load)
        note(f"{name[1]}: {time.perf_counter() - start:.0f} s")
        results = [found[each] for each in (*IMPORTED, *REFUSED) if each in found]
        write_report(
            options.out,
            "networks",
            input=[SIDE, SIDE, 3],
            calibration_images=CALIBRATION,
            libraries=versions(("torchvision", "timm", "onnx", "onnxruntime")),
            networks=results,
        )
    print(table(results))


def try_network(name: Name, folder: Path, load: Callable[[sq.Preprocessing], NDArray[np.uint8]]) -> dict[str, Any]:
    """All that is recorded of one network; JSON values.

    Args:
        name: library and network.
        folder: for files.
        load: preprocessing -> images, uint8 [N, H, W, 3]; the last ones are run, the others calibrated on.
    """
    result: dict[str, Any] = {"network": name[1], "library": name[0]}
    path = folder / f"{name[1]}.onnx"
    export(name, path)
    try:
        model = sq.load(path)
    except sq.UnsupportedError as error:
        return {**result, "imports": False, "refused": str(error).removeprefix(f"{path}: ")}
    assert model.floating is not None
    result |= {"imports": True, "float_difference": float_difference(path, model.floating)}
    pixels = load(model.preprocessing)
    try:
        quantized = sq.quantize(model, pixels[:-TEST])
    except sq.UnsupportedError as error:
        return {**result, "quantizes": False, "refused": str(error)}
    graph, test = quantized.integer, pixels[-TEST:]
    assert graph is not None and model.float_logits is not None
    expected = run(graph, test)
    result |= {
        "quantizes": True,
        "macs": graph.macs,
        "parameters": sum(conv.weight.size for conv in graph.convolutions),
        "logits_sqnr_db": sqnr_db(model.float_logits(test), graph.logits(expected)),
        "distinct_sums": len(np.unique(expected)),
        "devices": {},
    }
    for device, (target, options) in DEVICES.items():
        try:
            artifact = sq.compile(quantized, target, folder / device, golden=test, **options)
        except sq.UnsupportedError as error:
            result["devices"][device] = {"refused": str(error)}
            continue
        with artifact.open(device) as opened:
            answer = opened.run(test)
        result["devices"][device] = _compare(answer.sums, expected, answer.metrics.get("differing_values"))
    session = onnxruntime.InferenceSession(to_onnx(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    sums = np.concatenate([session.run(None, {"image": image[None]})[0] for image in test])
    result["devices"]["onnxruntime"] = _compare(sums, expected, None)
    return result


def float_difference(path: Path, graph: FloatGraph) -> float:
    """Largest difference of an imported network's logits to ONNX Runtime's, as a share of the largest logit."""
    images = np.random.default_rng(0).normal(0, 1, (1, 3, SIDE, SIDE)).astype(np.float32)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: images})[0]
    return float(np.abs(run_float(graph, images) - expected).max() / np.abs(expected).max())


def _compare(sums: NDArray[np.int32], expected: NDArray[np.int32], layers: dict[str, float] | None) -> dict[str, Any]:
    """Whether class sums are the oracle's.

    Args:
        sums: a device's.
        expected: the oracle's.
        layers: share of differing values of each layer that rounds, of a device whose head is floating point.
    """
    difference = sums_error(sums, expected)
    exact = difference == 0 if layers is None else difference <= HALF and not any(layers.values())
    head = {} if layers is None else {"head": "fp16", "head_difference": difference}
    return {"images": len(sums), "bit_exact": exact, **head}


def table(results: Sequence[dict[str, Any]]) -> str:
    """What was recorded, in Markdown."""
    devices = (*DEVICES, "onnxruntime")
    lines = [
        f"| network | from | million MACs | fp32: largest difference | {' | '.join(devices)} |",
        f"| --- | --- | --- | --- {'| --- ' * len(devices)}|",
    ]
    for result in results:
        cells = [result["network"], result["library"]]
        if "refused" in result:
            lines.append(f"| {' | '.join(cells)} | refused by `{result['refused'].partition(': ')[0]}` |")
            continue
        cells += [number(result["macs"] / 1e6, 1), f"{result['float_difference']:.0e}"]
        for device in devices:
            found = result["devices"][device]
            exact = f"{found['images']} images" if found.get("bit_exact") else "DIFFERS"
            cells.append("refused" if "refused" in found else exact)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
