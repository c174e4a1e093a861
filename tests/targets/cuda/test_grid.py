"""How a block's threads share items out; the forms of a block are tested in test_loops and test_source."""

import numpy as np
import pytest

from squeezeedge.targets.cuda.grid import Block, Kernel
from tests.targets.cuda.emulation import run_kernel


@pytest.mark.parametrize("count", [4, 64, 100, 128])
def test_each_item_is_one_threads(count: int) -> None:
    """Also where they do not divide among the threads."""

    def body(block: Block) -> None:
        with block.region(barrier=False), block.threads() as thread, block.strided(count, thread) as item:
            block.out.store(item, block.out.load(item) + item + 1)

    kernel = Kernel("test", 1, 64, 0, (64,), (), (130, "int32"), body)
    got = run_kernel(kernel, [np.zeros(64, np.uint8)], 1)
    np.testing.assert_array_equal(got, [*range(1, count + 1), *[0] * (130 - count)])
