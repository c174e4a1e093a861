"""The same as :mod:`.executed` for x86-64: the kernels get a counter at the beginning of each basic block.

TVM writes the kernels in assembler language instead of machine code. Each block begins with instructions that add one
to a counter of its own in memory and leave registers, flags and the stack's red zone as they were. One thread runs.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tvm
from tvm.target import Target

from benchmarks.executed import BRANCHES, TRIPLES, Block, compiled_for, kernel_of, link, output, tool
from squeezeedge.graph.sqe import read_sqe
from squeezeedge.targets.cpu.library import KERNEL_PASSES
from squeezeedge.targets.cpu.lower import lower

__all__ = ["Counted", "counted_blocks", "with_counters"]

MACHINE = "x86_64"

_LABEL = re.compile(r'"?([\w.$]+)"?:')
_COUNT = (
    *("\tleaq\t-128(%rsp), %rsp", "\tpushq\t%rax", "\tmovq\t{counter}(%rip), %rax", "\tleaq\t1(%rax), %rax"),
    *("\tmovq\t%rax, {counter}(%rip)", "\tpopq\t%rax", "\tleaq\t128(%rsp), %rsp"),
)


@dataclass(frozen=True)
class Counted:
    """Kernels with counters.

    Attributes:
        text: in assembler language.
        blocks: (number of the kernel in the plan, instructions) of each counter.
    """

    text: str
    blocks: Sequence[tuple[int, tuple[str, ...]]]


def counted_blocks(artifact: Path) -> list[Block]:
    """The blocks that one inference with one thread executes on this machine.

    Args:
        artifact: the folder, compiled for this machine's instructions.

    Raises:
        As :func:`squeezeedge.targets.cpu.lower.lower` and :func:`benchmarks.executed.link`.
    """
    options = compiled_for(artifact)
    lowered = lower(read_sqe(artifact / "model.sqe"), options)
    (variant,) = lowered.variants
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, binary, program = (folder / file for file in ("kernels.s", "kernels.o", "program"))
        with tvm.transform.PassContext(config=KERNEL_PASSES):
            built = tvm.tirx.build(variant.plan.kernels, target=Target(variant.llvm_target))
        built.write_to_file(str(source), "s")
        counted = with_counters(source.read_text(), f"{lowered.interface.prefix}_executed")
        source.write_text(counted.text)
        output([tool("llvm-mc"), "-filetype=obj", f"-triple={TRIPLES[MACHINE]}", str(source), "-o", str(binary)])
        counting = replace(variant, machine_code=binary.read_bytes())
        replace(lowered, variants=[counting]).write(folder)
        link(lowered.compiler, lowered.interface.prefix, folder, program, len(counted.blocks))
        counts = np.frombuffer(output([str(program), "1"]), np.uint64)
    found = zip(counted.blocks, counts.tolist(), strict=True)
    return [Block(kernel, instructions, {0: times}) for (kernel, instructions), times in found if times]


def with_counters(text: str, symbol: str) -> Counted:
    """Add counters.

    Args:
        text: in the assembler language of x86-64, as LLVM writes it.
        symbol: of the array of counters, 64 bits each.
    """
    lines: list[str] = []
    blocks: list[tuple[int, list[str]]] = []
    kernel, code, begins = None, False, True
    for line in text.splitlines():
        lines.append(line)
        plain = line.partition("#")[0].strip()
        label = _LABEL.fullmatch(plain)
        if plain.startswith((".text", ".section")):
            code = plain.startswith(".text") or plain.split()[1].startswith(".text")
        elif label is not None:
            begins = True
            if code and not label[1].startswith("."):
                kernel = kernel_of(label[1])
        elif plain and not plain.startswith(".") and code and kernel is not None:
            if begins:
                lines[-1:] = [*(one.format(counter=f"{symbol}+{8 * len(blocks)}") for one in _COUNT), line]
                blocks.append((kernel, []))
            blocks[-1][1].append(plain.replace("\t", " "))
            begins = BRANCHES[MACHINE].fullmatch(plain.split()[0]) is not None
    lines += [
        f'\t.section\t.bss.{symbol},"aw",@nobits',
        "\t.balign\t8",
        f"\t.globl\t{symbol}",
        f"\t.hidden\t{symbol}",
        f"{symbol}:",
    ]
    return Counted("\n".join([*lines, f"\t.zero\t{8 * len(blocks)}", ""]), [(of, tuple(own)) for of, own in blocks])
