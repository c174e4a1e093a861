"""The process in which inputs are read: it may die of one, and another takes its place."""

from __future__ import annotations

import faulthandler
import gc
import os
import sys
import tempfile
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

from tests.fuzz.formats import get_format
from tests.fuzz.judge import Judge, Verdict, make_input

__all__ = ["serve", "temporary_folder"]


def temporary_folder() -> str | None:
    """Where inputs are written: in memory, if there is such a place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def serve(tasks: Connection, names: tuple[str, ...], seed: int) -> None:
    """Answer tasks (format, number) with verdicts until ``None`` comes; the first answer says that all is ready.

    Args:
        tasks: the other end is :class:`tests.fuzz.runner.Worker`'s.
        names: of the formats that may be asked for.
        seed: of the inputs.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.dont_write_bytecode = True
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="fuzz.", dir=temporary_folder()) as folder:
        for variable in ("TORCHINDUCTOR_CACHE_DIR", "MPLCONFIGDIR"):
            os.environ[variable] = str(Path(folder, "temporary"))
        os.chdir(folder)
        seeds = {name: get_format(name).seeds() for name in names}
        judge = Judge(Path(folder))
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
