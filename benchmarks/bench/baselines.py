"""The baseline without training: the best constant mask, as a job in the usual form."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bench.jobs import RECORD, SCHEMA, read_job
from bench.keys import READING, Keys, protocol_hash
from bench.parts import hash_of, key_of
from bench.suites import BASELINES, Dataset, Suite
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.files import make_folder, write_json, writing
from rrsis_zoo.metrics.protocols import get_protocol
from rrsis_zoo.metrics.samples import write_samples
from rrsis_zoo.training.callbacks import scored
from rrsis_zoo.training.constant_mask import best_constant, measure_constant


def run_constant(
    suite: Suite, dataset: Dataset, settings: dict[str, Any], keys: Keys, folder: Path
) -> tuple[dict[str, Any], bool]:
    """Write the best constant mask of a dataset as a job, unless it exists.

    Args:
        suite: with the table for it.
        dataset: of the suite.
        settings: of the data module in a job on the dataset.
        keys: computes its key.
        folder: of the job.

    Returns:
        The record, and whether it is new.

    Raises:
        OutputError: it cannot be written.
    """
    reading, name = {name: settings[name] for name in READING if name in settings}, settings.get("name")
    parts = {
        "configuration": hash_of("constant" if name is None else ["constant", name]),
        "weights": hash_of([]),
        "data": keys.data(reading),
        "protocol": protocol_hash(suite.protocol),
        "code": keys.code("baselines"),
    }
    try:
        earlier = read_job(folder, constant_name(dataset))
    except DataFormatError:  # computing it again takes seconds
        earlier = None
    if earlier is not None and earlier["key"] == key_of(parts) and earlier["status"] == "finished":
        return earlier, False
    start, processor = time.perf_counter(), time.process_time()
    data = RRSISDataModule(**reading, name=name, num_workers=0)
    train, test, protocol = data.records("train"), data.records(data.test_split), get_protocol(suite.protocol)
    samples = measure_constant(best_constant(train, test), test, protocol)
    result = {
        "model": "constant",
        "preset": None,
        **scored(samples, protocol, data),
        "parameters": {"total": 0, "trainable": 0, "trained": 0},
        "weights_sha256": None,
        "precision": None,
    }
    place = make_folder(folder / "test" / "version_0")
    write_json(place / "test.json", result)
    with writing(place / "test_samples.jsonl.gz") as path:
        write_samples(path, samples)
    used = {
        "status": 0,
        "wall_s": round(time.perf_counter() - start, 1),
        "cpu_s": round(time.process_time() - processor, 1),
        "end": [],
    }
    record = {
        "schema": SCHEMA,
        "suite": suite.name,
        "name": constant_name(dataset),
        "model": "constant",
        "dataset": dataset.name,
        "seed": None,
        "title": BASELINES["constant"],
        "key": key_of(parts),
        "key_parts": parts,
        "role": "baseline",
        "against": [],
        "status": "finished",
        "reason": "",
        "fit": None,  # nothing is trained
        "test": used,
        "result": result,
        "profile": None,
    }
    write_json(folder / RECORD, record)
    return record, True


def constant_name(dataset: Dataset) -> str:
    """Return the name of the job's folder."""
    return f"constant--{dataset.name}"
