"""The LightningModule of all methods, written once against their common interface.

Its constructor takes plain values only, so that a checkpoint loads with ``weights_only=True`` and needs no config.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self, cast, get_args

import lightning
import torch
from lightning.pytorch import Callback
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from rrsis_zoo.errors import ConfigError, WeightsMismatchError, unknown_name
from rrsis_zoo.leakage.lineage import Lineage
from rrsis_zoo.metrics.expected import expected_log_odds
from rrsis_zoo.metrics.protocols import EvalSize, Protocol, get_protocol
from rrsis_zoo.metrics.samples import Counts
from rrsis_zoo.metrics.suite import ReferringMetrics
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.compiling import Compile, check_compile
from rrsis_zoo.models.configuration import from_plain, to_plain
from rrsis_zoo.models.types import Batch, Prediction, Restored, TextMode
from rrsis_zoo.pretrained.lineage import lineage_of, public_name
from rrsis_zoo.pretrained.whole import fill_model, is_whole
from rrsis_zoo.training.checkpoint_io import local_path
from rrsis_zoo.training.finite import FiniteWatch
from rrsis_zoo.training.no_targets import NoTargets
from rrsis_zoo.training.progress import steps_as_now, steps_per_epoch
from rrsis_zoo.training.schedules import FollowingLR, WarmupCosine
from rrsis_zoo.training.sentences import CutSentences
from rrsis_zoo.training.training_record import TrainingRecord
from rrsis_zoo.weights.checkpoints import META
from rrsis_zoo.weights.training import TRAINING

Decay = Literal["all", "matrices"]
"""The parameters that AdamW's weight decay acts on."""

Binarise = Literal["half", "expected-iou"]
"""How probabilities become a mask in an evaluation."""

FrozenDtype = Literal["float32", "bfloat16"]
"""How frozen weights are stored in training."""


@dataclass  # not frozen: Lightning moves what steps return by setting attributes
class Answer:
    """Output of an evaluation step for callbacks.

    Attributes:
        prediction: the model's; None for an empty batch, which a process gets if it has fewer scenes than another.
        native: N log-odds maps, float (H_i, W_i); each is computed on every access.
    """

    prediction: Prediction | None
    native: Sequence[Tensor]


class RRSISModule(lightning.LightningModule):
    """Trains and evaluates one method.

    Args:
        preset: sizes of the model, one of the method's presets.
        settings: configuration fields that differ from the preset's, nested like the configuration.
        weights: source of each foundation model (role -> ``local:PATH``, ``hub:ORG/REPO`` or ``none``), or of a
            complete model, ours or the authors'.
        learning_rates: one for each of the method's parameter groups.
        rate_factor: multiplies all of them: a single number to search over or to scale with the batch size.
        weight_decay: AdamW's; one number, or one for each parameter group.
        decay: ``all`` trained parameters decay, as in the published recipes; ``matrices``: norms, biases, gates and
            other vectors and scalars do not.
        betas: AdamW's.
        warmup_epochs, warmup_start, cosine_start, cosine_epochs, floor: see `WarmupCosine`.
        drop_epoch, drop_factor, poly_epochs, poly_power: see `WarmupCosine`.
        gradient_checkpointing: true, or names of blocks, see `ReferringSegmenter.use_checkpointing`.
        compile: how the parts that repeat are compiled, see `rrsis_zoo.models.compiling.Compile`. Not stored in
            checkpoints: it is for this machine.
        frozen_dtype: ``bfloat16`` halves the memory of frozen layers in training; the results of bf16-mixed, which it
            needs, do not change. Files keep float32, rounded.
        fused: whether AdamW updates all weights in one kernel; equal up to rounding.
        train_text_mode: how expressions of a training batch share a tensor.
        protocol: name of the evaluation protocol.
        binarise: which pixels an evaluation counts as predicted: ``half``, those with a probability above 0.5, as every
            protocol has it; ``expected-iou``, the mask of highest expected IoU (`rrsis_zoo.metrics.expected`), which
            is recorded with the results and keeps them out of tables. Figures and predictions stay as they are.

    Raises:
        ConfigError: unknown preset, setting, protocol or rule.

    Attributes:
        model_class: the method's torch class.
        trained: whether it has been trained, or has the weights of a trained model; set it after loading weights by
            hand. A test records models that are not.
        metrics: of the module's own protocol.
        further: of the other combinations of evaluation size and text mode that `score_under` asked for.
    """

    model_class: ClassVar[type[ReferringSegmenter]]

    def __init__(
        self,
        preset: str,
        settings: dict[str, Any] | None = None,
        weights: dict[str, str] | str | None = None,
        learning_rates: dict[str, float] | None = None,
        rate_factor: float = 1.0,
        weight_decay: float | dict[str, float] = 0.05,
        decay: Decay = "all",
        betas: tuple[float, float] = (0.9, 0.999),
        warmup_epochs: float = 0.0,
        warmup_start: float = 0.01,
        cosine_start: float = 0.0,
        cosine_epochs: float | None = None,
        floor: float = 0.0,
        drop_epoch: float | None = None,
        drop_factor: float = 0.1,
        poly_epochs: float | None = None,
        poly_power: float = 0.9,
        gradient_checkpointing: bool | list[str] = False,
        compile: Compile = "off",
        frozen_dtype: FrozenDtype = "float32",
        fused: bool = False,
        train_text_mode: TextMode = "published",
        protocol: str = "canonical",
        binarise: Binarise = "half",
    ) -> None:
        super().__init__()
        if binarise not in get_args(Binarise):
            raise unknown_name("binarise", binarise, get_args(Binarise))
        if decay not in get_args(Decay):
            raise unknown_name("decay", decay, get_args(Decay))
        if frozen_dtype not in get_args(FrozenDtype):
            raise unknown_name("frozen_dtype", frozen_dtype, get_args(FrozenDtype))
        check_compile(compile)
        self.binarise, self.frozen_dtype, self.fused = binarise, frozen_dtype, fused
        self.compile_mode: Compile = compile
        later = {"binarise": binarise == "half", "frozen_dtype": frozen_dtype == "float32", "fused": not fused}
        # earlier files do not have them
        self.save_hyperparameters(ignore=["compile", *(name for name, default in later.items() if default)])
        self.model: ReferringSegmenter = self.model_class.from_preset(preset, **(settings or {}))
        if gradient_checkpointing:
            self.model.use_checkpointing(gradient_checkpointing)
        self.protocol = get_protocol(protocol)
        self.metrics = ReferringMetrics(self.protocol)
        self.further: Iterable[ReferringMetrics] = ()  # a ModuleList, if there are any
        self._ready = self._compiled = False
        self.trained = False
        self._watch = FiniteWatch()
        self._record = TrainingRecord()
        self._decay: list[tuple[float, tuple[float, float]]] = []

    # -- weights and tokenizer ---------------------------------------------------------------------------------------

    def _make_ready(self) -> None:
        """Give a model that is not from a checkpoint its foundation weights and its vocabulary, once.

        A checkpoint has both, so resuming or testing needs none of the base files. This is only known after Lightning
        has restored it, so ``setup`` is too early.
        """
        if self._ready:
            return
        if self.hparams["weights"]:
            fill_model(self.model, self.hparams["weights"])
            self.trained |= is_whole(self.hparams["weights"]) or self.model.card.training_free
            self._record.lineage = lineage_of(self.hparams["weights"], self.model.card)
        if not self.model.tokenizer_ready:
            self.model.fit_tokenizer(self._data().train_expressions())
        self._ready = True

    def make_fast(self, training: bool) -> None:
        """Compile the model, and for a training store its frozen weights, as the settings say; once.

        The weights must be in place.
        """
        if training and self.frozen_dtype == "bfloat16" and not self.model.stored_frozen:
            self.model.store_frozen(torch.bfloat16)
        if self.compile_mode != "off" and not self._compiled:
            self.model.use_compile(self.compile_mode)
            self._compiled = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description that `rrsis_zoo.load_model` needs, and the record of the training.

        Raises:
            NotFiniteError: weights are not finite; nothing is written.
        """
        if self.trainer.state.fn == TrainerFn.FITTING:
            self._watch.settle(self.trainer, self.model)
            checkpoint[TRAINING] = self._record.content(self.trainer)
        checkpoint[META] = self.model.description()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the tokenizer; refuse the checkpoint of another method or configuration.

        Raises:
            ConfigError: another method or configuration, or settings that this version does not know.
            WeightsMismatchError: it was not written by rrsis-zoo, or its description of the model is damaged.
        """
        description = checkpoint.get(META)
        if description is None:
            raise WeightsMismatchError(f"this checkpoint was not written by rrsis-zoo: it has no {META!r}")
        own = self.model.description()
        try:
            name, config, tokenizer = description["model"], dict(description["config"]), description["tokenizer"]
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsMismatchError(f"this checkpoint's {META!r} is damaged ({error!r})") from error
        if name != own["model"]:
            raise ConfigError(f"the checkpoint's model is {name}, the model of this run is {own['model']}")
        # fields that it lacks were introduced later: it was trained with their defaults
        saved_config = to_plain(from_plain(type(self.model.config), config))
        free = {name: own["config"][name] for name in self.model.evaluation_settings}
        if {**saved_config, **free} != own["config"]:
            raise ConfigError(f"the checkpoint's config is {config}, the config of this run is {own['config']}")
        if tokenizer is None and not self.model.tokenizer_ready:
            raise WeightsMismatchError(
                f"this checkpoint's {META!r} has no tokenizer, which the model needs to read sentences"
            )
        try:
            if tokenizer is not None:
                self.model.load_tokenizer_state(tokenizer)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise WeightsMismatchError(f"this checkpoint's tokenizer is damaged ({error!r})") from error
        # if the model was compiled in Python before training
        state = checkpoint.get("state_dict")
        if isinstance(state, Mapping):
            checkpoint["state_dict"] = {str(name).replace("_orig_mod.", ""): value for name, value in state.items()}
        self._ready = self.trained = True
        settings = checkpoint.get("hyper_parameters")
        self._record.resumed(checkpoint.get(TRAINING), lambda: self._started_from(settings))

    @property
    def lineage(self) -> Lineage:
        """What the model's weights are made from, as far as it is recorded."""
        return self._record.lineage

    def _started_from(self, hyper_parameters: Any) -> Lineage:
        """Return what a checkpoint's training started from, by its settings and without reading any file."""
        if not isinstance(hyper_parameters, Mapping) or "weights" not in hyper_parameters:
            return Lineage(unrecorded=["what the training started from"])
        weights = hyper_parameters["weights"]
        with suppress(ConfigError):  # a source that this version cannot read
            if not isinstance(weights, str):
                return lineage_of(weights, self.model.card)
            return Lineage() if weights == "none" else Lineage(unrecorded=[f"what was in {public_name(weights)}"])
        return Lineage(unrecorded=["what the training started from"])

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **options: Any) -> Self:  # type: ignore[override]
        """Build the module from a checkpoint on this machine; see Lightning's method of this name.

        No code in the file is run, regardless of ``weights_only``.

        Raises:
            ConfigError: a URL; Lightning would run code from there.
        """
        path = local_path(str(checkpoint_path))
        return super().load_from_checkpoint(path, *args, **{**options, "weights_only": True})

    def setup(self, stage: str) -> None:
        """Refuse an unsupported precision, see `check_precision` and `check_speed`."""
        check_precision(str(self.trainer.precision))
        if stage == "fit":
            self.check_speed(str(self.trainer.precision), self.trainer.gradient_clip_val)

    def check_speed(self, precision: str, clip: float | None) -> None:
        """Refuse settings that do not go with a trainer's.

        Args:
            precision: of the trainer.
            clip: its largest norm of the gradients; None for no clipping.

        Raises:
            ConfigError: frozen weights in half precision without the mixed precision that they are for; a fused AdamW
                that would have to clip gradients before they are unscaled.
        """
        if self.frozen_dtype == "bfloat16" and precision != "bf16-mixed":
            raise ConfigError(
                f"frozen_dtype bfloat16 needs --trainer.precision bf16-mixed, got {precision}: without autocast the "
                "weights would not fit the activations"
            )
        if self.fused and clip and precision == "16-mixed":
            raise ConfigError(
                "fused AdamW unscales the gradients of 16-mixed itself, after they would be clipped: set "
                "--trainer.precision bf16-mixed, or --model.fused false"
            )

    def on_fit_start(self) -> None:
        """Lightning hook."""
        self._make_ready()
        self.make_fast(training=True)
        self._record.start(self.trainer)

    def on_validation_start(self) -> None:
        """Lightning hook."""
        self._make_ready()
        self.make_fast(training=False)
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            self._watch.settle(self.trainer, self.model)

    def on_test_start(self) -> None:
        """Lightning hook."""
        self._make_ready()
        self.make_fast(training=False)

    def on_predict_start(self) -> None:
        """Lightning hook."""
        self._make_ready()
        self.make_fast(training=False)

    # -- training ----------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss; log its terms and the model's readings.

        Raises:
            NotFiniteError: the loss of this step, or of an earlier one, is not finite.
        """
        prediction = self.model(batch, self.hparams["train_text_mode"])
        terms = self.model.loss(prediction, batch)
        for name, value in terms.items():
            self.log(f"train/{name}", value, prog_bar=name == "loss", batch_size=len(batch))
        for name, value in self.model.readings(prediction).items():
            self.log(f"train/{name}", value, batch_size=len(batch))
        self._watch.look(terms, self._trainer)
        return terms["loss"]

    def configure_optimizers(self) -> Any:
        """Return AdamW with a rate for every named group, and the schedule by step.

        Raises:
            ConfigError: a group without a rate, or a rate without a group.
        """
        optimiser = self.make_optimiser()
        self.trainer.fit_loop.setup_data()  # else an epoch's batches are only counted if epochs limit the training
        names = [f.name for f in fields(WarmupCosine) if f.name != "steps_per_epoch"]
        schedule = WarmupCosine(steps_per_epoch(self.trainer), **{name: self.hparams[name] for name in names})
        self._decay = [(group["weight_decay"], group["betas"]) for group in optimiser.param_groups]
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": FollowingLR(optimiser, schedule), "interval": "step"},
        }

    def make_optimiser(self) -> torch.optim.AdamW:
        """Return AdamW with a rate and a weight decay for every named group.

        Raises:
            ConfigError: a group without a rate, or a rate without a group.
        """
        groups = check_rates(self.model, self.hparams["learning_rates"] or {})
        groups = [{**group, "lr": group["lr"] * self.hparams["rate_factor"]} for group in groups]
        decay = self.hparams["weight_decay"]
        if not isinstance(decay, Mapping):
            decay = {group["name"]: decay for group in groups}
        check_named(self.model, decay, "weight_decay")
        groups = [{**group, "weight_decay": float(decay[group["name"]])} for group in groups]
        if self.hparams["decay"] == "matrices":
            groups = [part for group in groups for part in spare_vectors(group)]
        return torch.optim.AdamW(groups, betas=tuple(self.hparams["betas"]), fused=self.fused or None)

    def on_train_start(self) -> None:
        """Continue with this run's rates, decay and schedule, whatever the checkpoint had."""
        self.trained = True
        scheduler = cast(FollowingLR, self.lr_schedulers())
        changes: list[str] = []
        for group, rate, (decay, betas) in zip(
            scheduler.optimizer.param_groups, scheduler.base_lrs, self._decay, strict=True
        ):
            for what, earlier, now in (
                ("learning rate", group["initial_lr"], rate),
                ("weight decay", group["weight_decay"], decay),
                ("betas", tuple(group["betas"]), tuple(betas)),
            ):
                if earlier != now:
                    changes.append(f"{what} of {group['name']} {earlier} -> {now}")
            group.update(weight_decay=decay, betas=betas)
        scheduler.settle(steps_as_now(self.trainer))
        if scheduler.offset:
            changes.append(f"{scheduler.schedule.steps_per_epoch} steps per epoch, which the schedule follows")
        if changes:
            rank_zero_info(f"changed since the checkpoint: {'; '.join(changes)}")

    def on_train_end(self) -> None:
        """Lightning hook; without it, a non-finite loss could go unnoticed if no checkpoint is written."""
        self._watch.settle(self.trainer, self.model)

    # -- evaluation --------------------------------------------------------------------------------------------------

    def score_under(self, protocols: Iterable[Protocol]) -> None:
        """Let tests count under further protocols too, see `results_under`.

        Every image is encoded once. Sentences are read again only where the protocols' text modes give other tokens, so
        that each number is the one that a test under that protocol alone would give.
        """
        own = (self.protocol.eval_size, self.protocol.text_mode)
        grids = {(protocol.eval_size, protocol.text_mode): protocol for protocol in protocols}
        further = [ReferringMetrics(protocol) for grid, protocol in grids.items() if grid != own]
        self.further = cast(Iterable[ReferringMetrics], torch.nn.ModuleList(further)) if further else ()

    def results_under(self, protocol: Protocol) -> tuple[list[str], Counts]:
        """Return sample ids and counts of a test for a protocol given to `score_under`; every process must call it.

        Raises:
            ConfigError: as `ReferringMetrics.results`.
        """
        grid = (protocol.eval_size, protocol.text_mode)
        everything = [self.metrics, *self.further]
        return next(m for m in everything if (m.protocol.eval_size, m.protocol.text_mode) == grid).results()

    def on_validation_epoch_start(self) -> None:
        """Lightning hook."""
        self._start_metrics(self._data().fit_eval_split, self.trainer.limit_val_batches, details=False)

    def on_test_epoch_start(self) -> None:
        """Lightning hook."""
        self._start_metrics(self._data().test_split, self.trainer.limit_test_batches, details=True)
        for metrics in self.further:
            metrics.start(self.metrics.sample_ids, complete=self.metrics.complete)

    def validation_step(self, batch: Batch, batch_index: int) -> Answer:  # type: ignore[override]
        """Score a batch of whole scenes; callbacks get the output."""
        return self._score(batch)

    def test_step(self, batch: Batch, batch_index: int) -> Answer:  # type: ignore[override]
        """Score a batch of whole scenes; callbacks get the output."""
        answer = self._score(batch)
        read = {self.protocol.text_mode: answer.prediction}
        for metrics in self.further if answer.prediction is not None else ():
            mode = metrics.protocol.text_mode
            if mode not in read:
                read[mode] = self._read_again(batch, cast(Prediction, answer.prediction), mode)
            self._count(metrics, cast(Prediction, read[mode]), batch)
        return answer

    def predict_step(self, batch: Batch, batch_index: int) -> Answer:
        """Predict a batch of whole scenes; callbacks write the output."""
        if not len(batch):
            return Answer(None, [])
        prediction = self.model(batch, self.protocol.text_mode)
        return Answer(prediction, self.model.restore_each(prediction))

    def on_predict_batch_end(  # type: ignore[override]
        self, outputs: Answer, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Refuse NaN log-odds, which would give empty masks; scoring refuses them by itself.

        Raises:
            ConfigError: the prediction contains NaN.
        """
        if outputs.prediction is not None and outputs.prediction.mask_logits.isnan().any():
            raise ConfigError(
                f"the predicted log-odds of {batch.sample_ids[0]} or another sample of its batch are NaN; evaluate in "
                "full precision (trainer.precision 32-true), or check the weights"
            )

    def on_validation_epoch_end(self) -> None:
        """Log ``val/oiou``, ``val/miou``, ``val/pr@…`` in percent, the same on every rank."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log ``test/…``."""
        self._log_metrics("test")

    def _start_metrics(self, split: Any, limit: float | int, details: bool) -> None:
        whole = isinstance(limit, float) and limit == 1.0  # the integer 1 is one batch
        partial = self.trainer.sanity_checking or not whole
        self.metrics.start(self._data().sample_ids(split), complete=not partial, details=details)

    def _score(self, batch: Batch) -> Answer:
        if batch.masks is None:
            raise ConfigError("evaluation needs masks, but the batch has none")
        answer = self.predict_step(batch, 0)
        if answer.prediction is not None:
            self._count(self.metrics, answer.prediction, batch)
        return answer

    def _count(self, metrics: ReferringMetrics, prediction: Prediction, batch: Batch) -> None:
        maps = self.model.restore_each(at_size(prediction, metrics.protocol.eval_size))
        if self.binarise == "expected-iou":
            logits = maps
            maps = Restored(lambda n: expected_log_odds(logits[n]), len(logits))
        metrics.update(maps, cast(Sequence[Tensor], batch.masks), batch.sample_ids)

    def _read_again(self, batch: Batch, prediction: Prediction, mode: TextMode) -> Prediction:
        """Return the prediction in another text mode, for images that have been encoded."""
        tokens = self.model.tokenize(batch.expressions, mode)
        own = self.model.tokenize(batch.expressions, self.protocol.text_mode)
        if torch.equal(tokens.ids, own.ids) and torch.equal(tokens.length, own.length):
            return prediction
        return self.model.refer(prediction.state, tokens, batch.image_index)

    def _log_metrics(self, stage: str) -> None:
        scores = self.metrics.compute()
        for name, value in scores.items():
            self.log(f"{stage}/{name}", float(value), prog_bar=name in ("miou", "oiou"))
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            self._record.validated(self.trainer, self.protocol.name, scores)

    def _data(self) -> Any:
        data = getattr(self.trainer, "datamodule", None)
        if data is None:
            raise ConfigError("there is no data module: call trainer.fit(module, datamodule=RRSISDataModule(…))")
        return data

    def configure_callbacks(self) -> list[Callback]:
        """Lightning hook: callbacks of every run."""
        return [CutSentences(), NoTargets()]


def check_precision(precision: str) -> None:
    """Refuse to convert all parameters to another type than float32, which the methods do not support.

    Args:
        precision: of the trainer.


    Raises:
        ConfigError: the precision is not float32 and not mixed.
    """
    if (precision.endswith("-true") and precision != "32-true") or precision == "64":
        raise ConfigError(
            f"trainer.precision {precision}: parameters stay in single precision; use 32-true, or bf16-mixed or "
            "16-mixed to compute in half precision where that is safe"
        )


def at_size(prediction: Prediction, size: EvalSize) -> Prediction:
    """Return a prediction with its image sizes replaced by a protocol's size, for ``restore``."""
    if size == "native":
        return prediction
    state = prediction.state
    return replace(prediction, state=replace(state, sizes=torch.full_like(state.sizes, size)))


def log_odds_at(model: ReferringSegmenter, prediction: Prediction, size: EvalSize) -> list[Tensor]:
    """Return N log-odds maps, float (H_i, W_i), on a protocol's grid, by the method's own steps.

    At s x s pixels this is what the method would restore for images of that size: output that is already s x s is not
    resized twice, and the padding of methods that keep the aspect ratio is removed.
    """
    return model.restore(at_size(prediction, size))


def check_rates(model: ReferringSegmenter, rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """Pair a method's parameter groups with their learning rates.

    Returns:
        Named parameter groups for AdamW.

    Raises:
        ConfigError: a group without a rate, or a rate without a group.
    """
    groups = model.parameter_groups()
    check_named(model, rates, "learning_rates")
    return [{"params": groups[name], "lr": float(rates[name]), "name": name} for name in groups]


def check_named(model: ReferringSegmenter, values: Mapping[str, float], what: str) -> None:
    """Refuse a setting that does not have exactly one value for each of a method's parameter groups.

    Raises:
        ConfigError: a group without a value, or a value without a group.
    """
    groups = model.parameter_groups()
    missing, unknown = sorted(set(groups) - set(values)), sorted(set(values) - set(groups))
    if missing or unknown:
        faults = [
            f"{kind}: {', '.join(names)}" for kind, names in (("missing", missing), ("unknown", unknown)) if names
        ]
        raise ConfigError(f"{what} of {model.name}: {'; '.join(faults)}; give one for each of {', '.join(groups)}")


def spare_vectors(group: dict[str, Any]) -> list[dict[str, Any]]:
    """Split one of AdamW's groups into its matrices and, without weight decay, its vectors and scalars."""
    matrices = [p for p in group["params"] if p.ndim > 1]
    vectors = [p for p in group["params"] if p.ndim <= 1]
    parts = [{**group, "params": matrices}]
    parts.append({**group, "params": vectors, "name": f"{group['name']} (vectors)", "weight_decay": 0.0})
    return [part for part in parts if part["params"]]
