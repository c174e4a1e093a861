"""What ARM's instruction sets store; the multiplications are tested in test_convolution."""

from squeezeedge.graph import rules
from squeezeedge.targets.cpu.isa import INSTRUCTION_SETS


def test_signed_storage_is_the_rules() -> None:
    assert {isa.name: isa.input_offset for isa in INSTRUCTION_SETS.values() if isa.input_offset} == {
        "neon-dotprod": rules.SIGN
    }
