"""The network's way through TVM, and the TVM module that runs it through the driver."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import tvm
from hypothesis import HealthCheck, given, reject, settings
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import SourceName, Span

from squeezeedge.errors import UnavailableError, UnsupportedError, UsageError
from squeezeedge.graph import IMAGE, IntegerGraph, oracle
from squeezeedge.lower.relax_module import MAIN
from squeezeedge.targets.vta.device import CONTROL, DONE, REGISTERS, START
from squeezeedge.targets.vta.isa.encoding import INSTRUCTION_SETS, InstructionSet
from squeezeedge.targets.vta.isa.geometry import Geometry
from squeezeedge.targets.vta.lower.byoc import DRIVER, Device, LoweredNetwork, export_module, lower_graph, merge
from squeezeedge.targets.vta.sim.simulator import Registers, Simulator
from tests.graphs import GraphBuilder, integer_graphs, random_graph, random_images, squeezenet_graph
from tests.targets.vta.compiled import legal

GEOMETRY = Geometry()
IDLE = 4


def load(path: Path) -> Callable[[NDArray[np.uint8]], NDArray[np.int32]]:
    """The module as a function of one image, uint8 [H, W, 3]."""
    main = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())[MAIN]

    def run(image: NDArray[np.uint8]) -> NDArray[np.int32]:
        sums: NDArray[np.int32] = main(tvm.runtime.tensor(image[None])).numpy()[0]
        return sums

    return run


def check(graph: IntegerGraph, path: Path, count: int = 2) -> None:
    run = load(path)
    images = random_images(graph, count, 0)
    for image, expected in zip(images, oracle.run(graph, images), strict=True):
        np.testing.assert_array_equal(run(image), expected)


@pytest.mark.slow
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=integer_graphs())
def test_random_graphs_are_bit_exact(instructions: InstructionSet, tmp_path: Path, graph: IntegerGraph) -> None:
    try:
        network = lower_graph(legal(graph), GEOMETRY, instructions)
    except UnsupportedError:
        reject()  # a layer that really is too large
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.so"  # the loader takes the same name for the same library
    export_module(network, path)
    check(graph, path)


def test_main_only_calls_one_external_function() -> None:
    module = lower_graph(legal(random_graph(3)), GEOMETRY, "extended").module
    (binding,) = [binding for block in module[MAIN].body.blocks for binding in block.bindings if binding.value.op]
    assert binding.value.op.name == "relax.call_dps_packed"
    assert [name.name_hint for name in module.functions] == [MAIN]
    assert len(module.attrs["external_mods"]) == 1


def named(call: relax.Call, name: str) -> relax.Call:
    """As to_relax names what makes a tensor."""
    return relax.Call(call.op, call.args, call.attrs, call.ty_args, Span(SourceName(name), 0, 0, 0, 0))


def test_an_operator_that_no_pattern_takes() -> None:
    builder = relax.BlockBuilder()
    image = relax.Var(IMAGE, relax.TensorType((1, 8, 8, 3), "uint8"))
    with builder.function(MAIN, [image]):
        with builder.dataflow():
            pool = relax.op.nn.max_pool2d(image, (2, 2), (2, 2), layout="NHWC")
            inverted = builder.emit(named(relax.op.bitwise_not(builder.emit(named(pool, "pool1"))), "invert"))
            again = relax.op.nn.max_pool2d(builder.emit(relax.op.bitwise_not(inverted)), (2, 2), (2, 2), layout="NHWC")
            output = builder.emit_output(named(again, "pool2"))
        builder.emit_func_output(output)
    expected = r"no operation for relax\.bitwise_not \(invert\), relax\.bitwise_not of .* it has: conv, head"
    with pytest.raises(UnsupportedError, match=expected):
        merge(builder.get())


def test_a_network_without_operators() -> None:
    builder = relax.BlockBuilder()
    image = relax.Var(IMAGE, relax.TensorType((1, 8, 8, 3), "uint8"))
    with builder.function(MAIN, [image]):
        with builder.dataflow():
            output = builder.emit_output(image)
        builder.emit_func_output(output)
    with pytest.raises(UnsupportedError, match="0 parts"):
        merge(builder.get())


def test_a_layer_that_does_not_fit() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (9, 9))
    name = builder.conv(builder.conv(IMAGE, 600, name="wide"), 16, (7, 7), name="reduce")
    tiny = Geometry(inp_buffer=1 << 12, wgt_buffer=1 << 16, acc_buffer=1 << 15, uop_buffer=1 << 12, par_entries=32)
    with pytest.raises(UnsupportedError, match=r"memory.*(fit|larger)"):
        lower_graph(builder.finish(name, 3), tiny, "extended")


@pytest.fixture(scope="module")
def graph() -> IntegerGraph:
    return squeezenet_graph("squeezenet1_1", 64, 10)


@pytest.fixture(scope="module")
def network(graph: IntegerGraph) -> LoweredNetwork:
    return lower_graph(graph, GEOMETRY, "extended")


@pytest.fixture(scope="module")
def simulated(network: LoweredNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network's module for the simulator."""
    path = tmp_path_factory.mktemp("simulated") / "model.so"
    export_module(network, path)
    assert [made.name for made in path.parent.iterdir()] == ["model.so"]
    return path


@pytest.fixture(scope="module")
def linux_module(network: LoweredNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mapped") / "model.so"
    export_module(network, path, device="linux", timeout_s=100)  # machines that test are busy
    return path


@pytest.fixture
def mapped(linux_module: Path, tmp_path: Path) -> Path:
    """The network's module for a Linux board, not loaded yet."""
    return Path(shutil.copy(linux_module, tmp_path))


@pytest.mark.slow
def test_a_process_with_nothing_but_tvm(graph: IntegerGraph, simulated: Path, tmp_path: Path) -> None:
    images = random_images(graph, 2, 1)
    np.save(tmp_path / "images.npy", images)
    script = (
        "import sys, numpy as np, tvm\n"
        "vm = tvm.relax.VirtualMachine(tvm.runtime.load_module(sys.argv[1]), tvm.cpu())\n"
        "sums = [vm['main'](tvm.runtime.tensor(image[None])).numpy()[0] for image in np.load('images.npy')]\n"
        "assert not [name for name in sys.modules if name.startswith('squeezeedge')]\n"
        "np.save('sums.npy', sums)\n"
    )
    subprocess.run([sys.executable, "-I", "-c", script, str(simulated)], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "sums.npy"), oracle.run(graph, images))


@pytest.mark.slow
def test_two_modules_in_one_process(graph: IntegerGraph, simulated: Path, tmp_path: Path) -> None:
    run = load(simulated)
    other = random_graph(5)
    export_module(lower_graph(legal(other), GEOMETRY, "extended"), tmp_path / "other.so")
    check(other, tmp_path / "other.so")
    image = random_images(graph, 1, 2)
    np.testing.assert_array_equal(run(image[0]), oracle.run(graph, image)[0])


@pytest.mark.slow
def test_equal_modules_for_equal_networks(graph: IntegerGraph, tmp_path: Path) -> None:
    paths = [tmp_path / "a.so", tmp_path / "b.so"]
    for path in paths:
        export_module(lower_graph(graph, GEOMETRY, "extended"), path, device="linux")
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.slow
def test_a_program_that_does_not_finish(graph: IntegerGraph, network: LoweredNetwork, tmp_path: Path) -> None:
    export_module(network, tmp_path / "model.so", timeout_s=1e-5)
    run = load(tmp_path / "model.so")
    for image in random_images(graph, 2, 0):  # it is no hang and no crash the second time either
        with pytest.raises(RuntimeError, match="VTA simulator: not finished after 1000 cycles"):
            run(image)


@pytest.mark.slow
def test_an_image_of_another_size(simulated: Path) -> None:
    with pytest.raises(RuntimeError, match=r"64"):
        load(simulated)(np.zeros((63, 64, 3), np.uint8))


@pytest.mark.parametrize("timeout", [0, -1, 1e9, float("nan")])
def test_a_senseless_timeout(network: LoweredNetwork, tmp_path: Path, timeout: float) -> None:
    with pytest.raises(UsageError, match="time-out"):
        export_module(network, tmp_path / "model.so", timeout_s=timeout)


def test_without_a_compiler(network: LoweredNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UnavailableError, match=r"install g\+\+"):
        export_module(network, tmp_path / "model.so")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("fails_at", ["-c", "-shared"])
def test_with_a_compiler_that_fails(
    network: LoweredNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    broken = tmp_path / "broken"
    broken.write_text(
        "#!/bin/sh\n"
        f'for a in "$@"; do [ "$a" = {fails_at} ] && echo "no space left" >&2 && exit 1; done\n'
        'exec g++ "$@"\n'
    )
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(UnavailableError, match="no space left"):
        export_module(network, out / "model.so", device="linux")
    assert not list(out.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("device", get_args(Device))
def test_the_driver_has_no_warnings(
    network: LoweredNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: Device
) -> None:
    strict = tmp_path / "strict"
    strict.write_text('#!/bin/sh\nexec g++ -Wall -Wextra -Wconversion -Werror "$@"\n')
    strict.chmod(0o755)
    monkeypatch.setenv("CXX", str(strict))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    export_module(network, tmp_path / "model.so", device=device)


def test_registers_are_those_of_the_device_program() -> None:
    text = (DRIVER / "device.h").read_text()
    found = {name.lower(): int(value, 16) for name, value in re.findall(r"VTA_(\w+) = (0x\w+)", text)}
    assert found == {"control": CONTROL, **REGISTERS}
    bits = {name: int(value) for name, value in re.findall(r"VTA_(START|DONE) = (\d)", text)}
    assert bits == {"START": START, "DONE": DONE}


def test_the_driver_and_the_module_say_that_sums_are_no_logits() -> None:
    """Each class has a scale of its own: who compares sums gets another class."""
    header = " ".join((DRIVER / "network.h").read_text().split())
    assert "class sums, NOT LOGITS" in header and "logit[c] = (float)sums[c] * logit_scale[c]" in header
    assert re.findall(r"int (\w+)\(", header) == ["vta_class_sums"]
    assert "sums * the manifest's logit_scale (float32) are logits" in " ".join((export_module.__doc__ or "").split())


class Board:
    """Files in place of a board's devices, and a thread that does what its accelerator would."""

    address = 0x1F00_0000

    def __init__(self, folder: Path, dram_bytes: int) -> None:
        self.uio, self.udmabuf, self.sysfs = folder / "uio0", folder / "udmabuf0", folder / "sys"
        self.uio.write_bytes(bytes(4096))
        self.udmabuf.write_bytes(bytes(dram_bytes))
        self.sysfs.mkdir()
        (self.sysfs / "size").write_text(f"{dram_bytes}\n")
        (self.sysfs / "phys_addr").write_text(f"{self.address:#x}\n")
        self.port = np.memmap(self.uio, "<u4", "r+")
        self.dram = np.memmap(self.udmabuf, np.uint8, "r+")
        self.port[CONTROL] = IDLE
        self.runs = 0

    def environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("uio", "udmabuf", "sysfs"):
            monkeypatch.setenv(f"SQUEEZEEDGE_VTA_{name.upper()}", str(getattr(self, name)))

    @contextmanager
    def running(self) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=self._serve, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _serve(self, stop: threading.Event) -> None:
        simulator = Simulator(GEOMETRY)
        while not stop.wait(0.001):
            if self.port[CONTROL] != START:
                continue
            self.port[CONTROL] = 0
            values = {
                name: int(self.port[offset // 4])
                if name == "count"
                else int(self.port[offset // 4 : offset // 4 + 2].view("<u8")[0]) - self.address
                for name, offset in REGISTERS.items()
            }
            simulator.run(np.asarray(self.dram), Registers(**{name: max(value, 0) for name, value in values.items()}))
            self.runs += 1
            self.port[CONTROL] = DONE | IDLE


@pytest.fixture
def board(network: LoweredNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    folder = tmp_path / "board"
    folder.mkdir()
    made = Board(folder, network.program.dram_bytes)
    made.environment(monkeypatch)
    return made


def test_a_linux_board(graph: IntegerGraph, mapped: Path, board: Board) -> None:
    with board.running():
        check(graph, mapped, 3)
    assert board.runs == 3


def test_a_linux_board_runs_one_network_at_a_time(
    graph: IntegerGraph, mapped: Path, board: Board, tmp_path: Path
) -> None:
    second = tmp_path / "second.so"
    shutil.copy(mapped, second)
    first = load(mapped)
    (image,) = random_images(graph, 1, 0)
    with board.running():
        first(image)
        with pytest.raises(RuntimeError, match="another network runs on this accelerator"):
            load(second)(image)
        np.testing.assert_array_equal(first(image), oracle.run(graph, image[None])[0])  # undisturbed


@pytest.mark.slow
def test_a_linux_board_that_does_not_finish(
    graph: IntegerGraph, network: LoweredNetwork, board: Board, tmp_path: Path
) -> None:
    export_module(network, tmp_path / "model.so", device="linux", timeout_s=0.001)
    run = load(tmp_path / "model.so")
    (image,) = random_images(graph, 1, 0)
    with pytest.raises(RuntimeError, match="did not finish in 1000 us"):
        run(image)
    board.port[CONTROL] = 0
    with pytest.raises(RuntimeError, match="busy; load its bitstream again"):
        run(image)


def test_a_machine_that_is_no_board(
    graph: IntegerGraph,
    network: LoweredNetwork,
    mapped: Path,
    board: Board,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = load(mapped)
    (image,) = random_images(graph, 1, 0)
    os.truncate(board.sysfs / "phys_addr", 0)
    with pytest.raises(RuntimeError, match=r"phys_addr: no number; load the driver u-dma-buf"):
        run(image)
    (board.sysfs / "phys_addr").write_text("0x1f000000\n")
    (board.sysfs / "size").write_text("4096\n")
    with pytest.raises(RuntimeError, match=r"has 4096 bytes, the network needs \d+"):
        run(image)
    (board.sysfs / "size").write_text(f"{network.program.dram_bytes}\n")
    monkeypatch.setenv("SQUEEZEEDGE_VTA_UIO", str(tmp_path / "missing"))
    with pytest.raises(RuntimeError, match=r"missing: No such file or directory; run as root on a board"):
        run(image)
