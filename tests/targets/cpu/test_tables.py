"""Tables of several variants: equal constants lie once, and each variant finds its own."""

import numpy as np
from tvm import IRModule

from squeezeedge.graph import IntegerGraph
from squeezeedge.lower.call_plan import Argument, Call, CallPlan, Place
from squeezeedge.targets.cpu.interface import Interface
from squeezeedge.targets.cpu.lower import CpuLowered
from squeezeedge.targets.cpu.tables import Variant, plan_header, share_constants
from squeezeedge.targets.trace import Trace


def variant(isa: str, *constants: int) -> Variant:
    """Of one call, whose constants are 64 bytes of each number."""
    data = np.repeat(np.array(constants, np.uint8), 64)
    arguments = [Argument(Place.CONSTANTS, 64 * i, 60, "int8") for i in range(len(constants))]
    call = Call("f", (Argument(Place.INPUT, 0, 3, "uint8"), *arguments, Argument(Place.OUTPUT, 0, 8, "int32")))
    return Variant(isa, {}, CallPlan(IRModule({}), (call,), 0, data), [5], b"", Trace("head", ()), [])


def test_equal_constants_lie_once() -> None:
    given = [variant("avx2", 1, 2, 1), variant("generic", 2, 3)]
    moved, data = share_constants(given)
    assert data[::64].tolist() == [1, 2, 3]
    for before, after in zip(given, moved, strict=True):
        (own,), (call,) = before.plan.calls, after.plan.calls
        for old, new in zip(own.arguments, call.arguments, strict=True):
            assert (old.place, old.size, old.dtype) == (new.place, new.size, new.dtype)
            if old.place is Place.CONSTANTS:
                assert data[new.offset] == before.plan.constants[old.offset] and new.offset % 64 == 0
            else:
                assert new == old


def test_the_constants_of_one_variant_stay(lowered: CpuLowered) -> None:
    (moved,), data = share_constants(lowered.variants)
    assert moved.plan.calls == lowered.variants[0].plan.calls
    np.testing.assert_array_equal(data, lowered.variants[0].plan.constants)


def test_the_tables(two_layers: IntegerGraph) -> None:
    text = plan_header([variant("avx2", 1), variant("generic", 2, 3)], Interface.of(two_layers, None))
    assert "static const Missing needs0[] = {missing_avx2, NULL};" in text
    assert "static const Missing needs1[] = {NULL};" in text
    assert '#define ISAS "avx2, generic"' in text and "#define MOST_BUFFERS 4" in text
    assert '{"avx2", needs0, buffers0, calls0, 3, 5, 0},' in text
