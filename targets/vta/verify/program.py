"""Static proof that a program is safe and computes its network, without any of the network's arithmetic.

The program is decoded from the words in its image, so the encoder is covered too. Then, in one pass:

1. **Instructions.** All decode (of published ones: no extended one, no multiplication, no wrapping index); a shift is a
   constant that the hardware has, followed from the image through the accumulators.
2. **Addresses.** Every index of every loop is inside of its memory; constants come from the constant region of their
   memory, activations from a tensor, and results go into a tensor, each element once. Nothing is read that neither
   the compiler, the host, a fill nor an earlier operation of the same run has written.
3. **Tokens.** No deadlock, no token left over, no queue that may overflow in any timing; FINISH is last and waits for
   everything (:mod:`.tokens`).
4. **Order.** Vector clocks (Lamport 1978; Fidge 1988) from program order and tokens: whoever wrote an element has
   surely ended when it is read, and whoever read it when it is overwritten. What a store wrote counts as there when
   a token that it gave later has been taken: before that token it waits for the confirmation of its writes.
5. **Pipelines.** GEMM and ALU use no accumulator again within 8 steps of writing it: the HLS source tells the
   scheduler that their iterations do not depend on each other. Between instructions there is nothing to keep: the
   loops are not rewound, a module takes its next instruction when the loop has drained (hls/compute.h). XGEMM keeps
   its sum in registers; XGEMM and XADD must write no element twice (hls/README.md).
6. **Meaning.** With the layers at hand: the symbols in DRAM are those of the layers (:mod:`.symbols`,
   :mod:`.layers`).

A simulator can't show this: it executes an instruction in a moment and knows one timing. The host's packing and the
lowering from the graph to layers are not proved; the bit-exact tests cover them.

Programs are verified when they are compiled, before anything is written; a run does not repeat it. It costs about as
much as the compilation did, the record's checksum ties the image to what was verified, and the simulator refuses
deadlocks and accesses outside of its DRAM. To check a doubtful file, call :func:`verify` on ``from_json``'s result.
"""

from __future__ import annotations

from squeezeedge.errors import CorruptFileError, SqueezeEdgeError
from squeezeedge.targets.vta.isa.program import VtaProgram
from squeezeedge.targets.vta.lower.layers import Layers
from squeezeedge.targets.vta.verify.layers import Mismatch, check_layers
from squeezeedge.targets.vta.verify.machine import Machine
from squeezeedge.targets.vta.verify.tokens import Trace, Violation, trace

__all__ = ["VerificationError", "verify"]


class VerificationError(SqueezeEdgeError):
    """A program could hang, damage memory, depend on its timing, or compute something else."""


def verify(program: VtaProgram, layers: Layers | None = None) -> None:
    """Prove a program.

    Args:
        program: with its image; only what is encoded there is looked at.
        layers: what it was compiled from; ``None``: all but rule 6.

    Raises:
        VerificationError: the text names the instruction, its layer, and what is violated.
    """
    try:
        instructions = program.decoded()
    except CorruptFileError as error:
        raise VerificationError(f"VTA program: {error}") from error
    try:
        steps = trace(instructions)
        machine = Machine(program, steps)
        for number in steps.order:
            machine.execute(number, instructions[number])
        if layers is not None:
            _check_meaning(program, layers, machine, steps)
    except Violation as error:
        where = ""
        if 0 <= error.number < program.count:
            layer = program.layers[int(program.instruction_layers[error.number])].name
            where = f"instruction {error.number} (layer {layer}, {instructions[error.number].mnemonic}): "
        raise VerificationError(f"VTA program: {where}{error.text}") from error


def _check_meaning(program: VtaProgram, layers: Layers, machine: Machine, steps: Trace) -> None:
    """Rule 6; names the instruction that stored the first wrong element."""
    try:
        check_layers(program, layers, machine.dram.symbol, machine.dram.written > 0)
    except Mismatch as error:
        raise Violation(machine.writer(error.cell), error.text) from error
