"""Times of calls side by side: rounds in turn, medians, so that what else the machine does meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from rrsis_zoo.training.memory import wait


@dataclass(frozen=True)
class Times:
    """Of one call.

    Attributes:
        first: seconds of its first call, with everything that is compiled or chosen then.
        median, low, high: of the later ones; low and high are the fastest and slowest.
        rounds: how many they are.
    """

    first: float
    median: float
    low: float
    high: float
    rounds: int


def side_by_side(
    calls: Mapping[str, Callable[[], object]], device: torch.device, rounds: int, warm: int = 2
) -> dict[str, Times]:
    """Time several calls in turn.

    Args:
        calls: name -> call.
        device: is waited for.
        rounds: timed rounds, at least 1.
        warm: rounds before them that are not timed.
    """
    first = {name: once(call, device) for name, call in calls.items()}
    found: dict[str, list[float]] = {name: [] for name in calls}
    for n in range(warm + rounds):
        for name, call in calls.items():
            seconds = once(call, device)
            if n >= warm:
                found[name].append(seconds)
    return {
        name: Times(first[name], statistics.median(times), min(times), max(times), len(times))
        for name, times in found.items()
    }


def once(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of one call."""
    wait(device)
    start = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - start


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table with aligned columns; the first is text, the others are numbers."""
    cells = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        padded = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(padded)} |")
    return "\n".join(lines)
