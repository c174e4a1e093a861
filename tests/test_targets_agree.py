"""From a trained network to every target: each gives the oracle's class sums or refuses the network by name.

Hardware that is not here is stood for by what runs the same program: CUDA's kernels as loops on this processor, the
accelerator's simulator, Ascend's emulation, ONNX Runtime for the ONNX form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from squeezeedge.artifact import write_artifact
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import Add, Conv, IntegerGraph, rules
from squeezeedge.graph.importers.from_torch import from_torch
from squeezeedge.graph.oracle import execute, run
from squeezeedge.lower.onnx_module import to_onnx
from squeezeedge.quantization.effort import Effort
from squeezeedge.quantization.pipeline import quantize
from squeezeedge.quantization.split_channels import chains_of
from squeezeedge.targets.cuda.options import DOT_PRODUCT, TENSOR_CORE
from squeezeedge.targets.registry import get_target
from squeezeedge.targets.session import open_session
from tests.targets.cuda.emulation import run_loops

SIZE = (24, 20)
Images = NDArray[np.uint8]
Sums = NDArray[np.int32]
Way = Callable[[IntegerGraph, Images, Path], Sums]


class Block(nn.Module):
    """A residual block whose middle convolution has groups."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 2 * channels, 1)
        self.middle = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(2 * channels)
        self.last = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual: torch.Tensor = self.last(self.norm(self.middle(self.first(x).relu())).relu())
        return x + residual


class Network(nn.Module):
    """Grouped stem, blocks with grouped and depthwise convolutions, poolings, dense layers whose channels are split."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, (3, 5), stride=2, padding=1, groups=3)
        self.blocks = nn.Sequential(
            Block(12, 4), nn.MaxPool2d(3, 2, ceil_mode=True), Block(12, 24), nn.AvgPool2d(3, 2, 1)
        )
        self.last = nn.Sequential(
            nn.Conv2d(12, 8, 1), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU()
        )
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.last(self.blocks(self.stem(x).relu())).mean((2, 3))
        logits: torch.Tensor = self.head(pooled)
        return logits


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(3)
    made = Network()
    block = made.blocks[0]
    assert isinstance(block, Block) and block.first.bias is not None
    with torch.no_grad():
        block.first.bias[::4] += 400  # channels that ask for large shifts
        made.train()(torch.randn(16, 3, *SIZE))  # running statistics
    return made.eval()


def integer_graph(network: nn.Module) -> tuple[IntegerGraph, Images]:
    images = np.random.default_rng(0).integers(0, 256, (12, *SIZE, 3)).astype(np.uint8)
    preprocessing = Preprocessing(size=SIZE, resize=None)
    floating = from_torch(network, SIZE, "blocks")
    graph = quantize(floating, preprocessing, images, name="blocks", effort=Effort(extra_macs=0.1))
    return graph, images[:3]


def on_device(target: str, device: str, **options: object) -> Way:
    def sums(graph: IntegerGraph, images: Images, folder: Path) -> Sums:
        chosen = get_target(target)
        made = write_artifact(
            graph, chosen, chosen.options(**options), folder / "artifact", golden=images, source={"network": "test"}
        )
        with open_session(made.path, chosen, device) as session:
            result = session.run(images)
            check_tensors(graph, images[0], dict(session.trace(images[0])), session.unseen())
        # In Ascend's emulation the head is fp16; what the integer graph rounds is equal in all layers.
        assert set(result.metrics.get("differing_values", {"none": 0.0}).values()) == {0.0}
        return result.sums

    return sums


def check_tensors(graph: IntegerGraph, image: Images, found: Mapping[str, Any], unseen: Mapping[str, str]) -> None:
    """Every tensor that a target shows is the oracle's, and it tells which others there are."""
    expected = dict(execute(graph, image))
    assert found.keys() | unseen.keys() == expected.keys() and not found.keys() & unseen.keys()
    for name in found.keys() - {graph.head.name}:
        np.testing.assert_array_equal(found[name], expected[name], name)


def cuda_loops(isa: str) -> Way:
    def sums(graph: IntegerGraph, images: Images, folder: Path) -> Sums:
        return run_loops(graph, images, isa)

    return sums


def onnx_runtime(graph: IntegerGraph, images: Images, folder: Path) -> Sums:
    session = onnxruntime.InferenceSession(to_onnx(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])


WAYS: dict[str, Way] = {
    "cpu": on_device("cpu", "cpu"),
    "cpu generic": on_device("cpu", "cpu", isa="generic"),
    "vta extended": on_device("vta", "vta-sim"),
    "vta published": on_device("vta", "vta-sim", instructions="published"),
    "ascend emulation": on_device("ascend", "ascend-emulation", soc_version="emulated"),
    "cuda dot product": cuda_loops(DOT_PRODUCT),
    "cuda tensor core": cuda_loops(TENSOR_CORE),
    "onnx runtime": onnx_runtime,
}
SLOW = {"cpu generic", "cuda tensor core"}
TOLERANCE = {"ascend emulation": 2**-10}
"""What class sums may differ by, as a share of the largest, where the head is not integer arithmetic."""


@pytest.fixture(
    scope="module", params=[pytest.param(8, marks=pytest.mark.slow), 15, pytest.param(18, marks=pytest.mark.slow)]
)
def quantized(request: pytest.FixtureRequest, network: nn.Module) -> Iterator[tuple[int, IntegerGraph, Images]]:
    """The network quantized with another largest shift, set in the one place where it stands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "MAX_SHIFT", request.param)
        yield request.param, *integer_graph(network)


def test_the_network_has_what_is_to_be_tried(quantized: tuple[int, IntegerGraph, Images]) -> None:
    limit, graph, _ = quantized
    groups = {node.groups for node in graph.convolutions}
    assert {1, 3, 4, 12, 24} <= groups
    assert {type(node).__name__ for node in graph.nodes} >= {"Conv", "Add", "MaxPool", "Head"}
    split = next(node for node in graph.nodes if node.name == "last.0")
    assert isinstance(split, Conv) and len(split.bias) > 8 and chains_of(split, 8), "its channels are split"
    shifts = np.concatenate([node.shift.ravel() for node in graph.nodes if isinstance(node, Conv | Add)])
    assert shifts.max() == limit if limit < 18 else shifts.max() > 15


@pytest.mark.parametrize("way", [pytest.param(w, marks=pytest.mark.slow if w in SLOW else ()) for w in WAYS])
def test_every_target_gives_the_oracle_s_sums_or_refuses(
    way: str, quantized: tuple[int, IntegerGraph, Images], tmp_path: Path
) -> None:
    limit, graph, images = quantized
    expected = run(graph, images)
    try:
        sums = WAYS[way](graph, images, tmp_path)
    except UnsupportedError as error:
        assert limit > 15, f"refused with the limit of the rules: {error}"
        assert any(str(error).startswith(f"{node.name}:") for node in graph.nodes), error
        assert not (tmp_path / "artifact").exists()
        return
    difference = np.abs(sums.astype(np.int64) - expected).max() / np.abs(expected.astype(np.int64)).max()
    assert difference <= TOLERANCE.get(way, 0)
