"""From a sentence to a layer on a map: rasters of any size, read by windows. Needs the extra ``scenes``."""

from typing import TYPE_CHECKING, Any

__all__ = ["segment_scene"]

if TYPE_CHECKING:
    from rrsis_zoo.scenes.scene import segment_scene


def __getattr__(name: str) -> Any:
    # torch and GDAL take seconds to import: only who uses them pays
    if name == "segment_scene":
        from rrsis_zoo.scenes.scene import segment_scene

        return segment_scene
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, for tab completion and `help`."""
    return sorted(__all__)
