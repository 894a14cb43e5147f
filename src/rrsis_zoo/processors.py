"""How many processors this process may use. No torch."""

from __future__ import annotations

import os

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
