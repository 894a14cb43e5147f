"""Promptable segmentation, SAM's own task: points, boxes and noisy masks, every object of a scene a target.

Kirillov et al., "Segment Anything", ICCV 2023, section 3 and appendix A; Ravi et al., "SAM 2", 2024; SAM 3's tracker
has the same task. In one step all prompts are of one kind. The first mask answers every prompt; of the other three,
which our SAM 3 does not have, only the best learns (single points are ambiguous), and the predicted IoU learns every
mask's IoU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from segment_anything.modeling.prompt_encoder import PromptEncoder
from torch import Tensor, nn

from rrsis_zoo.methods.evisam3.weights import official_name as evisam3
from rrsis_zoo.models.backbones import sam, sam2, sam3
from rrsis_zoo.models.backbones.sam import SAM, SAM_MINI
from rrsis_zoo.models.backbones.sam2 import SAM2, SAM2_MINI
from rrsis_zoo.models.backbones.sam3 import SAM3, SAM3_MINI
from rrsis_zoo.models.layers.geometry import normalise
from scenes import SIZE, PretrainingScene

KINDS = ("box", "point", "points", "box and point", "mask", "mask and box")
LOSS_SIDE = 64  # pixels; a quarter of the cost of the full size
BOX_JITTER = 0.1  # of the box's side, one standard deviation, at most 20 px as in SAM


class Promptable(nn.Module):
    """A SAM, SAM 2 or SAM 3 that learns from prompts.

    Of SAM 3 it is the part that segments a still image. Its prompt encoder stands beside it, because no method here
    uses it; what is shipped has it under its official names.

    Args:
        name: ``sam``, ``sam2`` or ``sam3``.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.model: SAM | SAM2 | SAM3
        if name == "sam":
            self.model = SAM(SAM_MINI)
            self.prompts = self.model.prompt_encoder
        elif name == "sam2":
            self.model = SAM2(SAM2_MINI)
            self.prompts = self.model.sam_prompt_encoder
        else:
            self.model = SAM3(SAM3_MINI)
            self.prompts = _prompts_of_sam3()
            self.model.position_code = self.prompts.pe_layer  # one code for points and cells
        self.mask_side = 4 * self.model.config.grid

    def exported(self) -> dict[str, Tensor]:
        """Return what is shipped, in the official names; SAM's second position code is a copy and stays out."""
        if isinstance(self.model, SAM3):
            state = self.state_dict()
            return {theirs: state[name] for name, theirs in sam3_names(self).items()}
        if isinstance(self.model, SAM):
            code = self.model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
            self.model.position_code.positional_encoding_gaussian_matrix.copy_(code)
        state = self.model.state_dict()
        return {name: tensor for name, tensor in state.items() if not name.startswith("position_code.")}

    # -- one step ----------------------------------------------------------------------------------------------------

    def draw(self, batch: Sequence[PretrainingScene], chance: np.random.Generator) -> dict[str, Tensor]:
        """Turn, mirror and expose M scenes, and prompt for each of their N objects.

        Returns:
            ``images`` uint8 (M, 3, 128, 128), ``masks`` bool (N, 128, 128), ``index`` (N,) image of each mask, and the
            prompts as `prompt` makes them.
        """
        images, masks, index = _augmented(batch, chance)
        kind = KINDS[chance.integers(len(KINDS))]
        return {"images": images, "masks": masks, "index": index, **self.prompt(masks, kind, chance)}

    def loss(self, asked: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return named terms and ``loss``, their sum."""
        logits, iou = self.answer(asked)
        target = F.adaptive_avg_pool2d(asked["masks"][:, None].float(), LOSS_SIDE)
        target = target.expand(-1, logits.shape[1], -1, -1)
        full = F.interpolate(logits, (LOSS_SIDE, LOSS_SIDE), mode="bilinear", align_corners=False)
        cross = F.binary_cross_entropy_with_logits(full, target, reduction="none").mean((2, 3))
        p = full.sigmoid()
        dice = 1 - (2 * (p * target).sum((2, 3)) + 1) / (p.sum((2, 3)) + target.sum((2, 3)) + 1)
        each = 20 * cross + dice
        with torch.no_grad():
            decided, inside = full > 0, target > 0.5
            inner, outer = (decided & inside).sum((2, 3)), (decided | inside).sum((2, 3))
            truth = inner / outer.clamp(min=1)
        terms = {"first": each[:, 0].mean()}
        if each.shape[1] > 1:
            terms["best"] = 0.5 * each[:, 1:].amin(1).mean()
        terms["iou"] = F.mse_loss(iou, truth)
        return {**terms, "loss": torch.stack(list(terms.values())).sum(), "miou": truth[:, 0].mean()}

    def prompt(self, masks: Tensor, kind: str, chance: np.random.Generator) -> dict[str, Tensor]:
        """Prompt for masks.

        Args:
            masks: bool (N, 128, 128).
            kind: one of ``KINDS``.
            chance: where points fall and how boxes and masks err.

        Returns:
            Of ``places`` (N, P, 2) in pixels with ``labels`` (N, P), ``boxes`` (N, 4) and ``given`` (N, 1, m, m), mask
            logits, those that the kind has.
        """
        truth = masks.numpy()
        prompts: dict[str, Tensor] = {}
        if "box" in kind:
            prompts["boxes"] = torch.from_numpy(np.stack([_box(m, chance) for m in truth]))
        if "point" in kind:
            prompts["places"], prompts["labels"] = _points(truth, 3 if kind == "points" else 1, chance)
        if "mask" in kind:
            given = np.stack([_noisy(m, self.mask_side, chance) for m in truth])
            prompts["given"] = torch.from_numpy(given)[:, None]
        return prompts

    def answer(self, asked: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return mask logits (N, 4, m, m) and predicted IoU (N, 4) for what `draw` made; one each of SAM 3."""
        index, points = asked["index"], (asked["places"], asked["labels"]) if "places" in asked else None
        sparse, dense = self.prompts(points, asked.get("boxes"), asked.get("given"))
        images = asked["images"].float() / 255
        if isinstance(self.model, SAM):
            image = self.model.image_encoder(normalise(images, sam.PIXEL_MEAN, sam.PIXEL_STD))[index]
            code = self.prompts.get_dense_pe()
            return self.model.mask_decoder(image, code, sparse, dense)
        if isinstance(self.model, SAM2):
            pyramid = self.model.encode(normalise(images, sam2.PIXEL_MEAN, sam2.PIXEL_STD))
            decoded = self.model.decode(sam2.Pyramid(*(level[index] for level in pyramid)), sparse, dense)
            return decoded.masks, decoded.iou
        levels = self.model.encode(normalise(images, sam3.PIXEL_MEAN, sam3.PIXEL_STD))
        masks, iou, _ = self.model.mask_decoder([level[index] for level in levels], self.model.code(), sparse, dense)
        return masks, iou

    # -- score -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, unseen: Sequence[PretrainingScene]) -> dict[str, float]:
        """Return the mIoU of the first mask for every object of unseen scenes, by kind of prompt, in points."""
        self.eval()
        chance = np.random.default_rng(0)
        scores: dict[str, list[float]] = {"box": [], "point": [], "mask": []}
        for scene in unseen:
            masks = torch.from_numpy(np.stack([scene.labels == k + 1 for k in range(scene.labels.max())]))
            image = torch.from_numpy(scene.image).permute(2, 0, 1)[None]
            for kind, found in scores.items():
                index = torch.zeros(len(masks), dtype=torch.int64)
                prompts = self.prompt(masks, kind, chance)
                logits, _ = self.answer({"images": image, "index": index, **prompts})
                full = F.interpolate(logits[:, :1], (SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0] > 0
                found += ((full & masks).sum((1, 2)) / (full | masks).sum((1, 2))).tolist()
        return {f"miou_{kind}": 100 * float(np.mean(found)) for kind, found in scores.items()}


def _prompts_of_sam3() -> PromptEncoder:
    """SAM 3's prompt encoder for points, boxes and masks is SAM's."""
    grid, side = SAM3_MINI.grid, SAM3_MINI.image_size
    return PromptEncoder(SAM3_MINI.prompt_width, (grid, grid), (side, side), mask_in_chans=16)


def sam3_names(model: Promptable) -> dict[str, str]:
    """Return what is shipped of a SAM 3: our name -> Meta's, the pyramid as the tracker's, which the decoder reads.

    The object score's head learns nothing here and stays out.
    """
    names = {}
    for name in model.state_dict():
        part, _, rest = name.partition(".")
        if part == "prompts":
            names[name] = f"tracker.sam_prompt_encoder.{rest}"
        elif not rest.startswith(("position_code.", "mask_decoder.pred_obj_score_head.")):
            theirs = evisam3(f"sam.{rest}")
            place = "tracker.sam_mask_decoder." if theirs.startswith("mask_decoder.") else "detector.backbone."
            theirs = theirs.removeprefix("mask_decoder.").removeprefix("image_encoder.")
            names[name] = place + theirs.replace("vision_backbone.convs.", "vision_backbone.sam2_convs.")
    return names


def _augmented(batch: Sequence[PretrainingScene], chance: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Turn, mirror and expose scenes; images (M, 3, 128, 128) uint8, masks (N, 128, 128) bool, image of each mask."""
    images, masks, index = [], [], []
    for i, scene in enumerate(batch):
        turns, mirror = chance.integers(4), chance.integers(2)
        image, labels = np.rot90(scene.image, turns), np.rot90(scene.labels, turns)
        if mirror:
            image, labels = image[:, ::-1], labels[:, ::-1]
        gain, offset = chance.uniform(0.8, 1.2), chance.uniform(-20, 20)
        image = np.clip(image * gain + offset, 0, 255).astype(np.uint8)
        images.append(torch.from_numpy(image).permute(2, 0, 1))
        for k in range(labels.max()):
            masks.append(torch.from_numpy(labels == k + 1))
            index.append(i)
    return torch.stack(images), torch.stack(masks), torch.tensor(index)


def _box(mask: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Box of a mask as (x0, y0, x1, y1) in pixels, each side moved at random."""
    ys, xs = np.nonzero(mask)
    box = np.array([xs.min(), ys.min(), xs.max(), ys.max()], np.float32)
    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    moved = box + np.clip(chance.normal(0, BOX_JITTER, 4) * sides, -20, 20)
    return np.clip(moved, 0, SIZE - 1).astype(np.float32)


def _points(masks: np.ndarray, most: int, chance: np.random.Generator) -> tuple[Tensor, Tensor]:
    """1 to ``most`` points a mask, the first inside, later ones inside (1) or near it but outside (0)."""
    count = int(chance.integers(1, most + 1)) if most > 1 else 1
    places, labels = np.zeros((len(masks), count, 2), np.float32), np.ones((len(masks), count), np.int64)
    for n, mask in enumerate(masks):
        ys, xs = np.nonzero(mask)
        near = np.zeros_like(mask)
        near[max(0, ys.min() - 8) : ys.max() + 9, max(0, xs.min() - 8) : xs.max() + 9] = True
        outside = np.argwhere(near & ~mask)
        for j in range(count):
            k = chance.integers(len(xs))
            places[n, j] = xs[k], ys[k]  # SAM adds the half pixel itself
            if j and chance.random() < 0.5 and len(outside):
                y, x = outside[chance.integers(len(outside))]
                places[n, j], labels[n, j] = (x, y), 0
    return torch.from_numpy(places), torch.from_numpy(labels)


def _noisy(mask: np.ndarray, side: int, chance: np.random.Generator) -> np.ndarray:
    """Logits (side, side) of a mask that is blurred, moved, grown or shrunk, and partly wrong."""
    soft = torch.from_numpy(mask).float()[None, None]
    moved = torch.roll(soft, tuple(int(v) for v in chance.integers(-3, 4, 2)), (2, 3))
    width = int(chance.integers(0, 3))
    if width:
        pooled = F.max_pool2d(moved, 2 * width + 1, 1, width)
        moved = pooled if chance.random() < 0.5 else 1 - F.max_pool2d(1 - moved, 2 * width + 1, 1, width)
    small = F.adaptive_avg_pool2d(moved, side)
    coarse = torch.from_numpy(chance.normal(0, 1, (1, 1, 8, 8)).astype(np.float32))
    logits = 8 * small - 4 + 2 * F.interpolate(coarse, (side, side), mode="bilinear", align_corners=False)
    return logits[0, 0].numpy()
