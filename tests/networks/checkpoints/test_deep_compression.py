"""Deep Compression's SqueezeNet: decoding, and the conversion to the usual preprocessing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

from squeezeedge.calib.preprocess import IMAGENET, PRESETS, Preprocessing
from squeezeedge.errors import CorruptFileError
from squeezeedge.networks.checkpoints import read_checkpoint
from squeezeedge.networks.registry import networks_of
from tests.networks.checkpoints.deep_compression_file import LAYERS, SHAPES, encode, sparse_network

HEADER = 4 * len(LAYERS)


@pytest.mark.shared
@pytest.mark.slow
def test_authors_file_is_the_trained_network_bit_for_bit(shared_file: Callable[[str], Path]) -> None:
    decoded = read_checkpoint(shared_file("weights/squeezenet1_0-deepcompression.net")).state
    trained = torch.load(shared_file("weights/squeezenet1_0-imagenet.pth"), weights_only=True)
    assert list(decoded) == list(trained)
    for name, tensor in trained.items():
        assert torch.equal(decoded[name].view(torch.int32), tensor.view(torch.int32)), name


@pytest.mark.slow
@pytest.mark.parametrize("density", [0.02, 0.3])
def test_decoding_restores_every_layer_but_the_first(tmp_path: Path, density: float) -> None:
    network = sparse_network(1, density)
    (tmp_path / "a.net").write_bytes(encode(network))
    checkpoint = read_checkpoint(tmp_path / "a.net")
    assert networks_of(checkpoint) == (("squeezenet1_0",), 1000)
    assert checkpoint.metadata["network"] == "squeezenet1_0"
    assert Preprocessing.from_json(json.loads(checkpoint.metadata["preprocessing"])) == PRESETS["imagenet"]
    for name in LAYERS[1:]:
        weight, bias = network[name]
        assert np.array_equal(checkpoint.state[f"{name}.weight"].numpy(), weight)
        assert np.array_equal(checkpoint.state[f"{name}.bias"].numpy(), bias)


@pytest.mark.slow
def test_first_convolution_sees_the_same_image(tmp_path: Path) -> None:
    """On BGR less the training mean as written, on normalized RGB as read: the same result."""
    network = sparse_network(2, 0.5)
    (tmp_path / "a.net").write_bytes(encode(network))
    state = read_checkpoint(tmp_path / "a.net").state
    image = np.random.default_rng(3).integers(0, 256, (1, 15, 17, 3), np.uint8)
    bgr = image[..., ::-1].astype(np.float64) - [104, 117, 123]
    weight, bias = (torch.from_numpy(array).double() for array in network[LAYERS[0]])
    expected = conv2d(torch.from_numpy(bgr).permute(0, 3, 1, 2), weight, bias, stride=2)
    normalized = torch.from_numpy(IMAGENET.normalize(image)).double()
    found = conv2d(normalized, state["features.0.weight"].double(), state["features.0.bias"].double(), stride=2)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-3)  # sums of 147 products of about 100


def test_no_entries_mean_zero_weights(tmp_path: Path) -> None:
    empty = {name: (np.zeros(shape, np.float32), np.ones(shape[0], np.float32)) for name, shape in SHAPES.items()}
    (tmp_path / "a.net").write_bytes(encode(empty))
    state = read_checkpoint(tmp_path / "a.net").state
    assert not state["classifier.1.weight"].any()
    assert torch.equal(state["features.0.bias"], torch.ones(96))


def damage(kind: str) -> bytes:
    network = sparse_network(4, 0.01)
    if kind == "beyond":
        network[LAYERS[0]] = np.eye(1, 14113, 14112, dtype=np.float32), network[LAYERS[0]][1]
    content = bytearray(encode(network))
    match kind:
        case "truncated":
            del content[-1]
        case "longer":
            content += b"\0"
        case "more entries":
            content[3] = 0xFF
        case "zero":
            content[HEADER : HEADER + 4] = np.float32(1).tobytes()
        case "codebook":
            content[HEADER + 4 : HEADER + 8] = (0x7F800001).to_bytes(4, "little")  # a signalling NaN
        case "bias":
            content[HEADER + 1024 : HEADER + 1028] = np.float32(np.inf).tobytes()
        case "overflow":
            content[HEADER + 4 : HEADER + 8] = np.float32(3e38).tobytes()
    return bytes(content)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("truncated", "gaps of classifier.1: .* bytes are needed"),
        ("longer", "1 bytes follow the last convolution"),
        ("more entries", "codes of features.0: .* bytes are needed and .* are there"),
        ("beyond", "entries of features.0 go beyond its 14112 weights"),
        ("zero", "code 0 of features.0 does not stand for zero"),
        ("codebook", "codebook or biases of features.0 are not finite"),
        ("bias", "codebook or biases of features.0 are not finite"),
        ("overflow", "features.0.weight has values that are not finite"),
    ],
)
def test_malformed(tmp_path: Path, kind: str, reason: str) -> None:
    (tmp_path / "a.net").write_bytes(damage(kind))
    with pytest.raises(CorruptFileError, match=f"a.net: .*{reason}"):
        read_checkpoint(tmp_path / "a.net")


def test_wrong_kind(tmp_path: Path) -> None:
    (tmp_path / "a.net").write_bytes(b"name: 'SqueezeNet'")
    with pytest.raises(CorruptFileError, match=r"not SqueezeNet 1\.0 from Deep Compression"):
        read_checkpoint(tmp_path / "a.net")
