"""What some weights have seen of a test split: a pure function of the ledger. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rrsis_zoo.leakage.ledger import Base, Ledger, Line, Part, Released
from rrsis_zoo.leakage.levels import CERTAINTIES, CONTAMINATED, Certainty, Level, worst


@dataclass(frozen=True)
class Step:
    """A part of the answer: what one of the weights, or one training, has seen of the split.

    Attributes:
        who: the weights or the training, as a sentence calls them.
        level: of this part alone.
        certainty: of it; None if nothing is known about it.
        evidence: sentences.
    """

    who: str
    level: Level
    certainty: Certainty | None
    evidence: str


@dataclass(frozen=True)
class Finding:
    """The answer for weights and a test split.

    Attributes:
        test: the split.
        level: the worst of all steps; ``unknown`` if nothing is known.
        certainty: that of the level: the strongest of the steps that have it, for ``clean`` the weakest, since all of
            them must hold; None if nothing is known.
        steps: all parts, in the order of weights and trainings.
    """

    test: Part
    level: Level
    certainty: Certainty | None
    steps: tuple[Step, ...]

    @property
    def contaminated(self) -> bool:
        """Whether a score must not be ranked."""
        return self.level in CONTAMINATED

    @property
    def decisive(self) -> tuple[Step, ...]:
        """The steps that have its level."""
        return tuple(step for step in self.steps if step.level == self.level)


def judge(
    ledger: Ledger, weights: Iterable[str], trained: Iterable[Part], test: Part, selected: Iterable[Part] = ()
) -> Finding:
    """Return what weights have seen of a test split.

    * Of released weights everything counts that the ledger lists for the split, and in addition what their training
      data overlap with. If neither says anything they are ``unknown``.
    * Of a foundation model counts whether aerial images can have been among its training data.
    * Of a training of one's own count the split itself, overlaps of its data set with the test's, and, inside one data
      set, whether its splits share images. If nothing is known about that it is ``unknown``.
    * Nobody can have seen a data set that this package draws, except by training on it.

    Args:
        ledger: what is known.
        weights: ids of the ledger, or sources of weights (``hub:ORG/REPO:FILE``), that the model consists of or was
            trained from; anything else counts as unknown.
        trained: what the model was trained on, besides what released weights were.
        test: what it is tested on. Names of data sets are those of `rrsis data`.
        selected: what chose its checkpoint or settings.
    """
    steps = [step for name in weights for step in _of_weights(ledger, name, test)]
    steps += [step for part in trained for step in _of_training(ledger, part, test)]
    for part in selected:
        if part.meets(test):
            steps.append(Step("this training", "selection", "stated", f"{part} chose the checkpoint."))
    if not steps and (nobody := _nobody(ledger, test)):
        steps.append(nobody)
    steps = list(dict.fromkeys(steps))
    level = worst([step.level for step in steps])
    known = {step.certainty for step in steps if step.level == level}
    ordered: list[Certainty] = [certainty for certainty in CERTAINTIES if certainty in known]
    certainty = ordered[-1 if level == "clean" else 0] if ordered else None
    return Finding(test, level, certainty, tuple(steps))


def _of_weights(ledger: Ledger, name: str, test: Part) -> Iterator[Step]:
    known = ledger.named(name)
    if known is None:
        yield _nobody(ledger, test) or Step(name, "unknown", None, f"Nothing is recorded about {name}.")
        return
    entry, base = ledger.released.get(known), ledger.bases.get(known)
    steps = [] if entry is None else list(_of_released(ledger, entry, test))
    if not steps and base is not None:
        steps.append(_of_base(ledger, base, test))
    if not steps:
        title = ledger.title(known)
        none = f"The ledger has no line about {title} and {test}."
        steps.append(_nobody(ledger, test) or Step(title, "unknown", None, none))
    yield from steps


def _of_released(ledger: Ledger, entry: Released, test: Part) -> Iterator[Step]:
    for line in entry.marks:
        if line.part.meets(test):
            yield _step(ledger, entry.title, line)
    for line in entry.trained_on:
        if line.part.meets(test):
            yield _step(ledger, entry.title, line)
        for on, touched in ledger.overlaps:
            if on.meets(line.part) and touched.part.meets(test):
                yield _step(ledger, entry.title, touched)


def _of_base(ledger: Ledger, base: Base, test: Part) -> Step:
    level: Level = "unknown" if base.aerial == "unknown" else "clean"
    if level == "unknown" and (nobody := _nobody(ledger, test)):
        return nobody
    return Step(base.title, level, base.certainty, ledger.evidence[base.evidence].text)


def _of_training(ledger: Ledger, part: Part, test: Part) -> Iterator[Step]:
    who = f"training on {part}"
    if part.meets(test):
        yield Step(who, "targets", "stated", "This split was trained on.")
        return
    touched = [line for on, line in ledger.overlaps if on.meets(part) and line.part.meets(test)]
    yield from (_step(ledger, who, line) for line in touched)
    if touched:
        return
    if part.dataset == test.dataset:
        yield _within(ledger, who, part, test)
    elif part.dataset in ledger.generated:
        yield Step(who, "clean", "stated", ledger.evidence[ledger.generated[part.dataset]].text)
    else:
        none = f"The ledger has no line about {who} and {test}."
        yield _nobody(ledger, test) or Step(who, "unknown", None, none)


def _within(ledger: Ledger, who: str, part: Part, test: Part) -> Step:
    known = ledger.within.get(part.dataset)
    if known is None:
        return Step(who, "unknown", None, f"Whether the splits of {part.dataset} share images is not recorded.")
    apart = frozenset((part.split, test.split)) in known.disjoint
    return Step(who, "clean" if apart else "unknown", known.certainty, ledger.evidence[known.evidence].text)


def _nobody(ledger: Ledger, test: Part) -> Step | None:
    """Return the step for weights that cannot have seen a data set that is drawn here; None for any other data set."""
    if test.dataset not in ledger.generated:
        return None
    return Step(test.dataset, "clean", "stated", ledger.evidence[ledger.generated[test.dataset]].text)


def _step(ledger: Ledger, who: str, line: Line) -> Step:
    return Step(who, line.level, line.certainty, ledger.evidence[line.evidence].text)
