"""The record of a training in its checkpoints: the data it used, its precision, its last validation. No torch.

It is kept beside the model's description, under a key of its own, so that earlier versions ignore it. A folder of
`rrsis convert` has it in ``config.json``, without the folder of the data, which means nothing on another machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from rrsis_zoo.errors import WeightsMismatchError
from rrsis_zoo.leakage.lineage import Lineage, Trained
from rrsis_zoo.schema import Strict, Text, checked

TRAINING = "rrsis_training"
"""Its key in a checkpoint."""

IN_FOLDER = "training"
"""Its key in a folder's ``config.json``."""

_Count = Annotated[int, Field(ge=0, le=2**53)]
_Name = Annotated[Text, Field(min_length=1, max_length=200)]
_Scores = dict[str, Annotated[float, Field(ge=0)] | None]


class Data(Strict):
    """What was trained on.

    Attributes:
        name: under which results on it are reported (`rrsis_zoo.data.identity`).
        published: whether its validation split is that of the published dataset.
        train, val: numbers of samples.
    """

    name: _Name
    published: bool
    train: _Count
    val: _Count


class Validation(Strict):
    """The validation of exactly these weights.

    Attributes:
        split: that was scored.
        protocol: of the scores.
        epoch: in which it took place, from 0.
        scores: ``n``, and ``oiou``, ``miou``, ``pr@…`` in percent; None if undefined.
    """

    split: _Name
    protocol: _Name
    epoch: _Count
    scores: _Scores


class Tested(Strict):
    """A test of exactly these weights, from its ``test.json``."""

    dataset: _Name
    split: _Name
    protocol: _Name
    n: _Count
    metrics: _Scores


class Training(Strict):
    """The whole record.

    Attributes:
        settings: arguments of `rrsis_zoo.data.datamodule.RRSISDataModule`, those that are not its defaults; None if the
            data came from elsewhere.
        data: None likewise.
        precision: of the trainer.
        step: optimiser steps done.
        validation: None if the weights were trained further since the last one.
        tests: found by `rrsis convert`.
        lineage: what the weights are made from, this training included; None in records of earlier versions.
    """

    settings: dict[str, Any] | None = None
    data: Data | None = None
    precision: str = Field(max_length=40)
    step: _Count
    validation: Validation | None = None
    tests: list[Tested] = Field(default_factory=list)
    lineage: Lineage | None = None


def checked_training(content: Any, what: str) -> Training | None:
    """Return the record of a checkpoint or folder; None if it has none: earlier versions wrote none.

    Args:
        content: plain values, or None.
        what: where it is from, for error messages.

    Raises:
        WeightsMismatchError: it is damaged.
    """
    return None if content is None else checked(Training, content, f"{what}: {TRAINING}", WeightsMismatchError)


def for_folder(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without the folder of the data."""
    settings = content.get("settings")
    kept = {name: value for name, value in (settings or {}).items() if name != "root"}
    return {**content, "settings": None if settings is None else kept}


MADE_SCENES = "synthetic"
"""Layout of data that this package draws, and what they are called in a `Lineage` whatever their folder is called."""


def trained_on(layout: str | None, name: str, selected_on: str | None) -> Trained:
    """Return the entry of a `Lineage` for a training.

    Args:
        layout: of the data; None if it is not known.
        name: of the data, see `Data`.
        selected_on: the split that was validated on.
    """
    return Trained(dataset=MADE_SCENES if layout == MADE_SCENES else name, split="train", selected_on=selected_on)


def lineage_of_record(record: Mapping[str, Any]) -> Lineage:
    """Return what weights are made from, by the record of their training.

    The record of an earlier version has no lineage: then the training itself is known, and what it started from is not.

    Args:
        record: content of a `Training`.

    Raises:
        WeightsMismatchError: its lineage is damaged.
    """
    if (recorded := record.get("lineage")) is not None:
        return checked(Lineage, recorded, f"{TRAINING}: lineage", WeightsMismatchError)
    before = Lineage(unrecorded=["what a training with an earlier version started from"])
    if not (data := record.get("data")):
        return before
    settings = record.get("settings") or {}
    selected = settings.get("fit_eval_split", "val")
    return before.then(
        trained_on(settings.get("dataset"), data["name"], selected if selected in ("train", "val") else None)
    )
