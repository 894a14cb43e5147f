"""``diagnosis.json``: what was asked, and every number. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from rrsis_zoo.diagnosis.ladder_names import PROBE_REASON, RUNGS
from rrsis_zoo.diagnosis.probes import PROBES
from rrsis_zoo.diagnosis.records import SAMPLES, Line, read_lines, write_lines
from rrsis_zoo.diagnosis.summary import compared, summarise
from rrsis_zoo.errors import MissingDataError
from rrsis_zoo.files import read_json, write_json
from rrsis_zoo.schema import Strict, Text, checked
from rrsis_zoo.version import __version__

REPORT = "diagnosis.json"
PAGE = "diagnosis.html"


class Content(Strict):
    """``diagnosis.json``.

    Attributes:
        settings: model, data, split, stock SAM, limit, seconds.
        missing: rung -> why the method does not have it.
        left_out: what these data cannot say -> why.
        numbers: see `rrsis_zoo.diagnosis.summary.summarise`.
        against: name of another diagnosed model -> the difference from it.
    """

    schema_: int = Field(alias="schema", ge=1, le=1)
    version: Text
    settings: dict[str, Any]
    missing: dict[Text, Text]
    left_out: dict[Text, Text]
    numbers: dict[str, Any]
    against: dict[Text, Any]


@dataclass(frozen=True)
class Opened:
    """A diagnosis in a folder."""

    name: str
    content: Content
    lines: Sequence[Line]


class Found(Protocol):
    """What was collected, see `rrsis_zoo.diagnosis.collect.Collected`."""

    lines: list[Line]
    missing: dict[str, str]
    left_out: dict[str, str]
    empty: int


@dataclass(frozen=True)
class Diagnosis:
    """All numbers of a model."""

    content: Content

    def headline(self) -> str:
        """Return the main numbers in one line."""
        numbers = self.content.numbers
        parts = numbers["decomposition"]
        return (
            f"mIoU {parts['miou']:.1f}: {parts['hit']:.1f} % hits with {_one(parts['miou_given_hit'])}, misses "
            f"with {_one(parts['miou_given_miss'])}, over {numbers['samples']:,} samples of "
            f"{numbers['scenes']:,} scenes"
        )


def _one(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def open_diagnosis(folder: Path) -> Opened:
    """Read a diagnosis.

    Raises:
        MissingDataError: there is none; the command that writes one is named.
        DataFormatError: a damaged file.
    """
    path = folder / REPORT
    try:
        raw = read_json(path, 2**26)
    except MissingDataError as error:
        raise MissingDataError(f"{error}: `rrsis diagnose MODEL --out {folder}` writes it") from error
    content = checked(Content, raw, str(path), advice="`rrsis diagnose` writes it again")
    return Opened(str(content.settings.get("given", folder)), content, read_lines(folder / SAMPLES))


def write_diagnosis(
    folder: Path,
    settings: Mapping[str, Any],
    found: Found,
    validation: Sequence[Line],
    against: Sequence[Opened],
) -> Diagnosis:
    """Write the per-sample file and ``diagnosis.json``; return the numbers.

    Raises:
        ConfigError: a diagnosis to compare with that has no sample in common.
        OutputError: a file cannot be written.
    """
    left_out = dict(found.left_out)
    if found.empty:
        left_out["samples"] = f"{found.empty} samples without a referent have no ladder"
    numbers = summarise(found.lines, validation)
    for probe, why in PROBE_REASON.items():
        if probe in PROBES and probe not in numbers["probes"] and "anchor" in left_out:
            left_out[probe] = why
    content = Content(
        schema=1,
        version=__version__,
        settings=dict(settings),
        missing={name: found.missing[name] for name in RUNGS if name in found.missing},
        left_out=left_out,
        numbers=numbers,
        against={other.name: compared([found.lines], [other.lines]) for other in against},
    )
    write_lines(folder / SAMPLES, found.lines)
    write_json(folder / REPORT, json.loads(content.model_dump_json(by_alias=True)))
    return Diagnosis(content)
