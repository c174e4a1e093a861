"""Each pattern's kernel alone: what it writes where, and what it leaves untouched."""

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.graph.oracle import execute
from squeezeedge.lower.patterns import Pattern, partition
from squeezeedge.lower.relax_module import to_relax
from squeezeedge.lower.stages import Stage, stages
from squeezeedge.targets.cpu.isa import INSTRUCTION_SETS
from squeezeedge.targets.cpu.layout import Layout
from squeezeedge.targets.cpu.lower import FUSIONS
from squeezeedge.targets.cpu.options import CpuOptions, choose_isas
from squeezeedge.targets.cpu.stage import Site, copy_image, scratch_bytes, stage_call
from tests.graphs import GraphBuilder, random_images
from tests.targets.cpu.emit import run_function

UNTOUCHED = 77
QUICK = (Pattern.CONVOLUTION, Pattern.MAX_POOL, Pattern.ADD, Pattern.CONCAT)
FUSED = (Pattern.CONVOLUTION_POOL, Pattern.CONCAT_CONVOLUTIONS)


@pytest.fixture(scope="module")
def graph() -> IntegerGraph:
    """Every pattern; no tensor but the image and ``narrow`` is padded."""
    builder = GraphBuilder(np.random.default_rng(5), (26, 23))
    pooled = builder.pool(builder.conv(IMAGE, 20, (3, 3), padding=(1, 1, 1, 1)), (3, 3), (2, 2), (0, 1, 1, 0))
    narrow = builder.conv(pooled, 19)
    fire = builder.concat([builder.conv(narrow, 5), builder.conv(narrow, 24, (3, 3), padding=(1, 1, 1, 1))])
    joined = builder.concat([fire, fire, builder.pool(fire, (3, 3), (1, 1), (1, 1, 1, 1))])
    added = builder.add(joined, joined, zero_point=128)
    return builder.finish(added, 21)


@pytest.fixture(scope="module")
def found(graph: IntegerGraph) -> dict[Pattern, Stage]:
    """The last stage of each pattern."""
    return {stage.pattern: stage for stage in stages(partition(to_relax(graph), FUSIONS), graph)}


@pytest.fixture(scope="module")
def values(graph: IntegerGraph) -> dict[str, NDArray[np.generic]]:
    """Every tensor of one image."""
    image = random_images(graph, 1, 0)[0]
    return {IMAGE: image, **dict(execute(graph, image))}


def _memory(layout: Layout, value: NDArray[np.generic], border: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """A tensor as it lies in memory; ``border`` is the q of each channel around it."""
    size = layout.rows * layout.row
    memory = np.full(layout.size, UNTOUCHED, np.uint8)
    if border is not None:
        memory[:size] = np.resize(border, size)
    memory[layout.address(*np.indices(layout.shape))] = value
    return memory


def test_every_pattern_has_a_kernel(found: dict[Pattern, Stage]) -> None:
    assert stage_call.cells() == dict.fromkeys(Pattern, "")
    assert found.keys() == set(Pattern)


@pytest.mark.parametrize("pattern", [*QUICK, *(pytest.param(pattern, marks=pytest.mark.slow) for pattern in FUSED)])
def test_the_tensor_and_its_border(
    pattern: Pattern, found: dict[Pattern, Stage], values: dict[str, NDArray[np.generic]]
) -> None:
    """Written into a layout with a border, from sources with borders as wide as any convolution needs."""
    stage, isa = found[pattern], INSTRUCTION_SETS[choose_isas(CpuOptions())[0]]
    sources = tuple(Layout(*shape, (1, 1, 1, 1)) for shape in stage.input_shapes)
    target = Layout(*stage.out, (2, 0, 1, 1), scratch_bytes(stage, isa))
    site = Site("kernel", stage.inputs, sources, stage.name, target, [9] * target.channels)
    call = stage_call(stage, site, isa)
    assert (call.inputs, call.out, call.size, call.dtype) == (stage.inputs, stage.name, target.size, "uint8")
    pads = {conv.input: conv.pad_value for conv in stage.convolutions}
    data = [_memory(layout, values[name], pads.get(name)) for name, layout in zip(stage.inputs, sources, strict=True)]
    before = np.full(target.size, UNTOUCHED, np.uint8)
    got = run_function(call.function, "kernel", [*data, *call.constants], before, isa)
    expected = _memory(target, values[stage.name], np.full(target.channels, 9, np.uint8))
    np.testing.assert_array_equal(got[: target.end], expected[: target.end])


@pytest.mark.slow
@pytest.mark.parametrize("border", [(0, 0, 0, 0), (0, 2, 1, 0)], ids=["one row", "rows"])
def test_the_head(
    found: dict[Pattern, Stage], values: dict[str, NDArray[np.generic]], border: tuple[int, int, int, int]
) -> None:
    """Class sums, then those of classes that fill up the last block; all pixels are one row where no border is."""
    stage, isa = found[Pattern.HEAD], INSTRUCTION_SETS[choose_isas(CpuOptions())[0]]
    (name,), (shape,) = stage.inputs, stage.input_shapes
    source = Layout(*shape, border)
    call = stage_call(stage, Site("kernel", (name,), (source,), stage.name, Layout(*stage.out), [0]), isa)
    data = _memory(source, values[name], None)
    got = run_function(call.function, "kernel", [data, *call.constants], np.full(call.size, -1, np.int32), isa)
    assert call.dtype == "int32" and call.size % isa.lanes == 0
    np.testing.assert_array_equal(got[: stage.out.channels], values[stage.name])
    assert not got[stage.out.channels :].any()


def test_the_image(graph: IntegerGraph, values: dict[str, NDArray[np.generic]]) -> None:
    """Its pad value is one per channel (R2)."""
    target, pad = Layout(*graph.input_shape, (1, 2, 0, 1)), [1, 2, 3]
    call = copy_image(Site("image", (IMAGE,), (), "copy", target, pad))
    image = np.ascontiguousarray(values[IMAGE]).ravel()
    got = run_function(call.function, "image", [image], np.full(target.size, UNTOUCHED, np.uint8))
    np.testing.assert_array_equal(got, _memory(target, values[IMAGE], np.array(pad, np.uint8)))
