"""Latency and throughput on this machine's GPU beside ONNX Runtime, torch and TensorRT on the same float network.

    python -m benchmarks.cuda squeezenet1_1 --weights FILE --data IMAGES -o FILE

Measures the milliseconds of one batch: inputs and outputs are in the GPU's memory, batches run back to back, and the
best of some rounds counts. Our own latency is also given with the host's copies. Prints a table and writes a JSON file.
Peers that are not installed are skipped with a reason; without a GPU nothing is measured.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

import squeezeedge as sq
from benchmarks.peers import float_onnx
from benchmarks.report import note, print_table, versions, write_report
from squeezeedge.calib.selection import calibration_images
from squeezeedge.evaluation.tables import number
from squeezeedge.graph.oracle import run as run_oracle
from squeezeedge.targets.cuda import TARGET
from squeezeedge.targets.cuda.device import Network, Unavailable
from squeezeedge.targets.cuda.options import ALL
from squeezeedge.targets.device.run import Artifact as DeviceArtifact

BATCHES = (1, 8, 64, 256)
ROUNDS, REPEATS, CHECKED = 10, 50, 8


@dataclass(frozen=True)
class Job:
    """What a peer is to run.

    Attributes:
        model: the float network, as torch has it too.
        images: normalized, float32 [N, 3, H, W], to calibrate on.
        batch: images at once.
    """

    model: sq.Model
    images: NDArray[np.float32]
    batch: int

    @property
    def inputs(self) -> NDArray[np.float32]:
        """One batch."""
        return np.resize(self.images, (self.batch, *self.images.shape[1:]))

    def onnx(self) -> onnx.ModelProto:
        """The float network for this batch size."""
        assert self.model.floating is not None
        model = float_onnx(self.model.floating)
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = self.batch
        return model


Enqueue = Callable[[], object]
"""Starts one batch; the GPU may still work when it returns."""


class Skipped(Exception):
    """A peer can't run here; the text says why."""


def _torch() -> Any:  # noqa: ANN401
    import torch

    if not torch.cuda.is_available():
        raise Skipped(f"torch {torch.__version__} finds no GPU (a build for CUDA is needed)")
    return torch


def torch_graph(job: Job) -> Enqueue:
    """Half precision, channels last, captured as a CUDA graph."""
    torch = _torch()
    module, inputs = _half(torch, job)
    side = torch.cuda.Stream()
    with torch.inference_mode():
        with torch.cuda.stream(side):
            for _ in range(3):
                module(inputs)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            held = module(inputs)

    def enqueue() -> object:
        graph.replay()
        return held

    return enqueue


def torch_compile(job: Job) -> Enqueue:
    """Half precision, channels last, compiled with CUDA graphs and tuned kernels."""
    torch = _torch()
    module, inputs = _half(torch, job)
    compiled = torch.compile(module, mode="max-autotune")

    def enqueue() -> object:
        with torch.inference_mode():
            return compiled(inputs)

    return enqueue


def _half(torch: Any, job: Job) -> tuple[Any, Any]:  # noqa: ANN401
    network: Any = copy.deepcopy(job.model.module)
    module = network.eval().cuda().half().to(memory_format=torch.channels_last)
    inputs = torch.from_numpy(job.inputs).cuda().half().contiguous(memory_format=torch.channels_last)
    return module, inputs


def onnxruntime_cuda(job: Job) -> Enqueue:
    """The float model on ONNX Runtime's CUDA provider, captured as a CUDA graph."""
    import onnxruntime as ort

    provider = "CUDAExecutionProvider"
    if provider not in ort.get_available_providers():
        raise Skipped(f"onnxruntime {ort.__version__} has no {provider} (onnxruntime-gpu has)")
    model = job.onnx()
    session = ort.InferenceSession(model.SerializeToString(), providers=[(provider, {"enable_cuda_graph": "1"})])
    binding = session.io_binding()
    inputs = ort.OrtValue.ortvalue_from_numpy(job.inputs, "cuda", 0)
    outputs = ort.OrtValue.ortvalue_from_shape_and_type(
        [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim], np.float32, "cuda", 0
    )
    binding.bind_ortvalue_input(model.graph.input[0].name, inputs)
    binding.bind_ortvalue_output(model.graph.output[0].name, outputs)
    return lambda: session.run_with_iobinding(binding)


def tensorrt_int8(job: Job) -> Enqueue:
    """TensorRT on ONNX Runtime's symmetric per-channel int8 quantization, as a CUDA graph."""
    import tensorrt as trt

    torch = _torch()
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(_symmetric(job).SerializeToString()):
        raise Skipped(f"TensorRT does not take the model: {parser.get_error(0)}")
    config = builder.create_builder_config()
    for flag in (trt.BuilderFlag.INT8, trt.BuilderFlag.FP16):
        config.set_flag(flag)
    engine = trt.Runtime(logger).deserialize_cuda_engine(builder.build_serialized_network(network, config))
    context = engine.create_execution_context()
    tensors = {}
    for i in range(engine.num_io_tensors):
        name = engine.get_tensor_name(i)
        tensors[name] = torch.zeros(tuple(engine.get_tensor_shape(name)), dtype=torch.float32, device="cuda")
        context.set_tensor_address(name, tensors[name].data_ptr())
    tensors["image"].copy_(torch.from_numpy(job.inputs))
    side = torch.cuda.Stream()
    context.execute_async_v3(side.cuda_stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        context.execute_async_v3(side.cuda_stream)
    held = (engine, context, tensors)

    def enqueue() -> object:
        graph.replay()
        return held

    return enqueue


def _symmetric(job: Job) -> onnx.ModelProto:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest: Iterator[NDArray[np.float32]] = iter(
                np.resize(job.images, (-(-len(job.images) // job.batch), job.batch, *job.images.shape[1:]))
            )

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            images = next(self.rest, None)
            return None if images is None else {"image": images}

    with tempfile.TemporaryDirectory() as folder:
        before, after = (str(Path(folder) / name) for name in ("float.onnx", "int8.onnx"))
        onnx.save(job.onnx(), before)
        quantize_static(
            *(before, after, Reader()),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
        )
        return onnx.load(after)


PEERS: dict[str, tuple[tuple[str, ...], Callable[[Job], Enqueue]]] = {
    "torch-fp16-graph": (("torch",), torch_graph),
    "torch-fp16-compile": (("torch",), torch_compile),
    "onnxruntime-fp32": (("onnxruntime-gpu",), onnxruntime_cuda),
    "tensorrt-int8": (("tensorrt", "onnxruntime-gpu", "torch"), tensorrt_int8),
}
"""Name -> (packages that it needs, how it is made)."""


def main() -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="as in `squeezeedge models`")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", required=True, help="calibration images")
    code = parser.add_mutually_exclusive_group()
    code.add_argument("--arch", default=ALL, help="as of `squeezeedge compile` (default: all)")
    code.add_argument("--artifact", type=Path, help="the network compiled elsewhere, so that TVM is not needed here")
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSON file")
    options = parser.parse_args()
    gpu = next(entry for entry in TARGET.requirements() if entry.name == "NVIDIA GPU")
    if gpu.found is None:
        raise SystemExit(f"nothing is measured: {gpu.fix}")

    source = sq.load(options.network, options.weights)
    images = calibration_images(options.data)
    pixels = images.load(source.preprocessing)
    normalized = source.preprocessing.normalize(pixels)
    ms: dict[str, dict[int, float]] = {}
    exact: dict[int, bool] = {}
    notes: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as scratch:
        if options.artifact is None:
            artifact = sq.compile(sq.quantize(source, images), "cuda", Path(scratch) / "artifact", arch=options.arch)
        else:
            artifact = sq.open_artifact(options.artifact)
        files = DeviceArtifact(artifact.path)
        expected = run_oracle(artifact.graph, pixels[:CHECKED])
        for batch in BATCHES:
            try:
                network = Network(files, batch=batch)
            except Unavailable as error:
                raise SystemExit(f"nothing is measured: {error}") from None
            own, exact[batch] = _own(network, np.resize(pixels[:CHECKED], (batch, *pixels.shape[1:])), expected)
            note(f"batch {batch}: {'bit-exact' if exact[batch] else 'WRONG SUMS'}")
            for name, value in own.items():
                ms.setdefault(name, {})[batch] = value
            about = {key: value for key, value in network.about().items() if key != "batch"}
            network.close()
    for name, (packages, make) in PEERS.items():
        found = versions(packages)
        notes[name] = found or f"skipped: {' and '.join(packages)} not installed"
        for batch in BATCHES if found else ():
            try:
                ms.setdefault(name, {})[batch] = _measure(make(Job(source, normalized, batch)))
            except (Skipped, ImportError, RuntimeError) as error:
                notes[name] = f"skipped: {error}"
                break
    rows = [[name, *(number(values.get(batch), 4) for batch in BATCHES)] for name, values in ms.items() if values]
    print_table(f"{options.network} on {about['gpu']}, ms of a batch", ["", *map(str, BATCHES)], rows)
    for name, reason in notes.items():
        note(f"{name}: {reason}")
    write_report(options.out, "cuda", network=options.network, device=about, bit_exact=exact, peers=notes, ms=ms)


def _own(network: Network, images: NDArray[np.uint8], expected: NDArray[np.int32]) -> tuple[dict[str, float], bool]:
    """Own milliseconds of a batch, best of the rounds, and whether its sums are the oracle's."""
    batch = len(images)
    device = copies = overlapped = float("inf")
    exact = True
    for _ in range(ROUNDS):
        sums, timings = network.run(images)
        exact &= bool((sums == np.resize(expected, sums.shape)).all())
        rates = network.throughput(images, REPEATS)
        copies = min(copies, float(timings["latency_ms"].min()))
        overlapped = min(overlapped, batch / rates["images_per_s"] * 1e3)
        device = min(device, batch / rates["device_images_per_s"] * 1e3)
    return {
        "squeezeedge": device,
        "squeezeedge, latency with copies": copies,
        "squeezeedge, overlapped copies": overlapped,
    }, exact


def _measure(enqueue: Enqueue) -> float:
    """Milliseconds of one batch among many back to back, best of the rounds."""
    torch = _torch()
    best = float("inf")
    for _ in range(3):
        enqueue()
    for _ in range(ROUNDS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(REPEATS):
            enqueue()
        torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - start) / REPEATS * 1e3)
    return best


if __name__ == "__main__":
    main()
