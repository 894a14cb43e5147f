"""Processes of jobs: started side by side, watched, and never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.child import PARENT
from rrsis_zoo.files import cannot_write, make_folder

INTERRUPTIONS = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU, signal.SIGALRM}
)
"""Signals by which a process ends through no fault of its own: others asked it to end, or its time was up."""

GRACE_S = 25.0
"""Seconds that processes have to end in order, with a point to resume from; SLURM grants 30 by default."""

_HERE = str(Path(__file__).absolute().parents[1])
"""Folder in which Python finds this package; that of the script which started the runner, and no child's own."""

_LINES = 5
_END = 64 * 2**10  # bytes of a log that are looked at
_EVERY = 0.2  # seconds between two looks at the processes


@dataclass(frozen=True)
class Usage:
    """How a process ended and what it took.

    Attributes:
        status: exit status; minus the signal's number where a signal ended it.
        wall_s, cpu_s: seconds, of the clock and of all processors; children that it waited for are counted.
        end: last lines of its log, where the status is not 0.
    """

    status: int
    wall_s: float
    cpu_s: float
    end: list[str] = field(default_factory=list)

    @property
    def interruption(self) -> signal.Signals | None:
        """The signal of `INTERRUPTIONS` that ended it, whether it was caught (128 more than its number) or not."""
        number = -self.status if self.status < 0 else self.status - 128
        return next((one for one in INTERRUPTIONS if one == number), None)

    def plain(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    def reason(self, what: str) -> str:
        """Return in one sentence why it failed: our own error's line where there is one."""
        if self.interruption is not None:
            return f"{what} was interrupted by {self.interruption.name}"
        if self.status < 0:
            name = signal.Signals(-self.status).name
            hint = " (was there enough memory?)" if self.status == -signal.SIGKILL else ""
            return f"{what} was ended by {name}{hint}"
        said = [line for line in self.end if line.startswith("rrsis: ")] or self.end
        return f"{what} ended with status {self.status}" + (f": {said[-1].strip()}" if said else "")


@dataclass(eq=False)
class Process:
    """A running one."""

    popen: subprocess.Popen[bytes]
    log: Path
    start: float


class Processes:
    """Starts processes and takes them along when it is left, however that happens.

    Each is the head of a group of its own, so that Ctrl-C in a terminal reaches the runner alone, which then ends them:
    in order if they do so within the grace, else at once.

    Args:
        grace_s: seconds that they have for it.
    """

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self.grace_s = grace_s
        self._read, self._write = os.pipe()  # see bench.child
        self._running: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            for process in list(self._running):
                self.end(process)
            os.close(self._write)
            os.close(self._read)

    def start(self, program: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> Process:
        """Start ``python -m MODULE ARGUMENTS``, or ``python FILE ARGUMENTS``; what it prints is added to the log.

        Args:
            program: name of a module, or path of a file that ends in ``.py``.
            arguments: of it.
            log: file.
            environment: what it gets beside that of this process.

        Raises:
            OutputError: the log cannot be written.
        """
        command = [sys.executable, "-m", "bench.child", program, *arguments]
        make_folder(log.parent)
        with cannot_write(log), log.open("ab") as out:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment, "PYTHONPATH": _with_here(environment), PARENT: str(self._read)},
                pass_fds=(self._read,),
                start_new_session=True,
            )
        process = Process(popen, log, time.perf_counter())
        self._running.append(process)
        return process

    def poll(self, process: Process) -> Usage | None:
        """Return how a process ended; None while it runs."""
        # wait4 and not poll(): it tells the usage of this process alone, others run beside it
        pid, code, used = os.wait4(process.popen.pid, os.WNOHANG)
        if not pid:
            return None
        process.popen.returncode = os.waitstatus_to_exitcode(code)
        self._running.remove(process)
        with contextlib.suppress(ProcessLookupError):  # further ranks of a process that failed
            os.killpg(pid, signal.SIGKILL)
        return Usage(
            process.popen.returncode,
            round(time.perf_counter() - process.start, 1),
            round(used.ru_utime + used.ru_stime, 1),
            last_lines(process.log) if process.popen.returncode else [],
        )

    def stop(self) -> dict[int, Usage]:
        """Ask all processes to end, and return how those ended that did within the grace, by their numbers.

        The others still run when it returns, or is interrupted itself; what they have started goes on with them.
        """
        ended: dict[int, Usage] = {}
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.popen.pid, signal.SIGTERM)  # loading processes are its own matter
        until = time.monotonic() + self.grace_s
        while self._running and time.monotonic() < until:
            for process in list(self._running):
                if (usage := self.poll(process)) is not None:
                    ended[process.popen.pid] = usage
            time.sleep(_EVERY if self._running else 0)
        return ended

    def end(self, process: Process) -> None:
        """End a process and all that it has started, at once: checkpoints are whole or not there."""
        if process not in self._running:
            return  # it has ended by itself
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.popen.pid, signal.SIGKILL)
        process.popen.wait()
        self._running.remove(process)

    def wait(self, process: Process, every: float = _EVERY) -> Usage:
        """Wait for one process."""
        while (usage := self.poll(process)) is None:
            time.sleep(every)
        return usage


def _with_here(environment: Mapping[str, str]) -> str:
    """Return the ``PYTHONPATH`` of a process that gets this environment: its own, and after it this package's."""
    given = environment.get("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    folders = given.split(os.pathsep) if given else []
    return os.pathsep.join(folders if _HERE in folders else [*folders, _HERE])


def last_lines(log: Path) -> list[str]:
    """Return the last lines of a log that say something; none of a log that cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _END))
            text = file.read(_END).decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.split("\n") if line.strip()][-_LINES:]
