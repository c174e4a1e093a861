"""The artifact's run.py and device.py: as a program, and through a session."""

from __future__ import annotations

import ast
import ctypes
import getpass
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.artifact import write_artifact
from squeezeedge.errors import SqueezeEdgeError, UnavailableError, UsageError
from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.graph.oracle import execute, run
from squeezeedge.targets.cpu import device as device_side
from squeezeedge.targets.cpu.device import THREADS_VARIABLE, Network, Unavailable, machine_of, variant_entry
from squeezeedge.targets.cpu.options import CpuOptions
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.registry import get_target
from squeezeedge.targets.session import open_session
from tests.graphs import GraphBuilder, random_images
from tests.targets.cpu.conftest import available
from tests.targets.devices import CHECKOUT, FakeBoard, answers, seal

LIBRARY = "librandom.so"

TARGET = get_target("cpu")


@pytest.fixture(scope="module")
def graph(two_layers: IntegerGraph) -> IntegerGraph:
    return two_layers


@pytest.fixture(scope="module")
def images(graph: IntegerGraph) -> NDArray[np.uint8]:
    return random_images(graph, 5, 1)


@pytest.fixture(scope="module")
def artifact(graph: IntegerGraph, images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cpu") / "artifact"
    return write_artifact(graph, TARGET, CpuOptions(isa="generic"), out, golden=images[:2], source={}).path


@pytest.fixture
def copy(artifact: Path, tmp_path: Path) -> Path:
    """One that may be changed."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in artifact.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def used(threads: int) -> int:
    """How many threads run where so many are asked for."""
    return min(threads, len(os.sched_getaffinity(0)))


def script(artifact: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """run.py as a machine with numpy only runs it."""
    command = [sys.executable, "-I", str(artifact / "run.py"), *map(str, arguments)]
    settings = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(command, env=settings, capture_output=True, text=True, check=False)


def test_the_script_checks_itself_and_classifies(
    artifact: Path, graph: IntegerGraph, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    np.save(tmp_path / "images.npy", images)
    done = script(artifact, "--check", tmp_path / "images.npy", "--threads", 3, "--sums", "--top", 1)
    assert done.returncode == 0, done.stderr
    check, *printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert {key: check[key] for key in ("golden", "differing_sums", "threads")} == {
        "golden": 2,
        "differing_sums": 0,
        "threads": used(3),
    }
    expected = run(graph, images)
    assert [line["sums"] for line in printed] == expected.tolist()
    assert [line["classes"] for line in printed] == graph.logits(expected).argmax(1)[:, None].tolist()
    assert all(line["latency_ms"] > 0 for line in printed)


@pytest.mark.parametrize("threads", [1, 4])
def test_through_a_session(
    artifact: Path, graph: IntegerGraph, images: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setenv(THREADS_VARIABLE, str(threads))
    result = answers(TARGET, artifact, images, "cpu")
    np.testing.assert_array_equal(result.sums, run(graph, images))
    assert result.metrics == {"threads": used(threads), "isa": "generic"} and (result.latency_ms > 0).all()


@pytest.mark.slow
@pytest.mark.slow
def test_the_tensors_between_the_kernels(copy: Path, images: NDArray[np.uint8], graph: IntegerGraph) -> None:
    """Read where trace.json says; refused where that is of another library."""
    network = Network(Artifact(copy))
    for image in images[:2]:
        found, expected = dict(network.trace(image)), dict(execute(graph, image))
        assert list(found) == list(expected) and not network.unseen()
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, name)
    with pytest.raises(ValueError, match=r"an image must be uint8 \[9, 8, 3\]"):
        next(network.trace(images))
    network.close()
    record = json.loads((copy / "trace.json").read_text())
    for key, value in (("step", 99), ("runs", [[10**6, 9]])):
        changed = {**record, "tensors": [{**record["tensors"][0], key: value}]}
        (copy / "trace.json").write_text(json.dumps(changed))
        seal(copy)
        network = Network(Artifact(copy))
        with pytest.raises(ValueError, match=r"trace\.json is of another library; compile the model again"):
            next(network.trace(images[0]))
        network.close()


@pytest.fixture(scope="module")
def several(graph: IntegerGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact with kernels for two instruction sets, of which the better one has another order of channels."""
    available("avx2")
    out, golden = tmp_path_factory.mktemp("several") / "artifact", random_images(graph, 2, 0)
    return write_artifact(graph, TARGET, CpuOptions(isa="generic,avx2"), out, golden=golden, source={}).path


@pytest.mark.slow
def test_of_several_instruction_sets_the_best_runs(
    several: Path, images: NDArray[np.uint8], graph: IntegerGraph, tmp_path: Path
) -> None:
    """Or the one that is asked for; each with its own places of tensors, memory and listing."""
    opened = Artifact(several)
    assert opened.compiled["isa"] == "avx2,generic" and "workspace_bytes" not in opened.compiled
    expected = dict(execute(graph, images[0]))
    for asked, isa in ((None, "avx2"), ("generic", "generic")):
        network = Network(opened, 2, isa=asked)
        np.testing.assert_array_equal(network.run(images)[0], run(graph, images))
        assert network.about()["isa"] == isa
        for name, values in network.trace(images[0]):
            np.testing.assert_array_equal(values, expected[name], name)
        assert len(variant_entry(opened, isa)["layers"]) == network.kernel_times(images[0], 1)[1].shape[1] - 1
        network.close()
    done = script(several, "--isa", "neon")
    assert done.returncode == 2 and not done.stdout
    assert "--isa neon: the library has no kernels for this instruction set, only for avx2, generic" in done.stderr
    with pytest.raises(ValueError, match="does not describe the kernels for neon; compile again"):
        variant_entry(opened, "neon")
    np.save(tmp_path / "images.npy", images)
    done = script(several, "--check", "--isa", "generic")
    assert done.returncode == 0 and json.loads(done.stdout)["isa"] == "generic"
    functions = [line for line in TARGET.listing(several, graph.nodes[0].name) if line.endswith(">:")]
    assert {re.sub(r".*<(__tvm_ffi_)?|_stage.*", "", line) for line in functions} == {"avx2", "generic"}


def test_times_of_the_kernels(artifact: Path, images: NDArray[np.uint8], graph: IntegerGraph) -> None:
    network = Network(Artifact(artifact))
    sums, clock = network.kernel_times(images[1], 3)
    np.testing.assert_array_equal(sums, run(graph, images[1:2])[0])
    layers = Artifact(artifact).compiled["layers"]
    assert clock.shape == (3, len(layers) + 1) and not clock[:, 0].any() and (np.diff(clock, axis=1) >= 0).all()
    assert [layer["name"] for layer in layers] == [IMAGE, *(node.name for node in graph.nodes)]
    assert sum(layer["macs"] for layer in layers) == graph.macs and layers[0]["macs"] == 0
    assert all(layer["bytes"] > node.weight.nbytes for layer, node in zip(layers[1:], graph.convolutions, strict=True))
    with pytest.raises(ValueError, match=r"an image must be uint8 \[9, 8, 3\]"):
        network.kernel_times(images, 1)
    network._profile = None
    with pytest.raises(ValueError, match="the library tells no times; compile the model again"):
        network.kernel_times(images[0], 1)
    network.close()


def test_on_another_machine(
    artifact: Path, graph: IntegerGraph, images: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = FakeBoard(tmp_path, monkeypatch, python=f"{sys.executable} -I", SQUEEZEEDGE_THREADS=2)
    result = answers(TARGET, artifact, images, "cpu", "user@board")
    np.testing.assert_array_equal(result.sums, run(graph, images))
    assert result.metrics == {"threads": used(2), "isa": "generic"} and board.calls == ["ssh"] * 3


@pytest.mark.slow
@pytest.mark.tool
def test_evaluated_over_a_real_ssh(
    artifact: Path, graph: IntegerGraph, images: NDArray[np.uint8], tmp_path: Path, loopback: Path
) -> None:
    """By the command line, which says that the bits are the oracle's."""
    np.savez(tmp_path / "data.npz", images=images, labels=run(graph, images).argmax(1))
    device = ["--device", "cpu", "--board", f"{getpass.getuser()}@loopback"]
    options = ["--data", str(tmp_path / "data.npz"), "--require-bit-exact", "--json"]
    command = [sys.executable, "-m", "squeezeedge", "eval", str(artifact), *device, *options]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}
    )
    assert done.returncode == 0, done.stderr
    (report,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (report["device"], report["images"], report["bit_exact"]) == ("cpu", 5, True)
    assert "Accepted publickey" in loopback.read_text()


@pytest.mark.parametrize("value", ["x", "0", "-1", "65", "1.5", "", "²", "4294967297"])
def test_nonsense_threads(artifact: Path, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(THREADS_VARIABLE, value)
    with pytest.raises(
        ValueError, match=rf"variable {THREADS_VARIABLE}: '{value}' is not a number of threads: 1 to 64"
    ):
        Network(Artifact(artifact))


@pytest.mark.parametrize("threads", [0, -1, 65, 2**32 + 1])
def test_nonsense_threads_are_not_cut_to_32_bits(artifact: Path, threads: int) -> None:
    with pytest.raises(ValueError, match=f"{threads} is not a number of threads: 1 to 64"):
        Network(Artifact(artifact), threads)


@pytest.mark.slow
def test_nonsense_threads_are_one_line(artifact: Path) -> None:
    done = script(artifact, SQUEEZEEDGE_THREADS="many")
    assert done.returncode == 1 and not done.stdout
    text = "environment variable SQUEEZEEDGE_THREADS: 'many' is not a number of threads: 1 to 64"
    assert done.stderr == f"run.py: error: {text}\n"
    assert script(artifact, "--threads", 1, SQUEEZEEDGE_THREADS="many").returncode == 0
    done = script(artifact, "--threads", "many")
    assert done.returncode == 2 and "'many' is not a number of threads" in done.stderr
    done = script(artifact, "--threads", 2**32 + 1)
    assert done.returncode == 2 and "'4294967297' is not a number of threads" in done.stderr


def test_as_many_threads_as_processors_but_not_more_than_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(THREADS_VARIABLE, raising=False)
    for count, expected in ((3, 3), (64, 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, count=count: set(range(count)))
        assert device_side.default_threads() == expected


def test_a_library_of_another_processor(copy: Path, images: NDArray[np.uint8]) -> None:
    library = bytearray((copy / LIBRARY).read_bytes())
    here = machine_of(copy / LIBRARY)
    library[18:20] = (243).to_bytes(2, "little")  # the ELF header's machine
    (copy / LIBRARY).write_bytes(library)
    with pytest.raises(SqueezeEdgeError, match=r"random\.so: differs from its checksum"):
        answers(TARGET, copy, images, "cpu")
    seal(copy)
    text = rf"{LIBRARY}: compiled for riscv, and this machine is {here}: run it there, or compile for this one"
    with pytest.raises(UnavailableError, match=rf"{text} \(--mtriple\); or use `board` user@host$"):
        answers(TARGET, copy, images, "cpu")
    done = script(copy)
    assert done.returncode == 3 and text in done.stderr


def test_a_damaged_library_is_not_loaded(copy: Path, artifact: Path) -> None:
    """Of copies that were cut off (mapped, they would end the process) or have one bit flipped."""
    whole = (artifact / LIBRARY).read_bytes()
    places = np.random.default_rng(0).integers(0, 8 * len(whole), 60)
    flipped = [bytearray(whole) for _ in places]
    for one, place in zip(flipped, places.tolist(), strict=True):
        one[place // 8] ^= 1 << place % 8
    cut = [whole[: len(whole) * part // 8] for part in range(8)]
    for content in (*cut, whole[:-1], whole + b"\0", *map(bytes, flipped)):
        (copy / LIBRARY).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{LIBRARY}: differs from its checksum in manifest\.json; copy the"):
            Network(Artifact(copy), 1)
    (copy / LIBRARY).write_bytes(whole)
    Network(Artifact(copy), 1).close()
    (copy / LIBRARY).write_bytes(cut[4])
    done = script(copy)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "differs from its checksum" in done.stderr


def test_a_library_that_cannot_be_loaded(copy: Path) -> None:
    (copy / LIBRARY).write_bytes((copy / LIBRARY).read_bytes()[:100])
    seal(copy)
    with pytest.raises(Unavailable, match=rf"{LIBRARY}: can't be loaded here: "):
        Network(Artifact(copy))


@pytest.mark.parametrize("prefix", [None, 3, "", "../random", "random-3", "random\n", "\0"])
def test_a_manifest_that_names_no_library(copy: Path, prefix: object) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["compiled"]["prefix"] = prefix
    (copy / "manifest.json").write_text(json.dumps(manifest))
    seal(copy)
    with pytest.raises(ValueError, match="the manifest names no library; compile the model again"):
        Network(Artifact(copy))


def test_a_library_that_the_manifest_does_not_list(copy: Path) -> None:
    """It is not loaded: no checksum says that it is ours."""
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["compiled"]["prefix"] = "other"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    seal(copy)
    (copy / "libother.so").write_bytes((copy / LIBRARY).read_bytes())
    with pytest.raises(ValueError, match=r"libother\.so: manifest\.json does not list it"):
        Network(Artifact(copy))
    seal(copy)
    with pytest.raises(ValueError, match=r"libother\.so: another library .*other_api_version.*compile the model again"):
        Network(Artifact(copy))


@pytest.fixture(scope="module")
def other(graph: IntegerGraph, tmp_path_factory: pytest.TempPathFactory) -> tuple[IntegerGraph, Path]:
    """Another network of the same name, and its artifact."""
    builder = GraphBuilder(np.random.default_rng(1), (6, 7))
    made = builder.finish(builder.conv(IMAGE, 5), 4, graph_name=graph.name)
    out = tmp_path_factory.mktemp("other") / "artifact"
    options = CpuOptions(isa="generic")
    return made, write_artifact(made, TARGET, options, out, golden=random_images(made, 2, 0), source={}).path


def test_two_networks_in_one_process(
    artifact: Path, images: NDArray[np.uint8], graph: IntegerGraph, other: tuple[IntegerGraph, Path]
) -> None:
    """Python opens both, though their names are equal."""
    second_graph, path = other
    others = random_images(second_graph, 2, 0)
    with open_session(artifact, TARGET, "cpu") as first, open_session(path, TARGET, "cpu") as second:
        np.testing.assert_array_equal(second.run(others).sums, run(second_graph, others))
        np.testing.assert_array_equal(first.run(images).sums, run(graph, images))


def test_one_path_with_another_network(
    artifact: Path, graph: IntegerGraph, other: tuple[IntegerGraph, Path], tmp_path: Path
) -> None:
    """The system knows a library by its path; what answers is what lies there now."""
    for made, source in [(graph, artifact), other] * 3:
        folder = tmp_path / "artifact"
        if folder.exists():
            shutil.rmtree(folder)
        shutil.copytree(source, folder)
        images = random_images(made, 2, 0)
        np.testing.assert_array_equal(answers(TARGET, folder, images, "cpu").sums, run(made, images))


def test_two_sessions_on_one_artifact(artifact: Path, images: NDArray[np.uint8], graph: IntegerGraph) -> None:
    expected = run(graph, images)
    with open_session(artifact, TARGET, "cpu") as first:
        for _ in range(20):
            with open_session(artifact, TARGET, "cpu") as second:
                np.testing.assert_array_equal(second.run(images).sums, expected)
            with pytest.raises(UsageError, match="cpu: the device is closed"):
                second.run(images)
        np.testing.assert_array_equal(first.run(images).sums, expected)


def test_without_a_folder_for_programs(
    artifact: Path,
    images: NDArray[np.uint8],
    graph: IntegerGraph,
    other: tuple[IntegerGraph, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """None can be written, or nothing in it is executed, as where it is mounted so."""
    load = ctypes.CDLL

    def refuse(name: str) -> ctypes.CDLL:
        if not name.startswith("/proc/self/fd/"):
            raise OSError("failed to map segment from shared object")
        return load(name)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    before, files = mapped(), len(list(Path("/proc/self/fd").iterdir()))
    second_graph, path = other
    others = random_images(second_graph, 2, 0)
    for _ in range(3):
        with open_session(artifact, TARGET, "cpu") as first, open_session(path, TARGET, "cpu") as second:
            np.testing.assert_array_equal(second.run(others).sums, run(second_graph, others))
            np.testing.assert_array_equal(first.run(images).sums, run(graph, images))
        with open_session(path, TARGET, "cpu") as second:  # now from the descriptor that was the first's
            np.testing.assert_array_equal(second.run(others).sums, run(second_graph, others))
    assert mapped() == before and len(list(Path("/proc/self/fd").iterdir())) == files


def mapped() -> list[str]:
    """Files of libraries of ours that are in this process's memory."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return sorted({line.split(maxsplit=5)[5] for line in lines if LIBRARY in line})


@pytest.mark.slow
def test_nothing_stays_of_closed_networks(copy: Path, images: NDArray[np.uint8], graph: IntegerGraph) -> None:
    before, threads, expected = mapped(), threading.active_count(), run(graph, images[:1])
    tasks = len(list(Path("/proc/self/task").iterdir()))
    first = Network(Artifact(copy), threads=2)
    for turn in range(200):
        network = Network(Artifact(copy), threads=1 + turn % 3)
        if turn % 20 == 0:
            np.testing.assert_array_equal(network.run(images[:1])[0], expected)
        network.close()
        network.close()  # a second time is nothing
    np.testing.assert_array_equal(first.run(images[:1])[0], expected)
    assert len(mapped()) == len(before) + 1
    first.close()
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["logit_scale"].append(1.0)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    seal(copy)
    with pytest.raises(ValueError, match="the library of another network"):
        Network(Artifact(copy))
    assert mapped() == before, "also of one that did not open"
    assert threading.active_count() == threads and len(list(Path("/proc/self/task").iterdir())) == tasks


def test_a_library_of_another_network(copy: Path, images: NDArray[np.uint8]) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["logit_scale"].append(1.0)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    seal(copy)
    with pytest.raises(SqueezeEdgeError, match=rf"{LIBRARY}: the library of another network"):
        answers(TARGET, copy, images, "cpu")


def test_images_of_another_shape(artifact: Path, images: NDArray[np.uint8]) -> None:
    wrongs: list[NDArray[Any]] = [images[:, 1:], images[0], images.astype(np.float32)]
    for wrong in wrongs:
        with pytest.raises(SqueezeEdgeError, match=r"images must be uint8 \[N, \d+, \d+, 3\]"):
            answers(TARGET, artifact, wrong, "cpu")


def test_only_numpy_and_the_standard_library_are_imported() -> None:
    """Of this package only what type checkers read."""
    nodes = list(ast.walk(ast.parse(Path(device_side.__file__).read_text(), feature_version=(3, 8))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) == {"numpy", "squeezeedge"}


def test_what_is_missing_is_listed() -> None:
    names = {requirement.name for requirement in TARGET.requirements()}
    assert names == {"C compiler", "processor", "ssh (another machine)"}
