"""The float network as a torch module, for toolkits that quantize one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.peers import float_onnx
from benchmarks.torch_peers import torch_module
from squeezeedge.graph.float.run import run_float
from tests.quantization.networks import FloatNet


@pytest.mark.parametrize("depthwise", [False, True])
def test_the_module_computes_what_the_float_graph_means(depthwise: bool) -> None:
    net = FloatNet(0, (32, 32))
    first = net.relu(net.conv("image", 16, 3, 2))
    if depthwise:
        graph = net.classifier(net.add(first, net.relu(net.depthwise(first), 6)), linear=True)
    else:
        graph = net.classifier(net.fire(net.pool(first), 8, 16))
    images = np.random.default_rng(0).normal(0, 1, (4, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        logits = torch_module(float_onnx(graph))(torch.from_numpy(images)).flatten(1).numpy()
    expected = run_float(graph, images)
    np.testing.assert_allclose(logits, expected, atol=1e-5 * float(np.abs(expected).max()))
