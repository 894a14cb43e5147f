"""The libraries that this package needs, in one clear sentence where they are missing."""

from __future__ import annotations

import importlib.util

from rrsis_zoo.errors import ConfigError

_NEEDED = ("rasterio", "pyogrio", "geopandas", "shapely", "pyproj")


def check_extra() -> None:
    """Refuse to go on without the libraries for rasters and layers; nothing is imported.

    Raises:
        ConfigError: some are missing.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"maps need {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            "pip install 'rrsis-zoo[scenes]'"
        )
