"""ONNX import: equal to ONNX Runtime and to the torch importer; everything else is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from squeezeedge.errors import CorruptFileError, UnsupportedError
from squeezeedge.graph.float.graph import FloatConv, FloatGraph, FloatLinear, FloatRelu
from squeezeedge.graph.float.run import run_float
from squeezeedge.graph.importers.from_onnx import from_onnx
from squeezeedge.graph.importers.from_torch import from_torch
from squeezeedge.networks.registry import NETWORKS, build
from squeezeedge.networks.squeezenet import SqueezeNet
from tests.graph.importers.onnx.files import SIZE, end, imported, kinds, random, same_as_runtime, start
from tests.graph.networks import OnnxWriter, ResNet18, resnet18_onnx, squeezenet_onnx


def _structure(graph: FloatGraph) -> list[tuple[object, ...]]:
    """Everything of a graph but arrays and the names that each format chooses by itself."""
    places = {"image": -1} | {node.name: place for place, node in enumerate(graph.nodes)}
    return [
        (
            type(node),
            [places[name] for name in node.inputs],
            [(key, value) for key, value in vars(node).items() if isinstance(value, tuple | bool) and key != "inputs"],
            graph.shapes[node.name],
        )
        for node in graph.nodes
    ]


def _arrays(graph: FloatGraph) -> list[NDArray[np.float32]]:
    return [value for node in graph.nodes for value in vars(node).values() if isinstance(value, np.ndarray)]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in reversed(list(NETWORKS)) if not NETWORKS[name].embedded])
def test_squeezenet_is_the_same_from_torch_and_onnx(tmp_path: Path, name: str) -> None:
    network = build(name, 6)
    assert isinstance(network, SqueezeNet)
    writer = squeezenet_onnx(network, (63, 70))
    graph = imported(tmp_path, writer, writer.nodes[-1].output[0])
    other = from_torch(network, (63, 70), name)
    assert _structure(graph) == _structure(other)
    for ours, theirs in zip(_arrays(graph), _arrays(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    layers = [node.name for node in graph.nodes if isinstance(node, FloatConv)]
    assert layers == [node.name for node in other.nodes if isinstance(node, FloatConv)]
    assert layers[:2] == ["features.0", "features.3.squeeze"]


@pytest.mark.slow
def test_resnet18(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ResNet18().eval()
    writer = resnet18_onnx(network, (50, 41))
    graph = imported(tmp_path, writer, writer.nodes[-1].output[0])
    other = from_torch(network, (50, 41), "resnet18")
    assert _structure(graph) == _structure(other)
    for ours, theirs in zip(_arrays(graph), _arrays(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert isinstance(graph.nodes[-1], FloatLinear) and graph.nodes[-1].name == "fc"


@pytest.mark.slow
@pytest.mark.shared
def test_efficientnet_lite0(shared_file: Callable[[str], Path]) -> None:
    path = shared_file("weights/efficientnet_lite0.onnx")
    image = random(1, 3, 224, 224)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    graph = from_onnx(path).graph
    np.testing.assert_allclose(run_float(graph, image), session.run(None, {"image": image})[0], rtol=0, atol=1e-4)
    assert sum(isinstance(node, FloatRelu) and node.limit == 6 for node in graph.nodes) == 33


CASES = {
    "body_avgpool2": "Conv Relu AveragePool Conv GlobalAveragePool",
    "body_bias_as_add": "Conv Relu Conv Relu Conv GlobalAveragePool",
    "body_clip06": "Conv Relu Conv Relu Conv GlobalAveragePool",
    "body_depthwise": "Conv Relu Conv Relu Conv GlobalAveragePool",
    "body_pad_conv": "Conv Relu Conv Relu Conv GlobalAveragePool",
    "body_pad_zero_noop": "Conv Relu Conv GlobalAveragePool",
    "body_sum2": "Conv Relu Conv Relu Add Conv GlobalAveragePool",
    "body_weight_transposed": "Conv Relu Conv Relu Conv GlobalAveragePool",
    "ceil_k2s2p1n15": "Conv Relu MaxPool Conv GlobalAveragePool",
    "channels_8": "Conv Relu Conv Relu Conv Relu GlobalAveragePool",
    "dead_channel": "Conv Relu MaxPool Conv Relu Conv GlobalAveragePool",
    "first_batch_8": "Conv Relu Conv GlobalAveragePool",
    "first_sub_div": "Conv Relu Conv GlobalAveragePool",
    "first_transpose_nhwc": "Conv Relu Conv GlobalAveragePool",
    "head_gap_conv1x1": "Conv Relu GlobalAveragePool Linear",
    "head_logsoftmax": "Conv Relu Conv GlobalAveragePool",
    "head_softmax_identity": "Conv Relu Conv GlobalAveragePool",
    "head_softmax_reshape": "Conv Relu Conv GlobalAveragePool",
    "view_size_leg11_dyn": "Conv Relu GlobalAveragePool Linear",
}
"""Files that people's tools write, and the layers that they become."""


@pytest.mark.shared
@pytest.mark.parametrize("name", CASES)
def test_files_of_people_s_tools(shared_file: Callable[[str], Path], name: str) -> None:
    path = shared_file(f"cases/onnx/{name}.onnx")
    found = from_onnx(path)
    assert kinds(found.graph) == CASES[name].split()
    if name.startswith(("head_log", "head_soft")):
        assert found.notes[0].startswith("dropped behind the class scores: ")
    else:
        same_as_runtime(path, found)
    assert (name == "first_sub_div") == bool((found.multiplier != 1).any())
    assert (name == "first_batch_8") == ("made for 8 images at a time: read as for one" in found.notes)


@pytest.mark.shared
def test_a_file_in_training_mode(shared_file: Callable[[str], Path]) -> None:
    with pytest.raises(UnsupportedError, match=r"f\.1/BatchNormalization \(.*in training mode; export"):
        from_onnx(shared_file("cases/onnx/bn_training_opset11.onnx"))


def test_what_a_file_says_of_itself(tmp_path: Path) -> None:
    writer, value = start()
    model = writer.model(end(writer, value))
    helper.set_model_props(model, {"mean": "0.5", "author": "someone"})
    onnx.save(model, tmp_path / "network.onnx")
    assert from_onnx(tmp_path / "network.onnx").metadata == {"mean": "0.5", "author": "someone"}


def test_what_a_file_says_of_itself_that_is_no_text(tmp_path: Path) -> None:
    """A name is not looked at; a value is for those who read it. What is said twice is refused by its key."""
    writer, value = start()
    model = writer.model(end(writer, value))
    helper.set_model_props(model, {"maker": "value", "mean": "text"})
    data, path = model.SerializeToString(), tmp_path / "network.onnx"
    path.write_bytes(data.replace(b"maker", b"\xff\xfe\xff\xfe\xff").replace(b"text", b"0.5\xff"))
    assert from_onnx(path).metadata == {"mean": "0.5\ufffd"}
    model.metadata_props.add(key="mean", value="0.5")
    onnx.save(model, path)
    with pytest.raises(CorruptFileError, match=r"network\.onnx: its metadata_props give 'mean' several times; remove"):
        from_onnx(path)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
def test_other_floating_point_types_become_float32(tmp_path: Path, kind: int) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    writer = OnnxWriter([1, 3, *SIZE], kind)
    weight, bias = random(5, 3, 3, 3).astype(dtype), random(5).astype(dtype)
    value = writer.node("Conv", "input", writer.weight("w", weight), writer.weight("b", bias))
    path = tmp_path / "network.onnx"
    onnx.save(writer.model(end(writer, value), 22), path)
    graph = from_onnx(path).graph
    first = graph.nodes[0]
    assert isinstance(first, FloatConv) and first.weight.dtype == np.float32
    np.testing.assert_array_equal(first.weight, weight.astype(np.float32))
