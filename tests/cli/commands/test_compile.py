"""``squeezeedge compile``: what it writes, and that a failure leaves nothing behind."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax

from squeezeedge.artifact import open_artifact, write_artifact
from squeezeedge.calib.fingerprint import fingerprints
from squeezeedge.cli.commands.compile import _evaluation
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UnavailableError, UsageError
from squeezeedge.graph.oracle import run
from squeezeedge.graph.sqe import Record, read_sqe, write_sqe
from squeezeedge.model import Model
from squeezeedge.targets.registry import get_target
from tests.cli.conftest import Invoke
from tests.graphs import random_graph, random_images
from tests.targets.vta.board_artifact import fake_bitstream

pytestmark = pytest.mark.usefixtures("embedded_once")


def test_artifact(artifact: Path) -> None:
    opened = open_artifact(artifact)
    assert opened.manifest["target"] == "cpu" and opened.manifest["options"]["isa"] == "generic"
    assert opened.manifest["compiled"]["isa"] == "generic"
    assert {"manifest.json", "model.sqe", "golden.npz", "run.py", "device.py", "libsqueezenet1_1_digits.so"} <= {
        p.name for p in artifact.iterdir()
    }
    with np.load(artifact / "golden.npz") as golden:
        np.testing.assert_array_equal(golden["sums"], run(opened.graph, golden["images"]))


@pytest.mark.slow
def test_the_artifact_runs_without_the_package(artifact: Path, tmp_path: Path) -> None:
    with np.load(artifact / "golden.npz") as golden:
        images, sums = golden["images"], golden["sums"]
    np.save(tmp_path / "images.npy", images)
    block = tmp_path / "tvm.py"
    block.write_text("raise ImportError('not on the device')\n")
    for name in ("torch", "squeezeedge"):
        (tmp_path / f"{name}.py").write_text(block.read_text())
    command = [sys.executable, str(artifact / "run.py"), str(tmp_path / "images.npy"), "--check", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(tmp_path)})
    check, *answers = map(json.loads, done.stdout.splitlines())
    assert check["differing_sums"] == 0 and check["golden"] == len(images)
    scale = np.array(json.loads((artifact / "manifest.json").read_text())["logit_scale"], np.float32)
    assert [answer["classes"][0] for answer in answers] == (sums * scale).argmax(1).tolist()


@pytest.mark.slow
def test_wrong_golden_sums_exit_with_4(artifact: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(artifact, copy)
    with np.load(copy / "golden.npz") as golden:
        images, sums = golden["images"], golden["sums"]
    np.savez(copy / "golden.npz", images=images, sums=sums + 1)
    manifest = json.loads((copy / "manifest.json").read_text())
    data = (copy / "golden.npz").read_bytes()
    manifest["files"]["golden.npz"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    done = subprocess.run([sys.executable, str(copy / "run.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 4 and "class sums differ" in done.stderr


@pytest.mark.slow
def test_an_sqe_compiles(invoke: Invoke, tmp_path: Path) -> None:
    write_sqe(random_graph(1), tmp_path / "net.sqe")
    np.savez(tmp_path / "images.npz", images=np.zeros((8, *random_graph(1).input_shape), np.uint8))
    out = tmp_path / "out"
    result = invoke(
        *("compile", tmp_path / "net.sqe", "--data", tmp_path / "images.npz", "--calib-images", "2"),
        *("--isa", "generic", "-o", out, "--json"),
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["graph_sha256"] == random_graph(1).digest()


def test_what_was_made_and_what_comes_next_is_said(invoke: Invoke, program: Path, tmp_path: Path) -> None:
    out = tmp_path / "an artifact"
    result = invoke("compile", program / "model.sqe", "--target", "vta", "--instructions", "published", "-o", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{out}: random for vta (published), ")
    assert [line.split()[0] for line in result.stderr.splitlines()[-3:]] == ["compiling", "writing", "next:"]
    assert f"squeezeedge eval '{out}' --device vta-sim --data IMAGES; on the device itself: python3" in result.stderr


@pytest.mark.parametrize(
    ("target", "elsewhere", "device"),
    [("cpu", False, ""), ("cpu", True, " --board USER@HOST"), ("cuda", False, ""), ("vta", False, " --device vta-sim")],
)
def test_what_is_compiled_for_another_machine_is_evaluated_there(target: str, elsewhere: bool, device: str) -> None:
    model = Model.of_graph(random_graph(1))
    told = _evaluation(Path("net"), get_target(target), model, "my images", elsewhere=elsewhere)
    assert told == f"squeezeedge eval net{device} --data 'my images'"


def test_an_output_that_exists_is_refused(invoke: Invoke, artifact: Path) -> None:
    before = sorted(path.stat().st_mtime_ns for path in artifact.iterdir())
    result = invoke("compile", "-o", artifact)
    assert isinstance(result.exception, UsageError) and "exists already" in str(result.exception)
    assert before == sorted(path.stat().st_mtime_ns for path in artifact.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--isa", "mmx"], "not known; there are: auto"),
        (["--target", "abacus"], "no target 'abacus'; there are: ascend, cpu"),
        (["no-such-file.pth"], "neither a file nor a network"),
        (["squeezenet1_0"], "has no embedded weights"),
        (["--weights", "a.pth", "--pretrained"], "exclude each other"),
        (["--data", "/nowhere"], "/nowhere"),
    ],
)
def test_wrong_arguments_leave_nothing_behind(
    invoke: Invoke, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = invoke("compile", *arguments, "-o", tmp_path / "out")
    assert isinstance(result.exception, SqueezeEdgeError), result.output
    assert message in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_without_a_compiler_nothing_is_written(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = invoke("compile", "-o", tmp_path / "out", "--calib-images", "8")
    assert isinstance(result.exception, UnavailableError) and result.exception.exit_code == 3
    assert not list(tmp_path.iterdir())


def test_a_full_disk_or_a_failing_target_leaves_nothing_behind(
    invoke: Invoke, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("squeezeedge.artifact.write_sqe", full)
    result = invoke("compile", program / "model.sqe", "-o", tmp_path / "out", "--target", "vta")
    assert isinstance(result.exception, SqueezeEdgeError)
    assert str(result.exception) == f"{tmp_path / 'out'}: cannot be written: No space left on device"
    assert not list(tmp_path.iterdir())


def test_two_compiles_into_one_folder(invoke: Invoke, program: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    target = get_target("vta")

    class Late(type(target)):  # type: ignore[misc]
        def lower(self, *arguments: object) -> object:
            shutil.copytree(program, out)
            return super().lower(*arguments)

    graph = read_sqe(program / "model.sqe")
    golden = np.zeros((1, *graph.input_shape), np.uint8)
    with pytest.raises(UsageError, match="another process has written it"):
        write_artifact(graph, Late(), target.options(), out, golden=golden, source={})
    open_artifact(out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_bitstreams(invoke: Invoke, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source, data, out = program / "model.sqe", program.parent / "images.npz", tmp_path / "out"
    command = ("compile", source, "--target", "vta", "--data", data, "-o", out)
    result = invoke(*command, "--bitstream")
    assert isinstance(result.exception, UnavailableError) and "vivado" in str(result.exception)

    bit = tmp_path / "board.bit"
    result = invoke(*command, "--bitstream-file", bit)
    assert isinstance(result.exception, UsageError) and "does not exist" in str(result.exception)
    bit.write_bytes(fake_bitstream())
    result = invoke(*command, "--bitstream-file", bit)
    assert isinstance(result.exception, UsageError) and "board.hwh does not exist" in str(result.exception)
    bit.with_suffix(".hwh").write_text("<FAKE/>")
    bit.write_bytes(fake_bitstream()[:-1])
    result = invoke(*command, "--bitstream-file", bit)
    assert isinstance(result.exception, CorruptFileError) and "truncated, 999 of 1000 bytes" in str(result.exception)
    assert not out.exists()

    bit.write_bytes(fake_bitstream())
    result = invoke(*command, "--bitstream-file", bit)
    assert result.exit_code == 0, result.output
    assert (out / "vta.bit").read_bytes() == bit.read_bytes() and (out / "vta.hwh").exists()
    open_artifact(out)


@pytest.mark.slow
def test_a_tvm_module(invoke: Invoke, program: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    data = ("--data", program.parent / "images.npz")
    result = invoke("compile", program / "model.sqe", "--target", "vta", *data, "--tvm-module", "-o", out)
    assert result.exit_code == 0, result.output
    network = relax.VirtualMachine(tvm.runtime.load_module(str(out / "model.so")), tvm.cpu())
    with np.load(out / "golden.npz") as golden:
        for image, sums in zip(golden["images"], golden["sums"], strict=True):
            np.testing.assert_array_equal(network["main"](tvm.runtime.tensor(image[None])).numpy()[0], sums)


def test_an_old_option_still_works_and_is_noted_once(invoke: Invoke, program: Path, tmp_path: Path) -> None:
    """The option --profile and its values are called otherwise now."""
    out, data = tmp_path / "out", ("--data", program.parent / "images.npz")
    result = invoke("compile", program / "model.sqe", "--target", "vta", *data, "--profile", "vta", "-o", out)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("note: the 'vta' instructions are called 'published' now") == 1
    assert open_artifact(out).manifest["options"]["instructions"] == "published"


def test_an_sqe_brings_its_golden_images(invoke: Invoke, tmp_path: Path) -> None:
    path, graph = tmp_path / "net.sqe", random_graph(1)
    golden = random_images(graph, 3, 0)
    prints = frozenset(fingerprints(golden))
    origin = {"network": "net", "weights": "net.pth", "sha256": "0" * 64}
    write_sqe(graph, path, Record(origin, prints, golden))
    result = invoke("compile", path, "--target", "vta", "-o", tmp_path / "out")
    assert result.exit_code == 0 and "noise" not in result.output, result.output
    opened = open_artifact(tmp_path / "out")
    np.testing.assert_array_equal(opened.golden, golden)
    assert opened.manifest["source"] == origin and opened.calibrated_on == prints
    (tmp_path / "out" / "more").write_text("")
    again = invoke("compile", path, "--target", "vta", "-o", tmp_path / "out", "--force", "--instructions", "published")
    assert again.exit_code == 0, again.output
    assert open_artifact(tmp_path / "out").manifest["options"]["instructions"] == "published"
    assert sorted(place.name for place in tmp_path.iterdir()) == ["net.sqe", "out"]
    assert not (tmp_path / "out" / "more").exists()


@pytest.mark.slow
def test_an_old_sqe_without_images_is_checked_on_noise(invoke: Invoke, tmp_path: Path) -> None:
    write_sqe(random_graph(1), tmp_path / "net.sqe")
    result = invoke("compile", tmp_path / "net.sqe", "--isa", "generic", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "net.sqe: holds no images, so devices check themselves on noise; give --data" in result.stderr
    images = open_artifact(tmp_path / "out").golden
    assert images.shape == (4, *random_graph(1).input_shape) and len(np.unique(images)) > 50


def test_artifacts_of_before_are_refused(artifact: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(artifact, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"schema": 1}))
    with pytest.raises(CorruptFileError, match="schema 1; this version reads 3; compile the model again"):
        open_artifact(copy)
