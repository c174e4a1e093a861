"""The processes of one run: one, or those that ``torchrun`` started."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from squeezeedge.errors import UnavailableError

__all__ = ["World", "join_world"]

CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    """The processes and this one's place among them.

    Attributes:
        device: where this process computes.
        rank: of this process, from 0.
        size: number of processes.
        local_size: number of those on this machine.
    """

    device: torch.device = CPU
    rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one process that writes and prints."""
        return self.rank == 0

    def total(self, values: Sequence[float]) -> list[float]:
        """Sums over all processes, as float64; every process must call it with equally many."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        result: list[float] = tensor.tolist()
        return result


@contextmanager
def join_world(device: str | None = None) -> Iterator[World]:
    """Meet the other processes that ``torchrun`` started; without it this process is alone.

    Args:
        device: "cpu" or "cuda"; ``None``: a GPU if there is one.

    Yields:
        The world; with several GPUs each process has the one of its number on this machine.

    Raises:
        UnavailableError: there is no such device.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    local = int(os.environ.get("LOCAL_RANK", "0")) if dist.is_torchelastic_launched() else 0
    found = torch.cuda.device_count()
    if kind == "cuda" and local >= found:
        raise UnavailableError(f"cuda: process {local} of this machine needs a GPU of its own, torch finds {found}")
    place = torch.device("cuda", local) if kind == "cuda" else CPU
    if not dist.is_torchelastic_launched():
        yield World(place)
        return
    _end_with_launcher()
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield World(place, dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_WORLD_SIZE"]))
    finally:
        dist.destroy_process_group()


def _end_with_launcher() -> None:
    """Get SIGTERM when ``torchrun`` is killed, as it can then pass on no signal; Linux only."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
