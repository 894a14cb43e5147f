"""W&B's own settings: whether a run is online, offline or disabled, and whether there is an account."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from rrsis_zoo.errors import ConfigError

Mode = Literal["online", "offline", "disabled", "shared"]

_SWITCHES = ("WANDB_MODE", "WANDB_BASE_URL", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")


def wandb_mode(offline: bool | None) -> Mode:
    """Return how a run is logged.

    ``WANDB_MODE`` is respected (also in W&B's settings files, where ``wandb offline`` and ``wandb online`` store it),
    and so is ``WANDB_DISABLED``. Without either, a run is online if there is an account at the server that W&B is set
    to (``WANDB_BASE_URL``, or its settings files), else offline.

    Args:
        offline: as configured; None if it is not.

    Raises:
        ConfigError: online is requested without an account, or a setting has a value that W&B does not know.
    """
    settings = _settings()
    mode = settings.mode if "mode" in settings.model_fields_set else None
    if mode is None and os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true", "yes", "on"):
        mode = "disabled"
    if mode == "disabled":
        return "disabled"
    if offline is None:
        offline = mode in ("offline", "dryrun") or (mode is None and not _has_account(settings))
    if offline:
        return "offline"
    if not _has_account(settings):
        why = f"WANDB_MODE is {mode}" if mode else "offline is false"
        raise ConfigError(
            f"W&B should run online ({why}), but there is no account for {settings.base_url}: log in with "
            f"`wandb login --host {settings.base_url}`, or set WANDB_MODE=offline"
        )
    return "shared" if mode == "shared" else "online"


def has_api_key() -> bool:
    """Return whether W&B can log in without a prompt, at the server that it is set to.

    A key may be in the environment, in W&B's settings files, in the netrc file, or from an earlier login in this
    process. A key for another server does not count.

    Raises:
        ConfigError: a setting or a key that W&B would refuse.
    """
    return _has_account(_settings())


def _settings() -> Any:
    """Return W&B's settings for a run that starts now: from its files, then from the environment.

    W&B itself reads them only once per process, so its own copy may be outdated.
    """
    import wandb

    try:
        settings = wandb.Settings(quiet=True)  # W&B itself reports where they come from
        folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
        settings.settings_system = str(folder / "settings")
        settings.update_from_system_settings()
        # an empty variable counts as unset
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
    """Return what is wrong, without the value, which may be a key."""
    from pydantic import ValidationError

    if isinstance(cause, ValidationError):
        return "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in cause.errors(include_input=False, include_url=False)
        )
    return " ".join(str(cause).split())
