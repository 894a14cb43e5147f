"""Output of a run: the record of a test, a figure of its predictions, the masks of a prediction."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TextIO, cast

import numpy as np
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from pycocotools import mask as coco
from torch import Tensor

from rrsis_zoo.data.annotations import annotations_hash
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.foreground import check_foreground
from rrsis_zoo.data.records import Record
from rrsis_zoo.errors import OutputError
from rrsis_zoo.figures import Shown, prediction_figure
from rrsis_zoo.files import cannot_write, make_folder, write_json, writing
from rrsis_zoo.metrics.breakdown import breakdown, evaluate, no_target_text, without_nan
from rrsis_zoo.metrics.protocol_table import protocol_table
from rrsis_zoo.metrics.protocols import Protocol
from rrsis_zoo.metrics.samples import Samples, Subject, write_samples
from rrsis_zoo.models.base import count_parameters
from rrsis_zoo.models.marks import marks_of
from rrsis_zoo.models.types import Batch
from rrsis_zoo.provenance import code_version
from rrsis_zoo.training.module import Answer, RRSISModule
from rrsis_zoo.weights.checkpoints import weights_hash


def _folder(trainer: Trainer) -> Path:
    return make_folder(trainer.log_dir or trainer.default_root_dir)


class TestRecord(Callback):
    """Writes ``test.json`` (the results and what they depend on) and ``test_samples.jsonl.gz`` (one line per sample).

    A line holds the sample's description and counts, see ``rrsis_zoo.metrics.samples``; every result of the test's own
    protocol can be recomputed from the lines.

    Args:
        protocols: those to print side by side and to write into ``test.json`` as ``protocols``, besides the test's own;
            the module counts under them (`RRSISModule.score_under`).
    """

    __test__ = False  # tells pytest that this is not a test

    def __init__(self, protocols: Sequence[Protocol] = ()) -> None:
        self.protocols = tuple(protocols)
        self._replies: dict[str, Reply] = {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning hook."""
        self._replies = {}

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what a language model wrote, if the method asks one."""
        prediction = cast(Answer, outputs).prediction
        if prediction is not None and prediction.prompts.replies is not None:
            failed = prediction.prompts.aux["failed"].bool().tolist()
            found = prediction.prompts.aux["instances"].tolist()
            self._replies |= {
                name: Reply(text, bad, count)
                for name, text, bad, count in zip(
                    batch.sample_ids, prediction.prompts.replies, failed, found, strict=True
                )
            }

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning hook; every rank takes part in gathering, rank 0 writes the files."""
        module, data = cast(RRSISModule, pl_module), cast(Any, trainer).datamodule
        names, counts = module.metrics.results()
        others = [(protocol, module.results_under(protocol)) for protocol in self.protocols]
        folder, replies = _folder(trainer), gathered(self._replies)
        if not trainer.is_global_zero:
            return
        by_id = {record.sample_id: record for record in data.records(data.test_split)}
        subjects = [subject(by_id[name], replies.get(name)) for name in names]
        samples = Samples(subjects, counts)
        record = {
            "model": module.model.name,
            "preset": module.hparams["preset"],
            "untrained": not module.trained,
            **scored(samples, module.protocol, data),
            "parameters": asdict(count_parameters(module.model)),
            "weights_sha256": weights_hash(module.model),
            "lineage": module.lineage.plain(),
            "precision": str(trainer.precision),
        }
        if module.binarise != "half":
            record["binarise"] = module.binarise
        if replies:
            record["replies"] = counted([replies[name] for name in names])
        if others:
            record["protocols"] = {p.name: under(p, Samples(subjects, counts)) for p, (_, counts) in others}
            print(protocol_table([{"protocol": name, **result} for name, result in record["protocols"].items()]))
        write_json(folder / "test.json", record)
        write_samples(folder / "test_samples.jsonl.gz", samples)
        for line in (no_target_text(record["breakdown"], record["n"]), record.get("reading_rule", "")):
            if line:
                print(line)
        print(f"wrote {folder / 'test.json'} and test_samples.jsonl.gz")


def scored(samples: Samples, protocol: Protocol, data: RRSISDataModule) -> dict[str, Any]:
    """Return the results of a test and what they depend on besides the model, as in ``test.json``.

    ``partial`` is None for a test on the whole split, else the number of tested and of all samples; everything else
    then refers to the part. ``dataset`` is the data's own name, ``layout`` the dataset whose files they look like,
    ``published_split`` whether they are its published split.

    Args:
        samples: of the test split, or a part of it.
        protocol: of the test.
        data: whose ``test_split`` was tested.
    """
    split = data.records(data.test_split)
    tested = {subject.sample_id for subject in samples.subjects}
    records = [record for record in split if record.sample_id in tested]
    metrics = evaluate(samples, protocol)
    identity = data.identity(data.test_split)
    rule = data.reading_rule()
    return {
        "protocol": protocol.name,
        "eval_size": protocol.eval_size,
        "text_mode": protocol.text_mode,
        "dataset": identity.name,
        "layout": data.dataset,
        "published_split": identity.published,
        "split": data.test_split,
        "n": metrics["n"],
        "n_empty": sum(r.is_empty for r in records),
        "partial": None if len(records) == len(split) else {"n": len(records), "of": len(split)},
        "reading": asdict(data.reading),
        **({"reading_rule": rule} if rule else {}),
        "metrics": without_nan(metrics),
        "breakdown": without_nan(breakdown(samples, protocol)),
        "annotations_sha256": annotations_hash(records),
        "code": code_version(),
    }


def under(protocol: Protocol, samples: Samples) -> dict[str, Any]:
    """Return the scores of a test under one protocol, as in ``protocols`` of ``test.json``.

    Args:
        protocol: the conventions.
        samples: counted on the protocol's grid, in its text mode.
    """
    conventions = {"eval_size": protocol.eval_size, "text_mode": protocol.text_mode}
    return {**conventions, **without_nan(evaluate(samples, protocol))}


class Reply(NamedTuple):
    """What a language model wrote about a sample.

    Attributes:
        text: its reply.
        unreadable: whether it could not be read.
        instances: that it lists.
    """

    text: str
    unreadable: bool
    instances: int


def counted(replies: Sequence[Reply]) -> dict[str, int]:
    """Return how many replies list an instance, say that there is none, and cannot be read; together all samples."""
    return {
        "answered": sum(reply.instances > 0 for reply in replies),
        "no_target": sum(not reply.instances and not reply.unreadable for reply in replies),
        "unreadable": sum(reply.unreadable for reply in replies),
    }


def gathered(replies: dict[str, Reply]) -> dict[str, Reply]:
    """Return the replies of all processes."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return replies
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, replies)
    return {name: Reply(*reply) for part in parts for name, reply in part.items()}


def subject(record: Record, reply: Reply | None = None) -> Subject:
    """Return the description of a sample in per-sample results."""
    return Subject(
        sample_id=record.sample_id,
        scene_id=record.scene_id,
        expression=record.expression,
        category=record.category,
        category_source=record.category_source,
        kind=record.kind,
        reply=None if reply is None else reply.text,
        unreadable=None if reply is None else reply.unreadable,
    )


class PredictionFigure(Callback):
    """Writes ``predictions.png``: a few test samples, evenly spaced in the split.

    Args:
        samples: their number.
    """

    def __init__(self, samples: int = 6) -> None:
        self.samples = samples
        self._wanted: frozenset[str] = frozenset()
        self._rows: list[Shown] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose evenly spaced samples of the split."""
        data = cast(Any, trainer).datamodule
        self._wanted = frozenset(spread(data.sample_ids(data.test_split), self.samples))

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the chosen samples."""
        if not trainer.is_global_zero:
            return
        self._rows += [
            shown(cast(Answer, outputs), batch, n) for n, name in enumerate(batch.sample_ids) if name in self._wanted
        ]

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning hook."""
        folder = _folder(trainer)
        if trainer.is_global_zero and self._rows:
            data = cast(Any, trainer).datamodule
            module = cast(RRSISModule, pl_module)
            path = folder / "predictions.png"
            of = f"{data.identity(data.test_split).name} {data.test_split}"
            prediction_figure(self._rows, path, f"{module.model.name} ({module.hparams['preset']}), {of}")
            print(f"wrote {path}")
        self._rows = []


def spread(ids: Sequence[str], count: int) -> list[str]:
    """Return ``count`` evenly spaced ids including the first and the last; all ids if there are not more."""
    count = min(count, len(ids))
    return [ids[(len(ids) - 1) * i // max(1, count - 1)] for i in range(count)]


def shown(answer: Answer, batch: Batch, n: int) -> Shown:
    """Return expression n of a batch as a row of a figure."""
    image = batch.images[int(batch.image_index[n])]
    assert answer.prediction is not None  # the batch has an expression
    return Shown(
        image=image.permute(1, 2, 0).cpu().numpy(),
        expression=batch.expressions[n],
        heatmap=answer.prediction.prompts.heatmap[n, 0].float().cpu().numpy(),
        mask=(answer.native[n] > 0).cpu().numpy(),
        truth=None if batch.masks is None else batch.masks[n].cpu().numpy(),
        marks=marks_of(answer.prediction.prompts, n),
    )


class PredictionWriter(Callback):
    """Writes ``predictions.jsonl``: one line per sample with its mask as COCO run-length code at native size.

    With several processes each writes its own part, ``predictions.RANK.jsonl``. A file gets this name only when it is
    complete: until then it is a hidden ``.part`` file in the same folder, which is removed if the run ends early.

    Args:
        targets: whether the true masks are written too, likewise, as ``targets.jsonl``: what ``rrsis score`` needs.
    """

    def __init__(self, targets: bool = False) -> None:
        self.targets = targets
        self._open = contextlib.ExitStack()  # closes the unfinished files
        self._paths: list[Path] = []
        self._files: list[TextIO] = []
        self._records: dict[str, Record] = {}

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the files.

        Raises:
            OutputError: one of them cannot be written.
            DataFormatError: true masks are wanted, but all of them are empty.
        """
        if self.targets:
            data = cast(RRSISDataModule, cast(Any, trainer).datamodule)
            records = data.records(data.predict_split)
            check_foreground(records, data.predict_split)  # images without annotation come with blank masks
            self._records = {record.sample_id: record for record in records}
        part = "" if trainer.world_size == 1 else f".{trainer.global_rank}"
        names = ("predictions", "targets") if self.targets else ("predictions",)
        self._paths = [_folder(trainer) / f"{name}{part}.jsonl" for name in names]
        temporary = [self._open.enter_context(writing(path)) for path in self._paths]
        # a lone surrogate becomes a question mark
        self._files = [self._open.enter_context(t.open("w", encoding="utf-8", errors="replace")) for t in temporary]

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write a batch.

        Raises:
            OutputError: it cannot be written.
        """
        said = [{"sample_id": s, "expression": e} for s, e in zip(batch.sample_ids, batch.expressions, strict=True)]
        lines = [_line(facts, logits > 0) for facts, logits in zip(said, cast(Answer, outputs).native, strict=True)]
        with cannot_write(self._paths[0]):
            self._files[0].writelines(lines)
        if self.targets:
            subjects = [asdict(subject(self._records[name])) for name in batch.sample_ids]
            known = [{name: value for name, value in facts.items() if value is not None} for facts in subjects]
            lines = [_line(facts, mask) for facts, mask in zip(known, batch.masks, strict=True)]
            with cannot_write(self._paths[1]):
                self._files[1].writelines(lines)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finish the files.

        Raises:
            OutputError: one of them cannot be written.
        """
        with self._open:
            for file in self._files:
                file.flush()  # after an error nothing remains of the files
        print("\n".join(f"wrote {path}" for path in self._paths))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove unfinished files."""
        self._give_up()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove unfinished files."""
        self._give_up()

    def _give_up(self) -> None:
        with contextlib.suppress(_Unfinished, OutputError), self._open:
            raise _Unfinished


def _line(facts: Mapping[str, Any], mask: Tensor) -> str:
    """Return a line about a mask, bool (H, W)."""
    code = coco.encode(np.asfortranarray(mask.cpu().numpy().astype(np.uint8)))
    counts = cast(bytes, code["counts"]).decode("ascii")
    return json.dumps({**facts, "size": [int(v) for v in code["size"]], "counts": counts}, ensure_ascii=False) + "\n"


class _Unfinished(Exception):
    """Makes the writer discard unfinished files."""
