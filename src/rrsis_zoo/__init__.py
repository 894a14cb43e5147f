"""Referring remote sensing image segmentation: the published decoupled methods on one contract."""

from typing import TYPE_CHECKING, Any

from rrsis_zoo.version import __version__

__all__ = ["__version__", "list_models", "load_model", "register", "segment"]

if TYPE_CHECKING:
    from rrsis_zoo.inference import segment
    from rrsis_zoo.loading import load_model
    from rrsis_zoo.methods.registry import list_models, register


def __getattr__(name: str) -> Any:
    # torch and transformers take seconds to import: only who uses them pays
    if name == "list_models":
        from rrsis_zoo.methods.registry import list_models

        return list_models
    if name == "load_model":
        from rrsis_zoo.loading import load_model

        return load_model
    if name == "register":
        from rrsis_zoo.methods.registry import register

        return register
    if name == "segment":
        from rrsis_zoo.inference import segment

        return segment
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, those that are not imported yet too, for tab completion and `help`."""
    return sorted(__all__)
