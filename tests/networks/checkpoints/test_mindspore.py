"""MindSpore checkpoints: files that MindSpore wrote, and its wire format made by hand."""

from __future__ import annotations

import binascii
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from squeezeedge.calib.datasets import open_dataset
from squeezeedge.calib.preprocess import IMAGENET
from squeezeedge.cli import app
from squeezeedge.errors import CorruptFileError
from squeezeedge.loading import load
from squeezeedge.networks.checkpoints import read_checkpoint
from squeezeedge.networks.registry import build, load_weights
from tests.networks.checkpoints.mindspore_fixture import FLOAT16, FLOAT32, SHAPES, value


def field(number: int, content: bytes | int) -> bytes:
    """One protobuf field: a varint or length-delimited."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def parameter(tag: str, dims: list[int], content: bytes, kind: str = "Float32") -> bytes:
    tensor = b"".join(field(1, size) for size in dims) + field(2, kind.encode()) + field(3, content)
    return field(1, field(1, tag.encode()) + field(2, tensor))


def saved(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize("path", [FLOAT32, FLOAT16], ids=lambda path: path.stem)
def test_files_by_mindspore(path: Path) -> None:
    """The float16 one also has the checksum, and training state that is no part of the network."""
    checkpoint = read_checkpoint(path)
    assert list(checkpoint.state) == list(SHAPES)
    for name, tensor in checkpoint.state.items():
        assert tensor.dtype == torch.float32
        assert np.array_equal(tensor.numpy(), value(name))
    assert checkpoint.likely == "squeezenet1_1_mindcv" and not checkpoint.metadata, "likely, not said"
    assert b"learning_rate" in FLOAT16.read_bytes()


def test_checksum(tmp_path: Path) -> None:
    content = bytearray(FLOAT16.read_bytes())
    assert content[-17:-10] == b"crc_num"
    content[content.index(b"Float16") + 20] ^= 1
    with pytest.raises(CorruptFileError, match=r"a\.ckpt: not a MindSpore checkpoint.*wrong checksum"):
        read_checkpoint(saved(tmp_path / "a.ckpt", bytes(content)))


def test_parameter_split_over_values(tmp_path: Path) -> None:
    """As ``save_checkpoint`` does from 512 MiB on: every part declares the whole shape."""
    array = np.arange(20, dtype=np.float32).reshape(5, 4)
    parts = [parameter("a", [5, 4], part.tobytes()) for part in np.array_split(array, 3)]
    path = saved(tmp_path / "a.ckpt", *parts, parameter("b", [1], bytes(4)))
    state = read_checkpoint(path).state
    assert np.array_equal(state["a"].numpy(), array)
    with pytest.raises(CorruptFileError, match=r"parameter a: shape \[5, 4\] needs 80 bytes and 64 are there"):
        read_checkpoint(saved(tmp_path / "b.ckpt", *parts[:2]))
    with pytest.raises(CorruptFileError, match="parameter a: its parts differ in shape or type"):
        read_checkpoint(saved(tmp_path / "c.ckpt", *parts[:2], parameter("a", [4, 5], bytes(16))))


def test_names_of_the_last_convolution(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.ckpt", parameter("final_conv.weight", [1], bytes(4)))
    assert list(read_checkpoint(path).state) == ["classifier.1.weight"]


def test_a_training_checkpoint(tmp_path: Path) -> None:
    """As ``ModelCheckpoint`` and the optimizers write it: the network under its own or another name, and the rest."""
    number = np.float32(0.5).tobytes()
    for prefix in ("", "network."):
        tensors = [
            parameter(f"{start}{prefix}{name}", list(shape), value(name).tobytes())
            for start in ("moments.", "accum.", "")
            for name, shape in SHAPES.items()
        ]
        state = [parameter(name, [1], number) for name in ("learning_rate", "global_step", "momentum", "beta1_power")]
        path = saved(tmp_path / "a.ckpt", *state, *tensors, parameter("epoch_num", [], number))
        checkpoint = read_checkpoint(path)
        assert {name: tuple(tensor.shape) for name, tensor in checkpoint.state.items()} == SHAPES
        assert checkpoint.likely == "squeezenet1_1_mindcv"
        said = "24 tensors beside the network's ignored (learning_rate, global_step, momentum, beta1_power, ...)"
        assert checkpoint.notes == (f"{path}: {said}",)


def test_an_average_beside_the_weights(tmp_path: Path) -> None:
    names = dict.fromkeys(SHAPES, 1.0) | {f"ema.{name}": 2.0 for name in SHAPES}
    parts = [
        parameter(
            name,
            list(SHAPES[name.removeprefix("ema.")]),
            np.full(SHAPES[name.removeprefix("ema.")], fill, "<f4").tobytes(),
        )
        for name, fill in names.items()
    ]
    path = saved(tmp_path / "a.ckpt", *parts)
    for ema, fill in ((False, 1.0), (True, 2.0)):
        checkpoint = read_checkpoint(path, ema=ema)
        assert checkpoint.state.keys() == SHAPES.keys() and checkpoint.averaged == ema
        assert all((tensor == fill).all() for tensor in checkpoint.state.values())


@pytest.mark.parametrize("version", ["squeezenet1_0", "squeezenet1_1"])
def test_whole_networks_of_mindcv(tmp_path: Path, version: str) -> None:
    source = build(version, 2)
    parts = [parameter(name, list(t.shape), t.numpy().tobytes()) for name, t in source.state_dict().items()]
    checkpoint = read_checkpoint(saved(tmp_path / "a.ckpt", *parts))
    assert checkpoint.likely == f"{version}_mindcv"
    module = build(checkpoint.likely, 2)
    load_weights(module, checkpoint.state, "a.ckpt")
    assert torch.equal(module.state_dict()["classifier.1.weight"], source.state_dict()["classifier.1.weight"])


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (parameter("a", [1 << 60], bytes(4)), r"parameter a: shape \[1152921504606846976\] needs"),
        (parameter("a", [-1, -1], bytes(4)), "parameter a: shape .* is not possible"),
        (parameter("a", [1] * 9, bytes(4)), "parameter a: shape .* is not possible"),
        (parameter("a", [2], bytes(4)), r"parameter a: shape \[2\] needs 8 bytes and 4 are there"),
        (parameter("a", [1], b"\0\0\x80\x7f"), "a has values that are not finite"),
        (parameter("a", [1], bytes(2), "Float64"), "needs 8 bytes"),
        (parameter("a", [1], bytes(4), "Int32"), "holds no weights"),
        (field(1, field(1, b"a")), "holds no weights"),
        (field(1, b""), "not a MindSpore checkpoint.*it lacks value.0..tag"),
        (field(1, field(1, b"a") + field(2, field(1, 1))), "it lacks value.0..tensor.tensor_type"),
        (field(1, field(1, b"\xff\xff")), "holds no weights"),
        (b"\x0a\xff\xff\xff\xff\x0f", "not a MindSpore checkpoint.*enc_key"),
        (b"PK\3\4", r"not a MindSpore checkpoint, truncated or damaged"),
        (
            parameter("a", [1], bytes(4)) + parameter("b", [1], bytes(4)) + parameter("a", [1], bytes(4)),
            "a appears twice",
        ),
    ],
)
def test_malformed(tmp_path: Path, part: bytes, reason: str) -> None:
    with pytest.raises(CorruptFileError, match=reason):
        read_checkpoint(saved(tmp_path / "a.ckpt", part))


def test_file_of_nothing_but_a_checksum(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.ckpt", b"crc_num", binascii.crc32(b"").to_bytes(10, "big"))
    with pytest.raises(CorruptFileError, match="holds no weights"):
        read_checkpoint(path)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["squeezenet1_1", "squeezenet1_0"])
def test_validate_as_mindcv_does(tmp_path: Path, version: str) -> None:
    """Shorter side to 256 (224 / crop_pct 0.875), bilinear, centre crop of 224, ImageNet's mean and deviation.

    These are transforms_imagenet_eval of mindcv/data/transforms_factory.py and the files of configs/squeezenet.
    """
    torch.manual_seed(5)
    module = build(f"{version}_mindcv", 2)
    parts = [parameter(name, list(t.shape), t.numpy().tobytes()) for name, t in module.state_dict().items()]
    path = saved(tmp_path / "mindcv.ckpt", *parts)
    expected, right = [], 0
    for index, size in enumerate(((300, 280), (260, 411), (256, 256), (240, 230))):
        folder = tmp_path / "images" / f"class{index % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.effect_noise(size, 50 + 20 * index).convert("RGB")
        image.save(folder / f"{index}.png")
        width, height = (side * 256 // min(size) for side in size)
        left, top = round((width - 224) / 2), round((height - 224) / 2)
        crop = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + 224, top + 224))
        pixels = (np.asarray(crop) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        with torch.inference_mode():
            logits = module(torch.tensor(pixels.transpose(2, 0, 1)[None], dtype=torch.float32))[0]
        expected.append(logits.numpy())
        right += int(logits.argmax()) == index % 2
    source = load(path)
    assert (source.name, source.preprocessing) == (f"{version}_mindcv", IMAGENET)
    assert source.float_logits is not None
    dataset = open_dataset(str(tmp_path / "images"))
    order = [0, 2, 1, 3]  # class by class
    found = source.float_logits(dataset.load(source.preprocessing, np.arange(4)))
    np.testing.assert_allclose(found, np.array(expected)[order], rtol=1e-4, atol=1e-5)
    command = ["validate", "--weights", str(path), "--data", str(tmp_path / "images"), "--json"]
    result = CliRunner().invoke(app, [*command, "--network", f"{version}_mindcv"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["model"], report["images"], report["fp32_top1"]) == (f"{version}_mindcv", 4, 25 * right)
