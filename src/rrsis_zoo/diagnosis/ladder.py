"""The ladder: what a method scores if one of its steps is replaced by the truth or by a stock SAM."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rrsis_zoo.diagnosis.places import Frame, half_box, innermost, largest_box, mask_box, peak
from rrsis_zoo.diagnosis.stock import Box, Encoded, Stock
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.layers.geometry import restore_each
from rrsis_zoo.models.types import ImageState, Prediction, Prompts

T = TypeVar("T")

STEPS, RATE = 50, 0.05
"""Steps of Adam for the best prompts, and their rate as a share of the prompts' standard deviation."""

LOGIT_LIMIT = 1e-6  # keeps the heat map's log-odds finite


def missing_rungs(model: ReferringSegmenter, prompts: Prompts) -> dict[str, str]:
    """Return the rungs that a model does not have, and why.

    Args:
        model: the method.
        prompts: any of its answers.
    """
    seam = model.seam
    missing: dict[str, str] = {}
    if seam.heat:
        missing.update(dict.fromkeys(("heat_point", "heat_box", "heat_mask"), seam.heat))
    if seam.dense:
        missing["truth_dense"] = seam.dense
    elif prompts.dense is None:
        missing["truth_dense"] = "no dense prompt with these settings"
    elif model.dense_truth(prompts[:1], torch.zeros_like(prompts.dense[:1])) is None:
        missing["truth_dense"] = f"{model.name} does not say how its decoder takes a mask"
    if seam.best:
        missing["best_prompts"] = seam.best
    return missing


@dataclass(frozen=True)
class Asked:
    """N answered expressions about one image.

    Attributes:
        model: the method.
        prediction: its answers.
        logits: N maps of log-odds (H, W) of native size.
        truth: N masks, bool (H, W), none of them empty.
    """

    model: ReferringSegmenter
    prediction: Prediction
    logits: Sequence[Tensor]
    truth: Sequence[Tensor]

    @property
    def size(self) -> tuple[int, int]:
        """Native height and width."""
        return self.truth[0].shape[0], self.truth[0].shape[1]

    def frame(self) -> Frame:
        """Return how the heat map lies on the image."""
        state, heat = self.prediction.state, self.prediction.prompts.heatmap
        fitted = state.fitted[int(self.prediction.image_index[0])].tolist()
        return Frame.of(self.size, (fitted[0], fitted[1]), self.model.sides[0], (heat.shape[-2], heat.shape[-1]))

    def heats(self) -> list[np.ndarray]:
        """Return N heat maps (g, g) as float64."""
        return [heat[0].double().cpu().numpy() for heat in self.prediction.prompts.heatmap]


def climb(asked: Asked, rungs: Sequence[str], stock: Stock | None, image: Encoded | None) -> dict[str, list[Tensor]]:
    """Return the masks of the asked rungs, N each, bool (H, W); without ``best_prompts``, see there.

    Args:
        asked: the answers.
        rungs: some of ``RUNGS``, all of which the model has.
        stock: the stock SAM; None if no rung needs it.
        image: encoded by it.
    """
    found: dict[str, list[Tensor]] = {}
    if "own" in rungs:
        found["own"] = [logits > 0 for logits in asked.logits]
    if "truth_dense" in rungs:
        found["truth_dense"] = truth_dense(asked)
    if stock is None or image is None:
        return found
    size, frame = asked.size, asked.frame()
    truths = [mask.cpu().numpy() for mask in asked.truth]
    own_boxes = [largest_box((logits > 0).cpu().numpy()) for logits in asked.logits]
    points: dict[str, list[tuple[int, int]]] = {
        "heat_point": [frame.centre(*peak(heat)) for heat in asked.heats()],
        "truth_point": [innermost(mask) for mask in truths],
    }
    boxes: dict[str, list[Box]] = {
        "heat_box": [half_box(heat, frame) for heat in asked.heats()],
        "mask_box": [box or (0, 0, *size) for box in own_boxes],
        "truth_box": [box for mask in truths if (box := mask_box(mask)) is not None],
    }
    # all prompts of a kind at once
    found |= _of_each({k: v for k, v in points.items() if k in rungs}, lambda v: stock.by_points(image, v, size))
    found |= _of_each({k: v for k, v in boxes.items() if k in rungs}, lambda v: stock.by_boxes(image, v, size))
    if "heat_mask" in rungs:
        found["heat_mask"] = stock.by_masks(image, heat_logits(asked), size)
    if "mask_box" in rungs:  # an empty mask has no box, and the answer stays empty
        answers = zip(found["mask_box"], own_boxes, strict=True)
        found["mask_box"] = [mask if box else torch.zeros_like(mask) for mask, box in answers]
    return found


def _of_each(prompts: Mapping[str, Sequence[T]], ask: Callable[[list[T]], list[Tensor]]) -> dict[str, list[Tensor]]:
    """Ask for all prompts together, and give every rung its own masks."""
    if not prompts:
        return {}
    masks = iter(ask([prompt for some in prompts.values() for prompt in some]))
    return {name: [next(masks) for _ in some] for name, some in prompts.items()}


def heat_logits(asked: Asked) -> list[Tensor]:
    """Return the heat maps' log-odds at native size, N maps (H, W)."""
    prediction = asked.prediction
    p = prediction.prompts.heatmap.float().clamp(LOGIT_LIMIT, 1 - LOGIT_LIMIT)
    state = prediction.state
    return list(restore_each(p.logit(), prediction.image_index, state.sizes, asked.model.sides[0], state.fitted))


def truth_dense(asked: Asked) -> list[Tensor]:
    """Return the masks with the truth in place of the dense prompt."""
    model, prediction = asked.model, asked.prediction
    prompts = prediction.prompts
    assert prompts.dense is not None
    given = model.dense_truth(prompts, truth_on(model.target(asked.truth), prompts.dense.shape[-2:]))
    logits = model.segment(prediction.state, replace(prompts, dense=given), prediction.image_index)
    return [one > 0 for one in model.restore(replace(prediction, mask_logits=logits))]


def truth_on(target: Tensor, grid: Sequence[int]) -> Tensor:
    """Return the truth on a coarser grid: 1 for cells at least half covered; the fullest ones if no cell is.

    Args:
        target: uint8 (N, 1, S, S) of 0, 1 and 255, which is not the referent.
        grid: height and width.

    Returns:
        float (N, 1, h, w) of 0 and 1.
    """
    share = F.adaptive_avg_pool2d((target == 1).float(), (grid[0], grid[1]))
    most = share.amax((2, 3), keepdim=True)
    return ((share >= most.clamp(max=0.5)) & (share > 0)).float()


def joined(parts: Sequence[Asked]) -> Asked:
    """Return answers about several images as one, which is quicker than one after the other."""
    states = [part.prediction.state for part in parts]
    offsets = np.cumsum([0, *(len(state) for state in states[:-1])]).tolist()
    state = ImageState(
        {name: torch.cat([s.features[name] for s in states]) for name in states[0].features},
        torch.cat([s.sizes for s in states]),
        torch.cat([s.fitted for s in states]),
    )
    prediction = Prediction(
        torch.cat([part.prediction.mask_logits for part in parts]),
        Prompts.joined([part.prediction.prompts for part in parts]),
        state,
        torch.cat([part.prediction.image_index + k for part, k in zip(parts, offsets, strict=True)]),
    )
    return Asked(
        parts[0].model,
        prediction,
        [x for part in parts for x in part.logits],
        [x for part in parts for x in part.truth],
    )


def best_prompts(asked: Asked, steps: int = STEPS) -> tuple[list[Tensor], list[int]]:
    """Look for sparse and dense prompts with which the method's own segmenter comes closest to the truth.

    Adam starts from the method's prompts and follows its own mask loss; weights stay as they are. Of all steps each
    expression keeps the one with the highest IoU, the start included, so that no result is below the method's own.

    Returns:
        N masks, bool (H, W), and for each the step that it is from, 0 for the method's own prompts.
    """
    model, own, target = asked.model, asked.prediction, asked.model.target(asked.truth)
    again = model.segment_again(own.state, own.prompts, own.image_index)
    starts = [t.detach() for t in (own.prompts.sparse, own.prompts.dense) if t is not None]
    spread = [t.float().flatten(1).std(1).reshape(-1, *[1] * (t.ndim - 1)).to(t.dtype) for t in starts]
    masks = [logits > 0 for logits in asked.logits]
    kept = [iou_of(mask, truth) for mask, truth in zip(masks, asked.truth, strict=True)]
    step_of = [0] * len(masks)
    with torch.enable_grad():
        moves = [torch.zeros_like(t).requires_grad_() for t in starts]
        optimiser = torch.optim.Adam(moves, lr=RATE)
        for step in range(1, steps + 1):
            prediction = replace(own, prompts=_moved(own.prompts, starts, spread, moves))
            prediction = replace(prediction, mask_logits=again(prediction.prompts))
            if step > 1:
                _keep(model, prediction, asked.truth, step - 1, masks, kept, step_of)
            optimiser.zero_grad()
            # each expression's own: Adam's step does not depend on the mean's factor
            mask_loss(model, prediction, target).backward()
            optimiser.step()
        with torch.no_grad():
            prompts = _moved(own.prompts, starts, spread, moves)
            last = replace(own, prompts=prompts, mask_logits=again(prompts))
            _keep(model, last, asked.truth, steps, masks, kept, step_of)
    return masks, step_of


def mask_loss(model: ReferringSegmenter, prediction: Prediction, target: Tensor) -> Tensor:
    """Return the sum of the terms in ``model.mask_terms``; of all terms if the method has none of these names."""
    terms = model.loss_terms(prediction, target)
    return torch.stack([terms[name] for name in sorted(model.mask_terms & terms.keys()) or terms]).sum()


def _moved(prompts: Prompts, starts: Sequence[Tensor], spread: Sequence[Tensor], moves: Sequence[Tensor]) -> Prompts:
    found = [start + width * move for start, width, move in zip(starts, spread, moves, strict=True)]
    return replace(prompts, sparse=found[0], dense=found[1] if len(found) > 1 else None)


@torch.no_grad()
def _keep(
    model: ReferringSegmenter,
    prediction: Prediction,
    truth: Sequence[Tensor],
    step: int,
    masks: list[Tensor],
    kept: list[float],
    step_of: list[int],
) -> None:
    for n, logits in enumerate(model.restore(prediction)):
        mask = logits > 0
        if (iou := iou_of(mask, truth[n])) > kept[n]:
            masks[n], kept[n], step_of[n] = mask, iou, step


def iou_of(mask: Tensor, truth: Tensor) -> float:
    """Return the IoU of two bool masks; 0 if both are empty."""
    union = int(torch.count_nonzero(mask | truth))
    return int(torch.count_nonzero(mask & truth)) / union if union else 0.0
