"""Signals that end a command: at once or, during training, at the next safe point. No torch.

Ctrl-C, ``kill``, closing a terminal, ``docker stop`` and preemption on a cluster all ask a process to end. The exit
status is then 128 plus the signal's number, as shells report it: 143 for SIGTERM, 130 for SIGINT, 129 for SIGHUP.
Training first writes a resume point, see `rrsis_zoo.training.resume`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from rrsis_zoo.slurm import requeue

REQUEUE = signal.SIGUSR1
"""What a cluster should send some minutes before a job's time limit (``sbatch --signal=USR1@300``)."""

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_S = 1.0  # Ctrl-C reaches a process up to three times: directly, from its parent and from its launcher


class Interrupted(SystemExit):
    """A signal asked the command to end.

    Args:
        number: of the signal.
        note: what to tell the user besides its name.
    """

    def __init__(self, number: int, note: str = "") -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)
        self.note = note


class _Handler:
    """The pending request to end, and whether it is obeyed at once."""

    def __init__(self) -> None:
        self.deferred = False
        self.pending = 0
        self.what = "the training ends after this step"
        self._asked = 0.0
        self._ending = False
        self.process = os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:
            return  # a fork of the process that handles signals, which ends this one itself
        again, now = self.pending != 0, time.monotonic()
        insists = again and now - self._asked > _AGAIN_S and (number == signal.SIGINT or not self.deferred)
        if again and not insists:
            return
        self.pending, self._asked = number, now
        if self.deferred and not insists:
            name = signal.Signals(number).name
            hint = "; press Ctrl-C again to end it at once" if number == signal.SIGINT else ""
            # not print(): the signal may have interrupted one
            os.write(2, f"rrsis: {name}: {self.what}{hint}\n".encode())
            return
        if self._ending:
            os._exit(128 + number)  # cleaning up hangs
        self._ending = True
        raise Interrupted(number)


_current: _Handler | None = None


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Handle the signals in the block; ones that are ignored outside (``nohup``, a background job) stay ignored.

    Does nothing outside the main thread, where Python has no signals, and inside another such block. If a signal ends
    the block, the first process says so in a line, and requeues a cluster job if that was the request.
    """
    global _current
    if _current is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = _Handler()
    taken = [*_ENDING, REQUEUE] if "SLURM_JOB_ID" in os.environ else [*_ENDING]
    earlier = {number: signal.getsignal(number) for number in taken}
    earlier = {number: it for number, it in earlier.items() if it not in (signal.SIG_IGN, None)}
    _current = handler
    try:
        for number in earlier:
            signal.signal(number, handler)
        yield
    except Interrupted as error:
        if _is_first():
            print(f"rrsis: ended by {error.signal.name}{error.note and f': {error.note}'}", file=sys.stderr, flush=True)
            if error.signal == REQUEUE:
                requeue()
        raise
    finally:
        _current = None
        for number, it in earlier.items():
            signal.signal(number, it)


def adopt() -> None:
    """Handle the signals in this process, which was forked from the one that handled them."""
    if _current is not None:
        _current.process = os.getpid()


def defer() -> None:
    """From here on signals are deferred until `pending` is called."""
    if _current is not None:
        _current.deferred = True


def at_once() -> int:
    """From here on a signal ends the command at once; return the number of a deferred one, 0 for none."""
    if _current is not None:
        _current.deferred = False
    return pending()


def forget() -> None:
    """Ignore past and future requests: the work is done, and the status is 0."""
    if _current is not None:
        _current.deferred, _current.pending = True, 0
        _current.what = "the training is over and is being closed"


def pending() -> int:
    """Return the number of the deferred signal; 0 for none."""
    return 0 if _current is None else _current.pending


def _is_first() -> bool:
    """Return whether this is the first process of a training run, whatever started them."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def leave_to_parent(worker: int) -> None:
    """Let a loading process survive a signal to the whole group, so that the main process can finish its step.

    Cluster managers send SIGTERM to every process of a job, and torch raises an error in training when a
    loading process is gone. The main process ends its loading processes itself; otherwise they end after half a minute.

    Args:
        worker: its number, as ``worker_init_fn`` gets it.
    """
    for number in (signal.SIGINT, signal.SIGHUP, REQUEUE):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS; it is the only way to know the sender
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        parent = multiprocessing.parent_process()
        threading.Thread(target=_obey, args=(parent.pid if parent else os.getppid(),), daemon=True).start()


def _obey(parent: int | None) -> None:
    while True:
        if signal.sigwaitinfo({signal.SIGTERM}).si_pid == parent:
            os._exit(0)
        signal.alarm(30)
