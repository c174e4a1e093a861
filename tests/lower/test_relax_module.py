"""The Relax function means what the oracle says, by TVM's own lowering."""

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from numpy.typing import NDArray
from tvm import IRModule, relax
from tvm.target import Target

from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.lower.relax_module import MAIN, to_relax
from tests.graphs import integer_graphs, random_graph, random_images


def run_with_tvm(module: IRModule, images: NDArray[np.uint8]) -> NDArray[np.int32]:
    machine = relax.VirtualMachine(relax.build(module, Target("llvm")), tvm.cpu())
    return np.concatenate([machine[MAIN](tvm.runtime.tensor(image[None])).numpy() for image in images])


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(graph=integer_graphs())
def test_default_lowering_equals_the_oracle(graph: IntegerGraph) -> None:
    images = random_images(graph, 2, 0)
    np.testing.assert_array_equal(run_with_tvm(to_relax(graph), images), run(graph, images))


@pytest.mark.parametrize("seed", range(3))
def test_signature(seed: int) -> None:
    graph = random_graph(seed, groups=False)
    main = to_relax(graph)[MAIN]
    (image,) = main.params
    assert tuple(map(int, image.ty.shape)) == (1, *graph.input_shape) and image.ty.dtype == "uint8"
    assert tuple(map(int, main.ret_ty.shape)) == (1, graph.classes) and main.ret_ty.dtype == "int32"
