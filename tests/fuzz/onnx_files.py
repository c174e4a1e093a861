"""ONNX models: fields of the message, names and places of external data."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
from onnx import TensorProto, helper

from squeezeedge.loading import load
from squeezeedge.networks.checkpoints import read_checkpoint
from tests.fuzz import Files, Format
from tests.fuzz.protobuf import change_protobuf
from tests.fuzz.values import TEXTS, change_bytes
from tests.graph.networks import OnnxWriter

__all__ = ["ONNX"]

MODEL, DATA = "model.onnx", "weights.bin"


def _small_model(external: bool, opset: int = 17) -> Files:
    """Convolution, normalization, pooling, a branch with a concatenation and an addition, a linear layer."""
    rng = np.random.default_rng(0)
    writer = OnnxWriter(["batch", 3, 8, 8])

    def weight(name: str, *shape: int) -> str:
        return writer.weight(name, rng.normal(0, 0.5, shape).astype(np.float32))

    value = writer.node("Conv", "input", weight("w1", 4, 3, 3, 3), weight("b1", 4), pads=[1, 1, 1, 1])
    scales = [weight("gamma", 4), weight("beta", 4), weight("mean", 4)]
    variance = writer.weight("variance", np.ones(4, np.float32))
    value = writer.node("Relu", writer.node("BatchNormalization", value, *scales, variance))
    value = writer.node("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
    left = writer.node("Relu", writer.node("Conv", value, weight("w2", 2, 4, 1, 1), weight("b2", 2)))
    right = writer.node("Relu", writer.node("Conv", value, weight("w3", 2, 2, 3, 3), pads=[1, 1, 1, 1], group=2))
    value = writer.node("Add", writer.node("Concat", left, right, axis=1), value)
    value = writer.node("Conv", value, weight("w4", 3, 4, 1, 1), weight("b4", 3))
    value = writer.node("Flatten", writer.node("GlobalAveragePool", value))
    model = writer.model(value, opset)
    if not external:
        return {MODEL: model.SerializeToString()}
    content = b""
    for tensor in model.graph.initializer:
        start, data = len(content), tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, text in (("location", DATA), ("offset", str(start)), ("length", str(len(data)))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, text
        content += data
    return {MODEL: model.SerializeToString(), DATA: content}


def _typed_model() -> Files:
    """Weights in typed fields instead of raw bytes."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2, 3, 1, 1], [0.5] * 6)
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["y"]),
        helper.make_node("GlobalAveragePool", ["y"], ["z"]),
    ]
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 4, 4])
    answer = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 2, 1, 1])
    graph = helper.make_graph(nodes, "g", [image], [answer], [weight])
    return {MODEL: helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString()}


def _mutate(random: Random, files: Files) -> Files:
    changed = {**files, MODEL: change_protobuf(random, files[MODEL])}
    if DATA in files:
        match random.randrange(6):
            case 0:
                changed[DATA] = change_bytes(random, files[DATA])
            case 1:
                name = random.choice(TEXTS).encode("utf-8", "surrogatepass")
                if len(name) < 128:  # the message's lengths stay right
                    name = name or b"-"
                old = b"\x0a\x08location\x12\x0b" + DATA.encode()
                new = b"\x0a\x08location\x12" + bytes([len(name)]) + name if len(name) < 128 else old
                changed[MODEL] = files[MODEL].replace(old, new, 1)
            case 2:
                del changed[DATA]
    return changed


def _read(folder: Path) -> object:
    return read_checkpoint(folder / MODEL)


ONNX = Format(
    name="onnx",
    share=12,
    seeds=lambda: [_small_model(False), _small_model(True), _small_model(False, 13), _typed_model()],
    mutate=_mutate,
    readers=(lambda folder: load(folder / MODEL), _read),
    command=lambda folder: ["quantize", str(folder / MODEL), "--data", str(folder), "-o", str(folder / "out.sqe")],
)
