"""ONNX files as checkpoints: the graph's float initializers, by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper
from onnx.external_data_helper import ExternalDataInfo
from torch import Tensor

from squeezeedge.errors import CorruptFileError
from squeezeedge.networks.checkpoints.record import MAX_BYTES, Checkpoint, check_bytes, corrupt

__all__ = ["read"]

KIND = "an ONNX model"
ITEM_BYTES: dict[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.FLOAT16: 2,
    TensorProto.BFLOAT16: 2,
    TensorProto.DOUBLE: 8,
}


def read(path: Path, data: bytes) -> Checkpoint:
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
    external_bytes = 0
    for initializer in model.graph.initializer:
        if initializer.data_type not in ITEM_BYTES:  # shapes, axes
            continue
        label = f"initializer {initializer.name[:80]}"
        if initializer.name in state:
            raise corrupt(path, KIND, f"{label} appears twice")
        if initializer.data_location == TensorProto.EXTERNAL:
            initializer.raw_data = _external_data(path, initializer, label, MAX_BYTES - external_bytes)
            initializer.data_location = TensorProto.DEFAULT
            external_bytes += len(initializer.raw_data)
        if initializer.HasField("raw_data"):
            wrong = check_bytes(initializer.dims, ITEM_BYTES[initializer.data_type], len(initializer.raw_data))
            if wrong is not None:
                raise corrupt(path, KIND, f"{label}: {wrong}")
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is reported as not finite
                array = numpy_helper.to_array(initializer).astype(np.float32)
        except (TypeError, ValueError, OverflowError) as failure:
            raise corrupt(path, KIND, f"{label}: {failure}") from failure
        state[initializer.name] = torch.from_numpy(array)
    return Checkpoint(state)


def _external_data(path: Path, initializer: TensorProto, label: str, most: int) -> bytes:
    """The bytes of an initializer that lies in another file of the model's folder."""
    try:
        info = ExternalDataInfo(initializer)
        offset, length = int(info.offset or 0), int(info.length or -1)
    except (TypeError, ValueError) as failure:
        raise corrupt(path, KIND, f"{label}: {failure}") from failure
    folder = path.parent.resolve()
    source = (folder / str(info.location)).resolve() if "\0" not in str(info.location) else folder
    if not source.is_relative_to(folder) or not source.is_file():
        raise CorruptFileError(
            f"{path}: {label} refers to {str(info.location)[:80]!r}, which is not a file of the model's folder; "
            "put its data file beside it"
        )
    wrong = check_bytes(initializer.dims, ITEM_BYTES[initializer.data_type], length)
    if wrong is None and not 0 <= offset <= source.stat().st_size - length:
        wrong = f"{source.name} ends before byte {offset + length}"
    if wrong is None and length > most:
        wrong = f"the external data exceed {MAX_BYTES} bytes"
    if wrong is not None:
        raise corrupt(path, KIND, f"{label}: {wrong}")
    with source.open("rb") as file:
        file.seek(offset)
        return file.read(length)
