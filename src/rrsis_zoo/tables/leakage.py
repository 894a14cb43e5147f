"""What the rows of a table have seen of the test split: footnotes of its cells. No torch.

A contaminated row (`rrsis_zoo.leakage.levels.CONTAMINATED`) has a double dagger and a letter at every score and is not
ranked; one that shares images or their collection with the test has a section sign and a letter; for an unknown one a
small ring stands at its name. A clean row has nothing.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

from rrsis_zoo.leakage.judge import Finding
from rrsis_zoo.leakage.ledger import Ledger, Part, shipped
from rrsis_zoo.leakage.levels import LEVELS, MEANING
from rrsis_zoo.leakage.lineage import Lineage, finding
from rrsis_zoo.leakage.text import evidence_text
from rrsis_zoo.tables.formats import Footnote
from rrsis_zoo.tables.records import on_made_scenes
from rrsis_zoo.weights.training import MADE_SCENES

_FEW = 4  # reasons in a footnote
_UNSAID = "where its weights come from: the record of its test is of an earlier version, `rrsis test` writes it anew"
_NOTHING = "Nothing is recorded about {}."


def finding_of(result: Mapping[str, Any], ledger: Ledger | None = None) -> Finding:
    """Return what the tested weights have seen of the split.

    Args:
        result: content of a valid ``test.json``.
        ledger: what is known; the shipped one by default.
    """
    ledger = ledger or shipped()
    test = Part(MADE_SCENES if on_made_scenes(result) else result["dataset"], result["split"])
    recorded = result.get("lineage")
    lineage = Lineage(unrecorded=[_UNSAID]) if recorded is None else Lineage.model_validate(recorded)
    return finding(ledger, lineage, test)


def worst_of(results: Sequence[Mapping[str, Any]]) -> Finding | None:
    """Return the finding of the training run that has seen most; None without a result."""
    found = [finding_of(result) for result in results]
    return min(found, key=lambda f: LEVELS.index(f.level), default=None)


class Footnotes:
    """The footnotes of one table, or of all tables of a data set.

    Args:
        rows: (title of the row, what it has seen; None for a row without weights), in the order of the rows.
    """

    def __init__(self, rows: Sequence[tuple[str, Finding | None]]) -> None:
        self._rows = list(rows)
        self._letters: dict[str, Footnote] = {}
        self._notes = [self._note(seen) for _, seen in self._rows]
        self._ring = _unknown([(title, seen) for title, seen in self._rows if seen and seen.level == "unknown"])

    def score(self, row: int) -> Footnote | None:
        """Return the footnote of a row's scores: of one that is contaminated, or shares images or their collection."""
        return self._notes[row]

    def name(self, row: int) -> Footnote | None:
        """Return the footnote of a row's name: of one about which nothing is known."""
        seen = self._rows[row][1]
        return self._ring if seen is not None and seen.level == "unknown" else None

    def _note(self, seen: Finding | None) -> Footnote | None:
        """Return the footnote of a row; rows with the same evidence share it."""
        if seen is None or seen.level in ("clean", "unknown"):
            return None
        ranked = ", so not ranked" if seen.contaminated else ""
        text = f"{seen.level.capitalize()}{ranked}: {MEANING[seen.level]}. {evidence_text(seen)}"
        if text not in self._letters:
            sign = ("‡" if seen.contaminated else "§") + _letter(len(self._letters))
            self._letters[text] = Footnote(sign, seen.level, text, seen.contaminated)
        return self._letters[text]


def _unknown(rows: Sequence[tuple[str, Finding]]) -> Footnote | None:
    """Return the one footnote of all rows about which nothing is known, those with the same reason together."""
    if not rows:
        return None
    reasons: dict[str, list[str]] = {}
    nothing: set[str] = set()
    for title, seen in rows:
        reason = evidence_text(seen)
        reasons.setdefault(reason, []).append(title)
        if seen.certainty is None:
            nothing.add(reason)
    if len(nothing) > _FEW:  # a table of the literature: that there is nothing to say need not be said of each
        reasons = {reason: titles for reason, titles in reasons.items() if reason not in nothing}
        reasons[_NOTHING.format("the others" if reasons else "these rows")] = []
    said = [
        f"{', '.join(dict.fromkeys(titles))}: {reason}" if titles and len(reasons) > 1 else reason
        for reason, titles in reasons.items()
    ]
    return Footnote("°", "unknown", f"Not known what the weights have seen of this split. {' '.join(said)}", False)


def _letter(number: int) -> str:
    """Return a, b, … z, aa, ab, …"""
    letters = string.ascii_lowercase
    return (
        letters[number]
        if number < len(letters)
        else letters[number // len(letters) - 1] + letters[number % len(letters)]
    )
