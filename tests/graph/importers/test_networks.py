"""Common small networks of torchvision and timm, with random weights, through torch's exporters.

What imports gives ONNX Runtime's answers; what is refused names the node that blocks. Here all devices run two of them;
``python -m benchmarks.networks`` runs all.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.networks import IMPORTED, REFUSED, Name, export, float_difference, libraries, table, try_network
from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.importers.from_onnx import from_onnx
from tests.quantization.networks import natural_images

ROOT = Path(__file__).parents[3]
ON_DEVICES = (("torchvision", "shufflenet_v2_x0_5"), ("timm", "tf_efficientnet_lite0"))
BLOCKED_BY = {
    ("torchvision", "mobilenet_v3_small"): r"/features/features\.0/features\.0\.2/HardSwish \(HardSwish\): ",
    ("torchvision", "efficientnet_b0"): r"/features/features\.0/features\.0\.2/Sigmoid \(Sigmoid\): ",
    ("torchvision", "regnet_y_400mf"): r"/trunk_output/block1/block1-0/f/se/scale_activation/Sigmoid \(Sigmoid\): ",
    ("timm", "lcnet_050"): r"/bn1/act/HardSwish \(HardSwish\): ",
    ("timm", "ghostnet_100"): r"/blocks/blocks\.3/blocks\.3\.0/se/Mul \(Mul\): ",
    ("timm", "hrnet_w18_small"): r"/stage2/.*/Resize \(Resize\): ",
}
"""Networks and the node that blocks them."""


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    try:
        libraries()
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("name", IMPORTED)
def test_networks_that_import(tmp_path: Path, name: Name) -> None:
    path = tmp_path / "network.onnx"
    export(name, path)
    assert float_difference(path, from_onnx(path).graph) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_DEVICES)
def test_networks_on_every_device(tmp_path: Path, name: Name) -> None:
    found = try_network(name, tmp_path, lambda preprocessing: natural_images(6, preprocessing.size))
    assert found["float_difference"] < 1e-5
    assert found["distinct_sums"] > 10
    assert {device: result["bit_exact"] for device, result in found["devices"].items()} == dict.fromkeys(
        ("cpu", "vta-sim", "ascend-emulation", "onnxruntime"), True
    )


def test_the_table_is_of_the_recorded_results() -> None:
    results = json.loads((ROOT / "benchmarks/results/networks.json").read_bytes())["networks"]
    assert table(results) in (ROOT / "docs/onnx.md").read_text()


@pytest.mark.slow
def test_the_exporter_through_torch_export(tmp_path: Path) -> None:
    """It writes other operators; channel shuffles are what it has to show."""
    path = tmp_path / "network.onnx"
    export(("torchvision", "shufflenet_v2_x0_5"), path, dynamo=True)
    assert float_difference(path, from_onnx(path).graph) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_networks_that_are_refused(tmp_path: Path, name: Name) -> None:
    path = tmp_path / "network.onnx"
    export(name, path)
    with pytest.raises(UnsupportedError, match=BLOCKED_BY[name]):
        from_onnx(path)


def test_enough_networks_are_tried() -> None:
    assert len(IMPORTED) >= 24 and len(IMPORTED) + len(REFUSED) >= 31
