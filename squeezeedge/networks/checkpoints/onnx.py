"""ONNX files as checkpoints: the graph's float initializers, by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper
from torch import Tensor

from squeezeedge.networks.checkpoints.record import MAX_BYTES, Contents, check_bytes, corrupt
from squeezeedge.networks.onnx_tensors import ExternalData, check_form

__all__ = ["read"]

KIND = "an ONNX model"
ITEM_BYTES: dict[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.FLOAT16: 2,
    TensorProto.BFLOAT16: 2,
    TensorProto.DOUBLE: 8,
}


def read(path: Path, data: bytes) -> Contents:
    """Read the float initializers; exporters keep the module's parameter names unless they fold layers.

    Args:
        path: for messages; external data must lie in its folder.
        data: the file's content.

    Raises:
        CorruptFileError: not such a file, or an initializer is not what it declares.
    """
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as failure:
        raise corrupt(path, KIND, failure) from failure
    state: dict[str, Tensor] = {}
    external = ExternalData(path.parent, MAX_BYTES)
    for initializer in model.graph.initializer:
        if initializer.data_type not in ITEM_BYTES:  # shapes, axes
            continue
        name = str(initializer.name)  # bytes, where they are not UTF-8
        label = f"initializer {name[:80]}"
        if name in state:
            raise corrupt(path, KIND, f"{label} appears twice")
        try:
            check_form(initializer)
            if initializer.data_location == TensorProto.EXTERNAL:
                external.load(initializer, ITEM_BYTES[initializer.data_type])
        except (OSError, ValueError) as failure:
            raise corrupt(path, KIND, f"{label}: {failure}") from failure
        if initializer.HasField("raw_data"):
            wrong = check_bytes(initializer.dims, ITEM_BYTES[initializer.data_type], len(initializer.raw_data))
            if wrong is not None:
                raise corrupt(path, KIND, f"{label}: {wrong}")
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is reported as not finite
                array = numpy_helper.to_array(initializer).astype(np.float32)
        except (TypeError, ValueError, OverflowError) as failure:
            raise corrupt(path, KIND, f"{label}: {failure}") from failure
        state[name] = torch.from_numpy(array)
    return Contents({(): state})
