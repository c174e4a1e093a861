"""Device side of an Ascend artifact: the converted model in CANN's ais_bench, or through its pyACL.

Where model.om is missing, ``sh atc.sh`` converts the model first (it needs CANN's toolkit). latency_ms is from the
image in the host's memory to the class means there. The head is computed in fp16, so class sums may differ from the
golden ones by the share of the largest that the manifest allows.

The calls are those of Ascend's ais_bench (Ascend/tools_1: ais_bench/infer/interface.py; later versions: the API guide
in mjlovesz/sync-ait) and of pyACL (Ascend/samples: python/common/acllite/acllite_model.py).
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squeezeedge.targets.device.run import Artifact

__all__ = [
    *("FILES", "REQUIRED", "Network", "Unavailable", "add_arguments", "find_runtime"),
    *("quantized", "read_constants", "read_trace", "sums_of"),
]

MODEL = "model.om"
FILES = (MODEL,)
REQUIRED = ((MODEL, "missing, the model is not converted yet: run `sh atc.sh` where CANN is installed"),)
"""What may be missing from an artifact and is needed to run it, and what to do then."""

DEVICE_FILES = "davinci*"

ALREADY_INITIALIZED = 100002
HUGE_PAGES_FIRST = 0
ON_DEVICE = 0
"""Run mode of a program that runs on the device's own processor (Atlas 200 as root complex)."""
HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE = 1, 2, 3
TYPES = {0: np.float32, 1: np.float16}
"""ACL's numbers of output types."""


class Unavailable(Exception):
    """There is no device, runtime or converted model here; the text says what was looked for."""


def looked_for() -> str:
    """What tells of a device on this machine, and whether it is there."""
    nodes = sorted(path.name for path in Path("/dev").glob(DEVICE_FILES))
    found = {"npu-smi": shutil.which("npu-smi"), f"/dev/{DEVICE_FILES}": ", ".join(nodes)}
    return "; ".join(f"{name}: {value or 'not found'}" for name, value in found.items())


class AisBench:
    """The model in an ais_bench session."""

    name = "ais_bench"

    def __init__(self, model: Path, device: int) -> None:
        interface = importlib.import_module("ais_bench.infer.interface")
        try:
            self._session = interface.InferSession(device, str(model))
        except Exception as error:
            raise Unavailable(f"ais_bench can't load {model} on device {device}: {error} ({looked_for()})") from error

    def infer(self, image: np.ndarray) -> list[np.ndarray]:
        """Image uint8 [1, H, W, 3] -> the model's outputs, the class means first."""
        try:
            return [np.asarray(output) for output in self._session.infer([image], mode="static")]
        except Exception as error:
            raise RuntimeError(f"ais_bench: inference failed: {error}") from error

    def close(self) -> None:
        """Give the model's memory back; the call's name depends on the version."""
        for name in ("free_resource", "finalize"):
            if hasattr(self._session, name):
                getattr(self._session, name)()
                break


class Acl:
    """The model through pyACL, a buffer for its input and one for each output."""

    name = "acl"

    def __init__(self, model: Path, device: int) -> None:
        self._acl: Any = importlib.import_module("acl")
        self._device = device
        acl = self._acl
        code = acl.init()
        if code not in (0, ALREADY_INITIALIZED) or acl.rt.set_device(device) != 0:
            raise Unavailable(f"acl can't open device {device} (acl.init: {code}; {looked_for()})")
        mode, code = acl.rt.get_run_mode()
        self._checked("get_run_mode", code)
        self._send, self._fetch = HOST_TO_DEVICE, DEVICE_TO_HOST
        if mode == ON_DEVICE:
            self._send = self._fetch = DEVICE_TO_DEVICE
        self._model, code = acl.mdl.load_from_file(str(model))
        if code != 0:
            raise Unavailable(f"acl can't load {model} (error {code}); is it converted for this chip?")
        self._description = acl.mdl.create_desc()
        self._checked("get_desc", acl.mdl.get_desc(self._description, self._model))
        self._input_size = acl.mdl.get_input_size_by_index(self._description, 0)
        numbers = range(acl.mdl.get_num_outputs(self._description))
        self._sizes = [acl.mdl.get_output_size_by_index(self._description, number) for number in numbers]
        self._types = [TYPES.get(acl.mdl.get_output_data_type(self._description, number)) for number in numbers]
        if None in self._types:
            raise RuntimeError(f"{model}: an output is neither float32 nor float16")
        (self._input,), self._inputs = self._dataset([self._input_size])
        self._output, self._outputs = self._dataset(self._sizes)
        if mode == ON_DEVICE:
            self._host, code = acl.rt.malloc(max(self._sizes), HUGE_PAGES_FIRST)
        else:
            self._host, code = acl.rt.malloc_host(max(self._sizes))
        self._checked("malloc", code)
        self._free_host = acl.rt.free if mode == ON_DEVICE else acl.rt.free_host

    def _dataset(self, sizes: list[int]) -> tuple[list[Any], Any]:
        """Buffers on the device, and the dataset of them."""
        acl, pointers = self._acl, []
        dataset = acl.mdl.create_dataset()
        for size in sizes:
            pointer, code = acl.rt.malloc(size, HUGE_PAGES_FIRST)
            self._checked("malloc", code)
            _, code = acl.mdl.add_dataset_buffer(dataset, acl.create_data_buffer(pointer, size))
            self._checked("add_dataset_buffer", code)
            pointers.append(pointer)
        return pointers, dataset

    def _checked(self, call: str, code: int) -> None:
        if code != 0:
            raise RuntimeError(f"acl: {call} failed with error {code}")

    def infer(self, image: np.ndarray) -> list[np.ndarray]:
        """Image uint8 [1, H, W, 3] -> the model's outputs, the class means first."""
        acl, data = self._acl, image.tobytes()
        if len(data) != self._input_size:
            raise RuntimeError(
                f"the model takes {self._input_size} bytes, an image has {len(data)}: was AIPP left out?"
            )
        pointer = acl.util.bytes_to_ptr(data)
        code = acl.rt.memcpy(self._input, self._input_size, pointer, len(data), self._send)
        self._checked("memcpy to the device", code)
        self._checked("execute", acl.mdl.execute(self._model, self._inputs, self._outputs))
        outputs = []
        for pointer, size, kind in zip(self._output, self._sizes, self._types):  # noqa: B905  (Python 3.8)
            self._checked("memcpy to the host", acl.rt.memcpy(self._host, size, pointer, size, self._fetch))
            outputs.append(np.frombuffer(acl.util.ptr_to_bytes(self._host, size), kind))
        return outputs

    def close(self) -> None:
        """Give memory and device back."""
        acl = self._acl
        for dataset, pointers in ((self._inputs, [self._input]), (self._outputs, self._output)):
            for number, pointer in enumerate(pointers):
                acl.destroy_data_buffer(acl.mdl.get_dataset_buffer(dataset, number))
                acl.rt.free(pointer)
            acl.mdl.destroy_dataset(dataset)
        self._free_host(self._host)
        acl.mdl.destroy_desc(self._description)
        acl.mdl.unload(self._model)
        acl.rt.reset_device(self._device)
        acl.finalize()


def find_runtime() -> Any:  # noqa: ANN401  (one of two classes)
    """What can run a model here: :class:`AisBench`, else :class:`Acl`.

    Raises:
        Unavailable: neither.
    """
    failures = []
    for runtime in (AisBench, Acl):
        try:
            importlib.import_module(runtime.name)
        except ImportError as error:
            failures.append(f"{runtime.name}: {error}")
        else:
            return runtime
    raise Unavailable(
        "no Ascend runtime here, looked for the Python modules "
        f"{'; '.join(failures)}; {looked_for()}; install CANN and source its set_env.sh on a machine with a device"
    )


class Network:
    """An artifact's model on a device.

    Args:
        artifact: its files.
        device: number of the device.

    Raises:
        Unavailable: there is no device, runtime or converted model.
        ValueError: a file is damaged.
        RuntimeError: the device fails.
    """

    def __init__(self, artifact: Artifact, device: int = 0) -> None:
        self._artifact = artifact
        self._sum_scale, self.tolerance = read_constants(artifact)
        runtime = find_runtime()
        self._runtime = runtime(_model(artifact), device)

    def run(self, images: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Images uint8 [N, H, W, 3] -> (int32 [N, classes], milliseconds float64 [N] of each image).

        Raises:
            ValueError: images of another shape or type.
            RuntimeError: the device failed.
        """
        artifact = self._artifact
        if images.dtype != np.uint8 or images.shape[1:] != artifact.shape:
            raise ValueError(f"images must be uint8 [N, {', '.join(map(str, artifact.shape))}]")
        means, latency = np.empty((len(images), 2 * artifact.classes), np.float32), np.empty(len(images))
        for i, image in enumerate(images):
            start = time.perf_counter()
            answer = self._runtime.infer(np.ascontiguousarray(image[None]))[0]
            latency[i] = (time.perf_counter() - start) * 1e3
            if answer.size != means.shape[1]:
                raise RuntimeError(f"the model answered {answer.size} values for {artifact.classes} classes")
            means[i] = answer.reshape(-1)
        return sums_of(means, self._sum_scale), {"latency_ms": latency}

    def trace(self, image: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Image uint8 [H, W, 3] -> (name, uint8 [height, width, channels]) of each tensor; last the class sums.

        The model's further outputs, as the layer that reads them quantizes them.

        Raises:
            ValueError: an image of another shape or type, or the artifact was compiled without them.
            RuntimeError: the device failed.
        """
        artifact = self._artifact
        if image.dtype != np.uint8 or image.shape != artifact.shape:
            raise ValueError(f"an image must be uint8 [{', '.join(map(str, artifact.shape))}]")
        head, tensors = read_trace(artifact)
        means, *outputs = self._runtime.infer(np.ascontiguousarray(image[None]))
        for (name, shape, channels, zero_point), output in zip(tensors, outputs):  # noqa: B905  (Python 3.8)
            if output.size != shape[0] * shape[1] * channels:
                raise RuntimeError(f"the model's output {name} has {output.size} values")
            values = output.reshape(channels, *shape[:2])[: shape[2]].transpose(1, 2, 0)
            yield name, quantized(values, zero_point)
        if len(outputs) != len(tensors) or means.size != 2 * artifact.classes:
            raise RuntimeError(f"the model has {1 + len(outputs)} outputs; convert the artifact's again")
        yield head, sums_of(np.asarray(means, np.float32).reshape(1, -1), self._sum_scale)[0]

    def unseen(self) -> dict[str, str]:
        """None, of an artifact that was compiled to show them."""
        return {}

    def about(self) -> dict[str, Any]:
        """What runs the model."""
        return {"runtime": self._runtime.name}

    def close(self) -> None:
        """Give the device back."""
        self._runtime.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The device's own options."""
    parser.add_argument("--device", type=int, default=0, help="number of the device (default: 0)")


def read_constants(artifact: Artifact) -> tuple[float, float]:
    """Class sum / class mean, and what sums may differ from the golden ones as a share of the largest.

    Raises:
        ValueError: the manifest does not give them.
    """
    values: list[Any] = [artifact.compiled.get(name) for name in ("sum_scale", "tolerance")]
    if not all(type(value) in (int, float) and 0 < value < 1e30 for value in values):
        raise ValueError(
            f"{artifact.folder}: the manifest's sum_scale or tolerance is damaged; copy the artifact again"
        )
    return float(values[0]), float(values[1])


def read_trace(artifact: Artifact) -> tuple[str, list[tuple[str, tuple[int, ...], int, int]]]:
    """Name of the head, and of each further output of the model: name, shape, its channels in the model, zero point.

    Raises:
        ValueError: the artifact was compiled without them, or the manifest is damaged.
    """
    record: Any = artifact.compiled.get("trace")
    if record is None:
        raise ValueError(f"{artifact.folder}: its model has no outputs but the class means; compile it with `debug`")
    try:
        tensors = [(one["name"], tuple(one["shape"]), one["channels"], one["zero_point"]) for one in record["tensors"]]
        head: Any = record["head"]
        for name, shape, channels, zero_point in tensors:
            if not all(type(value) is int and 0 < value < 1 << 31 for value in (*shape, channels)):
                raise ValueError(name)
            if type(name) is not str or len(shape) != 3 or shape[2] > channels or zero_point not in (0, 128):
                raise ValueError(name)
        if type(head) is not str:
            raise ValueError("head")
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"{artifact.folder}: the manifest's trace is damaged ({error!r}); copy the artifact again"
        ) from error
    return head, tensors


def quantized(values: np.ndarray, zero_point: int) -> np.ndarray:
    """Floats q - zero_point as AscendQuant takes them, rounded to fp16 and to even -> q, uint8."""
    with np.errstate(over="ignore"):
        moved = values.astype(np.float16) + np.float16(zero_point - 128)
    q: np.ndarray = np.ascontiguousarray(np.rint(moved.astype(np.float32)).clip(-128, 127)).astype(np.int8)
    return q.view(np.uint8) ^ np.uint8(128)


def sums_of(means: np.ndarray, sum_scale: float) -> np.ndarray:
    """The model's answer, [N, 2 * classes] (means, and what their rounding left over) -> sums int32 [N, classes]."""
    limit = np.iinfo(np.int32)
    exact = np.rint(means.astype(np.float64).reshape(len(means), 2, means.shape[1] // 2).sum(1) * sum_scale)
    sums: np.ndarray = np.nan_to_num(exact).clip(limit.min, limit.max).astype(np.int32)
    return sums


def _model(artifact: Artifact) -> Path:
    """Path of the converted model, checked if the artifact was compiled with it."""
    path = artifact.folder / MODEL  # may be made after compiling, so that the manifest does not know it
    if not path.is_file():
        raise Unavailable(f"{path}: {REQUIRED[0][1]}")
    return artifact.path(MODEL) if artifact.has(MODEL) else path
