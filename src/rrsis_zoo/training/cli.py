"""fit, validate, test and predict: LightningCLI, with the checks that belong before anything large is built."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger

from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.registry import MODELS
from rrsis_zoo.training.callbacks import PredictionFigure, PredictionWriter, TestRecord
from rrsis_zoo.training.checkpoint_io import DirectCheckpointIO
from rrsis_zoo.training.module import RRSISModule
from rrsis_zoo.weights.loading import find_weights


class RRSISCLI(LightningCLI):
    """The command line of all methods; it reads ``sys.argv`` unless it is given ``args``."""

    def __init__(self, **options: Any) -> None:
        for method in MODELS.values():
            method.module()  # short class names resolve only for imported modules
        super().__init__(
            RRSISModule,
            RRSISDataModule,
            subclass_mode_model=True,
            trainer_defaults={"num_sanity_val_steps": 0},
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            **options,
        )

    def before_instantiate_classes(self) -> None:
        """Look for data and weights first: nobody wants to wait for a large model to hear that a file is missing."""
        options = self.config[str(self.subcommand)]
        model = options.model
        if self.subcommand == "predict":
            options.return_predictions = False  # they are written; keeping all features of a split fills the memory
        if not options.get("ckpt_path"):
            method = next((c for c in MODELS.values() if _path(c.module()) == model.class_path), None)
            weights = model.init_args.get("weights")
            if method is not None and weights:
                find_weights(method.name, weights)
        # jsonargparse adds the path of the file that a section came from
        settings = {name: value for name, value in vars(options.data).items() if not name.startswith("__")}
        RRSISDataModule(**settings).check()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Return the trainer, which never shards or pads by itself and always writes a CSV log."""
        trainer = super().instantiate_trainer(use_distributed_sampler=False, **kwargs)
        if trainer.loggers and not isinstance(trainer.loggers[0], CSVLogger):
            name = next(c.name for c in MODELS.values() if c.module() is type(self.model))
            others = [logger for logger in trainer.loggers if not isinstance(logger, CSVLogger)]
            own = [logger for logger in trainer.loggers if isinstance(logger, CSVLogger)]
            trainer.loggers = [*(own or [CSVLogger("runs", name)]), *others]
        trainer.strategy.checkpoint_io = DirectCheckpointIO()
        trainer.callbacks.extend(_CALLBACKS.get(self.subcommand or "", list)())  # type: ignore[attr-defined]
        return trainer


_CALLBACKS: dict[str, Any] = {
    "test": lambda: [TestRecord(), PredictionFigure()],
    "predict": lambda: [PredictionWriter()],
}


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def run_lightning(arguments: Sequence[str]) -> int:
    """Run one of Lightning's commands; ``arguments[0]`` is its name."""
    _quiet()
    # Lightning starts further processes from sys.argv, and warns when it differs from what it parses
    sys.argv = [sys.argv[0], *arguments]
    RRSISCLI()
    return 0


class _ParsedCLI(RRSISCLI):
    """Reads the configuration and builds nothing."""

    def before_instantiate_classes(self) -> None:
        """Look for nothing."""

    def instantiate_classes(self) -> None:
        """Build nothing."""

    def _set_seed(self) -> None:
        """Draw nothing."""


def resolve(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the configuration with which ``rrsis fit`` would run, every default included.

    Args:
        arguments: of ``rrsis fit``.

    Returns:
        ``seed_everything``, ``trainer``, ``model`` (``class_path``, ``init_args``) and ``data``, as plain values.

    Raises:
        ConfigError: arguments that ``rrsis fit`` would refuse.
    """
    said = io.StringIO()
    earlier, sys.argv = sys.argv, sys.argv[:1]  # Lightning warns where it differs from what is parsed
    try:
        with contextlib.redirect_stderr(said):
            cli = _ParsedCLI(run=False, args=list(arguments))
    except SystemExit as error:  # how the parser refuses: it has printed why
        why = " ".join(line.strip() for line in said.getvalue().splitlines() if line.strip())
        raise ConfigError(f"rrsis fit would refuse its arguments: {why.rpartition('error: ')[2]}") from error
    finally:
        sys.argv = earlier
    config = json.loads(cli.parser.dump(cli.config, skip_none=False, format="json"))
    return {name: config[name] for name in ("seed_everything", "trainer", "model", "data")}


def _quiet() -> None:
    """Leave out what is no news to the user: advertising, and remarks about our own deliberate choices."""

    class NoTips(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            return "Tip:" not in record.getMessage()

    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(NoTips())
    for message in (".*does not have many workers.*", ".*_pytree.*", ".*LeafSpec.*"):
        warnings.filterwarnings("ignore", message=message)
