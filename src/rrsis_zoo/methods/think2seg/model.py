"""Think2Seg-RS: a language model writes boxes and points, a frozen SAM 2.1 draws them. docs/methods/think2seg.md.

The decoupled method whose hand-over can be *read*: ``localise`` asks a writer (`rrsis_zoo.methods.think2seg.writers`)
and parses its reply, ``segment`` gives every instance to SAM as a user's click would be, and the answer is their union.

Symbols: M images, N expressions, K instances of an expression, s side of the square frame that all coordinates are in,
S side of SAM's input, D its prompt width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field
from torch import Tensor

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.think2seg.card import CARD
from rrsis_zoo.methods.think2seg.replies import (
    POINTS,
    Box,
    Instance,
    Repair,
    Unreadable,
    instances_of,
    read_objects,
    scaled,
    tidied,
)
from rrsis_zoo.methods.think2seg.weights import FOUNDATION_FILLERS
from rrsis_zoo.methods.think2seg.writers import DIALECTS, ScriptedWriter, Writer, odd_one_out
from rrsis_zoo.models.backbones.sam2 import PIXEL_MEAN, PIXEL_STD, SAM2, SAM2_MINI, SAM2_S, Pyramid, SAM2Config
from rrsis_zoo.models.base import check_images
from rrsis_zoo.models.compiling import Part
from rrsis_zoo.models.configuration import Side, check_choices
from rrsis_zoo.models.frozen import TrainingFree
from rrsis_zoo.models.layers.geometry import normalise, resize, runs
from rrsis_zoo.models.layers.host import constant, to_device
from rrsis_zoo.models.layers.precision import cast
from rrsis_zoo.models.layers.rows import rows
from rrsis_zoo.models.seam import Seam
from rrsis_zoo.models.tokenizers import ByteTokenizer
from rrsis_zoo.models.types import ImageState, Prediction, Prompts, Tokens, Views

EMPTY = -10.0
"""Log-odds of every pixel of an answer without an instance."""
AT_ONCE = 16
"""Instances that SAM draws together."""
PROMPTS = 2 + POINTS + 1
"""SAM's tokens of an instance: two corners, the points, and one that says "not a point"."""


@dataclass(frozen=True)
class Think2SegConfig:
    """Configuration; all but SAM's sizes can be changed after loading.

    Attributes:
        sam: sizes of SAM 2.1.
        frame: s; the writer sees the image stretched to it, and all coordinates and masks are in it.
        writer: ``chat``: a language model, loaded from the weights' ``writer``; ``scripted``: the pixels whose colour
            stands out most, without reading a word.
        dialect: how the writer is asked, and what its numbers mean; a name in `DIALECTS`.
        full_stop: whether a full stop is appended to the sentence, as the published program does on RRSIS-D.
        repair: ``tidy`` orders corners, clips them to the image and drops empty boxes; ``published`` does not.
        max_new_tokens: most tokens of a reply.
    """

    sam: SAM2Config = SAM2_S
    frame: Side = 840
    writer: Literal["chat", "scripted"] = "chat"
    dialect: Literal["think2seg", "qwen2_5_vl", "qwen3_vl"] = "think2seg"
    full_stop: bool = True
    repair: Repair = "published"
    max_new_tokens: Annotated[int, Field(ge=1, le=2**16)] = 2048

    def __post_init__(self) -> None:
        check_choices(self, "think2seg")


class Think2Seg(TrainingFree):
    """A writer and a SAM 2.1.

    Attributes:
        writer: writes the replies; any object with ``write`` (`Writer`) can be put here.
    """

    card = CARD
    foundation_fillers = FOUNDATION_FILLERS
    tokenizer_kind = ByteTokenizer
    evaluation_settings: ClassVar[frozenset[str]] = frozenset(
        {"frame", "writer", "dialect", "full_stop", "repair", "max_new_tokens"}
    )
    seam: ClassVar[Seam] = Seam(
        dense="it prompts with boxes and points only", best="it writes its prompts as text, which no gradient passes"
    )
    presets: ClassVar[dict[str, Think2SegConfig]] = {
        "3b": Think2SegConfig(),
        "7b": Think2SegConfig(),
        "mini": Think2SegConfig(sam=SAM2_MINI, frame=128, writer="scripted"),
        "tiny": Think2SegConfig(
            sam=replace(SAM2_MINI, width=16, prompt_width=32, decoder_mlp_width=32, decoder_heads=2, iou_width=16),
            frame=112,
            writer="scripted",
        ),
    }
    max_expressions = 8
    config: Think2SegConfig
    writer: Writer | None

    def __init__(self, config: Think2SegConfig) -> None:
        super().__init__()
        self.config = config
        self.sam = SAM2(config.sam)
        self.writer = ScriptedWriter(odd_one_out) if config.writer == "scripted" else None
        self.tokenizer = ByteTokenizer(self.text_limits[1])
        self.freeze()

    # -- from images and sentences to masks --------------------------------------------------------------------------

    @property
    def text_limits(self) -> tuple[int, int]:
        """Ids of bytes, and the longest sentence in bytes: the writer gets the text, not the ids."""
        return 257, 1024

    @property
    def sides(self) -> tuple[int, int]:
        """S and s."""
        return self.config.sam.image_size, self.config.frame

    def prepare(self, images: Sequence[Tensor]) -> Views:
        """Stretch every image to the frame (Lanczos), and the frame to SAM's input.

        Returns:
            ``frame`` (M, 3, s, s), whole levels 0-255, for the writer; ``image`` (M, 3, S, S), normalised.
        """
        check_images(images)
        frames = torch.stack([framed(image, self.config.frame) for image in images]).to(self.device)
        return {"frame": frames, "image": sam_input(frames, self.config.sam.image_size)}

    def encode(self, views: Views, sizes: Tensor) -> ImageState:
        """Return ``frame``, and SAM's ``embedding``, ``s1`` and ``s0``."""
        pyramid = self.sam.encode(views["image"])
        features = {"frame": views["frame"], **pyramid._asdict()}
        return ImageState(features, sizes, torch.full_like(sizes, self.config.frame))

    def localise(self, state: ImageState, tokens: Tokens, image_index: Tensor) -> Prompts:
        """Ask the writer and read its replies.

        Returns:
            SAM's prompt tokens as sparse ones (N, K · 5, D), ended by "not a point"; ``boxes``, ``points``,
            ``point_labels`` in native pixels and ``scores``, 1 for an instance; ``replies``, the texts; ``presence``
            (N,), 1 if there is an instance, else 0; the heat map (N, 1, g, g), the share of each 28-pixel cell that a
            box covers. In ``aux``: ``instances`` (N,), ``failed`` (N,), 1 for a reply that cannot be read, and the
            instances' coordinates in the frame: ``frame_boxes`` (N, K, 4), ``frame_points`` (N, K, 2, 2).

        Raises:
            ConfigError: there is no writer.
        """
        replies = self.write(state, tokens, image_index)
        read = [self.read_or_none(reply) for reply in replies]
        found = [instances or [] for instances in read]
        failed = torch.tensor([float(instances is None) for instances in read])
        boxes, points, labels = as_tensors(found)
        count = torch.tensor([len(each) for each in found])
        like = state.features["embedding"]
        boxes, points, labels, count, failed, sizes = (
            to_device(x, like.device) for x in (boxes, points, labels, count, failed, state.sizes)
        )
        native = sizes[image_index].flip(-1) / self.config.frame  # of x and y
        heatmap = self.heatmap(boxes, points, labels)
        return Prompts(
            self.prompt_tokens(boxes, points, labels).flatten(1, 2),
            None,
            cast(heatmap, like),
            presence=(count > 0).to(like.dtype),
            boxes=boxes * native.repeat(1, 2)[:, None],
            scores=(torch.arange(boxes.shape[1], device=like.device) < count[:, None]).to(like.dtype),
            points=points * native[:, None, None],
            point_labels=labels,
            replies=replies,
            aux={"failed": failed, "instances": count, "frame_boxes": boxes, "frame_points": points},
        )

    def write(self, state: ImageState, tokens: Tokens, image_index: Tensor) -> list[str]:
        """Return the writer's replies to N sentences.

        Raises:
            ConfigError: there is no writer.
        """
        if self.writer is None:
            raise ConfigError(
                f"this {self.name} has no language model: load weights for `writer`, or set model.writer to an object "
                "with a function write(frames, sentences)"
            )
        sentences = self.asked(tokens)
        frames = [state.features["frame"][i].float().round().to(torch.uint8) for i in image_index.tolist()]
        return self.writer.write(frames, sentences) if frames else []

    def asked(self, tokens: Tokens) -> list[str]:
        """Return the sentences as the writer gets them."""
        assert isinstance(self.tokenizer, ByteTokenizer)
        stop = "." if self.config.full_stop else ""
        return [f"{sentence}{stop}" for sentence in self.tokenizer.texts(tokens)]

    def read(self, reply: str) -> list[Instance]:
        """Return the instances of a reply, in pixels of the frame.

        Raises:
            Unreadable: the reply is no list of instances.
        """
        side = self.config.frame
        scale = side / DIALECTS[self.config.dialect].unit(side)
        instances = scaled(instances_of(read_objects(reply)), scale, scale)
        return tidied(instances, side, side) if self.config.repair == "tidy" else instances

    def read_or_none(self, reply: str) -> list[Instance] | None:
        """Return the instances of a reply; None if it cannot be read."""
        try:
            return self.read(reply)
        except Unreadable:
            return None

    def prompt_tokens(self, boxes: Tensor, points: Tensor, labels: Tensor) -> Tensor:
        """Return SAM's tokens of every instance, (N, K, 5, D): corners, points, and "not a point" in what is left.

        The first ``used`` of them are what SAM's own program would give it.

        Args:
            boxes: (N, K, 4) in pixels of the frame, NaN for none.
            points: (N, K, 2, 2).
            labels: (N, K, 2), -1 for no point.
        """
        n, k = boxes.shape[:2]
        corners = torch.where(boxes[..., :1].isnan(), -1, torch.arange(2, 4, device=boxes.device))
        at = torch.cat([boxes.nan_to_num(0).unflatten(2, (2, 2)), points, boxes.new_zeros(n, k, 1, 2)], 2)
        kinds = torch.cat([corners, labels, labels.new_full((n, k, 1), -1)], 2)
        order = (kinds < 0).long().argsort(dim=2, stable=True)  # what there is comes first
        at, kinds = at.gather(2, order[..., None].expand_as(at)), kinds.gather(2, order)
        side = (self.config.frame, self.config.frame)
        return self.encode_points(at.flatten(0, 1), kinds.flatten(0, 1), side).unflatten(0, (n, k))

    def encode_points(self, at: Tensor, kinds: Tensor, frame: tuple[int, int]) -> Tensor:
        """Return SAM's embeddings (B, P, D) of points in a frame.

        Args:
            at: (B, P, 2), x y in pixels of the frame.
            kinds: int64 (B, P): 1 inside, 0 outside, 2 and 3 upper left and lower right corner, -1 not a point.
            frame: its height and width.
        """
        encoder, S = self.sam.sam_prompt_encoder, self.config.sam.image_size
        matrix = encoder.pe_layer.get_buffer("positional_encoding_gaussian_matrix")
        at = (at.float() / constant(frame[::-1], at.float()) * S + 0.5) / S  # pixel centres, as shares
        angles = 2 * torch.pi * ((2 * at - 1) @ matrix.float())
        code = torch.cat([angles.sin(), angles.cos()], -1).to(matrix.dtype)
        table = torch.cat([p for name, p in encoder.named_parameters() if name.startswith("point_embeddings.")])
        known = code + table[kinds.clamp_min(0)]
        return torch.where((kinds < 0)[..., None], encoder.not_a_point_embed.weight, known)

    def heatmap(self, boxes: Tensor, points: Tensor, labels: Tensor) -> Tensor:
        """Return the share of every 28-pixel cell that a box covers, (N, 1, g, g), max over boxes.

        A point of an instance without a box marks its cell.
        """
        side = self.config.frame
        cells = max(1, round(side / CELL))
        cell = side / cells
        edges = torch.arange(cells, device=boxes.device) * cell

        def covered(a: Tensor, b: Tensor) -> Tensor:
            low, high = torch.minimum(a, b)[..., None], torch.maximum(a, b)[..., None]
            return ((torch.minimum(high, edges + cell) - torch.maximum(low, edges)) / cell).clamp(0, 1)

        b = boxes.nan_to_num(0)
        share = covered(b[..., 1], b[..., 3])[..., :, None] * covered(b[..., 0], b[..., 2])[..., None, :]
        at = (points / cell).long()
        bare = boxes[..., :1].isnan() & (labels == 1) & ((at >= 0) & (at < cells)).all(-1)  # (N, K, 2)
        cell_of = (at[..., 1] * cells + at[..., 0]).clamp(0, cells**2 - 1)
        marked = (cell_of[..., None] == torch.arange(cells**2, device=at.device)).long() * bare[..., None]
        marked = marked.amax(2).unflatten(-1, (cells, cells))
        return torch.maximum(share, marked.to(share.dtype)).amax(1, keepdim=True)

    def segment(self, state: ImageState, prompts: Prompts, image_index: Tensor) -> Tensor:
        """Let SAM draw every instance; (N, 1, s, s), the maximum over instances, so that above 0 is their union."""
        side = self.config.frame
        logits = prompts.sparse.new_full((len(image_index), 1, side, side), EMPTY)
        if not len(image_index):
            return logits
        tokens = prompts.sparse.unflatten(1, (-1, PROMPTS))
        drawn: set[int] = set()
        for length, places in self.by_length(prompts).items():  # more padding would change SAM's answer
            for part in range(0, len(places), AT_ONCE):
                some = places[part : part + AT_ONCE]
                n, k = to_device(torch.tensor(some).T, tokens.device)
                low = self.draw(state, tokens[n, k, :length], to_device(image_index, n.device)[n])
                for (i, _), mask in zip(some, cast(resize(low, (side, side)), low), strict=True):
                    logits[i] = torch.maximum(logits[i], mask) if i in drawn else mask
                    drawn.add(i)
        return logits

    def by_length(self, prompts: Prompts) -> dict[int, list[tuple[int, int]]]:
        """Return the instances (expression, number) by how many of SAM's tokens they use, shortest first.

        Read from the replies, which are on the host; from the tensors if there are none.
        """
        if prompts.replies is not None:
            read = [self.read_or_none(reply) or [] for reply in prompts.replies]
            used = [[1 + 2 * _is_box(one.box) + len(one.points) for one in each] for each in read]
        else:
            labels = prompts.point_labels
            assert labels is not None
            counts = 1 + 2 * (~prompts.aux["frame_boxes"][..., 0].isnan()).long() + (labels >= 0).sum(-1)  # (N, K)
            instances = prompts.aux["instances"].tolist()
            used = [row[:count] for row, count in zip(counts.tolist(), instances, strict=True)]
        places: dict[int, list[tuple[int, int]]] = {}
        for i, row in enumerate(used):
            for j, length in enumerate(row):
                places.setdefault(length, []).append((i, j))
        return dict(sorted(places.items()))

    def draw(self, state: ImageState, tokens: Tensor, image_index: Tensor) -> Tensor:
        """Return SAM's single mask of K instances, (K, 1, 4g, 4g) logits, by its stability rule.

        Args:
            state: of M images.
            tokens: (K, P, D), from ``encode_points``.
            image_index: (K,) into the images.
        """
        features = state.features
        pyramid = Pyramid(*(rows(features[name], image_index) for name in Pyramid._fields))
        decoded = self.sam.decode(pyramid, tokens, self.sam.no_mask(len(tokens)))
        return self.sam.stable_mask(decoded)

    def compiled_parts(self) -> dict[str, Part]:
        """Return SAM's encoder and decoder; the writer is its own."""
        return {
            "sam_encoder": Part(self.sam.image_encoder),
            "mask_decoder": Part(self.sam.sam_mask_decoder.transformer),
        }

    def restore(self, prediction: Prediction) -> list[Tensor]:
        """Resize (N, 1, s, s) straight to N native maps (H_i, W_i), bilinear."""
        native = [tuple(size) for size in prediction.state.sizes.tolist()]
        return [
            restored
            for size, maps in runs(prediction.mask_logits, prediction.images(), native)
            for restored in resize(maps.float(), size)[:, 0]
        ]


CELL = 28
"""Side of a cell of the heat map in pixels of the frame: what the language model sees as one place."""


def _is_box(box: Box | None) -> bool:
    """Return whether an instance has a box; one that begins with NaN counts as none."""
    return box is not None and not math.isnan(box[0])


def framed(image: Tensor, side: int) -> Tensor:
    """Stretch a native uint8 image (3, H, W) to a square with Pillow's Lanczos filter; uint8 (3, side, side)."""
    picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
    stretched = picture.resize((side, side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(stretched)).permute(2, 0, 1)


def sam_input(frames: Tensor, side: int) -> Tensor:
    """Convert frames (M, 3, h, w) of levels 0-255 to SAM 2's normalised input (M, 3, side, side), without rounding."""
    small = F.interpolate(frames.float() / 255, (side, side), mode="bilinear", align_corners=False, antialias=True)
    return normalise(small, PIXEL_MEAN, PIXEL_STD)


def as_tensors(found: Sequence[Sequence[Instance]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes (N, K, 4), NaN for none, points (N, K, 2, 2) and labels (N, K, 2), -1 for none; K is at least 1."""
    n, k = len(found), max([1, *(len(each) for each in found)])
    boxes, points = torch.full((n, k, 4), torch.nan), torch.zeros(n, k, POINTS, 2)
    labels = torch.full((n, k, POINTS), -1)
    for i, each in enumerate(found):
        for j, one in enumerate(each):
            if one.box is not None:
                boxes[i, j] = torch.tensor(one.box)
            if one.points:
                points[i, j], labels[i, j] = torch.tensor(one.points), 1
    return boxes, points, labels
