"""Latency on processors that are not here, from counted instructions; the method is checked on the processor that is.

    python -m benchmarks.predict squeezenet1_1.sqe -o FILE.json
    python -m benchmarks.predict squeezenet1_1.sqe --isa neon,neon-dotprod -o FILE.json

The network is compiled for each instruction set, and one inference counts how often each basic block of its kernels is
executed (:mod:`.executed`, :mod:`.counters`). A kernel takes the sum of its blocks' cycles (:mod:`.pipelines`) times
their executions; of the tasks that threads share, the longest counts. Two allowances are added: the time in which the
kernels' buffers are read from behind the second cache, once and without overlap, unless all of the network fits there;
and with several threads 2 microseconds a kernel, in which they start and wait for each other. No ARM processor has been
measured. The instruction sets of this machine are predicted and measured kernel by kernel; measured / predicted is what
the other predictions are worth. The file's results of other instruction sets are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import squeezeedge as sq
from benchmarks.counters import counted_blocks
from benchmarks.executed import Block, emulated_blocks, link, output
from benchmarks.pipelines import PROCESSORS, Processor, bound_cycles, classes, simulated_cycles
from benchmarks.report import note, write_report
from squeezeedge.evaluation.tables import Table, number
from squeezeedge.targets.cpu.device import THREADS_VARIABLE
from squeezeedge.targets.cpu.options import FEATURES, host_features
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.kernel_times import KernelLayer

__all__ = ["MEETING_S", "PUBLISHED", "Prediction", "hottest", "predict", "table"]

THREADS = (1, 4)
MEETING_S = 2e-6
"""What a kernel of several threads costs in addition, in seconds: they start and wait for each other."""

SIMULATED = 0.999
"""Share of the executed instructions whose blocks are simulated; the rest takes as long as these, by instruction."""

HERE = "x86_64"
"""Architecture of this machine, whose instruction sets are measured, too."""

LARGE = 0.02
"""Share of a network's time from which on a kernel's ratio is told."""

TRIPLES = {"aarch64": "aarch64-linux-gnu", "arm": "arm-linux-gnueabihf", "x86_64": None}

PUBLISHED: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "Raspberry Pi 5": {"ncnn int8": {"1": 11.7, "4": 7.0}, "ExecuTorch with XNNPACK, int8": {"not stated": 2.31}},
    "Raspberry Pi 4": {"ncnn int8": {"1": 69, "4": 42}},
    "Azure Cobalt 100": {"ncnn int8": {"1": 4.69, "4": 1.72}},
}
"""Board -> toolkit -> threads -> milliseconds of SqueezeNet 1.1, as their authors publish them; not measured here."""


@dataclass(frozen=True)
class Prediction:
    """One inference on a processor.

    Attributes:
        kernels_ms: of each kernel, in the plan's order, with the threads' meeting.
        memory_ms: of reading from behind the second cache.
        bound_ms: of all kernels, by the processor's widths alone; ``None``: they are not known.
    """

    kernels_ms: Sequence[float]
    memory_ms: float
    bound_ms: float | None

    @property
    def ms(self) -> float:
        """Of the whole network."""
        return sum(self.kernels_ms) + self.memory_ms


def hottest(blocks: Sequence[Block], share: float = SIMULATED) -> list[Block]:
    """The fewest blocks that have a share of the executed instructions, the most executed first."""
    ordered = sorted(blocks, key=lambda block: -block.total)
    wanted, count = share * sum(block.total for block in ordered), 0
    while wanted > 0:
        wanted -= ordered[count].total
        count += 1
    return ordered[:count]


def predict(
    blocks: Sequence[Block],
    layers: Sequence[KernelLayer],
    footprint: int,
    processor: Processor,
    hertz: float,
    simulate: Callable[[Sequence[Sequence[str]], Processor], list[float]] = simulated_cycles,
) -> Prediction:
    """The time of one inference.

    Args:
        blocks: that it executes.
        layers: of the kernels.
        footprint: bytes of weights and activations.
        processor: which.
        hertz: its clock.
        simulate: cycles of blocks.

    Raises:
        As :func:`benchmarks.pipelines.simulated_cycles`.
    """
    hot = hottest(blocks)
    cycles = simulate([block.instructions for block in hot], processor)
    rest = sum(block.total for block in blocks) / sum(block.total for block in hot)
    busy = _busiest(hot, cycles, len(layers))
    parallel = {block.kernel for block in blocks if max(block.executed) > 1}
    kernels = [
        1e3 * (rest * busy[kernel] / hertz + (MEETING_S if kernel in parallel else 0)) for kernel in range(len(layers))
    ]
    memory = 0.0 if footprint <= processor.l2 else sum(layer.bytes for layer in layers) / processor.beyond
    bound = None
    if processor.rates:
        bounds = [bound_cycles(block.instructions, processor) for block in blocks]
        bound = 1e3 * sum(_busiest(blocks, bounds, len(layers))) / hertz
    return Prediction(kernels, 1e3 * memory, bound)


def _busiest(blocks: Sequence[Block], cycles: Sequence[float], kernels: int) -> list[float]:
    """Each kernel's cycles before its tasks and in the longest of them."""
    tasks: list[dict[int, float]] = [{} for _ in range(kernels)]
    for block, each in zip(blocks, cycles, strict=True):
        own = tasks[block.kernel]
        for task, times in block.executed.items():
            own[task] = own.get(task, 0.0) + times * each
    return [own.pop(0, 0.0) + max(own.values(), default=0.0) for own in tasks]


def _measured(artifact: Path, prefix: Sequence[str]) -> tuple[list[float], float]:
    """Milliseconds of each kernel, the fastest of its runs with one thread, and the clock in Hz, of this machine."""
    command = [*prefix, sys.executable, "-m", "squeezeedge", "profile", str(artifact), "--runs", "200", "--json"]
    environment = {**os.environ, THREADS_VARIABLE: "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    layers = json.loads(done.stdout)["layers"]
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "clock"
        link("cc", Artifact(artifact).compiled["prefix"], artifact, program)
        hertz = float(output([*prefix, str(program), "clock"]))
    return [layer["fastest"] for layer in layers], hertz


def _entry(artifact: Path, processors: Sequence[Processor], prefix: Sequence[str]) -> dict[str, Any]:
    """What the JSON file says of an instruction set."""
    compiled = Artifact(artifact).compiled
    layers = KernelLayer.all_of(artifact, compiled, int(compiled["kernels"]))
    footprint = int(compiled["workspace_bytes"]) + int(compiled["constant_bytes"])
    machine = processors[0].machine
    here = machine == HERE
    blocks = {1: counted_blocks(artifact)} if here else {count: emulated_blocks(artifact, count) for count in THREADS}
    kinds: Counter[str] = Counter()
    for block in blocks[1]:
        for kind, times in classes(block.instructions, machine).items():
            kinds[kind] += times * sum(block.executed.values())
    measured, hertz = _measured(artifact, prefix) if here else (None, 0.0)
    entries = {}
    for processor in processors:
        clock = processor.hertz or hertz
        found = {count: predict(of, layers, footprint, processor, clock) for count, of in blocks.items()}
        entries[processor.name] = {
            "board": processor.board,
            "hertz": clock,
            "model": f"llvm-mca -mcpu={processor.mcpu} -dispatch={processor.width}",
            "threads": {
                str(count): {"ms": one.ms, "memory_ms": one.memory_ms, "bound_ms": one.bound_ms}
                for count, one in found.items()
            },
            "layers_ms": {layer.name: ms for layer, ms in zip(layers, found[1].kernels_ms, strict=True)},
            **({} if measured is None else {"measured": _compared(layers, measured, found[1])}),
        }
    executed = sum(block.total for block in blocks[1])
    return {
        "instructions": executed,
        "classes": kinds,
        "macs": sum(layer.macs for layer in layers),
        "processors": entries,
    }


def _compared(layers: Sequence[KernelLayer], measured: Sequence[float], predicted: Prediction) -> dict[str, Any]:
    """Measured times, in milliseconds, and their ratios to the predicted ones, of the whole and of large kernels."""
    whole = sum(measured)
    pairs = zip(layers, measured, predicted.kernels_ms, strict=True)
    ratios = {layer.name: took / own for layer, took, own in pairs if own and took > LARGE * whole}
    return {"ms": whole, "ratio": whole / predicted.ms, "layers_ratio": ratios}


def table(network: str, results: Mapping[str, Any]) -> Table:
    """What is printed.

    Args:
        network: its name.
        results: ``instruction_sets`` of the JSON file.
    """
    rows = []
    for isa, entry in results.items():
        for name, found in entry["processors"].items():
            one, four = found["threads"]["1"], found["threads"].get("4", {})
            figures = (one["ms"], four.get("ms"), one["bound_ms"], found.get("measured", {}).get("ms"))
            clock, millions = number(found["hertz"] / 1e9), number(entry["instructions"] / 1e6, 1)
            rows.append([f"{isa}, {name}", clock, millions, *map(number, figures)])
    title = f"{network}, batch 1, predicted: ms with 1 and with 4 threads; bound and measured: 1 thread"
    return Table(title, ["", "GHz", "M instr.", "ms, 1", "ms, 4", "bound", "measured"], rows)


def main() -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path, help=".sqe file")
    known = dict.fromkeys(isa for processor in PROCESSORS for isa in processor.isas if isa in FEATURES)
    parser.add_argument("--isa", default=",".join(known), help=f"separated by commas (default: {', '.join(known)})")
    parser.add_argument(
        "--measure-with", default="", help="command that measurements are started by, as `taskset -c 1`"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSON file")
    options = parser.parse_args()

    model = sq.load(options.network)
    results: dict[str, Any] = _kept(options.out, model.name)
    for isa in options.isa.split(","):
        processors = [processor for processor in PROCESSORS if isa in processor.isas]
        if not processors:
            parser.error(f"{isa}: no processor is known; there are {', '.join(known)}")
        machine = processors[0].machine
        if machine == HERE and not host_features().issuperset(FEATURES[isa][1]):
            note(f"{isa}: this machine does not have it")
            continue
        note(f"{isa} ...")
        with tempfile.TemporaryDirectory() as folder:
            compiled = sq.compile(model, "cpu", Path(folder) / "artifact", isa=isa, mtriple=TRIPLES[machine])
            results[isa] = _entry(compiled.path, processors, shlex.split(options.measure_with))
        results = {name: results[name] for name in FEATURES if name in results}
        _write(options.out, model.name, results)
    print(table(model.name, results))
    worth = _worth(results)
    if worth is not None:
        note(f"measured / predicted on this machine: {worth['least']:.2f} to {worth['most']:.2f}")


def _kept(path: Path, network: str) -> dict[str, Any]:
    """What a file says of the network."""
    said = json.loads(path.read_text()) if path.exists() else {}
    return dict(said["instruction_sets"]) if said.get("network") == network else {}


def _worth(results: Mapping[str, Any]) -> dict[str, float] | None:
    """The least, the median and the largest of measured / predicted; ``None``: nothing was measured."""
    found = [one for entry in results.values() for one in entry["processors"].values()]
    ratios = [one["measured"]["ratio"] for one in found if "measured" in one]
    return {"least": min(ratios), "median": median(ratios), "most": max(ratios)} if ratios else None


def _write(path: Path, network: str, results: Mapping[str, Any]) -> None:
    """Write the JSON file."""
    write_report(
        path,
        "predict",
        network=network,
        meeting_s=MEETING_S,
        measured_to_predicted=_worth(results),
        instruction_sets=results,
        published_ms=PUBLISHED,
    )


if __name__ == "__main__":
    main()
