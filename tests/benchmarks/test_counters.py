"""Tests for benchmarks/counters.py."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.counters import with_counters

SOURCE = """
	.text
	.globl	generic_stage0_sum
	.type	generic_stage0_sum,@function
generic_stage0_sum:                     # @generic_stage0_sum
	movl	$7, -8(%rsp)
	movl	%edi, %ecx
	xorl	%eax, %eax
	cmpl	$5, %ecx
.LBB0_1:                                # counts down; flags are live here
	jl	.LBB0_2
	addl	-8(%rsp), %eax
	decl	%ecx
	cmpl	$5, %ecx
	jmp	.LBB0_1
.LBB0_2:
	retq
	.section	.rodata
other:
	.long	3
"""

MAIN = """
#include <stdint.h>
#include <stdio.h>
int generic_stage0_sum(int n);
extern uint64_t counts[4];
int main(void) {
    printf("%d", generic_stage0_sum(14));
    for (int i = 0; i < 4; i++) printf(" %d", (int)counts[i]);
}
"""


def test_blocks_get_counters() -> None:
    counted = with_counters(SOURCE, "counts")
    assert [(kernel, len(instructions)) for kernel, instructions in counted.blocks] == [(1, 4), (1, 1), (1, 4), (1, 1)]
    assert counted.blocks[1] == (1, ("jl .LBB0_2",))


@pytest.mark.skipif(platform.machine() != "x86_64" or shutil.which("cc") is None, reason="no C compiler for x86-64")
def test_counting_changes_neither_flags_nor_registers_nor_the_red_zone(tmp_path: Path) -> None:
    sources, program = [tmp_path / "kernel.s", tmp_path / "main.c"], tmp_path / "program"
    sources[0].write_text(with_counters(SOURCE, "counts").text)
    sources[1].write_text(MAIN)
    subprocess.run(["cc", *map(str, sources), "-o", str(program)], check=True)
    assert subprocess.check_output([str(program)], text=True) == "70 1 11 10 1"  # 10 rounds of 7
