"""Reading the results of a suite: ``suite.json``, a ``job.json`` for every job, and per-sample counts. No torch.

Runs of ``rrsis test`` outside a suite are read as if they formed one: each is a row, compared with the first.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.data.records import Record
from rrsis_zoo.diagnosis.report import REPORT, Opened, open_diagnosis
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError, RRSISError
from rrsis_zoo.metrics.presence import ANSWERS, SUMMARY, Answers, Summary, read_answers
from rrsis_zoo.metrics.samples import Samples, read_samples
from rrsis_zoo.shown import short_repr
from rrsis_zoo.tables.records import JobFile, Result, SuiteFile, read_record, unfit

_AGAIN = "run the suite again"


DIAGNOSIS = "diagnosis"
"""Folder of a job's diagnosis."""


@dataclass(frozen=True)
class Model:
    """A row of the suite.

    Attributes:
        name: unique in the suite.
        title: in the tables.
        role: ``method``, ``control``, ``ablation`` or ``baseline``.
        against: names of the rows that it is compared with, in pairs.
        seeds: one training run each; a single None for what is not trained, or if the seed is not known.
    """

    name: str
    title: str
    role: str
    against: tuple[str, ...]
    seeds: tuple[int | None, ...]

    @property
    def ranked(self) -> bool:
        """Whether it competes for the best score; baselines and ablations do not."""
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

    __repr__ = short_repr

    @property
    def name(self) -> str:
        """Name of the job and its folder."""
        return self.record["name"]

    @property
    def seed(self) -> int | None:
        """Seed of the training run; None for what was not trained, or if it is not known."""
        return self.record["seed"]

    @property
    def finished(self) -> bool:
        """Whether it has results that may appear in a table: of a trained model, on the whole split."""
        return self.record["status"] == "finished" and not self.unfit

    @property
    def unfit(self) -> str:
        """Why its results must not appear in a table; empty if they may, or there are none."""
        return unfit(self.record["result"]) if self.record["status"] == "finished" else ""

    @property
    def word(self) -> str:
        """Short text in place of a missing number."""
        return "left out" if self.unfit else "failed"

    @property
    def reason(self) -> str:
        """Why there are no results, in one line."""
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
            MissingDataError: the file does not exist.
            DataFormatError: it is damaged.
        """
        return read_samples(self.place / "test_samples.jsonl.gz")

    @cached_property
    def presence(self) -> tuple[Mapping[str, Any], Answers] | None:
        """Content of ``test_presence.json`` and the answers behind it, read once; None if the test did not ask.

        Raises:
            MissingDataError: the answers do not exist.
            DataFormatError: one of the two files is damaged.
        """
        if not os.path.isfile(self.place / SUMMARY):
            return None
        summary = read_record(self.place / SUMMARY, Summary, "run `rrsis test` again")
        return summary, read_answers(self.place / ANSWERS, summary["threshold"])

    @cached_property
    def diagnosis(self) -> Opened | None:
        """What `rrsis diagnose` wrote beside the test, read once; None if it was not asked.

        Raises:
            MissingDataError, DataFormatError: a file of it is missing or damaged.
        """
        folder = self.folder / DIAGNOSIS
        return open_diagnosis(folder) if os.path.isfile(folder / REPORT) else None

    @property
    def place(self) -> Path:
        """Folder of the test: the job's own if `rrsis test` wrote it outside a suite."""
        alone = os.path.isfile(self.folder / "test.json")
        return self.folder if alone else self.folder / "test" / "version_0"


@dataclass(frozen=True)
class Runs:
    """A suite and the jobs that have ended.

    Attributes:
        folder: that contains them.
        name, title, caption: of the suite.
        models: rows in order.
        datasets: name -> title, in order.
        jobs: of these rows, datasets and seeds.
        left_out: names of other job folders: no longer part of the suite, run with other seeds, or copies under
            another name.
        suite: whether they are a suite's; if not, a row has results on one dataset only.
    """

    folder: Path
    name: str
    title: str
    caption: str
    models: tuple[Model, ...]
    datasets: Mapping[str, str]
    jobs: tuple[JobRecord, ...]
    left_out: tuple[str, ...] = ()
    suite: bool = True

    __repr__ = short_repr

    def of(self, model: str, dataset: str) -> list[JobRecord]:
        """Return the jobs of a row on a dataset, in the order of their seeds."""
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
        DataFormatError: a file in it is damaged, implausible, or from another version.
    """
    folder = Path(folder)
    path = folder / "suite.json"
    if not os.path.isfile(path):
        if os.path.isdir(folder / "checkpoints"):
            raise MissingDataError(
                f"{folder} is a training, not a test: `rrsis test {folder}` scores it; give the folder that this writes"
            )
        raise MissingDataError(
            f"there is no {path}: `make benchmark` and `python benchmarks/run.py SUITE` write it; give the folder of "
            "a suite's runs, such as runs/embedded, or folders of `rrsis test` with their test.json"
        )
    suite = read_record(path, SuiteFile, _AGAIN)
    models = tuple(_model(description, suite["seeds"]) for description in suite["models"])
    datasets = {description["name"]: description["title"] for description in suite["datasets"]}
    wanted = {(model.name, dataset, seed) for model in models for dataset in datasets for seed in model.seeds}
    jobs: list[JobRecord] = []
    left_out: list[str] = []
    for file in sorted(folder.glob("*/job.json")):
        job = JobRecord(file.parent, read_record(file, JobFile, _AGAIN))
        identity = (job.record["model"], job.record["dataset"], job.seed)
        if job.name != file.parent.name or identity not in wanted:
            left_out.append(file.parent.name)
            continue
        wanted.remove(identity)  # a second one, under another name, is not part of the suite
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
    """Read folders written by ``rrsis test``, each as a row of its own that is compared with the first.

    Raises:
        MissingDataError: one of them has no ``test.json``.
        DataFormatError: a ``test.json`` is damaged.
        ConfigError: a folder is given twice.
    """
    paths = [Path(folder) for folder in folders]
    names = [path.as_posix() for path in paths]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{twice[0]} is given twice: a table compares different runs")
    results = []
    for path in paths:
        if not os.path.isfile(path / "test.json"):
            raise MissingDataError(f"there is no {path / 'test.json'}: `rrsis test` writes it; give its folder")
        results.append(read_record(path / "test.json", Result, "run `rrsis test` again"))
    jobs = tuple(
        JobRecord(path, _as_job(name, result)) for path, name, result in zip(paths, names, results, strict=True)
    )
    titles = _titles(paths, results)
    datasets = {result["dataset"]: result["dataset"] for result in results}
    models = tuple(
        Model(name, title, "method", () if i == 0 else (names[0],), (None,))
        for i, (name, title) in enumerate(zip(names, titles, strict=True))
    )
    return Runs(Path(), "tests", "Tests", "", models, datasets, jobs, suite=False)


def _titles(paths: Sequence[Path], results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of runs with their models; whole paths where these are the same."""
    models = [" ".join(filter(None, (result["model"], result["preset"]))) for result in results]
    short = [f"{path.absolute().name} ({model})" for path, model in zip(paths, models, strict=True)]
    return [
        f"{path.as_posix()} ({model})" if short.count(title) > 1 else title
        for path, model, title in zip(paths, models, short, strict=True)
    ]


def tests_beside(folder: Path) -> list[dict[str, Any]]:
    """Return the results of tests that stand beside a training: ``…/test/*/test.json`` of ``…/fit/NAME``.

    Those of earlier versions, beside the training itself, are included; files that cannot be read are left out.

    Args:
        folder: of the training.
    """
    places = [*folder.parent.parent.glob("test/*/test.json"), *folder.parent.glob("*/test.json")]
    results = []
    for path in sorted(dict.fromkeys(places)):
        with contextlib.suppress(RRSISError):
            results.append(read_record(path, Result, ""))
    return results


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
        "fit": None,  # the cost of the training is not known
        "result": result,
        "profile": None,
    }


def code_versions(versions: Sequence[Mapping[str, Any]]) -> str:
    """Return the versions of the code that the jobs ran with, without repetitions."""
    texts = []
    for code in versions:
        commit = f", commit {code['commit']}" if code["commit"] else ", no commit known"
        texts.append(f"{code['version']}{commit}{' with changes' if code['changed'] else ''}")
    return " and ".join(dict.fromkeys(texts))


def read_counts(path: Path, records: Sequence[Record]) -> NDArray[np.int64]:
    """Read ``test_samples.jsonl.gz`` as int64 (N, 2), intersection and union in the order of the records.

    Raises:
        MissingDataError: the file does not exist.
        DataFormatError: it is damaged, or its samples are not those of the records.
    """
    samples = read_samples(path)
    place = {subject.sample_id: i for i, subject in enumerate(samples.subjects)}
    wanted = [record.sample_id for record in records]
    if set(place) != set(wanted):
        raise DataFormatError(f"{path} has other samples than the dataset: run the job again")
    counts = samples.counts[[place[name] for name in wanted]]
    return np.stack([counts.intersection, counts.union], axis=1)


def _model(description: Mapping[str, Any], seeds: Sequence[int]) -> Model:
    baseline = description["role"] == "baseline"
    own = (None,) if baseline else tuple(seeds if description.get("seeds") is None else description["seeds"])
    return Model(description["name"], description["title"], description["role"], tuple(description["against"]), own)
