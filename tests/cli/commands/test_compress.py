"""``squeezeedge compress``: sizes, goals, what is printed and what is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezeedge.cli.commands.compress import EPOCHS, parse_size
from squeezeedge.compression import compress as module
from squeezeedge.compression.compress import Compression
from squeezeedge.compression.search import Point
from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.graph.sqe import read_sqe
from squeezeedge.model import Model, quantize
from tests.cli.conftest import Invoke
from tests.quantization.networks import natural_images
from tests.test_loading import onnx_file


@pytest.mark.parametrize(
    ("text", "size"),
    [("500kB", 500_000), ("0.5MB", 500_000), ("1 KiB", 1024), ("1.5MiB", 1_572_864), ("42", 42), ("7B", 7)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "kB", "-1kB", "0", "0.1B", "5 apples", "500kb", "1e9", "1.5.2MB", "9" * 40, "٣kB"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="must be a positive number of bytes, or with B, kB, MB, KiB, MiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "give either --target-size or --max-drop"),
        (("--target-size", "1kB", "--max-drop", "1"), "give either --target-size or --max-drop"),
        (("--max-drop", "1", "--epochs", "3"), "--epochs: goes with --finetune; give that, too"),
        (("--target-size", "1kb"), "--target-size is '1kb'; it must be"),
        (("--max-drop", "nan"), "--max-drop is nan; it must be 0 to 100 points"),
        (("--max-drop", "1", "-o", "net.bin"), "net.bin: must end in .sqe"),
        (("--max-drop", "1", "--plot", "curve.txt"), "must end in .png, .svg or .pdf"),
    ],
)
def test_bad_options_are_refused_before_any_work(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: tuple[str, ...], reason: str
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("nothing is loaded")

    monkeypatch.setattr("squeezeedge.loading.load", work)
    monkeypatch.chdir(tmp_path)
    result = invoke("compress", *options)
    assert isinstance(result.exception, UsageError) and reason in str(result.exception), result.output
    assert not list(tmp_path.iterdir())


def test_what_is_made(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: dict[str, Any] = {}

    def made(model: Model, images: Any, **options: Any) -> Compression:  # noqa: ANN401
        given.update(options, images=len(images))
        options["on_phase"]("weights at 30.0 dB")
        options["on_step"]("conv", 0, 2)
        quantized = quantize(model, images)
        points = Point(30.0, 900, 95.0, 30.0, 40.0, 5.0), Point(None, 1000, 100.0, None, 45.0, 0.0)
        quantized = replace(quantized, remarks=(*quantized.remarks, "less, as `max_drop` says"))
        return Compression(quantized, points[1], points[0], points)

    monkeypatch.setattr(module, "compress", made)
    file, picture = tmp_path / "net.sqe", tmp_path / "curve.svg"
    np.savez(tmp_path / "images.npz", images=natural_images(4, (10, 10)))
    weights = onnx_file(tmp_path / "own.onnx")
    command = ("compress", weights, "--data", tmp_path / "images.npz", "--target-size", "1kB", "-o", file)
    result = invoke(*command, "--plot", picture, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (given["target_size"], given["max_drop"], given["images"], given["epochs"]) == (1000, None, 4, 0)
    assert report["finetuning"] is None and report["warnings"][-1] == "less, as --max-drop says"
    assert report["bytes"] == file.stat().st_size and report["graph_sha256"] == read_sqe(file).digest()
    assert [point["bytes"] for point in report["curve"]] == [900, 1000] and report["result"]["drop"] == 5.0
    assert "weights at 30.0 dB\n" in result.stderr and picture.read_text().startswith("<?xml")
    table = invoke(*command, "--force", "--finetune").stdout
    assert given["epochs"] == EPOCHS
    assert "drop of 5.0 points" in table and "30.0" in table and "95.0" in table

    def unmet(*_: object, **__: object) -> None:
        raise SqueezeEdgeError("`target_size`: 1,000 bytes cannot be met; the smallest file has 2,000 bytes")

    monkeypatch.setattr(module, "compress", unmet)
    before = file.read_bytes()
    failed = invoke(*command, "--force")
    assert failed.exit_code == 1 and "--target-size: 1,000 bytes cannot be met" in str(failed.exception)
    assert file.read_bytes() == before
    integer = invoke("compress", file, "--max-drop", "1", "-o", tmp_path / "other.sqe")
    assert isinstance(integer.exception, UsageError) and "give own.onnx, the file that" in str(integer.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.svg", "images.npz", "net.sqe", "own.onnx"]
