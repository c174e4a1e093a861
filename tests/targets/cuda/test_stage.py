"""Each pattern's kernel alone, for a batch of two images, against the oracle's tensors."""

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.graph.oracle import execute
from squeezeedge.lower.patterns import Pattern, partition
from squeezeedge.lower.relax_module import to_relax
from squeezeedge.lower.stages import Stage, stages
from squeezeedge.targets.cuda.elementwise import Pooling
from squeezeedge.targets.cuda.layout import Layout
from squeezeedge.targets.cuda.lower import FUSIONS
from squeezeedge.targets.cuda.options import DOT_PRODUCT, TENSOR_CORE
from squeezeedge.targets.cuda.stage import Site, copy_image, stage_kernel
from tests.graphs import random_images
from tests.targets.cuda.emulation import run_kernel

Values = dict[str, list[NDArray[np.generic]]]
ISAS = [TENSOR_CORE, DOT_PRODUCT]
KERNELS = [pattern for pattern in Pattern if pattern is not Pattern.CONVOLUTION_POOL]


@pytest.fixture(scope="module")
def found(every_kernel: IntegerGraph) -> dict[Pattern, list[Stage]]:
    """The stages of each pattern; all tensors but the image are read as they are here, with filled-up pixels."""
    by_pattern: dict[Pattern, list[Stage]] = {}
    for stage in stages(partition(to_relax(every_kernel), FUSIONS), every_kernel):
        by_pattern.setdefault(stage.pattern, []).append(stage)
    return by_pattern


@pytest.fixture(scope="module")
def values(every_kernel: IntegerGraph) -> Values:
    """Every tensor of two images."""
    images = random_images(every_kernel, 2, 0)
    results = [{IMAGE: image, **dict(execute(every_kernel, image))} for image in images]
    return {name: [result[name] for result in results] for name in results[0]}


def _memory(layout: Layout, images: list[NDArray[np.generic]]) -> NDArray[np.uint8]:
    """A batch in its layout; what fills up pixels holds garbage."""
    memory = np.full((len(images), layout.height, layout.width, layout.pixel), 77, np.uint8)
    memory[..., : layout.channels] = images
    return memory.ravel()


def _values(layout: Layout, memory: NDArray[np.generic]) -> NDArray[np.generic]:
    return memory.reshape(-1, layout.height, layout.width, layout.pixel)[..., : layout.channels]


def test_every_pattern_has_a_kernel_or_a_reason() -> None:
    cells = stage_kernel.cells()
    assert {pattern for pattern, reason in cells.items() if reason == ""} == set(KERNELS)
    assert cells[Pattern.CONVOLUTION_POOL] == "a pooling is done by what reads it"


def test_a_refused_pattern_names_the_layer(found: dict[Pattern, list[Stage]]) -> None:
    stage = found[Pattern.CONVOLUTION][0]
    fused = Stage(Pattern.CONVOLUTION_POOL, stage.nodes, stage.inputs, stage.tensors)
    with pytest.raises(UnsupportedError, match=f"{stage.name}: .*a pooling is done by what reads it"):
        stage_kernel(fused, None)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("pattern", KERNELS)
def test_the_tensor(pattern: Pattern, isa: str, found: dict[Pattern, list[Stage]], values: Values) -> None:
    stage = found[pattern][-1]
    names = tuple(dict.fromkeys(stage.inputs))
    sources = {name: Layout(*stage.shape(name)) for name in names}
    target = Layout(*stage.out)
    kernel = stage_kernel(stage, Site("kernel", sources, stage.inputs, target))
    got = run_kernel(kernel, [_memory(sources[name], values[name]) for name in names], 2, isa)
    if pattern is Pattern.HEAD:
        np.testing.assert_array_equal(got.reshape(2, -1), values[stage.name])
    else:
        np.testing.assert_array_equal(_values(target, got), values[stage.name])


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS)
def test_a_pooling_on_the_way(isa: str, found: dict[Pattern, list[Stage]], values: Values) -> None:
    pool = found[Pattern.MAX_POOL][-1]
    (stage,) = [stage for stage in found[Pattern.CONVOLUTION] if pool.name in stage.inputs]
    assert pool.pooling is not None
    source, target = Layout(*pool.input_shapes[0]), Layout(*stage.out)
    site = Site("kernel", {pool.inputs[0]: source}, pool.inputs, target, Pooling(pool.pooling, pool.out))
    got = run_kernel(stage_kernel(stage, site), [_memory(source, values[pool.inputs[0]])], 2, isa)
    np.testing.assert_array_equal(_values(target, got), values[stage.name])


def test_the_image_is_copied(every_kernel: IntegerGraph, values: Values) -> None:
    source, target = Layout(*every_kernel.input_shape, packed=True), Layout(*every_kernel.input_shape)
    got = run_kernel(copy_image("image", source, target), [_memory(source, values[IMAGE])], 2)
    np.testing.assert_array_equal(_values(target, got), values[IMAGE])
