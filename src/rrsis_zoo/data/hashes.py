"""Cached SHA-256 of files: a dataset of 26,300 images is hashed once, not at every start. No torch here."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeGuard

from rrsis_zoo.errors import DataFormatError, OutputError, RRSISError
from rrsis_zoo.files import expanded, read_json, reason, regular_file, write_json

_MANY = 2000


def cache_folder() -> Path:
    """Return where hashes are cached: ``$RRSIS_ZOO_CACHE``, else ``rrsis-zoo`` in the user's cache folder."""
    folder = os.environ.get("RRSIS_ZOO_CACHE")
    if folder:
        return expanded(folder)
    home = os.path.expanduser("~")  # unchanged for a user without a home, as in some containers
    fallback = tempfile.gettempdir() if home == "~" else os.path.join(home, ".cache")
    return Path(os.environ.get("XDG_CACHE_HOME") or fallback) / "rrsis-zoo"


def file_hashes(root: Path, paths: Sequence[Path]) -> dict[Path, str]:
    """Return the SHA-256 of files below a folder.

    A cached hash is valid while the file's size and modification time are unchanged. The cache is kept outside the
    dataset, which may be read-only.

    Args:
        root: folder of the dataset; identifies the cache.
        paths: files.

    Raises:
        MissingDataError: a file is missing, or a broken link.
        DataFormatError: it cannot be read.
    """
    index = cache_folder() / f"hashes-{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}.json"
    known = _load(index)
    hashes: dict[Path, str] = {}
    new: dict[Path, tuple[str, list[int]]] = {}
    for path in dict.fromkeys(paths):
        name, stat = os.path.relpath(path, root), regular_file(path).stat()
        state = [stat.st_size, stat.st_mtime_ns]
        remembered = known.get(name)
        if _is_hash(remembered) and remembered[:2] == state:
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
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as cause:
        raise DataFormatError(f"{path}: cannot be read ({reason(cause)})") from cause


def _is_hash(remembered: Any) -> TypeGuard[list[Any]]:
    """Return whether a cache entry is size, time and SHA-256; anything else is hashed again."""
    return (
        isinstance(remembered, list)
        and [type(part) for part in remembered] == [int, int, str]
        and len(remembered[2]) == 64
        and set(remembered[2]) <= set("0123456789abcdef")
    )


def _load(index: Path) -> dict[str, Any]:
    try:
        known = read_json(index)
    except RRSISError:  # missing or damaged: everything is hashed again
        return {}
    return known if isinstance(known, dict) else {}


def _save(index: Path, known: dict[str, Any]) -> None:
    try:
        write_json(index, known, indent=None)  # several processes may write at once: whole files only
    except OutputError as error:
        warnings.warn(f"hashes cannot be remembered ({error}): set RRSIS_ZOO_CACHE", stacklevel=3)
