"""The best model stays the best one when a training goes on, in its own folder or in another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn

from rrsis_zoo.errors import RRSISError
from rrsis_zoo.files import link
from rrsis_zoo.training.checkpoint_io import read


def carry_over(callback: ModelCheckpoint, state: dict[str, Any], resumed: Path) -> dict[str, Any]:
    """Return the state with which a callback goes on that chooses checkpoints by a score.

    Lightning forgets the best score where the folder is another one, and the first model there, whatever it is worth,
    becomes the best. So the chosen checkpoints are given a second name in the new folder, and the score is kept. The
    file itself may be better than the state says: the attempt that wrote it was killed before its next resume point.

    Args:
        callback: its folder is known.
        state: of the callback, from the checkpoint with which the training goes on.
        resumed: that checkpoint.

    Raises:
        OutputError: a checkpoint cannot be brought into the new folder.
    """
    assert callback.dirpath is not None
    folder, names = Path(callback.dirpath), dict(state["best_k_models"])
    if callback.monitor is None:  # the last one is the best one
        return state
    moved: dict[str, str] = {}
    there = {callback.format_checkpoint_name({})} if resumed.parent.resolve() == folder.resolve() else set()
    for path in {*names, state["best_model_path"]} - {""}:
        moved[path] = str(folder / Path(path).name)
        # beside the checkpoint that is resumed, also if the run was moved or copied; or where it was
        found = next((p for p in (resumed.parent / Path(path).name, Path(path)) if os.path.isfile(p)), None)
        if found is None:
            score = state["best_model_score"]
            rank_zero_warn(
                f"the best model so far ({callback.monitor} {'?' if score is None else f'{float(score):.2f}'}) is not "
                f"at {path} any more; {moved[path]} is written when one is better"
            )
            continue
        there.add(moved[path])
        if not os.path.exists(target := Path(moved[path])) or not target.samefile(found):
            link(found, target)
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
    found = {"best_model_path": path, "best_model_score": score, "best_k_models": {path: score}}
    return {**state, **found, "kth_best_model_path": path, "kth_value": score}


def _own_score(callback: ModelCheckpoint, path: str) -> Any:
    """Return the score with which a callback chose a checkpoint; None where there is none, or it is another's."""
    try:
        return read(Path(path), map_location="cpu", mmap=True)["callbacks"][callback.state_key]["best_model_score"]
    except (RRSISError, KeyError, TypeError):
        return None
