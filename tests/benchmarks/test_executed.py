"""Tests for benchmarks/executed.py."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.executed import (
    EMULATORS,
    TRIPLES,
    Block,
    basic_blocks,
    kernel_of,
    output,
    program_blocks,
    read_listing,
    read_log,
    tool,
)
from squeezeedge.errors import SqueezeEdgeError, UnavailableError

LISTING = """
0000000000400500 <main>:
  400500:      	ret

0000000000400600 <neon_stage2_conv_compute_>:
  400600:      	mov	w0, #0x64              // =100
  400604:      	cbz	w0, 0x400610 <neon_stage2_conv_compute_+0x10>
  400608:      	subs	w0, w0, #0x1
  40060c:      	b.ne	0x400608 <neon_stage2_conv_compute_+0x8>
  400610:      	ret
""".splitlines()

LOG = b"""----------------
IN: __tvm_ffi_neon_stage2_conv
0x00400600:  52800c80  movz     w0, #0x64
0x00400604:  34000060  cbz      w0, #0x400610

Trace 0: 0x7f00 [00009331/0000000000400600/00000001/00000200] __tvm_ffi_neon_stage2_conv
----------------
IN: run_loop
0x00400400:  d61f0000  br       x0

Trace 3: 0x7f02 [00009331/0000000000400400/00000001/00000200] run_loop
----------------
IN: neon_stage2_conv_compute_
0x00400608:  71000400  subs     w0, w0, #1
0x0040060c:  54ffffe1  b.ne     #0x400608

Trace 3: 0x7f01 [00009331/0000000000400608/00000001/00000200] neon_stage2_conv_compute_
Trace 0: 0x7f02 [00009331/0000000000400400/00000001/00000200] run_loop
Trace 0: 0x7f01 [00009331/0000000000400608/00000001/00000200] neon_stage2_conv_compute_
Trace 3: 0x7f01 [00009331/0000000000400608/00000001/00000200] neon_stage2_conv_compute_
""".splitlines()

PROGRAM = """
    .globl _start
    .arm
_start:
    bl __tvm_ffi_neon_stage2_loop
    bl run_loop
    bl run_loop
    mov r7, #1
    mov r0, #0
    svc 0
    .type run_loop, %function
run_loop:
    b neon_stage2_loop
    .type __tvm_ffi_neon_stage2_loop, %function
__tvm_ffi_neon_stage2_loop:
    bx lr
    .type neon_stage2_loop, %function
neon_stage2_loop:
    mov r1, #10
1:  add r0, r0, #3
    subs r1, r1, #1
    bne 1b
    bx lr
"""
"""A kernel of two tasks that go ten times through a loop, for 32-bit ARM."""


def test_the_kernel_of_a_function() -> None:
    assert kernel_of("__tvm_ffi_neon_dotprod_image") == 0
    assert kernel_of("armv7_neon_stage11_conv_compute_") == 12
    assert kernel_of("run_images") is None
    assert kernel_of("other_stage1_conv") is None


def test_blocks_of_a_listing_and_a_log() -> None:
    listed = read_listing(LISTING, "aarch64")
    assert [one.text for one in listed] == [
        "mov w0, #0x64",
        "cbz w0, target",
        "subs w0, w0, #0x1",
        "b.ne target",
        "ret",
    ]
    blocks = basic_blocks(listed, read_log(LOG, {0x400600}, 0x400400))
    assert blocks == [
        Block(3, ("mov w0, #0x64", "cbz w0, target"), {0: 1}),
        Block(3, ("subs w0, w0, #0x1", "b.ne target"), {1: 2, 2: 1}),
    ]
    assert [block.total for block in blocks] == [2, 6]


def test_a_target_begins_a_block_also_where_all_counts_are_equal() -> None:
    listed = read_listing(LISTING, "aarch64")
    lengths = [len(block.instructions) for block in basic_blocks(listed, {0: {one.address: 1 for one in listed}})]
    assert lengths == [2, 2, 1]


def test_a_program_in_the_emulator(tmp_path: Path) -> None:
    compiler = "arm-linux-gnueabihf-gcc"
    for name in (compiler, EMULATORS["arm"]):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    try:
        tool("llvm-objdump")
    except UnavailableError as error:
        pytest.skip(str(error))
    source, program = tmp_path / "loop.s", tmp_path / "loop"
    source.write_text(PROGRAM)
    subprocess.run([compiler, "-nostdlib", "-static", "-no-pie", str(source), "-o", str(program)], check=True)
    blocks = program_blocks(program, "arm", 1)
    assert [(block.kernel, len(block.instructions), block.executed) for block in blocks] == [
        (3, 1, {0: 1}),
        (3, 1, {1: 1, 2: 1}),
        (3, 3, {1: 10, 2: 10}),
        (3, 1, {1: 1, 2: 1}),
    ]


def test_tools_that_fail_or_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(EMULATORS) < set(TRIPLES)
    with pytest.raises(SqueezeEdgeError, match=r"sh failed: no such network$"):
        output(["sh", "-c", "echo no such network >&2; echo more >&2; exit 3"])
    with pytest.raises(UnavailableError, match="can't be started"):
        output(["/nonexistent/tool"])
    monkeypatch.setattr(shutil, "which", lambda name: None)
    tool.cache_clear()
    with pytest.raises(UnavailableError, match="install llvm-22"):
        tool("llvm-mca")
    tool.cache_clear()
