"""SHA-256 of files, remembered: a dataset of 26,300 images is read through once, not at every start. No torch here."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_MANY = 2000


def cache_folder() -> Path:
    """Return where hashes are remembered: ``$RRSIS_ZOO_CACHE``, else ``rrsis-zoo`` in the user's cache folder."""
    given = os.environ.get("RRSIS_ZOO_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rrsis-zoo"


def file_hashes(root: Path, paths: Sequence[Path]) -> dict[Path, str]:
    """Return the SHA-256 of files below a folder.

    A remembered hash counts while the file's size and modification time are what they were. The list is kept outside
    the dataset, which may be read-only.

    Args:
        root: folder of the dataset; names the list.
        paths: files.
    """
    index = cache_folder() / f"hashes-{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}.json"
    known = _load(index)
    hashes: dict[Path, str] = {}
    new: dict[Path, tuple[str, list[int]]] = {}
    for path in dict.fromkeys(paths):
        name, stat = os.path.relpath(path, root), path.stat()
        state = [stat.st_size, stat.st_mtime_ns]
        remembered = known.get(name)
        if isinstance(remembered, list) and len(remembered) == 3 and remembered[:2] == state:
            hashes[path] = remembered[2]
        else:
            new[path] = name, state
    if new:
        if len(new) >= _MANY:
            print(f"hashing {len(new)} files of {root} (once; remembered in {index})", file=sys.stderr, flush=True)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for path, digest in zip(new, pool.map(_sha256, new), strict=True):
                name, state = new[path]
                hashes[path] = digest
                known[name] = [*state, digest]
        _save(index, known)
    return hashes


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(index: Path) -> dict[str, list]:
    try:
        known = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or damaged: everything is hashed anew
        return {}
    return known if isinstance(known, dict) else {}


def _save(index: Path, known: dict[str, list]) -> None:
    draft = index.with_suffix(f".{os.getpid()}")
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(known), encoding="utf-8")
        draft.replace(index)  # several processes may write at once: whole files only
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        warnings.warn(f"hashes cannot be remembered in {index.parent} ({error}): set RRSIS_ZOO_CACHE", stacklevel=3)
