"""Processes of jobs: started in parallel, watched, and always ended."""

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
"""Signals that end a process without a fault of its own: on request, or because its time is up."""

GRACE_S = 25.0
"""Seconds for processes to end gracefully, with a resume point; SLURM grants 30 by default."""

_HERE = str(Path(__file__).absolute().parents[1])
"""Folder that contains this package: the folder of the runner's script, which child processes do not search."""

_LINES = 5
_END = 64 * 2**10  # bytes at the end of a log that are read
_EVERY = 0.2  # seconds between two checks of the processes


@dataclass(frozen=True)
class Usage:
    """How a process ended and how long it took.

    Attributes:
        status: exit status; minus the signal's number if a signal ended it.
        wall_s, cpu_s: wall-clock and processor time in seconds, including children that it waited for.
        end: last lines of its log if the status is not 0.
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
        """Return in one sentence why it failed, with our own error message if there is one."""
        if self.interruption is not None:
            return f"{what} was interrupted by {self.interruption.name}"
        if self.status < 0:
            name = signal.Signals(-self.status).name
            hint = " (was there enough memory?)" if self.status == -signal.SIGKILL else ""
            return f"{what} was ended by {name}{hint}"
        lines = [line for line in self.end if line.startswith("rrsis: ")] or self.end
        return f"{what} ended with status {self.status}" + (f": {lines[-1].strip()}" if lines else "")


@dataclass(eq=False)
class Process:
    """A running process."""

    popen: subprocess.Popen[bytes]
    log: Path
    start: float


class Processes:
    """Starts processes, and ends them on leaving the context in any way.

    Each is the leader of its own process group, so that Ctrl-C in a terminal only reaches the runner, which then ends
    them: gracefully if they end within the grace period, else at once.

    Args:
        grace_s: grace period in seconds.
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
        """Start ``python -m MODULE ARGUMENTS``, or ``python FILE ARGUMENTS``; its output is appended to the log.

        Args:
            program: name of a module, or path of a file with the suffix ``.py``.
            arguments: of the program.
            log: file.
            environment: variables in addition to those of this process.

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
        # wait4 instead of poll(): it returns the resource usage of this process only
        pid, code, used = os.wait4(process.popen.pid, os.WNOHANG)
        if not pid:
            return None
        process.popen.returncode = os.waitstatus_to_exitcode(code)
        self._running.remove(process)
        with contextlib.suppress(ProcessLookupError):  # other ranks of a failed process
            os.killpg(pid, signal.SIGKILL)
        return Usage(
            process.popen.returncode,
            round(time.perf_counter() - process.start, 1),
            round(used.ru_utime + used.ru_stime, 1),
            last_lines(process.log) if process.popen.returncode else [],
        )

    def stop(self) -> dict[int, Usage]:
        """Ask all processes to end; return, by process id, the usage of those that end within the grace period.

        The others, and the processes that they started, still run when it returns or is itself interrupted.
        """
        ended: dict[int, Usage] = {}
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.popen.pid, signal.SIGTERM)  # it ends its loading processes itself
        until = time.monotonic() + self.grace_s
        while self._running and time.monotonic() < until:
            for process in list(self._running):
                if (usage := self.poll(process)) is not None:
                    ended[process.popen.pid] = usage
            time.sleep(_EVERY if self._running else 0)
        return ended

    def end(self, process: Process) -> None:
        """Kill a process and all processes that it started: checkpoints are written atomically."""
        if process not in self._running:
            return  # it has already ended
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
    """Return the ``PYTHONPATH`` for a process with this environment: its own, followed by this package's folder."""
    path = environment.get("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    folders = path.split(os.pathsep) if path else []
    return os.pathsep.join(folders if _HERE in folders else [*folders, _HERE])


def last_lines(log: Path) -> list[str]:
    """Return the last non-empty lines of a log; none if it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _END))
            text = file.read(_END).decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.split("\n") if line.strip()][-_LINES:]
