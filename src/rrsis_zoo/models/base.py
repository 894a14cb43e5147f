"""The contract of all methods: first *localise* (where does the sentence point?), then *segment* (where exactly?).

Plain torch. ``N`` expressions over ``M`` images is the normal case: ``image_index[n]`` says which image expression
``n`` speaks of, so that a scene with many expressions is encoded once::

    images ── prepare ── views ── encode ── ImageState ─┐
    expressions ── tokenize ── Tokens ─────────────────┴─ localise ── Prompts ── segment ── mask logits ── restore

Sizes are (height, width) in pixels throughout.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, overload

import torch
from torch import Tensor, nn

from rrsis_zoo.errors import ConfigError, unknown_name
from rrsis_zoo.models.configuration import change, from_plain
from rrsis_zoo.models.hub import HubModel
from rrsis_zoo.models.layers.precision import check_floats

TextMode = Literal["published", "independent"]
"""How expressions of one batch share a tensor.

``published``: padded to the longest of the batch and read without a mask, as all three published programs do, so that
an expression's result depends on its batch mates. ``independent``: each is read as if it were alone.
"""

Views = dict[str, Tensor]
"""A method's own inputs made from the native images; the first axis of every tensor is M."""


_ENTRIES, _COMPUTED = 10**10, 10**8
"""Entries of all tensors and of buffers that a configuration may ask for; the largest preset has 1.4e9 and 8e4."""


@dataclass
class Batch:
    """N expressions over M images, as the data module delivers them.

    Attributes:
        images: M native images, uint8 RGB (3, H_i, W_i), values 0-255.
        expressions: N sentences.
        image_index: (N,) int64; expression n speaks of ``images[image_index[n]]``.
        masks: N native masks, bool (H, W) of their image; None where there is no truth.
        sample_ids: N names, unique in their split; they key per-sample results.
    """

    images: list[Tensor]
    expressions: list[str]
    image_index: Tensor
    masks: list[Tensor] | None = None
    sample_ids: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.expressions)

    @property
    def sizes(self) -> Tensor:
        """(M, 2) int64 native sizes."""
        return torch.tensor([image.shape[-2:] for image in self.images], dtype=torch.int64).reshape(-1, 2)

    def samples_of(self, image: int) -> list[str]:
        """Return the names of the samples that speak of an image."""
        used = zip(self.sample_ids, self.image_index.tolist(), strict=False)  # names are optional
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
        length: (N,) int64, how many positions of each row the model *reads*. In text mode ``published`` that is L for
            every row (the pads are read too); in ``independent`` it is the row's own number of tokens.
    """

    ids: Tensor
    length: Tensor

    def __getitem__(self, rows: slice) -> Tokens:
        """Return the tokens of some of the N expressions, padded as they are."""
        return Tokens(self.ids[rows], self.length[rows])

    def to(self, device: torch.device | str) -> Tokens:
        """Return a copy on the device."""
        return Tokens(self.ids.to(device), self.length.to(device))


@dataclass
class ImageState:
    """What is known of M images before any sentence is read; reusable for any number of expressions.

    Attributes:
        features: named tensors whose first axis is M.
        sizes: (M, 2) int64 native sizes.
        fitted: (M, 2) int64 size of the image's content inside the method's square input; the square itself for
            methods that do not keep the aspect ratio.
    """

    features: dict[str, Tensor]
    sizes: Tensor
    fitted: Tensor

    def __len__(self) -> int:
        return len(self.sizes)


@dataclass
class Prompts:
    """The localiser's answer in SAM's form. The first axis of every tensor is N.

    The tokens are a private code, learned together with one decoder: tokens of one method mean nothing to another.

    Attributes:
        sparse: (N, K, D) prompt tokens.
        dense: (N, 1, h, w) mask prompt in the method's own convention (logits or probabilities), or None.
        heatmap: (N, 1, g, g) in [0, 1], the localiser's belief about where the referent is.
        words: (N, L, D) word features, only where the segmenter reads them.
        aux: further tensors for the losses and for the method's own ``segment``.
    """

    sparse: Tensor
    dense: Tensor | None
    heatmap: Tensor
    words: Tensor | None = None
    aux: dict[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, rows: slice) -> Prompts:
        """Return the prompts of some of the N expressions."""

        def take(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: tensor[rows] for name, tensor in value.items()}
            return None if value is None else value[rows]

        return Prompts(**{f.name: take(getattr(self, f.name)) for f in fields(self)})

    @staticmethod
    def joined(parts: Sequence[Prompts], without: frozenset[str] = frozenset()) -> Prompts:
        """Return the prompts of several groups of expressions, one behind the other.

        Args:
            parts: at least one.
            without: names in ``aux`` that are left out.
        """

        def join(values: Sequence[Any]) -> Any:
            if isinstance(values[0], dict):
                return {name: join([v[name] for v in values]) for name in values[0] if name not in without}
            return None if values[0] is None else torch.cat(list(values))

        return Prompts(**{f.name: join([getattr(part, f.name) for part in parts]) for f in fields(Prompts)})


@dataclass
class Prediction:
    """A method's answer for N expressions.

    Attributes:
        mask_logits: (N, 1, h, w) log-odds: their sigmoid is the model's probability, > 0 its decision.
        prompts: what the localiser said.
        state: the image state that it was said about.
        image_index: (N,) int64 into the M images of the state.
    """

    mask_logits: Tensor
    prompts: Prompts
    state: ImageState
    image_index: Tensor

    def __len__(self) -> int:
        return len(self.image_index)

    def __getitem__(self, rows: slice) -> Prediction:
        """Return the answer for some of the N expressions; what is known of the images is shared."""
        return Prediction(self.mask_logits[rows], self.prompts[rows], self.state, self.image_index[rows])


class Restored(Sequence[Tensor]):
    """N maps, each made when it is asked for and not kept: all of them at once fill the memory for large images.

    Args:
        maps: makes the n-th of ``count`` maps, or the maps themselves (Lightning builds sequences anew from a list).
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
    """Sentences to ids.

    Attributes:
        max_length: ids that are read of a sentence at most; the rest is cut off.
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
        """Return how many ids each sentence would have if nothing were cut."""
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
        """Make the tokenizer of ``state()``."""
        ...


class ReferringSegmenter(nn.Module, HubModel, ABC):
    """A referring segmentation method.

    A subclass is built from one frozen dataclass of plain values, its *configuration*; ``presets`` names the published
    ones and ``tiny``. It sets ``requires_grad`` itself: what trains is exactly what ``parameter_groups`` returns.

    Attributes:
        name: public name, as in configs and tables.
        presets: preset name -> configuration.
        tokenizer_kind: class of its tokenizer.
        evaluation_settings: fields of the configuration that change nothing but the evaluation; a checkpoint may be
            tested with others than it was trained with.
        config: this model's configuration.
        segment_only: names in ``Prompts.aux`` that nothing but ``segment`` reads; they are not kept where expressions
            are answered in groups.
        max_expressions: how many expressions are localised, segmented and restored at once in evaluation; None for all.
    """

    name: ClassVar[str]
    presets: ClassVar[dict[str, Any]]
    tokenizer_kind: ClassVar[type[Tokenizer]]
    evaluation_settings: ClassVar[frozenset[str]] = frozenset()
    segment_only: ClassVar[frozenset[str]] = frozenset()
    config: Any
    _tokenizer: Tokenizer | None = None
    max_expressions: int | None = None

    # -- construction ------------------------------------------------------------------------------------------------

    @classmethod
    def from_preset(cls, preset: str, **changes: Any) -> Self:
        """Build the model of a preset with random weights.

        Args:
            preset: one of ``cls.presets``.
            **changes: configuration fields to set otherwise; a mapping changes a nested configuration.

        Raises:
            ConfigError: unknown preset or field, or a value of the wrong kind.
        """
        if preset not in cls.presets:
            raise unknown_name(f"preset of {cls.name}", preset, cls.presets)
        config = change(cls.presets[preset], changes, cls.name)
        return cls._built(config) if changes else cls(config)

    @classmethod
    def from_description(cls, plain: Mapping[str, Any]) -> Self:
        """Build the model of a configuration that a file holds (`rrsis_zoo.models.configuration.to_plain`).

        Raises:
            ConfigError: unknown settings, values that cannot be, or that do not go together, or a model that is larger
                than any file could fill.
        """
        return cls._built(from_plain(type(next(iter(cls.presets.values()))), plain))

    @classmethod
    def _built(cls, config: Any) -> Self:
        """Build, after an attempt without memory: what fails, and what is too large, does so there."""
        try:
            with torch.device("meta"):
                trial = cls(config)
            entries = sum(tensor.numel() for tensor in trial.state_dict().values())
        except ConfigError:
            raise
        except Exception as error:  # a layer's own complaint, of whatever kind
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise ConfigError(f"{cls.name} cannot be built with these settings: {why}") from error
        computed = sum(buffer.numel() for buffer in trial.buffers())
        if entries > _ENTRIES or computed > _COMPUTED:
            raise ConfigError(
                f"{cls.name} with these settings has {max(entries, computed):.1e} entries, more than any file has"
            )
        return cls(config)

    # -- tokenizer ---------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def text_limits(self) -> tuple[int, int]:
        """Rows of the token table, and tokens that are read of a sentence at most."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer in use.

        Raises:
            RuntimeError: none has been loaded or learned.
        """
        if self._tokenizer is None:
            raise RuntimeError("this model has no tokenizer yet: load weights or call fit_tokenizer(expressions)")
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Tokenizer) -> None:
        pieces, rows = tokenizer.vocabulary_size, self.text_limits[0]
        if pieces > rows:
            raise ConfigError(f"the tokenizer has {pieces} pieces, the token table of {self.name} {rows} rows")
        longest = self.text_limits[1]
        if (read := getattr(tokenizer, "max_length", longest)) > longest:
            raise ConfigError(f"the tokenizer gives up to {read} tokens, {self.name} reads {longest} at most")
        self._tokenizer = tokenizer

    @property
    def tokenizer_ready(self) -> bool:
        """Whether ``tokenize`` can be called."""
        return self._tokenizer is not None

    def fit_tokenizer(self, expressions: Sequence[str]) -> None:
        """Learn a vocabulary from the training expressions, where the preset has no pretrained tokenizer.

        Raises:
            ConfigError: there is nothing to learn from.
        """
        self.tokenizer = self.tokenizer_kind.from_expressions(expressions, *self.text_limits)

    def tokenizer_state(self) -> dict[str, Any]:
        """Return the tokenizer as plain values and tensors, for a checkpoint."""
        return self.tokenizer.state()

    def load_tokenizer_state(self, state: dict[str, Any]) -> None:
        """Set the tokenizer from ``tokenizer_state``.

        Raises:
            ConfigError: no state of a tokenizer of this kind, or one that does not fit the model.
        """
        self.tokenizer = self.tokenizer_kind.from_state(state)

    def tokenize(self, expressions: Sequence[str], text_mode: TextMode) -> Tokens:
        """Return the token ids of N expressions, on the model's device."""
        return self.tokenizer(expressions, text_mode).to(self.device)

    def cut(self, expressions: Sequence[str], whose: str = "") -> str:
        """Return a warning of sentences that are longer than what is read of them; nothing where none is.

        Args:
            expressions: all of them.
            whose: what follows "sentences" in the warning.
        """
        limit = self.tokenizer.max_length
        lengths = self.tokenizer.lengths(expressions)
        long = [length for length in lengths if length > limit]
        if not long:
            return ""
        return (
            f"sentences{whose} longer than the {limit} tokens that {self.name} reads are cut off there: {len(long):,} "
            f"of {len(lengths):,}, the longest has {max(long):,}"
        )

    # -- the path from images and sentences to masks -----------------------------------------------------------------

    @abstractmethod
    def prepare(self, images: Sequence[Tensor]) -> Views:
        """Resize, pad and scale M native uint8 images (3, H_i, W_i) as the method does, on the model's device."""

    @abstractmethod
    def encode(self, views: Views, sizes: Tensor) -> ImageState:
        """Encode what needs no sentence. ``sizes``: (M, 2) native sizes."""

    @abstractmethod
    def localise(self, state: ImageState, tokens: Tokens, image_index: Tensor) -> Prompts:
        """Find where each of N expressions points."""

    @abstractmethod
    def segment(self, state: ImageState, prompts: Prompts, image_index: Tensor) -> Tensor:
        """Turn the prompts into (N, 1, h, w) log-odds."""

    def encode_image(self, images: Sequence[Tensor]) -> ImageState:
        """Return ``encode(prepare(images))`` for M native uint8 images (3, H_i, W_i).

        The views are given in the number type of the parameters (``model.half()`` and its like).

        Raises:
            ConfigError: parameters of several number types, see `check_floats`.
        """
        check_floats(self, self.name)
        sizes = torch.tensor([image.shape[-2:] for image in images], dtype=torch.int64).reshape(-1, 2)
        views = {name: view.to(self.dtype) for name, view in self.prepare(images).items()}
        return self.encode(views, sizes)

    def refer(self, state: ImageState, tokens: Tokens, image_index: Tensor) -> Prediction:
        """Localise and segment N expressions on images that are encoded already.

        In evaluation at most ``max_expressions`` at once; the answer for all of them is held.
        """
        parts = list(self.refer_in_groups(state, tokens, image_index))
        if len(parts) == 1:
            return parts[0]
        prompts = Prompts.joined([part.prompts for part in parts])
        return Prediction(torch.cat([part.mask_logits for part in parts]), prompts, state, image_index)

    def refer_in_groups(self, state: ImageState, tokens: Tokens, image_index: Tensor) -> Iterator[Prediction]:
        """Yield the answers for ``max_expressions`` expressions after the other; for all at once in training.

        A group's answer is that of the whole: its tokens stay padded to the longest of all N.
        """
        n, step = len(image_index), self.max_expressions
        if self.training or step is None or n <= step:
            prompts = self.localise(state, tokens, image_index)
            yield Prediction(self.segment(state, prompts, image_index), prompts, state, image_index)
            return
        for start in range(0, n, step):
            rows = slice(start, start + step)
            index = image_index[rows]
            prompts = self.localise(state, tokens[rows], index)
            logits = self.segment(state, prompts, index)
            yield Prediction(logits, Prompts.joined([prompts], without=self.segment_only), state, index)

    def forward(self, batch: Batch, text_mode: TextMode = "independent") -> Prediction:
        """Answer every expression of the batch.

        Raises:
            ConfigError: an image that is not native RGB; it names the image's samples.
        """
        check_images(batch.images, [", ".join(batch.samples_of(i)) for i in range(len(batch.images))])
        state = self.encode_image(batch.images)
        return self.refer(state, self.tokenize(batch.expressions, text_mode), batch.image_index)

    @abstractmethod
    def restore(self, prediction: Prediction) -> list[Tensor]:
        """Bring the log-odds back to native size by the method's own steps: N tensors (H_i, W_i)."""

    def restore_each(self, prediction: Prediction) -> Restored:
        """Return what ``restore`` does, one map at a time: N maps of native size may be gigabytes."""
        return Restored(lambda n: self.restore(prediction[n : n + 1])[0], len(prediction))

    # -- training ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def target(self, masks: Sequence[Tensor]) -> Tensor:
        """Turn N native bool masks (H_i, W_i) into the method's training target, uint8 (N, 1, S, S) of 0, 1, 255."""

    @abstractmethod
    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the named loss terms, each times its weight, and ``"loss"``, their sum, which is minimised."""

    def readings(self, prediction: Prediction) -> dict[str, Tensor]:
        """Return named scalars that are worth watching in training and are no losses; none by default."""
        return {}

    @abstractmethod
    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return a named partition of everything that trains; learning rates for the names live in the config."""

    @abstractmethod
    def inert_parameters(self) -> dict[str, str]:
        """Return the published trainable parameters that cannot get a gradient, by name, with the reason.

        They are kept for the checkpoint's sake and frozen.
        """

    def freeze_inert_parameters(self) -> None:
        """Freeze exactly the inert parameters (called at the end of a subclass's constructor)."""
        inert = self.inert_parameters()
        names = dict(self.named_parameters())
        for name in inert:
            names[name].requires_grad_(False)

    # -- memory --------------------------------------------------------------------------------------------------------

    def use_checkpointing(self, on: bool) -> None:
        """Compute inner results of the encoders again for their gradients instead of keeping them, or not.

        It saves memory, costs time and changes no result.

        Raises:
            ConfigError: the method has nothing that could be checkpointed.
        """
        parts = [part for part in self.modules() if hasattr(part, "checkpointing")]
        if on and not parts:
            raise ConfigError(f"{self.name} has no gradient checkpointing: leave gradient_checkpointing out")
        for part in parts:
            setattr(part, "checkpointing", on)  # noqa: B010 - a module's plain attribute, which types do not know

    # -- small conveniences ------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Device of the first parameter."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the first floating parameter."""
        return next(p.dtype for p in self.parameters() if p.is_floating_point())


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of scalar parameters.

    Attributes:
        total: all parameters (buffers are not parameters).
        trainable: what the published program flags as trainable: trained + inert.
        trained: what really gets a gradient.
    """

    total: int
    trainable: int
    trained: int


def count_parameters(model: ReferringSegmenter) -> ParameterCount:
    """Count a model's parameters, each tensor once."""
    inert = model.inert_parameters()
    total = trained = dead = 0
    for name, parameter in model.named_parameters():
        total += parameter.numel()
        trained += parameter.numel() if parameter.requires_grad else 0
        dead += parameter.numel() if name in inert else 0
    return ParameterCount(total, trained + dead, trained)


def check_images(images: Sequence[Tensor], samples: Sequence[str] = ()) -> None:
    """Refuse what is no native RGB image.

    Args:
        images: to be checked.
        samples: what each is called in an error besides its number.

    Raises:
        ConfigError: an image that is not uint8 (3, H, W) with at least one pixel.
    """
    for i, image in enumerate(images):
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
            given = f"{str(image.dtype).removeprefix('torch.')} {tuple(image.shape)}"
            name = f" (of {samples[i]})" if i < len(samples) and samples[i] else ""
            raise ConfigError(f"image {i}{name} must be uint8 RGB of shape (3, H, W), got {given}")
