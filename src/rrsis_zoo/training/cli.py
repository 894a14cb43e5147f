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
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger

from rrsis_zoo import slurm
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.files import write_text
from rrsis_zoo.registry import MODELS
from rrsis_zoo.training import ranks
from rrsis_zoo.training.callbacks import PredictionFigure, PredictionWriter, TestRecord
from rrsis_zoo.training.checkpoint_io import DirectCheckpointIO
from rrsis_zoo.training.gallery import Gallery
from rrsis_zoo.training.loggers import RunLog, run_log
from rrsis_zoo.training.module import RRSISModule
from rrsis_zoo.training.ranks import OwnSignals, RanksEndTogether
from rrsis_zoo.training.resume import ResumePoint
from rrsis_zoo.training.runs import CONFIG, Run, find, note_job, of_this_job
from rrsis_zoo.weights.loading import find_weights


class RRSISCLI(LightningCLI):
    """The command line of all methods.

    Args:
        words: the command line, if it is not ``sys.argv``.
        run_to_resume: the training that goes on; None for a new one.
        **options: of LightningCLI, beside those that are the same for all of us.
    """

    def __init__(self, words: Sequence[str] | None = None, run_to_resume: Run | None = None, **options: Any) -> None:
        self._words, self._run = words, run_to_resume
        for method in MODELS.values():
            method.module()  # short class names resolve only for imported modules
        super().__init__(
            RRSISModule,
            RRSISDataModule,
            subclass_mode_model=True,
            trainer_defaults={"num_sanity_val_steps": 0},
            seed_everything_default=0,
            save_config_callback=options.pop("save_config_callback", SavedConfig),
            save_config_kwargs={"save_to_log_dir": False},
            auto_configure_optimizers=False,
            # what is the beginning of one option today may be that of two tomorrow; and a slip is named, not guessed
            parser_kwargs={"allow_abbrev": False, **{name: {"allow_abbrev": False} for name in self.subcommands()}},
            **options,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Offer the resume point's settings, in every command, for each accepts the configuration of any."""
        parser.add_lightning_class_args(ResumePoint, "resume_point")
        parser.set_defaults({"resume_point.keep": False})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse what stands for ``--resume``; ``sys.argv`` stays what further processes are started with."""
        if self._words is None:
            super().parse_arguments(parser, args)
            return
        with bare_command_line():
            super().parse_arguments(parser, list(self._words))

    def _parse_ckpt_path(self) -> None:
        if self._run is None:  # else the run's own configuration holds, and what was said on the command line
            super()._parse_ckpt_path()

    def before_instantiate_classes(self) -> None:
        """Look for data and weights first: nobody wants to wait for a large model to hear that a file is missing."""
        options = self.config[str(self.subcommand)]
        model = options.model
        if self.subcommand == "predict":
            options.return_predictions = False  # they are written; keeping all features of a split fills the memory
        if self.subcommand == "fit":
            self._find_run(options)
        if not options.get("ckpt_path") and self._run is None:
            method = next((c for c in MODELS.values() if _path(c.module()) == model.class_path), None)
            weights = model.init_args.get("weights")
            if method is not None and weights:
                find_weights(method.name, weights)
        # jsonargparse adds the path of the file that a section came from
        settings = {name: value for name, value in vars(options.data).items() if not name.startswith("__")}
        RRSISDataModule(**settings).check()

    def _find_run(self, options: Any) -> None:
        """Look whether a training that goes on has something left to do; find the one of a job that has come back."""
        again = self._run is None and not options.get("ckpt_path") and slurm.has_come_back()
        if again:
            config = yaml.safe_load(self._parser(self.subcommand).dump(options, skip_none=False))
            self._run = of_this_job(self._logs(options), config)
        if self._run is not None and not self._run.left(options.as_dict()):
            done = f"{self._run.folder} is complete: epoch {self._run.epoch}, step {self._run.step}"
            if again:
                print(done)
                raise SystemExit(0)
            raise ConfigError(
                f"--resume {done}; to train on, give a larger --trainer.max_epochs (or max_steps, or max_time)"
            )

    def _logs(self, options: Any) -> Path:
        """Return the folder in which the runs of a configuration lie."""
        loggers = options.trainer.logger if isinstance(options.trainer.logger, list) else [options.trainer.logger]
        for logger in loggers:
            if getattr(logger, "class_path", "").endswith("CSVLogger"):
                return Path(logger.init_args.save_dir) / str(logger.init_args.name)
        return Path("runs") / next(c.name for c in MODELS.values() if _path(c.module()) == options.model.class_path)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Return the trainer, which never shards or pads by itself and always writes a CSV log."""
        trainer = super().instantiate_trainer(use_distributed_sampler=False, **kwargs)
        if trainer.loggers or self._run is not None:
            name = next(c.name for c in MODELS.values() if c.module() is type(self.model))
            others = [logger for logger in trainer.loggers if not isinstance(logger, CSVLogger)]
            own = [logger for logger in trainer.loggers if isinstance(logger, CSVLogger)] or [CSVLogger("runs", name)]
            trainer.loggers = [*(run_log(logger) for logger in own), *others]
            if self._run is not None:
                folder = self._run.folder
                trainer.loggers[0] = RunLog(folder.parent.parent, folder.parent.name, folder.name)
        trainer.strategy.checkpoint_io = DirectCheckpointIO()
        trainer._signal_connector = OwnSignals(trainer)
        trainer.callbacks.extend(_CALLBACKS.get(self.subcommand or "", list)())  # type: ignore[attr-defined]
        return trainer

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        given = config.get("callbacks") or []
        given = given if isinstance(given, list) else [given]
        # one resume point: that of the configuration's callbacks, the last of several
        points = [c for c in [*callbacks, *given] if isinstance(c, ResumePoint)]
        kept = points[-1:] if config.get("enable_checkpointing") is not False else []
        config["callbacks"] = [c for c in given if not isinstance(c, ResumePoint)]
        callbacks = [c for c in callbacks if not isinstance(c, ResumePoint)]
        return super()._instantiate_trainer(config, [*callbacks, RanksEndTogether(), *kept])

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        arguments = super()._prepare_subcommand_kwargs(subcommand)
        return arguments if self._run is None else {**arguments, "ckpt_path": str(self._run.point)}


class SavedConfig(SaveConfigCallback):
    """Writes ``config.yaml`` into the run's folder, whole or not at all."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lightning hook, of the first process."""
        folder = next((logger.log_dir for logger in trainer.loggers if isinstance(logger, CSVLogger)), None)
        folder = Path(folder or trainer.default_root_dir)
        write_text(folder / CONFIG, self.parser.dump(self.config, skip_none=False))
        if stage == "fit":
            note_job(folder)


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
    _quiet()
    # Lightning starts further processes from sys.argv, and warns when it differs from what it parses
    sys.argv = [sys.argv[0], *arguments]
    words, run = resumed(arguments)
    _refuse_lost_settings(words)
    with ranks.ended_together():
        RRSISCLI(words, run)
    return 0


def resumed(arguments: Sequence[str]) -> tuple[list[str], Run | None]:
    """Replace ``--resume FOLDER`` of ``rrsis fit`` by what it stands for: the run's configuration, before the rest.

    Returns:
        The arguments, and the run that goes on.

    Raises:
        ConfigError: there is no such run, or the option is misused.
    """
    folders: list[str] = []
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        name, equals, value = word.partition("=")
        if name == "--resume" and arguments[0] == "fit":
            folders.append(value if equals else next(rest, ""))
        else:
            words.append(word)
    if not folders:
        return words, None
    if len(folders) > 1 or not folders[0] or folders[0].startswith("--"):
        raise ConfigError("--resume takes one folder of a run: rrsis fit --resume runs/rsrefseg/version_0")
    if any(word.partition("=")[0] == "--ckpt_path" for word in words):
        raise ConfigError("--resume goes on from the run's own checkpoint: leave --ckpt_path out")
    run = find(folders[0])
    return ["fit", "--config", str(run.config), *words[1:]], run


class _Parts(RRSISCLI):
    """Model, data and trainer of a configuration without a command; looks for no file."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Accept what a command has beside them, as in the configuration that ``rrsis fit`` saves."""
        super().add_arguments_to_parser(parser)
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
        with contextlib.redirect_stderr(said), bare_command_line():
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
    with bare_command_line():
        built = _Parts(run=False, args=list(arguments), save_config_callback=None)
    return built.model, built.datamodule, built.trainer


@contextlib.contextmanager
def bare_command_line() -> Iterator[None]:
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
    for message in (
        ".*does not have many workers.*",
        ".*_pytree.*",
        ".*LeafSpec.*",
        ".*exists and is not empty.*",  # a run that goes on in its folder
    ):
        warnings.filterwarnings("ignore", message=message)
