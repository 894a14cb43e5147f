"""Where a file may lie: on this machine, and inside its folder. No torch."""

from __future__ import annotations

import re
from pathlib import Path

from rrsis_zoo.errors import ConfigError


def no_url(text: str) -> None:
    """Refuse an address of the web where a file is meant.

    Raises:
        ConfigError: it is an address.
    """
    # as a path it has lost one of its slashes
    scheme = re.match(r"(?:local:)?([A-Za-z][A-Za-z0-9+.-]+):/", text)
    if scheme and scheme[1] not in ("local", "hub", "mini", "none"):
        raise ConfigError(
            f"{text!r} is a URL, and nothing is downloaded here: fetch the file, look where it is from, and give "
            "local:PATH; or hub:ORG/REPO for a repository of the Hugging Face hub"
        )


def outside(folder: Path, path: Path) -> bool:
    """Whether a file of a folder is a link that leads elsewhere.

    Links into the store that belongs to the folder, as the Hugging Face cache has them, are no such links.
    """
    if not path.is_symlink():
        return False
    place, target = folder.resolve(), path.resolve()
    stores = [p.parent / "blobs" for p in place.parents if p.name == "snapshots"]
    return not any(target.is_relative_to(allowed) for allowed in (place, *stores))
