"""Runtimes of a processor: how each is prepared for a network, and how it is opened.

What is opened runs in a process of its own (benchmarks/worker.py), so nothing heavy is imported before it is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from squeezeedge.graph import IntegerGraph
    from squeezeedge.graph.float.graph import FloatGraph

__all__ = ["BATCH", "OWN", "PEAK", "RUNTIMES", "Images", "Job", "Runtime"]

BATCH = 16
"""The larger of the two batches."""
OWN = "squeezeedge"
PEAK = "peak"
"""Folder of the artifact whose rate is the peak of its instruction set."""


@dataclass(frozen=True)
class Job:
    """What is prepared.

    Attributes:
        graph: the integer graph.
        floating: the float graph of the same network.
        images: normalized, float32 [N, 3, H, W], to calibrate on.
        isa: instruction set of ours; the others' is the processor's best.
    """

    graph: IntegerGraph
    floating: FloatGraph
    images: NDArray[np.float32]
    isa: str


@dataclass(frozen=True)
class Images:
    """A batch, as uint8 [N, H, W, 3] and normalized, float32 [N, 3, H, W]."""

    pixels: NDArray[np.uint8]
    normalized: NDArray[np.float32]


@dataclass(frozen=True)
class Opened:
    """A network, ready to run a batch.

    Attributes:
        run: -> logits float32 [N, classes].
        kernels: of its convolutions, by the runtime's names; empty where it does not say.
    """

    run: Callable[[], NDArray[np.float32]]
    kernels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Runtime:
    """A runtime.

    Attributes:
        packages: that it needs.
        what: it runs.
        prepare: write what is opened into a folder.
        open: (that folder, threads, a batch) -> the network.
        threaded: more than one thread does something for it.
        batched: several images in a call do something for it.
    """

    packages: tuple[str, ...]
    what: str
    prepare: Callable[[Job, Path], None]
    open: Callable[[Path, int, Images], Opened]
    threaded: bool = True
    batched: bool = True


def _prepare_own(job: Job, folder: Path) -> None:
    import squeezeedge as sq
    from squeezeedge.targets.cpu.profile import CHANNELS, SIZE
    from squeezeedge.targets.peak import suitable

    sq.compile(job.graph, "cpu", folder / OWN, isa=job.isa)
    sq.compile(suitable(SIZE, CHANNELS), "cpu", folder / PEAK, isa=job.isa)


def _open_own(folder: Path, threads: int, images: Images) -> Opened:
    from squeezeedge.targets.cpu.device import Network
    from squeezeedge.targets.device.run import Artifact

    artifact = Artifact(folder / OWN)
    network = Network(artifact, threads, len(images.pixels))
    return Opened(lambda: network.run(images.pixels)[0] * artifact.logit_scale)


def _prepare_openvino(job: Job, folder: Path) -> None:
    import openvino

    from benchmarks.peers import float_onnx, quantize_nncf

    openvino.save_model(quantize_nncf(float_onnx(job.floating), job.images), folder / "int8.xml")


def _open_openvino(folder: Path, threads: int, images: Images) -> Opened:
    """One image: all threads compute it. Several: as many streams as threads, of one thread each."""
    import openvino

    several = len(images.normalized) > 1
    hint: dict[str, object] = {"NUM_STREAMS": threads} if several else {"PERFORMANCE_HINT": "LATENCY"}
    model = openvino.Core().compile_model(folder / "int8.xml", "CPU", {"INFERENCE_NUM_THREADS": threads, **hint})
    requests = []
    for image in images.normalized:
        request = model.create_infer_request()
        request.set_input_tensor(openvino.Tensor(image[None].copy()))
        requests.append(request)

    def run() -> NDArray[np.float32]:
        if several:
            for request in requests:
                request.start_async()
            for request in requests:
                request.wait()
        else:
            requests[0].infer()
        return np.stack([np.array(request.get_output_tensor().data).reshape(-1) for request in requests])

    about = [node.get_rt_info() for node in model.get_runtime_model().get_ops()]
    names = {
        str(found["primitiveType"].astype(str))
        for found in about
        if "Convolution" in str(found["layerType"].astype(str))
    }
    return Opened(run, tuple(sorted(names)))


def _prepare_onnxruntime(job: Job, folder: Path) -> None:
    import onnx

    from benchmarks.peers import float_onnx, quantize_onnxruntime

    model = quantize_onnxruntime(float_onnx(job.floating), job.images)
    for count in (1, BATCH):
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = count
        del model.graph.value_info[:]
        onnx.save(model, folder / f"int8-{count}.onnx")


def _open_onnxruntime(folder: Path, threads: int, images: Images) -> Opened:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    path = folder / f"int8-{len(images.normalized)}.onnx"
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Opened(lambda: session.run(None, {"image": images.normalized})[0].reshape(len(images.normalized), -1))


def _prepare_ncnn(job: Job, folder: Path) -> None:
    from benchmarks.float_network import largest_values
    from benchmarks.ncnn_model import write_ncnn

    largest = largest_values(job.floating, job.images)
    write_ncnn(job.floating, largest, folder / "int8.param", folder / "int8.bin")


def _open_ncnn(folder: Path, threads: int, images: Images) -> Opened:
    import ncnn

    from benchmarks.ncnn_model import OUTPUT

    network = ncnn.Net()
    network.opt.num_threads = threads
    if network.load_param(str(folder / "int8.param")) or network.load_model(str(folder / "int8.bin")):
        raise ValueError(f"{folder}: ncnn cannot load int8.param and int8.bin")
    inputs = [ncnn.Mat(image).clone() for image in images.normalized]

    def run_one(image: object) -> NDArray[np.float32]:
        extractor = network.create_extractor()
        extractor.input("image", image)
        return np.array(extractor.extract(OUTPUT)[1]).reshape(-1)

    return Opened(lambda: np.stack([run_one(image) for image in inputs]))


def _prepare_litert(job: Job, folder: Path) -> None:
    from benchmarks.tflite_model import int8_tflite

    (folder / "int8.tflite").write_bytes(int8_tflite(job.floating, job.images))


def _open_litert(folder: Path, threads: int, images: Images) -> Opened:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(folder / "int8.tflite"), num_threads=threads)
    source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.allocate_tensors()
    inputs = [np.ascontiguousarray(image.transpose(1, 2, 0)[None]) for image in images.normalized]

    def run_one(image: NDArray[np.float32]) -> NDArray[np.float32]:
        interpreter.set_tensor(source, image)
        interpreter.invoke()
        found: NDArray[np.float32] = interpreter.get_tensor(result)
        return found.reshape(-1)

    return Opened(lambda: np.stack([run_one(image) for image in inputs]))


def _prepare_tvm(job: Job, folder: Path) -> None:
    import tvm

    from squeezeedge.lower.relax_module import to_relax

    target = {"kind": "llvm", "mcpu": str(tvm.target.codegen.llvm_get_system_cpu())}
    tvm.compile(to_relax(job.graph), tvm.target.Target(target)).export_library(str(folder / "default.so"))
    np.save(folder / "scale.npy", job.graph.head.scale)


def _open_tvm(folder: Path, threads: int, images: Images) -> Opened:
    import tvm
    from tvm import relax

    machine = relax.VirtualMachine(tvm.runtime.load_module(str(folder / "default.so")), tvm.cpu())
    inputs = [tvm.runtime.tensor(image[None]) for image in images.pixels]
    scale = np.load(folder / "scale.npy")
    return Opened(lambda: np.concatenate([machine["main"](image).numpy() for image in inputs]) * scale)


RUNTIMES: dict[str, Runtime] = {
    OWN: Runtime(("squeezeedge",), "int8; of several images, one a thread", _prepare_own, _open_own),
    "OpenVINO": Runtime(
        ("openvino", "nncf"),
        "int8 by NNCF's default settings; of several images, a stream a thread",
        _prepare_openvino,
        _open_openvino,
    ),
    "ONNX Runtime": Runtime(
        ("onnxruntime", "onnx"), "int8, static, per channel, u8s8", _prepare_onnxruntime, _open_onnxruntime
    ),
    "ncnn": Runtime(("ncnn",), "int8, per channel; images in turn", _prepare_ncnn, _open_ncnn),
    "LiteRT": Runtime(
        ("ai-edge-litert",),
        "int8, per channel, XNNPACK's kernels; images in turn, which is faster than a batch",
        _prepare_litert,
        _open_litert,
    ),
    "TVM's default": Runtime(
        ("apache-tvm",),
        "the same integer graph by TVM's default pipeline, untuned; it uses one thread",
        _prepare_tvm,
        _open_tvm,
        threaded=False,
        batched=False,
    ),
}
"""Name -> runtime; ours first."""
