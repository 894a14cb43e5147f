"""Hashes of everything that determines a job's result: configuration, weights, data, protocol, code.

A finished job counts as long as none of them has changed. Paths of files, names of rows and the format of tables are
not part of a key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import rrsis_zoo
from bench.parts import hash_of
from rrsis_zoo.data.annotations import annotations_hash
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.hashes import file_hashes
from rrsis_zoo.data.sources import ReadOptions, locate, source
from rrsis_zoo.methods.registry import method_at
from rrsis_zoo.metrics.protocols import get_protocol
from rrsis_zoo.pretrained.foundations import find_foundations
from rrsis_zoo.pretrained.whole import find_whole
from rrsis_zoo.weights.sources import INDEX_SUFFIX, read_index

READING = ("dataset", "root", *(option.name for option in fields(ReadOptions)))
"""Settings of the data module that determine the samples; the others affect the training."""

_PLACES = {"trainer": ("logger", "default_root_dir", "enable_progress_bar"), "data": ("root",)}
"""Settings for paths and for output."""


class Keys:
    """Computes the keys of many jobs; datasets, weights and code are read once."""

    def __init__(self) -> None:
        self._data: dict[str, str] = {}
        self._splits: dict[tuple[str, str], tuple[list[str], str]] = {}
        self._references: dict[str, int] = {}
        self._code: dict[tuple[str, ...], str] = {}

    def parts(self, config: Mapping[str, Any]) -> dict[str, str]:
        """Return the hash of each of ``PARTS`` for a job.

        Args:
            config: from `rrsis_zoo.commands.fit.resolve`.

        Raises:
            MissingDataError, MissingWeightsError: data or weights of the job are not on this machine.
            DataFormatError, WeightsMismatchError: they are damaged.
        """
        settings = config["model"]["init_args"]
        return {
            "configuration": configuration_hash(config),
            "weights": files_hash(weight_files(config["model"]["class_path"], settings["weights"])),
            "data": self.data(config["data"]),
            "protocol": protocol_hash(settings["protocol"]),
            "code": self.code(),
        }

    def data(self, settings: Mapping[str, Any]) -> str:
        """Return the hash of a dataset: all annotations of all splits, after reading, and all image files.

        Raises:
            MissingDataError: a file of the dataset is missing.
            DataFormatError: a file of the dataset is damaged.
        """
        reading = {name: settings[name] for name in READING if name in settings}
        known = json.dumps(reading)
        if known not in self._data:
            module = RRSISDataModule(**reading, num_workers=0)
            module.prepare_data()
            records = []
            root = locate(settings["dataset"], settings["root"])
            for split in source(settings["dataset"]).splits_in(root):
                mine = module.records(split)
                self._splits[known, split] = [record.sample_id for record in mine], annotations_hash(mine)
                if split == "train":
                    self._references[known] = len({record.reference_id for record in mine})
                records += mine
            images = sorted({record.image_path for record in records})
            pixels = file_hashes(root, images)
            content = [annotations_hash(records), *(pixels[image] for image in images)]
            self._data[known] = hash_of(content)
        return self._data[known]

    def split(self, settings: Mapping[str, Any], split: str) -> tuple[list[str], str]:
        """Return the ids of a split's samples, in order, and the SHA-256 of its annotations.

        Raises:
            MissingDataError: a file of the dataset is missing.
            DataFormatError: a file of the dataset is damaged.
        """
        self.data(settings)
        return self._splits[json.dumps({name: settings[name] for name in READING if name in settings}), split]

    def drawn(self, settings: Mapping[str, Any]) -> int:
        """Return how many samples an epoch of training draws, see `rrsis_zoo.data.samplers.DrawRule`.

        Raises:
            MissingDataError: a file of the dataset is missing.
            DataFormatError: a file of the dataset is damaged.
        """
        samples, _ = self.split(settings, "train")
        known = json.dumps({name: settings[name] for name in READING if name in settings})
        return self._references[known] if settings["draw"] == "references" else len(samples)

    def code(self, *further: str) -> str:
        """Return the hash of the package's code.

        Args:
            further: modules of this package to include; the others only run jobs and show results, which does not
                affect measurements, and neither do the tables and the ledger of what weights have seen.
        """
        if further not in self._code:
            package = Path(rrsis_zoo.__file__).parent
            measured = {p.relative_to(package).as_posix(): p for p in package.rglob("*.py")}
            files = {name: p for name, p in measured.items() if not name.startswith(("tables/", "leakage/"))}
            files |= {f"bench/{name}.py": Path(__file__).parent / f"{name}.py" for name in further}
            self._code[further] = hash_of([[name, p.read_text("utf-8")] for name, p in sorted(files.items())])
        return self._code[further]


def configuration_hash(config: Mapping[str, Any]) -> str:
    """Return the hash of a resolved configuration, without paths and without weights, which are hashed by content."""
    kept = {section: value for section, value in config.items() if not isinstance(value, Mapping)}
    for section in ("trainer", "data"):
        left_out = _PLACES[section]
        kept[section] = {name: value for name, value in config[section].items() if name not in left_out}
    model = config["model"]
    settings = {name: value for name, value in model["init_args"].items() if name != "weights"}
    return hash_of({**kept, "model": {"class_path": model["class_path"], "init_args": settings}})


def protocol_hash(name: str) -> str:
    """Return the hash of all rules of a protocol."""
    return hash_of(repr(asdict(get_protocol(name))))  # repr, since JSON has no NaN


def weight_files(class_path: str, weights: Mapping[str, str] | str | None) -> list[Path]:
    """Return the files that the weight sources of a LightningModule resolve to, all shards of each.

    Raises:
        ConfigError: a malformed source.
        MissingWeightsError: a file is not on this machine.
        WeightsMismatchError: a file is damaged.
    """
    if not weights:
        return []
    method = method_at(class_path)
    assert method is not None
    if isinstance(weights, str):
        sources = [find_whole(weights, method.card)]
    else:
        sources = [path for paths in find_foundations(method.card, weights).values() for path in paths]
    files: list[Path] = []
    for path in sources:
        if os.path.isdir(path):  # a model of ours: configuration, tokenizer, weights
            files += sorted(p for p in path.iterdir() if os.path.isfile(p))
        else:
            files.append(path)
            if path.name.endswith(INDEX_SUFFIX):
                files += [path.parent / shard for shard in sorted(set(read_index(path).values()))]
    return files


def files_hash(files: Sequence[Path]) -> str:
    """Return the hash of the files' contents, in order; it is cached for unchanged files."""
    return hash_of([file_hashes(path.parent, [path])[path] for path in files])
