"""A point from which an interrupted training goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

RESUME = "resume.ckpt"
"""The checkpoint, in the run's folder of checkpoints; beside it lies ``resume.json`` with what was done so far."""


class ResumePoint(ModelCheckpoint):
    """Writes ``checkpoints/resume.ckpt`` at the end of every epoch, after the validation where there is one.

    The checkpoints that are chosen by a score are written where the score is the best, which may be long ago. This one
    also holds the states of the random number generators, so that ``rrsis fit --ckpt_path …/resume.ckpt`` draws the
    same dropout as a training that was never interrupted. With several processes it holds those of the first one.

    Beside it ``resume.json`` says in which state the training was: ``epoch`` (epochs done), ``step`` (optimiser steps
    done), ``cpu_s`` (processor time of the process so far, in seconds), ``time`` (Unix time of writing).
    """

    def __init__(self) -> None:
        name = Path(RESUME).stem
        super().__init__(filename=name, enable_version_counter=False, save_on_train_epoch_end=True)
        self._random: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Lightning hook."""
        return {**super().state_dict(), "random": random_states()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning hook."""
        super().load_state_dict(state_dict)
        self._random = state_dict["random"]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the generators' states up, once, as late as possible: starting a run draws random numbers too."""
        if self._random is not None:
            set_random_states(self._random)
            self._random = None

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        if not trainer.is_global_zero:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        done = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "cpu_s": round(used.ru_utime + used.ru_stime, 1),
            "time": time.time(),
        }
        path = Path(filepath).with_suffix(".json")
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(done) + "\n", encoding="utf-8")
        os.replace(draft, path)


def random_states() -> dict[str, Any]:
    """Return the states of torch's generators, from which dropout and stochastic depth are drawn.

    The order of the samples and their augmentation need none: they follow from seed and epoch.
    """
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Set what ``random_states`` returned; CUDA's only where there are as many devices as there were."""
    torch.set_rng_state(states["cpu"])
    if len(states["cuda"]) == (torch.cuda.device_count() if torch.cuda.is_available() else 0):
        torch.cuda.set_rng_state_all(states["cuda"])
