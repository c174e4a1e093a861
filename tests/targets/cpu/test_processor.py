"""Kernels use what their instruction set names and nothing else, and the driver asks for just that."""

import re
from pathlib import Path

import pytest
from tvm.target import Target, codegen

from squeezeedge.graph import IntegerGraph
from squeezeedge.targets.cpu import TARGET, CpuOptions
from squeezeedge.targets.cpu.isa import INSTRUCTION_SETS
from squeezeedge.targets.cpu.options import FEATURES, TRIPLES
from squeezeedge.targets.cpu.processor import LLVM_NAMES, TUNING, llvm_target
from tests.targets.cpu.instructions import beyond
from tests.targets.devices import CHECKOUT

X86 = [name for name, (architecture, _) in FEATURES.items() if architecture in ("x86_64", "")]
VNNI = "avx512-vnni"


@pytest.mark.tool
@pytest.mark.parametrize("isa", [VNNI, *(pytest.param(n, marks=pytest.mark.slow) for n in X86 if n != VNNI)])
def test_no_other_instruction(isa: str, kinds: IntegerGraph, tmp_path: Path) -> None:
    """In any kind of kernel, as the assembler knows them; on ARM, the oldest processors run them (test_cross)."""
    named = FEATURES[isa][1]
    code = TARGET.lower(kinds, CpuOptions(isa=isa, mtriple="x86_64-linux-gnu", cc="true")).variants[0].machine_code
    assert beyond(code, named, tmp_path) == []
    if named:
        assert beyond(code, named[:-1], tmp_path)  # so that is how it looks


def features(target: dict[str, object]) -> set[str]:
    return set(map(str, codegen.llvm_get_cpu_features(Target(target))))


@pytest.mark.parametrize("isa", [name for name in FEATURES if name != "generic"])
def test_a_processor_to_tune_for_adds_nothing(isa: str) -> None:
    """Whichever of LLVM's it is."""
    triple = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu", "arm": "arm-linux-gnueabihf"}[
        FEATURES[isa][0]
    ]
    base = {"kind": "llvm", "mtriple": triple}
    first = {"mcpu": "x86-64"} if "x86" in triple else {}
    named = [name for feature in FEATURES[isa][1] for name in LLVM_NAMES.get(feature, (feature,))]
    allowed = features({**base, **first, "mattr": [f"+{name}" for name in named]})
    known = sorted(map(str, codegen.llvm_get_cpu_archlist(Target(base))))
    modern = [name for name in known if re.search("znver|lake|rapids|neoverse|cortex-[axr][0-9]+|apple|haswell", name)]
    assert len(modern) > 15
    for name in modern:
        left = features(llvm_target(INSTRUCTION_SETS[isa], CpuOptions(isa=isa, mtriple=triple, mcpu=name)))
        assert left.issuperset(named), name
        assert not [found for found in left - allowed if not TUNING.fullmatch(found)], name


def test_what_only_tunes_is_no_instruction() -> None:
    names = (
        "adx aes avx avx512vbmi bmi2 fma lzcnt movbe popcnt sha vaes dotprod fullfp16 i8mm lse rdm sve sve2 v8.2a neon"
    )
    assert not [name for name in names.split() if TUNING.fullmatch(name)]


@pytest.mark.parametrize("triple", ["arm-linux-gnueabihf", "armv7l-linux-gnueabihf", "armv6-linux-gnueabihf"])
def test_generic_is_without_vectors_on_arm(triple: str) -> None:
    left = features(llvm_target(INSTRUCTION_SETS["generic"], CpuOptions(isa="generic", mtriple=triple)))
    assert not {"neon", "vfp2", "vfp3", "d32", "fpregs"} & left
    assert ("v7" in left) == triple.startswith("armv7")


def test_the_driver_asks_for_what_is_named() -> None:
    text = (CHECKOUT / "targets" / "cpu" / "processor.h").read_text()
    asked = set(re.findall(r"^FEATURE\((\w+)|char \*missing_(\w+)\(void\) {$", text, re.MULTILINE))
    assert {one or other for one, other in asked} == {feature for _, named in FEATURES.values() for feature in named}


def test_every_known_triple_has_a_target() -> None:
    for triple in TRIPLES:
        features(llvm_target(INSTRUCTION_SETS["generic"], CpuOptions(isa="generic", mtriple=triple)))
