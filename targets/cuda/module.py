"""Kernels -> one Relax function that calls them, which TVM plans memory for."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax

from squeezeedge.graph import IMAGE
from squeezeedge.lower.call_plan import CallPlan, emit_call, plan_calls
from squeezeedge.lower.relax_module import MAIN
from squeezeedge.targets.cuda.loops import loop_function
from squeezeedge.targets.cuda.stage import KernelCall

__all__ = ["plan_kernels"]


def plan_kernels(calls: Sequence[KernelCall], image_bytes: int) -> CallPlan:
    """Plan the memory of one image; a batch of n takes n times as much of every buffer, at n times its offset.

    Args:
        calls: in execution order; the last one makes the result.
        image_bytes: of the input.

    Returns:
        The plan; its ``kernels`` are the loop forms for one image.
    """
    builder = relax.BlockBuilder()
    image = relax.Var(IMAGE, relax.TensorType((image_bytes,), "uint8"))
    values = {IMAGE: image}
    with builder.function(MAIN, [image]):
        with builder.dataflow():
            for call in calls:
                kernel, inputs = call.kernel, [values[name] for name in call.inputs]
                values[call.out] = emit_call(builder, loop_function(kernel, 1), inputs, kernel.constants, kernel.out)
            result = builder.emit_output(values[calls[-1].out])
        builder.emit_func_output(result)
    return plan_calls(builder.get())
