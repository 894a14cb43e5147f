"""Own and foreign sentences answered together: the record of a test, and what a calibration is fitted to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor

from rrsis_zoo.data.annotations import annotations_hash
from rrsis_zoo.data.foreign import SEED
from rrsis_zoo.data.records import Record
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.files import make_folder, write_json
from rrsis_zoo.metrics.presence import ANSWERS, SUMMARY, Answer, Answers, presence_metrics, write_answers
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.presence import EVIDENCE, OWN, Calibration, calibration_at, evidence_of
from rrsis_zoo.models.types import Batch, Prediction, TextMode
from rrsis_zoo.pretrained.whole import find_whole, is_whole
from rrsis_zoo.provenance import code_version
from rrsis_zoo.training.module import Answer as Output
from rrsis_zoo.training.module import RRSISModule
from rrsis_zoo.weights.checkpoints import weights_hash


class Row(NamedTuple):
    """One answer.

    Attributes:
        foreign: whether the sentence is a foreign one.
        place: of the sentence among the own or the foreign ones of the split.
        referent: whether it has a referent.
        predicted: pixels of the predicted mask.
        evidence: see `rrsis_zoo.models.presence.evidence`.
    """

    foreign: bool
    place: int
    referent: bool
    predicted: int
    evidence: list[float]


@dataclass(frozen=True)
class Answered:
    """All answers, in the order of the split.

    Attributes:
        own, foreign: rows of the two kinds of sentences.
    """

    own: Sequence[Row]
    foreign: Sequence[Row]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Answered:
        """Sort answers from any number of processes."""
        ordered = sorted(rows, key=lambda row: (row.foreign, row.place))
        return cls([row for row in ordered if not row.foreign], [row for row in ordered if row.foreign])

    def evidence(self, foreign: bool) -> NDArray[np.float64]:
        """Return the evidence (N, K) of the foreign sentences, or of the own ones that have a referent."""
        return np.array([row.evidence for row in (self.foreign if foreign else self.own) if row.referent != foreign])


class Asking:
    """Asks a model its batches' own sentences and, on the same image encoding, the foreign ones of their scenes.

    Args:
        model: in evaluation mode.
        records: of the split.
        foreign: its foreign sentences, `rrsis_zoo.data.foreign.foreign_records`.
    """

    def __init__(self, model: ReferringSegmenter, records: Sequence[Record], foreign: Sequence[Record]) -> None:
        self.model = model
        self.records, self.foreign = records, foreign
        self._own = {record.sample_id: (place, record.scene_id) for place, record in enumerate(records)}
        self._of_scene: dict[str, list[int]] = {}
        for place, record in enumerate(foreign):
            self._of_scene.setdefault(record.scene_id, []).append(place)
        self.rows: list[Row] = []

    def add(self, batch: Batch, prediction: Prediction, native: Iterable[Tensor], text_mode: TextMode) -> None:
        """Take the answers to the batch's own sentences, and ask the foreign ones.

        Args:
            batch: of whole scenes, with masks.
            prediction: the model's for it.
            native: its log-odds at native size.
            text_mode: of both.

        Raises:
            ConfigError: answers that are not finite.
        """
        assert batch.masks is not None
        names = [self._own[name] for name in batch.sample_ids]
        own = [(False, place, bool(mask.any())) for (place, _), mask in zip(names, batch.masks, strict=True)]
        self._take(own, prediction, native)
        scenes = {int(image): scene for (_, scene), image in zip(names, batch.image_index.tolist(), strict=True)}
        asked = [(image, place) for image, scene in scenes.items() for place in self._of_scene.get(scene, [])]
        if not asked:
            return
        index = torch.tensor([image for image, _ in asked], dtype=torch.int64, device=self.model.device)
        tokens = self.model.tokenize([self.foreign[place].expression for _, place in asked], text_mode)
        done = 0
        for part in self.model.refer_in_groups(prediction.state, tokens, index):
            mine = [(True, place, False) for _, place in asked[done : done + len(part)]]
            self._take(mine, part, self.model.restore_each(part))
            done += len(part)

    def _take(self, what: Sequence[tuple[bool, int, bool]], prediction: Prediction, native: Iterable[Tensor]) -> None:
        found: list[Tensor] = []
        for n, logits in enumerate(native):  # each map once: it may be large
            (numbers,) = evidence_of(prediction[n : n + 1], [logits])
            found.append(torch.cat([torch.count_nonzero(logits > 0).double()[None], numbers]))
        if not found:
            return
        for (foreign, place, referent), (predicted, *numbers) in zip(what, torch.stack(found).tolist(), strict=True):
            if not all(map(math.isfinite, numbers)):
                name = (self.foreign if foreign else self.records)[place].sample_id
                raise ConfigError(
                    f"the answer to {name} is not finite; evaluate in full precision (trainer.precision 32-true), or "
                    "check the weights"
                )
            self.rows.append(Row(foreign, place, referent, int(predicted), numbers))


class PresenceRecord(Callback):
    """Also asks foreign sentences in a test; writes ``test_presence.json`` and the answers behind every number.

    The usual numbers and files are not affected. Every image is encoded once for both kinds of sentences.

    Args:
        foreign: whether to ask them; None for only if there is a calibration beside the weights. Without one, an answer
            says that there is no referent by an empty mask.
    """

    def __init__(self, foreign: bool | None = None) -> None:
        self.foreign = foreign
        self._asking: Asking | None = None
        self._calibration: Calibration | None = None

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the calibration; the weights are in place by now."""
        module, data = cast(RRSISModule, pl_module), cast(Any, trainer).datamodule
        self._asking = self._calibration = None
        if self.foreign is False:
            return
        if (place := _place(trainer, module)) is not None:
            self._calibration = calibration_at(place, lambda: weights_hash(module.model))
        if self.foreign is None and self._calibration is None:
            return
        try:
            foreign = data.foreign(data.test_split)
        except ConfigError as error:
            if self.foreign:
                raise
            rank_zero_warn(f"presence is not tested: {error}")  # nobody asked for it; the scores are worth having
            return
        self._asking = Asking(module.model, data.records(data.test_split), foreign)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take the answers of a batch, and ask its foreign sentences in the precision of the test."""
        output = cast(Output, outputs)
        if self._asking is None or output.prediction is None:
            return
        with trainer.precision_plugin.test_step_context():
            mode = cast(RRSISModule, pl_module).protocol.text_mode
            self._asking.add(batch, output.prediction, output.native, mode)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the answers of all processes; the first one writes them."""
        if self._asking is None:
            return
        asking, self._asking = self._asking, None
        rows = _of_all(asking.rows)
        folder = make_folder(trainer.log_dir or trainer.default_root_dir)
        if not trainer.is_global_zero:
            return
        module, data = cast(RRSISModule, pl_module), cast(Any, trainer).datamodule
        answered = Answered.of(rows)
        answers = answers_of(answered, asking, self._calibration)
        metrics = presence_metrics(answers)
        own, foreign = ([rows[r.place] for r in mine] for rows, mine in (
            (asking.records, answered.own), (asking.foreign, answered.foreign),
        ))  # fmt: skip
        record = {
            "model": module.model.name,
            "weights_sha256": weights_hash(module.model),
            "dataset": data.identity(data.test_split).name,
            "split": data.test_split,
            "text_mode": module.protocol.text_mode,
            "seed": SEED,
            "rule": "empty masks" if self._calibration is None else "calibration",
            "threshold": answers.threshold,
            "n_own": len(answers.of(foreign=False)),
            "n_foreign": len(foreign),
            "n_scenes": len({r.scene_id for r in own}),
            "partial": None if len(own) == len(asking.records) else {"n": len(own), "of": len(asking.records)},
            "metrics": metrics,
            "calibration": _described(self._calibration),
            "annotations_sha256": annotations_hash(own),
            "foreign_sha256": annotations_hash(foreign),
            "code": code_version(),
        }
        write_json(folder / SUMMARY, record)
        write_answers(folder / ANSWERS, answers)
        known = {title: metrics[name] for name, title in _TITLES.items()}
        shown = ", ".join(f"{title} {m['value']:.1f} %" for title, m in known.items() if m is not None)
        print(f"wrote {folder / SUMMARY} and {ANSWERS}: {shown}")


_TITLES = {"t_acc": "T-acc", "n_acc": "N-acc", "auc": "AUC"}


def answers_of(answered: Answered, asking: Asking, calibration: Calibration | None) -> Answers:
    """Describe answers, with their presence if there is a calibration."""
    lines: list[Answer] = []
    for rows, records in ((answered.own, asking.records), (answered.foreign, asking.foreign)):
        numbers = np.array([row.evidence for row in rows])
        known = calibration is not None and len(rows)
        presence = cast(Calibration, calibration).presence(numbers).tolist() if known else [None] * len(rows)
        for row, value in zip(rows, presence, strict=True):
            record = records[row.place]
            lines.append(
                Answer(
                    sample_id=record.sample_id,
                    scene_id=record.scene_id,
                    expression=record.expression,
                    category=record.category,
                    foreign=row.foreign,
                    referent=row.referent,
                    predicted=row.predicted,
                    evidence=dict(zip((*EVIDENCE, OWN), row.evidence, strict=False)),
                    presence=value,
                )
            )
    return Answers(lines, None if calibration is None else calibration.threshold)


def _described(calibration: Calibration | None) -> dict[str, Any] | None:
    """Return what a calibration is from, for the record of a test."""
    if calibration is None:
        return None
    kept = ("dataset", "split", "text_mode", "own", "foreign", "false_alarms", "auc", "annotations_sha256")
    content = json.loads(calibration.text())
    return {name: content[name] for name in kept}


def _place(trainer: Trainer, module: RRSISModule) -> Path | None:
    """Return the file or folder that the tested weights are from."""
    if trainer.ckpt_path is not None:
        return Path(trainer.ckpt_path)
    weights = module.hparams["weights"]
    return find_whole(weights, module.model.card) if is_whole(weights) else None


def _of_all(rows: list[Row]) -> list[Row]:
    """Return the rows of all processes, which must call it together."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, rows)
    return [row for part in gathered for row in part]
