"""The log of a run, ``metrics.csv``, as it is written by the trainings of all versions. No torch."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.files import read_text

LOG = "metrics.csv"

LIMIT = 2**28
"""Largest log in bytes; a step's row takes some 300."""


def read_log(path: str | Path) -> list[dict[str, str]]:
    """Return the rows of a log, column -> text; a line that is just being written is left out.

    Raises:
        MissingDataError: there is no such file.
        DataFormatError: it cannot be read, or is not a CSV file.
    """
    text = read_text(path, LIMIT)
    try:
        return list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline="")))
    except csv.Error as error:
        raise DataFormatError(f"{path} is not a CSV file ({error})") from error
