"""Types passed between the steps of a method: batches, tokens, image states, prompts, predictions.

Sizes are (height, width) in pixels throughout; N expressions over M images, see `rrsis_zoo.models.base`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Protocol, Self, overload

import torch
from torch import Tensor

from rrsis_zoo.models.layers.host import picked, to_device
from rrsis_zoo.shown import short_repr

TextMode = Literal["published", "independent"]
"""How expressions of one batch share a tensor.

``published``: padded to the longest in the batch and read without a mask, as in all three published programs, so that
an expression's result depends on the others in the batch. ``independent``: each is read as if it were alone.
"""

Views = dict[str, Tensor]
"""A method's inputs, computed from the native images; the first axis of every tensor is M."""


@dataclass
class Batch:
    """N expressions over M images, from the data module.

    Attributes:
        images: M native images, uint8 RGB (3, H_i, W_i), values 0-255.
        expressions: N sentences.
        image_index: (N,) int64; expression n refers to ``images[image_index[n]]``.
        masks: N native masks, bool (H, W) of their image; None if unknown.
        sample_ids: N names, unique in their split; keys of per-sample results.
        absent: for each of the N sentences whether it has no referent: it was added as one, or the dataset says so.
            Empty where the dataset has no such sentence at all; else also in a batch without any.
        image_of: ``image_index`` as numbers on the host; None if it was on another device when the batch was made.
    """

    images: list[Tensor]
    expressions: list[str]
    image_index: Tensor
    masks: list[Tensor] | None = None
    sample_ids: list[str] = field(default_factory=list)
    absent: list[bool] = field(default_factory=list)
    image_of: list[int] | None = field(default=None, repr=False)

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if self.image_index.device.type == "cpu":
            self.image_of = self.image_index.tolist()

    def __len__(self) -> int:
        return len(self.expressions)

    @property
    def sizes(self) -> Tensor:
        """(M, 2) int64 native sizes."""
        return torch.tensor([image.shape[-2:] for image in self.images], dtype=torch.int64).reshape(-1, 2)

    def samples_of(self, image: int) -> list[str]:
        """Return the names of the samples that refer to an image."""
        numbers = self.image_index.tolist() if self.image_of is None else self.image_of
        used = zip(self.sample_ids, numbers, strict=False)  # names are optional
        return [name for name, i in used if i == image]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return a copy with every tensor on the device."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        masks = None if self.masks is None else [move(mask) for mask in self.masks]
        return replace(self, images=[move(i) for i in self.images], image_index=move(self.image_index), masks=masks)

    def pin_memory(self) -> Batch:
        """Return a copy in page-locked memory (called by torch's DataLoader)."""
        masks = None if self.masks is None else [mask.pin_memory() for mask in self.masks]
        return replace(
            self,
            images=[i.pin_memory() for i in self.images],
            image_index=self.image_index.pin_memory(),
            masks=masks,
        )


@dataclass
class Tokens:
    """Token ids of N expressions.

    Attributes:
        ids: (N, L) int64, padded on the right.
        length: (N,) int64, number of positions in each row that the model *reads*. In text mode ``published`` it is L
            for every row (pads are read too); in ``independent`` it is the row's own number of tokens.
        independent: whether the rows were padded in text mode ``independent``.
        host: the same on the host, where a tokenizer makes them; None if these are there, or if it is not known.
    """

    ids: Tensor
    length: Tensor
    independent: bool = False
    host: Tokens | None = field(default=None, repr=False)

    __repr__ = short_repr

    def __getitem__(self, rows: slice) -> Tokens:
        """Return the tokens of some of the N expressions, with unchanged padding."""
        host = None if self.host is None else self.host[rows]
        return Tokens(self.ids[rows], self.length[rows], self.independent, host)

    def repeated(self, times: int) -> Tokens:
        """Return the rows several times, one complete set after the other."""
        host = None if self.host is None else self.host.repeated(times)
        return Tokens(self.ids.repeat(times, 1), self.length.repeat(times), self.independent, host)

    def to(self, device: torch.device | str) -> Tokens:
        """Return a copy on the device, which is not waited for; it remembers those of the host."""
        host = self.host if self.ids.device.type != "cpu" else self
        ids, length = to_device(self.ids, device), to_device(self.length, device)
        return Tokens(ids, length, self.independent, None if ids.device.type == "cpu" else host)

    def on_host(self) -> Tokens:
        """Return those of the host; waits for the device if they are not known there."""
        if self.ids.device.type == "cpu":
            return self
        return self.host or Tokens(self.ids.cpu(), self.length.cpu(), self.independent)

    def complete(self, steady: bool = False) -> bool:
        """Return whether all positions of all rows are read, so that attention needs no mask.

        Args:
            steady: whether the answer must be the same for all batches of a text mode, as compiled parts want it; then
                rows padded in text mode ``independent`` count as incomplete even if they happen to be equally long.
        """
        if steady:
            return not self.independent
        return not bool((self.on_host().length < self.ids.shape[1]).any())


def unread_positions(length: Tensor, positions: int) -> Tensor:
    """Return which positions of N sentences are not read, bool (N, positions).

    Args:
        length: (N,) int64, number of positions that are read, as in `Tokens`.
        positions: number of positions of every sentence.
    """
    return torch.arange(positions, device=length.device) >= length[:, None]


@dataclass
class ImageState:
    """Encoding of M images, independent of sentences; reusable for any number of expressions.

    Attributes:
        features: named tensors whose first axis is M.
        sizes: (M, 2) int64 native sizes.
        fitted: (M, 2) int64 size of the image's content inside the method's square input; the square itself for
            methods that do not keep the aspect ratio.
    """

    features: dict[str, Tensor]
    sizes: Tensor
    fitted: Tensor

    __repr__ = short_repr

    def __len__(self) -> int:
        return len(self.sizes)


@dataclass
class Prompts:
    """The localiser's output in the form of SAM's prompts. The first axis of every tensor is N.

    The tokens are learned together with one decoder: those of one method have no meaning for another.

    Attributes:
        sparse: (N, K, D) prompt tokens.
        dense: (N, 1, h, w) mask prompt in the method's own convention (logits or probabilities), or None.
        heatmap: (N, 1, g, g) in [0, 1], the localiser's probability that the referent is there.
        words: (N, L, D) word features, only if the segmenter reads them.
        presence: (N,) in [0, 1], the method's own probability that there is a referent; None if it has none.
        aux: further tensors for the losses and for the method's own ``segment``.
        boxes, scores, points, point_labels: readable prompts, in pixels of the native image, of methods whose localiser
            writes such; None for others. ``boxes`` (N, K, 4) x0 y0 x1 y1, not clipped, NaN for an instance without a
            box; ``scores`` (N, K) in [0, 1], 0 for a padding row; ``points`` (N, K, P, 2) x y; ``point_labels``
            (N, K, P) int64: 1 inside, 0 outside, -1 no point.
        replies: N texts of a language model, of methods whose localiser writes them; None for others. With them ``aux``
            has ``failed`` (N,), 1 for a text that cannot be read, and ``instances`` (N,), how many it lists.
        complete: whether every position of the words is read (`Tokens.complete`); None if that is not known.
    """

    sparse: Tensor
    dense: Tensor | None
    heatmap: Tensor
    words: Tensor | None = None
    aux: dict[str, Tensor] = field(default_factory=dict)
    presence: Tensor | None = None
    boxes: Tensor | None = None
    scores: Tensor | None = None
    points: Tensor | None = None
    point_labels: Tensor | None = None
    replies: list[str] | None = None
    complete: bool | None = None

    __repr__ = short_repr

    def __getitem__(self, rows: slice | list[int]) -> Prompts:
        """Return the prompts of some of the N expressions."""

        def take(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: take(tensor) for name, tensor in value.items()}
            if isinstance(value, bool):  # some of the rows may be complete where not all are
                return value or None
            if isinstance(rows, list) and value is not None:
                return [value[n] for n in rows] if isinstance(value, list) else picked(value, rows)
            return None if value is None else value[rows]

        return Prompts(**{f.name: take(getattr(self, f.name)) for f in fields(self)})

    @staticmethod
    def joined(parts: Sequence[Prompts], without: frozenset[str] = frozenset()) -> Prompts:
        """Return the concatenated prompts of several groups of expressions.

        Groups may have different numbers K of instances: the shorter ones get padding rows.

        Args:
            parts: at least one.
            without: names in ``aux`` to leave out.
        """

        def join(values: Sequence[Any], padding: float = 0.0) -> Any:
            if isinstance(values[0], dict):
                return {name: join([v[name] for v in values]) for name in values[0] if name not in without}
            if isinstance(values[0], list):
                return [text for value in values for text in value]
            if any(isinstance(value, bool) for value in values):
                return None if None in values else all(values)
            return None if values[0] is None else torch.cat(_equally_long(values, padding))

        padding = {"boxes": torch.nan, "point_labels": -1}
        return Prompts(
            **{
                f.name: join([getattr(part, f.name) for part in parts], padding.get(f.name, 0.0))
                for f in fields(Prompts)
            }
        )


def _equally_long(tensors: Sequence[Tensor], padding: float) -> list[Tensor]:
    """Pad tensors (N, K, …) that differ in K alone to the largest one."""
    longest = max((t.shape[1] for t in tensors if t.ndim > 1), default=0)
    return [
        torch.cat([t, t.new_full((len(t), longest - t.shape[1], *t.shape[2:]), padding)], 1)
        if t.ndim > 1 and t.shape[1] < longest
        else t
        for t in tensors
    ]


@dataclass
class Prediction:
    """A method's prediction for N expressions.

    Attributes:
        mask_logits: (N, 1, h, w) log-odds: their sigmoid is the model's probability, > 0 its decision.
        prompts: from the localiser.
        state: of the images.
        image_index: (N,) int64 into the M images of the state.
        image_of: the same as numbers on the host; None if that is not known.
    """

    mask_logits: Tensor
    prompts: Prompts
    state: ImageState
    image_index: Tensor
    image_of: list[int] | None = field(default=None, repr=False)

    __repr__ = short_repr

    def __len__(self) -> int:
        return len(self.image_index)

    def __getitem__(self, rows: slice | list[int]) -> Prediction:
        """Return the prediction for some of the N expressions; the image state is shared."""
        if isinstance(rows, list):
            image_of = None if self.image_of is None else [self.image_of[n] for n in rows]
            logits, index = picked(self.mask_logits, rows), picked(self.image_index, rows)
        else:
            image_of = None if self.image_of is None else self.image_of[rows]
            logits, index = self.mask_logits[rows], self.image_index[rows]
        return Prediction(logits, self.prompts[rows], self.state, index, image_of)

    def images(self) -> Tensor | list[int]:
        """Return the number of each expression's image, (N,): on the host if it is known there."""
        return self.image_index if self.image_of is None else self.image_of


class Restored(Sequence[Tensor]):
    """N maps, each computed on access and not kept: all of them at once would fill the memory for large images.

    Args:
        maps: computes the n-th of ``count`` maps, or the maps themselves (Lightning rebuilds sequences from a list).
        count: N.
    """

    def __init__(self, maps: Callable[[int], Tensor] | Sequence[Tensor], count: int | None = None) -> None:
        self._make = maps if callable(maps) else maps.__getitem__
        self._count = len(maps) if count is None and not callable(maps) else int(count or 0)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...

    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        places = range(self._count)[index]
        return [self._make(n) for n in places] if isinstance(places, range) else self._make(places)


class Tokenizer(Protocol):
    """Converts sentences to ids.

    Attributes:
        max_length: maximum number of ids per sentence; the rest is cut off.
    """

    max_length: int

    @property
    def vocabulary_size(self) -> int:
        """Number of pieces."""
        ...

    def __call__(self, expressions: Sequence[str], text_mode: TextMode) -> Tokens:
        """Tokenise N sentences."""
        ...

    def lengths(self, expressions: Sequence[str]) -> list[int]:
        """Return the number of ids of each sentence without truncation."""
        ...

    @classmethod
    def from_expressions(cls, expressions: Sequence[str], max_pieces: int, max_length: int) -> Self:
        """Learn a vocabulary."""
        ...

    def state(self) -> dict[str, Any]:
        """Return plain values and tensors."""
        ...

    @classmethod
    def from_file(cls, path: Path, max_length: int) -> Self:
        """Read a published tokenizer's file."""
        ...

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the tokenizer from ``state()``."""
        ...
