"""What a suite left behind: ``suite.json``, a ``job.json`` for every job, and the per-sample counts. No torch.

Runs of ``rrsis test`` outside of a suite are read as one: each a row, compared with the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.data.records import Record
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError
from rrsis_zoo.metrics.samples import Samples, read_samples
from rrsis_zoo.tables.records import JobFile, Result, SuiteFile, read_record, unfit

_AGAIN = "run the suite again"


@dataclass(frozen=True)
class Model:
    """A row of the suite.

    Attributes:
        name: unique in the suite.
        title: as the tables say it.
        role: ``method``, ``control``, ``ablation`` or ``baseline``.
        against: names of the rows that it is compared with, pair by pair.
        seeds: one training each; None alone for what is not trained, or with a seed that is not known.
    """

    name: str
    title: str
    role: str
    against: tuple[str, ...]
    seeds: tuple[int | None, ...]

    @property
    def ranked(self) -> bool:
        """Whether it competes for the best number; what is there to be beaten does not."""
        return self.role in ("method", "control")


@dataclass(frozen=True)
class JobRecord:
    """One job that has ended.

    Attributes:
        folder: its own.
        record: the content of its ``job.json``.
    """

    folder: Path
    record: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the job, which is that of its folder."""
        return self.record["name"]

    @property
    def seed(self) -> int | None:
        """Seed of the training; None for what was not trained, or where it is not known."""
        return self.record["seed"]

    @property
    def finished(self) -> bool:
        """Whether there are results that may stand in a table: of a trained model, on the whole split."""
        return self.record["status"] == "finished" and not self.unfit

    @property
    def unfit(self) -> str:
        """Why its numbers may stand in no table though it has some; empty if they may, or there are none."""
        return unfit(self.record["result"]) if self.record["status"] == "finished" else ""

    @property
    def word(self) -> str:
        """What stands in the place of a number that there is not, in a word."""
        return "left out" if self.unfit else "failed"

    @property
    def reason(self) -> str:
        """Why there are no results, in a line."""
        if self.unfit:
            return self.unfit
        lines = str(self.record.get("reason", "")).strip().splitlines()
        return lines[-1].strip() if lines else "no reason was recorded"

    @property
    def result(self) -> Mapping[str, Any]:
        """The record of the test, as in ``test.json``."""
        return self.record["result"]

    @cached_property
    def samples(self) -> Samples:
        """Per-sample counts, read once.

        Raises:
            MissingDataError, DataFormatError: they are not there, or damaged.
        """
        return read_samples(self.place / "test_samples.jsonl.gz")

    @property
    def place(self) -> Path:
        """Folder of the test: the job's own, where `rrsis test` itself left it and not a suite."""
        alone = (self.folder / "test.json").is_file()
        return self.folder if alone else self.folder / "test" / "version_0"


@dataclass(frozen=True)
class Runs:
    """A suite and the jobs that have ended.

    Attributes:
        folder: where they lie.
        name, title, caption: of the suite.
        models: rows in order.
        datasets: name -> title, in order.
        jobs: those of these rows, data sets and seeds.
        left_out: names of other folders of jobs: the suite no longer has them, was run with other seeds, or they are
            copies under another name.
    """

    folder: Path
    name: str
    title: str
    caption: str
    models: tuple[Model, ...]
    datasets: Mapping[str, str]
    jobs: tuple[JobRecord, ...]
    left_out: tuple[str, ...] = ()

    def of(self, model: str, dataset: str) -> list[JobRecord]:
        """Return the jobs of a row on a data set, in the order of their seeds."""
        mine = [job for job in self.jobs if (job.record["model"], job.record["dataset"]) == (model, dataset)]
        place = {seed: i for i, seed in enumerate(self.model(model).seeds)}
        return sorted(mine, key=lambda job: place[job.seed])

    def model(self, name: str) -> Model:
        """Return a row by its name."""
        return next(model for model in self.models if model.name == name)


def read_runs(folder: str | Path) -> Runs:
    """Read the folder of a suite's runs.

    Raises:
        MissingDataError: it has no ``suite.json``.
        DataFormatError: a file in it is damaged, impossible, or of another version.
    """
    folder = Path(folder)
    path = folder / "suite.json"
    if not path.is_file():
        raise MissingDataError(
            f"there is no {path}: `make benchmark` and `python benchmarks/run.py SUITE` write it; give the folder of "
            "a suite's runs, such as runs/embedded, or folders of `rrsis test` with their test.json"
        )
    suite = read_record(path, SuiteFile, _AGAIN)
    models = tuple(_model(given, suite["seeds"]) for given in suite["models"])
    datasets = {given["name"]: given["title"] for given in suite["datasets"]}
    wanted = {(model.name, dataset, seed) for model in models for dataset in datasets for seed in model.seeds}
    jobs: list[JobRecord] = []
    left_out: list[str] = []
    for file in sorted(folder.glob("*/job.json")):
        job = JobRecord(file.parent, read_record(file, JobFile, _AGAIN))
        asked = (job.record["model"], job.record["dataset"], job.seed)
        if job.name != file.parent.name or asked not in wanted:
            left_out.append(file.parent.name)
            continue
        wanted.remove(asked)  # a second one under another name is none of the suite's
        jobs.append(job)
    return Runs(
        folder,
        suite["name"],
        suite["title"],
        suite["caption"].strip(),
        models,
        datasets,
        tuple(jobs),
        tuple(left_out),
    )


def read_tests(folders: Sequence[str | Path]) -> Runs:
    """Read folders that ``rrsis test`` left, each as a row of its own that is compared with the first.

    Raises:
        MissingDataError: one of them has no ``test.json``.
        DataFormatError: a damaged one.
        ConfigError: a folder that is given twice.
    """
    paths = [Path(folder) for folder in folders]
    names = [path.as_posix() for path in paths]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{twice[0]} is given twice: a table compares different runs")
    results = []
    for path in paths:
        if not (path / "test.json").is_file():
            raise MissingDataError(f"there is no {path / 'test.json'}: `rrsis test` writes it; give its folder")
        results.append(read_record(path / "test.json", Result, "run `rrsis test` again"))
    jobs = tuple(
        JobRecord(path, _as_job(name, result)) for path, name, result in zip(paths, names, results, strict=True)
    )
    titles = [
        " ".join(filter(None, (result["model"], result["preset"]))) + f", {name}"
        for name, result in zip(names, results, strict=True)
    ]
    datasets = {result["dataset"]: result["dataset"] for result in results}
    models = tuple(
        Model(name, title, "method", () if i == 0 else (names[0],), (None,))
        for i, (name, title) in enumerate(zip(names, titles, strict=True))
    )
    return Runs(Path(), "tests", "Tests", "", models, datasets, jobs)


def _as_job(name: str, result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "model": name,
        "dataset": result["dataset"],
        "seed": None,
        "title": name,
        "key": "",
        "role": "method",
        "status": "finished",
        "fit": None,  # what the training took is not known
        "result": result,
        "profile": None,
    }


def code_versions(versions: Sequence[Mapping[str, Any]]) -> str:
    """Return the versions of the code that the jobs ran with, each once."""
    texts = []
    for said in versions:
        commit = f", commit {said['commit']}" if said["commit"] else ", no commit known"
        texts.append(f"{said['version']}{commit}{' with changes' if said['changed'] else ''}")
    return " and ".join(dict.fromkeys(texts))


def read_counts(path: Path, records: Sequence[Record]) -> NDArray[np.int64]:
    """Read ``test_samples.jsonl.gz`` as int64 (N, 2), intersection and union in the order of the records.

    Raises:
        MissingDataError, DataFormatError: it is not there, damaged, or not about these samples.
    """
    samples = read_samples(path)
    place = {subject.sample_id: i for i, subject in enumerate(samples.subjects)}
    wanted = [record.sample_id for record in records]
    if set(place) != set(wanted):
        raise DataFormatError(f"{path} is about other samples than the dataset has: run the job again")
    counts = samples.counts[[place[name] for name in wanted]]
    return np.stack([counts.intersection, counts.union], axis=1)


def _model(given: Mapping[str, Any], seeds: Sequence[int]) -> Model:
    baseline = given["role"] == "baseline"
    own = (None,) if baseline else tuple(seeds if given.get("seeds") is None else given["seeds"])
    return Model(given["name"], given["title"], given["role"], tuple(given["against"]), own)
