"""``squeezeedge eval`` on the embedded network, on artifacts that are damaged, and on the real networks."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from squeezeedge.artifact import Artifact
from squeezeedge.calib.arrays import read_digits
from squeezeedge.errors import (
    CorruptFileError,
    GateError,
    SqueezeEdgeError,
    UnavailableError,
    UnsupportedError,
    UsageError,
)
from squeezeedge.graph.sqe import write_sqe
from squeezeedge.targets.registry import get_target
from squeezeedge.targets.remote import COPIES
from tests.cli.conftest import Invoke
from tests.graphs import random_graph, random_images
from tests.quantization.networks import natural_images
from tests.targets.devices import FakeBoard
from tests.test_loading import onnx_file

pytestmark = pytest.mark.usefixtures("embedded_once")

KEYS = {
    *("model", "device", "kind", "images", "top1", "top5", "fp32_top1", "fp32_top5", "agreement", "bit_exact"),
    *("differing_sums", "logits_sqnr_db", "latency_ms", "images_per_s", "model_bytes"),
}


@pytest.mark.slow
def test_embedded_network(invoke: Invoke, artifact: Path) -> None:
    result = invoke("eval", artifact, "--json", "--require-bit-exact", "--max-drop", "0.5", "--min-agreement", "99")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert KEYS <= report.keys()
    assert report["bit_exact"] is True and report["differing_sums"] == 0 and report["kind"] == "hardware"
    assert report["images"] == 400 and report["fp32_top1"] >= 99 and report["top1"] >= 98.5


def test_table(invoke: Invoke, artifact: Path) -> None:
    result = invoke("eval", artifact, "--limit", "20")
    assert result.exit_code == 0, result.output
    for text in ("fp32", "reference", "cpu", "hardware", "bit-exact", "yes", "20 images of digits"):
        assert text in result.stdout


@pytest.mark.slow
def test_images_that_cannot_be_read(invoke: Invoke, artifact: Path, tmp_path: Path) -> None:
    """They are left out and counted; with --strict they are an error, as they are where they are most."""
    pixels = read_digits("test")
    assert pixels.labels is not None
    for number in range(20):
        folder = tmp_path / "data" / pixels.classes[int(pixels.labels[number])]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.images[number]).save(folder / f"{number}.png")
    for name in pixels.classes:
        (tmp_path / "data" / name).mkdir(exist_ok=True)
        (tmp_path / "data" / name / "0bad.png").write_bytes(b"no image")
    data = ("--data", tmp_path / "data")
    result = invoke("eval", artifact, *data, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["images"], report["unreadable"]) == (20, 10) and report["top1"] >= 90
    assert "data: 10 of 30 images cannot be read and are left out (--strict makes that an error)" in result.stderr
    assert result.stderr.count("0bad.png: ") == 3 and "; and 7 more" in result.stderr
    result = invoke("validate", *data, "--json")
    assert result.exit_code == 0, result.output
    assert (json.loads(result.stdout)["images"], json.loads(result.stdout)["unreadable"]) == (20, 10)
    assert "10 of 30 images cannot be read" in result.stderr
    for command in (("eval", artifact), ("validate",)):
        failure = invoke(*command, *data, "--strict").exception
        assert isinstance(failure, CorruptFileError) and "0bad.png: not an image" in str(failure)


@pytest.mark.slow
def test_a_missed_gate_exits_with_4(invoke: Invoke, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("squeezeedge.evaluation.metrics.Tally.agreement", 95.0)
    result = invoke("eval", artifact, "--limit", "20", "--min-agreement", "95.5")
    assert isinstance(result.exception, GateError) and result.exception.exit_code == 4


def test_unknown_device(invoke: Invoke, artifact: Path) -> None:
    result = invoke("eval", artifact, "--device", "abacus")
    assert isinstance(result.exception, UsageError)
    assert "there are: ascend, ascend-emulation, cpu" in str(result.exception)


@pytest.mark.parametrize("name", ["manifest.json", "model.sqe", "golden.npz", "libsqueezenet1_1_digits.so", "run.py"])
@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
def test_damaged_artifacts(invoke: Invoke, artifact: Path, tmp_path: Path, name: str, damage: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(artifact, copy)
    data = bytearray((copy / name).read_bytes())
    if damage == "missing":
        (copy / name).unlink()
    elif damage == "truncated":
        (copy / name).write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 255
        (copy / name).write_bytes(data)
    result = invoke("eval", copy, "--limit", "1")
    assert isinstance(result.exception, CorruptFileError), result.output
    assert str(copy) in str(result.exception)


def test_a_device_of_another_target_is_refused_before_any_work(
    invoke: Invoke, artifact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = invoke("eval", artifact, "--device", "cpu", "--device", "vta-sim", "--data", tmp_path / "never opened")
    assert isinstance(result.exception, UsageError)
    assert (
        str(result.exception) == f"{artifact}: compiled for cpu, which --device vta-sim does not run; choose among: cpu"
    )


@pytest.mark.parametrize(
    "options", [("--ema",), ("--pretrained",), ("--calib", "digits"), ("--calib-images", "64"), ("--effort", "fast")]
)
def test_options_of_a_float_network_are_none_of_an_artifact(
    invoke: Invoke, program: Path, options: tuple[str, ...]
) -> None:
    for model in (program, program.parent / "small.sqe"):
        result = invoke("eval", model, "--device", "vta-sim", "--data", program.parent / "images.npz", *options)
        assert isinstance(result.exception, UsageError), result.output
        assert str(result.exception).startswith(options[0]) and str(model) in str(result.exception)


@pytest.mark.slow
def test_an_sqe_and_its_artifact_take_the_checkpoint_that_they_were_made_of(invoke: Invoke, tmp_path: Path) -> None:
    weights, data = onnx_file(tmp_path / "own.onnx"), tmp_path / "images.npz"
    np.savez(data, images=natural_images(6, (10, 10)), labels=np.arange(6) % 5)
    file, out = tmp_path / "own.sqe", tmp_path / "out"
    assert invoke("quantize", weights, "--data", data, "-o", file).exit_code == 0
    assert invoke("compile", file, "--target", "vta", "-o", out).exit_code == 0
    other = onnx_file(tmp_path / "other.onnx", side=12)
    (tmp_path / "more").mkdir()
    np.savez(tmp_path / "more" / "images.npz", images=natural_images(4, (10, 10), seed=9), labels=np.arange(4))
    given = ("--device", "vta-sim", "--data", tmp_path / "more" / "images.npz", "--json")
    for model in (file, out):
        without = invoke("eval", model, *given)
        assert without.exit_code == 0 and json.loads(without.stdout)["fp32_top1"] is None, without.output
        result = invoke("eval", model, *given, "--weights", weights)
        assert result.exit_code == 0 and json.loads(result.stdout)["fp32_top1"] is not None, result.output
        result = invoke("eval", model, *given, "--weights", other)
        assert isinstance(result.exception, UsageError), result.output
        assert f"--weights {other}: own was made of another file, own.onnx (SHA-256 " in str(result.exception)


def test_failures_name_no_temporary_folder(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(artifacts: list[Artifact], *_: object, **__: object) -> None:
        raise CorruptFileError(f"{artifacts[0].path}/dram.bin: damaged")

    monkeypatch.setattr("squeezeedge.evaluation.evaluate.evaluate", fails)
    graph = random_graph(1)
    write_sqe(graph, tmp_path / "net.sqe")
    np.savez(tmp_path / "images.npz", images=random_images(graph, 2, 0), labels=np.zeros(2, int))
    result = invoke("eval", tmp_path / "net.sqe", "--device", "vta-sim", "--data", tmp_path / "images.npz")
    assert isinstance(result.exception, CorruptFileError)
    assert str(result.exception) == f"{tmp_path / 'net.sqe'} compiled for vta/dram.bin: damaged"


@pytest.mark.slow
def test_no_library_stays_in_the_process(invoke: Invoke, tmp_path: Path) -> None:
    def libraries() -> set[str]:
        lines = Path("/proc/self/maps").read_text().splitlines()
        return {line.split(maxsplit=5)[5] for line in lines if "libnet" in line or "squeezeedge-" in line}

    before, graph = libraries(), replace(random_graph(1), name="net")
    write_sqe(graph, tmp_path / "net.sqe")
    np.savez(tmp_path / "images.npz", images=random_images(graph, 2, 0), labels=np.zeros(2, int))
    result = invoke("eval", tmp_path / "net.sqe", "--isa", "generic", "--data", tmp_path / "images.npz")
    assert result.exit_code == 0 and " yes\n" in result.stdout, result.output
    assert libraries() == before


def test_every_target_takes_the_graph_before_one_is_compiled(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise UnsupportedError("conv: too large")

    def compiles(*_: object) -> None:
        raise AssertionError("nothing is to be compiled")

    graph = random_graph(1)
    write_sqe(graph, tmp_path / "net.sqe")
    np.savez(tmp_path / "images.npz", images=random_images(graph, 2, 0), labels=np.zeros(2, int))
    monkeypatch.setattr(type(get_target("vta")), "lower", refuses)
    monkeypatch.setattr("squeezeedge.artifact.write_folder", compiles)
    devices = ("--device", "cpu", "--device", "vta-sim", "--isa", "generic")
    result = invoke("eval", tmp_path / "net.sqe", *devices, "--data", tmp_path / "images.npz")
    assert isinstance(result.exception, UnsupportedError) and str(result.exception) == "conv: too large"


def test_a_manifest_that_names_files_outside_is_refused(invoke: Invoke, artifact: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(artifact, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["../secret"] = {"bytes": 0, "sha256": ""}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    result = invoke("eval", copy)
    assert isinstance(result.exception, CorruptFileError) and "outside the artifact" in str(result.exception)


def test_data_that_does_not_fit(invoke: Invoke, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = invoke("eval", artifact, "--data", tmp_path / "empty")
    assert isinstance(result.exception, SqueezeEdgeError) and str(tmp_path / "empty") in str(result.exception)
    labels = np.array([0, 10])
    np.savez(tmp_path / "labels.npz", images=np.zeros((2, 96, 96, 3), np.uint8), labels=labels)
    result = invoke("eval", artifact, "--data", tmp_path / "labels.npz")
    assert isinstance(result.exception, SqueezeEdgeError) and "10" in str(result.exception)


def some_digits(root: Path, names: dict[int, str]) -> Path:
    """Five test images of some of the digits, in folders of these names."""
    digits = read_digits("test")
    assert digits.labels is not None
    for digit, name in names.items():
        (root / name).mkdir(parents=True)
        for index in np.flatnonzero(digits.labels == digit)[:5].tolist():
            Image.fromarray(digits.images[index]).save(root / name / f"{index}.png")
    return root


def test_folders_are_matched_by_name(invoke: Invoke, artifact: Path, tmp_path: Path) -> None:
    data = some_digits(tmp_path / "some", {7: "7", 3: "3", 9: "9"})
    result = invoke("eval", artifact, "--data", data, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["images"] == 15 and report["top1"] > 90 and report["fp32_top1"] > 90, "by order it is 0"
    assert "has 3 of the network's 10 classes" in result.stderr
    validated = invoke("validate", "--data", data, "--json")
    assert json.loads(validated.stdout)["fp32_top1"] == report["fp32_top1"]
    assert "has 3 of the network's 10 classes" in validated.stderr


@pytest.mark.slow
def test_images_quantized_on_are_left_out(invoke: Invoke, tmp_path: Path) -> None:
    data, file, out = some_digits(tmp_path / "some", {7: "7", 3: "3"}), tmp_path / "net.sqe", tmp_path / "net"
    assert invoke("quantize", "-o", file, "--data", data, "--calib-images", "4").exit_code == 0
    assert invoke("compile", file, "--isa", "generic", "-o", out).exit_code == 0
    result = invoke("eval", out, "--data", data, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["images"], report["left_out"]) == (6, 4)
    assert f"{data}: 4 images are left out, because squeezenet1_1_digits was quantized on them" in result.stderr
    assert invoke("quantize", "-o", file.with_name("all.sqe"), "--data", data).exit_code == 0
    result = invoke("eval", file.with_name("all.sqe"), "--isa", "generic", "--data", data)
    assert isinstance(result.exception, UsageError) and "quantized on all 10 images, none is left" in str(
        result.exception
    )


def test_other_names_are_an_error(invoke: Invoke, artifact: Path, tmp_path: Path) -> None:
    data = some_digits(tmp_path / "others", {0: "zero", 1: "1", 2: "two"})
    for command in (["eval", artifact], ["eval"], ["validate"]):
        result = invoke(*command, "--data", data)
        assert isinstance(result.exception, SqueezeEdgeError)
        text = str(result.exception)
        assert "2 of its classes are none of the network's: 'two', 'zero'; the network's are '0', '1'" in text
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps([["zero", "0"], ["1", "1"], ["two", "2"], *[[str(i), str(i)] for i in range(3, 10)]]))
    result = invoke("eval", artifact, "--data", data, "--classes", listed, "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["top1"] > 90


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--max-drop", "nan"], "--max-drop nan: must be a number from 0 to 100"),
        (["--min-agreement", "101"], "--min-agreement 101: must be a number from 0 to 100"),
        (["--max-drop", "1"], "--max-drop: .*plain has no labels"),
        (["--max-drop", "1", "graph.sqe"], "--max-drop: fp32 is not known here; .*--weights"),
        (["--min-agreement", "1", "graph.sqe"], "--min-agreement: fp32 is not known here"),
    ],
)
def test_gates_that_cannot_be_judged_are_refused_at_once(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("nothing is to be done")

    monkeypatch.setattr("squeezeedge.model.quantize", work)
    monkeypatch.setattr("squeezeedge.artifact.prepare", work)
    monkeypatch.chdir(tmp_path)
    Path("plain").mkdir()
    for name in "ab":
        Image.new("RGB", (8, 8)).save(f"plain/{name}.png")
    write_sqe(random_graph(0), Path("graph.sqe"))
    calibration = () if "graph.sqe" in arguments else ("--calib-images", "1")
    result = invoke("eval", *arguments, "--data", "plain", *calibration)
    assert isinstance(result.exception, UsageError), result.output
    assert re.match(reason, str(result.exception))


@pytest.mark.slow
def test_several_devices_side_by_side(invoke: Invoke, tmp_path: Path) -> None:
    devices = ("--device", "cpu", "--device", "vta-sim")
    arguments = (*devices, "--isa", "generic", "--instructions", "published", "--limit", "10")
    result = invoke("eval", *arguments, "--json")
    assert result.exit_code == 0, result.output
    cpu, vta = map(json.loads, result.stdout.splitlines())
    assert cpu["device"] == "cpu" and vta["device"] == "vta-sim" and vta["kind"] == "simulator"
    assert cpu["bit_exact"] is vta["bit_exact"] is True and vta["instructions"] == "published"
    assert vta["latency_ms"]["min"] > vta["cycles"] / vta["clock_mhz"] / 1000
    table = invoke("eval", *arguments)
    head = next(line for line in table.stdout.splitlines() if "fp32" in line)
    assert head.index("cpu") < head.index("vta-sim") and "+0.00" in table.stdout, table.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--emulate"], "there is no emulation of cpu"),
        (["--device", "vta-sim", "--board", "me@there"], "vta-sim does not run on another machine"),
        (["--instructions", "published"], "--instructions is not an option of target cpu"),
    ],
)
def test_options_that_do_not_fit_the_device(invoke: Invoke, arguments: list[str], message: str) -> None:
    result = invoke("eval", *arguments)
    assert isinstance(result.exception, UsageError) and message in str(result.exception)


def test_an_artifact_takes_no_compile_options(invoke: Invoke, artifact: Path) -> None:
    result = invoke("eval", artifact, "--isa", "generic")
    assert isinstance(result.exception, UsageError) and "compiled already" in str(result.exception)


@pytest.mark.parametrize("device", [(), ("--device", "vta")])
def test_a_board_must_be_named(invoke: Invoke, program: Path, device: tuple[str, ...]) -> None:
    """Without ``--device`` an artifact runs on its target's hardware."""
    result = invoke("eval", program, *device, "--data", program.parent / "images.npz")
    assert isinstance(result.exception, UnavailableError) and "--board user@host" in str(result.exception)


VTA_BOARD = ("--device", "vta", "--board", "me@there")
LATE: list[tuple[tuple[str, ...], type[SqueezeEdgeError], str]] = [
    (VTA_BOARD, UnavailableError, "--device vta: no bitstream; compile with --bitstream or --bitstream-file PATH"),
    (("--board", "-oX"), UsageError, "board '-oX': must be user@host or user@host:port"),
    (("--board", "me@there:0"), UsageError, "must be user@host or user@host:port"),
    (("--board", "me@unreachable:2222"), UnavailableError, "board me@unreachable:2222: .*Connection refused"),
    (("--timeout", "3"), UsageError, "--timeout is for a board; name one with --board"),
    (
        ("--device", "ascend", "--soc-version", "Ascend310P3", "--board", "me@there"),
        UnavailableError,
        r"atc is not here: compile first, run the artifact's atc\.sh where CANN is installed",
    ),
]


@pytest.mark.parametrize(("arguments", "kind", "text"), LATE)
def test_what_is_refused_before_any_work(
    invoke: Invoke,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    kind: type[SqueezeEdgeError],
    text: str,
) -> None:
    """The model is not even loaded."""
    FakeBoard(tmp_path, monkeypatch)
    monkeypatch.setattr("squeezeedge.loading.load", lambda *_, **__: pytest.fail("loaded"))
    result = invoke("eval", *arguments)
    assert type(result.exception) is kind and re.search(text, str(result.exception)), result.exception


@pytest.mark.slow
def test_a_board_is_waited_for_as_long_as_is_said(
    invoke: Invoke, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = FakeBoard(tmp_path, monkeypatch)
    with (board.home / ".profile").open("a") as profile:
        profile.write("sleep 1\n")
    result = invoke("eval", artifact, "--board", "me@there", "--limit", "1", "--timeout", "0.2")
    assert isinstance(result.exception, SqueezeEdgeError)
    assert "board me@there: no answer in 0.2 s, the time-out: does the login shell wait" in str(result.exception)


@pytest.mark.slow
def test_a_processor_on_another_machine(
    invoke: Invoke, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = FakeBoard(tmp_path, monkeypatch)
    result = invoke("eval", artifact, "--board", "me@there", "--limit", "10", "--json", "--require-bit-exact")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["bit_exact"] and report["device"] == "cpu" and report["kind"] == "hardware"
    assert list(board.home.glob(f"{COPIES}/*/libsqueezenet1_1_digits.so"))
    unreachable = invoke("eval", artifact, "--board", "me@unreachable", "--limit", "1")
    assert isinstance(unreachable.exception, UnavailableError) and "Connection refused" in str(unreachable.exception)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "images", "agreement", "sqnr"), [("squeezenet1_0", 215, 92, 28.5), ("squeezenet1_1", 645, 95, 35.5)]
)
def test_real_networks(
    invoke: Invoke, shared_file: Callable[[str], Path], network: str, images: int, agreement: float, sqnr: float
) -> None:
    """Agreement varies by a point and a half with the images that are calibrated on."""
    weights, data = shared_file(f"weights/{network}-imagenet.pth"), shared_file("data/imagenet700.tar")
    result = invoke("eval", network, "--weights", weights, "--data", data, "--limit", str(images), "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["images"] == images and report["bit_exact"] is True
    assert report["agreement"] >= agreement and report["logits_sqnr_db"] >= sqnr
    assert report["fp32_top1"] > 54 and report["top1"] > report["fp32_top1"] - 2
