"""The artifact's programs behind a fake driver that executes the kernels' loop forms: no GPU is involved."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from squeezeedge.errors import SqueezeEdgeError, UnavailableError
from squeezeedge.graph.oracle import execute, run
from squeezeedge.targets.cuda import device as device_side
from squeezeedge.targets.cuda.device import Network
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.registry import get_target
from tests.graphs import random_images
from tests.targets.cuda.conftest import Emulated
from tests.targets.devices import answers, seal

TARGET = get_target("cuda")
pytestmark = pytest.mark.tool


def test_the_script_checks_itself_and_classifies(emulated: Emulated, tmp_path: Path) -> None:
    images = random_images(emulated.graph, 5, 3)
    np.save(tmp_path / "images.npy", images)
    done = emulated.script(str(tmp_path / "images.npy"), "--check", "--sums", "--top", "2", "--batch", "2")
    assert done.returncode == 0, done.stderr
    check, *answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert (check["golden"], check["differing_sums"], check["batch"], check["code"]) == (3, 0, 2, "sm_90")
    assert check["gpu"] == "fake GPU 0 (this processor)"
    expected = run(emulated.graph, images)
    np.testing.assert_array_equal([answer["sums"] for answer in answers], expected)
    logits = emulated.graph.logits(expected)
    assert [answer["classes"][0] for answer in answers] == logits.argmax(1).tolist()
    assert all(0 < answer["device_ms"] for answer in answers)


def test_a_gpu_machine_needs_no_tvm() -> None:
    code = "import sys, squeezeedge.targets.session, squeezeedge.targets.cuda.device; sys.exit('tvm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_throughput(emulated: Emulated, tmp_path: Path) -> None:
    trace = tmp_path / "trace.txt"
    done = emulated.script("--throughput", "2", "--repeats", "5", FAKE_CUDA_TRACE=str(trace))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["batch"] == 2 and report["images_per_s"] > 0 and report["device_images_per_s"] > 0
    calls = [line.split()[0] for line in trace.read_text().splitlines()]
    assert calls.count("cuStreamCreate") == 3  # one image at a time, and two flights
    assert trace.read_text().splitlines()[-1] == "cuDevicePrimaryCtxRelease leaks 0"


def test_what_one_image_costs(emulated: Emulated, fake_driver: Callable[..., None], tmp_path: Path) -> None:
    """After the first image: two copies, one graph and one wait; nothing is allocated."""
    fake_driver(FAKE_CUDA_TRACE=str(tmp_path / "trace.txt"))
    network = Network(Artifact(emulated.artifact))
    images = random_images(emulated.graph, 4, 0)
    network.run(images[:1])
    (tmp_path / "trace.txt").write_text("")
    sums, _ = network.run(images[1:])
    calls = [line.split()[0] for line in (tmp_path / "trace.txt").read_text().splitlines()]
    assert calls == ["cuMemcpyHtoDAsync", "cuGraphLaunch", "cuMemcpyDtoHAsync", "cuStreamSynchronize"] * 3
    np.testing.assert_array_equal(sums, run(emulated.graph, images[1:]))
    network.close()


def test_the_package_runs_the_same_code(emulated: Emulated, fake_driver: Callable[..., None]) -> None:
    fake_driver()
    images = random_images(emulated.graph, 3, 4)
    result = answers(TARGET, emulated.artifact, images, "cuda")
    np.testing.assert_array_equal(result.sums, run(emulated.graph, images))
    assert result.latency_ms.shape == (3,) and result.metrics["device_ms"] > 0
    assert result.metrics["code"] == "sm_90"


def test_the_tensors_between_the_kernels(emulated: Emulated, fake_driver: Callable[..., None], tmp_path: Path) -> None:
    """Launched one by one, copied one by one; the graph of a later run is what it was, and nothing is left over."""
    fake_driver(FAKE_CUDA_TRACE=str(tmp_path / "trace.txt"))
    network = Network(Artifact(emulated.artifact))
    (image,) = random_images(emulated.graph, 1, 0)
    seen = dict(network.trace(image))
    expected = dict(execute(emulated.graph, image))
    assert list(seen) == list(expected) and not network.unseen()
    for name, values in expected.items():
        np.testing.assert_array_equal(seen[name], values, name)
    np.testing.assert_array_equal(network.run(image[None])[0][0], expected[emulated.graph.head.name])
    with pytest.raises(ValueError, match="an image must be uint8"):
        list(network.trace(image[1:]))
    network.close()
    assert (tmp_path / "trace.txt").read_text().splitlines()[-1] == "cuDevicePrimaryCtxRelease leaks 0"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"FAKE_CUDA_INIT": "100"}, "finds no CUDA device"),
        ({"FAKE_CUDA_DEVICES": "0"}, "finds no CUDA device"),
        ({"FAKE_CUDA_INIT": "999"}, "does not start: fake error"),
        ({"FAKE_CUDA_CAPABILITY": "75"}, "this GPU is sm_75, the artifact was compiled for sm_90"),
        ({"FAKE_CUDA_CAPABILITY": "120", "FAKE_CUDA_LOAD": "222"}, "too old for kernels.sm_90.ptx: update it"),
        ({"LD_LIBRARY_PATH": ""}, "driver is not installed here: libcuda.so.1"),
    ],
)
def test_what_is_missing_is_named(emulated: Emulated, settings: dict[str, str], message: str) -> None:
    done = emulated.script(**settings)
    assert done.returncode == 3 and message in done.stderr and not done.stdout


def test_no_driver_in_the_package(emulated: Emulated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_side, "DRIVER", "libcuda-that-is-not-here.so.1")
    with pytest.raises(UnavailableError, match="driver is not installed"):
        answers(TARGET, emulated.artifact, random_images(emulated.graph, 1, 0), "cuda")
    gpu = next(entry for entry in TARGET.requirements() if entry.name == "NVIDIA GPU")
    assert gpu.found is None and "driver is not installed" in gpu.fix


def test_an_old_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "libcuda.so.1"
    command = ["cc", "-shared", "-x", "c", "-", "-o", str(library)]
    subprocess.run(command, input="int cuInit;", text=True, check=True)
    monkeypatch.setattr(device_side, "DRIVER", str(library))
    with pytest.raises(device_side.Unavailable, match=r"older than CUDA 11\.4, update it: .*cuDriverGetVersion"):
        device_side.Driver()


def test_only_numpy_and_the_standard_library_are_imported() -> None:
    """Of this package only what type checkers read."""
    nodes = list(ast.walk(ast.parse(Path(device_side.__file__).read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) == {"numpy", "squeezeedge"}


def test_a_missing_second_gpu(emulated: Emulated) -> None:
    done = emulated.script("--device", "1")
    assert done.returncode == 3 and "there is no CUDA device 1; the driver finds 1" in done.stderr


def test_newer_gpus_get_ptx(emulated: Emulated) -> None:
    done = emulated.script(FAKE_CUDA_CAPABILITY="120")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["code"] == "PTX of sm_90"


def test_a_jetson_executes_nothing_of_a_card(emulated: Emulated) -> None:
    """The driver is asked whether its GPU is part of a processor."""
    done = emulated.script(FAKE_CUDA_CAPABILITY="91")
    assert json.loads(done.stdout)["code"] == "sm_90", done.stderr
    done = emulated.script(FAKE_CUDA_CAPABILITY="91", FAKE_CUDA_INTEGRATED="1")
    assert json.loads(done.stdout)["code"] == "PTX of sm_90", done.stderr
    done = emulated.script(FAKE_CUDA_CAPABILITY="87", FAKE_CUDA_INTEGRATED="1")
    assert done.returncode == 3 and "this GPU is sm_87, an integrated one, the artifact was" in done.stderr


def test_wrong_golden_sums(emulated: Emulated, tmp_path: Path) -> None:
    copy = _copy(emulated, tmp_path)
    with np.load(copy.artifact / "golden.npz") as golden:
        np.savez(copy.artifact / "golden.npz", images=golden["images"], sums=golden["sums"] + 1)
    seal(copy.artifact)
    done = copy.script()
    assert done.returncode == 4 and "class sums differ" in done.stderr


def test_a_damaged_artifact(emulated: Emulated, tmp_path: Path) -> None:
    copy = _copy(emulated, tmp_path)
    constants = copy.artifact / "constants.bin"
    constants.write_bytes(constants.read_bytes()[:-1])
    done = copy.script()
    assert done.returncode == 1 and "constants.bin: differs from its checksum" in done.stderr
    seal(copy.artifact)
    done = copy.script()
    assert done.returncode == 1 and "constants.bin: not of this artifact" in done.stderr
    plan = json.loads((copy.artifact / "plan.json").read_text())
    plan["launches"][0]["arguments"][0][1] = 10**9
    (copy.artifact / "plan.json").write_text(json.dumps(plan))
    seal(copy.artifact)
    done = copy.script()
    assert done.returncode == 1 and "plan.json: damaged" in done.stderr
    assert "'1000000000' is not a whole number in 0.." in done.stderr


def test_a_kernel_with_too_few_arguments(emulated: Emulated, tmp_path: Path) -> None:
    """The driver takes as many as the kernel has, whatever the plan says."""
    copy = _copy(emulated, tmp_path)
    plan = json.loads((copy.artifact / "plan.json").read_text())
    for launch in plan["launches"]:
        del launch["arguments"][1:]
    (copy.artifact / "plan.json").write_text(json.dumps(plan))
    seal(copy.artifact)
    done = copy.script()
    assert done.returncode == 1 and "run.py: error: cuStreamSynchronize: fake error (700)" in done.stderr


def test_wrong_images_and_batches(emulated: Emulated, fake_driver: Callable[..., None]) -> None:
    fake_driver()
    with pytest.raises(SqueezeEdgeError, match=r"images must be uint8 \[N, 9, 11, 3\]"):
        answers(TARGET, emulated.artifact, np.zeros((1, 3, 3, 3), np.uint8), "cuda")
    network = Network(Artifact(emulated.artifact))
    with pytest.raises(ValueError, match=r"a batch has 1\.\."):
        network.buffers(network.plan["most_images"] + 1)
    network.close()


def _copy(emulated: Emulated, folder: Path) -> Emulated:
    copy = folder / "artifact"
    copy.mkdir()
    for path in emulated.artifact.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    return Emulated(copy, emulated.driver, emulated.graph)
