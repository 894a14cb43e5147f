"""Advice about threads on a machine that is busy already."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

import torch
from lightning.pytorch import Trainer

BUSY = 0.5
"""Load per core from which a second thread mostly waits: every operation waits for its slowest thread."""


_LIMIT = "/sys/fs/cgroup/cpu.max"


def cores() -> float:
    """Return the number of processors that this process may use: its affinity, or a container's share if smaller."""
    mine = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        with open(_LIMIT, encoding="ascii") as file:
            quota, period = file.read().split()
        return min(mine, float(quota) / float(period)) if quota != "max" else mine
    except (OSError, ValueError):  # no limit, or no Linux
        return mine


def advise(trainer: Trainer, arguments: Sequence[str]) -> str | None:
    """Return `thread_advice` for a command that computes on the CPU; None on an accelerator.

    Args:
        trainer: of the command.
        arguments: of ``rrsis``; none if it was not started from a command line.
    """
    if not arguments or trainer.strategy.root_device.type != "cpu" or not hasattr(os, "getloadavg"):
        return None
    words = ["rrsis", *arguments]
    return thread_advice(words, torch.get_num_threads(), os.getloadavg()[0], os.cpu_count() or 1, cores())


def thread_advice(words: Sequence[str], threads: int, load: float, machine: int, mine: float) -> str | None:
    """Return advice to use fewer threads, as many as cores are free; None if there are enough of them.

    Measured on 2 cores with a load of 8 to 10: a training took 6 to 8 s with one thread, 78 to 121 s with two.

    Args:
        words: the command line, which the advice repeats.
        threads: that torch uses for one operation.
        load: processes that want to run on this machine, averaged over the last minute.
        machine: its cores.
        mine: cores that this process may use.

    Example:
        >>> thread_advice(["rrsis", "fit"], threads=8, load=7.6, machine=8, mine=8)
        'this machine is busy (load 7.6 on 8 cores), which slows down 8 threads: OMP_NUM_THREADS=1 rrsis fit'
        >>> thread_advice(["rrsis", "fit"], threads=8, load=0.4, machine=8, mine=8)
    """
    if threads <= 1:
        return None
    if load / machine >= BUSY:
        why, free = f"this machine is busy (load {load:.1f} on {machine} cores)", min(mine, machine - load)
    elif threads > mine:
        why, free = f"this process may use {mine:g} cores", mine
    else:
        return None
    better = max(1, int(free))
    if better >= threads:
        return None
    return f"{why}, which slows down {threads} threads: OMP_NUM_THREADS={better} {shlex.join(words)}"
