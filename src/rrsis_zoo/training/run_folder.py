"""The folder of a new run, ``runs/METHOD/COMMAND/NAME``: created for one run, removed if nothing came of it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lightning.pytorch import Callback, LightningModule, Trainer

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.files import cannot_write, make_folder
from rrsis_zoo.training.runs import CHECKPOINTS, CONFIG, LAST, LOCK

RUNS = "runs"
"""Parent of all run folders by default."""

RESULTS = ("test.json", "predictions*.jsonl", f"{CHECKPOINTS}/*.ckpt")
"""What makes a folder worth keeping, whatever happened to the run."""

BEST = "best.ckpt"
_BEST = f"{CHECKPOINTS}/{BEST}"
_SHOWN = 5
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NUMBERED = re.compile(r"version_(\d+)")
_ATTEMPTS = 1000
_WRITTEN = (CONFIG, "hparams.yaml", "metrics.csv", LOCK, ".slurm-job", f"{CHECKPOINTS}/{LOCK}", CHECKPOINTS)
"""What a start may leave, before any result, in a folder that it did not create."""


def check_name(name: str) -> None:
    """Refuse a name that cannot be that of a run's folder.

    Raises:
        ConfigError: other characters than letters, digits and ``._-``, or the form of a numbered run.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"--name {name!r}: letters, digits, '.', '_' and '-' are allowed, at most 100, beginning with a letter or "
            "digit"
        )
    if _NUMBERED.fullmatch(name):
        raise ConfigError(f"--name {name!r}: runs without a name are called so; give another one, or leave --name out")


def check_free(folder: Path, command: str) -> None:
    """Refuse a run's folder that exists.

    Raises:
        ConfigError: it does; the message says what to do.
    """
    if not os.path.lexists(folder):
        return
    mend = f"continue it with `rrsis fit --resume {folder}`, or remove it" if command == "fit" else "or remove it"
    raise ConfigError(f"--name {folder.name}: {folder} exists already; give another name, {mend}")


def best_in(folder: Path) -> Path:
    """Return the best checkpoint of a training's folder.

    Raises:
        ConfigError: there is none; the message names what there is instead.
    """
    for path in (folder / CHECKPOINTS / BEST, folder / BEST):
        if os.path.isfile(path):
            return path
    others = sorted(p.name for p in (folder / CHECKPOINTS).glob("*.ckpt"))
    inner = sorted(str(p.parent.parent) for depth in range(1, 5) for p in folder.glob(f"{'*/' * depth}{_BEST}"))
    if not os.path.isdir(folder / CHECKPOINTS) and os.path.isfile(folder / CONFIG):
        hint = "; it is not the folder of a training: `rrsis runs` lists the runs, and what each is"
    elif others == [LAST]:
        hint = f"; no validation ran in that training, and its last epoch is {folder / CHECKPOINTS / LAST}"
    elif others:
        hint = f"; give one of its files: {', '.join(str(folder / CHECKPOINTS / name) for name in others)}"
    elif inner:
        hint = f"; give one of the runs in it: {', '.join(inner[:_SHOWN])}{', …' if len(inner) > _SHOWN else ''}"
    else:
        hint = "; `rrsis runs` lists the runs"
    raise ConfigError(f"{folder} has no {_BEST}, and no model of save_pretrained or rrsis convert{hint}")


class RunFolder:
    """Creates what a run writes to, and removes it again if the run ends with an error before it has any result.

    A context manager around a command. Only the first process creates and removes anything.

    Attributes:
        used: set once there is something worth keeping, such as a step of a training.
    """

    def __init__(self) -> None:
        self.used = False
        self._runs: list[Path] = []  # created here: everything in them is the run's
        self._parents: list[Path] = []  # created here, perhaps also in use by other runs; the innermost last
        self._existing: list[tuple[Path, frozenset[str]]] = []  # and which of `_WRITTEN` they had
        self._discard: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """After an error without results, remove what was created."""
        if error is None or self.used:
            return
        for discard in self._discard:
            discard()
        for folder in self._runs:
            if not any(True for pattern in RESULTS for _ in folder.glob(pattern)):
                shutil.rmtree(folder, ignore_errors=True)
        for folder, earlier in self._existing:
            _remove_written(folder, earlier)
        for folder in reversed(self._parents):
            with contextlib.suppress(OSError):  # not empty: another run's
                folder.rmdir()

    def numbered(self, parent: Path) -> str:
        """Create the folder of a run without a name, and return its name: ``version_N``, the next that is free.

        Raises:
            OutputError: it cannot be created.
            ConfigError: no number is free.
        """
        self.inside(parent)
        make_folder(parent)
        taken = [int(match[1]) for path in os.scandir(parent) if (match := _NUMBERED.fullmatch(path.name))]
        first = max(taken, default=-1) + 1
        for number in range(first, first + _ATTEMPTS):  # another run may start at the same time
            if self._make(parent / f"version_{number}"):
                return f"version_{number}"
        raise ConfigError(f"{parent} has no free version_N: give a --name")

    def named(self, folder: Path, command: str) -> None:
        """Create the folder of a run with a name.

        Raises:
            ConfigError: it exists.
            OutputError: it cannot be created.
        """
        self.inside(folder.parent)
        make_folder(folder.parent)
        if not self._make(folder):
            check_free(folder, command)

    def given(self, folder: Path) -> None:
        """Take a folder that the user chose; it may exist.

        Raises:
            OutputError: it cannot be created.
        """
        if os.path.isdir(folder):
            self._existing.append((folder, frozenset(name for name in _WRITTEN if os.path.lexists(folder / name))))
            return
        self.inside(folder.parent)
        make_folder(folder.parent)
        self._make(folder)

    def inside(self, parent: Path, discard: Callable[[], None] | None = None) -> None:
        """Note a folder that will be created, if it does not exist; it is removed again if it is empty then.

        Args:
            parent: the folder.
            discard: removes what the run has written there.
        """
        if discard is not None:
            self._discard.append(discard)
        chain = [parent.absolute(), *parent.absolute().parents]
        self._parents += [p for p in reversed(chain) if not os.path.lexists(p) and p not in self._parents]

    def _make(self, folder: Path) -> bool:
        """Create a run's folder; return whether it did not exist."""
        with cannot_write(folder):
            try:
                folder.mkdir()
            except FileExistsError:
                return False
        self._runs.append(folder.absolute())
        return True


def _remove_written(folder: Path, earlier: frozenset[str]) -> None:
    for path in (folder / name for name in _WRITTEN if name not in earlier):
        with contextlib.suppress(OSError):  # it does not exist, or is a folder that has something in it
            path.rmdir() if os.path.isdir(path) else path.unlink()


class StepTaken(Callback):
    """Notes that a training has taken an optimiser step, so that its folder is kept whatever happens.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._before = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning hook."""
        self._before = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lightning hook."""
        self._folder.used |= trainer.global_step > self._before
