"""Artifacts: written whole or not at all, and every way in which one can be damaged is refused by name."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from squeezeedge import artifact as module
from squeezeedge.artifact import Artifact, compile, open_artifact, write_artifact
from squeezeedge.calib.fingerprint import fingerprints
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UnavailableError, UnsupportedError, UsageError
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.graph.sqe import read_sqe, write_sqe
from squeezeedge.model import GOLDEN_IMAGES, Model
from squeezeedge.networks.registry import DEFAULT
from squeezeedge.targets.protocol import Kind, Lowered, NetworkOpener, Target
from tests.graphs import random_graph, random_images
from tests.targets.device import fake_device
from tests.targets.devices import seal

GRAPH = random_graph(3)
GOLDEN = random_images(GRAPH, 2, 0)


@dataclass(frozen=True)
class Options:
    """Options of the FAKE target."""

    level: int = field(default=1, metadata={"help": "a number"})


class FakeTarget:
    """FAKE: its compiler writes one file; ``fault`` is what stops it half way.

    Attributes:
        steps: what was called, in order.
    """

    name = "fake"
    devices: Mapping[str, Kind] = {"fake": "hardware", "fake-emulation": "emulation"}
    remote: Collection[str] = ()
    options = Options
    device_module = fake_device.__name__

    def __init__(self, lower: BaseException | None = None, write: BaseException | None = None) -> None:
        self.fault, self.write_fault = lower, write
        self.steps: list[str] = []

    def check_options(self, options: Options) -> None:
        self.steps.append(f"check level {options.level}")
        if options.level > 9:
            raise UsageError(f"--level {options.level}: must be at most 9")

    def check_device(self, device: str, board: str | None, options: object = None) -> None:
        self.steps.append(f"check {device} on {board}")

    def lower(self, graph: IntegerGraph, options: Options) -> Lowered:
        self.steps.append("lower")
        if self.fault is not None:
            raise self.fault
        return FakeLowered(graph, options, self.write_fault)

    def network(self, device: str) -> NetworkOpener:
        return fake_device.Network


@dataclass
class FakeLowered:
    """What the FAKE target made of a graph."""

    graph: IntegerGraph
    options: Options
    fault: BaseException | None

    def write(self, folder: Path) -> dict[str, Any]:
        (folder / "weights.bin").write_bytes(np.ones(self.graph.classes, np.int32).tobytes())
        (folder / "logs").mkdir()
        (folder / "logs" / "tool.log").write_text("a log")
        if self.fault is not None:
            raise self.fault
        return {"level": self.options.level}


def install(monkeypatch: pytest.MonkeyPatch, target: FakeTarget) -> FakeTarget:
    """Make it the one target that there is."""

    def get_target(name: str) -> Target:
        if name != target.name:
            raise UsageError(f"no target {name!r}")
        return cast(Target, target)

    monkeypatch.setattr(module, "get_target", get_target)
    return target


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> FakeTarget:
    return install(monkeypatch, FakeTarget())


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact that is in order; tests change copies."""
    folder = tmp_path_factory.mktemp("sound") / "net"
    chosen = cast(Target, FakeTarget())
    write_artifact(GRAPH, chosen, Options(), folder, golden=GOLDEN, source={"network": "net"})
    return folder


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "copy"))


def manifest_of(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return values


def write_manifest(folder: Path, manifest: object) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest))


# What compile writes


def test_files_and_manifest(target: FakeTarget, tmp_path: Path) -> None:
    made = compile(GRAPH, "fake", tmp_path / "net", golden=GOLDEN, level=3)
    assert target.steps == ["check level 3", "lower"]
    files = {path.relative_to(made.path).as_posix() for path in made.path.rglob("*") if path.is_file()}
    listed = {"model.sqe", "golden.npz", "run.py", "device.py", "weights.bin", "logs/tool.log"}
    assert files == listed | {"manifest.json"} and [path.name for path in tmp_path.iterdir()] == ["net"]
    manifest = manifest_of(made.path)
    assert list(manifest) == [
        *("schema", "model", "target", "graph_sha256", "options", "source", "calibration", "input", "preprocessing"),
        *("labels", "logit_scale", "versions", "compiled", "files", "meaning_sha256"),
    ]
    assert manifest == json.loads(json.dumps(dict(made.manifest)))
    assert manifest["schema"] == 3 and manifest["model"] == GRAPH.name and manifest["target"] == "fake"
    assert manifest["options"] == manifest["compiled"] == {"level": 3}
    assert manifest["graph_sha256"] == GRAPH.digest() and manifest["input"] == list(GRAPH.input_shape)
    assert manifest["source"] == {"network": GRAPH.name} and manifest["labels"] == []
    assert manifest["logit_scale"] == GRAPH.head.scale.tolist()
    assert Preprocessing.from_json(manifest["preprocessing"]) == GRAPH.preprocessing
    assert set(manifest["versions"]) == {"squeezeedge", "python", "apache-tvm", "numpy"}
    assert manifest["files"].keys() == listed
    for name, entry in manifest["files"].items():
        data = (made.path / name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert (made.path / "device.py").read_bytes() == Path(fake_device.__file__).read_bytes()
    with np.load(made.path / "golden.npz") as golden:
        np.testing.assert_array_equal(golden["images"], GOLDEN)
        np.testing.assert_array_equal(golden["sums"], run(GRAPH, GOLDEN))


def test_the_folder_has_the_names_of_model_and_target(
    target: FakeTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert compile(GRAPH, "fake").path == Path(f"{GRAPH.name}-fake") and Path(f"{GRAPH.name}-fake").is_dir()


def test_golden_images_are_given_or_the_models_or_noise(target: FakeTarget, tmp_path: Path) -> None:
    model = replace(Model.of_graph(GRAPH), golden=GOLDEN[:1])
    assert (compile(model, "fake", tmp_path / "given", golden=GOLDEN).golden == GOLDEN).all()
    assert (compile(model, "fake", tmp_path / "model").golden == GOLDEN[:1]).all()
    noise = compile(GRAPH, "fake", tmp_path / "noise").golden
    assert noise.shape == (GOLDEN_IMAGES, *GRAPH.input_shape) and len(np.unique(noise)) > 50
    assert (compile(GRAPH, "fake", tmp_path / "again").golden == noise).all()


def test_an_artifact_opens_again(sound: Path, target: FakeTarget) -> None:
    opened = open_artifact(str(sound))
    assert opened.path == sound and opened.manifest == manifest_of(sound)
    assert opened.graph.digest() == GRAPH.digest() and opened.labels == GRAPH.labels
    assert cast(object, opened.target) is target and (opened.golden == GOLDEN).all()
    assert opened.model_bytes == 4 * GRAPH.classes, "what the device loads: no log, script or graph"


def test_the_float_network_is_known_if_it_is_the_embedded_one(sound: Path) -> None:
    opened = open_artifact(sound)
    assert opened.reference() is None
    of_other = Artifact(sound, {**opened.manifest, "source": {"network": DEFAULT, "sha256": "0" * 64}})
    assert of_other.reference() is None, "that network with other weights"
    path = sound.parent / "other.sqe"
    write_sqe(GRAPH, path)
    source = {"network": "net", "weights": "first.pth", "sha256": "0" * 64}
    with pytest.raises(
        UsageError, match=r"other\.sqe: .* was made of another file, first\.pth \(SHA-256 0000000000000000"
    ):
        Artifact(sound, {**opened.manifest, "source": source}).reference(path)


def test_the_images_calibrated_on_are_known(target: FakeTarget, tmp_path: Path) -> None:
    prints = fingerprints(GOLDEN)
    model = replace(Model.of_graph(GRAPH), calibrated_on=frozenset(prints))
    made = compile(model, "fake", tmp_path / "net")
    assert made.calibrated_on == open_artifact(made.path).calibrated_on == frozenset(prints)
    assert manifest_of(made.path)["calibration"] == {"images": 2, "fingerprints": sorted(prints)}
    without = manifest_of(made.path)
    del without["calibration"]
    write_manifest(made.path, without)
    assert open_artifact(made.path).calibrated_on == frozenset(), "an artifact of before"
    damages: list[object] = [None, [], {}, {"fingerprints": {}}, {"fingerprints": [1]}]
    for damage in damages:
        write_manifest(made.path, {**without, "calibration": damage})
        with pytest.raises(CorruptFileError, match="'calibration' is damaged"):
            open_artifact(made.path)


def test_devices_open(sound: Path, target: FakeTarget) -> None:
    artifact = open_artifact(sound)
    with artifact.open() as device:
        assert (device.name, device.kind) == ("fake", "hardware")
        assert device.run(GOLDEN).sums.shape == (2, GRAPH.classes)
    with artifact.open("fake-emulation") as device:
        assert (device.name, device.kind) == ("fake-emulation", "emulation")
    assert target.steps == ["check fake on None", "check fake-emulation on None"]
    with pytest.raises(UsageError, match="target fake has no device 'tpu'; it has: fake, fake-emulation"):
        with artifact.open("tpu"):
            pass
    with pytest.raises(UsageError, match="device fake runs on this machine only"):
        with artifact.open(board="me@there"):
            pass


# What compile refuses, and what stops it


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"target": "abacus"}, "no target 'abacus'"),
        ({"speed": 9}, "target fake has no option 'speed'; it has level"),
        ({"level": 10}, "--level 10: must be at most 9"),
        ({"golden": GOLDEN[0]}, r"golden images are uint8 \[\d+, \d+, 3\]; they must be uint8 \[n, \d+, \d+, 3\]"),
        ({"golden": GOLDEN[:, 1:]}, "golden images are uint8"),
        ({"golden": GOLDEN[:0]}, r"golden images are uint8 \[0, "),
        ({"golden": GOLDEN.astype(np.float32)}, "golden images are float32"),
    ],
)
def test_arguments_that_are_refused(target: FakeTarget, tmp_path: Path, arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        compile(GRAPH, **{"target": "fake", "out": tmp_path / "out", **arguments})
    assert not list(tmp_path.iterdir()) and "lower" not in target.steps


def test_a_model_that_is_not_quantized_is_refused(target: FakeTarget, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not quantized; quantize it on some images first"):
        compile(replace(Model.of_graph(GRAPH), integer=None), "fake", tmp_path / "out")


def test_a_folder_that_exists_or_has_no_parent(target: FakeTarget, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(
        UsageError, match=r"file: exists already; choose another output \(`out`\) or replace it \(`force`\)"
    ):
        compile(GRAPH, "fake", tmp_path / "file")
    for parent in ("no", "file"):
        with pytest.raises(UsageError, match="its parent folder does not exist"):
            compile(GRAPH, "fake", tmp_path / parent / "out")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["kept"] and target.steps == []


@pytest.mark.parametrize("phase", ["lower", "write"])
@pytest.mark.parametrize(
    "stop", [UnsupportedError("conv1: too large; make it smaller"), KeyboardInterrupt(), RuntimeError("a bug")]
)
def test_a_target_that_stops_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, phase: str, stop: BaseException
) -> None:
    install(monkeypatch, FakeTarget(**{phase: stop}))
    with pytest.raises(type(stop)) as failure:
        compile(GRAPH, "fake", tmp_path / "out")
    assert failure.value is stop and not list(tmp_path.iterdir())


@pytest.mark.parametrize("step", ["write_sqe", "run"])
def test_a_full_disk_leaves_nothing(
    target: FakeTarget, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, step, full)
    with pytest.raises(SqueezeEdgeError) as failure:
        compile(GRAPH, "fake", tmp_path / "out")
    assert str(failure.value) == f"{tmp_path / 'out'}: cannot be written: No space left on device"
    assert not list(tmp_path.iterdir())


def test_who_is_later_leaves_the_other_ones(
    target: FakeTarget, sound: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def write_late(graph: IntegerGraph, path: Path) -> None:
        write_sqe(graph, path)
        shutil.copytree(sound, out)

    monkeypatch.setattr(module, "write_sqe", write_late)
    with pytest.raises(UsageError, match="out: another process has written it meanwhile"):
        compile(GRAPH, "fake", out)
    assert manifest_of(out) == manifest_of(sound) and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_target_without_a_device_program(target: FakeTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_such_package.device", "tests.no_such_module"):
        monkeypatch.setattr(target, "device_module", name, raising=False)
        with pytest.raises(SqueezeEdgeError, match=f"{name}: no such module"):
            compile(GRAPH, "fake", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_artifact_is_replaced_by_force_once_the_new_one_is_whole(
    target: FakeTarget, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = manifest_of(copy)
    (copy / "__pycache__").mkdir()
    monkeypatch.setattr(target, "write_fault", RuntimeError("half way"))
    with pytest.raises(RuntimeError, match="half way"):
        compile(GRAPH, "fake", copy, level=5, force=True)
    assert manifest_of(copy) == before and open_artifact(copy).golden.shape == GOLDEN.shape
    monkeypatch.setattr(target, "write_fault", None)
    made = compile(GRAPH, "fake", copy, level=5, force=True)
    assert made.path == copy and manifest_of(copy)["options"] == {"level": 5} and not (copy / "__pycache__").exists()
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]
    open_artifact(copy)


@pytest.mark.parametrize("content", [None, "", "[]", '{"name": "an extension", "manifest_version": 3}'])
def test_force_replaces_nothing_but_artifacts(target: FakeTarget, tmp_path: Path, content: str | None) -> None:
    out = tmp_path / "work"
    out.mkdir()
    (out / "thesis.tex").write_text("years of it")
    if content is not None:
        (out / "manifest.json").write_text(content)
    with pytest.raises(UsageError, match="work: is no artifact, so `force` does not replace it"):
        compile(GRAPH, "fake", out, force=True)
    with pytest.raises(UsageError, match=r"thesis\.tex: is no artifact, so `force` does not replace it"):
        compile(GRAPH, "fake", out / "thesis.tex", force=True)
    assert (out / "thesis.tex").read_text() == "years of it" and target.steps == []


def test_a_broken_link_is_there(target: FakeTarget, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("nowhere")
    with pytest.raises(UsageError, match="out: exists already"):
        compile(GRAPH, "fake", tmp_path / "out")
    assert target.steps == []


@pytest.mark.slow
def test_what_a_killed_compile_left_is_cleared_by_the_next(sound: Path, tmp_path: Path) -> None:
    """The process is killed while its target writes; a live one beside it keeps its folder."""
    code = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from tests import test_artifact as t\n"
        "class Target(t.FakeTarget):\n"
        "    def lower(self, graph, options):\n"
        "        made = t.FakeLowered(graph, options, None)\n"
        "        whole = made.write\n"
        "        def write(folder):\n"
        "            whole(folder)\n"
        "            print('half way', flush=True)\n"
        "            time.sleep(100)\n"
        "        made.write = write\n"
        "        return made\n"
        "t.write_artifact(t.GRAPH, Target(), t.Options(), Path(sys.argv[1]), golden=t.GOLDEN, source={})\n"
    )
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", code]
    runs = [
        subprocess.Popen([*command, str(tmp_path / name)], cwd=root, stdout=subprocess.PIPE, text=True)
        for name in ("dead", "live")
    ]
    try:
        for run_ in runs:
            assert run_.stdout is not None and run_.stdout.readline() == "half way\n"
        assert len(list(tmp_path.iterdir())) == 2
        runs[0].kill()
        runs[0].wait()
        chosen = cast(Target, FakeTarget())
        write_artifact(GRAPH, chosen, Options(), tmp_path / "next", golden=GOLDEN, source={})
        live, made = sorted(path.name for path in tmp_path.iterdir())
        assert made == "next" and live.startswith(".live.sqe-") and (tmp_path / live / "weights.bin").exists()
    finally:
        for run_ in runs:
            run_.kill()
            run_.wait()
            assert run_.stdout is not None
            run_.stdout.close()


# What is damaged


@pytest.mark.parametrize("name", ["model.sqe", "golden.npz", "run.py", "device.py", "weights.bin", "logs/tool.log"])
@pytest.mark.parametrize("damage", ["truncated", "changed", "missing", "a folder"])
def test_a_file_that_is_not_as_it_was(copy: Path, name: str, damage: str) -> None:
    path, data = copy / name, bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    if damage in ("missing", "a folder"):
        path.unlink()
        reason = "No such file or directory; copy the artifact again, or compile the model again"
    else:
        path.write_bytes(data if damage == "changed" else data[:-1])
        reason = r"differs from its checksum in manifest\.json; copy the artifact again, or compile the model again"
    if damage == "a folder":
        path.mkdir()
        reason = r"differs from its checksum in manifest\.json; .*"
    with pytest.raises(CorruptFileError, match=f"^{path}: {reason}$"):
        open_artifact(copy)


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"schema": 3,}', b"\xff\xfe{}", b"[" * 100_000, b'{"schema": ' + b"1" * 9999 + b"}"]
)
def test_a_manifest_that_is_not_json(copy: Path, content: bytes) -> None:
    (copy / "manifest.json").write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"manifest\.json: not readable as JSON: .*; compile the model again$"):
        open_artifact(copy)


@pytest.mark.parametrize("manifest", [None, 3, "3", [], [3], {}, {"schema": 2}, {"schema": 4}, {"schema": "3"}])
def test_another_schema(copy: Path, manifest: object) -> None:
    found = manifest.get("schema") if isinstance(manifest, dict) else None
    write_manifest(copy, manifest)
    with pytest.raises(CorruptFileError, match=f"schema {found!r}; this version reads 3; compile the model again"):
        open_artifact(copy)


@pytest.mark.parametrize(
    "key", ["model", "target", "graph_sha256", "options", "source", "versions", "compiled", "files"]
)
@pytest.mark.parametrize("value", ["missing", None, 3, ["a"]])
def test_an_entry_that_is_missing_or_of_another_kind(copy: Path, key: str, value: object) -> None:
    manifest = manifest_of(copy)
    del manifest[key]
    write_manifest(copy, manifest if value == "missing" else manifest | {key: value})
    with pytest.raises(CorruptFileError, match=f"'{key}' is missing or damaged; compile the model again"):
        open_artifact(copy)


@pytest.mark.parametrize("name", ["model.sqe", "golden.npz"])
def test_a_file_that_is_needed_and_not_listed(copy: Path, name: str) -> None:
    manifest = manifest_of(copy)
    del manifest["files"][name]
    write_manifest(copy, manifest)
    with pytest.raises(CorruptFileError, match=f"lists no file named {name}; compile the model again"):
        open_artifact(copy)


@pytest.mark.parametrize("entry", [None, 3, "bytes sha256", ["bytes", "sha256"], {}, {"bytes": 1}, {"sha256": ""}])
def test_the_entry_of_a_file(copy: Path, entry: object) -> None:
    manifest = manifest_of(copy)
    write_manifest(copy, manifest | {"files": manifest["files"] | {"weights.bin": entry}})
    with pytest.raises(CorruptFileError, match=r"the entry of weights\.bin is damaged; compile the model again"):
        open_artifact(copy)


@pytest.mark.parametrize("change", [{"bytes": "16"}, {"bytes": None}, {"bytes": -1}, {"sha256": 0}, {"sha256": ""}])
def test_the_checksum_of_a_file(copy: Path, change: dict[str, object]) -> None:
    manifest = manifest_of(copy)
    manifest["files"]["weights.bin"] |= change
    write_manifest(copy, manifest)
    with pytest.raises(CorruptFileError, match=r"weights\.bin(: differs from its checksum|'\)\); copy)"):
        open_artifact(copy)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../secret", "names a file outside the artifact"),
        ("logs/../../secret", "names a file outside the artifact"),
        ("/etc/passwd", "names a file outside the artifact"),
        ("link", "names a file outside the artifact"),
        ("", "names a file outside the artifact"),
        ("logs/../weights.bin", "names a file outside the artifact"),
        ("./weights.bin", "names a file outside the artifact"),
        ("logs//tool.log", "names a file outside the artifact"),
        ("FOLDER/weights.bin", "names a file outside the artifact"),
        ("folder-link/secret", "names a file outside the artifact"),
        ("folder-link/none", "names a file outside the artifact"),
        ("logs", "logs: differs from its checksum"),
        ("circle", "no file can have the name|circle: "),
        ("nul\0", "no file can have the name"),
        ("half \ud800", "no file can have the name 'half .ud800'"),
        ("byte \udcff", "no file can have the name"),
        ("n" * 5000, "no file can have the name"),
    ],
)
def test_names_of_files_that_cannot_be(copy: Path, name: str, reason: str) -> None:
    (copy.parent / "secret").write_text("secret")
    (copy / "link").symlink_to(copy.parent / "secret")
    (copy / "folder-link").symlink_to(copy.parent)
    (copy / "circle").symlink_to("circle")
    name = name.replace("FOLDER", str(copy))
    (copy / "weights.bin").write_bytes(
        b"changed, and not looked at: names come first" * (name not in ("logs", "circle"))
    )
    manifest = manifest_of(copy)
    if name in ("logs", "circle"):
        manifest["files"] = {key: entry for key, entry in manifest["files"].items() if key != "weights.bin"}
    manifest["files"][name] = {"bytes": 6, "sha256": hashlib.sha256(b"secret").hexdigest()}
    write_manifest(copy, manifest)
    with pytest.raises(CorruptFileError, match=reason):
        open_artifact(copy)


def test_another_graph_or_golden_file_with_its_checksum(copy: Path) -> None:
    write_sqe(random_graph(4), copy / "model.sqe")
    (copy / "golden.npz").write_bytes(b"nothing yet")
    seal(copy)
    artifact = open_artifact(copy)
    with pytest.raises(
        CorruptFileError, match=r"model\.sqe: is not the graph that manifest\.json names; compile the model again"
    ):
        _ = artifact.graph
    np.savez(copy.parent / "other.npz", sums=np.zeros(3))
    for content in (b"no arrays", b"", b"PK\x03\x04", (copy.parent / "other.npz").read_bytes()):
        (copy / "golden.npz").write_bytes(content)
        with pytest.raises(CorruptFileError, match=r"golden\.npz: differs from its checksum"):
            _ = artifact.golden
        seal(copy)
        with pytest.raises(CorruptFileError, match=r"golden\.npz: damaged .*compile the model again"):
            _ = artifact.golden
    assert read_sqe(copy / "model.sqe").digest() != GRAPH.digest()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def somewhere(values: Any, pick: Callable[[int], int], new: object) -> Any:  # noqa: ANN401  (JSON)
    """The JSON value with one place in it, picked step by step, replaced."""
    if isinstance(values, dict) and values and pick(4):
        key = list(values)[pick(len(values))]
        return {**values, key: somewhere(values[key], pick, new)}
    return new


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), new=JSON)
def test_any_change_is_harmless_or_refused(sound: Path, tmp_path: Path, data: st.DataObject, new: object) -> None:
    folder = tmp_path / "changed"
    if not folder.exists():
        shutil.copytree(sound, folder)
    changed = somewhere(manifest_of(sound), lambda count: data.draw(st.integers(0, count - 1)), new)
    write_manifest(folder, changed)
    try:
        opened = open_artifact(folder)
    except CorruptFileError as error:
        assert str(folder) in str(error)
    else:
        assert opened.model_bytes <= 4 * GRAPH.classes and (opened.golden == GOLDEN).all()


def test_a_target_that_no_package_has(copy: Path) -> None:
    write_manifest(copy, manifest_of(copy) | {"target": "abacus"})
    with pytest.raises(UnavailableError, match=f"^{copy}: no target 'abacus'; .*; install the package that added"):
        _ = open_artifact(copy).target
