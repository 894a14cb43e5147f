"""torch.save that leaves a whole file or none."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import torch

from rrsis_zoo.files import writing


def save(content: Any, path: str | Path) -> None:
    """Write what ``torch.save`` writes, whole or not at all.

    Storages go to the file straight from where they lie; beside them nothing is held in memory, but one storage at a
    time of those that are on a GPU.

    Args:
        content: what is saved.
        path: of the file; its folder is made.

    Raises:
        OutputError: it cannot be written: a full disk, for instance. The file that was there before is as it was, and
            nothing is left beside it.
    """
    with writing(path) as temporary, temporary.open("wb") as file:
        sink = _Sink(file)
        try:
            torch.save(content, sink)  # pyright: ignore[reportArgumentType]
        finally:
            if sink.error is not None:
                raise sink.error


class _Sink:
    """Takes what torch writes and keeps the first error.

    torch's own writer says "unexpected pos" of a full disk, and is not made for exceptions, such as that of Ctrl-C, in
    the midst of an archive: after an error the rest of the archive is let through and goes nowhere.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: BaseException | None = None

    def write(self, data: Any) -> int:
        if self.error is None:
            try:
                self._file.write(data)
            except BaseException as error:
                self.error = error
        return memoryview(data).nbytes

    def flush(self) -> None:
        """Do nothing: the file is closed before it takes its place."""
