"""The trainable integer network: the oracle's bits, the float network's units and gradients."""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from squeezeedge.calib.datasets import open_dataset
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.graph import IMAGE, Conv, Head, IntegerGraph, oracle, rules
from squeezeedge.graph.float.graph import FloatConv, FloatGraph
from squeezeedge.lower.legalize import legalize
from squeezeedge.quantization.pipeline import quantize
from squeezeedge.quantization.qat import QatNetwork
from squeezeedge.quantization.rewrite import of_kind
from tests.graphs import GraphBuilder, integer_graphs, random_images
from tests.quantization.networks import PREPROCESSING, FloatNet, digits_network, natural_images, random_net

IMAGES = 24


class Digits(NamedTuple):
    """The embedded network, its integer graph, and images with their labels."""

    module: torch.nn.Module
    floating: FloatGraph
    preprocessing: Preprocessing
    graph: IntegerGraph
    pixels: NDArray[np.uint8]
    labels: Tensor


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits() -> Digits:
    torch.set_num_threads(1)
    (module, floating, preprocessing), data = digits_network(), open_dataset("digits", "train")
    pixels = data.load(preprocessing, np.arange(IMAGES))
    assert data.labels is not None
    graph = quantize(floating, preprocessing, pixels, name="digits", labels=list("0123456789"))
    return Digits(module, floating, preprocessing, graph, pixels, torch.from_numpy(data.labels[:IMAGES]))


def _disturb(network: QatNetwork, seed: int, amount: float) -> None:
    """Other weights, as training makes them."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1 + amount * torch.randn(parameter.shape, generator=random))


def _check_bits(network: QatNetwork, images: NDArray[np.uint8]) -> IntegerGraph:
    """In evaluation mode the network is the oracle on what it exports."""
    network.eval()
    graph = network.integer_graph()
    sums = oracle.run(graph, images)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):  # which must not matter
        assert np.array_equal(network.class_sums(pixels).numpy(), sums)
        normalized = torch.from_numpy(graph.preprocessing.normalize(images))
        assert np.array_equal(network(normalized).numpy(), graph.logits(sums))
    return graph


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(graph=integer_graphs(), seed=st.integers(0, 2**32 - 1), amount=st.sampled_from([0.0, 0.3, 10.0]))
def test_random_networks_give_the_oracles_bits(graph: IntegerGraph, seed: int, amount: float) -> None:
    network = QatNetwork(graph)
    _disturb(network, seed, amount)
    exported = _check_bits(network, random_images(graph, 2, seed))
    assert (exported.name, exported.labels) == (graph.name, graph.labels)
    for old, new in zip(graph.nodes, exported.nodes, strict=True):
        assert type(old) is type(new) and old.inputs == new.inputs


@pytest.mark.parametrize("seed", range(4))
def test_training_starts_from_the_quantized_network(seed: int) -> None:
    floating, images = random_net(seed, 4), natural_images(8, PREPROCESSING.size, seed)
    graph = quantize(floating, PREPROCESSING, images, name="net", labels=())
    for network in (QatNetwork(graph), QatNetwork(graph, floating)):
        assert _check_bits(network, images[:3]).digest() == graph.digest()


@pytest.mark.slow
def test_the_digits_network(digits: Digits) -> None:
    graph, pixels = digits.graph, digits.pixels
    network = QatNetwork(graph, digits.floating)
    assert _check_bits(network, pixels[:4]).digest() == graph.digest()
    _disturb(network, 0, 0.1)
    exported = _check_bits(copy.deepcopy(network), pixels[:4])
    assert exported.digest() != graph.digest() and exported.labels == graph.labels


def test_parameters_are_in_the_units_of_the_float_network() -> None:
    """The first convolution's, which nothing is compensated in; its input is padded with the mean pixel."""
    net = FloatNet(3)
    first = net.conv(IMAGE, 6, 3, padding=1)
    floating = net.classifier(net.relu(first))
    graph = quantize(floating, PREPROCESSING, natural_images(8, PREPROCESSING.size), name="net")
    conv = floating.nodes[0]
    assert isinstance(conv, FloatConv)
    for network, steps in ((QatNetwork(graph, floating), 3.0), (QatNetwork(graph), 3.5)):
        parameters = dict(network.named_parameters())
        weight, bias = parameters["layers.0.weight"].detach(), parameters["layers.0.bias"].detach()
        largest = np.abs(conv.weight).max((1, 2, 3), keepdims=True)
        assert (np.abs(weight.numpy() - conv.weight) <= steps / 60 * largest).all()
        np.testing.assert_allclose(bias.numpy(), conv.bias, atol=0.05)


@pytest.mark.slow
def test_gradients_are_those_of_the_float_network(digits: Digits) -> None:
    network, floating = QatNetwork(digits.graph, digits.floating), copy.deepcopy(digits.module).eval()
    images, labels = torch.from_numpy(digits.preprocessing.normalize(digits.pixels)), digits.labels
    for module in (network.eval(), floating):
        # wrong labels: gradients that are not nearly zero
        torch.autograd.backward(F.cross_entropy(module(images), labels.roll(1)))
    pairs = list(zip(network.named_parameters(), floating.parameters(), strict=True))
    assert len(pairs) == 2 * len(network.layers)
    for (name, parameter), reference in pairs:
        assert parameter.grad is not None and reference.grad is not None and parameter.shape == reference.shape
        assert F.cosine_similarity(parameter.grad.flatten(), reference.grad.flatten(), 0) > 0.9, name
        assert 0.8 < parameter.grad.norm() / reference.grad.norm() < 1.25, name


@pytest.mark.slow
def test_training_lowers_the_loss_of_the_integer_network(digits: Digits) -> None:
    """On labels that it has to learn anew; measured by the oracle."""
    graph, pixels = digits.graph, digits.pixels
    network = QatNetwork(graph, digits.floating).train()
    images, wanted = torch.from_numpy(digits.preprocessing.normalize(pixels)), digits.labels.roll(1)
    few = slice(0, 6)

    def loss(graph: IntegerGraph) -> float:
        logits = torch.from_numpy(graph.logits(oracle.run(graph, pixels[few])))
        return F.cross_entropy(logits, wanted[few]).item()

    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    network.dropout.p = 0
    for _ in range(8):
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(network(images[few]), wanted[few]))
        optimizer.step()
    assert loss(_check_bits(network, pixels[:2])) < 0.8 * loss(graph)


def test_what_would_overflow_is_projected() -> None:
    """R6: the head's bound is that of all pixels together. R4: a bias beyond int32 keeps its sign."""
    builder = GraphBuilder(np.random.default_rng(1), (70, 70))
    tensor = builder.concat([builder.conv(IMAGE, 40, (3, 3)), builder.conv(IMAGE, 40, (3, 3))])
    graph = builder.finish(tensor, 3)
    network = QatNetwork(graph)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(100)
        network.get_parameter("layers.0.bias")[:2] = torch.tensor([1e30, -1e30])
    exported = _check_bits(network, random_images(graph, 1, 0))
    first, head = exported.nodes[0], exported.head
    assert isinstance(first, Conv) and first.bias[0] > 2**30 and first.bias[1] < -(2**30)
    bound = 68 * 68 * (np.abs(head.bias.astype(np.int64)) + 255 * np.abs(head.weight.astype(np.int64)).sum((1, 2, 3)))
    assert bound.max() > 0.9 * 2**31, "nothing was projected"


def test_dropout_is_for_training_only() -> None:
    builder = GraphBuilder(np.random.default_rng(2), (9, 9))
    graph = builder.finish(builder.conv(IMAGE, 16, (3, 3)), 5)
    network = QatNetwork(graph)
    images = torch.from_numpy(graph.preprocessing.normalize(random_images(graph, 2, 0)))
    network.dropout.p = 0.5
    assert not torch.equal(network.train()(images), network.eval()(images))
    network.dropout.p = 0
    assert torch.equal(network.train()(images), network.eval()(images)), "float32 training is exact"


def test_another_size_is_refused() -> None:
    builder = GraphBuilder(np.random.default_rng(2), (9, 9))
    graph = builder.finish(builder.conv(IMAGE, 4), 5)
    with pytest.raises(ValueError, match=r"images must be of \(9, 9\) pixels, not \(10, 9\)"):
        QatNetwork(graph)(torch.zeros(1, 3, 10, 9))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("groups", [3, 12])
def test_grouped_convolutions_give_the_oracles_bits(seed: int, groups: int) -> None:
    net = FloatNet(seed)
    first = net.relu(net.conv(IMAGE, 12, 3, 2, 1, 3))
    branch = net.conv(net.relu(net.norm(net.conv(first, 24, 3, 1, 1, groups))), 12, groups=2)
    floating = net.graph(net.average(net.relu(net.conv(net.relu(net.add(branch, first)), 24, 3, groups=groups))))
    images = natural_images(8, PREPROCESSING.size, seed)
    graph = quantize(floating, PREPROCESSING, images, name="net")
    assert graph.head.groups == groups
    for network in (QatNetwork(graph), QatNetwork(graph, floating)):
        assert _check_bits(network, images[:3]).digest() == graph.digest()
    _disturb(network, seed, 0.3)
    exported = _check_bits(network, images[:3])
    assert exported.digest() != graph.digest() and exported.head.groups == groups


def test_gradients_of_a_grouped_network_are_those_of_the_dense_one() -> None:
    """The same integers with weights that are zero instead of groups."""
    net = FloatNet(0)
    first = net.relu(net.conv(IMAGE, 12, 3, 2, 1, 3))
    floating = net.classifier(net.relu(net.conv(net.relu(net.depthwise(first)), 6, groups=3)))
    images = natural_images(8, PREPROCESSING.size)
    graph = quantize(floating, PREPROCESSING, images, name="net")
    normalized = torch.from_numpy(PREPROCESSING.normalize(images))
    gradients = []
    for network in (QatNetwork(graph).eval(), QatNetwork(legalize(graph, ())).eval()):
        torch.autograd.backward(F.cross_entropy(network(normalized), torch.arange(8) % graph.classes))
        gradients.append({name: parameter.grad for name, parameter in network.named_parameters()})
    nodes: list[Conv | Head] = [*of_kind(graph.nodes, Conv), graph.head]
    for index, node in enumerate(nodes):
        narrow, wide = (named[f"layers.{index}.weight"] for named in gradients)
        assert narrow is not None and wide is not None and narrow.abs().max() > 0
        own = np.split(np.arange(len(node.bias)), node.groups)
        columns = np.split(np.arange(wide.shape[1]), node.groups)
        parts = [wide[rows][:, part] for rows, part in zip(own, columns, strict=True)]
        torch.testing.assert_close(narrow, torch.cat(parts), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(gradients[0][f"layers.{index}.bias"], gradients[1][f"layers.{index}.bias"])


@pytest.mark.parametrize("most", [4, 18])
def test_the_largest_shift_is_that_of_the_rules(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(rules, "MAX_SHIFT", most)
    floating, images = random_net(8, 6), natural_images(8, PREPROCESSING.size)
    graph = quantize(floating, PREPROCESSING, images, name="net")
    assert _check_bits(QatNetwork(graph, floating), images[:3]).digest() == graph.digest()
