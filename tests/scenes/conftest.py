import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def real_rasters() -> Path:
    """Two real georeferenced rasters; not part of the project."""
    folder = Path(os.environ.get("RRSIS_ZOO_REAL", ROOT.parent / "shared/real"))
    if not (folder / "naip_rgbn.tif").is_file():
        pytest.skip(f"no real rasters at {folder}; set RRSIS_ZOO_REAL")
    return folder
