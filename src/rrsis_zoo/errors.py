"""Errors that a user can fix: what was given, what was expected, and the command or setting that fixes it.

The command line prints them as one line and ends with status 2; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class RRSISError(Exception):
    """Base of all errors that say what the user can do about them.

    Args:
        text: the message, one line.
        what: the message without the command that fixes it, for a list of several errors; the message itself by
            default.
        mend: this command or setting, if there is one.
        parts: the errors that this one stands for, if they are several.
    """

    def __init__(self, text: str = "", *, what: str = "", mend: str = "", parts: Sequence[RRSISError] = ()) -> None:
        super().__init__(text)
        self.what, self.mend, self.parts = what or text, mend, tuple(parts)


class MissingWeightsError(RRSISError):
    """A weight source that is not on this machine."""


class WeightsMismatchError(RRSISError):
    """A weight file that cannot be read, or whose names or shapes do not match the module."""


class MissingDataError(RRSISError):
    """A dataset, or a part of it, that is not at the given place."""


class MissingFilesError(MissingWeightsError, MissingDataError):
    """Weight sources and datasets that are not on this machine."""


class DataFormatError(RRSISError):
    """A dataset file whose content does not match its layout."""


class ConfigError(RRSISError):
    """A setting with a value that cannot be used."""


class OutputError(RRSISError):
    """An output that cannot be written: a full or read-only disk, no permission, a file where a folder should be."""


class NotFiniteError(RRSISError):
    """A training whose loss or weights have become infinite or NaN."""


def together(errors: Sequence[RRSISError]) -> RRSISError:
    """Return one error for several that can be fixed independently; the command line lists them, one per line.

    Args:
        errors: at least one, of missing weights and data if they are of different classes. A single one is returned
            as it is.

    Example:
        >>> error = together([MissingWeightsError("no a.pt"), MissingDataError("no data")])
        >>> type(error).__name__, str(error)
        ('MissingFilesError', 'no a.pt; no data')
    """
    if len(errors) == 1:
        return errors[0]
    kinds = {type(error) for error in errors}
    kind = kinds.pop() if len(kinds) == 1 else MissingFilesError
    return kind("; ".join(map(str, errors)), parts=[part for error in errors for part in error.parts or (error,)])


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
