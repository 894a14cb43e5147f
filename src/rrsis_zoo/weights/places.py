"""Where a file may be: on this machine, and inside its folder. No torch."""

from __future__ import annotations

import os
import re
from pathlib import Path

from rrsis_zoo.errors import ConfigError


def no_url(text: str) -> None:
    """Refuse a URL in place of a file.

    Raises:
        ConfigError: it is a URL.
    """
    # a path object has lost one of the slashes
    scheme = re.match(r"(?:local:)?([A-Za-z][A-Za-z0-9+.-]+):/", text)
    if scheme and scheme[1] not in ("local", "hub", "mini", "none"):
        raise ConfigError(
            f"{text!r} is a URL, and nothing is downloaded here: fetch the file, check where it comes from, and give "
            "local:PATH; or give hub:ORG/REPO for a repository of the Hugging Face hub"
        )


def outside(folder: Path, path: Path) -> bool:
    """Return whether a file in a folder is a link to a place outside it.

    Links into the store that belongs to the folder, as in the Hugging Face cache, are allowed.
    """
    if not os.path.islink(path):
        return False
    place, target = folder.resolve(), path.resolve()
    stores = [p.parent / "blobs" for p in place.parents if p.name == "snapshots"]
    return not any(target.is_relative_to(allowed) for allowed in (place, *stores))
