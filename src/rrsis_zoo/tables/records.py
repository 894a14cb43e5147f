"""Schemas of the files of a suite, and how they are read. No torch.

Any file in a folder of runs may come from another version or another person, or be incomplete. What is read here is
complete and plausible, or there is an error that names the file and the field: names that stand for folders are valid
folder names, and counts and scores are values that a test can have.

Records of ``rrsis test`` from before a field was introduced lack it; they are read as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.files import read_json
from rrsis_zoo.leakage.lineage import Lineage
from rrsis_zoo.metrics.protocols import PROTOCOLS
from rrsis_zoo.schema import Strict, checked

SCHEMA = 1
LIMIT = 64 * 2**20
"""Largest size of one of these files in bytes; that of a large suite has about 100 kB."""

Count = Annotated[int, Field(ge=0, le=2**53)]
Positive = Annotated[int, Field(ge=1, le=2**53)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Percent = Annotated[float, Field(ge=0, le=100 + 1e-6)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FolderName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]*$", max_length=240)]
"""Name of one folder among others: no separators, and not ``..``."""

RowRole = Literal["method", "control", "ablation", "baseline"]


# -- test.json ---------------------------------------------------------------------------------------------------------


class Code(Strict):
    """Version of the code."""

    version: str
    commit: str | None
    changed: bool | None


class Parameters(Strict):
    """Numbers of a model's parameters."""

    total: Count
    trained: Count


class Part(Strict):
    """The scored part of a split: ``n`` of ``of`` samples."""

    n: Count
    of: Count


class Result(Strict):
    """``test.json``: the results of a test and what they depend on.

    ``n_empty`` counts the whole split; a protocol may use only a part of it.
    """

    model: str
    preset: str | None
    protocol: str
    eval_size: Positive | Literal["native"]
    text_mode: str | None = None
    dataset: str
    split: str
    n: Positive
    n_empty: Count
    metrics: dict[str, float | None]
    breakdown: dict[str, int | float | str | dict[str, float | None] | None] = Field(default_factory=dict)
    parameters: Parameters | None = None
    weights_sha256: Digest | None = None
    lineage: Lineage | None = None
    annotations_sha256: Digest
    code: Code
    untrained: bool = False
    partial: Part | None = None
    layout: str | None = None
    published_split: bool | None = None
    reading_rule: str | None = None
    binarise: Literal["half", "expected-iou"] = "half"

    @field_validator("metrics")
    @classmethod
    def _shares(cls, metrics: dict[str, float | None]) -> dict[str, float | None]:
        for name, value in metrics.items():
            _possible(name, value)
        return metrics

    @field_validator("breakdown")
    @classmethod
    def _classes(cls, breakdown: dict[str, Any]) -> dict[str, Any]:
        for name, value in breakdown.items():
            if name.startswith("per_") != isinstance(value, dict):
                wanted = "pairs of class and value" if name.startswith("per_") else "one value"
                raise ValueError(f"{name} must be {wanted}, got {str(value)[:60]!r}")
            for one in value.values() if isinstance(value, dict) else [value]:
                if not isinstance(one, str):
                    _possible(name, one)
        return breakdown

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.metrics.get("n", self.n) != self.n:
            raise ValueError(f"n is {self.n}, but {self.metrics['n']} in the metrics")
        asked = PROTOCOLS.get(self.protocol)
        if self.n_empty > self.n and (asked is None or asked.sentences == "all"):
            raise ValueError(f"n_empty is {self.n_empty}, more than the {self.n} samples")
        return self


def _possible(name: str, value: float | None) -> None:
    """Refuse an impossible count, and a percentage outside 0 to 100."""
    if value is None:
        return
    if name == "n" or name.startswith("n_") or name.endswith("_n"):
        if value < 0 or value != int(value):
            raise ValueError(f"{name} must be a number of samples, got {value}")
    elif not 0 <= value <= 100 + 1e-6:
        raise ValueError(f"{name} must be from 0 to 100, got {value}")


def unfit(result: Any) -> str:
    """Return why a test's results must not appear in a table; empty if they may.

    Args:
        result: content of a valid ``test.json`` (`Result`).
    """
    if result.get("untrained"):
        return "the model was not trained"
    if (binarise := result.get("binarise", "half")) != "half":
        return f"its masks are {binarise}, not p > 0.5"
    part = result.get("partial")
    return f"only {part['n']:,} of {part['of']:,} samples were scored" if part else ""


def on_made_scenes(result: Any) -> bool:
    """Return whether a test used synthetic scenes, or data of any name in their layout."""
    return "synthetic" in (result["dataset"], result.get("layout"))


# -- profile.json ------------------------------------------------------------------------------------------------------


class Latency(Strict):
    """Wall-clock time in seconds: median and percentiles of the calls."""

    median: Annotated[float, Field(gt=0, le=1e9)]
    low: Annotated[float, Field(gt=0, le=1e9)]
    high: Annotated[float, Field(gt=0, le=1e9)]


class Costs(Strict):
    """What one call costs."""

    flops: Annotated[float, Field(ge=0, le=1e30)]
    latency_s: Latency
    per_second: Annotated[float, Field(gt=0, le=1e15)]
    peak_bytes: Count | None


class StepCosts(Costs):
    """Costs of a training step with ``batch`` expressions."""

    batch: Positive


class InferenceCosts(Costs):
    """Costs of one image with this number of expressions."""

    expressions: Positive


class Profile(Strict):
    """``profile.json``: the costs of a method as `make benchmark` measured them."""

    device: str
    dtype: str
    threads: Positive
    versions: dict[str, str | None]
    image: Annotated[list[Positive], Field(min_length=2, max_length=2)] | None = None
    parameters: Parameters
    step: StepCosts
    inference: list[InferenceCosts]


# -- job.json ----------------------------------------------------------------------------------------------------------


class Spent(Strict):
    """How a process ended and how long it took."""

    status: int
    wall_s: Seconds
    cpu_s: Seconds
    end: list[str] = Field(default_factory=list)
    resumed: Count = 0


class JobFile(Strict):
    """``job.json``: a job that has ended."""

    name: FolderName
    model: str
    dataset: str
    seed: Annotated[int, Field(ge=0)] | None
    title: str
    role: RowRole
    against: list[str] = Field(default_factory=list)
    key: str
    key_parts: dict[str, str] = Field(default_factory=dict)
    status: Literal["finished", "failed"]
    reason: str = ""
    fit: Spent | None
    test: Spent | None = None
    result: Result | None
    profile: Profile | None

    @model_validator(mode="after")
    def _has_results(self) -> Self:
        if self.status == "finished" and self.result is None:
            raise ValueError("status 'finished' without a result")
        return self


# -- the suite ---------------------------------------------------------------------------------------------------------


class SuiteDataset(Strict):
    """A dataset of a suite."""

    name: str
    title: str


class SuiteModel(Strict):
    """A row of a suite."""

    name: str
    title: str
    role: RowRole
    against: list[str]
    seeds: list[Annotated[int, Field(ge=0)]] | None = None


class SuiteFile(Strict):
    """``suite.json``."""

    name: str
    title: str
    caption: str
    seeds: list[Annotated[int, Field(ge=0)]]
    datasets: list[SuiteDataset]
    models: list[SuiteModel]

    @model_validator(mode="after")
    def _rows(self) -> Self:
        names = [model.name for model in self.models]
        for kind, entries in (("row", names), ("data set", [d.name for d in self.datasets])):
            if twice := [name for name in entries if entries.count(name) > 1]:
                raise ValueError(f"the {kind} {twice[0]!r} is listed twice")
        for model in self.models:
            if unknown := [name for name in model.against if name not in names]:
                raise ValueError(f"{model.name} is compared with {', '.join(unknown)}, which is not a row")
        return self


# -- reading -----------------------------------------------------------------------------------------------------------


def read_record(path: Path, schema: type[Strict], advice: str) -> dict[str, Any]:
    """Return the content of a file, unchanged, if its schema accepts it.

    Args:
        path: of the file.
        schema: of its content.
        advice: what to do about a bad file.

    Raises:
        MissingDataError: the file does not exist.
        DataFormatError: it is not JSON, does not match the schema, or was written by another version.
    """
    try:
        content = read_json(path, LIMIT)
    except DataFormatError as error:
        raise DataFormatError(f"{error}; {advice}") from error
    if isinstance(content, dict) and content.get("schema", SCHEMA) != SCHEMA:
        raise DataFormatError(f"{path} was written by another version of rrsis-zoo; {advice}")
    checked(schema, content, str(path), advice=advice)
    return content
