"""The category of an expression, found in its words, for datasets without labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence


class Categories:
    """A dataset's categories and the words that mean them.

    A name is found as whole words, with an optional plural, in separate, hyphenated or joined spelling ("storage tank",
    "storage-tank", "storagetank"); letter case does not matter. The earliest match counts, and the longest
    of those that start there ("road marking", not "road").

    Args:
        names: display names.
        aliases: further words for a name.
    """

    def __init__(self, names: Sequence[str], aliases: Mapping[str, Sequence[str]] | None = None) -> None:
        forms = {name: name for name in names}
        for name, others in (aliases or {}).items():
            forms |= dict.fromkeys(others, name)
        self.names = tuple(names)
        self._name_of = {_joined(form): name for form, name in forms.items()}
        longest_first = sorted(forms, key=len, reverse=True)
        patterns = "|".join(r"[\s-]*".join(map(re.escape, form.split())) for form in longest_first)
        self._pattern = re.compile(rf"(?<![^\W_])({patterns})(?:e?s)?(?![^\W_])", re.IGNORECASE)

    def find(self, expression: str) -> str | None:
        """Return the display name of the first category in the expression; None if there is none."""
        match = self._pattern.search(expression)
        return self._name_of[_joined(match[1])] if match else None

    def all_in(self, expression: str) -> frozenset[str]:
        """Return the display names of all categories that the expression mentions."""
        return frozenset(self._name_of[_joined(match[1])] for match in self._pattern.finditer(expression))


def _joined(form: str) -> str:
    return re.sub(r"[\s-]", "", form).lower()
