"""Two sides layer by layer. A kernel of every target is broken on purpose, and the first wrong element is found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.artifact import Artifact, write_artifact
from squeezeedge.calib.selection import evaluation_images
from squeezeedge.errors import GateError, UsageError
from squeezeedge.evaluation.compare import compare, compare_sides
from squeezeedge.evaluation.comparison import Element, ExactComparison, FloatComparison
from squeezeedge.evaluation.sides import ORACLE, Side
from squeezeedge.graph import IMAGE, Conv, Head, IntegerGraph
from squeezeedge.graph.oracle import execute
from squeezeedge.lower import onnx_module
from squeezeedge.model import Model
from squeezeedge.targets.ascend import deploy
from squeezeedge.targets.cpu import elementwise, packing
from squeezeedge.targets.cpu import stage as cpu_stage
from squeezeedge.targets.cuda import convolution
from squeezeedge.targets.cuda import stage as cuda_stage
from squeezeedge.targets.registry import get_target
from squeezeedge.targets.vta.lower import compiler as vta_compiler
from squeezeedge.targets.vta.lower import lowering as vta_lowering
from tests.graphs import GraphBuilder, random_images
from tests.targets.cuda.emulation import LoopTracer

BROKEN = "middle"
"""The convolution that is broken: 3x3, padded, before a fire."""
Patch = pytest.MonkeyPatch
Change = Callable[[Conv], Conv]


@pytest.fixture(scope="module")
def graph() -> IntegerGraph:
    """Padding, a fire, an addition, poolings: one fused on most targets."""
    builder = GraphBuilder(np.random.default_rng(11), (14, 12))
    first = builder.conv(IMAGE, 20, (3, 3), (1, 1), (1, 1, 1, 1), name="first")
    pooled = builder.pool(first, name="pool")
    middle = builder.conv(pooled, 20, (3, 3), (1, 1), (1, 1, 1, 1), name=BROKEN)
    fire = builder.fire(builder.add(pooled, middle, name="sum"), 18, (7, 13), name="fire")
    return builder.finish(fire, 6, graph_name="small")


@pytest.fixture(scope="module")
def images(graph: IntegerGraph) -> NDArray[np.uint8]:
    return random_images(graph, 3, 4)


def shifted(conv: Conv) -> Conv:
    """A shift that is one too large, of one channel."""
    shift = conv.shift.copy()
    shift[3] += 1
    return dataclasses.replace(conv, shift=shift)


def transposed(conv: Conv) -> Conv:
    """Rows and columns of the kernel exchanged."""
    return dataclasses.replace(conv, weight=np.ascontiguousarray(conv.weight.swapaxes(1, 2)))


def broken(conv: Any, change: Change) -> Any:  # noqa: ANN401  (one of two kinds)
    """A convolution, changed if it is the one."""
    return change(conv) if conv.name == BROKEN and not isinstance(conv, Head) else conv


def artifact_of(graph: IntegerGraph, images: NDArray[np.uint8], target: str, out: Path, **options: object) -> Artifact:
    chosen = get_target(target)
    return write_artifact(graph, chosen, chosen.options(**options), out, golden=images, source={"network": "test"})


def check(found: object, graph: IntegerGraph, change: Change, images: NDArray[np.uint8]) -> None:
    """What was found is what the oracle finds of a graph that is changed in the same way."""
    assert isinstance(found, ExactComparison)
    nodes = tuple(broken(node, change) if isinstance(node, Conv) else node for node in graph.nodes)
    wrong = dataclasses.replace(graph, nodes=nodes)
    right_values: list[dict[str, NDArray[Any]]] = [dict(execute(graph, image)) for image in images]
    wrong_values: list[dict[str, NDArray[Any]]] = [dict(execute(wrong, image)) for image in images]
    for layer in found.layers:
        if layer.unseen:
            continue
        pairs = [
            (r[layer.name].astype(int), w[layer.name].astype(int))
            for r, w in zip(right_values, wrong_values, strict=True)
        ]
        differing = [np.argwhere(r.reshape(layer.shape) != w.reshape(layer.shape)) for r, w in pairs]
        assert layer.differing == sum(map(len, differing)), layer.name
        assert layer.largest == max(int(np.abs(r - w).max()) for r, w in pairs)
        assert layer.wrong_b == 0, "the oracle makes no faults"
        assert (layer.wrong_a > 0) == (layer.name == BROKEN), "others only pass them on"
        if layer.differing:
            image = next(index for index, places in enumerate(differing) if len(places))
            y, x, c = differing[image][0].tolist()
            r, w = (values.reshape(layer.shape)[y, x, c] for values in pairs[image])
            assert layer.first == Element(image, y, x, c, int(w), int(r), int(r))
    assert found.first is not None and found.first.name == BROKEN
    assert found.first.wrong_a == found.first.differing
    logits = [[graph.logits(v[graph.head.name]).argmax() for v in values] for values in (right_values, wrong_values)]
    assert found.changed == int(np.count_nonzero(np.array(logits[0]) != logits[1]))
    with pytest.raises(GateError, match=rf"small: .* and oracle differ; {BROKEN}, image {found.first.first.image}, "):  # type: ignore[union-attr]
        found.check()


def patch_cpu(patch: Patch, change: Change) -> None:
    pack = packing.pack
    patch.setattr(cpu_stage, "pack", lambda conv, *rest, **named: pack(broken(conv, change), *rest, **named))


def patch_vta(patch: Patch, change: Change) -> None:
    """Behind the verifier, which would find it."""
    part = vta_lowering._Lowering.part
    patch.setattr(vta_lowering._Lowering, "part", lambda self, conv, *rest: part(self, broken(conv, change), *rest))
    patch.setattr(vta_compiler, "verify", lambda program, layers: None)


def patch_cuda(patch: Patch, change: Change) -> None:
    kernel = convolution.convolution_kernel
    patch.setattr(cuda_stage, "convolution_kernel", lambda conv, *rest: kernel(broken(conv, change), *rest))


def patch_ascend(patch: Patch, change: Change) -> None:
    ungrouped = deploy._ungrouped
    patch.setattr(deploy, "_ungrouped", lambda node: broken(ungrouped(node), change))


def patch_onnx(patch: Patch, change: Change) -> None:
    """The weights alone are changed: shifts are taken from the node itself."""
    accumulate = onnx_module._accumulate
    patch.setattr(
        onnx_module,
        "_accumulate",
        lambda builder, node, *rest: accumulate(builder, broken(node, change), *rest),
    )


CASES = [
    ("cpu", "cpu", {"isa": "generic"}, patch_cpu, shifted),
    ("vta", "vta-sim", {}, patch_vta, transposed),
    ("vta", "vta-sim", {"instructions": "published"}, patch_vta, shifted),
    ("ascend", "ascend-emulation", {"soc_version": "emulated"}, patch_ascend, shifted),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=["cpu", "vta-sim", "vta-sim published", "ascend-emulation"])
def test_a_broken_kernel_is_found(
    case: tuple[str, str, dict[str, object], Callable[[Patch, Change], None], Change],
    graph: IntegerGraph,
    images: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: Patch,
) -> None:
    target, device, options, patch, change = case
    patch(monkeypatch, change)
    artifact = artifact_of(graph, images, target, tmp_path / "artifact", **options)
    monkeypatch.undo()
    found = compare(artifact, ORACLE, device=device)
    if target == "ascend":  # its head is fp16, so that layer passes on a little more than the faults
        assert isinstance(found, ExactComparison) and found.tolerance > 0
        found = dataclasses.replace(found, layers=tuple(layer for layer in found.layers if layer.name != "head"))
    check(found, graph, change, images)


@pytest.mark.slow
def test_a_broken_kernel_of_cuda_is_found(graph: IntegerGraph, images: NDArray[np.uint8], monkeypatch: Patch) -> None:
    """In its loop form."""
    patch_cuda(monkeypatch, transposed)
    tracer = LoopTracer(graph)
    found = compare_sides(graph, (Side("cuda", tracer.trace, tracer.unseen), _oracle(graph)), images)
    check(found, graph, transposed, images)


@pytest.mark.slow
def test_a_broken_kernel_of_onnx_is_found(graph: IntegerGraph, images: NDArray[np.uint8], monkeypatch: Patch) -> None:
    patch_onnx(monkeypatch, transposed)
    found = compare("onnx", Model.of_graph(graph), images)
    check(found, graph, transposed, images)


@pytest.mark.slow
def test_a_stale_halo_is_found(
    graph: IntegerGraph, images: NDArray[np.uint8], tmp_path: Path, monkeypatch: Patch
) -> None:
    """The pooling leaves what was there before around its tensor: the convolution that pads it is wrong at the edge."""
    fill = elementwise.fill_border
    monkeypatch.setattr(
        cpu_stage,
        "fill_border",
        lambda layout, out, pad: fill(layout, out, [q ^ 0x55 for q in pad] if layout.height == 6 else pad),
    )
    artifact = artifact_of(graph, images, "cpu", tmp_path / "artifact", isa="generic")
    found = compare(artifact)
    assert isinstance(found, ExactComparison) and found.first is not None and found.first.first is not None
    layers = {layer.name: layer for layer in found.layers}
    assert layers["pool"].differing == 0, "its pixels are right"
    assert found.first.name == BROKEN and found.first.wrong_a == found.first.differing
    height, width, _ = found.first.shape
    assert found.first.first.y in (0, height - 1) or found.first.first.x in (0, width - 1)
    assert layers["first"].unseen == "cpu: its rows only live until they are pooled, in the kernel that makes pool"


def _oracle(graph: IntegerGraph) -> Side:
    return Side(ORACLE, lambda image: execute(graph, image))


def changed_side(graph: IntegerGraph, label: str, name: str, by: int) -> Side:
    """The oracle, in whose tensor ``name`` one value is moved; what follows is computed of the right ones."""

    def trace(image: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[Any]]]:
        for made, values in execute(graph, image):
            if made == name:
                values = values.copy()
                values.flat[5] = int(values.flat[5]) ^ by
            yield made, values

    return Side(label, trace)


def test_both_sides_may_be_wrong(graph: IntegerGraph, images: NDArray[np.uint8]) -> None:
    """Each is judged by the oracle on its own inputs."""
    sides = changed_side(graph, "one", "pool", 1), changed_side(graph, "two", "fire.squeeze", 2)
    found = compare_sides(graph, sides, images)
    assert isinstance(found, ExactComparison)
    wrong = {layer.name: (layer.differing, layer.wrong_a > 0, layer.wrong_b > 0) for layer in found.layers}
    assert wrong["pool"] == (3, True, False) and wrong["fire.squeeze"] == (3, False, True)
    assert found.first is not None and found.first.name == "pool"
    assert found.first.first is not None and found.first.first[:4] == (0, 0, 0, 5)
    assert found.first.first.b == found.first.first.oracle == found.first.first.a ^ 1
    assert not found.agrees


def test_sums_may_differ_as_much_as_a_device_says(graph: IntegerGraph, images: NDArray[np.uint8]) -> None:
    side = changed_side(graph, "half", "head", 1)
    loose = dataclasses.replace(side, tolerance=0.5)
    for one, agrees in ((side, False), (loose, True)):
        found = compare_sides(graph, (one, _oracle(graph)), images)
        assert isinstance(found, ExactComparison) and found.agrees is agrees
        assert found.layers[-1].differing == 3 and 0 < found.share < 0.5


def test_a_tensor_that_is_not_shown_is_told(graph: IntegerGraph, images: NDArray[np.uint8]) -> None:
    """The layer behind it is judged by what the oracle makes of the layers before it."""
    hidden = changed_side(graph, "one", "sum", 1)
    side = dataclasses.replace(
        hidden,
        trace=lambda image: ((name, values) for name, values in hidden.trace(image) if name != BROKEN),
        unseen=lambda: {BROKEN: "it is fused"},
    )
    found = compare_sides(graph, (side, _oracle(graph)), images)
    assert isinstance(found, ExactComparison)
    layers = {layer.name: layer for layer in found.layers}
    assert layers[BROKEN].unseen == "one: it is fused" and layers[BROKEN].values == 0
    assert layers["sum"].wrong_a == 3 and layers["sum"].wrong_b == 0


def test_the_network_beside_fp32(digits_model: Model, digits_pixels: NDArray[np.uint8]) -> None:
    graph, logits = digits_model.integer, digits_model.float_logits
    assert graph is not None and logits is not None
    found = compare(digits_model, "fp32", digits_pixels[:2])
    assert isinstance(found, FloatComparison) and found.images == 2
    assert [layer.name for layer in found.layers] == [node.name for node in graph.nodes]
    assert all(layer.values and layer.sqnr_db > 20 for layer in found.layers)
    images = evaluation_images(digits_pixels[:2], graph.classes).load(graph.preprocessing)
    both = [dict(execute(graph, image)) for image in images]
    for layer in found.layers[:-1]:
        assert layer.saturated == sum(int((tensors[layer.name] == 255).sum()) for tensors in both)
    errors = graph.logits(np.stack([tensors[graph.head.name] for tensors in both])) - logits(images)
    assert found.layers[-1].largest_error == pytest.approx(float(np.abs(errors).max()), rel=1e-3)
    found.check()


def test_what_is_refused(graph: IntegerGraph, images: NDArray[np.uint8], digits_network: Model, tmp_path: Path) -> None:
    other = Model.of_graph(dataclasses.replace(graph, name="other"))
    refused: list[tuple[object, object, str]] = [
        ("oracle", "fp32", r"oracle and fp32: of which network\? Give an artifact or a model"),
        (graph, "oracle", "both sides are the oracle"),
        (graph, graph, "both sides are the oracle"),
        (graph, other, "small and other hold different integer graphs, .* compare each with fp32"),
        (digits_network, "oracle", "squeezenet1_1_digits: is not quantized"),
        (graph, "fp32", "small: its float network is not known here; give `weights`"),
        (graph, tmp_path, "not an artifact"),
        (3, "oracle", r"`a` is 3 \(int\); it must be a path"),
        (graph, tmp_path / "none.sqe", "none.sqe"),
    ]
    for a, b, text in refused:
        with pytest.raises(UsageError, match=text):
            compare(a, b, images)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="`board`: neither side runs on another machine"):
        compare(graph, "onnx", images, board="user@host")
    with pytest.raises(UsageError, match="`limit` is 0"):
        compare(graph, "onnx", images, limit=0)
