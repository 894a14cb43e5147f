"""What a model is made from: the record that checkpoints and tests keep, and its judgement. No torch."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from rrsis_zoo.leakage.judge import Finding, judge
from rrsis_zoo.leakage.ledger import Ledger, Part
from rrsis_zoo.schema import Strict, Text

_Name = Annotated[Text, Field(min_length=1, max_length=200)]
_LONGEST = 50


class Start(Strict):
    """A foundation model.

    Attributes:
        source: of its weights; of a local file only the name.
        base: id in the ledger of what it is said to be, by the method's card; empty if that is not said.
    """

    source: _Name
    base: Annotated[Text, Field(max_length=100)] = ""


class Trained(Strict):
    """A training with this package.

    Attributes:
        dataset, split: that it was trained on.
        selected_on: split of the same data set that was validated on, by which checkpoints are chosen.
    """

    dataset: _Name
    split: _Name
    selected_on: _Name | None = None


class Lineage(Strict):
    """Everything that has formed a model's weights, as far as it is recorded.

    Attributes:
        starts: foundation models.
        releases: ids in the ledger of weights that others released.
        trainings: with this package, in order.
        unrecorded: what took part and left no record, in words.
    """

    starts: list[Start] = Field(default_factory=list, max_length=_LONGEST)
    releases: list[_Name] = Field(default_factory=list, max_length=_LONGEST)
    trainings: list[Trained] = Field(default_factory=list, max_length=_LONGEST)
    unrecorded: list[_Name] = Field(default_factory=list, max_length=_LONGEST)

    def then(self, training: Trained) -> Lineage:
        """Return the lineage after a training; one that is already in it, since it was resumed, is not repeated."""
        if training in self.trainings:
            return self
        return self.model_copy(update={"trainings": [*self.trainings, training][-_LONGEST:]})

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        return self.model_dump()


def finding(ledger: Ledger, lineage: Lineage, test: Part) -> Finding:
    """Return what a model has seen of a test split.

    Args:
        ledger: what is known.
        lineage: of the model.
        test: with the name of the data set as results have it.
    """
    weights = [_known_as(ledger, start) for start in lineage.starts]
    trained = [Part(named(ledger, t.dataset), t.split) for t in lineage.trainings]
    selected = [Part(named(ledger, t.dataset), t.selected_on) for t in lineage.trainings if t.selected_on is not None]
    place = Part(named(ledger, test.dataset), test.split)
    return judge(ledger, [*weights, *lineage.releases, *lineage.unrecorded], trained, place, selected)


def published_finding(ledger: Ledger, method: str, dataset: str, split: str) -> Finding:
    """Return what the weights behind a printed result have seen of its split.

    Args:
        ledger: what is known.
        method: in the authors' spelling.
        dataset, split: of the result.
    """
    weights = ledger.published.get((method.casefold(), dataset.casefold()))
    lineage = Lineage(unrecorded=["the weights behind this result"]) if weights is None else Lineage(releases=[weights])
    return finding(ledger, lineage, Part(dataset, split))


def named(ledger: Ledger, dataset: str) -> str:
    """Return a data set's name in the ledger, which may be written as in papers; any other name is returned."""
    name = dataset.casefold()
    return name if name in ledger.datasets else dataset


def _known_as(ledger: Ledger, start: Start) -> str:
    """Return a start's entry by its source, else by what the card says that it is."""
    known = ledger.named(start.source)
    if known is not None:
        return known
    return start.base if start.base in ledger.bases else start.source
