"""Ask a model everything about a split: rungs and probes, on images that are encoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rrsis_zoo.data.records import Record
from rrsis_zoo.data.synthetic.contents import Contents
from rrsis_zoo.diagnosis.ladder import Asked, best_prompts, climb, joined, missing_rungs
from rrsis_zoo.diagnosis.ladder_names import RUNGS, STOCK
from rrsis_zoo.diagnosis.mistakes import CLASSES
from rrsis_zoo.diagnosis.places import hit
from rrsis_zoo.diagnosis.probes import Change, Scene, changes_of, noun_is_unique
from rrsis_zoo.diagnosis.records import Count, Line, Object, Probe, sparse_bins
from rrsis_zoo.diagnosis.reliability import at_thresholds, histogram
from rrsis_zoo.diagnosis.stock import Stock
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.figures import Shown
from rrsis_zoo.metrics.expected import expected_mask
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.presence import evidence_of, presence_of
from rrsis_zoo.models.types import Batch, ImageState, Prediction, Prompts

AT_ONCE = 8
"""Sentences whose best prompts are looked for together."""

WORST = 1
"""Answers of each class that are shown."""

NO_STOCK = "{} starts from no SAM that takes points and boxes, and --stock names none"
"""Why there is no answer of a stock SAM."""

SAME_OBJECT = 0.5
"""IoU from which the masks of two sentences are taken to be of one object."""


@dataclass(frozen=True)
class Plan:
    """What is asked.

    Attributes:
        rungs: some of ``RUNGS``.
        probes: some of ``PROBES``.
        stock: the stock SAM; None for none of its rungs.
        best: the best prompts are looked for for one sentence in every k-th scene, about this many in all.
        seed: of the random order of words, and of the sentences of other scenes.
    """

    rungs: Sequence[str] = tuple(RUNGS)
    probes: Sequence[str] = ()
    stock: Stock | None = None
    best: int = 16
    seed: int = 0


@dataclass
class Collected:
    """All answers.

    Attributes:
        lines: one per sample with a referent, in the order of the split.
        missing: rung -> why it does not exist for this model.
        left_out: what cannot be known for these data -> why.
        empty: samples without a referent, which have no ladder.
        worst: class of mistake -> its worst answers with their IoU, the worst first.
    """

    lines: list[Line] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    empty: int = 0
    worst: dict[str, list[tuple[float, Shown]]] = field(default_factory=dict)

    def gallery(self) -> list[Shown]:
        """Return the worst answers of each class but the good ones, in the order of the classes."""
        return [shown for name in CLASSES if name != "good" for _, shown in self.worst.get(name, [])]


@dataclass(frozen=True)
class _Scene:
    """What is asked about an image.

    Attributes:
        image: its place in the batch.
        records, truth: its own sentences that have a referent, and their masks.
        known: what is in it.
        chosen: the sentence that is changed.
        changes: the changed sentences.
    """

    image: int
    records: Sequence[Record]
    truth: Sequence[Tensor]
    known: Scene
    chosen: int
    changes: Sequence[Change]

    @property
    def sentences(self) -> list[str]:
        """All sentences, the own ones first."""
        return [*self.known.sentences, *(change.sentence for change in self.changes)]


class Diagnosis:
    """Asks one model about one split.

    Args:
        model: in evaluation mode.
        records: of the whole split.
        contents: what is in every scene, by image file; None if the data do not say.
        plan: what is asked.
    """

    def __init__(
        self,
        model: ReferringSegmenter,
        records: Sequence[Record],
        contents: Mapping[str, Contents] | None,
        plan: Plan,
    ) -> None:
        self.model, self.plan = model, plan
        self.records = {record.sample_id: record for record in records}
        self.contents = contents
        self.collected = Collected()
        self._scenes = list(dict.fromkeys(record.scene_id for record in records))
        self._number = {scene: i for i, scene in enumerate(self._scenes)}
        self._sentences = [(record.scene_id, record.expression, record.category) for record in records]
        every = max(1, len(self._scenes) // max(1, plan.best))
        self._for_best = {*range(0, len(self._scenes), every)}
        self._waiting: list[tuple[Asked, int]] = []  # each of one sentence, with the place of its line
        if contents is None:
            self.collected.left_out["anchor"] = "these data do not say which other objects a sentence mentions"

    def add(self, batch: Batch) -> None:
        """Ask about a batch of whole scenes, with masks: own and changed sentences of all of them at once."""
        with torch.no_grad():  # not inference mode: the best prompts need gradients of the same encoding
            state = self.model.encode_image(batch.images)
            scenes = [scene for image in range(len(batch.images)) if (scene := self._asked(batch, image)) is not None]
            sentences = [sentence for scene in scenes for sentence in scene.sentences]
            if not sentences:
                return
            index = torch.tensor([scene.image for scene in scenes for _ in scene.sentences], device=self.model.device)
            prediction = self.model.refer(state, self.model.tokenize(sentences, "independent"), index)
            done = 0
            for scene in scenes:
                rows = slice(done, done + len(scene.sentences))
                self._scene(scene, batch.images[scene.image], prediction[rows])
                done = rows.stop

    def _asked(self, batch: Batch, image: int) -> _Scene | None:
        """Return what is asked about an image; None if no sentence about it has a referent."""
        assert batch.masks is not None
        rows = [n for n, i in enumerate(batch.image_index.tolist()) if i == image]
        full = [n for n in rows if bool(batch.masks[n].any())]
        self.collected.empty += len(rows) - len(full)
        if not full:
            return None
        records = [self.records[batch.sample_ids[n]] for n in full]
        contents = None if self.contents is None else self.contents.get(records[0].image_file)
        known = Scene([batch.expressions[n] for n in full], [record.category for record in records], contents)
        number = self._number[records[0].scene_id]
        chosen = number % len(records)  # asked more about; a different one from scene to scene
        rng = np.random.default_rng((self.plan.seed, number))
        changes: list[Change] = []
        if self.plan.probes:
            elsewhere = self._elsewhere(records[chosen], known, rng)
            changes = changes_of(records[chosen], known, elsewhere, self.plan.probes, rng)
        return _Scene(image, records, [batch.masks[n] for n in full], known, chosen, changes)

    # -- one scene ---------------------------------------------------------------------------------------------------

    def _scene(self, scene: _Scene, image: Tensor, answers: Prediction) -> None:
        """Take the answers to a scene's own sentences, and to the changed ones after them."""
        logits = list(self.model.restore_each(answers))
        if not all(bool(one.isfinite().all()) for one in logits):
            raise ConfigError(f"answers of {self.model.name} are not finite: use full precision, or check the weights")
        records, truth, own = scene.records, scene.truth, len(scene.records)
        presence = self._presence(answers, logits)
        prediction = answers[:own]
        asked = Asked(self.model, prediction, logits[:own], truth)
        masks, for_best = self._rungs(asked, image, records[0].scene_id)
        frame, heats = asked.frame(), asked.heats()
        n = scene.chosen
        probes = [
            self._probe(change, scene.known, mask > 0, logits[n] > 0, truth[n], here)
            for change, mask, here in zip(scene.changes, logits[own:], presence[own:], strict=True)
        ]
        if for_best:
            index = torch.zeros(1, dtype=torch.int64, device=self.model.device)
            alone = replace(prediction[n : n + 1], state=_one_image(prediction.state, scene.image), image_index=index)
            one = Asked(self.model, alone, [logits[n]], [truth[n]])
            self._waiting.append((one, len(self.collected.lines) + n))
        for n, record in enumerate(records):
            g = truth[n].cpu().numpy()
            p = logits[n].float().cpu().numpy()
            area = int(g.sum())
            expected = expected_mask(logits[n])
            line = Line(
                sample_id=record.sample_id,
                scene_id=record.scene_id,
                expression=record.expression,
                category=record.category,
                kind=record.kind,
                height=g.shape[0],
                width=g.shape[1],
                truth=area,
                hit=hit(heats[n], g, frame),
                rungs={name: _count(found[n], truth[n]) for name, found in masks.items()},
                best_step=None,
                others=self._others(record, logits[n] > 0, truth[n], scene),
                bins=sparse_bins(histogram(p, g)),
                thresholds=at_thresholds(logits[n].float().sigmoid().cpu().numpy(), g),
                expected=_count(expected, truth[n]),
                presence=presence[n],
                noun_is_unique=noun_is_unique(record, scene.known),
                probes=probes if n == scene.chosen else [],
            )
            self.collected.lines.append(line)
            self._keep(line, image, heats[n], logits[n] > 0, truth[n])

    def _keep(self, line: Line, image: Tensor, heat: NDArray[np.float64], mask: Tensor, truth: Tensor) -> None:
        """Keep an answer if it is among the worst of its class."""
        found = self.collected.worst.setdefault(line.mistake, [])
        if len(found) == WORST and line.iou >= found[-1][0]:
            return
        pixels = image.permute(1, 2, 0).cpu().numpy()
        shown = Shown(
            pixels,
            f"{line.mistake}: {line.expression}",
            heat.astype(np.float32),
            mask.cpu().numpy(),
            truth.cpu().numpy(),
        )
        found.append((line.iou, shown))
        found.sort(key=lambda one: one[0])
        del found[WORST:]

    def settle(self, at_least: int = 1) -> None:
        """Look for the best prompts of the sentences that wait for it, if there are so many."""
        if len(self._waiting) < at_least:
            return
        lines = self.collected.lines
        alike: dict[tuple[object, ...], list[tuple[Asked, int]]] = {}  # words of two batches are padded differently
        for one, place in self._waiting:
            alike.setdefault(_shapes(one.prediction.prompts), []).append((one, place))
        for group in alike.values():
            masks, steps = best_prompts(joined([one for one, _ in group]))
            for (one, place), mask, step in zip(group, masks, steps, strict=True):
                rungs = {**lines[place].rungs, "best_prompts": _count(mask, one.truth[0])}
                lines[place] = lines[place].model_copy(update={"rungs": rungs, "best_step": step})
        self._waiting.clear()

    def _rungs(self, asked: Asked, pixels: Tensor, scene_id: str) -> tuple[dict[str, list[Tensor]], bool]:
        missing = missing_rungs(self.model, asked.prediction.prompts)
        if self.plan.stock is None:
            missing = {**dict.fromkeys(STOCK, NO_STOCK.format(self.model.name)), **missing}
        self.collected.missing.update({name: why for name, why in missing.items() if name in self.plan.rungs})
        rungs = ["own", *(name for name in self.plan.rungs if name not in missing and name != "own")]
        stock = self.plan.stock
        encoded = stock.encode(pixels) if stock is not None and not {*rungs}.isdisjoint(STOCK) else None
        masks = climb(asked, rungs, stock, encoded)
        return masks, "best_prompts" in rungs and self._number[scene_id] in self._for_best

    def _presence(self, prediction: Prediction, logits: Iterable[Tensor]) -> list[float | None]:
        if self.model.calibration is None:
            return [None] * len(prediction)
        return [float(p) for p in presence_of(self.model.calibration, evidence_of(prediction, logits))]

    # -- what else is in the scene -----------------------------------------------------------------------------------

    def _others(self, record: Record, mask: Tensor, truth: Tensor, scene: _Scene) -> list[Object]:
        contents = scene.known.contents
        if contents is not None:
            said = contents.said(record.expression)
            anchors = said.anchors if said else ()
            found = [
                (torch.from_numpy(other).to(mask.device), i in anchors)
                for i, other in enumerate(contents.masks)
                if said is None or i != said.referent
            ]
        else:
            found = []
            for other, its in zip(scene.records, scene.truth, strict=True):
                if other.reference_id == record.reference_id or _iou(its, truth) >= SAME_OBJECT:
                    continue
                if all(_iou(its, known) < SAME_OBJECT for known, _ in found):
                    found.append((its, False))
        return [
            Object(
                shared=int(torch.count_nonzero(mask & other)), pixels=int(torch.count_nonzero(other)), anchor=is_anchor
            )
            for other, is_anchor in found
        ]

    # -- probes ------------------------------------------------------------------------------------------------------

    def _elsewhere(self, record: Record, known: Scene, rng: np.random.Generator) -> str | None:
        """Return a sentence of another scene, about a category that is not in this one: it says nothing about it."""
        present = record.present or {name for name in known.categories if name}
        for _ in range(20):
            scene, sentence, category = self._sentences[int(rng.integers(len(self._sentences)))]
            if scene != record.scene_id and sentence != record.expression and category not in present:
                return sentence
        return None

    def _probe(
        self, change: Change, scene: Scene, mask: Tensor, own: Tensor, referent: Tensor, presence: float | None
    ) -> Probe:
        truth = intersection = None
        if change.meant in ("one", "same") and change.object is not None and scene.contents is not None:
            other = torch.from_numpy(scene.contents.masks[change.object]).to(mask.device)
            truth, intersection = int(torch.count_nonzero(other)), int(torch.count_nonzero(mask & other))
        elif change.meant == "none":
            truth = intersection = 0
        return Probe(
            probe=change.probe,
            change=change.what,
            sentence=change.sentence,
            meant=change.meant,
            object=change.object,
            truth=truth,
            intersection=intersection,
            predicted=int(torch.count_nonzero(mask)),
            original=int(torch.count_nonzero(mask & own)),
            referent=int(torch.count_nonzero(mask & referent)),
            presence=presence,
        )


def _shapes(prompts: Prompts) -> tuple[object, ...]:
    return (prompts.words is None or prompts.words.shape[1:], *(t.shape[1:] for _, t in sorted(prompts.aux.items())))


def _count(mask: Tensor, truth: Tensor) -> Count:
    return Count(intersection=int(torch.count_nonzero(mask & truth)), predicted=int(torch.count_nonzero(mask)))


def _one_image(state: ImageState, image: int) -> ImageState:
    rows = slice(image, image + 1)
    return ImageState({name: t[rows] for name, t in state.features.items()}, state.sizes[rows], state.fitted[rows])


def _iou(one: Tensor, other: Tensor) -> float:
    union = int(torch.count_nonzero(one | other))
    return int(torch.count_nonzero(one & other)) / union if union else 0.0


def collect(
    model: ReferringSegmenter,
    batches: Iterable[Batch],
    records: Sequence[Record],
    contents: Mapping[str, Contents] | None,
    plan: Plan,
    told: Callable[[int], None] = lambda done: None,
) -> Collected:
    """Ask a model everything about the batches of a split.

    Args:
        model: in evaluation mode.
        batches: of whole scenes, with masks.
        records, contents, plan: see `Diagnosis`.
        told: called with the number of samples after every batch.

    Raises:
        ConfigError: answers that are not finite, or no sample with a referent.
    """
    diagnosis = Diagnosis(model, records, contents, plan)
    trained = [p for p in model.parameters() if p.requires_grad]
    try:
        for p in trained:  # no gradient but that of the prompts
            p.requires_grad_(False)
        for batch in batches:
            diagnosis.add(batch.to(model.device))
            diagnosis.settle(AT_ONCE)
            told(len(diagnosis.collected.lines))
        diagnosis.settle()
    finally:
        for p in trained:
            p.requires_grad_(True)
    if not diagnosis.collected.lines:
        raise ConfigError("no sample with a referent: there is nothing to diagnose")
    order = {sample: i for i, sample in enumerate(diagnosis.records)}
    diagnosis.collected.lines.sort(key=lambda line: order[line.sample_id])
    return diagnosis.collected
