"""Which code a number was made with."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

from rrsis_zoo.version import __version__


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
        "version": __version__,
        "commit": git("rev-parse", "HEAD") if tracked else None,
        "changed": bool(git("status", "--porcelain", "--untracked-files=no")) if tracked else None,
        "python": platform.python_version(),
    }
