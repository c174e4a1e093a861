"""Targets of other packages: found by their entry point, compiled for and run, or refused with one clear error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import UsageError
from squeezeedge.graph import IMAGE, Head, IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.graph.sqe import write_sqe
from squeezeedge.targets.registry import all_targets, device_target, emulation, get_target
from tests.graphs import random_images
from tests.targets.devices import CHECKOUT

TARGET = '''"""A target of another package: it has a network of one convolution only."""
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from squeezeedge.errors import UnsupportedError


@dataclass(frozen=True)
class Options:
    speed: int = field(default=1, metadata={"help": "How fast."})


class Lowered:
    def __init__(self, head):
        self.head = head

    def write(self, folder):
        np.savez(folder / "layer.npz", weight=self.head.weight[:, 0, 0], bias=self.head.bias)
        return {"layers": 1}


class Outside:
    name = NAME
    summary = "of another package"
    devices = {DEVICE: "hardware"}
    remote = (DEVICE,)
    needs_root = False
    options = Options
    device_module = "outside.device"
    supports = frozenset()

    def requirements(self):
        return []

    def check_options(self, options):
        pass

    def check_device(self, device, board, options=None):
        pass

    def lower(self, graph, options):
        if len(graph.nodes) > 1:
            raise UnsupportedError(f"{graph.nodes[0].name}: outside runs one layer; remove the others")
        return Lowered(graph.head)

    def network(self, device):
        from outside.device import Network

        return Network

    def listing(self, artifact, layer=None):
        yield "one layer"


TARGET = Outside()
'''

DEVICE = '''"""The device's side: numpy is the hardware."""
import io
import time

import numpy as np

FILES = ("layer.npz",)
REQUIRED = ()


class Unavailable(Exception):
    pass


def add_arguments(parser):
    pass


class Network:
    tolerance = 0.0

    def __init__(self, artifact):
        with np.load(io.BytesIO(artifact.read("layer.npz"))) as arrays:
            self.weight, self.bias = arrays["weight"].astype(np.int64), arrays["bias"]

    def run(self, images):
        start = time.perf_counter()
        acc = images.astype(np.int64) @ self.weight.T + self.bias
        latency = (time.perf_counter() - start) * 1e3 / max(1, len(images))
        return acc.sum((1, 2)).astype(np.int32), {"latency_ms": np.full(len(images), latency)}

    def about(self):
        return {"layers": 1}

    def close(self):
        pass
'''

USE = """
import sys
from pathlib import Path
import numpy as np
from squeezeedge.artifact import open_artifact, write_artifact
from squeezeedge.graph.sqe import read_sqe
from squeezeedge.targets.registry import all_targets, device_target
from squeezeedge.targets.session import open_session

folder = Path(sys.argv[1])
target = all_targets()["outside"]
assert device_target("outside-board") is target and "cpu" in all_targets()
graph, images = read_sqe(folder / "model.sqe"), np.load(folder / "images.npy")
write_artifact(graph, target, target.options(), folder / "artifact", golden=images[:2], source={})
artifact = open_artifact(folder / "artifact")
assert artifact.target is target and artifact.manifest["compiled"] == {"layers": 1}
with open_session(artifact.path, target, "outside-board") as session:
    np.save(folder / "sums.npy", session.run(images).sums)
"""


class Package:
    """A package with a target, as pip would install it.

    Args:
        folder: of the module search path.
        name: of the target.
        device: that it serves.
    """

    def __init__(self, folder: Path, name: str = "outside", device: str = "outside-board") -> None:
        self.folder = folder
        (folder / "outside").mkdir(parents=True)
        text = TARGET.replace("NAME", repr(name)).replace("DEVICE", repr(device))
        (folder / "outside" / "__init__.py").write_text(text)
        (folder / "outside" / "device.py").write_text(DEVICE)
        info = folder / "outside_package-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-package\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[squeezeedge.targets]\noutside = outside:TARGET\n")

    def python(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """A Python that finds the package and ours."""
        path = os.pathsep.join([str(CHECKOUT), str(self.folder)])
        environment = {**os.environ, "PYTHONPATH": path, "NO_COLOR": "1", "COLUMNS": "200"}
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def one_layer() -> IntegerGraph:
    rng = np.random.default_rng(0)
    head = Head(
        name="head",
        input=IMAGE,
        weight=rng.integers(-127, 128, (5, 1, 1, 3)).astype(np.int8),
        bias=rng.integers(-9, 9, 5).astype(np.int32),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        pad_value=np.zeros(3, np.uint8),
        relu=False,
        scale=np.ones(5, np.float32),
    )
    return IntegerGraph("one-layer", (head,), Preprocessing((6, 7), None))


@pytest.fixture
def images(tmp_path: Path) -> NDArray[np.uint8]:
    """Of :func:`one_layer`; both are files for the other process."""
    graph = one_layer()
    write_sqe(graph, tmp_path / "model.sqe")
    made = random_images(graph, 4, 0)
    np.save(tmp_path / "images.npy", made)
    return made


@pytest.mark.slow
def test_another_package_s_target(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    """It is listed, compiled for and run; its artifact checks itself without any package."""
    package = Package(tmp_path / "packages")
    done = package.python("-c", USE, tmp_path)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "sums.npy"), run(one_layer(), images))
    command = [sys.executable, "-I", str(tmp_path / "artifact" / "run.py")]
    alone = subprocess.run(command, capture_output=True, text=True, check=False)
    assert alone.returncode == 0, alone.stderr
    line = json.loads(alone.stdout)
    assert (line["golden"], line["differing_sums"], line["layers"]) == (2, 0, 1)
    listed = package.python("-m", "squeezeedge", "targets")
    assert listed.returncode == 0 and "outside" in listed.stdout and "outside-board" in listed.stdout, listed.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise ImportError('FAKE: no such library')", "ImportError('FAKE: no such library')"),
        ("TARGETS = []", "module 'outside' has no attribute 'TARGET'"),
        ("TARGET = None", "'NoneType' object has no attribute"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(3)", "SystemExit(3)"),
    ],
)
def test_a_broken_one(tmp_path: Path, text: str, reason: str) -> None:
    package = Package(tmp_path)
    (tmp_path / "outside" / "__init__.py").write_text(text)
    done = package.python("-m", "squeezeedge", "targets")
    assert done.returncode == 0 and "Traceback" not in done.stderr and "outside" not in done.stdout
    assert "vta-sim" in done.stdout, "the others work"
    (message,) = done.stderr.splitlines()
    assert message.startswith("note: target outside of outside-package cannot be loaded and is left out: ")
    assert reason in message and message.endswith("update or uninstall that package")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "device", "taken"), [("cpu", "mine", "cpu"), ("mine", "vta-sim", "vta-sim")])
def test_names_that_are_taken(tmp_path: Path, name: str, device: str, taken: str) -> None:
    package = Package(tmp_path, name, device)
    done = package.python("-m", "squeezeedge", "targets")
    assert done.returncode == 0 and "mine" not in done.stdout
    text = f"target outside of outside-package is left out: the name {taken} is taken; uninstall one of the packages"
    assert done.stderr == f"note: {text}\n"


def test_our_own() -> None:
    """Every target has what the protocol asks for, and its name is its folder's."""
    assert set(all_targets()) >= {"ascend", "cpu", "cuda", "vta"}
    for name, target in all_targets().items():
        assert target.name == name and get_target(name) is target
        assert set(target.remote) <= target.devices.keys() and isinstance(target.needs_root, bool)
        for device, kind in target.devices.items():
            assert device_target(device) is target
            assert kind in ("hardware", "simulator", "emulation", "reference")
    assert emulation("ascend") == "ascend-emulation" and emulation("cpu") == "cpu"


def test_names_that_nobody_has() -> None:
    with pytest.raises(UsageError, match=r"no target 'tpu'; there are: .*cpu"):
        get_target("tpu")
    with pytest.raises(UsageError, match=r"no device 'tpu'; there are: .*vta-sim"):
        device_target("tpu")
