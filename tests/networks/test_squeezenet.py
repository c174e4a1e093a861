"""The variants: names, shapes, bypass positions and what torch.export makes of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from squeezeedge.errors import UsageError
from squeezeedge.networks.squeezenet import Fire, SqueezeNet
from squeezeedge.networks.variants import VARIANTS
from tests.marks import first_quick

EXPORTED = {
    "aten.adaptive_avg_pool2d.default",
    "aten.add.Tensor",
    "aten.cat.default",
    "aten.conv2d.default",
    "aten.dropout.default",
    "aten.flatten.using_ints",
    "aten.max_pool2d.default",
    "aten.relu.default",
}
FIRES_1_0 = [3, 4, 5, 7, 8, 9, 10, 12]
FIRES_1_1 = [3, 4, 6, 7, 9, 10, 11, 12]


def make(variant: str, classes: int = 1000) -> SqueezeNet:
    torch.manual_seed(0)
    return SqueezeNet(VARIANTS[variant], classes).eval()


def fires(network: SqueezeNet) -> dict[int, Fire]:
    """By the paper's number, 2..9."""
    return dict(enumerate((layer for layer in network.features if isinstance(layer, Fire)), start=2))


@pytest.mark.parametrize(("variant", "indices"), [("1.0", FIRES_1_0), ("1.1", FIRES_1_1), ("1.1-mindcv", FIRES_1_1)])
def test_state_dict_has_torchvisions_names_in_order(variant: str, indices: list[int]) -> None:
    layers = ["features.0"]
    layers += [f"features.{i}.{part}" for i in indices for part in ("squeeze", "expand1x1", "expand3x3")]
    layers += ["classifier.1"]
    assert list(make(variant).state_dict()) == [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [("1.0", 1_248_424), ("1.1", 1_235_496), ("1.0-simple-bypass", 1_248_424), ("1.0-complex-bypass", 1_589_672)],
)
def test_number_of_parameters(variant: str, parameters: int) -> None:
    assert sum(p.numel() for p in make(variant).parameters()) == parameters


def test_bypasses_are_where_the_paper_has_them() -> None:
    assert all(fire.bypass is None for fire in fires(make("1.0")).values())
    simple, complex_ = fires(make("1.0-simple-bypass")), fires(make("1.0-complex-bypass"))
    assert [i for i, fire in simple.items() if fire.bypass is not None] == [3, 5, 7, 9]
    assert all(isinstance(complex_[i].bypass, nn.Identity) for i in (3, 5, 7, 9))
    assert {i: tuple(f.bypass.weight.shape) for i, f in complex_.items() if isinstance(f.bypass, nn.Conv2d)} == {
        2: (128, 96, 1, 1),
        4: (256, 128, 1, 1),
        6: (384, 256, 1, 1),
        8: (512, 384, 1, 1),
    }


def test_simple_bypass_adds_the_pooled_input() -> None:
    """The input of fire 5 is what the pooling before it makes, and that is what is added."""
    plain, bypass = make("1.0"), make("1.0-simple-bypass")
    bypass.load_state_dict(plain.state_dict())
    pooled = torch.rand(1, 256, 5, 5)
    position = FIRES_1_0[3]
    assert isinstance(bypass.features[position - 1], nn.MaxPool2d)
    torch.testing.assert_close(bypass.features[position](pooled), plain.features[position](pooled) + pooled)


def test_complex_bypass_is_a_convolution_without_relu() -> None:
    fire = fires(make("1.0-complex-bypass"))[2]
    x = torch.randn(1, 96, 4, 4)
    assert isinstance(fire.bypass, nn.Conv2d)
    without = fire(x) - fire.bypass(x)
    assert without.min() > -1e-5
    assert fire(x).min() < 0


@pytest.mark.slow
def test_mindcv_pads_the_first_convolution_and_drops_partial_windows() -> None:
    x = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert make("1.1").features[:3](x).shape == (1, 64, 55, 55)
        assert make("1.1-mindcv").features[:3](x).shape == (1, 64, 55, 55)
        assert make("1.1").features[:2](x).shape == (1, 64, 111, 111)
        assert make("1.1-mindcv").features[:2](x).shape == (1, 64, 112, 112)
        assert make("1.0").features(x).shape == (1, 512, 13, 13)
        assert make("1.0-mindcv").features(x).shape == (1, 512, 12, 12)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_export_gives_only_what_the_importers_know(variant: str) -> None:
    program = torch.export.export(make(variant, 7), (torch.randn(1, 3, 65, 97),))
    operators = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert operators <= EXPORTED
    assert ("aten.add.Tensor" in operators) == ("bypass" in variant)


@settings(max_examples=25, deadline=None)
@given(
    variant=st.sampled_from(sorted(VARIANTS)),
    classes=st.integers(1, 9),
    extra=st.tuples(st.integers(0, 40), st.integers(0, 40)),
)
@pytest.mark.slow
def test_any_class_count_and_input_size(variant: str, classes: int, extra: tuple[int, int]) -> None:
    with torch.device("meta"):
        network = SqueezeNet(VARIANTS[variant], classes).eval()
        height, width = (network.variant.smallest_input + pixels for pixels in extra)
        assert network(torch.empty(2, 3, height, width)).shape == (2, classes)


@pytest.mark.parametrize("variant", first_quick(VARIANTS))
def test_smallest_input_is_the_least_that_works(variant: str) -> None:
    network = make(variant, 3)
    size = network.variant.smallest_input
    assert network(torch.randn(1, 3, size, size)).shape == (1, 3)
    with pytest.raises(RuntimeError, match="too small"):  # PyTorch's own error
        network.classifier(network.features(torch.randn(1, 3, size, size - 1)))
    with pytest.raises(UsageError, match=f"{size}x{size - 1} pixels is too small .* needs {size}x{size}"):
        network(torch.randn(1, 3, size, size - 1))


def test_initialization_is_kaimings() -> None:
    network = make("1.1")
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 4000:
            fan_in = layer.weight[0].numel()
            assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)
            assert layer.bias is not None and not layer.bias.any()


@pytest.mark.parametrize("variant", ["1.0-simple-bypass", "1.0-complex-bypass"])
def test_bypasses_do_not_let_activations_grow_with_depth(variant: str) -> None:
    """With every convolution started alike they are 5 (simple) and 30 times (complex) those without a bypass."""
    images = torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    spread = []
    for name in ("1.0", variant):
        torch.manual_seed(0)
        with torch.no_grad():
            spread.append(SqueezeNet(VARIANTS[name], 10).features(images).std().item())
    assert spread[1] < 3 * spread[0]


def test_a_network_needs_a_class() -> None:
    with pytest.raises(UsageError, match="at least one class"):
        SqueezeNet(VARIANTS["1.1"], 0)
