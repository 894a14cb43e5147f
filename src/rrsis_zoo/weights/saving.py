"""An atomic torch.save: it leaves a complete file or none."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import torch

from rrsis_zoo.files import writing


def save(content: Any, path: str | Path) -> None:
    """Write what ``torch.save`` writes, completely or not at all.

    Storages are written without a copy in memory, except for those on a GPU, which are copied one at a time.

    Args:
        content: to save.
        path: of the file; its folder is created.

    Raises:
        OutputError: it cannot be written, because of a full disk for instance. An existing file is unchanged, and no
            partial file is left.
    """
    with writing(path) as temporary, temporary.open("wb") as file:
        sink = _Sink(file)
        try:
            torch.save(content, sink)  # pyright: ignore[reportArgumentType]
        finally:
            if sink.error is not None:
                raise sink.error


class _Sink:
    """Passes on what torch writes and keeps the first error.

    torch's own writer reports a full disk as "unexpected pos", and cannot handle exceptions, such as that of Ctrl-C, in
    the middle of an archive: after an error the rest of the archive is accepted and discarded.
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
        """Do nothing: the file is closed before it is moved into place."""
