"""The interface of all methods: first *localise* (where does the sentence point?), then *segment* (where exactly?).

Plain torch. ``N`` expressions over ``M`` images is the normal case: expression ``n`` refers to image
``image_index[n]``, so that a scene with many expressions is encoded once::

    images ── prepare ── views ── encode ── ImageState ─┐
    expressions ── tokenize ── Tokens ─────────────────┴─ localise ── Prompts ── segment ── mask logits ── restore

Sizes are (height, width) in pixels throughout.
"""

from __future__ import annotations

import fnmatch
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from rrsis_zoo.errors import ConfigError, unknown_name
from rrsis_zoo.models.card import MethodCard
from rrsis_zoo.models.compiling import Compile, Part, compile_parts
from rrsis_zoo.models.configuration import change, from_plain
from rrsis_zoo.models.hub import HubModel
from rrsis_zoo.models.layers.host import picked
from rrsis_zoo.models.layers.precision import check_floats
from rrsis_zoo.models.losses import world_size
from rrsis_zoo.models.presence import Calibration
from rrsis_zoo.models.recomputing import blocks_of, recompute, store_frozen
from rrsis_zoo.models.seam import Seam
from rrsis_zoo.models.types import Batch, ImageState, Prediction, Prompts, Restored, TextMode, Tokenizer, Tokens, Views
from rrsis_zoo.weights.skeleton import on_meta
from rrsis_zoo.weights.wrappers import is_lora

_ENTRIES, _COMPUTED = 10**10, 10**8
"""Most entries that a configuration may have in all tensors and in buffers; the largest preset has 1.4e9 and 8e4."""


class ReferringSegmenter(nn.Module, HubModel, ABC):
    """A referring segmentation method.

    A subclass is built from one frozen dataclass of plain values, its *configuration*; ``presets`` has the published
    ones and ``tiny``. It sets ``requires_grad`` itself: the trained parameters are those of ``parameter_groups``.

    Attributes:
        card: the facts about the method.
        name: its public name in configs and tables, from the card.
        presets: preset name -> configuration; the card has the same names.
        foundation_fillers: role -> function that fills a model from the files of that foundation model, in the order
            of the card's `FoundationModel.files`.
        official_name: from a tensor's name here to its name in the authors' checkpoints; None if there are none.
        tokenizer_kind: class of its tokenizer.
        evaluation_settings: fields of the configuration that only affect evaluation; a test may use other values than
            the training.
        config: this model's configuration.
        calibration: what presence its answers have (`rrsis calibrate`), for exactly these weights; None if not known.
        segment_only: names in ``Prompts.aux`` that only ``segment`` reads; they are not kept if expressions are
            processed in groups.
        seam: which questions can be asked between ``localise`` and ``segment``; for `rrsis_zoo.diagnosis`.
        mask_terms: names of the loss terms that only compare the mask with the truth.
        needs_referent: names of the loss terms that a sentence without a referent is left out of, because they have no
            value or no gradient for an empty mask.
        compares_processes: whether one of these terms compares the rows of all processes, so that each must compute it.
        max_expressions: number of expressions that are localised, segmented and restored at once in evaluation; None
            for all.
        steady: whether the same steps are taken for all batches of a text mode, even where one has nothing to hide:
            for compiled parts.
        stored_frozen: names of weights that `store_frozen` has converted.
    """

    card: ClassVar[MethodCard]
    name: ClassVar[str]
    presets: ClassVar[dict[str, Any]]
    foundation_fillers: ClassVar[Mapping[str, Callable[[Any, list[Path]], None]]] = {}
    official_name: ClassVar[Callable[[str], str] | None] = None
    tokenizer_kind: ClassVar[type[Tokenizer]]
    evaluation_settings: ClassVar[frozenset[str]] = frozenset()
    segment_only: ClassVar[frozenset[str]] = frozenset()
    seam: ClassVar[Seam] = Seam()
    mask_terms: ClassVar[frozenset[str]] = frozenset({"loss_ce", "loss_dice"})
    needs_referent: ClassVar[frozenset[str]] = frozenset()
    compares_processes: ClassVar[bool] = False
    config: Any
    _tokenizer: Tokenizer | None = None
    max_expressions: int | None = None
    calibration: Calibration | None = None
    steady: bool = False
    stored_frozen: frozenset[str] = frozenset()

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
            **changes: configuration fields with other values; a mapping changes a nested configuration.

        Raises:
            ConfigError: unknown preset or field, or an invalid value.
        """
        if preset not in cls.presets:
            raise unknown_name(f"preset of {cls.name}", preset, cls.presets)
        config = change(cls.presets[preset], changes, cls.name)
        return cls._built(config) if changes else cls(config)

    @classmethod
    def from_description(cls, plain: Mapping[str, Any]) -> Self:
        """Build the model of a configuration from a file (`rrsis_zoo.models.configuration.to_plain`).

        Raises:
            ConfigError: unknown settings, invalid or contradictory values, or a model too large for any file.
        """
        return cls._built(from_plain(cls.configuration_kind(), plain))

    @classmethod
    def configuration_kind(cls) -> type[Any]:
        """Return the dataclass of the method's configurations."""
        return type(next(iter(cls.presets.values())))  # all have the same

    @classmethod
    def _built(cls, config: Any) -> Self:
        """Build the model after a trial without memory, which detects errors and excessive sizes."""
        try:
            with on_meta():
                trial = cls(config)
            entries = sum(tensor.numel() for tensor in trial.state_dict().values())
        except ConfigError:
            raise
        except Exception as error:  # a layer can raise any error
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise ConfigError(f"{cls.name} cannot be built with these settings: {why}") from error
        computed = sum(buffer.numel() for buffer in trial.buffers())
        if entries > _ENTRIES or computed > _COMPUTED:
            raise ConfigError(
                f"{cls.name} with these settings has {max(entries, computed):.1e} entries, too many for any file"
            )
        return cls(config)

    # -- tokenizer ---------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def text_limits(self) -> tuple[int, int]:
        """Rows of the token table, and maximum number of tokens of a sentence."""

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
            raise ConfigError(f"the tokenizer has {pieces} pieces, but the token table of {self.name} has {rows} rows")
        longest = self.text_limits[1]
        if (read := getattr(tokenizer, "max_length", longest)) > longest:
            raise ConfigError(f"the tokenizer gives up to {read} tokens, but {self.name} reads at most {longest}")
        self._tokenizer = tokenizer

    @property
    def tokenizer_ready(self) -> bool:
        """Whether ``tokenize`` can be called."""
        return self._tokenizer is not None

    def fit_tokenizer(self, expressions: Sequence[str]) -> None:
        """Learn a vocabulary from the training expressions, for presets without a pretrained tokenizer.

        Raises:
            ConfigError: there are no expressions.
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
            ConfigError: not the state of a tokenizer of this kind, or one that does not fit the model.
        """
        self.tokenizer = self.tokenizer_kind.from_state(state)

    def tokenize(self, expressions: Sequence[str], text_mode: TextMode) -> Tokens:
        """Return the token ids of N expressions, int64 (N, L), on the model's device."""
        return self.tokenizer(expressions, text_mode).to(self.device)

    def cut(self, expressions: Sequence[str], whose: str = "") -> str:
        """Return a warning about sentences that are too long to be read completely; empty if there are none.

        Args:
            expressions: all of them.
            whose: text after "sentences" in the warning.
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
        """Resize, pad and scale M native uint8 images (3, H_i, W_i) for the method, on the model's device."""

    @abstractmethod
    def encode(self, views: Views, sizes: Tensor) -> ImageState:
        """Encode the images, as far as no sentence is needed. ``sizes``: (M, 2) native sizes in pixels."""

    @abstractmethod
    def localise(self, state: ImageState, tokens: Tokens, image_index: Tensor) -> Prompts:
        """Find where each of N expressions points.

        Args:
            state: of M images.
            tokens: of N expressions, ids (N, L).
            image_index: (N,) int64; expression n refers to image ``image_index[n]``.

        Returns:
            N prompts: sparse (N, K, D), dense (N, 1, h, w) or None, heat map (N, 1, g, g) in [0, 1]; ``presence`` (N,)
            in [0, 1] if the method itself says whether there is a referent.
        """

    @abstractmethod
    def segment(self, state: ImageState, prompts: Prompts, image_index: Tensor) -> Tensor:
        """Find the exact outline of each of N referents.

        Args:
            state: of M images.
            prompts: of N expressions, from ``localise``.
            image_index: (N,) int64 into the M images.

        Returns:
            (N, 1, h, w) log-odds, h = w = ``sides[1]``: their sigmoid is the probability, above 0 is foreground.
        """

    def encode_image(self, images: Sequence[Tensor]) -> ImageState:
        """Return ``encode(prepare(images))`` for M native uint8 images (3, H_i, W_i).

        The views get the dtype of the parameters (for ``model.half()`` and similar).

        Raises:
            ConfigError: parameters of several dtypes, see `check_floats`.
        """
        check_floats(self, self.name, self.stored_frozen)
        sizes = torch.tensor([image.shape[-2:] for image in images], dtype=torch.int64).reshape(-1, 2)
        views = {name: view.to(self.dtype) for name, view in self.prepare(images).items()}
        return self.encode(views, sizes)

    def refer(self, state: ImageState, tokens: Tokens, image_index: Tensor) -> Prediction:
        """Localise and segment N expressions on images that have been encoded.

        In evaluation at most ``max_expressions`` at once; the predictions for all of them are kept.
        """
        parts = list(self.refer_in_groups(state, tokens, image_index))
        if len(parts) == 1:
            return parts[0]
        prompts = Prompts.joined([part.prompts for part in parts])
        return Prediction(torch.cat([part.mask_logits for part in parts]), prompts, state, image_index)

    def refer_in_groups(self, state: ImageState, tokens: Tokens, image_index: Tensor) -> Iterator[Prediction]:
        """Yield predictions for ``max_expressions`` expressions at a time; for all at once in training.

        Grouping does not change the result: tokens stay padded to the longest of all N.
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
        """Predict every expression of the batch.

        Raises:
            ConfigError: an image is not native RGB; the message names its samples.
        """
        check_images(batch.images, batch)
        state = self.encode_image(batch.images)
        prediction = self.refer(state, self.tokenize(batch.expressions, text_mode), batch.image_index)
        prediction.image_of = batch.image_of
        return prediction

    @abstractmethod
    def restore(self, prediction: Prediction) -> list[Tensor]:
        """Resize the log-odds to native size by the method's own steps.

        Args:
            prediction: of N expressions.

        Returns:
            N float tensors (H_i, W_i) of log-odds, each of the size of its expression's image.
        """

    def restore_each(self, prediction: Prediction) -> Restored:
        """Return the maps of ``restore``, computed one at a time: N maps of native size may take gigabytes."""
        return Restored(lambda n: self.restore(prediction[n : n + 1])[0], len(prediction))

    # -- diagnosis ---------------------------------------------------------------------------------------------------

    @classmethod
    def stock(cls, config: Any) -> Any:
        """Return the sizes of the SAM that the method starts from, if it is one that takes points and boxes.

        Args:
            config: one of the method's configurations.

        Returns:
            A ``SAMConfig`` or ``SAM2Config``; None if there is none.
        """
        return None

    def dense_truth(self, prompts: Prompts, truth: Tensor) -> Tensor | None:
        """Return what the method's dense prompt would be if the localiser were right.

        Args:
            prompts: of N expressions, from ``localise``.
            truth: float (N, 1, h, w) of 0 and 1, on the grid of ``prompts.dense``.

        Returns:
            (N, 1, h, w) in the method's own convention; None if it takes no dense prompt.
        """
        return None

    def segment_again(self, state: ImageState, prompts: Prompts, image_index: Tensor) -> Callable[[Prompts], Tensor]:
        """Return ``segment`` for the same N expressions with other sparse and dense prompts.

        A method whose ``segment`` also computes what does not depend on these two overrides it, to compute that once.
        """
        return lambda others: self.segment(state, others, image_index)

    # -- training ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def target(self, masks: Sequence[Tensor]) -> Tensor:
        """Convert native masks into the method's training target.

        Args:
            masks: N masks, bool (H_i, W_i).

        Returns:
            uint8 (N, 1, S, S), S = ``sides[0]``: 0 background, 1 referent, 255 ignored (padding).
        """

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the named loss terms and their sum ``"loss"``, which is minimised: float32 scalars.

        Terms in ``needs_referent`` are those of the batch without the sentences that have no referent
        (``batch.absent``); 0 if there are no others.

        Args:
            prediction: of the batch.
            batch: N expressions with their native masks, bool (H_i, W_i).

        Raises:
            ValueError: the batch has no masks.
        """
        if batch.masks is None:
            raise ValueError("the batch has no masks to train on")
        target = self.target(batch.masks)
        terms = self.loss_terms(prediction, target)
        # a process that has none to leave out still takes part in what the others gather
        together = self.compares_processes and bool(batch.absent) and world_size() > 1
        if (any(batch.absent) or together) and (left_out := self.needs_referent & terms.keys()):
            there = [n for n, absent in enumerate(batch.absent) if not absent]
            if there or together:
                fewer = self.loss_terms(prediction[there], picked(target, there))
            else:
                fewer = dict.fromkeys(left_out, prediction.mask_logits.float().sum() * 0)
            if not there:  # means over no row
                fewer = {name: torch.nan_to_num(value) for name, value in fewer.items()}
            terms = {name: fewer[name] if name in left_out else value for name, value in terms.items()}
        return {**terms, "loss": torch.stack(list(terms.values())).sum()}

    @abstractmethod
    def loss_terms(self, prediction: Prediction, target: Tensor) -> dict[str, Tensor]:
        """Return the named terms of the loss, scalars, each times its weight.

        Args:
            prediction: of N expressions.
            target: from ``target``, uint8 (N, 1, S, S) of 0, 1, 255.
        """

    def readings(self, prediction: Prediction) -> dict[str, Tensor]:
        """Return named scalars worth watching in training besides the losses; none by default."""
        return {}

    @abstractmethod
    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return all trained parameters in named groups; the config has a learning rate for each name."""

    def inert_parameters(self) -> dict[str, str]:
        """Return parameters that are trainable in the published program but cannot get a gradient: name -> reason.

        They are kept for compatibility of checkpoints, and frozen. If adapters are trained, the weights that they adapt
        are frozen anyway and not listed.
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
        """Return the names of inert parameters, and of modules (ending with a dot) with only such parameters.

        Returns:
            Name or ``module.`` -> the reason; nothing by default.
        """
        return {}

    def adapted_parts(self) -> tuple[str, ...]:
        """Return the prefixes of encoders that only train adapters; none by default."""
        return ()

    def freeze_inert_parameters(self) -> None:
        """Freeze the inert parameters (called at the end of a subclass's constructor)."""
        inert = self.inert_parameters()
        names = dict(self.named_parameters())
        for name in inert:
            names[name].requires_grad_(False)

    # -- memory --------------------------------------------------------------------------------------------------------

    def use_checkpointing(self, on: bool | Sequence[str]) -> None:
        """Turn gradient checkpointing on or off: intermediate results of blocks are recomputed, not kept.

        It saves memory, costs time and does not change results.

        Args:
            on: True for the blocks of all encoders; or names of blocks, with ``*`` and ``?``, for instance
                ``["sam.image_encoder.blocks.*"]``; False for none.

        Raises:
            ConfigError: the method has no such blocks.
        """
        blocks = blocks_of(self)
        chosen: set[str] = set()
        if on is True:
            chosen = {name for name in blocks if "decoder" not in name}  # a decoder is small
            if not chosen:
                raise ConfigError(
                    f"{self.name} does not support gradient checkpointing: leave gradient_checkpointing out"
                )
        elif on:
            for pattern in on:
                if not (found := fnmatch.filter(blocks, pattern)):
                    lists = sorted({name.rpartition(".")[0] for name in blocks})
                    raise ConfigError(
                        f"gradient_checkpointing {pattern!r} names no block of {self.name}; there are: "
                        + (", ".join(f"{name}.*" for name in lists) or "none")
                    )
                chosen.update(found)
        for name, block in blocks.items():
            recompute(block, name in chosen)

    def store_frozen(self, dtype: torch.dtype) -> None:
        """Store frozen weights of linear layers and convolutions in half the memory, for mixed precision of that dtype.

        Autocast casts them at every call anyway, so that results are the same, bit for bit. Without autocast the model
        can then no longer be called.
        """
        self.stored_frozen |= store_frozen(self, dtype)

    # -- speed -------------------------------------------------------------------------------------------------------

    def compiled_parts(self) -> dict[str, Part]:
        """Return the parts that repeat and can be compiled, encoders, prompter, decoder: name -> part; none by default.

        They are called with tensors only, and ask nothing about their values.
        """
        return {}

    def use_compile(self, mode: Compile, **options: Any) -> None:
        """Compile `compiled_parts` in place; their first calls then take seconds to minutes, once for each graph.

        Masks are equal up to rounding. Names of parameters, and so checkpoints, stay as they are.

        Args:
            mode: ``off`` undoes it.
            **options: of `torch.compile`.

        Raises:
            ConfigError: an unknown mode, or a method without such parts.
        """
        compile_parts(self.compiled_parts(), mode, self.name, **options)
        for part in self.modules():
            if hasattr(part, "steady"):
                setattr(part, "steady", mode != "off")  # noqa: B010 - a plain attribute, unknown to the type checker

    # -- small conveniences ------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Device of the first parameter."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the first floating-point parameter, of those that `store_frozen` has left alone."""
        stored = self.stored_frozen
        return next(p.dtype for name, p in self.named_parameters() if p.is_floating_point() and name not in stored)


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of parameters.

    Attributes:
        total: all parameters (buffers are not parameters).
        trainable: flagged as trainable by the published program: trained + inert.
        trained: those that get a gradient.
    """

    total: int
    trainable: int
    trained: int


class Counted(Protocol):
    """Whatever has parameters, some of which may be inert."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Return all parameters by name."""
        ...

    def inert_parameters(self) -> dict[str, str]:
        """Return the inert ones, see `ReferringSegmenter.inert_parameters`."""
        ...


def count_parameters(model: Counted) -> ParameterCount:
    """Count a model's parameters, each tensor once."""
    inert = model.inert_parameters()
    total = trained = dead = 0
    for name, parameter in model.named_parameters():
        total += parameter.numel()
        trained += parameter.numel() if parameter.requires_grad else 0
        dead += parameter.numel() if name in inert else 0
    return ParameterCount(total, trained + dead, trained)


def check_images(images: Sequence[Tensor], batch: Batch | None = None) -> None:
    """Refuse tensors that are not native RGB images.

    Args:
        images: to be checked.
        batch: that they are from, for the names of their samples in error messages.

    Raises:
        ConfigError: an image is not uint8 (3, H, W) with at least one pixel.
    """
    for i, image in enumerate(images):
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
            actual = f"{str(image.dtype).removeprefix('torch.')} {tuple(image.shape)}"
            samples = "" if batch is None else ", ".join(batch.samples_of(i))
            name = f" (of {samples})" if samples else ""
            raise ConfigError(f"image {i}{name} must be uint8 RGB of shape (3, H, W), got {actual}")
