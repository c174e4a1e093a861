"""Kernels in their loop form on this processor: alone, or behind a fake of NVIDIA's driver (fake_cuda.c)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from numpy.typing import NDArray

from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.lower.legalize import legalize
from squeezeedge.targets.cuda import TARGET as CUDA
from squeezeedge.targets.cuda.grid import Kernel
from squeezeedge.targets.cuda.isa import INSTRUCTION_SETS
from squeezeedge.targets.cuda.loops import loop_function
from squeezeedge.targets.cuda.lower import graph_launches
from squeezeedge.targets.cuda.module import plan_launches, tensor_places
from squeezeedge.targets.cuda.options import DOT_PRODUCT
from squeezeedge.targets.cuda.source import parameters
from squeezeedge.targets.device.run import Trace

FAKE = Path(__file__).with_name("fake_cuda.c")
TARGET = {"kind": "llvm", "opt-level": 1}
DTYPES = {"uint8": "{kDLUInt, 8, 1}", "uint32": "{kDLUInt, 32, 1}", "int32": "{kDLInt, 32, 1}"}


def build_loops(
    kernels: Sequence[Kernel], batch: int, isa: str = DOT_PRODUCT, checked: bool = False
) -> tvm.runtime.Module:
    """Compile loop forms for this processor."""
    module = tvm.IRModule(
        {kernel.name: loop_function(kernel, INSTRUCTION_SETS[isa], batch, checked) for kernel in kernels}
    )
    with tvm.transform.PassContext(config={"tirx.disable_storage_rewrite": True}):
        return tvm.tirx.build(module, target=tvm.target.Target(TARGET))


def run_kernel(
    kernel: Kernel, inputs: Sequence[NDArray[np.uint8]], batch: int, isa: str = DOT_PRODUCT
) -> NDArray[np.generic]:
    """What one kernel makes of a batch of inputs, each [batch * bytes]; races and accesses outside buffers fail."""
    size, dtype = kernel.out
    fill = 0xAB if dtype == "uint8" else 0  # class sums are added to
    out = tvm.runtime.tensor(np.full(batch * size, fill, dtype))
    faults = tvm.runtime.tensor(np.zeros(2, np.int32))
    arrays = [*inputs, *kernel.constants]
    build_loops([kernel], batch, isa, checked=True)[kernel.name](*map(tvm.runtime.tensor, arrays), out, faults)
    assert faults.numpy().tolist() == [0, 0], f"{kernel.name}: (races, accesses outside a buffer)"
    made: NDArray[np.generic] = out.numpy()
    return made


def run_loops(graph: IntegerGraph, images: NDArray[np.uint8], isa: str, checked: bool = False) -> NDArray[np.int32]:
    """Class sums of a batch, int32 [N, classes], from the loop forms; memory starts with garbage."""
    launches = graph_launches(legalize(graph, CUDA.supports))
    library = build_loops([launch.kernel for launch in launches], len(images), isa, checked)
    values = {IMAGE: tvm.runtime.tensor(images.ravel())}
    for launch in launches:
        kernel = launch.kernel
        size, dtype = kernel.out
        fill = 0 if launch is launches[-1] else 0xAB  # the last one adds to its output
        out = tvm.runtime.tensor(np.full(len(images) * size, fill, dtype))
        constants = [tvm.runtime.tensor(array) for array in kernel.constants]
        faults = [tvm.runtime.tensor(np.zeros(2, np.int32))] if checked else []
        library[kernel.name](*(values[name] for name in launch.inputs), *constants, out, *faults)
        for fault in faults:
            assert fault.numpy().tolist() == [0, 0], f"{kernel.name}: (races, accesses outside a buffer)"
        values[launch.out] = out
    sums: NDArray[np.int32] = values[launches[-1].out].numpy().reshape(len(images), -1)
    return sums


class LoopTracer:
    """The loop forms of a graph's kernels, one by one: what the device would leave in its workspace.

    Args:
        graph: the network.
        isa: of the kernels.
    """

    def __init__(self, graph: IntegerGraph, isa: str = DOT_PRODUCT) -> None:
        legal = legalize(graph, CUDA.supports)
        self._launches = graph_launches(legal)
        self._library = build_loops([launch.kernel for launch in self._launches], 1, isa)
        self._plan = plan_launches(
            self._launches, INSTRUCTION_SETS[isa], legal.input_shape[0] * legal.input_shape[1] * 3
        )
        self._said = Trace(json.loads(json.dumps(tensor_places(self._launches, self._plan).to_json())))

    def trace(self, image: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[Any]]]:
        """What every kernel leaves, found as the device's side finds it."""
        workspace = np.full(self._plan.workspace, 0xAB, np.uint8)
        values = {IMAGE: image.ravel()}
        for number, (launch, call) in enumerate(zip(self._launches, self._plan.calls, strict=True)):
            size, dtype = launch.kernel.out
            out = tvm.runtime.tensor(np.full(size, 0, dtype))
            arrays = [*(values[name] for name in launch.inputs), *launch.kernel.constants]
            self._library[launch.kernel.name](*map(tvm.runtime.tensor, arrays), out)
            values[launch.out] = out.numpy()
            if launch is self._launches[-1]:
                yield self._said.head, values[launch.out]
                return
            start = call.arguments[-1].offset
            workspace[start : start + size] = values[launch.out]
            for place in self._said.places:
                if place.step == number:
                    yield place.name, place.values(workspace[place.begin : place.end])

    def unseen(self) -> Mapping[str, str]:
        """What is computed on the way."""
        return self._said.unseen


def build_fake_driver(kernels: Sequence[Kernel], source: str, folder: Path) -> Path:
    """Compile the fake driver with these kernels.

    Args:
        kernels: those of the artifact.
        source: their CUDA C, for the order of the parameters.
        folder: where to write it.

    Returns:
        The library, named as the real one.
    """
    build_loops(kernels, 1).write_to_file(str(folder / "kernels.o"), "o")
    lines = [f"int __tvm_ffi_{kernel.name}(void *, const TVMFFIAny *, int32_t, TVMFFIAny *);" for kernel in kernels]
    lines.append("static const Kernel kernels[] = {")
    for kernel in kernels:
        names = [f"x{i}" for i in range(len(kernel.inputs))] + [f"c{i}" for i in range(len(kernel.constants))] + ["y"]
        described = [(size, "uint8", 1) for size in kernel.inputs]
        described += [(array.size, str(array.dtype), 0) for array in kernel.constants]
        described.append((*kernel.out, 1))
        order = [names.index(name) for name in parameters(source)[f"{kernel.name}_kernel"]]
        listed = ", ".join(f"{{{i}, {described[i][0]}, {DTYPES[described[i][1]]}, {described[i][2]}}}" for i in order)
        launch = f"{kernel.blocks}, {kernel.threads}, {len(order)}"
        lines.append(f'    {{"{kernel.name}_kernel", __tvm_ffi_{kernel.name}, {launch}, {{{listed}}}}},')
    (folder / "kernels.h").write_text("\n".join([*lines, "};", ""]))
    library = folder / "libcuda.so.1"
    includes = [folder, tvm_ffi.libinfo.find_include_path(), tvm_ffi.libinfo.find_dlpack_include_path()]
    flags = ["-O1", "-std=gnu11", "-shared", "-fPIC", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]
    subprocess.run(
        ["cc", *flags, *(f"-I{path}" for path in includes), FAKE, folder / "kernels.o", "-o", library, "-lm"],
        check=True,
    )
    return library
