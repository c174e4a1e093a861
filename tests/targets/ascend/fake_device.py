"""FAKE device: what the fake atc, ais_bench and acl share. Its arithmetic is the target's emulation.

An "offline model" of the fake atc is a line of text, a line of JSON and the deploy model.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from squeezeedge.targets.ascend.emulate import Emulator

HEADER = b"FAKE OFFLINE MODEL\n"


class FakeModel:
    """A model on the fake device: takes the bytes of one RGB image, as AIPP was told to."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        if not data.startswith(HEADER):
            raise RuntimeError(f"FAKE: {path} is not an offline model, error code 145000")
        settings, model = data[len(HEADER) :].split(b"\n", 1)
        record = json.loads(settings)
        self.shape = (1, int(record["height"]), int(record["width"]), 3)
        self.input_size = int(np.prod(self.shape))
        deploy = onnx.load_model_from_string(model)
        self.output_size = 4 * deploy.graph.output[0].type.tensor_type.shape.dim[1].dim_value
        self._emulator = Emulator(deploy)

    def run(self, data: bytes) -> NDArray[np.float32]:
        """Class means float32 [1, 2 * classes, 1, 1], as ``--output_type=FP32`` makes them."""
        if len(data) != self.input_size:
            raise RuntimeError(f"FAKE: input of {len(data)} bytes, the model takes {self.input_size}")
        means = self._emulator.run(np.frombuffer(data, np.uint8).reshape(self.shape))
        if os.environ.get("FAKE_FAULT") == "wrong":
            means = means[:, ::-1] + 7
        return np.ascontiguousarray(means, np.float32)[:, :, None, None]
