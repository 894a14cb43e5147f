"""What needs no training: the best constant mask, as a job of the same form as every other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from rrsis_zoo.bench.jobs import RECORD, SCHEMA, read_job
from rrsis_zoo.bench.keys import READING, Keys, protocol_hash
from rrsis_zoo.bench.parts import hash_of, key_of
from rrsis_zoo.bench.suites import BASELINES, Dataset, Suite
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.masks import at_image_size
from rrsis_zoo.data.records import Record
from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.files import make_folder, write_json, writing
from rrsis_zoo.metrics.measure import measure
from rrsis_zoo.metrics.protocols import Protocol, get_protocol
from rrsis_zoo.metrics.samples import Counts, Samples, write_samples
from rrsis_zoo.metrics.sizes import eval_shape
from rrsis_zoo.training.callbacks import scored, subject

_LARGEST = 256
"""Longest side of the grid on which the constant mask is chosen, in pixels."""


def best_constant(train: Sequence[Record], test: Sequence[Record], levels: int = 40) -> NDArray[np.bool_]:
    """Return the best constant mask, bool (h, w).

    Candidates: the mean training mask thresholded at ``levels`` values, the full mask among them. The one with the
    highest mIoU *on the test samples* is taken, so that no constant of this kind does better.

    Args:
        train: whose masks make the mean.
        test: on what the mask is chosen.
        levels: thresholds.

    Returns:
        The mask on the grid of the first training mask, at most 256 pixels long; every mask is brought to that grid.
    """
    shrink = max(1.0, max(train[0].height, train[0].width) / _LARGEST)
    size = (round(train[0].height / shrink), round(train[0].width / shrink))
    mean = np.zeros(size)
    for record in train:
        mean += at_image_size(record.mask.decode(), size)
    mean /= len(train)
    candidates = np.stack([mean >= threshold for threshold in np.linspace(0, mean.max(), levels, endpoint=False)])
    areas, total = candidates.sum((1, 2)), np.zeros(levels)
    for record in test:
        target = at_image_size(record.mask.decode(), size)
        both = (candidates & target).sum((1, 2))
        total += both / np.maximum(areas + target.sum() - both, 1)
    return candidates[int(total.argmax())]


def measure_constant(mask: NDArray[np.bool_], test: Sequence[Record], protocol: Protocol) -> Samples:
    """Return the results of one mask that answers every sample, at each sample's own size."""
    rows = []
    for record in test:
        target = record.mask.decode()
        answer = Image.fromarray(mask).resize((target.shape[1], target.shape[0]), Image.Resampling.NEAREST)
        truth = torch.from_numpy(target)
        core = measure(torch.from_numpy(np.array(answer)), truth, protocol.eval_size, details=True)
        shape = torch.tensor(eval_shape(protocol.eval_size, truth))
        rows.append(torch.cat([core[:3], shape, core[4:]]))  # without the flag for log-odds that are no numbers
    return Samples([subject(record) for record in test], Counts.from_rows(torch.stack(rows).numpy()))


def run_constant(
    suite: Suite, dataset: Dataset, settings: dict[str, Any], keys: Keys, folder: Path
) -> tuple[dict[str, Any], bool]:
    """Leave the best constant mask of a dataset as a job, unless that is done.

    Args:
        suite: whose table it goes into.
        dataset: of the suite.
        settings: the data module's, as a job of the dataset has them.
        keys: for its key.
        folder: of the job.

    Returns:
        The record, and whether it was made now.

    Raises:
        OutputError: it cannot be written.
    """
    reading, name = {name: settings[name] for name in READING}, settings.get("name")
    parts = {
        "configuration": hash_of("constant" if name is None else ["constant", name]),
        "weights": hash_of([]),
        "data": keys.data(reading),
        "protocol": protocol_hash(suite.protocol),
        "code": keys.code("baselines"),
    }
    try:
        earlier = read_job(folder, constant_name(dataset))
    except DataFormatError:  # it takes seconds to make it again
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
