"""Several processes of one training: all end when one does, each with the status of what happened."""

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
from torch.multiprocessing.spawn import ProcessExitedException

from rrsis_zoo import signals

_PATIENCE_S = 60.0

Started = subprocess.Popen[bytes] | BaseProcess

_left: list[Started] = []


class OwnSignals(_SignalConnector):
    """Leaves signals to `rrsis_zoo.signals`.

    Lightning's own handlers end a training with status 0 and without a checkpoint, communicate with other processes
    from within the handler, and on a cluster write a checkpoint in mid step into the working folder, which the next
    command that is started there takes for its own.
    """

    def register_signal_handlers(self) -> None:
        """Register none."""
        self.received_sigterm = False


class RanksEndTogether(Callback):
    """Takes the processes that Lightning has started out of its hands when this one ends by an exception.

    It would kill this one as soon as one of them has ended, whatever it is about to say or write.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Handle signals in this process, also where a strategy has forked it."""
        signals.adopt()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Lightning hook; empties the launcher's list in place: a thread watches it."""
        started = getattr(trainer.strategy.launcher, "procs", [])
        _left.extend(started)
        started.clear()


@contextlib.contextmanager
def ended_together() -> Iterator[None]:
    """End the processes that were started for a training with it: they get a minute to end by themselves.

    Raises:
        Interrupted: a signal has ended one that was forked or spawned; this one only waits for them.
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
