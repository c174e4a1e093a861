"""Tests for benchmarks/pipelines.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.executed import tool
from benchmarks.pipelines import PROCESSORS, bound_cycles, classes, simulated_cycles
from squeezeedge.errors import SqueezeEdgeError, UnavailableError

BY_NAME = {processor.name: processor for processor in PROCESSORS}
A72, A76 = BY_NAME["Cortex-A72"], BY_NAME["Cortex-A76"]

AARCH64 = {
    "ldp q0, q1, [x1], #0x20": {"load": 2},
    "ldr w2, [x0, #0x10]": {"load": 1},
    "ld1r { v10.8b }, [x3], #1": {"load": 1},
    "st1 { v1.16b }, [x0]": {"store": 1},
    "sdot v0.4s, v1.16b, v2.4b[1]": {"dot": 1},
    "usmmla v0.4s, v1.16b, v2.16b": {"dot": 1},
    "smlal2 v0.8h, v1.16b, v2.16b": {"multiply": 1},
    "smull v0.8h, v1.8b, v2.8b": {"product": 1},
    "mul v0.4s, v1.4s, v2.4s": {"multiply": 1},
    "mul w0, w1, w2": {"core": 1},
    "dup v4.4s, w2": {"from core": 1},
    "dup v4.4s, v2.s[0]": {"vector": 1},
    "sadalp v0.4s, v1.8h": {"vector": 1},
    "b.ne target": {"core": 1},
}
X86 = {
    "{vex} vpdpbusd %ymm0, %ymm1, %ymm2": {"dot": 1},
    "vpmaddubsw 32(%rax,%rcx), %ymm0, %ymm1": {"multiply": 1, "load": 1},
    "vpbroadcastd 512(%rsi), %ymm0": {"load": 1},
    "vmovdqu %ymm0, 32(%rax)": {"store": 1},
    "vmovdqu (%rax), %ymm0": {"load": 1},
    "vpaddd %ymm0, %ymm1, %ymm2": {"vector": 1},
    "addq $64, %rcx": {"core": 1},
}
ARM = {
    "vmlal.s8 q0, d2, d3": {"multiply": 1},
    "vld1.8 {d16[]}, [r3]!": {"load": 1},
    "vpadal.s16 q0, q1": {"vector": 1},
    "vdup.8 d0, r1": {"from core": 1},
    "subs r0, r0, #1": {"core": 1},
}


@pytest.mark.parametrize(("machine", "known"), [("aarch64", AARCH64), ("x86_64", X86), ("arm", ARM)])
def test_classes(machine: str, known: dict[str, dict[str, int]]) -> None:
    for text, expected in known.items():
        assert classes([text], machine) == expected, text


def test_bounds() -> None:
    body = ["ldr q0, [x0], #0x10", "sdot v1.4s, v0.16b, v2.16b", "sdot v3.4s, v0.16b, v2.16b", "b.ne target"]
    assert bound_cycles(body, A76) == 1
    assert bound_cycles(body * 2 + ["sdot v1.4s, v0.16b, v2.16b"] * 3, A76) == 7 / 2
    assert bound_cycles(body, A72) == 2
    products = ["smull v0.8h, v1.8b, v2.8b"] * 4 + ["smlal v0.8h, v1.8b, v2.8b"] * 2
    assert [bound_cycles(products, one) for one in (A72, BY_NAME["Neoverse N2"])] == [6, 3]
    assert bound_cycles(["add x0, x0, #1"] * 9, A72) == 9 / 2


def test_simulated() -> None:
    try:
        tool("llvm-mca")
    except UnavailableError as error:
        pytest.skip(str(error))
    chain, independent = ["add x0, x0, #1"] * 8, [f"add x{n}, x9, #1" for n in range(8)]
    slow, fast = simulated_cycles([chain, independent], A72)
    assert slow == pytest.approx(8, abs=0.2)
    assert fast == pytest.approx(4, abs=0.2)  # two pipes
    with pytest.raises(UnavailableError, match=r"has no model of cortex-a72; install llvm-22"):
        simulated_cycles([chain], replace(A72, unit="Other"))
    with pytest.raises(SqueezeEdgeError, match=r"failed: .*error"):
        simulated_cycles([["no instruction"]], A72)
