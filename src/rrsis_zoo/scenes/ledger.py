"""What has been done of a collection, so that the same command goes on where it was stopped.

``.done.jsonl`` lies in the folder of the outputs: a line when an input is about to be written, and one when all its
files are whole. An output that is there without the second line is of a run that was stopped between two of them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.files import cannot_write, make_folder, read_bytes, remove_parts

NAME = ".done.jsonl"


class Ledger:
    """The ledger of a folder.

    Args:
        folder: of the outputs.
        settings: plain values that decide what an output contains; other ones make it another output.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self._settings = folder, json.dumps(settings, sort_keys=True, default=str)
        self._lines: dict[str, dict[str, Any]] = {}
        path = folder / NAME
        if os.path.lexists(path):
            for line in read_bytes(path).decode("utf-8", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                    self._lines[entry["input"]] = entry
                except (ValueError, TypeError, KeyError):
                    continue  # cut short when the run was stopped: as if it had not been written

    def begun(self, path: Path) -> bool:
        """Return whether outputs of this input may be replaced: the same command was stopped while it wrote them."""
        return self._state(path) in ("begun", "done")

    def done(self, path: Path, outputs: Sequence[Path]) -> bool:
        """Return whether the same command has written all outputs of an input, and they are there."""
        return self._state(path) == "done" and all(os.path.isfile(output) for output in outputs)

    def weights(self, path: Path) -> str | None:
        """Return the hash of the weights that an input was done with."""
        return self._lines.get(str(path), {}).get("weights_sha256")

    def begin(self, path: Path, weights_sha256: str | None) -> None:
        """Write that an input is about to be written."""
        self._add(path, "begun", weights_sha256)

    def end(self, path: Path, weights_sha256: str | None) -> None:
        """Write that all files of an input are whole."""
        self._add(path, "done", weights_sha256)

    def clean(self) -> None:
        """Remove what a run that was killed has left half written."""
        remove_parts(self.folder)

    def _state(self, path: Path) -> str | None:
        entry = self._lines.get(str(path))
        return None if entry is None or entry.get("of") != self._of(path) else entry.get("state")

    def _of(self, path: Path) -> str:
        """Return a hash of the settings and of the state of the input's file."""
        state = path.stat()
        text = f"{self._settings}\n{os.path.realpath(path)}\n{state.st_size}\n{state.st_mtime_ns}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _add(self, path: Path, state: str, weights_sha256: str | None) -> None:
        entry = {"input": str(path), "of": self._of(path), "weights_sha256": weights_sha256, "state": state}
        file = make_folder(self.folder) / NAME
        with cannot_write(file), file.open("ab") as out:
            # a line that was cut short ends here
            start = b"\n" if out.tell() and not _ends_a_line(file) else b""
            out.write(start + json.dumps(entry).encode() + b"\n")
            out.flush()
            os.fsync(out.fileno())
        self._lines[str(path)] = entry


def _ends_a_line(file: Path) -> bool:
    with file.open("rb") as content:
        content.seek(-1, os.SEEK_END)
        return content.read(1) == b"\n"


def check_weights(ledger: Ledger, path: Path, weights_sha256: str | None) -> None:
    """Refuse to leave an output as it is that other weights have made.

    Raises:
        ConfigError: it is so.
    """
    if ledger.weights(path) != weights_sha256:
        raise ConfigError(
            f"{ledger.folder} has outputs of {path} by other weights: --overwrite replaces them, or give another --out"
        )
