"""What a result must record to be meaningful later: which code, which data."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import rrsis_zoo
from rrsis_zoo.data.records import Record


def code_version() -> dict[str, Any]:
    """Return the package's version and, from a checkout, its commit and whether files differ from it."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        # without the lock that `git status` takes to refresh its index: on a full disk it would stay behind
        command = ["git", "--no-optional-locks", "-C", str(here), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):  # no git on this machine: the version must suffice
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    tracked = git("ls-files", "--error-unmatch", __file__)
    return {
        "version": rrsis_zoo.__version__,
        "commit": git("rev-parse", "HEAD") if tracked else None,
        "changed": bool(git("status", "--porcelain", "--untracked-files=no")) if tracked else None,
        "python": platform.python_version(),
    }


def annotations_hash(records: Iterable[Record]) -> str:
    """Return the SHA-256 of a split's samples: ids, expressions, image names and encoded masks, in order."""
    digest = hashlib.sha256()
    for record in records:
        facts = (record.sample_id, record.split, record.image_file, record.expression)
        digest.update(f"({', '.join(map(repr, facts))}, {record.mask.identity})".encode())
    return digest.hexdigest()
