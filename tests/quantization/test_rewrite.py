"""What the passes share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from squeezeedge.graph import IMAGE
from squeezeedge.graph.float.graph import FloatAdd, FloatConv, FloatRelu
from squeezeedge.graph.float.run import apply_float
from squeezeedge.quantization.rewrite import (
    fresh_name,
    identity_conv,
    of_kind,
    per_output,
    pointwise_conv,
    readers,
    rewired,
)
from tests.quantization.networks import FloatNet


def test_readers_and_kinds() -> None:
    net = FloatNet(0)
    conv = net.conv(IMAGE, 3)
    twice = net.add(conv, conv)
    graph = net.classifier(net.add(net.relu(conv), twice))
    read_by = readers(graph.nodes)
    assert [node.name for node in read_by[conv]] == [twice, twice, "relu"]
    assert read_by[graph.nodes[-1].name] == []
    assert [node.name for node in of_kind(graph.nodes, FloatAdd)] == ["add", "add_1"]
    assert len(of_kind(graph.nodes, FloatConv)) == len(of_kind(graph.nodes, FloatRelu)) == 2


def test_new_names_and_inputs() -> None:
    assert fresh_name("a", {"b"}) == "a"
    assert fresh_name("a", {"a", "a_2"}) == "a_3"
    assert rewired(FloatAdd("sum", ("a", "b")), {"a": "c", "b": "b"}).inputs == ("c", "b")


def test_pointwise_convolutions() -> None:
    values = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(apply_float(identity_conv("copy", "x", 3), [values]), values)
    conv = pointwise_conv("linear", "x", np.diag([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 1.0]))
    expected = values * torch.tensor([1.0, 2.0, 3.0])[:, None, None] + torch.tensor([0.0, 0.0, 1.0])[:, None, None]
    assert torch.allclose(apply_float(conv, [values]), expected)


@pytest.mark.parametrize(("groups", "out"), [(1, 5), (2, 4), (3, 6), (6, 6), (6, 12)])
def test_scaling_what_an_output_sees_is_scaling_the_input(groups: int, out: int) -> None:
    rng = np.random.default_rng(0)
    scale, weight = rng.uniform(1, 2, 6), rng.normal(size=(out, 6 // groups, 1, 1))
    x = torch.from_numpy(rng.normal(size=(1, 6, 3, 3)))
    seen = per_output(scale, out, groups)
    assert seen.shape == weight.shape[:2]
    scaled_weight = torch.from_numpy(weight * seen[:, :, None, None])
    scaled_input = x * torch.from_numpy(scale)[:, None, None]
    first = F.conv2d(x, scaled_weight, groups=groups)
    torch.testing.assert_close(first, F.conv2d(scaled_input, torch.from_numpy(weight), groups=groups))
