"""Statements of preprocessing in files: TOML, metadata, timm, Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from squeezeedge.calib.preprocess import DIGITS, IMAGENET
from squeezeedge.calib.statement import Statement, of_preset
from squeezeedge.calib.statement_files import beside, in_metadata, read_toml, statement_of, unrelated
from squeezeedge.errors import CorruptFileError, UsageError

UNIT = 1 / 255


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"mean": [0.1, 0.2, 0.3], "std": 1}, {"mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)}),
        ({"mean": "104, 117,123", "scale": "1"}, {"mean": (104.0, 117.0, 123.0), "scale": 1.0}),
        ({"mean": "[127.5 127.5 127.5]", "scale": "1/255"}, {"mean": (127.5,) * 3, "scale": UNIT}),
        ({"channel-order": "BGR", "interpolation": "Lanczos"}, {"channel_order": "bgr", "interpolation": "lanczos"}),
        ({"crop": 0.875}, {"share": 0.875}),
        ({"crop": "224"}, {"size": (224, 224)}),
        ({"crop": [96, 128], "resize": 0}, {"size": (96, 128), "resize": 0}),
        ({"size": [224, 224], "crop": 224, "resize": None}, {"size": (224, 224), "resize": 0}),
    ],
)
def test_a_table(table: dict[str, Any], expected: dict[str, Any]) -> None:
    assert statement_of(table, "x").stated() == expected
    assert set(statement_of(table, "x").sources.values()) == {"x"}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"mean": [0.5, 0.5]}, "mean has 2 values; it must be three, one a channel, or one for all"),
    ({"mean": []}, "mean has 0 values"),
    ({"mean": [0.5, "x", 1]}, "mean 'x' is not a number"),
    ({"mean": float("nan")}, "mean nan is not finite"),
    ({"std": [1, 0, 1]}, r"std \[1.0, 0.0, 1.0\] must be positive"),
    ({"std": "-1"}, "std .* must be positive"),
    ({"std": float("inf")}, "std inf is not finite"),
    ({"std": 10**400}, "std int is not a number"),
    ({"std": True}, "std True is not a number"),
    ({"scale": 0}, "scale 0.0 must be positive"),
    ({"scale": "1/0"}, "scale '1/0' is not a number"),
    ({"channel_order": "brg"}, r"channel_order 'brg' is none of rgb, bgr, gray \(did you mean"),
    ({"channel_order": ["rgb"]}, "channel_order list is none of"),
    ({"interpolation": "area"}, "interpolation 'area' is none of nearest, bilinear"),
    ({"resize": -1}, "resize -1 must be a whole number of pixels in 0"),
    ({"resize": 10**9}, "resize 1000000000 must be a whole number"),
    ({"resize": 2.5}, "resize 2.5 must be a whole number"),
    ({"crop": 0}, r"crop 0.0 of the shorter side must be in 0.01..1"),
    ({"crop": [1, 2, 3]}, "crop has 3 values"),
    ({"size": 65000}, "size 65000x65000 is more than"),
    ({"crop": 224, "size": 96}, "contradicts"),
    ({"crop": 0.9, "resize": 256}, "resize and crop as a share say the same"),
    ({"means": 1}, r"there is no 'means' \(did you mean mean\?\)"),
]


@pytest.mark.parametrize(("table", "reason"), WRONG)
def test_a_wrong_table(table: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        statement_of(table)


def test_a_toml_file(tmp_path: Path) -> None:
    path = tmp_path / "caffe.toml"
    path.write_text('mean = [104, 117, 123]\nscale = 1\nchannel_order = "bgr"\n')
    assert read_toml(path) == Statement((104, 117, 123), None, 1, "bgr").said_by("caffe.toml")
    with pytest.raises(UsageError, match=r"none\.toml: .*No such file"):
        read_toml(tmp_path / "none.toml")
    for content in (
        b"std = 0",
        b"mean = [",
        b"\xff",
        b"a = " + b"[" * 9000,
        b"#" * (1 << 21),
        b"mean = " + b"9" * 9999,
    ):
        path.write_bytes(content)
        with pytest.raises(CorruptFileError, match=r"caffe\.toml: not a valid statement of preprocessing: .*; correct"):
            read_toml(path)


def said(folder: Path, name: str, content: object) -> dict[str, Any]:
    (folder / name).write_text(json.dumps(content))
    found = beside(folder / "net.onnx")
    return found[0].stated() if found else {}


TIMM = {"mean": [0.5] * 3, "std": [0.25] * 3, "input_size": [3, 240, 240], "interpolation": "bicubic"}


def test_files_that_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "preprocessing.toml"
    path.write_text("mean = 0.5", encoding="utf-8-sig")
    assert read_toml(path).mean == (0.5,) * 3
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": 0.25}', encoding="utf-8-sig")
    (found,) = beside(tmp_path / "net.onnx")
    assert found.mean == (0.25,) * 3


def test_timm(tmp_path: Path) -> None:
    expected = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "channel_order": "rgb", "size": (240, 240)}
    filtered = expected | {"interpolation": "bicubic"}
    assert said(tmp_path, "config.json", {"pretrained_cfg": TIMM | {"crop_pct": 0.95}}) == filtered | {"share": 0.95}
    assert said(tmp_path, "config.json", TIMM) == filtered | {"share": 0.875}, "as older versions write it"
    squashed = {"crop_mode": "squash", "crop_pct": 1.0}
    assert said(tmp_path, "config.json", TIMM | squashed) == filtered | {"resize": 0}
    assert said(tmp_path, "config.json", {"model_type": "resnet"}) == {}, "of something else"
    wrong: object
    for wrong in (
        TIMM | {"crop_mode": "border", "crop_pct": 0.9},
        TIMM | {"input_size": 3},
        TIMM | {"std": [0] * 3},
    ):
        with pytest.raises(CorruptFileError, match=r"config\.json: not a valid statement"):
            said(tmp_path, "config.json", wrong)


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b" " * (1 << 21), b'"timm"'])
def test_a_configuration_of_something_else(tmp_path: Path, content: bytes) -> None:
    """Any folder may have a config.json: what is no JSON object is ignored, with a remark."""
    (tmp_path / "config.json").write_bytes(content)
    assert beside(tmp_path / "net.onnx") == []
    (remark,) = unrelated(tmp_path / "net.onnx")
    assert remark.endswith("config.json: not a JSON object, so it says nothing of the preprocessing: ignored")
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    assert unrelated(tmp_path / "net.onnx") == () == unrelated(tmp_path / "nowhere" / "net.onnx")


HUGGING_FACE: list[tuple[Mapping[str, Any], dict[str, Any]]] = [
    (
        {
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
            "size": {"shortest_edge": 256},
            "crop_size": 224,
            "resample": 3,
        },
        {
            "mean": (0.5,) * 3,
            "std": (0.5,) * 3,
            "scale": UNIT,
            "channel_order": "rgb",
            "size": (224, 224),
            "resize": 256,
        }
        | {"interpolation": "bicubic"},
    ),
    (
        {
            "do_normalize": False,
            "do_rescale": False,
            "size": {"height": 96, "width": 128},
            "do_flip_channel_order": True,
        },
        {"mean": (0.0,) * 3, "std": (1.0,) * 3, "scale": 1.0, "channel_order": "bgr", "size": (96, 128), "resize": 0},
    ),
    ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, {"size": (224, 224), "resize": 256}),
    ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, {"size": (384, 384), "resize": 0}),
    ({"size": 256, "crop_size": {"height": 224, "width": 224}}, {"size": (224, 224), "resize": 256}),
    (
        {"size": 256, "crop_size": 224, "do_center_crop": False, "resample": 0},
        {"size": (256, 256), "resize": 0, "interpolation": "nearest"},
    ),
    (
        {"rescale_factor": 2 / 255, "rescale_offset": True, "do_normalize": False},
        {"mean": (1.0,) * 3, "std": (1.0,) * 3, "scale": 2 / 255, "channel_order": "rgb"},
    ),
    ({"do_resize": False, "size": 7}, {}),
]


@pytest.mark.parametrize(("config", "expected"), HUGGING_FACE)
def test_hugging_face(tmp_path: Path, config: Mapping[str, Any], expected: dict[str, Any]) -> None:
    assert said(tmp_path, "preprocessor_config.json", config) == expected


@pytest.mark.parametrize(
    "config",
    [
        {"image_mean": [0.5] * 2},
        {"image_std": [0.0] * 3},
        {"do_rescale": 1},
        {"rescale_factor": "x"},
        {"resample": 17},
        {"size": {"height": 256}},
        {"size": {"height": 256, "width": 256}, "crop_size": 224},
        {"size": {"shortest_edge": 1e9}, "crop_size": 224},
    ],
)
def test_a_wrong_configuration(tmp_path: Path, config: object) -> None:
    with pytest.raises(CorruptFileError, match=r"preprocessor_config\.json: not a valid statement of preprocessing"):
        said(tmp_path, "preprocessor_config.json", config)


def test_files_beside(tmp_path: Path) -> None:
    (tmp_path / "net.preprocessing.toml").write_text("scale = 1")
    said(tmp_path, "config.json", TIMM)
    said(tmp_path, "preprocessor_config.json", {"resample": 2})
    for name in ("net.onnx", "net.pth", "net.pth.tar"):
        sources = [next(iter(statement.sources.values())) for statement in beside(tmp_path / name)]
        assert sources == ["net.preprocessing.toml", "config.json", "preprocessor_config.json"]
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": 0.5, "image_std": 1, "image_mean": 0.1}')
    with pytest.raises(CorruptFileError, match=r"config\.json: .*'image_mean' is there several times, with different"):
        beside(tmp_path / "net.onnx")
    (tmp_path / "preprocessor_config.json").write_text("[" * 100_000)
    with pytest.raises(CorruptFileError, match=r"preprocessor_config\.json: not a valid"):
        beside(tmp_path / "net.onnx")


def test_metadata(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"

    def read(**metadata: str) -> list[dict[str, Any]]:
        return [statement.stated() for statement in in_metadata(metadata, path, "metadata_props")]

    assert read(names="{}", stride="32") == []
    record = json.dumps(DIGITS.to_json())
    assert read(preprocessing=record) == [of_preset(DIGITS, "").stated()], "a record says RGB, too"
    assert read(preprocessing='{"scale": 1}', mean="1,2,3") == [{"scale": 1.0}, {"mean": (1.0, 2.0, 3.0)}]
    pixels = {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255"}
    expected = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "scale": 1.0, "channel_order": "bgr"}
    assert read(**pixels) == [expected]
    (statement,) = in_metadata(pixels, path, "metadata_props")
    assert statement.sources["mean"] == "metadata_props of net.onnx (Image.*)"
    for wrong in (
        {"preprocessing": "{"},
        {"preprocessing": "[" * 100_000},
        {"preprocessing": "[]"},
        {"preprocessing": json.dumps(IMAGENET.to_json() | {"std": [0, 0, 0]})},
        {"preprocessing": " " * (1 << 21)},
        {"std": "0"},
        {"Image.BitmapPixelFormat": "Bgra8"},
        {"Image.NominalPixelRange": "NominalRange_16_235"},
    ):
        with pytest.raises(CorruptFileError, match=r"net\.onnx: metadata_props: preprocessing: .*write the file again"):
            read(**wrong)
