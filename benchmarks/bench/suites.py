"""Suites: which methods are trained on which datasets with which seeds and settings. No torch.

A suite file is YAML::

    title: Miniatures on synthetic scenes
    caption: What a reader needs to know, shown below the table.
    protocol: canonical
    seeds: [1, 2]
    limits: {minutes: 25}              # for the whole suite; compared with the plan
    against: [constant, control]       # rows that every method is compared with, in pairs
    baselines: [constant]              # without training, see bench.baselines
    calibrate: true                    # presence before every test (`rrsis calibrate`); false by default
    diagnose: 24                       # scenes of the test split that `rrsis diagnose` asks about afterwards; 0: none
    datasets:
      synthetic:
        title: synthetic scenes
        configs: [configs/overlays/synthetic.yaml]
    models:
      control:
        title: Control (tiny)
        configs: [configs/control.yaml, configs/overlays/control_tiny.yaml]
        options: {trainer.max_epochs: 2, model.init_args.cosine_epochs: 2}
        cpu_minutes: 4.2               # of one job, if known; only used for the plan
      control-shuffled:
        title: Control (tiny), training expressions shuffled
        role: ablation                 # method (default), control, ablation
        against: []
        seeds: [1]
        configs: […]
        for:                           # only on this dataset
          synthetic: {options: {data.shuffle_expressions: true}}

A job is one (model, dataset, seed). Its configuration files apply in the order model, dataset, ``for``; then the
options, where the model's override the dataset's and those of ``for`` override both; then protocol and seed.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import yaml

from bench.reserved import SUITE as RESERVED
from bench.reserved import file_fault, option_fault
from rrsis_zoo.errors import ConfigError, unknown_name
from rrsis_zoo.metrics.protocols import get_protocol
from rrsis_zoo.tables.records import RowRole
from rrsis_zoo.yaml_files import read_yaml

BASELINES = {"constant": "best constant mask"}
"""Name -> title of the baselines without training."""

_NAME = re.compile(r"[a-z0-9]+(?:[-._][a-z0-9]+)*")


@dataclass(frozen=True)
class Change:
    """Additional configuration files and options.

    Attributes:
        configs: paths relative to the current folder, in the order in which they apply.
        options: dotted name -> value, as ``rrsis fit --NAME VALUE``.
    """

    configs: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """A dataset of a suite, and its changes to every model's configuration."""

    name: str
    title: str
    change: Change


@dataclass(frozen=True)
class Model:
    """A row of a suite.

    Attributes:
        name, title: for folders and for tables.
        change: its configuration.
        role: see `RowRole`.
        against: rows that it is compared with, in pairs.
        seeds: one job each.
        cpu_minutes: processor time of one job; None if unknown.
        special: dataset -> its special settings there.
    """

    name: str
    title: str
    change: Change
    role: RowRole
    against: tuple[str, ...]
    seeds: tuple[int, ...]
    cpu_minutes: float | None
    special: Mapping[str, Change]


@dataclass(frozen=True)
class Job:
    """One training and its test.

    Attributes:
        suite, model, dataset, seed: that it belongs to.
        title, role, against, cpu_minutes: of the model.
        configs: all configuration files in order.
        options: all options, including protocol and seed.
        calibrate: whether its presence is calibrated before the test.
        diagnose: number of scenes that are diagnosed after the test; 0 for none.
    """

    suite: str
    model: str
    dataset: str
    seed: int
    title: str
    role: RowRole
    against: tuple[str, ...]
    configs: tuple[str, ...]
    options: Mapping[str, Any]
    cpu_minutes: float | None = None
    calibrate: bool = False
    diagnose: int = 0

    @property
    def name(self) -> str:
        """Name of the job's folder."""
        return f"{self.model}--{self.dataset}--seed{self.seed}"

    def arguments(self, root: str | None = None) -> list[str]:
        """Return the common arguments of ``rrsis fit`` and ``rrsis test``.

        Args:
            root: folder of the dataset; None for the configuration's own.
        """
        options = dict(self.options) if root is None else {**self.options, "data.root": root}
        arguments = [part for config in self.configs for part in ("--config", config)]
        return arguments + [part for name, value in options.items() for part in (f"--{name}", _as_argument(value))]


@dataclass(frozen=True)
class Suite:
    """Models x datasets x seeds; see the module's docstring.

    Attributes:
        name, title, caption, protocol, seeds, datasets, models, baselines: from the file.
        minutes: limit of the whole suite; None if there is none, or for a part of a suite.
        seeds_left_out: seeds in the file that this part of the suite does not have.
        calibrate, diagnose: from the file.
    """

    name: str
    title: str
    caption: str
    protocol: str
    seeds: tuple[int, ...]
    datasets: tuple[Dataset, ...]
    models: tuple[Model, ...]
    baselines: tuple[str, ...]
    minutes: float | None
    seeds_left_out: tuple[int, ...] = ()
    calibrate: bool = False
    diagnose: int = 0

    def only_seeds(self, chosen: Sequence[int]) -> Suite:
        """Return the part of the suite with these seeds.

        A model with seeds of its own keeps the chosen ones; one without any is left out, also from comparisons. The
        limit applies to the whole suite, not to a part.

        Args:
            chosen: seeds of the suite or of one of its models.

        Raises:
            ConfigError: none of them has such a seed.
        """
        known = sorted({seed for model in self.models for seed in model.seeds})
        for seed in chosen:
            if seed not in known:
                raise ConfigError(f"{self.name} has no seed {seed}; there are {', '.join(map(str, known))}")
        models = [replace(m, seeds=tuple(seed for seed in m.seeds if seed in chosen)) for m in self.models]
        names = {*self.baselines, *(m.name for m in models if m.seeds)}
        left_out = tuple(seed for seed in known if seed not in chosen)
        return replace(
            self,
            seeds=tuple(seed for seed in self.seeds if seed in chosen),
            models=tuple(replace(m, against=tuple(n for n in m.against if n in names)) for m in models if m.seeds),
            minutes=None if left_out else self.minutes,
            seeds_left_out=left_out,
        )

    def jobs(self) -> list[Job]:
        """Return all jobs: first seeds first, within a seed the longest first, ablations at the end.

        So a suite that is stopped early has compared everything once, and no long job remains at the end.
        """
        ordered = [
            (model.role == "ablation", position, -(model.cpu_minutes or 0.0), self._job(model, dataset, seed))
            for dataset in self.datasets
            for model in self.models
            for position, seed in enumerate(model.seeds)
        ]
        return [job for *_, job in sorted(ordered, key=lambda entry: entry[:3])]

    def _job(self, model: Model, dataset: Dataset, seed: int) -> Job:
        special = model.special.get(dataset.name, Change())
        options = {
            **dataset.change.options,
            **model.change.options,
            **special.options,
            "model.init_args.protocol": self.protocol,
            "seed_everything": seed,
            "data.seed": seed,  # a seed also determines the order of the training samples
        }
        configs = (*model.change.configs, *dataset.change.configs, *special.configs)
        return Job(
            self.name,
            model.name,
            dataset.name,
            seed,
            model.title,
            model.role,
            model.against,
            configs,
            options,
            model.cpu_minutes,
            self.calibrate,
            self.diagnose,
        )

    def described(self) -> dict[str, Any]:
        """Return the suite as plain values for JSON, for tables and reports."""
        baselines = [{"name": n, "title": BASELINES[n], "role": "baseline", "against": []} for n in self.baselines]
        models = [
            {
                "name": m.name,
                "title": m.title,
                "role": m.role,
                "against": list(m.against),
                "seeds": list(m.seeds),
                "configs": list(m.change.configs),
                "options": dict(m.change.options),
            }
            for m in self.models
        ]
        return {
            "schema": 1,
            "name": self.name,
            "title": self.title,
            "caption": self.caption,
            "protocol": self.protocol,
            "seeds": list(self.seeds),
            "datasets": [{"name": d.name, "title": d.title} for d in self.datasets],
            "models": [*baselines, *models],
            "limits": {} if self.minutes is None else {"minutes": self.minutes},
        }


def read_suite(path: Path) -> Suite:
    """Read and check a suite file.

    Raises:
        ConfigError: the file is missing or not YAML, a name is given twice, a field is unknown or missing, a value has
            the wrong type, a configuration file is missing, or a comparison is with an unknown row.
    """
    if not os.path.isfile(path):
        near = sorted(p.name for p in path.parent.glob("*.yaml")) if os.path.isdir(path.parent) else []
        raise ConfigError(f"there is no suite {path}" + (f"; there are {', '.join(near)}" if near else ""))
    try:
        content = read_yaml(path, loader=_Strict)
    except ConfigError as error:
        raise ConfigError(f"{path} is not a suite: {error}") from error
    return _Reader(path).suite(content)


class _Strict(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            fault = "" if isinstance(key, Hashable) else f"{key!r} is not a name"
            if fault := fault or (f"{key!r} is given twice" if key in seen else ""):
                raise yaml.constructor.ConstructorError(None, None, fault, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class _Reader:
    """Reads one file; every error names it and the place in it."""

    path: Path

    def suite(self, content: Any) -> Suite:
        fields = self._fields(
            content, "the suite", ("title", "caption", "protocol", "seeds", "datasets", "models"),
            ("limits", "against", "baselines", "calibrate", "diagnose"),
        )  # fmt: skip
        name = self._name(self.path.stem, "the file's name")
        protocol = get_protocol(self._text(fields["protocol"], "protocol")).name
        seeds = self._seeds(fields["seeds"], "seeds")
        baselines = self._texts(fields.get("baselines", []), "baselines")
        for baseline in baselines:
            if baseline not in BASELINES:
                raise self._wrong("baselines", str(unknown_name("baseline", baseline, BASELINES)))
        datasets = self._named(fields["datasets"], "datasets")
        rows = self._named(fields["models"], "models")
        if both := sorted(set(rows) & set(BASELINES)):
            raise self._wrong("models", f"{both[0]} is the name of a baseline")
        default = self._texts(fields.get("against", []), "against")
        known = (*baselines, *rows)
        models = tuple(self._model(n, row, tuple(datasets), known, default, seeds) for n, row in rows.items())
        limits = self._fields(fields.get("limits", {}), "limits", (), ("minutes",))
        return Suite(
            name,
            self._text(fields["title"], "title"),
            self._text(fields["caption"], "caption").strip(),
            protocol,
            seeds,
            tuple(self._dataset(n, row) for n, row in datasets.items()),
            models,
            baselines,
            self._minutes(limits.get("minutes"), "limits.minutes"),
            calibrate=self._switch(fields.get("calibrate", False), "calibrate"),
            diagnose=self._count(fields.get("diagnose", 0), "diagnose"),
        )

    def _dataset(self, name: str, row: Any) -> Dataset:
        where = f"datasets.{name}"
        fields = self._fields(row, where, ("title",), ("configs", "options"))
        return Dataset(name, self._text(fields["title"], f"{where}.title"), self._change(fields, where))

    def _model(
        self,
        name: str,
        row: Any,
        datasets: Sequence[str],
        known: Sequence[str],
        default: Sequence[str],
        seeds: tuple[int, ...],
    ) -> Model:
        where = f"models.{name}"
        optional = ("options", "role", "against", "seeds", "cpu_minutes", "for")
        fields = self._fields(row, where, ("title", "configs"), optional)
        role = fields.get("role", "method")
        roles = [r for r in get_args(RowRole) if r != "baseline"]
        if role not in roles:
            raise self._wrong(where, str(unknown_name("role", str(role), roles)))
        against = self._texts(fields.get("against", [n for n in default if n != name]), f"{where}.against")
        for other in against:
            if other not in known or other == name:
                others = [n for n in known if n != name]
                raise self._wrong(f"{where}.against", str(unknown_name("row to compare with", other, others)))
        special: dict[str, Change] = {}
        for dataset, change in self._named(fields.get("for", {}), f"{where}.for", empty=True).items():
            if dataset not in datasets:
                raise self._wrong(f"{where}.for", str(unknown_name("dataset of the suite", dataset, datasets)))
            at = f"{where}.for.{dataset}"
            special[dataset] = self._change(self._fields(change, at, (), ("configs", "options")), at)
        return Model(
            name,
            self._text(fields["title"], f"{where}.title"),
            self._change(fields, where),
            role,
            against,
            self._seeds(fields["seeds"], f"{where}.seeds") if "seeds" in fields else seeds,
            self._minutes(fields.get("cpu_minutes"), f"{where}.cpu_minutes"),
            special,
        )

    def _change(self, fields: Mapping[str, Any], where: str) -> Change:
        configs = self._texts(fields.get("configs", []), f"{where}.configs")
        for config in configs:
            if not os.path.isfile(Path(config)):
                here = Path.cwd()
                raise self._wrong(f"{where}.configs", f"there is no file {config}; paths are relative to {here}")
            if fault := file_fault(Path(config), read_yaml(config)):
                raise self._wrong(f"{where}.configs", fault)
        options = fields.get("options", {})
        if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
            raise self._wrong(f"{where}.options", f"must be NAME: VALUE pairs, got {options!r}")
        for name, value in options.items():
            if fault := option_fault(name, value, RESERVED) or _no_argument(name, value):
                raise self._wrong(f"{where}.options", fault)
        return Change(configs, dict(options))

    def _fields(self, content: Any, where: str, needed: Sequence[str], optional: Sequence[str]) -> dict[str, Any]:
        if not isinstance(content, dict):
            raise self._wrong(where, f"must have the fields {', '.join((*needed, *optional))}; got {content!r}")
        for name in content:
            if name not in (*needed, *optional):
                raise self._wrong(where, str(unknown_name("field", str(name), (*needed, *optional))))
        if missing := [name for name in needed if name not in content]:
            raise self._wrong(where, f"lacks {', '.join(missing)}")
        return content

    def _named(self, content: Any, where: str, empty: bool = False) -> dict[str, Any]:
        if not isinstance(content, dict) or not (content or empty):
            raise self._wrong(where, f"must be NAME: FIELDS pairs, got {content!r}")
        return {self._name(name, where): value for name, value in content.items()}

    def _name(self, name: Any, where: str) -> str:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise self._wrong(
                where, f"{name!r} cannot name a folder: use lower-case letters, digits and single '-', '_', '.'"
            )
        return name

    def _text(self, value: Any, where: str) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self._wrong(where, f"must be a text, got {value!r}")
        return value

    def _texts(self, entry_list: Any, where: str) -> tuple[str, ...]:
        if not isinstance(entry_list, list) or not all(isinstance(value, str) for value in entry_list):
            raise self._wrong(where, f"must be a list of texts, got {entry_list!r}")
        if twice := [value for value in entry_list if entry_list.count(value) > 1]:
            raise self._wrong(where, f"{twice[0]} is given twice")
        return tuple(entry_list)

    def _seeds(self, seed_list: Any, where: str) -> tuple[int, ...]:
        good = isinstance(seed_list, list) and all(type(seed) is int and 0 <= seed < 2**32 for seed in seed_list)
        if not good or not seed_list or len(set(seed_list)) < len(seed_list):
            raise self._wrong(where, f"must be a list of different non-negative integers below 2^32, got {seed_list!r}")
        return tuple(seed_list)

    def _switch(self, value: Any, where: str) -> bool:
        if not isinstance(value, bool):
            raise self._wrong(where, f"must be true or false, got {value!r}")
        return value

    def _count(self, value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._wrong(where, f"must be a number of scenes, 0 or more, got {value!r}")
        return value

    def _minutes(self, value: Any, where: str) -> float | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise self._wrong(where, f"must be a positive number, got {value!r}")
        return float(value)

    def _wrong(self, where: str, fault: str) -> ConfigError:
        return ConfigError(f"{self.path}, {where}: {fault}")


def _no_argument(name: str, value: Any) -> str:
    """Return why a value cannot be written on a command line; empty if it can."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):  # a date, a set, a NaN
        return f"{name} must be a text, a number, true, false, null, a list or NAME: VALUE pairs, got {value!r}"
    return ""


def _as_argument(value: Any) -> str:
    """Return a value in the form for the command line."""
    return value if isinstance(value, str) else json.dumps(value)
