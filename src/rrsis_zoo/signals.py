"""Signals that end a command: at once, or, while a training is under way, at its next safe place. No torch.

Ctrl-C, ``kill``, the end of a terminal, ``docker stop`` and a cluster's preemption all ask a process to end. The status
is then 128 plus the signal's number, as shells report it: 143 for SIGTERM, 130 for SIGINT, 129 for SIGHUP. A training
that is asked to end leaves a resume point first, see `rrsis_zoo.training.resume`.
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
"""What a cluster is asked to send some minutes before a job's time is over (``sbatch --signal=USR1@300``)."""

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_S = 1.0  # a terminal's Ctrl-C reaches a process up to three times: by itself, its parent and its launcher


class Interrupted(SystemExit):
    """A signal asked the command to end.

    Args:
        number: of the signal.
        note: what the user is told beside its name.
    """

    def __init__(self, number: int, note: str = "") -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)
        self.note = note


class _Handler:
    """What this process was asked, and whether it ends at once."""

    def __init__(self) -> None:
        self.deferred = False
        self.pending = 0
        self.what = "the training ends after this step"
        self._asked = 0.0
        self._ending = False
        self._process = os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # forked by this process, which ends it
        again, now = self.pending != 0, time.monotonic()
        insists = again and number == signal.SIGINT and now - self._asked > _AGAIN_S
        if again and not insists:
            return
        self.pending, self._asked = number, now
        if self.deferred and not insists:
            name = signal.Signals(number).name
            hint = "; Ctrl-C once more ends it at once" if number == signal.SIGINT else ""
            # not print(): the signal may have come in the midst of one
            os.write(2, f"rrsis: {name}: {self.what}{hint}\n".encode())
            return
        if self._ending:
            os._exit(128 + number)  # what is cleaned up does not come to an end
        self._ending = True
        raise Interrupted(number)


_current: _Handler | None = None


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Take the signals up in the block; what is ignored outside (``nohup``, a job in the background) stays ignored.

    Does nothing beside the main thread, where Python knows no signals, and inside another such block. Where a signal
    ends the block, the first process says so in a line, and puts the job of a cluster back where that is what was
    asked.
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


def defer() -> None:
    """From here on signals wait to be asked for (`pending`)."""
    if _current is not None:
        _current.deferred = True


def at_once() -> int:
    """From here on a signal ends the command at once; return the number of one that was waiting, 0 for none."""
    if _current is not None:
        _current.deferred = False
    return pending()


def forget() -> None:
    """Let what was asked so far and what follows pass: the work is done, and its status is 0."""
    if _current is not None:
        _current.deferred, _current.pending = True, 0
        _current.what = "the training is over and is being closed"


def pending() -> int:
    """Return the number of the signal that waits; 0 for none."""
    return 0 if _current is None else _current.pending


def _is_first() -> bool:
    """Tell whether this is the first of a training's processes, whatever started them."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def leave_to_parent(worker: int) -> None:
    """Let a loading process outlive a signal to the whole group, for the main process to finish its step.

    Cluster managers send SIGTERM to every process of a job, and torch ends a training with an error when a loading
    process is gone. The main process ends its loading processes by itself; if it does not, they end half a minute later.

    Args:
        worker: its number, as ``worker_init_fn`` gets it.
    """
    for number in (signal.SIGINT, signal.SIGHUP, REQUEUE):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS; only so is it known who sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        parent = multiprocessing.parent_process()
        threading.Thread(target=_obey, args=(parent.pid if parent else os.getppid(),), daemon=True).start()


def _obey(parent: int | None) -> None:
    while True:
        if signal.sigwaitinfo({signal.SIGTERM}).si_pid == parent:
            os._exit(0)
        signal.alarm(30)
