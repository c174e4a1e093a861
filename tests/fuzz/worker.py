"""The process in which inputs are read: it may die of one, and another takes its place."""

from __future__ import annotations

import faulthandler
import gc
import os
import sys
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

from tests.fuzz.formats import get_format
from tests.fuzz.judge import Judge, Verdict, make_input

__all__ = ["serve"]


def serve(tasks: Connection, names: tuple[str, ...], seed: int, folder: Path) -> None:
    """Answer tasks (format, number) with verdicts until ``None`` comes; the first answer says that all is ready.

    Args:
        tasks: the other end is :class:`tests.fuzz.runner.Worker`'s.
        names: of the formats that may be asked for.
        seed: of the inputs.
        folder: for the inputs; must be there and empty.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.dont_write_bytecode = True
    warnings.simplefilter("ignore")
    for variable in ("TORCHINDUCTOR_CACHE_DIR", "MPLCONFIGDIR"):
        os.environ[variable] = str(folder / "temporary")
    os.chdir(folder)
    seeds = {name: get_format(name).seeds() for name in names}
    judge = Judge(folder)
    faulthandler.enable()
    for name in names:  # imports, caches; what is sound must be taken
        for files in seeds[name]:
            verdict = judge.judge(get_format(name), files, 1)
            if verdict.outcome not in ("accepted", "UnavailableError") or verdict.fault:
                tasks.send(Verdict("seed", f"a sound {name} is refused: {verdict}"))
                return
    gc.freeze()
    judge.limit_memory()
    tasks.send(Verdict("ready"))
    while (task := tasks.recv()) is not None:
        name, number = task
        tasks.send(judge.judge(get_format(name), make_input(get_format(name), seeds[name], seed, number), number))
