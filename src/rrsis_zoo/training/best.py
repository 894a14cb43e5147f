"""The best model of a training: whether there will be one, and keeping it when the training is resumed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn

from rrsis_zoo.errors import RRSISError
from rrsis_zoo.files import link
from rrsis_zoo.training.checkpoint_io import read


def never_validated(trainer: Trainer) -> str | None:
    """Return what to say of a training that ends before its first validation; None if it does not."""
    epochs, every = trainer.max_epochs, trainer.check_val_every_n_epoch
    if epochs is None or every is None or not 0 < epochs < every or trainer.limit_val_batches == 0:
        return None
    return (
        f"max_epochs {epochs} is before the first validation (check_val_every_n_epoch is {every}), so there will be no "
        f"best.ckpt, only last.ckpt; --trainer.check_val_every_n_epoch {epochs} validates"
    )


def carry_over(callback: ModelCheckpoint, state: dict[str, Any], resumed: Path) -> dict[str, Any]:
    """Return the state for resuming a callback that selects checkpoints by score.

    Lightning forgets the best score if the folder differs, so that the first model in the new one becomes the best. So
    the selected checkpoints are linked into the new folder, and the score is kept. The file itself may have a better
    score than the state: the attempt that wrote it may have been killed before its next resume point.

    Args:
        callback: with a known folder.
        state: of the callback, from the checkpoint that the training resumes from.
        resumed: path of that checkpoint.

    Raises:
        OutputError: a checkpoint cannot be linked or copied into the new folder.
    """
    assert callback.dirpath is not None
    folder, names = Path(callback.dirpath), dict(state["best_k_models"])
    if callback.monitor is None:  # the last one is the best one
        return state
    moved: dict[str, str] = {}
    there = {callback.format_checkpoint_name({})} if resumed.parent.resolve() == folder.resolve() else set()
    for path in {*names, state["best_model_path"]} - {""}:
        moved[path] = str(folder / Path(path).name)
        # next to the resumed checkpoint, even if the run was moved or copied; or at its old path
        existing = next((p for p in (resumed.parent / Path(path).name, Path(path)) if os.path.isfile(p)), None)
        if existing is None:
            score = state["best_model_score"]
            rank_zero_warn(
                f"the best model so far ({callback.monitor} {'?' if score is None else f'{float(score):.2f}'}) is not "
                f"at {path} any more; {moved[path]} is written when a model is better"
            )
            continue
        there.add(moved[path])
        if not os.path.exists(target := Path(moved[path])) or not target.samefile(existing):
            link(existing, target)
    last = state["last_model_path"]
    state = {
        **state,
        "dirpath": callback.dirpath,
        "best_model_path": moved.get(state["best_model_path"], ""),
        "best_k_models": {moved[path]: score for path, score in names.items()},
        "kth_best_model_path": moved.get(state["kth_best_model_path"], ""),
        "last_model_path": str(folder / Path(last).name) if last else "",
    }
    known, path = state["best_model_score"], state["best_model_path"] or callback.format_checkpoint_name({})
    score = _own_score(callback, path) if callback.save_top_k == 1 and path in there else None
    if score is None or (known is not None and not (score > known if callback.mode == "max" else score < known)):
        return state
    better = {"best_model_path": path, "best_model_score": score, "best_k_models": {path: score}}
    return {**state, **better, "kth_best_model_path": path, "kth_value": score}


def _own_score(callback: ModelCheckpoint, path: str) -> Any:
    """Return the score that a callback recorded in a checkpoint; None if it has none, or is not from this callback."""
    try:
        return read(Path(path), map_location="cpu", mmap=True)["callbacks"][callback.state_key]["best_model_score"]
    except (RRSISError, KeyError, TypeError):
        return None
