"""Weights & Biases without surprises."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger

from rrsis_zoo.errors import ConfigError, OutputError
from rrsis_zoo.files import make_folder
from rrsis_zoo.training.wandb_account import has_api_key, wandb_mode

__all__ = ["QuietWandbLogger", "has_api_key", "wandb_logger"]


class QuietWandbLogger(WandbLogger):
    """A `WandbLogger` that never prompts and never waits for an account.

    W&B's own switches are obeyed, see `rrsis_zoo.training.wandb_account.wandb_mode`; without any, runs are offline
    where there is no account. All that W&B writes lies in ``save_dir/wandb``, also what it would keep in the home
    folder: files staged for artefacts and its own logs. ``WANDB_DATA_DIR`` and ``WANDB_CACHE_DIR`` name other places.
    With ``WANDB_MODE=disabled`` nothing is written.

    Args:
        project: project name.
        name: run name; W&B invents one by default.
        save_dir: where the run's folder goes.
        offline: None for what the switches say, else "offline unless there is an account".
        tags: of the run.
        group: of the run.

    Raises:
        ConfigError: online is asked for and there is no account, or a switch has a value that W&B does not know.
        OutputError: the folder cannot be written: W&B would choose another one.
    """

    def __init__(
        self,
        project: str = "rrsis-zoo",
        name: str | None = None,
        save_dir: str = "runs",
        offline: bool | None = None,
        tags: list[str] | None = None,
        group: str | None = None,
    ) -> None:
        mode = wandb_mode(offline)
        self.disabled = mode == "disabled"
        options: dict[str, Any] = {"tags": tags, "group": group, "mode": mode}
        super().__init__(project=project, name=name, save_dir=save_dir, offline=mode == "offline", **options)
        self._wandb_init.pop("anonymous", None)  # W&B warns of it, whatever its value
        if self.disabled:
            self._wandb_init["dir"] = tempfile.gettempdir()  # W&B makes the folder all the same
            return
        _check_folder(Path(save_dir) / "wandb")
        for variable, folder in (("WANDB_DATA_DIR", ".data"), ("WANDB_CACHE_DIR", ".cache")):
            os.environ.setdefault(variable, str(Path(save_dir).absolute() / "wandb" / folder))

    @property
    def experiment(self) -> Any:
        """W&B's run, begun when it is first asked for.

        Raises:
            ConfigError: it cannot be begun: no network, a server that refuses the key.
        """
        import wandb

        try:
            return super().experiment
        except wandb.Error as cause:
            why = " ".join(str(cause).split())
            raise ConfigError(f"W&B cannot begin a run ({why}); WANDB_MODE=offline keeps it here") from cause


def _check_folder(folder: Path) -> None:
    """Make the folder of W&B's runs, and see that it can be written: else W&B falls back to the temporary folder."""
    make_folder(folder)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise OutputError(f"{folder} cannot be written (no permission)")


def wandb_logger(trainer: Trainer) -> WandbLogger | None:
    """Return the logger that a callback may send things to.

    None without W&B, where it is disabled, and on all processes but the first.
    """
    if not trainer.is_global_zero:
        return None
    loggers = (logger for logger in trainer.loggers if isinstance(logger, WandbLogger))
    return next((logger for logger in loggers if not getattr(logger, "disabled", False)), None)
