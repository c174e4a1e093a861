"""MindSpore's checkpoints (.ckpt), read without MindSpore.

The file is one protobuf message (mindspore/train/checkpoint.proto)::

    message Checkpoint { repeated Value value = 1; }
    message Value { required string tag = 1; oneof value { TensorProto tensor = 2; MapTensorProto maptensor = 3; } }
    message TensorProto { repeated int64 dims = 1; required string tensor_type = 2; required bytes tensor_content = 3; }

``save_checkpoint`` splits large tensors over consecutive values with the same tag and dims, and with
``crc_check=True`` appends "crc_num" and a CRC-32 of all before it as a 10-byte big-endian number.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from torch import Tensor

from squeezeedge.networks.checkpoints.record import Contents, check_bytes, corrupt

__all__ = ["likely", "read"]

KIND = "a MindSpore checkpoint"
CRC_MARK = b"crc_num"
CRC_BYTES = 10
DTYPES = {
    "Float16": torch.float16,
    "BFloat16": torch.bfloat16,
    "Float32": torch.float32,
    "Float64": torch.float64,
}
MINDCV: dict[tuple[int, ...], str] = {(64, 3, 3, 3): "squeezenet1_1_mindcv", (96, 3, 7, 7): "squeezenet1_0_mindcv"}


def read(path: Path, data: bytes) -> Contents:
    """Read the parameters.

    Scalars and values of other than floating-point type are ignored: they are training state (``append_dict``).

    Args:
        path: for messages.
        data: the file's content.

    Raises:
        CorruptFileError: not such a file, encrypted, or a parameter is not what it declares.
    """
    mark = len(data) - CRC_BYTES - len(CRC_MARK)
    if mark >= 0 and data[mark : mark + len(CRC_MARK)] == CRC_MARK:
        content, stored = data[:mark], int.from_bytes(data[-CRC_BYTES:], "big")
        if binascii.crc32(content) != stored:
            raise corrupt(path, KIND, "wrong checksum")
        data = content
    message = _message_class()()
    try:
        message.ParseFromString(data)
    except DecodeError as failure:
        raise corrupt(path, KIND, f"{failure}; an encrypted one must be saved again without enc_key") from failure
    if not message.IsInitialized():
        raise corrupt(path, KIND, f"it lacks {', '.join(message.FindInitializationErrors()[:2])}")
    state: dict[str, Tensor] = {}
    for tag, values in groupby(message.value, lambda value: str(value.tag)):
        parts = [value.tensor for value in values if value.HasField("tensor")]
        if not parts or parts[0].tensor_type not in DTYPES or list(parts[0].dims) in ([], [0]):
            continue
        if tag in state:
            raise corrupt(path, KIND, f"parameter {tag[:80]} appears twice")
        dims, dtype = list(parts[0].dims), DTYPES[parts[0].tensor_type]
        wrong = check_bytes(dims, dtype.itemsize, sum(len(part.tensor_content) for part in parts))
        if any(list(part.dims) != dims or part.tensor_type != parts[0].tensor_type for part in parts):
            wrong = "its parts differ in shape or type"
        if wrong is not None:
            raise corrupt(path, KIND, f"parameter {tag[:80]}: {wrong}")
        joined = bytearray().join(part.tensor_content for part in parts)
        state[tag] = torch.frombuffer(joined, dtype=dtype).reshape(dims) if joined else torch.empty(dims, dtype=dtype)
    return Contents({(): state}, mindspore=True)


def likely(state: Mapping[str, Tensor]) -> str:
    """The network that a state dict which MindSpore wrote is mostly of, MindCV's; empty: none here.

    MindCV's networks pool without ceil mode and its 1.1 pads the first convolution, which a state dict does not show:
    MindCV's variant is the likely one, but torchvision's weights may have been saved by MindSpore.
    """
    first = state.get("features.0.weight")
    return MINDCV.get(tuple(first.shape), "") if first is not None else ""


@cache
def _message_class() -> type[Any]:
    """The protobuf class of the messages in the module's docstring; map tensors are not parameters of a network."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="squeezeedge/mindspore_checkpoint.proto", syntax="proto2")
    file.package = "squeezeedge.mindspore"
    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    for message, fields in {
        "TensorProto": (
            ("dims", 1, many, field.TYPE_INT64, None),
            ("tensor_type", 2, field.LABEL_REQUIRED, field.TYPE_STRING, None),
            ("tensor_content", 3, field.LABEL_REQUIRED, field.TYPE_BYTES, None),
        ),
        "Value": (
            ("tag", 1, field.LABEL_REQUIRED, field.TYPE_STRING, None),
            ("tensor", 2, one, field.TYPE_MESSAGE, "TensorProto"),
        ),
        "Checkpoint": (("value", 1, many, field.TYPE_MESSAGE, "Value"),),
    }.items():
        descriptor = file.message_type.add(name=message)
        for name, number, label, kind, type_name in fields:
            added = descriptor.field.add(name=name, number=number, label=label, type=kind)
            if type_name is not None:
                added.type_name = f".{file.package}.{type_name}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.Checkpoint"))
