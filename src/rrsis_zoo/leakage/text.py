"""Findings in words, for tables, cards and the terminal. No torch."""

from __future__ import annotations

from rrsis_zoo.leakage.judge import Finding, Step, judge
from rrsis_zoo.leakage.ledger import Base, Ledger, Part
from rrsis_zoo.leakage.levels import LEVELS, WORDS
from rrsis_zoo.leakage.lineage import Lineage

_AERIAL = {"none": "aerial images: none", "unknown": "aerial images: not known", "generated": "nothing else"}
_SPLITS = ("train", "val", "test")


def step_text(step: Step) -> str:
    """Return the evidence of a step as sentences, with its certainty."""
    who = "" if step.who in step.evidence else f"{step.who[0].upper()}{step.who[1:]}: "
    how = "" if step.certainty is None else f" ({WORDS[step.certainty]})"
    return f"{who}{step.evidence.removesuffix('.')}{how}."


def evidence_text(found: Finding) -> str:
    """Return the evidence of a finding's level as sentences."""
    return " ".join(map(step_text, found.decisive)) or "Nothing is recorded."


def base_text(base: Base) -> str:
    """Return what a foundation model was trained on, and whether aerial images of public data sets were there."""
    return f"{base.data} ({_AERIAL[base.aerial]})"


def seen(ledger: Ledger, weights: str) -> list[Finding]:
    """Return what the ledger says that weights have seen, the worst first; every other split is unknown.

    Args:
        ledger: what is known.
        weights: id of released weights.
    """
    parts = [Part(dataset, split) for dataset in ledger.datasets for split in _SPLITS]
    # of a data set that nobody can have seen there is nothing to say
    found = [judge(ledger, [weights], [], part) for part in parts if part.dataset not in ledger.generated]
    return sorted((f for f in found if f.certainty is not None), key=lambda f: LEVELS.index(f.level))


def made_from(ledger: Ledger, lineage: Lineage) -> list[str]:
    """Return a sentence for everything that a model is made from."""
    lines = []
    for start in lineage.starts:
        base = ledger.bases.get(ledger.named(start.source) or start.base)
        said = "nothing is recorded about what it was trained on" if base is None else base_text(base)
        lines.append(f"starts from {start.source}: {said}")
    for release in lineage.releases:
        lines.append(f"starts from the released weights {ledger.title(release)}")
    for training in lineage.trainings:
        chosen = f"; checkpoints are chosen on {training.selected_on}" if training.selected_on else ""
        lines.append(f"trained on {training.dataset}, split {training.split}{chosen}")
    return [*lines, *(f"not recorded: {what}" for what in lineage.unrecorded)]
