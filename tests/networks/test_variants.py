"""What the variants cost, counted beside the networks themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from squeezeedge.errors import UsageError
from squeezeedge.networks.squeezenet import SqueezeNet
from squeezeedge.networks.variants import VARIANTS

SIZES = [(101, 64), (64, 99), (67, 68), (71, 65), (96, 96), (63, 70)]


@pytest.mark.parametrize(("variant", "size"), list(zip(VARIANTS, SIZES, strict=True)))
def test_convolutions_are_those_of_the_network(variant: str, size: tuple[int, int]) -> None:
    counted: list[tuple[int, int, int]] = []

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        counted.append((module.weight.numel(), module.out_channels, output[0, 0].numel()))

    with torch.device("meta"), torch.no_grad():
        network = SqueezeNet(VARIANTS[variant], 7).eval()
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(count)
        network(torch.empty(1, 3, *size))
    assert sorted(VARIANTS[variant].convolutions(7, size)) == sorted(counted)


def test_too_small_an_input_is_refused() -> None:
    with pytest.raises(UsageError, match="16x99 pixels is too small"):
        list(VARIANTS["1.1"].convolutions(7, (16, 99)))
