"""The option ``--device`` of commands that run a model outside Lightning."""

from __future__ import annotations

from rrsis_zoo.errors import ConfigError


def working_device(name: str | None) -> str:
    """Return a device that works.

    Args:
        name: as torch names it; None for a GPU if there is one.

    Raises:
        ConfigError: it does not.
    """
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except Exception as error:  # every backend raises its own
        why = str(error).splitlines()[0]
        raise ConfigError(f"--device {name} cannot be used ({why}); --device cpu always can") from error
    return name
