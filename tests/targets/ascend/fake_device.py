"""FAKE device: what the fake atc, ais_bench and acl share. Its arithmetic is the target's emulation.

An "offline model" of the fake atc is a line of text, a line of JSON and the deploy model.
"""

from __future__ import annotations

import json
import math
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
        self.output_sizes = [
            4 * math.prod(dim.dim_value for dim in output.type.tensor_type.shape.dim) for output in deploy.graph.output
        ]
        self._names = [output.name for output in deploy.graph.output]
        self._emulator = Emulator(deploy)

    def run(self, data: bytes) -> list[NDArray[np.float32]]:
        """Outputs float32 [1, channels, height, width], as ``--output_type=FP32`` makes them; class means first."""
        if len(data) != self.input_size:
            raise RuntimeError(f"FAKE: input of {len(data)} bytes, the model takes {self.input_size}")
        image = np.frombuffer(data, np.uint8).reshape(self.shape)
        made = {name: value.float().numpy() for name, value in self._emulator.tensors(image) if name in self._names}
        means, *others = (made[name] for name in self._names)
        if os.environ.get("FAKE_FAULT") == "wrong":
            means = means[:, ::-1] + 7
        return [np.ascontiguousarray(values, np.float32) for values in (means, *others)]
