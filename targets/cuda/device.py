"""Device side of a CUDA artifact: NVIDIA's driver through ctypes. It needs CUDA 11.4 or later and nothing else.

latency_ms is from the images in the host's memory to the class sums there, device_ms the part between the copies; both
are of the whole batch that an image was in (--batch, 1 by default). --throughput N measures with batches of N images.

Which of the artifact's files a GPU executes (NVIDIA's compatibility guides): machine code of its own architecture; on
a card also machine code of an older one of the same major version. Integrated GPUs (Jetson) execute nothing but their
own, and cards nothing of theirs. Everything else is PTX, which the driver compiles: of the newest architecture that is
not newer than the GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import time
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from squeezeedge.targets.device.run import Artifact, Placed

__all__ = [
    "FILES",
    "REQUIRED",
    "Driver",
    "Network",
    "Unavailable",
    "add_arguments",
    "choose_code",
    "measure",
    "read_plan",
]

DRIVER = "libcuda.so.1"
PLAN = "plan.json"
CONSTANTS = "constants.bin"
FILES = (PLAN, CONSTANTS, "*.ptx", "*.cubin", "trace.json")
REQUIRED: tuple[tuple[str, str], ...] = ()

OLDEST = (7, 2)
"""Compute capability that the oldest kernels need."""

TEGRA = ("sm_72", "sm_87")
"""Architectures that only integrated GPUs have: Jetson Xavier and Orin."""

COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR, INTEGRATED = 75, 76, 18
CAPTURE_MODE_THREAD_LOCAL = 1
NO_DEVICE = 100
OUT_OF_MEMORY = 2
TOO_NEW = (209, 222)
"""Code that a driver can't load: no binary for the GPU, unsupported PTX version."""

# Limits of what a plan may say, checked before anything is allocated.
MOST_BYTES = 2**31 - 1
MOST_BLOCKS = 2**31 - 1
MOST_THREADS = 1024
MOST_IMAGES = 65535
MOST_ARGUMENTS = 64

HANDLE = c_void_p
FUNCTIONS = {
    "cuInit": [c_uint],
    "cuDriverGetVersion": [POINTER(c_int)],
    "cuGetErrorString": [c_int, POINTER(c_char_p)],
    "cuDeviceGetCount": [POINTER(c_int)],
    "cuDeviceGet": [POINTER(c_int), c_int],
    "cuDeviceGetName": [c_char_p, c_int, c_int],
    "cuDeviceGetAttribute": [POINTER(c_int), c_int, c_int],
    "cuDevicePrimaryCtxRetain": [POINTER(HANDLE), c_int],
    "cuDevicePrimaryCtxRelease_v2": [c_int],
    "cuCtxSetCurrent": [HANDLE],
    "cuCtxSynchronize": [],
    "cuModuleLoadData": [POINTER(HANDLE), c_char_p],
    "cuModuleUnload": [HANDLE],
    "cuModuleGetFunction": [POINTER(HANDLE), HANDLE, c_char_p],
    "cuMemAlloc_v2": [POINTER(c_uint64), c_size_t],
    "cuMemFree_v2": [c_uint64],
    "cuMemHostAlloc": [POINTER(HANDLE), c_size_t, c_uint],
    "cuMemFreeHost": [HANDLE],
    "cuMemsetD32Async": [c_uint64, c_uint, c_size_t, HANDLE],
    "cuMemcpyHtoD_v2": [c_uint64, HANDLE, c_size_t],
    "cuMemcpyHtoDAsync_v2": [c_uint64, HANDLE, c_size_t, HANDLE],
    "cuMemcpyDtoHAsync_v2": [HANDLE, c_uint64, c_size_t, HANDLE],
    "cuStreamCreate": [POINTER(HANDLE), c_uint],
    "cuStreamDestroy_v2": [HANDLE],
    "cuStreamSynchronize": [HANDLE],
    "cuStreamBeginCapture_v2": [HANDLE, c_int],
    "cuStreamEndCapture": [HANDLE, POINTER(HANDLE)],
    "cuLaunchKernel": [HANDLE, *[c_uint] * 7, HANDLE, POINTER(HANDLE), POINTER(HANDLE)],
    "cuGraphInstantiateWithFlags": [POINTER(HANDLE), HANDLE, c_uint64],
    "cuGraphLaunch": [HANDLE, HANDLE],
    "cuGraphExecDestroy": [HANDLE],
    "cuGraphDestroy": [HANDLE],
    "cuEventCreate": [POINTER(HANDLE), c_uint],
    "cuEventRecord": [HANDLE, HANDLE],
    "cuEventElapsedTime": [POINTER(c_float), HANDLE, HANDLE],
    "cuEventDestroy_v2": [HANDLE],
}
"""What is used of the driver (CUDA Driver API), with the types of the parameters; all return a CUresult."""


class Unavailable(Exception):
    """There is no driver or GPU that can run this artifact; the text says what is missing."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The device's own options."""
    parser.add_argument("--device", type=int, default=0, help="number of the GPU (default: 0)")
    parser.add_argument("--batch", type=_positive, default=1, help="images at once (default: 1)")
    parser.add_argument("--throughput", type=_positive, metavar="N", help="measure batches of N images, too")
    parser.add_argument("--repeats", type=_positive, default=50, help="batches to measure (default: 50)")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


class Driver:
    """NVIDIA's driver library; ``driver.cuInit(0)`` calls a function and raises RuntimeError if that fails."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(DRIVER)
            for name, types in FUNCTIONS.items():
                getattr(self._library, name).argtypes = types
        except OSError as error:
            raise Unavailable(f"NVIDIA's driver is not installed here: {error}") from None
        except AttributeError as error:
            raise Unavailable(f"NVIDIA's driver is older than CUDA 11.4, update it: {error}") from None
        code = self._library.cuInit(0)
        count = c_int()
        if code == 0:
            self.cuDeviceGetCount(byref(count))
        if code == NO_DEVICE or (code == 0 and count.value == 0):
            raise Unavailable(f"the driver {DRIVER} is here, but it finds no CUDA device")
        if code:
            raise Unavailable(f"the driver {DRIVER} does not start: {self.error(code)}")
        self.devices = count.value

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (ctypes' functions)
        function = getattr(self._library, name)

        def call(*arguments: Any) -> None:  # noqa: ANN401
            code = function(*arguments)
            if code == OUT_OF_MEMORY:
                raise RuntimeError(f"{name}: {self.error(code)}; use smaller batches")
            if code:
                raise RuntimeError(f"{name}: {self.error(code)}")

        return call

    def error(self, code: int) -> str:
        """A CUresult in words."""
        text = c_char_p()
        if self._library.cuGetErrorString(code, byref(text)) or text.value is None:
            return f"error {code}"
        return f"{text.value.decode()} ({code})"

    def version(self) -> str:
        """Newest CUDA version that the driver knows."""
        number = c_int()
        self.cuDriverGetVersion(byref(number))
        return f"{number.value // 1000}.{number.value % 1000 // 10}"

    def name(self, device: int) -> str:
        """A device's name."""
        text = ctypes.create_string_buffer(256)
        self.cuDeviceGetName(text, len(text), device)
        return text.value.decode(errors="replace")

    def capability(self, device: int) -> tuple[int, int]:
        """A device's compute capability."""
        return self._attribute(COMPUTE_CAPABILITY_MAJOR, device), self._attribute(COMPUTE_CAPABILITY_MINOR, device)

    def integrated(self, device: int) -> bool:
        """Whether a device shares the processor's memory, as Jetson's does."""
        return self._attribute(INTEGRATED, device) != 0

    def _attribute(self, attribute: int, device: int) -> int:
        number = c_int()
        self.cuDeviceGetAttribute(byref(number), attribute, device)
        return number.value


def choose_code(
    cubins: Mapping[str, str], ptx: Mapping[str, str], capability: tuple[int, int], integrated: bool
) -> tuple[str, str]:
    """The file that a device executes, and what it is, as the module's text says.

    Args:
        cubins: architecture -> file of machine code.
        ptx: architecture -> file of PTX.
        capability: the device's compute capability.
        integrated: whether it is part of a processor (Tegra).

    Raises:
        Unavailable: there is nothing for it.
    """
    own = "sm_{}{}".format(*capability)
    if own in cubins:
        return cubins[own], own
    older = [arch for arch in cubins if arch not in TEGRA and _version(arch)[0] == capability[0]]
    older = [arch for arch in older if _version(arch) < capability]
    if older and not integrated:
        best = max(older, key=_version)
        return cubins[best], best
    fitting = [arch for arch in ptx if _version(arch) <= capability]
    if fitting:
        best = max(fitting, key=_version)
        return ptx[best], f"PTX of {best}"
    if capability < OLDEST:
        raise Unavailable(
            f"this GPU is {own}, and the kernels need sm_{OLDEST[0]}{OLDEST[1]} or newer: no artifact can run on it; "
            "use another GPU, or compile for the processor"
        )
    raise Unavailable(
        f"this GPU is {own}{', an integrated one' if integrated else ''}, the artifact was compiled for "
        f"{', '.join(cubins)}: compile it again with --arch {own}, or with an older one that --help names"
    )


def _version(arch: str) -> tuple[int, int]:
    return divmod(int(arch[3:]), 10)


class Buffers:
    """Everything that one batch in flight needs: a stream, memory on both sides, and the launches as a CUDA graph."""

    def __init__(self, network: Network, images: int) -> None:
        driver, plan = network.driver, network.plan
        self._driver = driver
        self._memory: list[c_uint64] = []
        self._events = [HANDLE(), HANDLE()]
        self._stream, self._graph, self._host = HANDLE(), HANDLE(), HANDLE()
        self.images = images
        self._in_bytes = images * int(np.prod(plan["input"]))
        self._out_bytes = images * plan["classes"] * 4
        driver.cuStreamCreate(byref(self._stream), 1)  # 1: does not wait for the default stream
        for event in self._events:
            driver.cuEventCreate(byref(event), 0)
        out_at = -(-self._in_bytes // 64) * 64
        driver.cuMemHostAlloc(byref(self._host), out_at + self._out_bytes, 0)
        assert self._host.value is not None
        host = (ctypes.c_uint8 * (out_at + self._out_bytes)).from_address(self._host.value)
        memory = np.frombuffer(host, np.uint8)
        self._in_host, self._out_host = self._host.value, self._host.value + out_at
        self.inputs = memory[: self._in_bytes].reshape([images, *plan["input"]])
        self.sums = memory[out_at:].view(np.int32).reshape(images, plan["classes"])
        self._input = self._allocate(self._in_bytes)
        self._output = self._allocate(self._out_bytes)
        self._workspace = self._allocate(images * plan["workspace_bytes"])
        starts = {"input": self._input, "output": self._output, "workspace": self._workspace}
        self._starts = {**starts, "constants": network.constants}
        self._capture(network)

    def _allocate(self, size: int) -> int:
        pointer = c_uint64()
        self._driver.cuMemAlloc_v2(byref(pointer), max(size, 1))
        self._memory.append(pointer)
        return pointer.value

    def _capture(self, network: Network) -> None:
        """Record the launches as a graph."""
        driver, graph = self._driver, HANDLE()
        self._launch(network)  # once without capturing: the driver loads a kernel at its first launch
        driver.cuStreamSynchronize(self._stream)
        driver.cuStreamBeginCapture_v2(self._stream, CAPTURE_MODE_THREAD_LOCAL)
        self._launch(network)
        driver.cuStreamEndCapture(self._stream, byref(graph))
        try:
            driver.cuGraphInstantiateWithFlags(byref(self._graph), graph, 0)
        finally:
            driver.cuGraphDestroy(graph)

    def _launch(self, network: Network, after: Callable[[int], None] = lambda number: None) -> None:
        """Every kernel once; a buffer of a batch lies at as many times its offset as there are images.

        Args:
            network: whose.
            after: called with -1 before the first kernel, and with the number of each kernel after it.
        """
        sums = self.images * network.plan["classes"]
        self._driver.cuMemsetD32Async(self._output, 0, sums, self._stream)  # what the last kernel adds to
        after(-1)
        for number, (launch, function) in enumerate(zip(network.plan["launches"], network.functions)):  # noqa: B905
            values = [
                c_uint64(self._starts[place] + offset * (1 if place == "constants" else self.images))
                for place, offset in launch["arguments"]
            ]
            values += [c_uint64()] * (MOST_ARGUMENTS - len(values))  # a kernel that takes more finds no address
            pointers = (HANDLE * len(values))(*(ctypes.cast(byref(value), HANDLE) for value in values))
            grid, block = (launch["blocks"], 1, self.images), (launch["threads"], 1, 1)
            self._driver.cuLaunchKernel(function, *grid, *block, 0, self._stream, pointers, None)
            after(number)

    def traced(self, network: Network, places: list[Placed]) -> list[tuple[str, np.ndarray]]:
        """Compute the inputs kernel by kernel, and copy what each leaves in the workspace; of one image."""
        driver, host, found = self._driver, HANDLE(), []
        driver.cuMemHostAlloc(byref(host), max([place.end - place.begin for place in places] or [1]), 0)

        def copy(number: int) -> None:
            for place in places:
                if place.step == number:
                    size = place.end - place.begin
                    driver.cuMemcpyDtoHAsync_v2(host, self._workspace + place.begin, size, self._stream)
                    driver.cuStreamSynchronize(self._stream)
                    memory = np.frombuffer(ctypes.string_at(host, size), np.uint8)
                    found.append((place.name, place.values(memory)))

        try:
            driver.cuMemcpyHtoDAsync_v2(self._input, self._in_host, self._in_bytes, self._stream)
            self._launch(network, copy)
            driver.cuMemcpyDtoHAsync_v2(self._out_host, self._output, self._out_bytes, self._stream)
            driver.cuStreamSynchronize(self._stream)
        finally:
            driver.cuMemFreeHost(host)
        return found

    def timed(self, network: Network, runs: int) -> np.ndarray:
        """Compute the inputs so many times, an event after each kernel: milliseconds [runs, kernels + 1]."""
        driver, clock = self._driver, np.zeros((runs, len(network.functions) + 1))
        events = [HANDLE() for _ in clock[0]]
        try:
            for event in events:
                driver.cuEventCreate(byref(event), 0)
            driver.cuMemcpyHtoDAsync_v2(self._input, self._in_host, self._in_bytes, self._stream)
            for run in clock:
                self._launch(network, lambda number: driver.cuEventRecord(events[number + 1], self._stream))
                driver.cuStreamSynchronize(self._stream)
                for number in range(1, len(events)):
                    elapsed = c_float()
                    driver.cuEventElapsedTime(byref(elapsed), events[0], events[number])
                    run[number] = elapsed.value
            driver.cuMemcpyDtoHAsync_v2(self._out_host, self._output, self._out_bytes, self._stream)
            driver.cuStreamSynchronize(self._stream)
        finally:
            for event in events:
                if event.value is not None:
                    driver.cuEventDestroy_v2(event)
        return clock

    def start(self) -> None:
        """Copy the inputs to the device, compute, copy the sums back; returns at once."""
        driver = self._driver
        driver.cuMemcpyHtoDAsync_v2(self._input, self._in_host, self._in_bytes, self._stream)
        driver.cuEventRecord(self._events[0], self._stream)
        driver.cuGraphLaunch(self._graph, self._stream)
        driver.cuEventRecord(self._events[1], self._stream)
        driver.cuMemcpyDtoHAsync_v2(self._out_host, self._output, self._out_bytes, self._stream)

    def wait(self) -> float:
        """Wait for what was started; milliseconds that the device computed."""
        self._driver.cuStreamSynchronize(self._stream)
        elapsed = c_float()
        self._driver.cuEventElapsedTime(byref(elapsed), *self._events)
        return elapsed.value

    def repeat(self, times: int) -> float:
        """Compute so many times without copies; milliseconds."""
        self._driver.cuEventRecord(self._events[0], self._stream)
        for _ in range(times):
            self._driver.cuGraphLaunch(self._graph, self._stream)
        self._driver.cuEventRecord(self._events[1], self._stream)
        return self.wait()

    def close(self) -> None:
        """Free everything."""
        driver = self._driver
        driver.cuStreamSynchronize(self._stream)
        driver.cuGraphExecDestroy(self._graph)
        for event in self._events:
            driver.cuEventDestroy_v2(event)
        for pointer in self._memory:
            driver.cuMemFree_v2(pointer)
        driver.cuMemFreeHost(self._host)
        driver.cuStreamDestroy_v2(self._stream)


class Network:
    """An artifact on a GPU.

    Args:
        artifact: its files.
        device: number of the GPU.
        batch: images that are computed at once.

    Raises:
        Unavailable: there is no driver or GPU for this artifact.
        ValueError: a file is damaged.
        RuntimeError: the driver fails.
    """

    tolerance = 0.0

    def __init__(self, artifact: Artifact, device: int = 0, batch: int = 1) -> None:
        self.plan = read_plan(artifact)
        constants = artifact.read(CONSTANTS)
        if len(constants) != self.plan["constant_bytes"]:
            raise ValueError(f"{artifact.folder / CONSTANTS}: not of this artifact; copy it again")
        self._artifact, self._batch = artifact, batch
        self.driver = driver = Driver()
        if not 0 <= device < driver.devices:
            raise Unavailable(f"there is no CUDA device {device}; the driver finds {driver.devices}")
        number = c_int()
        driver.cuDeviceGet(byref(number), device)
        self._device = number.value
        self._name = driver.name(self._device)
        capability, integrated = driver.capability(self._device), driver.integrated(self._device)
        file, self._code = choose_code(self.plan["cubins"], self.plan["ptx"], capability, integrated)
        code = artifact.read(file)
        context, self._module = HANDLE(), HANDLE()
        driver.cuDevicePrimaryCtxRetain(byref(context), self._device)
        driver.cuCtxSetCurrent(context)
        self._load(code, file)
        self.functions = []
        for launch in self.plan["launches"]:
            function = HANDLE()
            driver.cuModuleGetFunction(byref(function), self._module, launch["kernel"].encode())
            self.functions.append(function)
        self._constants = c_uint64()
        driver.cuMemAlloc_v2(byref(self._constants), len(constants))
        self.constants = self._constants.value
        driver.cuMemcpyHtoD_v2(self.constants, constants, len(constants))
        driver.cuCtxSynchronize()  # the copy may only have been staged, and the streams do not wait for it
        self._buffers: dict[tuple[int, int], Buffers] = {}

    def _load(self, code: bytes, file: str) -> None:
        failed = self.driver._library.cuModuleLoadData(byref(self._module), code)
        if failed in TOO_NEW:
            raise Unavailable(
                f"{self._name}: the driver, of CUDA {self.driver.version()}, is too old for {file}: update it, or "
                "compile with the --arch of this GPU"
            )
        if failed:
            raise RuntimeError(f"{file}: {self.driver.error(failed)}")

    def about(self) -> dict[str, Any]:
        """What runs it, and how."""
        return {"gpu": self._name, "cuda": self.driver.version(), "code": self._code, "batch": self._batch}

    def buffers(self, images: int, number: int = 0) -> Buffers:
        """The buffers of a batch size, allocated at the first use; ``number`` tells those apart that fly at once."""
        if not 1 <= images <= self.plan["most_images"]:
            raise ValueError(f"a batch has 1..{self.plan['most_images']} images, not {images}")
        key = (images, number)
        if key not in self._buffers:
            self._buffers[key] = Buffers(self, images)
        return self._buffers[key]

    def run(self, images: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Images uint8 [N, H, W, 3] -> (int32 [N, classes], latency_ms and of it device_ms, float64 [N]).

        Raises:
            ValueError: images of another shape or type, or a batch that is too large.
            RuntimeError: the driver failed.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != tuple(self.plan["input"]):
            raise ValueError(f"images must be uint8 [N, {', '.join(map(str, self.plan['input']))}]")
        sums = np.empty((len(images), self.plan["classes"]), np.int32)
        latency, device = np.empty(len(images)), np.empty(len(images))
        for first in range(0, len(images), self._batch):
            part = slice(first, min(first + self._batch, len(images)))
            buffers = self.buffers(part.stop - first)
            start = time.perf_counter()
            buffers.inputs[:] = images[part]
            buffers.start()
            device[part] = buffers.wait()
            sums[part] = buffers.sums
            latency[part] = (time.perf_counter() - start) * 1e3
        return sums, {"latency_ms": latency, "device_ms": device}

    def trace(self, image: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Image uint8 [H, W, 3] -> (name, uint8 [height, width, channels]) of each tensor; last the class sums.

        The kernels are launched one by one instead of as a graph.

        Raises:
            ValueError: an image of another shape or type, or trace.json is damaged or of another plan.
            RuntimeError: the driver failed.
        """
        buffers, said = self._holding(image), self._artifact.trace()
        last, end = len(self.plan["launches"]) - 1, self.plan["workspace_bytes"]
        if any(place.step > last or place.end > end for place in said.places):
            raise ValueError(f"{self._artifact.folder}: trace.json is of another plan; compile the model again")
        yield from buffers.traced(self, said.places)
        yield said.head, buffers.sums[0].copy()

    def kernel_times(self, image: np.ndarray, runs: int) -> tuple[np.ndarray, np.ndarray]:
        """Run an image, uint8 [H, W, 3], so many times; the kernels are launched one by one instead of as a graph.

        Returns:
            Class sums int32 [classes]; float64 [runs, kernels + 1]: milliseconds from the beginning of each run's first
            kernel, which are 0, to that, and to the end of each kernel.

        Raises:
            ValueError: an image of another shape or type.
            RuntimeError: the driver failed.
        """
        buffers = self._holding(image)
        clock = buffers.timed(self, runs)
        return buffers.sums[0].copy(), clock

    def _holding(self, image: np.ndarray) -> Buffers:
        """The buffers of one image, which it is put into."""
        if image.dtype != np.uint8 or image.shape != tuple(self.plan["input"]):
            raise ValueError(f"an image must be uint8 [{', '.join(map(str, self.plan['input']))}]")
        buffers = self.buffers(1)
        buffers.inputs[0] = image
        return buffers

    def unseen(self) -> dict[str, str]:
        """The tensors that lie nowhere in memory -> why."""
        return self._artifact.trace().unseen

    def throughput(self, images: np.ndarray, repeats: int) -> dict[str, float]:
        """Images a second of one batch, repeated: with copies, two batches in flight; and from device memory.

        Raises:
            RuntimeError: the two batches in flight gave different sums.
        """
        flights = [self.buffers(len(images), number) for number in (0, 1)]
        for flight in flights:
            flight.inputs[:] = images
            flight.start()
            flight.wait()
        start = time.perf_counter()
        for i in range(repeats):
            if i >= len(flights):
                flights[i % 2].wait()
            flights[i % 2].start()
        for flight in flights:
            flight.wait()
        seconds = time.perf_counter() - start
        if (flights[0].sums != flights[1].sums).any():
            raise RuntimeError("two batches of the same images gave different sums")
        return {
            "images_per_s": len(images) * repeats / seconds,
            "device_images_per_s": len(images) * repeats / flights[0].repeat(repeats) * 1e3,
        }

    def close(self) -> None:
        """Free everything on the device."""
        for buffers in self._buffers.values():
            buffers.close()
        self.driver.cuMemFree_v2(self._constants)
        self.driver.cuModuleUnload(self._module)
        self.driver.cuDevicePrimaryCtxRelease_v2(self._device)


def measure(network: Network, artifact: Artifact, options: argparse.Namespace) -> dict[str, Any] | None:
    """Images a second in batches of --throughput copies of the golden inputs; ``None`` without that option."""
    if options.throughput is None:
        return None
    images = artifact.golden()[0]
    many = np.resize(images, (options.throughput, *images.shape[1:]))
    return {"batch": options.throughput, **network.throughput(many, options.repeats)}


def read_plan(artifact: Artifact) -> dict[str, Any]:
    """The plan, checked: every value has its type and range, and every argument lies inside what is allocated.

    Raises:
        ValueError: it is damaged; the text names the file and the remedy.
    """
    data = artifact.read(PLAN)
    try:
        plan: dict[str, Any] = json.loads(data.decode())
        _check_plan(plan, artifact)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        text = f"{artifact.folder / PLAN}: damaged ({error!r}); copy the artifact again, or compile the model again"
        raise ValueError(text) from error
    return plan


def _check_plan(plan: dict[str, Any], artifact: Artifact) -> None:
    height, width, channels = (_number(value, MOST_BYTES) for value in plan["input"])
    classes = _number(plan["classes"], MOST_BYTES)
    if ((height, width, channels), classes) != (artifact.shape, artifact.classes):
        raise ValueError("of another network")
    sizes = {
        "input": height * width * channels,
        "output": classes * 4,
        "workspace": _number(plan["workspace_bytes"], MOST_BYTES, least=0),
        "constants": _number(plan["constant_bytes"], MOST_BYTES),
    }
    _number(plan["most_images"], MOST_IMAGES)
    for kind, ending in (("cubins", "cubin"), ("ptx", "ptx")):
        for arch, file in plan[kind].items():
            if not re.fullmatch("sm_[1-9][0-9]{1,2}", arch) or file != f"kernels.{arch}.{ending}":
                raise ValueError(f"{kind}: {arch!r}")
            if not artifact.has(file):
                raise ValueError(f"{file} is not in the manifest")
    for launch in plan["launches"]:
        kernel, arguments = launch["kernel"], launch["arguments"]
        if type(kernel) is not str or not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", kernel):
            raise ValueError(f"kernel {kernel!r}")
        _number(launch["blocks"], MOST_BLOCKS)
        _number(launch["threads"], MOST_THREADS)
        if type(arguments) is not list or len(arguments) > MOST_ARGUMENTS:
            raise ValueError(f"arguments of {kernel}")
        for place, offset in arguments:
            _number(offset, sizes[place] - 1, least=0)


def _number(value: Any, most: int, least: int = 1) -> int:  # noqa: ANN401  (JSON)
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{str(value)[:20]!r} is not a whole number in {least}..{most}")
    return value
