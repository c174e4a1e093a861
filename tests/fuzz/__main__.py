"""``python -m tests.fuzz --minutes N [--format F] [--seed S]``: try inputs, print a table; exit code 1: faults."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz.formats import NAMES
from tests.fuzz.runner import fuzz

__all__ = ["main"]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Damaged inputs for every reader.")
    parser.add_argument("--minutes", type=float, help="stop after this time")
    parser.add_argument("--inputs", type=int, help="stop after so many inputs")
    parser.add_argument("--format", action="append", choices=sorted(NAMES), help="of this kind; may be repeated")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**9, help="of the inputs (default: the time)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this input alone, as a fault's text names it")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"), help="folder for inputs with faults")
    options = parser.parse_args()
    if options.minutes is None and options.inputs is None and options.only is None:
        parser.error("say when to stop: --minutes, --inputs or --only")
    print(f"seed {options.seed}", flush=True)
    report = fuzz(
        options.format or sorted(NAMES),
        options.seed,
        inputs=options.inputs,
        minutes=options.minutes,
        only=options.only,
        workers=options.workers,
        keep=options.keep,
        on_progress=lambda report: print(f"{report.inputs} inputs, {len(report.faults)} faults", file=sys.stderr),
    )
    for fault in report.faults:
        print(f"{report.kinds[fault.kind]} x {fault}".encode(errors="backslashreplace").decode())
    print(report.table())
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
