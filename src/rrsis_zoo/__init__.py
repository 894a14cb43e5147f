"""Referring remote sensing image segmentation: the published decoupled methods on one contract."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"
__all__ = ["__version__", "list_models", "load_model", "segment"]

if TYPE_CHECKING:
    from rrsis_zoo.inference import segment
    from rrsis_zoo.registry import list_models
    from rrsis_zoo.weights.loading import load_model


def __getattr__(name: str) -> Any:
    # torch and transformers take seconds to import: only who uses them pays
    if name == "list_models":
        from rrsis_zoo.registry import list_models

        return list_models
    if name == "load_model":
        from rrsis_zoo.weights.loading import load_model

        return load_model
    if name == "segment":
        from rrsis_zoo.inference import segment

        return segment
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
