"""Several processes of one training: all end when one does, each with the appropriate status."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.utilities import rank_zero_only
from torch.multiprocessing.spawn import ProcessExitedException

from rrsis_zoo import signals

_PATIENCE_S = 60.0

Started = subprocess.Popen[bytes] | BaseProcess

_left: list[Started] = []


def is_first() -> bool:
    """Return whether this is the first process of a run, as far as its environment says."""
    return getattr(rank_zero_only, "rank", 0) == 0


class OwnSignals(_SignalConnector):
    """Leaves signals to `rrsis_zoo.signals`.

    Lightning's own handlers end a training with status 0 and without a checkpoint, communicate with other processes
    inside the handler, and on a cluster write a checkpoint in the middle of a step to the working folder, where the
    next command picks it up.
    """

    def register_signal_handlers(self) -> None:
        """Register no handlers."""
        self.received_sigterm = False


class RanksEndTogether(Callback):
    """Takes over the processes that Lightning started when this one ends with an exception.

    Lightning would kill this process as soon as one of them has ended, even while it reports or writes something.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Handle signals in this process, even if a strategy has forked it."""
        signals.adopt()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Lightning hook; empties the launcher's list in place: a thread watches it."""
        started = getattr(trainer.strategy.launcher, "procs", [])
        _left.extend(started)
        started.clear()


@contextlib.contextmanager
def ended_together() -> Iterator[None]:
    """End the processes of a training together with it; they get a minute to end by themselves.

    Raises:
        Interrupted: a signal ended a forked or spawned process; this one only waits for them.
    """
    try:
        yield
    except ProcessExitedException as error:
        if error.exit_code <= 128:
            raise
        raise signals.Interrupted(error.exit_code - 128) from error
    finally:
        until = time.monotonic() + _PATIENCE_S
        for process in _left:
            _signal(process, signal.SIGTERM)
        for process in _left:
            while _alive(process) and time.monotonic() < until:
                time.sleep(0.05)
            if _alive(process):
                _signal(process, signal.SIGKILL)
        _left.clear()


def _alive(process: Started) -> bool:
    return process.is_alive() if isinstance(process, BaseProcess) else process.poll() is None


def _signal(process: Started, number: int) -> None:
    if _alive(process) and process.pid is not None:
        os.kill(process.pid, number)
