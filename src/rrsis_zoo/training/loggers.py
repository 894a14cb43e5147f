"""Weights & Biases without surprises."""

from __future__ import annotations

import netrc
import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger


class QuietWandbLogger(WandbLogger):
    """A `WandbLogger` that never prompts and never waits for an account: offline where none is set up.

    All that W&B writes lies in ``save_dir/wandb``, also what it would keep in the home folder: files staged for
    artefacts and its own logs. ``WANDB_DATA_DIR`` and ``WANDB_CACHE_DIR`` name other places.

    Args:
        project: project name.
        name: run name; W&B invents one by default.
        save_dir: where the run's folder goes.
        offline: None for "offline unless an API key is set up".
        tags: of the run.
        group: of the run.
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
        wanted = os.environ.get("WANDB_MODE", "")
        if offline is None:
            offline = wanted in ("offline", "disabled", "dryrun") or not has_api_key()
        Path(save_dir).mkdir(parents=True, exist_ok=True)  # else W&B falls back to the temporary folder
        for variable, folder in (("WANDB_DATA_DIR", ".data"), ("WANDB_CACHE_DIR", ".cache")):
            os.environ.setdefault(variable, str(Path(save_dir).absolute() / "wandb" / folder))
        options: dict[str, Any] = {"tags": tags, "group": group}
        super().__init__(project=project, name=name, save_dir=save_dir, offline=offline, **options)


def has_api_key() -> bool:
    """Whether W&B can log in without asking: a key in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        hosts = netrc.netrc(path).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return any("wandb" in host for host in hosts)


def wandb_logger(trainer: Trainer) -> WandbLogger | None:
    """Return the logger that a callback may send things to: None without W&B, and on all processes but the first."""
    if not trainer.is_global_zero:
        return None
    return next((logger for logger in trainer.loggers if isinstance(logger, WandbLogger)), None)
