"""Several processes of one training: all end when one does, each with the status of what happened."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

_PATIENCE_S = 10.0

_left: list[subprocess.Popen[bytes]] = []


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

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Lightning hook; empties the launcher's list in place: a thread watches it."""
        started = getattr(trainer.strategy.launcher, "procs", [])
        _left.extend(started)
        started.clear()


@contextlib.contextmanager
def ended_together() -> Iterator[None]:
    """End the processes that were started for a training with it: they get a moment to end by themselves."""
    try:
        yield
    finally:
        until = time.monotonic() + _PATIENCE_S
        for process in _left:
            process.send_signal(signal.SIGTERM)
        for process in _left:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        _left.clear()
