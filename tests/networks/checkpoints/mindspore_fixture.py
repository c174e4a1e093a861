"""The checkpoints data/mindcv_*.ckpt and the values in them.

They were written by MindSpore 2.10.0 through ``python -m tests.networks.checkpoints.mindspore_fixture``: MindCV's
SqueezeNet 1.1 reduced to its first convolution (whole, because it tells the variant), one narrow fire module and
the last convolution, so that both the parameter names and the bytes are MindSpore's own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).with_name("data")
FLOAT32 = DATA / "mindcv_float32.ckpt"
FLOAT16 = DATA / "mindcv_float16_crc.ckpt"
SHAPES = {
    "features.0.weight": (64, 3, 3, 3),
    "features.0.bias": (64,),
    "features.3.squeeze.weight": (2, 64, 1, 1),
    "features.3.squeeze.bias": (2,),
    "features.3.expand1x1.weight": (3, 2, 1, 1),
    "features.3.expand1x1.bias": (3,),
    "features.3.expand3x3.weight": (4, 2, 3, 3),
    "features.3.expand3x3.bias": (4,),
    "classifier.1.weight": (5, 7, 1, 1),
    "classifier.1.bias": (5,),
}


def value(name: str) -> NDArray[np.float32]:
    """What the checkpoints hold under a name: float32 values that float16 holds exactly."""
    shape = SHAPES[name]
    count = int(np.prod(shape))
    return ((np.arange(count) - count // 2) / 64 + list(SHAPES).index(name)).astype(np.float32).reshape(shape)


def _write() -> None:
    import mindspore
    from mindspore import nn

    class Fire(nn.Cell):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.squeeze = nn.Conv2d(64, 2, kernel_size=1, has_bias=True)
            self.expand1x1 = nn.Conv2d(2, 3, kernel_size=1, has_bias=True)
            self.expand3x3 = nn.Conv2d(2, 4, kernel_size=3, pad_mode="same", has_bias=True)

    class Network(nn.Cell):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            first = nn.Conv2d(3, 64, kernel_size=3, stride=2, padding=1, pad_mode="pad", has_bias=True)
            self.features = nn.SequentialCell([first, nn.ReLU(), nn.MaxPool2d(kernel_size=3, stride=2), Fire()])
            self.final_conv = nn.Conv2d(7, 5, kernel_size=1, has_bias=True)
            self.classifier = nn.SequentialCell([nn.Dropout(p=0.5), self.final_conv, nn.ReLU()])

    network = Network()
    for parameter in network.get_parameters():
        parameter.set_data(mindspore.Tensor(value(parameter.name)))
    mindspore.save_checkpoint(network, str(FLOAT32))
    for parameter in network.get_parameters():
        parameter.set_dtype(mindspore.float16)
    state = {"epoch_num": 3, "learning_rate": 0.25, "note": "tiny", "best": True}
    mindspore.save_checkpoint(network, str(FLOAT16), crc_check=True, append_dict=state)
    for path in (FLOAT32, FLOAT16):
        path.chmod(0o644)


if __name__ == "__main__":
    _write()
