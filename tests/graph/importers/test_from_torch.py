"""torch import: the graph computes what the module computes; everything else is refused by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from squeezeedge.errors import UnsupportedError, UsageError
from squeezeedge.graph.float.graph import FloatAveragePool, FloatBatchNorm, FloatConv, FloatGraph, FloatMaxPool
from squeezeedge.graph.float.run import run_float
from squeezeedge.graph.importers.from_torch import from_torch
from squeezeedge.networks.registry import NETWORKS, build
from tests.graph.networks import ResNet18
from tests.marks import first_quick

SIZE = (17, 14)
EVEN_KERNELS = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")


def _imported(module: nn.Module, size: tuple[int, int] = SIZE) -> FloatGraph:
    """Import, and compare the logits with the module's own."""
    graph = from_torch(module, size, "network")
    images = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module.eval()(images).flatten(1).numpy()
    np.testing.assert_allclose(run_float(graph, images.numpy()), expected, rtol=1e-4, atol=1e-4)
    return graph


def _kinds(graph: FloatGraph) -> list[str]:
    return [type(node).__name__.removeprefix("Float") for node in graph.nodes]


class _Ending(nn.Module):
    """A part between a first convolution and pooling."""

    def __init__(self, *parts: nn.Module, channels: int = 6) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3)
        self.part = nn.Sequential(*parts)
        self.last = nn.Conv2d(channels, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.part(self.first(x)))
        return x.mean((2, 3))


@pytest.mark.parametrize("name", first_quick(name for name in reversed(list(NETWORKS)) if not NETWORKS[name].embedded))
def test_every_network(name: str) -> None:
    network = build(name, 6)
    graph = _imported(network, (63, 70))
    parameters = sum(
        value.size for node in graph.nodes for value in vars(node).values() if isinstance(value, np.ndarray)
    )
    assert parameters == sum(parameter.numel() for parameter in network.parameters())
    assert graph.name == "network" and graph.shapes[graph.nodes[-1].name] == (1, 1, 6)


@pytest.mark.slow
def test_names_are_module_paths() -> None:
    names = [node.name for node in from_torch(build("squeezenet1_0_complex_bypass", 6), (63, 63), "n").nodes]
    fire = ["squeeze", "relu", "expand1x1", "relu_1", "expand3x3", "relu_2", "cat", "bypass", "add"]
    assert names[:3] == ["features.0", "features.1", "features.2"]
    assert names[3:12] == [f"features.3.{name}" for name in fire]
    assert names[-3:] == ["classifier.1", "classifier.2", "classifier.3"]


@pytest.mark.slow
def test_resnet18_in_training_mode_is_imported_in_evaluation_mode_and_left_alone() -> None:
    network = ResNet18().train()
    statistics = network.bn1.state_dict()["running_mean"].clone()
    graph = from_torch(network, (50, 41), "resnet18")
    assert network.training and network.bn1.training
    assert torch.equal(network.bn1.state_dict()["running_mean"], statistics)
    assert _kinds(graph)[:4] == ["Conv", "BatchNorm", "Relu", "MaxPool"]
    assert _kinds(graph).count("BatchNorm") == 20 and _kinds(graph).count("Add") == 8
    assert _kinds(graph)[-2:] == ["GlobalAveragePool", "Linear"]
    _imported(network, (50, 41))


def test_double_precision_becomes_float32() -> None:
    graph = from_torch(_Ending().double(), SIZE, "double")
    first = graph.nodes[0]
    assert isinstance(first, FloatConv) and first.weight.dtype == np.float32


def test_arrays_are_copies() -> None:
    network = _Ending()
    graph = from_torch(network, SIZE, "network")
    before = run_float(graph, np.ones((1, 3, *SIZE), np.float32))
    with torch.no_grad():
        network.first.weight.zero_()
    np.testing.assert_array_equal(run_float(graph, np.ones((1, 3, *SIZE), np.float32)), before)


@EVEN_KERNELS
@pytest.mark.parametrize(
    "part",
    [
        nn.Conv2d(6, 6, (3, 2), (2, 1), (1, 0)),
        nn.Conv2d(6, 6, 3, padding="same", bias=False),
        nn.Conv2d(6, 6, (2, 4), padding="same"),
        nn.Conv2d(6, 6, 3, padding="valid"),
        nn.Conv2d(6, 6, 3, groups=6),
        nn.Conv2d(6, 6, (2, 5), (1, 2), (1, 0), groups=3, bias=False),
        nn.Sequential(nn.Conv2d(6, 8, 1, groups=2), nn.Conv2d(8, 16, 3, padding="same", groups=8), nn.Conv2d(16, 6, 1)),
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.MaxPool2d((3, 2), (1, 2), (1, 0)),
        nn.AvgPool2d(2),
        nn.AvgPool2d((3, 2), (1, 2), (1, 0)),
        nn.AvgPool2d(3, 2, count_include_pad=False),
        nn.AvgPool2d((1, 12), 12, (0, 6), count_include_pad=False),
        nn.BatchNorm2d(6, affine=False),
        nn.Sequential(nn.ReLU6(inplace=True), nn.Hardtanh(0, 0.5), nn.LeakyReLU(0.2, inplace=True)),
        nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(), nn.Dropout2d(), nn.Identity()),
    ],
)
def test_forms_of_the_layers(part: nn.Module) -> None:
    _imported(_Ending(part))


@EVEN_KERNELS
def test_windows_as_they_are_written() -> None:
    nodes = from_torch(_Ending(nn.Conv2d(6, 6, (2, 4), padding="same"), nn.MaxPool2d(2)), SIZE, "n").nodes
    conv, pool = nodes[1], nodes[2]
    average = from_torch(_Ending(nn.AvgPool2d((3, 2), padding=(1, 0))), SIZE, "n").nodes[1]
    assert isinstance(average, FloatAveragePool) and average.name == "part.0" and average.divisor == 6
    assert (average.kernel, average.stride, average.padding) == ((3, 2), (3, 2), (1, 0, 1, 0))
    assert isinstance(conv, FloatConv) and conv.padding == (0, 1, 1, 2) and conv.stride == (1, 1)
    assert isinstance(pool, FloatMaxPool) and (pool.kernel, pool.stride, pool.ceil_mode) == ((2, 2), (2, 2), False)


def test_batch_normalization_is_folded_from_running_statistics() -> None:
    norm = nn.BatchNorm2d(6, eps=0.5)
    with torch.no_grad():
        norm.weight.copy_(torch.arange(6.0))
        norm.bias.fill_(2)
        norm.state_dict()["running_mean"].fill_(3)
        norm.state_dict()["running_var"].fill_(3.5)
    node = from_torch(_Ending(norm), SIZE, "n").nodes[1]
    assert isinstance(node, FloatBatchNorm) and node.name == "part.0"
    np.testing.assert_allclose(node.multiplier, np.arange(6) / 2)
    np.testing.assert_allclose(node.offset, 2 - 3 * np.arange(6) / 2)


class _InPlace(nn.Module):
    """Changes a tensor behind the back of those who hold it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 5, 3), nn.Conv2d(3, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.first(x), self.second(x)
        same = first.view(first.shape) if first.shape[2:] == (1, 1) else F.dropout(first, training=False)
        F.relu_(first)
        first += second
        return torch.cat([same, second], -3).mean((-1, -2), keepdim=True)


def test_operators_in_place_change_what_later_readers_see() -> None:
    assert _kinds(_imported(_InPlace())) == ["Conv", "Conv", "Relu", "Add", "Concat", "GlobalAveragePool"]


class _Vector(nn.Module):
    """Ways from a map to logits."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.first = nn.Conv2d(3, 5, 3)
        self.fc = nn.Linear(5, 4, bias=way != "view")

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.way == "average":
            return F.avg_pool2d(x, x.shape[2:])
        if self.way == "adaptive":
            x = F.adaptive_avg_pool2d(x, (1, 1)).squeeze(3).squeeze(2)
        elif self.way == "view":
            x = F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1)
        elif self.way == "reshape":
            x = F.adaptive_avg_pool2d(x, 1).contiguous().reshape(-1, 5)
        else:
            x = x.mean([2, 3])
        logits: Tensor = self.fc(x)
        return logits


@pytest.mark.parametrize("way", ["average", "adaptive", "view", "reshape", "mean"])
def test_ways_to_a_vector(way: str) -> None:
    expected = ["Conv", "GlobalAveragePool"] if way == "average" else ["Conv", "GlobalAveragePool", "Linear"]
    assert _kinds(_imported(_Vector(way))) == expected


class _Function(nn.Module):
    """A function between two convolutions."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1)
        self.scale = nn.Parameter(torch.ones(6, 6, 1, 1))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.function(self, self.first(x)))
        return x.mean((2, 3))


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda m, x: torch.sigmoid(x), r"^sigmoid: operator aten\.sigmoid\.default is not supported; supported: conv"),
        (lambda m, x: x * m.scale, r"operator aten\.mul\.Tensor"),
        (lambda m, x: x + m.scale, r"^add: aten\.add\.Tensor with a constant operand"),
        (lambda m, x: x + 1, r"^add: aten\.add\.Tensor with a constant operand"),
        (lambda m, x: torch.add(x, x, alpha=2), "^add: addition with alpha = 2"),
        (lambda m, x: torch.cat([x, x], 2), "^cat: concatenation over axis 2"),
        (lambda m, x: F.max_pool2d(x, 2, dilation=2), "^max_pool2d: max pooling with dilation"),
        (lambda m, x: F.avg_pool2d(x, 2, ceil_mode=True), "^avg_pool2d: average pooling in ceil mode"),
        (
            lambda m, x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
            "^avg_pool2d: .* windows on a map of 15x12 pixels average 4 to 9 of them",
        ),
        (lambda m, x: F.adaptive_avg_pool2d(x, 2), "^adaptive_avg_pool2d: adaptive average pooling to"),
        (lambda m, x: F.avg_pool2d(x, (15, 12), divisor_override=3), "divisor of its own"),
        (lambda m, x: x.mean(1, keepdim=True).expand(1, 6, 15, 12), r"^mean: mean over axes \[1\]"),
        (lambda m, x: F.dropout(x, training=True), "^dropout: dropout that is active"),
        (lambda m, x: F.adaptive_avg_pool2d(x, 1), "^adaptive_avg_pool2d: a global average pooling must be the last"),
        (lambda m, x: x + F.adaptive_avg_pool2d(x, 1), "^add: it adds 6x15x12 and 6x1x1"),
        (lambda m, x: x.view(1, 6, 12, 15), r"^view: aten\.view\.default from \[1, 6, 15, 12\] to \[1, 6, 12, 15\]"),
        (lambda m, x: x.clamp(-1, 1), r"^clamp: aten\.clamp\.default to -1\.*.*1; supported: from 0 to a limit"),
        (lambda m, x: F.conv2d(x, m.scale.relu()), "relu: .*constant operand"),
    ],
)
def test_refused_by_node_and_reason(function: Callable[[nn.Module, Tensor], Tensor], match: str) -> None:
    with pytest.raises(UnsupportedError, match=match):
        from_torch(_Function(function), SIZE, "network")


@pytest.mark.parametrize(
    ("part", "match"),
    [
        (nn.Conv2d(6, 6, 3, dilation=2), r"^part\.0: .* dilation \[2, 2\]"),
        (nn.BatchNorm2d(6, track_running_stats=False), r"^part\.0: batch normalization without running statistics"),
        (nn.SiLU(), r"^part\.0: operator aten\.silu\.default is not supported; supported: convolution"),
        (nn.Conv2d(6, 6, 99, padding=9), "torch.export cannot trace it at 17x14"),
        (nn.Linear(12, 12), r"^part\.0: the fully connected layer reads a map of 15x12"),
    ],
)
def test_layers_that_are_refused(part: nn.Module, match: str) -> None:
    with pytest.raises(UnsupportedError, match=match):
        from_torch(_Ending(part), SIZE, "network")


def test_an_image_that_is_too_small_has_the_module_s_own_message() -> None:
    with pytest.raises(UsageError, match="too small"):
        from_torch(build("squeezenet1_1", 5), (8, 8), "n")


class _Wrong(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if self.kind == "two outputs":
            return x.mean((2, 3)), x
        if self.kind == "constant":
            return torch.zeros(1, 5)
        return x.mean((2, 3)) if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("two outputs", "1 inputs and 2 outputs"),
        ("constant", "not computed from the image|not supported"),
        ("branch", "torch.export cannot trace it"),
    ],
)
def test_networks_that_are_none(kind: str, match: str) -> None:
    with pytest.raises(UnsupportedError, match=match):
        from_torch(_Wrong(kind), SIZE, "network")


def test_weights_that_are_not_finite() -> None:
    network = _Ending()
    with torch.no_grad():
        network.last.weight[0, 0] = torch.inf
    with pytest.raises(UnsupportedError, match="last: weight holds values that are not finite"):
        from_torch(network, SIZE, "network")
