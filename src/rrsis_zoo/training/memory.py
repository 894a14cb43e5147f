"""Peak memory of some calls, and what to do when there is not enough of it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from rrsis_zoo.errors import ConfigError

ADVICE = (
    "lower --data.batch_size and raise --trainer.accumulate_grad_batches by the same factor, or set one of "
    "--model.gradient_checkpointing true, --trainer.precision bf16-mixed, --model.frozen_dtype bfloat16; "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True in the environment avoids gaps; `rrsis fit … --profile` finds "
    "the largest batch"
)
"""What makes a training fit into a GPU."""


@contextlib.contextmanager
def advised() -> Iterator[None]:
    """Say in one line what to do when a GPU's memory is full.

    Raises:
        ConfigError: it is.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        first = " ".join(str(error).split()).partition(". ")[0]
        raise ConfigError(f"the GPU's memory is full ({first}): {ADVICE}") from error


class PeakMemory:
    """Peak memory from now on.

    On a GPU the maximum that torch had allocated, including weights and optimiser. On a CPU the peak resident memory
    above the present one, plus the weights; without pages of libraries, but with gaps left by the allocator.

    Args:
        model: its weights count, and its gradients are dropped.
        device: of the model.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.device = device
        self.weights = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
        self.start: dict[str, int] | None = None
        model.zero_grad()  # gradients of an earlier case do not count
        gc.collect()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif sys.platform == "linux":
            self.start = _reset_resident()

    def peak(self) -> int | None:
        """Return the maximum since the start in bytes, with the weights; None if it is not available."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        if self.start is None:
            return None
        now = _resident()
        libraries = now["RssFile"] - self.start["RssFile"]  # code loaded by the first calls
        return max(0, now["VmHWM"] - self.start["VmRSS"] - libraries) + self.weights


def wait(device: torch.device) -> None:
    """Wait until a device has done its work, to time it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free_memory(device: torch.device) -> int | None:
    """Return what a model on a device can still take, in bytes; None if it is not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), None)


def _reset_resident() -> dict[str, int] | None:
    """Release freed memory, reset the peak, and return the resident memory; None if that is not permitted."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's; else new arrays would reuse old memory
        trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # some containers
        return None
    return _resident()


def _resident() -> dict[str, int]:
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {
        line[0].rstrip(":"): 1024 * int(line[1])
        for line in lines
        if line and line[0].startswith(("VmHWM", "VmRSS", "RssFile"))
    }
