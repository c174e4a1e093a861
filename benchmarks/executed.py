"""How often each instruction of an artifact's kernels is executed in one inference, as basic blocks.

A library for ARM is linked with executed.c into a program whose addresses are fixed. QEMU's emulation of a process logs
each translation block that it executes, so also where each task of a loop for several threads begins; LLVM's
disassembler says what the instructions are. The kernels for x86-64 run on this machine, as QEMU lacks their instruction
sets (:mod:`.counters`). What the kernels call of the C library (memcpy, memset) is not counted.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from squeezeedge.errors import SqueezeEdgeError, UnavailableError
from squeezeedge.targets.cpu.options import FEATURES, CpuOptions, architecture, c_compiler
from squeezeedge.targets.device.run import Artifact

__all__ = [
    *(
        "BRANCHES",
        "FEATURES",
        "TRIPLES",
        "Block",
        "Instruction",
        "basic_blocks",
        "compiled_for",
        "emulated_blocks",
        "kernel_of",
    ),
    *("link", "output", "program_blocks", "read_listing", "read_log", "tool"),
]

EMULATORS = {"aarch64": "qemu-aarch64-static", "arm": "qemu-arm-static"}
TRIPLES = {"aarch64": "aarch64-linux-gnu", "arm": "armv7a-linux-gnueabihf", "x86_64": "x86_64-linux-gnu"}
"""Architecture, as :func:`squeezeedge.targets.cpu.options.architecture` names it -> LLVM's triple."""
MATTR = {"aarch64": "+dotprod,+i8mm", "arm": "+neon", "x86_64": ""}
"""Architecture -> what LLVM's tools must know beyond every such processor."""

BRANCHES = {
    "x86_64": re.compile(r"j\w+|callq?|retq?|notrack"),
    "aarch64": re.compile(r"b|b\.\w+|bl|br|blr|ret|cbn?z|tbn?z"),
    "arm": re.compile(r"(b|bl|bx|blx)(eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)?|pop.*|ldm.*"),
}
"""Architecture -> the mnemonics after which another instruction than the following may be executed."""

Counts = Mapping[int, Mapping[int, int]]
"""Task of a kernel -> address -> how often it is executed. Task 0 is what one thread does before the others begin."""

_OLDEST_LLVM, _NEWEST_LLVM = 14, 40
_COMMENTS = {"aarch64": "//", "arm": "@"}
_FUNCTION = re.compile(r"[0-9a-f]+ <(.*)>:")
_LISTED = re.compile(r"\s*([0-9a-f]+):\s+(\S.*)")
_TARGET = re.compile(r"(?:#?0x)?([0-9a-f]+) <[^>]*>")
_FAMILY = "|".join(name.replace("-", "_") for name in FEATURES)
_KERNEL = re.compile(rf"(?:__tvm_ffi_)?(?:{_FAMILY})_(?:image|stage(\d+))(?:_\w*)?")
_TRANSLATED = re.compile(rb"0x([0-9a-f]+):  ?[0-9a-f]")
_EXECUTED = re.compile(rb"Trace (\d+): \S+ \[[0-9a-f]+/([0-9a-f]+)/")

_TASK = re.compile(r"([0-9a-f]+) <run_loop>:")
"""The driver's function that does one task of a loop whose tasks are for several threads."""
_CALLED = re.compile(r"([0-9a-f]+) <__tvm_ffi_\w*>:")
"""The functions that the driver calls kernels by."""


@dataclass(frozen=True)
class Instruction:
    """One line of a listing.

    Attributes:
        address: where it is.
        kernel: number of the kernel in the plan.
        text: in LLVM's assembler language; an address in it is the label ``target``.
        leads_to: the address of a branch's target, if the listing names it.
        branches: whether another than the following may be executed next.
    """

    address: int
    kernel: int
    text: str
    leads_to: int | None
    branches: bool


@dataclass(frozen=True)
class Block:
    """Instructions that are executed one after the other, always all of them.

    Attributes:
        kernel: number of the kernel in the plan.
        instructions: their texts.
        executed: task of the kernel -> how often. Tasks from 1 on may each have a thread of their own.
    """

    kernel: int
    instructions: tuple[str, ...]
    executed: Mapping[int, int]

    @property
    def total(self) -> int:
        """Instructions that are executed, in all tasks."""
        return len(self.instructions) * sum(self.executed.values())


@cache
def tool(name: str) -> str:
    """Path of the newest of LLVM's tools of a name.

    Raises:
        UnavailableError: there is none.
    """
    for version in (*(f"-{number}" for number in range(_NEWEST_LLVM, _OLDEST_LLVM - 1, -1)), ""):
        found = shutil.which(name + version)
        if found is not None:
            return found
    raise UnavailableError(f"{name} is not on the path; install llvm-22 (Debian's package) or another version of LLVM")


def output(command: Sequence[str]) -> bytes:
    """What a program prints.

    Raises:
        UnavailableError: it can't be started.
        SqueezeEdgeError: it fails; the text has its first line.
    """
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        raise UnavailableError(f"{command[0]} can't be started: {error.strerror}") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise SqueezeEdgeError(f"{command[0]} failed: {said or done.returncode}")
    return done.stdout


def compiled_for(artifact: Path) -> CpuOptions:
    """The options that an artifact of the target cpu was compiled with."""
    own = Artifact(artifact).manifest["options"]
    return CpuOptions(**{name: own[name] for name in ("isa", "mtriple", "mcpu", "prefix", "cc")})


def kernel_of(function: str) -> int | None:
    """Number in the plan of the kernel that a function belongs to; step 0 copies the image."""
    match = _KERNEL.fullmatch(function)
    return None if match is None else int(match[1] or -1) + 1


def link(compiler: str, prefix: str, folder: Path, program: Path, counters: int = 0) -> None:
    """Link an archive and executed.c.

    Args:
        compiler: the C compiler.
        prefix: of the archive's names.
        folder: where the archive and its header are.
        program: what is written.
        counters: that the kernels have.

    Raises:
        UnavailableError: the C compiler is missing.
        SqueezeEdgeError: it fails.
    """
    defines = [f"-DPREFIX={prefix}", *([f"-DCOUNTERS={counters}"] if counters else [])]
    linking = ["-O2", "-std=gnu11", "-static", "-no-pie", "-pthread", "-Wl,--wrap=sched_getaffinity", *defines]
    files = [str(Path(__file__).with_suffix(".c")), str(folder / f"lib{prefix}.a"), "-lm", "-o", str(program)]
    output([compiler, *linking, f"-I{folder}", *files])


def emulated_blocks(artifact: Path, threads: int) -> list[Block]:
    """The blocks of an artifact's kernels, by address, that one inference executes in QEMU.

    Args:
        artifact: the folder, compiled for an architecture of :data:`EMULATORS`.
        threads: that compute.

    Raises:
        UnavailableError: the emulator, a C compiler or LLVM's disassembler is missing.
        SqueezeEdgeError: a program fails.
    """
    options = compiled_for(artifact)
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program"
        link(c_compiler(options), Artifact(artifact).compiled["prefix"], artifact, program)
        return program_blocks(program, architecture(options), threads)


def program_blocks(program: Path, machine: str, threads: int) -> list[Block]:
    """The same of a program whose addresses are fixed and whose functions have the kernels' names.

    Args:
        program: that takes the number of threads.
        machine: architecture.
        threads: that compute.

    Raises:
        UnavailableError: the emulator or LLVM's disassembler is missing.
        SqueezeEdgeError: a program fails.
    """
    listed = output([tool("llvm-objdump"), "-d", "--no-show-raw-insn", f"--mattr={MATTR[machine]}", str(program)])
    lines = listed.decode(errors="replace").splitlines()
    instructions = read_listing(lines, machine)
    called, (task,) = (
        [int(found[1], 16) for found in map(form.fullmatch, lines) if found] for form in (_CALLED, _TASK)
    )
    ranges = f"0x{task:x}..0x{task:x},0x{instructions[0].address:x}..0x{instructions[-1].address:x}"
    with _emulated(program, EMULATORS[machine], threads, ranges) as log:
        counts = read_log(log, frozenset(called), task)
    return basic_blocks(instructions, counts)


def read_listing(lines: Iterable[str], machine: str) -> list[Instruction]:
    """The kernels' instructions, by address, in what llvm-objdump prints.

    Args:
        lines: of the whole program.
        machine: architecture.
    """
    found = []
    kernel: int | None = None
    comment, branches = _COMMENTS[machine], BRANCHES[machine]
    for line in lines:
        heading = _FUNCTION.fullmatch(line)
        if heading is not None:
            kernel = kernel_of(heading[1])
        match = _LISTED.fullmatch(line)
        if match is None or kernel is None:
            continue
        text = match[2].partition(comment)[0].strip().replace("\t", " ")
        jumps = branches.fullmatch(text.partition(" ")[0]) is not None
        target = _TARGET.search(text)
        leads_to = int(target[1], 16) if jumps and target is not None else None
        found.append(Instruction(int(match[1], 16), kernel, _TARGET.sub("target", text), leads_to, jumps))
    return found


def basic_blocks(instructions: Sequence[Instruction], counts: Counts) -> list[Block]:
    """The blocks that are executed.

    Args:
        instructions: by address.
        counts: of addresses.
    """
    entries = {one.leads_to for one in instructions}
    blocks: list[Block] = []
    begun: list[Instruction] = []
    executed: dict[int, int] = {}
    for one in instructions:
        own = {task: of[one.address] for task, of in counts.items() if of.get(one.address)}
        if begun and (
            begun[-1].branches or begun[-1].kernel != one.kernel or one.address in entries or own != executed
        ):
            blocks.append(Block(begun[0].kernel, tuple(before.text for before in begun), executed))
            begun = []
        begun.append(one)
        executed = own
    blocks.append(Block(begun[0].kernel, tuple(before.text for before in begun), executed))
    return [block for block in blocks if block.executed]


@contextmanager
def _emulated(program: Path, emulator: str, threads: int, ranges: str) -> Iterator[Iterable[bytes]]:
    """What QEMU logs of addresses in ranges, in its words."""
    path = shutil.which(emulator)
    if path is None:
        raise UnavailableError(f"{emulator} is not on the path; install qemu-user-static (Debian's package)")
    logged = ["-d", "exec,nochain,in_asm", "-dfilter", ranges, "-D", "/dev/stdout"]
    with tempfile.TemporaryFile() as errors:
        command = [path, "-cpu", "max", *logged, str(program), str(threads)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None
            yield process.stdout
        errors.seek(0)
        said = errors.read(1000).decode(errors="replace").strip()
    if process.returncode != 0:
        raise SqueezeEdgeError(f"{program.name} failed in {emulator}: {said or process.returncode}")


def read_log(lines: Iterable[bytes], called: Collection[int], task: int) -> Counts:
    """Counts of addresses, of QEMU's log of what it translates (``in_asm``) and executes (``exec``, ``nochain``).

    Args:
        lines: of the log; a block's instructions stand before its first execution.
        called: addresses of the functions that the driver calls kernels by.
        task: address of the function that does a task.
    """
    blocks: dict[int, tuple[int, ...]] = {}
    translated: list[int] = []
    executed: Counter[tuple[int, tuple[int, ...]]] = Counter()
    begun = 0
    tasks: dict[bytes, int] = {}
    for line in lines:
        match = _EXECUTED.match(line)
        if match is not None:
            thread, address = match[1], int(match[2], 16)
            if address in called:  # by the only thread that runs then
                tasks, begun = {thread: 0}, 0
            elif address == task:
                begun += 1
                tasks[thread] = begun
            executed[tasks[thread], blocks[address]] += 1
        elif line.startswith(b"IN:"):
            translated = []
        elif (match := _TRANSLATED.match(line)) is not None:
            translated.append(int(match[1], 16))
            blocks[translated[0]] = tuple(translated)
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    for (number, block), times in executed.items():
        for address in block:
            counts[number][address] += times
    return counts
