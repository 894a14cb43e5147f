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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from rrsis_zoo.errors import ConfigError, unknown_name
from rrsis_zoo.models.card import MethodCard
from rrsis_zoo.models.configuration import change, from_plain
from rrsis_zoo.models.hub import HubModel
from rrsis_zoo.models.layers.precision import check_floats
from rrsis_zoo.models.types import Batch, ImageState, Prediction, Prompts, Restored, TextMode, Tokenizer, Tokens, Views
from rrsis_zoo.weights.wrappers import is_lora

_ENTRIES, _COMPUTED = 10**10, 10**8
"""Entries of all tensors and of buffers that a configuration may ask for; the largest preset has 1.4e9 and 8e4."""


class ReferringSegmenter(nn.Module, HubModel, ABC):
    """A referring segmentation method.

    A subclass is built from one frozen dataclass of plain values, its *configuration*; ``presets`` names the published
    ones and ``tiny``. It sets ``requires_grad`` itself: what trains is exactly what ``parameter_groups`` returns.

    Attributes:
        card: the facts about the method.
        name: its public name, as in configs and tables: the card's.
        presets: preset name -> configuration; the card has the same names.
        foundation_fillers: role -> function that fills a model from the files of that foundation model, which come in
            the order of the card's `FoundationModel.files`.
        official_name: from a tensor's name here to its name in the authors' checkpoints; None where there are none.
        tokenizer_kind: class of its tokenizer.
        evaluation_settings: fields of the configuration that change nothing but the evaluation; a checkpoint may be
            tested with others than it was trained with.
        config: this model's configuration.
        segment_only: names in ``Prompts.aux`` that nothing but ``segment`` reads; they are not kept where expressions
            are answered in groups.
        max_expressions: how many expressions are localised, segmented and restored at once in evaluation; None for all.
    """

    card: ClassVar[MethodCard]
    name: ClassVar[str]
    presets: ClassVar[dict[str, Any]]
    foundation_fillers: ClassVar[Mapping[str, Callable[[Any, list[Path]], None]]] = {}
    official_name: ClassVar[Callable[[str], str] | None] = None
    tokenizer_kind: ClassVar[type[Tokenizer]]
    evaluation_settings: ClassVar[frozenset[str]] = frozenset()
    segment_only: ClassVar[frozenset[str]] = frozenset()
    config: Any
    _tokenizer: Tokenizer | None = None
    max_expressions: int | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if card := cls.__dict__.get("card"):
            cls.name = card.name

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
        return cls._built(from_plain(cls.configuration_kind(), plain))

    @classmethod
    def configuration_kind(cls) -> type[Any]:
        """Return the dataclass of the method's configurations."""
        return type(next(iter(cls.presets.values())))  # they are all of one

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
    @abstractmethod
    def sides(self) -> tuple[int, int]:
        """Side of the square input, S, and of the mask logits, in pixels."""

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

    def read_tokenizer(self, path: Path) -> None:
        """Set the tokenizer from a published tokenizer's file.

        Raises:
            ConfigError: a file of another kind, or one that does not fit the model.
        """
        self.tokenizer = self.tokenizer_kind.from_file(path, self.text_limits[1])

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
        """Find where each of N expressions points.

        Args:
            state: of M images.
            tokens: of N expressions, ids (N, L).
            image_index: (N,) int64; expression n speaks of image ``image_index[n]``.

        Returns:
            N prompts: sparse (N, K, D), dense (N, 1, h, w) or None, heat map (N, 1, g, g) in [0, 1].
        """

    @abstractmethod
    def segment(self, state: ImageState, prompts: Prompts, image_index: Tensor) -> Tensor:
        """Find the exact border of each of N referents.

        Args:
            state: of M images.
            prompts: of N expressions, from ``localise``.
            image_index: (N,) int64 into the M images.

        Returns:
            (N, 1, h, w) log-odds, h = w = ``sides[1]``: their sigmoid is the probability, above 0 is foreground.
        """

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
        """Bring the log-odds back to native size by the method's own steps.

        Args:
            prediction: of N expressions.

        Returns:
            N tensors (H_i, W_i) of log-odds, each of the size of its expression's image.
        """

    def restore_each(self, prediction: Prediction) -> Restored:
        """Return what ``restore`` does, one map at a time: N maps of native size may be gigabytes."""
        return Restored(lambda n: self.restore(prediction[n : n + 1])[0], len(prediction))

    # -- training ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def target(self, masks: Sequence[Tensor]) -> Tensor:
        """Turn native masks into the method's training target.

        Args:
            masks: N masks, bool (H_i, W_i).

        Returns:
            uint8 (N, 1, S, S), S = ``sides[0]``: 0 background, 1 referent, 255 ignored (padding).
        """

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the named loss terms and ``"loss"``, their sum, which is minimised: scalars, in float32.

        Args:
            prediction: of the batch.
            batch: N expressions with their native masks, bool (H_i, W_i).

        Raises:
            ValueError: the batch has no masks.
        """
        if batch.masks is None:
            raise ValueError("the batch has no masks to train on")
        terms = self.loss_terms(prediction, self.target(batch.masks))
        return {**terms, "loss": torch.stack(list(terms.values())).sum()}

    @abstractmethod
    def loss_terms(self, prediction: Prediction, target: Tensor) -> dict[str, Tensor]:
        """Return the named terms of the loss, scalars, each times its weight.

        Args:
            prediction: of N expressions.
            target: what ``target`` returns, uint8 (N, 1, S, S) of 0, 1, 255.
        """

    def readings(self, prediction: Prediction) -> dict[str, Tensor]:
        """Return named scalars that are worth watching in training and are no losses; none by default."""
        return {}

    @abstractmethod
    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return a named partition of everything that trains; learning rates for the names live in the config."""

    def inert_parameters(self) -> dict[str, str]:
        """Return the published trainable parameters that cannot get a gradient, by name, with the reason.

        They are kept for the checkpoint's sake and frozen. Where adapters are trained, the weights under them are
        frozen anyway, and not listed.
        """
        prefixes = self.inert_prefixes()
        adapted = self.adapted_parts()
        return {
            name: reason
            for name, _ in self.named_parameters()
            for prefix, reason in prefixes.items()
            if (name == prefix or (prefix.endswith(".") and name.startswith(prefix)))
            and not (name.startswith(adapted) and not is_lora(name))
        }

    def inert_prefixes(self) -> dict[str, str]:
        """Return the names of inert parameters, and of modules (with a dot at their end) that hold nothing else.

        Returns:
            Name or ``module.`` -> the reason; nothing by default.
        """
        return {}

    def adapted_parts(self) -> tuple[str, ...]:
        """Return the prefixes of encoders of which adapters alone are trained; none by default."""
        return ()

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
