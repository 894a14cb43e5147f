"""Errors that a user can fix: what was given, what was expected, and the command or setting that fixes it.

The command line prints them as one line and ends with status 2; anything else is a bug and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class RRSISError(Exception):
    """Base of all errors that say what the user can do about them."""


class MissingWeightsError(RRSISError):
    """A weight source that is not on this machine."""


class WeightsMismatchError(RRSISError):
    """A weight file that cannot be read, or whose names or shapes do not match the module."""


class MissingDataError(RRSISError):
    """A dataset, or a part of it, that is not at the given place."""


class DataFormatError(RRSISError):
    """A dataset file whose content does not match its layout."""


class ConfigError(RRSISError):
    """A setting with a value that cannot be used."""


class OutputError(RRSISError):
    """An output that cannot be written: a full or read-only disk, no permission, a file where a folder should be."""


class NotFiniteError(RRSISError):
    """A training whose loss or weights have become infinite or NaN."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """Return the error for an unknown name, with the closest known one.

    Args:
        kind: what is named, for instance ``"model"``.
        name: what the user wrote.
        known: all accepted names.

    Example:
        >>> str(unknown_name("model", "rsrefsegg", ["rsrefseg", "control"]))
        "unknown model 'rsrefsegg' (did you mean 'rsrefseg'?); known: control, rsrefseg"
    """
    known = sorted(known)
    close = get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return ConfigError(f"unknown {kind} {name!r}{hint}; known: {', '.join(known)}")
