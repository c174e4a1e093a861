"""The timeline of a run as Chrome trace JSON, for chrome://tracing or Perfetto."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from squeezeedge.targets.vta.isa.encoding import Instruction, Module
from squeezeedge.targets.vta.sim.simulator import Report

__all__ = ["chrome_trace"]


def chrome_trace(
    program: Sequence[Instruction], report: Report, clock_mhz: float, layers: Sequence[str]
) -> dict[str, Any]:
    """One bar an instruction on its module's track, and before it one for the wait for tokens.

    Args:
        program: what was run.
        report: of the run.
        clock_mhz: makes microseconds of cycles.
        layers: for each instruction, the layer that it belongs to.

    Returns:
        The trace as JSON values (the Trace Event Format's object form).
    """
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "thread_name", "pid": 0, "tid": module.value, "args": {"name": module.name.lower()}}
        for module in Module
    ]
    for number, (instruction, layer) in enumerate(zip(program, layers, strict=True)):
        ready, start, end = (int(cycle) for cycle in report.events[number])
        track = {"ph": "X", "pid": 0, "tid": instruction.module.value}
        if start > ready:
            events.append({**track, "name": "wait", "ts": ready / clock_mhz, "dur": (start - ready) / clock_mhz})
        detail = {"instruction": number, "text": str(instruction), "cycles": end - start}
        bar = {"name": layer, "cat": instruction.mnemonic, "ts": start / clock_mhz, "dur": (end - start) / clock_mhz}
        events.append({**track, **bar, "args": detail})
    return {"traceEvents": events, "displayTimeUnit": "ns"}
