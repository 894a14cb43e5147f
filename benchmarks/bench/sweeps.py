"""Sweeps without an account: W&B's search proposes parameters, `rrsis fit` runs, its CSV log has the result.

The sweep file has the format of ``wandb sweep``. No torch.
"""

from __future__ import annotations

import csv
import io
import math
import os
import random
import re
import shlex
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.jobs import ends_of, short_of
from bench.processes import Process, Processes, Usage, last_lines
from bench.records import Point, SweepFile
from bench.reserved import SWEEP as RESERVED
from bench.reserved import file_fault, option_fault, options_of
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError
from rrsis_zoo.escape import markdown as escaped
from rrsis_zoo.escape import markdown_block
from rrsis_zoo.files import cannot_write, make_folder, read_text, write_bytes, write_json, write_text
from rrsis_zoo.tables.records import read_record
from rrsis_zoo.yaml_files import read_yaml

State = Literal["running", "finished", "stopped", "failed"]
"""``stopped``: ended early by the sweep's ``early_terminate``; ``running``, in a file: interrupted."""

PROGRAM = "rrsis_zoo.cli"
"""Module that replaces the word ``rrsis`` of a command in our processes."""

_CALLBACK = "rrsis_zoo.training.resume.ResumePoint"

_GIVE_UP = 3  # after this number of failures without a success the sweep itself is considered wrong


@dataclass(frozen=True)
class Sweep:
    """A sweep file.

    Attributes:
        config: its content, completed with W&B's defaults.
        metric: column of the CSV log.
        largest: whether the largest value is the best.
    """

    config: dict[str, Any]
    metric: str
    largest: bool

    @property
    def parameters(self) -> list[str]:
        """Names of the searched parameters, which are options of ``rrsis fit``."""
        return list(self.config["parameters"])


@dataclass
class Trial:
    """One run of a sweep.

    Attributes:
        name: ``run-001`` …, also the name of its folder.
        parameters: option -> value.
        state: see `State`.
        history: values of the metric after every validation.
        minutes: wall time.
        end: last lines of the log of a failed run.
    """

    name: str
    parameters: dict[str, Any]
    state: State = "running"
    history: list[float] = field(default_factory=list)
    minutes: float = 0.0
    end: list[str] = field(default_factory=list)

    def best(self, largest: bool) -> float | None:
        """Return the best value of the run; None if it has none."""
        values = [value for value in self.history if math.isfinite(value)]
        return (max(values) if largest else min(values)) if values else None


def read_sweep(path: Path) -> Sweep:
    """Read and check a sweep file.

    Raises:
        ConfigError: there is no such file, W&B's search does not accept it, its command is not one of ``rrsis fit``, or
            it sets reserved options.
    """
    if not os.path.isfile(path):
        raise ConfigError(f"there is no sweep file {path}; the shipped ones are in configs/sweeps/")
    content = read_yaml(path)
    with _search() as sweeps:
        from jsonschema import ValidationError

        try:
            config = dict(sweeps.SweepConfig(content))
        except (ValidationError, ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"W&B's search does not accept {path}: {error}") from error
    if config["method"] == "custom":
        raise ConfigError(f"{path}: method custom is not supported; expected grid, random or bayes")
    command = [str(word) for word in config.get("command", [])]
    if command[:2] != ["rrsis", "fit"] or "${args}" not in command:
        raise ConfigError(f"{path}: command must start with rrsis, fit and contain ${{args}}, got {command}")
    _refuse_reserved(path, command[2:], config["parameters"])
    if "metric" not in config:
        raise ConfigError(f"{path}: a sweep needs metric.name, for instance val/miou, and metric.goal")
    return Sweep(config, config["metric"]["name"], config["metric"]["goal"] == "maximize")


def _refuse_reserved(path: Path, words: Sequence[str], parameters: Mapping[str, Any]) -> None:
    """Refuse options of the runner, and those that give scores of a part or of a model trained elsewhere.

    Raises:
        ConfigError: such an option is set.
    """
    settings = list(options_of(words))
    for name, domain in parameters.items():
        ends = [domain[end] for end in ("value", "min", "max") if end in domain]
        settings += [(name, value) for value in [*ends, *(domain.get("values") or ())] or [None]]
    for name, value in settings:
        # less training finds a promising region faster, and all scores still refer to the whole split
        fault = option_fault(name, value, RESERVED, allowed=("limit_train_batches",))
        if name == "config" and isinstance(value, str) and os.path.isfile(Path(value)):
            fault = fault or file_fault(Path(value), read_yaml(value))
        if fault:
            raise ConfigError(f"{path}: {fault}")


def command_of(sweep: Sweep, parameters: Mapping[str, Any]) -> list[str]:
    """Return the command of one run as words, like W&B's agent."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    substitutes = create_sweep_command_args({"args": {name: {"value": value} for name, value in parameters.items()}})
    words = []
    for word in map(str, create_sweep_command(list(sweep.config["command"]))):
        macro = re.fullmatch(r"\$\{(\w+)\}", word)
        if macro is None:
            words.append(word)
        elif macro[1] in substitutes:
            words += map(str, substitutes[macro[1]])
        else:
            raise ConfigError(f"${{{macro[1]}}} in a sweep's command is not one of {', '.join(sorted(substitutes))}")
    return words


def propose(sweep: Sweep, trials: Sequence[Trial], seed: int = 0) -> dict[str, Any] | None:
    """Return the parameters of the next run; None if a grid is complete.

    The same earlier runs and seed give the same proposal.

    Raises:
        ConfigError: the method cannot search these parameters, for instance a grid over continuous ones.
    """
    random.seed(seed + len(trials))
    np.random.seed(seed + len(trials))  # noqa: NPY002  # the generator that W&B's search draws from
    with _search() as sweeps:
        try:
            proposed = sweeps.next_run(sweep.config, [_as_run(sweeps, sweep, trial) for trial in trials])
        except ValueError as error:
            raise ConfigError(f"method {sweep.config['method']} cannot search these parameters: {error}") from error
    return None if proposed is None else {name: _plain(entry["value"]) for name, entry in proposed.config.items()}


def is_hopeless(sweep: Sweep, trials: Sequence[Trial]) -> bool:
    """Return whether the sweep's ``early_terminate`` would end the last run, given the histories of all runs."""
    if "early_terminate" not in sweep.config:
        return False
    with _search() as sweeps:
        stopped = sweeps.stop_runs(sweep.config, [_as_run(sweeps, sweep, trial) for trial in trials])
    return any(run.name == trials[-1].name for run in stopped)


class Study:
    """A sweep with its runs in a folder: ``sweep.json``, ``sweep.md``, and a folder and a log for each run.

    Everything is written after every run. An interrupted study can be continued: the interrupted run is repeated with
    the same parameters.

    Args:
        sweep: of the study.
        folder: of the runs.
        seed: of the proposals.

    Raises:
        ConfigError: the folder contains the runs of another sweep.
        DataFormatError: its ``sweep.json`` is damaged.
    """

    def __init__(self, sweep: Sweep, folder: Path, seed: int = 0) -> None:
        self.sweep, self.folder, self.seed = sweep, folder, seed
        self.trials: list[Trial] = []
        self._file = folder / "sweep.json"
        if os.path.isfile(self._file):
            content = read_record(self._file, SweepFile, "remove it, or name another folder with --folder")
            if content["sweep"] != sweep.config:
                raise ConfigError(
                    f"{folder} contains the runs of another sweep, or its file has changed; "
                    "name another folder with --folder, or remove this one"
                )
            self.trials = [Trial(**{f.name: trial[f.name] for f in fields(Trial)}) for trial in content["runs"]]

    def forget_failed(self) -> None:
        """Remove the failed runs, so that new ones are proposed in their place."""
        self.trials = [trial for trial in self.trials if trial.state != "failed"]

    def run(
        self,
        runs: int | None = None,
        program: str = PROGRAM,
        poll_s: float = 5.0,
        say: Callable[[str], None] = print,
    ) -> None:
        """Run until this number of runs is reached, or a grid is complete.

        Args:
            runs: total number, including earlier ones; None for a whole grid.
            program: in place of ``rrsis``: name of a module, or path of a Python file.
            poll_s: seconds between two checks of a running one's log, for early termination.
            say: gets a line before and after every run.

        Raises:
            ConfigError: the first runs all failed; their last lines are in the message.
            OutputError: a file cannot be written.
        """
        if runs is None and self.sweep.config["method"] != "grid":
            method = self.sweep.config["method"]
            raise ConfigError(f"method {method} has no end: give the number of runs (--runs 12)")
        with Processes() as processes:
            for trial in [trial for trial in self.trials if trial.state == "running"]:  # interrupted
                self._do(trial, program, processes, poll_s, say)
            while runs is None or len(self.trials) < runs:
                parameters = propose(self.sweep, self.trials, self.seed)
                if parameters is None:
                    break
                number = 1 + max((int(trial.name.removeprefix("run-")) for trial in self.trials), default=0)
                self.trials.append(Trial(f"run-{number:03d}", parameters))
                self._do(self.trials[-1], program, processes, poll_s, say)
        self._write()

    def ranked(self) -> list[Trial]:
        """Return the runs with a value, best first, then those without."""
        sign = -1 if self.sweep.largest else 1
        values = {trial.name: trial.best(self.sweep.largest) for trial in self.trials}
        return sorted(
            self.trials, key=lambda t: (values[t.name] is None, 0.0 if (v := values[t.name]) is None else sign * v)
        )

    def best_command(self) -> str | None:
        """Return the command of the best run as a shell line; None if there is none yet."""
        done = [trial for trial in self.ranked() if trial.best(self.sweep.largest) is not None]
        return shlex.join(command_of(self.sweep, done[0].parameters)) if done else None

    def markdown(self) -> str:
        """Return the table of all runs, best first, and the best command."""
        columns = ["run", self.sweep.metric, "state", "validations", "minutes", *self.sweep.parameters]
        lines = ["| " + " | ".join(map(escaped, columns)) + " |", "|" + "---|" * len(columns)]
        for trial in self.ranked():
            value = trial.best(self.sweep.largest)
            cells = [
                trial.name,
                "–" if value is None else f"{value:.2f}",
                trial.state,
                str(len(trial.history)),
                f"{trial.minutes:.1f}",
                *(_short(trial.parameters.get(name)) for name in self.sweep.parameters),
            ]
            lines.append("| " + " | ".join(map(escaped, cells)) + " |")
        best = self.best_command()
        return "\n".join([*lines, "", *([] if best is None else ["The best:", "", markdown_block(best, "sh"), ""])])

    def _do(self, trial: Trial, program: str, processes: Processes, poll_s: float, say: Callable[[str], None]) -> None:
        trial.state, trial.history, trial.end = "running", [], []
        self._write()
        say(f"{trial.name}: " + ", ".join(f"{name}={_short(value)}" for name, value in trial.parameters.items()))
        start = time.perf_counter()
        folder, log = self.folder / trial.name, self.folder / f"{trial.name}.log"
        with cannot_write(folder):
            if os.path.exists(folder):
                shutil.rmtree(folder)
        write_bytes(log, b"")
        more = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(self.folder)]
        more += ["--trainer.logger.name", trial.name, "--trainer.enable_progress_bar", "false"]
        more += ["--trainer.callbacks+", _CALLBACK]
        process = processes.start(program, [*command_of(self.sweep, trial.parameters)[1:], *more], log, {})
        usage = self._watch(process, processes, trial, poll_s)
        trial.history = read_history(folder, self.sweep.metric)
        trial.minutes = round((time.perf_counter() - start) / 60, 2)
        if usage is not None and usage.interruption:
            self._write()  # unchanged: the next sweep in this folder repeats it
            say(f"{trial.name}: {usage.reason('the run')}")
            return
        value = trial.best(self.sweep.largest)
        fault = "" if usage is None else self._fault(usage, folder, value)
        trial.state = "stopped" if usage is None else "failed" if fault else "finished"
        with cannot_write(folder):
            (folder / "version_0" / "checkpoints" / "resume.ckpt").unlink(missing_ok=True)  # no run is resumed
        if fault:
            trial.end = [*last_lines(log), *([] if usage is None or usage.status else [fault])]
        self._write()
        say(f"{trial.name}: {trial.state}" + ("" if value is None else f", {self.sweep.metric} {value:.2f}"))
        failed = [t for t in self.trials if t.state == "failed"]
        if len(failed) >= _GIVE_UP and len(failed) == len(self.trials):
            last = "\n  ".join(trial.end)
            raise ConfigError(f"all of the first {len(failed)} runs failed; the end of {log}:\n  {last}")

    def _fault(self, usage: Usage, folder: Path, value: float | None) -> str:
        """Return why a run has failed; empty if it has not. An exit status of 0 does not prove that it is complete."""
        if usage.status:
            return usage.reason("the run")
        place = folder / "version_0"
        try:
            point = Point(**read_record(place / "checkpoints" / "resume.json", Point, "do the run again"))
            asked = ends_of(read_yaml(place / "config.yaml", DataFormatError)["trainer"])
        except (MissingDataError, DataFormatError, KeyError, TypeError) as error:
            return f"the progress of the run is not known ({error})"
        if short := short_of(point, *asked):
            return f"the run ended with status 0, but {short}"
        return "" if value is not None else f"the run ended without a value of {self.sweep.metric} in its metrics.csv"

    def _watch(self, process: Process, processes: Processes, trial: Trial, poll_s: float) -> Usage | None:
        """Wait for a run; return how it ended, None if it was terminated early."""
        while True:
            until = time.monotonic() + poll_s
            while time.monotonic() < until:
                if (usage := processes.poll(process)) is not None:
                    return usage
                time.sleep(min(0.1, poll_s))
            seen = read_history(self.folder / trial.name, self.sweep.metric)
            if len(seen) > len(trial.history):
                trial.history = seen
                others = [t for t in self.trials if t is not trial]
                if is_hopeless(self.sweep, [*others, trial]):
                    processes.end(process)
                    return None

    def _write(self) -> None:
        make_folder(self.folder)
        write_json(self._file, {"sweep": self.sweep.config, "runs": [asdict(trial) for trial in self.trials]})
        write_text(self.folder / "sweep.md", self.markdown())


def read_history(folder: Path, metric: str) -> list[float]:
    """Return the values of a metric in a run's CSV log, oldest first; empty if there are none yet."""
    path = folder / "version_0" / "metrics.csv"
    if not os.path.isfile(path):
        return []
    values = []
    for row in csv.DictReader(io.StringIO(read_text(path), newline="")):
        with suppress(ValueError, TypeError):  # the last line, while it is being written
            values.append(float(row.get(metric) or "no number"))
    return values


@contextmanager
def _search() -> Iterator[Any]:
    """Yield W&B's search, without its warnings about versions of other libraries.

    Raises:
        ConfigError: it is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import sweeps
        except ImportError as error:
            raise ConfigError("local sweeps need W&B's search: pip install 'rrsis-zoo[sweep]'") from error
        yield sweeps


def _as_run(sweeps: Any, sweep: Sweep, trial: Trial) -> Any:
    # a run that was terminated early counts with its best value, as on W&B's server
    state = {"stopped": "finished"}.get(trial.state, trial.state)
    return sweeps.SweepRun(
        name=trial.name,
        state=sweeps.RunState(state),
        config={name: {"value": value} for name, value in trial.parameters.items()},
        sampledHistory=[{sweep.metric: value} for value in trial.history],
    )


def _plain(value: Any) -> Any:
    """Return numpy's numbers as Python's, for JSON and the command line."""
    return value.item() if isinstance(value, np.generic) else value


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
