#!/usr/bin/env python3
"""Device side of an Ascend artifact: needs Python 3.8+, numpy and CANN's ais_bench or acl; Pillow, to read image files.

    sh atc.sh                            where model.om is missing: convert the model (needs CANN's toolkit)
    python3 run.py                       check the device on the golden inputs
    python3 run.py cat.jpg images.npy    classify image files, or uint8 [N, height, width, 3] arrays

Prints one JSON object a line; latency_ms is from the image in the host's memory to the class means there. Exit codes:
0 done, 1 a known failure, 3 there is no device, runtime or converted model, 4 the golden inputs gave wrong sums: the
head is computed in fp16, so sums may differ from the golden ones by the share of the largest that the manifest allows.

The calls are those of Ascend's ais_bench (Ascend/tools_1: ais_bench/infer/interface.py; later versions: the API guide
in mjlovesz/sync-ait) and of pyACL (Ascend/samples: python/common/acllite/acllite_model.py).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

MODEL = "model.om"
MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
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

    def infer(self, image: np.ndarray) -> np.ndarray:
        """Image uint8 [1, H, W, 3] -> class means."""
        try:
            return np.asarray(self._session.infer([image], mode="static")[0])
        except Exception as error:
            raise RuntimeError(f"ais_bench: inference failed: {error}") from error

    def close(self) -> None:
        """Give the model's memory back; the call's name depends on the version."""
        for name in ("free_resource", "finalize"):
            if hasattr(self._session, name):
                getattr(self._session, name)()
                break


class Acl:
    """The model through pyACL, one buffer for its input and one for its output."""

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
        self._output_size = acl.mdl.get_output_size_by_index(self._description, 0)
        self._type = TYPES.get(acl.mdl.get_output_data_type(self._description, 0))
        if self._type is None:
            raise RuntimeError(f"{model}: its output is neither float32 nor float16")
        self._input, self._inputs = self._dataset(self._input_size)
        self._output, self._outputs = self._dataset(self._output_size)
        if mode == ON_DEVICE:
            self._host, code = acl.rt.malloc(self._output_size, HUGE_PAGES_FIRST)
        else:
            self._host, code = acl.rt.malloc_host(self._output_size)
        self._checked("malloc", code)
        self._free_host = acl.rt.free if mode == ON_DEVICE else acl.rt.free_host

    def _dataset(self, size: int) -> tuple[Any, Any]:
        acl = self._acl
        pointer, code = acl.rt.malloc(size, HUGE_PAGES_FIRST)
        self._checked("malloc", code)
        dataset = acl.mdl.create_dataset()
        _, code = acl.mdl.add_dataset_buffer(dataset, acl.create_data_buffer(pointer, size))
        self._checked("add_dataset_buffer", code)
        return pointer, dataset

    def _checked(self, call: str, code: int) -> None:
        if code != 0:
            raise RuntimeError(f"acl: {call} failed with error {code}")

    def infer(self, image: np.ndarray) -> np.ndarray:
        """Image uint8 [1, H, W, 3] -> class means."""
        acl, data = self._acl, image.tobytes()
        if len(data) != self._input_size:
            raise RuntimeError(
                f"the model takes {self._input_size} bytes, an image has {len(data)}: was AIPP left out?"
            )
        pointer = acl.util.bytes_to_ptr(data)
        code = acl.rt.memcpy(self._input, self._input_size, pointer, len(data), self._send)
        self._checked("memcpy to the device", code)
        self._checked("execute", acl.mdl.execute(self._model, self._inputs, self._outputs))
        size = self._output_size
        self._checked("memcpy to the host", acl.rt.memcpy(self._host, size, self._output, size, self._fetch))
        return np.frombuffer(acl.util.ptr_to_bytes(self._host, size), self._type)

    def close(self) -> None:
        """Give memory and device back."""
        acl = self._acl
        for dataset, pointer in ((self._inputs, self._input), (self._outputs, self._output)):
            acl.destroy_data_buffer(acl.mdl.get_dataset_buffer(dataset, 0))
            acl.mdl.destroy_dataset(dataset)
            acl.rt.free(pointer)
        self._free_host(self._host)
        acl.mdl.destroy_desc(self._description)
        acl.mdl.unload(self._model)
        acl.rt.reset_device(self._device)
        acl.finalize()


class Artifact:
    """The files of an artifact's folder; each is checked against the manifest before it is used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            self._files = dict(manifest["files"])
            self.preprocessing = dict(manifest["preprocessing"])
            self.labels = list(manifest["labels"])
            self.logit_scale = np.asarray(manifest["logit_scale"], np.float32)
            self.shape = tuple(int(size) for size in manifest["input"])
            self.sum_scale = float(manifest["compiled"]["sum_scale"])
            self.tolerance = float(manifest["compiled"]["tolerance"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"{folder / MANIFEST}: damaged ({error!r}); copy the artifact again") from error

    def _check(self, name: str) -> None:
        entry, path = self._files.get(name), self.folder / name
        if isinstance(entry, dict) and entry.get("sha256") != hashlib.sha256(path.read_bytes()).hexdigest():
            raise ValueError(f"{path}: differs from its checksum in {MANIFEST}; copy the artifact again")

    def golden(self) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 [n, H, W, 3] and their sums int32 [n, classes]."""
        self._check(GOLDEN)
        with np.load(str(self.folder / GOLDEN), allow_pickle=False) as file:
            return file["images"], file["sums"]

    def model(self) -> Path:
        """Path of the converted model, checked if the artifact was compiled with it."""
        path = self.folder / MODEL
        if not path.is_file():
            raise Unavailable(
                f"{path}: missing, the model is not converted yet: run `sh atc.sh` where CANN is installed"
            )
        self._check(MODEL)
        return path


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
    """An artifact's model on a device."""

    def __init__(self, artifact: Artifact, device: int) -> None:
        self._artifact = artifact
        runtime = find_runtime()
        self._runtime = runtime(artifact.model(), device)
        self.runtime = runtime.name

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 [N, H, W, 3] -> (int32 [N, classes], milliseconds float64 [N])."""
        artifact = self._artifact
        if images.dtype != np.uint8 or images.shape[1:] != artifact.shape:
            raise ValueError(f"images must be uint8 [N, {', '.join(map(str, artifact.shape))}]")
        classes, limit = len(artifact.logit_scale), np.iinfo(np.int32)
        sums, latency = np.empty((len(images), classes), np.int32), np.empty(len(images))
        for i, image in enumerate(images):
            start = time.perf_counter()
            means = self._runtime.infer(np.ascontiguousarray(image[None]))
            latency[i] = (time.perf_counter() - start) * 1e3
            if means.size != 2 * classes:
                raise RuntimeError(f"the model answered {means.size} values for {classes} classes")
            exact = np.rint(means.astype(np.float64).reshape(2, classes).sum(0) * artifact.sum_scale)
            sums[i] = np.nan_to_num(exact).clip(limit.min, limit.max)
        return sums, latency

    def close(self) -> None:
        """Give the device back."""
        self._runtime.close()


def read_images(path: Path, record: dict[str, Any]) -> np.ndarray:
    """Images of a file as the manifest's preprocessing record says: uint8 [N, height, width, 3]."""
    if path.suffix == ".npy":
        return np.asarray(np.load(str(path), allow_pickle=False))
    from PIL import Image

    height, width = record["size"]
    resample = getattr(Image, record["interpolation"].upper())
    with Image.open(str(path)) as file:
        if file.mode.startswith(("I", "F")):
            raise ValueError(f"{path}: pixels have more than 8 bits a channel; convert the image to RGB")
        transparent = file.mode == "P" and "transparency" in file.info
        rgb = (file.convert("RGBA") if transparent else file).convert("RGB")
    if record["resize"] is None:
        return np.asarray(rgb.resize((width, height), resample))[None]
    short = min(rgb.size)
    if short != record["resize"]:
        rgb = rgb.resize((rgb.width * record["resize"] // short, rgb.height * record["resize"] // short), resample)
    left, top = round((rgb.width - width) / 2), round((rgb.height - height) / 2)
    return np.asarray(rgb.crop((left, top, left + width, top + height)))[None]


def _arrays(path: Path, record: dict[str, Any]) -> Iterator[np.ndarray]:
    """The images of a file; of ``-``, arrays in .npy form from the standard input, one after the other."""
    if str(path) != "-":
        yield read_images(path, record)
        return
    with open(0, "rb", closefd=False) as stream:
        readable = SimpleNamespace(read=stream.read)  # numpy would seek in a file
        while stream.peek(1):
            yield np.lib.format.read_array(readable, allow_pickle=False)


def _answers(
    path: Path, results: Sequence[np.ndarray], artifact: Artifact, top: int, with_sums: bool
) -> Iterator[dict[str, Any]]:
    for index, (sums, latency) in enumerate(zip(*results)):  # noqa: B905  (Python 3.8)
        logits = sums * artifact.logit_scale
        best = np.argsort(-logits, kind="stable")[:top]
        answer = {
            "image": str(path),
            "index": index,
            "classes": [int(c) for c in best],
            "labels": [artifact.labels[c] for c in best] if artifact.labels else None,
            "logits": [float(logits[c]) for c in best],
            "latency_ms": float(latency),
        }
        if with_sums:
            answer["sums"] = sums.tolist()
        yield answer


def _run(network: Network, artifact: Artifact, options: argparse.Namespace) -> int:
    golden, expected = artifact.golden()
    sums, latency = network.run(golden)
    if sums.shape != expected.shape:
        raise ValueError(f"{artifact.folder / GOLDEN}: sums of another network; copy the artifact again")
    difference = np.abs(sums.astype(np.int64) - expected)
    error = float(difference.max() / max(1, np.abs(expected.astype(np.int64)).max()))
    report: dict[str, Any] = {
        "golden": len(sums),
        "differing_sums": int((difference > 0).sum()),
        "largest_error": error,
    }
    report.update(latency_ms=float(np.median(latency)), runtime=network.runtime)
    print(json.dumps(report), flush=True)
    if error > artifact.tolerance:
        text = (
            f"class sums differ from the golden ones by {error:.3g} of the largest, {artifact.tolerance:g} is allowed"
        )
        print(f"run.py: error: {text}", file=sys.stderr)
        return 4
    for path in options.images:
        for array in _arrays(path, artifact.preprocessing):
            results = network.run(array)
            for answer in _answers(path, results, artifact, options.top, options.sums):
                print(json.dumps(answer), flush=True)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description="Run the compiled network on images, or check the device.")
    images = "image files or .npy arrays; -: arrays from the standard input; none: check the device"
    parser.add_argument("images", nargs="*", type=Path, help=images)
    parser.add_argument("--device", type=int, default=0, help="number of the device (default: 0)")
    parser.add_argument("--top", type=int, default=5, help="classes to print (default: 5)")
    parser.add_argument("--sums", action="store_true", help="print every class sum too")
    options = parser.parse_args(arguments)
    try:
        artifact = Artifact(Path(__file__).resolve().parent)
        network = Network(artifact, options.device)
        try:
            return _run(network, artifact, options)
        finally:
            network.close()
    except Unavailable as error:
        print(f"run.py: error: {error}", file=sys.stderr)
        return 3
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        print(f"run.py: error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
