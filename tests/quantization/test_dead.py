"""Channels that are 0 whatever the image."""

from __future__ import annotations

import torch

from squeezeedge.quantization.dead import always_zero, removed

WEIGHT = torch.tensor([[1.0, -2.0], [1.0, -2.0], [-1.0, 0.0], [0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)


def test_what_no_input_can_lift_above_zero() -> None:
    bias = torch.tensor([-255.0, -254.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    assert always_zero(WEIGHT, bias, 0, relu=True).tolist() == [True, False, True, True, False]


def test_inputs_with_negatives_lift_more() -> None:
    bias = torch.tensor([-127.0 - 256, -127.0 - 255, -128.0, 0.0, 1.0], dtype=torch.float64)
    assert always_zero(WEIGHT, bias, 128, relu=True).tolist() == [True, False, True, True, False]


def test_without_a_relu_only_what_has_no_weights_is() -> None:
    bias = torch.tensor([-1e9, -1e9, 0.0, 0.0, 1.0], dtype=torch.float64)
    assert always_zero(WEIGHT, bias, 0, relu=False).tolist() == [False, False, False, True, False]


def test_the_remark_counts_by_layer() -> None:
    text = removed({"fire2.squeeze": (3, 16), "fire3.squeeze": (1, 16)})
    assert text.startswith("4 of 32 channels ")
    assert text.endswith("removed: fire2.squeeze (3 of 16), fire3.squeeze (1 of 16)")


def test_the_remark_on_many_layers_names_the_first() -> None:
    text = removed({f"layer{index}": (1, 10) for index in range(30)})
    assert text.startswith("30 of 300 channels ")
    assert text.endswith("layer0 (1 of 10), layer1 (1 of 10), layer2 (1 of 10) and 27 more layers")
