"""Refusals by Lightning and its parser, in one line of ours."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

from lightning.fabric.utilities.exceptions import MisconfigurationException

from rrsis_zoo.errors import ConfigError, RRSISError


@contextlib.contextmanager
def refused(what: str) -> Iterator[None]:
    """Reduce refusals by Lightning or its parser to one line; other errors are defects and keep their traceback.

    A refusal is Lightning's ``MisconfigurationException``, or a built-in error from a ``raise`` statement in their
    code. An error that merely occurs there, such as a hook called with wrong arguments, is not a refusal.

    Args:
        what: beginning of the message.

    Raises:
        ConfigError: for a refusal.
    """
    try:
        yield
    except (MisconfigurationException, ValueError, TypeError, ImportError, RuntimeError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        foreign = not _FOREIGN.isdisjoint(Path(last.filename).parts) and (last.line or "").startswith("raise ")
        if _is_ours(error) or not (foreign or isinstance(error, MisconfigurationException)):
            raise
        raise ConfigError(f"{what}: {in_one_line(str(error))}") from error


_FOREIGN = {"lightning", "lightning_fabric", "lightning_utilities", "jsonargparse"}


def _is_ours(error: BaseException | None) -> bool:
    """Return whether an error was caused by one of ours, which is clearer: the parser wraps errors of constructors."""
    while error is not None and not isinstance(error, RRSISError):
        error = error.__cause__ or error.__context__
    return error is not None


def in_one_line(message: str) -> str:
    """Return a message of Lightning or its parser in one line, without internal details."""
    lines = [line.strip(" -") for line in message.splitlines()]
    lines = [line for line in lines if line and not line.startswith(_PARSERS_OWN)]
    text = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", "; ".join(lines).replace(":;", ":"))
    return re.sub(r'Parser key "([\w.]+)":', r"--\1:", re.sub(r"(?:typing|collections\.abc)\.", "", text))


_PARSERS_OWN = ("Subtypes:", "Errors:", "Given value type:", "Does not validate against any", "Expected a <class 'None")
