"""fit, validate, test and predict: LightningCLI, with the checks that belong before anything large is built."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger

from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.registry import MODELS
from rrsis_zoo.training.callbacks import PredictionFigure, PredictionWriter, TestRecord
from rrsis_zoo.training.checkpoint_io import DirectCheckpointIO
from rrsis_zoo.training.config_files import guard_configs
from rrsis_zoo.training.gallery import Gallery
from rrsis_zoo.training.module import RRSISModule
from rrsis_zoo.weights.loading import find_weights


class RRSISCLI(LightningCLI):
    """The command line of all methods.

    Args:
        **options: of LightningCLI, beside those that are the same for all of us.
    """

    def __init__(self, **options: Any) -> None:
        guard_configs(options.get("args") or sys.argv[1:])
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
            # what is the beginning of one option today may be that of two tomorrow; and a slip is named, not guessed
            parser_kwargs={"allow_abbrev": False, **{name: {"allow_abbrev": False} for name in self.subcommands()}},
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
    "test": lambda: [TestRecord(), PredictionFigure(), Gallery()],
    "predict": lambda: [PredictionWriter()],
}


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def run_lightning(arguments: Sequence[str]) -> int:
    """Run one of Lightning's commands; ``arguments[0]`` is its name.

    Raises:
        ConfigError: something that the user can mend.
    """
    _refuse_lost_settings(arguments)
    _quiet()
    # Lightning starts further processes from sys.argv, and warns when it differs from what it parses
    sys.argv = [sys.argv[0], *arguments]
    RRSISCLI()
    return 0


class _Parts(RRSISCLI):
    """Model, data and trainer of a configuration without a command; looks for no file."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Accept what a command has beside them, as in the configuration that ``rrsis fit`` saves."""
        parser.add_argument("--ckpt_path", type=str | None, default=None)
        parser.add_argument("--weights_only", type=bool | None, default=None)

    def before_instantiate_classes(self) -> None:
        """Look for nothing."""


class _Parsed(_Parts):
    """Reads the configuration and builds nothing."""

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
    _refuse_lost_settings(arguments)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), _bare_command_line():
            cli = _Parsed(run=False, args=list(arguments))
    except SystemExit as error:  # how the parser refuses: it has printed why
        why = " ".join(line.strip() for line in said.getvalue().splitlines() if line.strip())
        raise ConfigError(f"rrsis fit would refuse its arguments: {why.rpartition('error: ')[2]}") from error
    config = json.loads(cli.parser.dump(cli.config, skip_none=False, format="json"))
    return {name: config[name] for name in ("seed_everything", "trainer", "model", "data")}


def instantiate(arguments: Sequence[str]) -> tuple[RRSISModule, RRSISDataModule, Trainer]:
    """Build what ``rrsis fit`` would run from the same arguments, with random weights, and run nothing.

    Args:
        arguments: ``--config …`` and further options of ``rrsis fit``; also a ``config.yaml`` that it left behind.
    """
    _quiet()
    with _bare_command_line():
        built = _Parts(run=False, args=list(arguments), save_config_callback=None)
    return built.model, built.datamodule, built.trainer


@contextlib.contextmanager
def _bare_command_line() -> Iterator[None]:
    """Hide ``sys.argv``: Lightning warns where it differs from what is parsed."""
    earlier, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = earlier


def _refuse_lost_settings(arguments: Sequence[str]) -> None:
    """Refuse an option for a part of a nested setting: jsonargparse drops other parts of it without a word.

    Raises:
        ConfigError: see there.
    """
    parts: dict[str, list[str]] = {}
    for word in arguments:
        if found := re.match(r"--(model\.(?:init_args\.)?settings\.\w+)\.([\w.]+)", word):
            parts.setdefault(found[1], []).append(f"{found[2]}: …")
    for section, names in parts.items():
        raise ConfigError(f"the parts of a nested setting go together: --{section} '{{{', '.join(names)}}}'")


def _quiet() -> None:
    """Leave out what is no news to the user: advertising, and remarks about our own deliberate choices."""

    class NoTips(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            return "Tip:" not in record.getMessage()

    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(NoTips())
    for message in (".*does not have many workers.*", ".*_pytree.*", ".*LeafSpec.*"):
        warnings.filterwarnings("ignore", message=message)
