"""The data module: settings in, data loaders out."""

from __future__ import annotations

import inspect
import json
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader

from rrsis_zoo.data.aeriald import Expressions
from rrsis_zoo.data.dataset import RRSISDataset, collate
from rrsis_zoo.data.earthreason import Questions
from rrsis_zoo.data.foreground import check_foreground
from rrsis_zoo.data.foreign import ForeignSentences, foreign_records, none_foreign
from rrsis_zoo.data.identity import data_name, is_published
from rrsis_zoo.data.masks import LayerRule, MaskCleanup
from rrsis_zoo.data.nwpurefer import Language
from rrsis_zoo.data.records import Record, Split
from rrsis_zoo.data.rrsisd import TextField
from rrsis_zoo.data.samplers import DrawRule, ForeignSampler, SceneBatchSampler, TrainingSampler
from rrsis_zoo.data.scenes import share_scenes
from rrsis_zoo.data.sources import SOURCES, ReadOptions, locate
from rrsis_zoo.data.transforms import Augmentation, check_shares
from rrsis_zoo.errors import ConfigError, unknown_name
from rrsis_zoo.models.types import Batch
from rrsis_zoo.signals import leave_to_parent

_LONGEST_NAME = 100


class Identity(NamedTuple):
    """What a split is.

    Attributes:
        name: under which its results are reported.
        published: whether it is a complete split of a published dataset, with the published masks.
    """

    name: str
    published: bool


class RRSISDataModule(lightning.LightningDataModule):
    """A referring segmentation dataset for Lightning's trainer.

    Nothing is read before ``setup`` (or ``records``) is called. The trainer must run with
    ``use_distributed_sampler=False``: the loaders distribute the samples over the processes themselves. The same seed
    gives the same batches for any number of workers.

    Args:
        dataset: name of the dataset; ``folder`` reads a list of your own images (`rrsis_zoo.data.own`).
        name: under which results are reported. None for the dataset's name if the data are the published ones (see
            `rrsis_zoo.data.identity.is_published`), else their folder's name: your own data in RRSIS-D's layout are
            not RRSIS-D.
        root: its folder; None means ``datasets/<dataset>``. ``synthetic`` is generated if missing.
        batch_size: expressions per training step on each process; samples that do not fill a step are left out of
            that epoch.
        draw: ``samples`` draws expressions uniformly; ``references`` draws annotated referents with one of their
            sentences at random, like the LAVT family (no difference in the three published datasets, which have one
            sentence per referent); ``scenes`` draws scenes with all their expressions, which needs fewer images per
            step (not for losses that use the rows of a batch as each other's negatives).
        augment: augmentation of training samples: name -> share, see `rrsis_zoo.data.transforms.AUGMENTATIONS`. None
            for none, as published except for ``random_boxes: 0.2`` (RMSIN, and RS2-SAM2 on RRSIS-D).
        foreign_share: share of a training batch's sentences that have no referent: sentences of other scenes about a
            category that does not occur in this one (`rrsis_zoo.data.foreign`), with an empty mask. They are added to
            the ``batch_size`` expressions, about images of the batch; 0, as published, adds none.
        eval_batch_size: approximate number of expressions in an evaluation batch; scenes are never divided.
        num_workers: loading processes per loader; 0 loads in the main process.
        pin_memory: whether batches are put in page-locked memory; None for yes if there is a CUDA device.
        drop_empty: leave out samples without foreground, in every split. This changes the number of test samples.
        drop_no_target: leave out expressions that by the dataset's own word have no target (EarthReason, NWPU-Refer,
            ``folder``).
        questions: ``first`` of each image or ``all`` (EarthReason).
        expressions: kinds of expressions to read (Aerial-D).
        language: of the expressions (NWPU-Refer).
        merge: whether equal words about an image are one sample (NWPU-Refer).
        layers: how several layers of an annotation make one mask (RRSIS-D, RRSIS-HR, RIS-LAD).
        text: field of a sentence that is the expression (the same, and NWPU-Refer).
        threshold: a mask's foreground is above this grey level (RefSegRS, RISBench, EarthReason, ``folder``); None for
            the dataset's own rule: 50 in RefSegRS, else 0.
        mask_cleanup: ``none`` for the official masks; ``median3`` filters them, which changes every score.
        shuffle_expressions: give every training image another sample's expression: a control for what a method
            learns from words. Validation and test are unchanged.
        seed: order of the training samples, and of shuffled expressions; non-negative.
        fit_eval_split: split that is scored during training and by ``validate``; never ``test``, because checkpoints
            are selected on it.
        test_split: split that ``test`` scores; ``train``, for instance, to see whether a model can learn at all. None
            for ``test``, or ``val`` where the dataset has no test split (Aerial-D).
        predict_split: split that ``predict`` processes; None as for ``test_split``.

    Raises:
        ConfigError: an unknown name or a number out of range.

    Attributes:
        settings: the arguments that are not their defaults, as plain values; checkpoints keep them.
    """

    def __init__(
        self,
        dataset: str = "rrsis-d",
        root: str | None = None,
        name: str | None = None,
        batch_size: int = 8,
        draw: DrawRule = "samples",
        augment: dict[str, float] | None = None,
        foreign_share: float = 0.0,
        eval_batch_size: int = 8,
        num_workers: int = 2,
        pin_memory: bool | None = None,
        drop_empty: bool = False,
        drop_no_target: bool = False,
        questions: Questions = "first",
        expressions: Expressions = "all",
        language: Language = "en",
        merge: bool = True,
        layers: LayerRule = "sum_eq_1",
        text: TextField = "raw",
        threshold: int | None = None,
        mask_cleanup: MaskCleanup = "none",
        shuffle_expressions: bool = False,
        seed: int = 0,
        fit_eval_split: Literal["train", "val"] = "val",
        test_split: Split | None = None,
        predict_split: Split | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name in self.defaults()}
        super().__init__()
        _require("dataset", dataset, SOURCES)
        _require("draw", draw, ("samples", "references", "scenes"))
        check_shares(augment or {})
        _require("layers", layers, ("sum_eq_1", "any"))
        _require("questions", questions, get_args(Questions))
        _require("expressions", expressions, get_args(Expressions))
        _require("language", language, get_args(Language))
        _require("text", text, ("raw", "sent"))
        _require("mask_cleanup", mask_cleanup, ("none", "median3"))
        if fit_eval_split == "test":
            raise ConfigError(
                "fit_eval_split must not be 'test': checkpoints are chosen by it; use test_split for scores"
            )
        _require("fit_eval_split", fit_eval_split, ("train", "val"))
        last = SOURCES[dataset].splits[-1]
        test_split, predict_split = test_split or last, predict_split or last
        _require("test_split", test_split, ("train", "val", "test"))
        _require("predict_split", predict_split, ("train", "val", "test"))
        for setting, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("num_workers", num_workers, 0),
            ("seed", seed, 0),
        ):
            if value < least:
                raise ConfigError(f"{setting} must be at least {least}, got {value}")
        if not 0 <= foreign_share < 1:
            raise ConfigError(f"foreign_share must be at least 0 and below 1, got {foreign_share}")
        self.added = round(batch_size * foreign_share / (1 - foreign_share))
        if foreign_share and not self.added:
            raise ConfigError(
                f"foreign_share {foreign_share} adds no sentence to a batch of {batch_size}: set at least "
                f"{math.ceil(100 / (2 * batch_size + 1)) / 100:g}, or a larger batch_size"
            )
        if foreign_share and shuffle_expressions:
            raise ConfigError("foreign_share needs to know what is in a scene, which shuffle_expressions takes away")
        if name is not None and not (name.strip() and name.isprintable() and len(name) <= _LONGEST_NAME):
            raise ConfigError(f"name must be one line of at most {_LONGEST_NAME} characters, got {name[:100]!r}")
        changed = {name: value for name, value in given.items() if value != self.defaults()[name]}
        self.settings: dict[str, Any] = json.loads(json.dumps(changed, default=_plain))
        self.dataset = dataset
        self.root = root
        self.given_name = name
        self.batch_size = batch_size
        self.draw: DrawRule = draw
        self.augment = dict(augment or {})
        self.foreign_share = foreign_share
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.reading = ReadOptions(
            layers=layers,
            text=text,
            threshold=threshold,
            mask_cleanup=mask_cleanup,
            drop_empty=drop_empty,
            drop_no_target=drop_no_target,
            questions=questions,
            expressions=expressions,
            language=language,
            merge=merge,
        )
        SOURCES[dataset].check_options(self.reading)
        self.shuffle_expressions = shuffle_expressions
        self.seed = seed
        self.fit_eval_split: Split = fit_eval_split
        self.test_split: Split = test_split
        self.predict_split: Split = predict_split
        self._records: dict[Split, list[Record]] = {}
        self._identities: dict[Split, Identity] = {}
        self._start = (0, 0)

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the arguments with their defaults."""
        parameters = inspect.signature(RRSISDataModule.__init__).parameters
        return {name: parameter.default for name, parameter in parameters.items() if name != "self"}

    # -- contents ---------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check that the dataset's files exist, without reading them.

        Raises:
            MissingDataError: no root was given, or a part is missing from it.
        """
        source, root = SOURCES[self.dataset], self._root()
        if source.make is not None and not os.path.lexists(root):
            return  # it will be generated
        source.find(root)

    def prepare_data(self) -> None:
        """Generate a dataset that is embedded in the package, once (Lightning calls this on one process)."""
        source, root = SOURCES[self.dataset], self._root()
        if source.make is not None and not os.path.lexists(root):
            source.make(root)

    def setup(self, stage: str | None = None) -> None:
        """Read the splits that the stage needs (``fit``, ``validate``, ``test``, ``predict``, None for all).

        Raises:
            ConfigError: ``name`` is that of a published dataset, and a split is not from it.
            DataFormatError: all masks of a split to train on or score are empty; the message says why.
            MissingDataError, DataFormatError: as `records`.
        """
        needed: dict[str, tuple[Split, ...]] = {
            "fit": ("train", self.fit_eval_split),
            "validate": (self.fit_eval_split,),
            "test": (self.test_split,),
            "predict": (self.predict_split,),
        }
        for name in needed if stage is None else (stage,):
            for split in needed[name]:
                records = self.records(split)
                if name != "predict":  # images without annotation come with blank masks
                    check_foreground(records, split)
                if self.given_name is not None:
                    self.identity(split)  # refuses a name that it may not have

    def records(self, split: Split) -> list[Record]:
        """Return the records of a split, read on the first call.

        Raises:
            MissingDataError, DataFormatError: as the dataset's reader.
        """
        if split not in self._records:
            source, root = SOURCES[self.dataset], self._root()
            records = source.read(root, split, self.reading)
            if source.copies:
                records = share_scenes(root, records)
            if split == "train" and self.shuffle_expressions:
                records = shuffled(records, self.seed)
            self._records[split] = records
        return self._records[split]

    def identity(self, split: Split) -> Identity:
        """Return the name under which results on a split are reported, and whether it is a published split, unchanged.

        Raises:
            ConfigError: ``name`` is that of a published dataset, and the split is not from it.
            MissingDataError, DataFormatError: as `records`.
        """
        if split not in self._identities:
            source, root = SOURCES[self.dataset], self._root()
            names = [name for name, other in SOURCES.items() if other.card is not None]
            if source.card is None:  # as its layout says, in any folder; own data by their folder
                wanted = self.given_name or (None if source.own else self.dataset)
                published = as_published = False
                root = root.parent if source.own and root.is_file() else root
            else:
                changed = split == "train" and self.shuffle_expressions
                wanted, plain = self.given_name, ReadOptions()
                as_it_is = self.reading == plain and not changed
                records = self.records(split) if as_it_is else source.read(root, split, plain)
                published = is_published(source.card, split, records)
                # papers use either of RRSIS-D's two texts
                as_published = published and not changed and replace(self.reading, text=plain.text) == plain
            name = data_name(self.dataset, root, wanted, published, names)
            self._identities[split] = Identity(name, as_published and name == self.dataset)
        return self._identities[split]

    def reading_rule(self) -> str:
        """Return how a dataset is read that published programs read differently; empty if they agree."""
        card = SOURCES[self.dataset].card
        return card.reading.format(**asdict(self.reading)) if card is not None else ""

    def train_expressions(self) -> list[str]:
        """Return the expressions of the training split (what a tokenizer may be fitted on)."""
        return [record.expression for record in self.records("train")]

    def sample_ids(self, split: Split) -> list[str]:
        """Return the ids of all samples of a split, over all processes."""
        return [record.sample_id for record in self.records(split)]

    def foreign(self, split: Split) -> list[Record]:
        """Return the foreign sentences of a split for an evaluation, the same in every process and for every seed.

        There may be none where the dataset itself has expressions without a target.

        Raises:
            ConfigError: the split has neither such expressions nor a sentence that is foreign to any of its scenes.
            MissingDataError, DataFormatError: as `records`.
        """
        records = self.records(split)
        try:
            return foreign_records(records, SOURCES[self.dataset].categories)
        except ConfigError:
            if not any(record.no_target for record in records):
                raise
            return []

    # -- loaders -----------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[Any]:
        """Return batches of ``batch_size`` expressions in a new order every epoch, with the foreign ones after them.

        Raises:
            ConfigError: fewer training samples than one step takes, or no sentence that is foreign to any scene.
        """
        records = self.records("train")
        references = [record.reference_id for record in records]
        augmentation = Augmentation(self.augment, self.seed, references) if self.augment else None
        foreign = ForeignSentences(records, SOURCES[self.dataset].categories) if self.added else None
        dataset = RRSISDataset(records, augmentation, foreign, self.seed)
        rank, world_size = self._process()
        groups = {"samples": [], "references": references, "scenes": [record.scene_id for record in records]}
        order = (dataset, self.seed, rank, world_size, self.draw, groups[self.draw])
        sampler = TrainingSampler(*order)
        if len(sampler) < self.batch_size:
            where = f" on {world_size} processes" if world_size > 1 else ""
            most = f"--data.batch_size {len(sampler)} or less" if len(sampler) else "add data, or use fewer processes"
            raise ConfigError(
                f"batch_size {self.batch_size}{where} needs {self.batch_size * world_size} training samples, there are "
                f"{len(sampler) * world_size}: {most}"
            )
        if foreign is not None:
            hosts = [foreign.hosts(record.scene_id) for record in records]
            if not any(hosts):
                raise none_foreign(records)
            sampler = ForeignSampler(*order, batch=self.batch_size, extra=self.added, hosts=hosts)
        epoch, batches = self._start
        if batches:
            sampler.start_at(epoch, batches * self.batch_size)
        return self._loader(dataset, sampler=sampler, batch_size=self.batch_size + self.added, drop_last=True)

    def start_at(self, epoch: int, batches: int) -> None:
        """Let the next training loader continue within an epoch, after this number of batches on each process."""
        self._start = (epoch, batches)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return every sample of ``fit_eval_split`` once, in batches of whole scenes."""
        return self._eval_loader(self.fit_eval_split)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return every sample of ``test_split`` once, in batches of whole scenes."""
        return self._eval_loader(self.test_split)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return every sample of ``predict_split`` once, in batches of whole scenes."""
        # Lightning asks custom batch samplers to return all indices; this one does.
        warnings.filterwarnings("ignore", message=".*custom batch sampler `SceneBatchSampler` for prediction")
        return self._eval_loader(self.predict_split)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch to the device, without waiting if it is in page-locked memory."""
        return batch.to(device, non_blocking=device.type == "cuda")

    def batches(self, records: Sequence[Record]) -> DataLoader[Any]:
        """Return some records of a split once, in batches of whole scenes."""
        return self._eval_loader_of(records)

    @property
    def root_folder(self) -> Path:
        """Folder of the dataset."""
        return self._root()

    def _eval_loader(self, split: Split) -> DataLoader[Any]:
        return self._eval_loader_of(self.records(split))

    def _eval_loader_of(self, records: Sequence[Record]) -> DataLoader[Any]:
        dataset = RRSISDataset(records)
        rank, world_size = self._process()
        scenes = [record.scene_id for record in dataset.records]
        return self._loader(dataset, batch_sampler=SceneBatchSampler(scenes, self.eval_batch_size, rank, world_size))

    def _loader(self, dataset: RRSISDataset, **order: Any) -> DataLoader[Any]:
        pin_memory = torch.cuda.is_available() if self.pin_memory is None else self.pin_memory
        # Its own generator seeds the workers, so that their number does not affect the global one.
        generator = torch.Generator().manual_seed(self.seed + self._process()[0])
        return DataLoader(
            dataset,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=pin_memory,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=leave_to_parent,
            generator=generator,
            **order,
        )

    def _process(self) -> tuple[int, int]:
        """Return (rank, number of processes)."""
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    def _root(self) -> Path:
        return locate(self.dataset, self.root)


def shuffled(records: list[Record], seed: int) -> list[Record]:
    """Return the records with their expressions permuted among all of them."""
    order = np.random.default_rng((seed, len(records))).permutation(len(records))
    return [replace(r, expression=records[i].expression, kind=None) for r, i in zip(records, order, strict=True)]


def _require(setting: str, value: str, known: Any) -> None:
    if value not in known:
        raise unknown_name(setting, value, known)


def _plain(value: Any) -> Any:
    """Return what JSON has in place of a value: a number for numpy's, text for a path."""
    return value.item() if isinstance(value, np.generic) else str(value)
