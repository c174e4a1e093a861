"""What worker processes are asked; in a module that loads fast, because each of them loads it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from squeezeedge.errors import UsageError


def square(number: int) -> tuple[int, int]:
    """And who squares."""
    return number * number, os.getpid()


def blocked(number: int) -> set[signal.Signals]:
    return {signal.Signals(one) for one in signal.pthread_sigmask(signal.SIG_BLOCK, ())}


def large(number: int) -> bytes:
    return bytes(number << 20)


def failing(number: int) -> int:
    if number == 3:
        raise UsageError("three")
    return 1 // (number - 5)


def asleep(number: int) -> int:
    if number > 1:
        time.sleep(100)
    return number


class Killed:
    """Dies over one number, so many times; a file in the folder for each."""

    def __init__(self, number: int, times: int, folder: Path) -> None:
        self.number, self.times, self.folder = number, times, folder

    def __call__(self, number: int) -> int:
        if number == self.number and len(list(self.folder.iterdir())) < self.times:
            (self.folder / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number
