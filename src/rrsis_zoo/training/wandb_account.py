"""What W&B's own switches say: whether a run is online, offline or not at all, and whether there is an account."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from rrsis_zoo.errors import ConfigError

Mode = Literal["online", "offline", "disabled", "shared"]

_SWITCHES = ("WANDB_MODE", "WANDB_BASE_URL", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")


def wandb_mode(offline: bool | None) -> Mode:
    """Return how a run is to be logged.

    ``WANDB_MODE`` is obeyed (also as ``wandb offline`` and ``wandb online`` leave it in W&B's settings files), and so
    is ``WANDB_DISABLED``. Without either, a run is online where there is an account at the server that W&B is set to
    (``WANDB_BASE_URL``, or its settings files), else offline.

    Args:
        offline: what the configuration says; None for nothing.

    Raises:
        ConfigError: online is asked for and there is no account; or a switch has a value that W&B does not know.
    """
    settings = _settings()
    given = settings.mode if "mode" in settings.model_fields_set else None
    if given is None and os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true", "yes", "on"):
        given = "disabled"
    if given == "disabled":
        return "disabled"
    if offline is None:
        offline = given in ("offline", "dryrun") or (given is None and not _has_account(settings))
    if offline:
        return "offline"
    if not _has_account(settings):
        why = f"WANDB_MODE is {given}" if given else "offline is false"
        raise ConfigError(
            f"W&B is to run online ({why}), but there is no account for {settings.base_url}: log in with "
            f"`wandb login --host {settings.base_url}`, or set WANDB_MODE=offline"
        )
    return "shared" if given == "shared" else "online"


def has_api_key() -> bool:
    """Whether W&B can log in without asking, at the server that it is set to.

    A key may be in the environment, in W&B's settings files, in the netrc file, or known from an earlier login of this
    process. One for another server does not count.

    Raises:
        ConfigError: a switch or a key that W&B would refuse.
    """
    return _has_account(_settings())


def _settings() -> Any:
    """Return W&B's settings as they hold for a run that begins now: of its files, then of the environment.

    Those that W&B itself has read once in this process would be as old as that.
    """
    import wandb

    try:
        settings = wandb.Settings(quiet=True)  # about where they are from, which W&B says itself
        folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
        settings.settings_system = str(folder / "settings")
        settings.update_from_system_settings()
        # an empty variable is none
        settings.update_from_env_vars({name: os.environ[name] for name in _SWITCHES if os.environ.get(name)})
    except (ValueError, wandb.Error) as cause:
        raise ConfigError(f"W&B's settings cannot be used: {_short(cause)}") from cause
    return settings


def _has_account(settings: Any) -> bool:
    import wandb
    from wandb.sdk.lib import wbauth

    try:
        if settings.api_key and (fault := wbauth.check_api_key(settings.api_key)):
            raise ValueError(fault)
        return bool(
            settings.api_key
            or settings.identity_token_file
            or wbauth.session_credentials(host=settings.base_url)
            or wbauth.read_netrc_auth(host=settings.base_url)
        )
    except (ValueError, wandb.Error) as cause:
        raise ConfigError(f"W&B cannot log in at {settings.base_url}: {_short(cause)}") from cause


def _short(cause: Exception) -> str:
    """Return what is wrong; a key that it quotes is nobody's business."""
    from pydantic import ValidationError

    if isinstance(cause, ValidationError):
        return "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in cause.errors(include_input=False, include_url=False)
        )
    return " ".join(str(cause).split())
