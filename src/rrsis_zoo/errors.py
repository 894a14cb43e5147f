"""Errors that a user can mend: what was given, what was expected, and the command or setting that mends it.

The command line prints them as one line and ends with status 2; anything else is a defect and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class RRSISError(Exception):
    """Base of all errors that say what the user can do about them."""


class MissingWeightsError(RRSISError):
    """A weight source that is not on this machine."""


class WeightsMismatchError(RRSISError):
    """A weight file that cannot be read, or whose names or shapes are not those of the module."""


class MissingDataError(RRSISError):
    """A dataset, or a part of it, that is not where it was said to be."""


class DataFormatError(RRSISError):
    """A dataset file whose content is not what its layout promises."""


class ConfigError(RRSISError):
    """A setting with a value that cannot be used."""


class OutputError(RRSISError):
    """An output that cannot be written: a full or read-only disk, no permission, a file where a folder should be."""


class NotFiniteError(RRSISError):
    """A training whose loss or weights are infinite or not a number any more."""


def unknown_name(kind: str, given: str, known: Iterable[str]) -> ConfigError:
    """Return the error for a name that is not among the known ones, with the closest of them.

    Args:
        kind: what is named, for instance ``"model"``.
        given: the name that was given.
        known: all names that would have been accepted.

    Example:
        >>> str(unknown_name("model", "rsrefsegg", ["rsrefseg", "control"]))
        "unknown model 'rsrefsegg' (did you mean 'rsrefseg'?); known: control, rsrefseg"
    """
    known = sorted(known)
    close = get_close_matches(given, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return ConfigError(f"unknown {kind} {given!r}{hint}; known: {', '.join(known)}")
