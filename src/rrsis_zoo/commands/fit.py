"""fit, validate, test and predict: LightningCLI, with checks before anything large is built."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, set_parsing_settings
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from rrsis_zoo import slurm
from rrsis_zoo.commands.from_checkpoint import Given, with_checkpoint
from rrsis_zoo.commands.given_checkpoint import check_asked, open_checkpoint
from rrsis_zoo.commands.plugin_options import HELP, OPTION, with_plugins
from rrsis_zoo.commands.preset_weights import check_sizes, with_preset_weights
from rrsis_zoo.commands.refusals import in_one_line, refused
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.errors import ConfigError, MissingDataError, MissingWeightsError, RRSISError, together
from rrsis_zoo.files import write_text
from rrsis_zoo.methods.registry import current_class_path, method_at, methods
from rrsis_zoo.metrics.protocols import PROTOCOLS, get_protocol
from rrsis_zoo.pretrained.whole import find_weights, is_whole
from rrsis_zoo.training import ranks
from rrsis_zoo.training.best import never_validated
from rrsis_zoo.training.callbacks import PredictionFigure, PredictionWriter, TestRecord
from rrsis_zoo.training.checkpoint_io import DirectCheckpointIO
from rrsis_zoo.training.config_files import guard_configs
from rrsis_zoo.training.dry_run import dry_run
from rrsis_zoo.training.epoch_lines import lines_for_logs
from rrsis_zoo.training.gallery import Gallery
from rrsis_zoo.training.loggers import UNNAMED, QuietWandbLogger, RunLog, run_log
from rrsis_zoo.training.memory import advised
from rrsis_zoo.training.module import RRSISModule, check_precision
from rrsis_zoo.training.presence import PresenceRecord
from rrsis_zoo.training.ranks import OwnSignals, RanksEndTogether
from rrsis_zoo.training.resume import ResumePoint
from rrsis_zoo.training.run_folder import RUNS, RunFolder, StepTaken, check_free, check_name
from rrsis_zoo.training.runs import CONFIG, Run, find, note_job, of_this_job
from rrsis_zoo.training.shipped_configs import with_shipped
from rrsis_zoo.training.tensorboard_log import RunTensorBoard
from rrsis_zoo.training.threads import advise
from rrsis_zoo.training.trainer import RRSISTrainer


class RRSISCLI(LightningCLI):
    """The command line of all methods.

    Args:
        words: the command line, if not ``sys.argv``.
        run_to_resume: the training run to resume; None for a new one.
        given: the model that the command was given instead of a configuration, if any.
        folder: creates the run's folder; None to create none, if nothing is run.
        **options: of LightningCLI, in addition to those set here.
    """

    def __init__(
        self,
        words: Sequence[str] | None = None,
        run_to_resume: Run | None = None,
        given: Given | None = None,
        folder: RunFolder | None = None,
        **options: Any,
    ) -> None:
        if words is not None:
            words = _with_files(words)
        elif options.get("args"):
            options["args"] = _with_files(options["args"])
        self._words, self._run = words, run_to_resume
        self._given, self._folder = given, folder
        self._name: str | None = None
        self._every_protocol = self._with_targets = False
        self._foreign: bool | None = None
        guard_configs(words or options.get("args") or sys.argv[1:])
        for known in methods().values():
            module = known.module()  # short class names resolve only for imported modules
            # configs of earlier versions, which run folders still contain, name the classes by this path
            earlier = f"rrsis_zoo.training.{known.name}"
            if current_class_path(f"{earlier}.{module.__name__}") == known.class_path:
                sys.modules.setdefault(earlier, sys.modules[module.__module__])
        super().__init__(
            RRSISModule,
            RRSISDataModule,
            trainer_class=RRSISTrainer,
            subclass_mode_model=True,
            trainer_defaults={"num_sanity_val_steps": 0},
            seed_everything_default=0,
            save_config_callback=options.pop("save_config_callback", SavedConfig),
            save_config_kwargs={"save_to_log_dir": False},
            auto_configure_optimizers=False,
            parser_kwargs={**_PARSING, **dict.fromkeys(self.subcommands(), _PARSING)},
            **options,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override] - Lightning's needs no instance
        """Return the command that is asked for, or all: to build the parser of each takes a quarter of a second."""
        every = LightningCLI.subcommands()
        asked = (self._words or sys.argv[1:])[:1]
        return {name: every[name] for name in asked if name in every} or every

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the resume point's settings and our switches to every command, so that each accepts any config."""
        parser.add_argument("--untrained", action="store_true", help=_UNTRAINED)
        parser.add_argument(_SAFE, action="store_true", help=_SAFE_HELP)
        parser.add_argument(_PROFILE, action="store_true", help=_PROFILE_HELP)
        parser.add_argument("--name", type=str | None, default=None, help=_NAME_HELP)
        parser.add_argument("--protocol", type=str | None, default=None, help=_PROTOCOL_HELP)
        parser.add_argument("--with-targets", action="store_true", help=_TARGETS_HELP)
        parser.add_argument(OPTION, type=list[str] | str | None, default=None, metavar="FILE", help=HELP)
        parser.add_argument("--foreign", type=bool | None, default=None, help=_FOREIGN_HELP)
        parser.add_lightning_class_args(ResumePoint, "resume_point")
        parser.set_defaults({"resume_point.keep": False})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the expanded ``--resume``; ``sys.argv`` is unchanged, since further processes are started with it.

        Raises:
            ConfigError: the parser refuses the arguments; its message is reduced to one line.
        """
        try:
            if self._words is None:
                super().parse_arguments(parser, args)
            else:
                with bare_command_line():
                    super().parse_arguments(parser, list(self._words))
        except ArgumentError as error:
            raise ConfigError(f"{in_one_line(str(error))}; --help lists the options") from error

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning would take every setting from the checkpoint's hyper-parameters."""

    def before_instantiate_classes(self) -> None:
        """Check data and weights first, so that a missing file is reported before a large model is built.

        Raises:
            ConfigError: a checkpoint contradicts the configuration or is required but missing, or an invalid switch.
            MissingWeightsError, MissingDataError: files are missing; all of them are named.
            WeightsMismatchError: files are damaged.
        """
        options, command = self.config[str(self.subcommand)], str(self.subcommand)
        if command == "predict":
            options.return_predictions = False  # a callback writes them; keeping a whole split's would fill the memory
        self._check_switches(options, command)
        self._take_protocol(options, command)
        self._take_name(options, command)
        if command == "fit":
            self._find_run(options)
        if self._name is not None and self._run is None and ranks.is_first():  # a requeued job has its own folder
            check_free(self._logs(options) / self._name, command)
        missing: list[RRSISError] = []
        try:
            self._check_weights(options, command)
        except (MissingWeightsError, MissingDataError) as error:
            missing.append(error)
        # jsonargparse adds the path of the file that a section came from
        settings = {name: value for name, value in vars(options.data).items() if not name.startswith("__")}
        try:
            if self._given is not None:
                self._given.check_root(options.data)
            RRSISDataModule(**settings).check()
        except MissingDataError as error:
            error.mend = error.mend or "--data.root ROOT"
            missing.append(error)
        if missing:
            raise together(missing)

    def _check_switches(self, options: Any, command: str) -> None:
        check_precision(str(options.trainer.precision))
        if command != "fit" and options.trainer.get(limit := f"limit_{_NAMES[command]}_batches") == 0:
            raise ConfigError(f"rrsis {command} with trainer.{limit} 0 does nothing: leave it out")
        if options.safe and _SAFE not in (self._words or ()):
            raise ConfigError(f"safe: true in a config has no effect: give {_SAFE} on the command line")
        options.safe = False  # belongs to the command, not to the saved configuration
        if options.profile:
            raise ConfigError(f"profile: true in a config has no effect: give {_PROFILE} on the command line")
        self._foreign, options.foreign = options.foreign, None  # of this test, not of the saved configuration
        if command != "test" and self._foreign is not None:
            raise ConfigError(f"--foreign is for rrsis test, not for rrsis {command}: leave it out")
        if options.weights_only is False:
            raise ConfigError("--weights_only false: checkpoints are never read with code in them; leave it out")
        options.weights_only = True
        if options.untrained and (command == "fit" or options.ckpt_path is not None):
            raise ConfigError("--untrained is for a test, validation or prediction without --ckpt_path: leave it out")
        if options.with_targets and command != "predict":
            raise ConfigError(f"--with-targets is for rrsis predict: rrsis {command} writes no masks; leave it out")
        self._with_targets, options.with_targets = options.with_targets, False

    def _take_protocol(self, options: Any, command: str) -> None:
        """Move ``--protocol`` to its place in the configuration."""
        asked, options.protocol = options.protocol, None
        if asked is None:
            return
        if asked != "all":
            options.model.init_args.protocol = get_protocol(asked).name
            return
        if command != "test":
            raise ConfigError(f"--protocol all is for rrsis test: name one protocol for rrsis {command}")
        self._every_protocol = True
        options.verbose = False  # Lightning's own table has only the main protocol

    def _take_name(self, options: Any, command: str) -> None:
        """Check ``--name``, and give it to Weights & Biases too."""
        self._name, options.name = options.name, None
        if self._name is None:
            return
        check_name(self._name)
        if self._run is not None:
            raise ConfigError(f"--name with --resume: {self._run.folder.name} keeps its name; leave --name out")
        loggers = options.trainer.logger if isinstance(options.trainer.logger, list) else [options.trainer.logger]
        for logger in loggers:
            if getattr(logger, "class_path", "").endswith(".QuietWandbLogger") and logger.init_args.name is None:
                logger.init_args.name = self._name

    def _check_weights(self, options: Any, command: str) -> None:
        """Check the checkpoint or the other weights."""
        model = options.model
        method = method_at(model.class_path)
        weights = model.init_args.get("weights")
        path = options.ckpt_path if self._run is None else str(self._run.point)
        frozen = method is not None and method.card.training_free
        if frozen and command == "fit":
            raise ConfigError(
                f"{method.name} is training-free: there is nothing to fit; evaluate it with `rrsis test` and the same "  # type: ignore[union-attr]
                "options"
            )
        if path is not None:
            checkpoint = open_checkpoint(path, training=command == "fit")
            if self._run is None:
                options.ckpt_path = str(checkpoint.path)
            if method is not None:
                for line in check_asked(checkpoint, method, vars(model.init_args), training=command == "fit"):
                    _note(f"{checkpoint.path.name}: {line}")
            return
        if command != "fit" and not options.untrained and not is_whole(weights) and not (frozen and weights):
            raise ConfigError(
                f"rrsis {command} needs a trained model: give --ckpt_path FILE, or `rrsis {command} FILE` without "
                "--config, or --model.init_args.weights with the source of a complete model; to score an untrained "
                "one, add --untrained"
            )
        if method is not None and weights:
            if not isinstance(weights, str) and not model.init_args.get("settings"):
                check_sizes(method.card, model.init_args.preset, weights)
            find_weights(method.card, weights)

    def _find_run(self, options: Any) -> None:
        """Find the run of a requeued job; check whether a run to resume has anything left to do."""
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
                f"--resume {done}; to continue, give a larger --trainer.max_epochs (or max_steps, or max_time)"
            )

    def _logs(self, options: Any) -> Path:
        """Return the folder of a configuration's runs."""
        method = method_at(options.model.class_path)
        inside = Path(method.name if method else "model") / str(self.subcommand)
        loggers = options.trainer.logger if isinstance(options.trainer.logger, list) else [options.trainer.logger]
        for logger in loggers:
            if getattr(logger, "class_path", "").endswith("CSVLogger"):
                name = str(logger.init_args.name)
                return Path(logger.init_args.save_dir) / (inside if name == UNNAMED else name)
        return Path(RUNS) / inside

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Return the trainer, which does not distribute or pad data by itself and always writes a CSV log."""
        with refused("the trainer's settings contradict each other, or do not fit this machine"):
            trainer = super().instantiate_trainer(use_distributed_sampler=False, **kwargs)
        if (advice := advise(trainer, sys.argv[1:])) is not None:
            _note(f"advice: {advice}")
        if self.subcommand == "fit" and (remark := never_validated(trainer)) is not None:
            _note(remark)
        trainer.strategy.checkpoint_io = DirectCheckpointIO()
        trainer._signal_connector = OwnSignals(trainer)
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._set_loggers(trainer)
            trainer.callbacks.extend(self._outputs())  # type: ignore[attr-defined]
        return trainer

    def _set_loggers(self, trainer: Trainer) -> None:
        """Let the first logger be a log of ours, in the run's own folder."""
        if not trainer.loggers and self._run is None:
            if self._folder is not None and ranks.is_first():
                self._folder.given(Path(trainer.default_root_dir))
            return
        others = [logger for logger in trainer.loggers if not isinstance(logger, CSVLogger)]
        own = [logger for logger in trainer.loggers if isinstance(logger, CSVLogger)]
        first, *more = [self._log(logger) for logger in own] or [self._log()]
        if self._run is not None:
            folder = self._run.folder
            first = RunLog(folder.parent.parent, folder.parent.name, folder.name)
        else:
            first = run_log(first, version=self._own_folder(first))
        trainer.loggers = [first, *more, *others]
        for logger in others:
            if isinstance(logger, RunTensorBoard):
                logger.follow(first)
            if isinstance(logger, QuietWandbLogger) and self._folder is not None and ranks.is_first():
                self._folder.inside(Path(logger.save_dir or ""), logger.discard)

    def _log(self, logger: CSVLogger | None = None) -> RunLog:
        """Return a log in the place of a CSV logger; METHOD/COMMAND inside its folder if it has no name of its own."""
        logger = logger or CSVLogger(RUNS)
        return run_log(
            logger, name=f"{self.model.model_class.name}/{self.subcommand or 'fit'}" if logger.name == UNNAMED else None
        )

    def _own_folder(self, log: RunLog) -> str | int | None:
        """Let the first process create the run's folder; return its name, or number if that was chosen."""
        chosen, root = log._version, Path(log.root_dir)
        if self._folder is None or not ranks.is_first():
            return self._name or chosen
        if self._name is not None:
            self._folder.named(root / self._name, str(self.subcommand))
            return self._name
        if chosen is None:
            return self._folder.numbered(root)
        self._folder.given(Path(log.log_dir))
        return chosen

    def _outputs(self) -> list[Callback]:
        """Return the callbacks that write a command's results."""
        if self.subcommand == "fit" and self._folder is not None:
            return [StepTaken(self._folder)]
        if self.subcommand == "test":
            every = list(PROTOCOLS.values()) if self._every_protocol else []
            self.model.score_under(every)
            return [TestRecord(every), PredictionFigure(), Gallery(), PresenceRecord(self._foreign)]
        return [PredictionWriter(self._with_targets)] if self.subcommand == "predict" else []

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        if config.get("logger") in (None, True):
            config["logger"] = self._log()
        configured = config.get("callbacks") or []
        configured = configured if isinstance(configured, list) else [configured]
        # one resume point: the last one, preferably from the configuration's callbacks
        points = [c for c in [*callbacks, *configured] if isinstance(c, ResumePoint)]
        kept = points[-1:] if config.get("enable_checkpointing") is not False else []
        config["callbacks"] = [c for c in configured if not isinstance(c, ResumePoint)]
        callbacks = [c for c in callbacks if not isinstance(c, ResumePoint)]
        lines = lines_for_logs([*callbacks, *config["callbacks"]], config.get("enable_progress_bar"))
        return super()._instantiate_trainer(config, [*callbacks, *lines, RanksEndTogether(), *kept])

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        arguments = super()._prepare_subcommand_kwargs(subcommand)
        return arguments if self._run is None else {**arguments, "ckpt_path": str(self._run.point)}


class SavedConfig(SaveConfigCallback):
    """Writes ``config.yaml`` into the run's folder, completely or not at all."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lightning hook, of the first process."""
        folder = next((logger.log_dir for logger in trainer.loggers if isinstance(logger, CSVLogger)), None)
        folder = Path(folder or trainer.default_root_dir)
        write_text(folder / CONFIG, self.parser.dump(self.config, skip_none=False))
        if stage == "fit":
            note_job(folder)


_NAMES = {"validate": "val", "test": "test", "predict": "predict"}
_PARSING = {
    # an unambiguous prefix may become ambiguous in a later version; and typing errors should be reported
    "allow_abbrev": False,
    "exit_on_error": False,
}
_SAFE = "--safe"
_SAFE_HELP = "import only our own classes, the methods' and Lightning's: for untrusted configurations"
_PROFILE = "--profile"
_PROFILE_HELP = (
    "fit: no training; a few steps with random weights, then step time, peak memory and the largest batch that fits"
)
_NAME_HELP = "name of the run's folder, runs/METHOD/COMMAND/NAME; version_N by default"
_PROTOCOL_HELP = "evaluation protocol (docs/metrics.md); rrsis test also takes all: every protocol, side by side"
_TARGETS_HELP = "predict: write the true masks too, as targets.jsonl, for rrsis score"
_FOREIGN_HELP = (
    "test: also ask foreign sentences, about what is not in the image, and write T-acc, N-acc and AUC; by default if "
    "there is a calibration (rrsis calibrate)"
)
_UNTRAINED = "score an untrained model (test, validate, predict); its record says so, and tables leave it out"


@rank_zero_only
def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _with_files(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with files for all configurations, plug-ins loaded, and the weights of the preset.

    Replaced paths and weights are reported.
    """
    words, notes = with_shipped(arguments)
    words, note = with_preset_weights(with_plugins(words, _SAFE in words))
    for line in [*notes, *([note] if note else [])]:
        _note(line)
    return words


def run_lightning(arguments: Sequence[str]) -> int:
    """Run one of Lightning's commands; ``arguments[0]`` is its name.

    Raises:
        ConfigError: an error that the user can fix.
    """
    _quiet()
    # Lightning starts further processes from sys.argv, and warns when it differs from what it parses
    sys.argv = [sys.argv[0], *arguments]
    words, run = resumed(arguments)
    words = with_plugins(words, _SAFE in words)  # first of all: what follows may need their methods
    words, given = with_checkpoint(words)
    words = _with_files(words)
    _refuse_lost_settings(words)
    if _PROFILE in words:
        return _profile(words)
    if _SAFE in words:
        _import_nothing_else()
    with (
        RunFolder() as folder,
        ranks.ended_together(),
        advised(),
        refused(f"rrsis {arguments[0]} cannot run with these settings"),
    ):
        RRSISCLI(words, run, given, folder)
    return 0


def _profile(words: Sequence[str]) -> int:
    """Run a few training steps of a configuration, write nothing, and print what they cost.

    Raises:
        ConfigError: another command than fit, or settings that contradict each other.
    """
    if words[0] != "fit":
        raise ConfigError(f"{_PROFILE} is for rrsis fit, not for rrsis {words[0]}: leave it out")
    if _SAFE in words:
        _import_nothing_else()
    own = (_PROFILE, _SAFE)
    parts = instantiate([word for word in words[1:] if word not in own])
    print(dry_run(*parts).text())
    return 0


def _import_nothing_else() -> None:
    """Refuse to import any class in a configuration that is not ours, a method's or Lightning's."""
    packages = {known.class_path.partition(".")[0] for known in methods().values()}
    allowed = sorted(packages | {"rrsis_zoo", "lightning"})
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=allowed)


def resumed(arguments: Sequence[str]) -> tuple[list[str], Run | None]:
    """Replace ``--resume FOLDER`` of ``rrsis fit`` by the run's configuration, placed before the other arguments.

    Returns:
        The arguments, and the run to resume.

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
        raise ConfigError("--resume takes the folder of one run: rrsis fit --resume runs/rsrefseg/fit/version_0")
    if any(word.partition("=")[0] == "--ckpt_path" for word in words):
        raise ConfigError("--resume continues from the run's own checkpoint: leave --ckpt_path out")
    run = find(folders[0])
    return ["fit", "--config", str(run.config), *words[1:]], run


class _Parts(RRSISCLI):
    """Model, data and trainer of a configuration without a command; does not check files."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Also accept the options of commands, which a configuration saved by ``rrsis fit`` contains."""
        super().add_arguments_to_parser(parser)
        parser.add_argument("--ckpt_path", type=str | None, default=None)
        parser.add_argument("--weights_only", type=bool | None, default=None)

    def before_instantiate_classes(self) -> None:
        """Do nothing."""


class _Parsed(_Parts):
    """Reads the configuration and builds nothing."""

    def instantiate_classes(self) -> None:
        """Do nothing."""

    def _set_seed(self) -> None:
        """Do nothing."""


def resolve(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the configuration that ``rrsis fit`` would run with, including all defaults.

    Args:
        arguments: of ``rrsis fit``.

    Returns:
        ``seed_everything``, ``trainer``, ``model`` (``class_path``, ``init_args``) and ``data``, as plain values.

    Raises:
        ConfigError: arguments that ``rrsis fit`` would refuse.
    """
    _refuse_lost_settings(arguments)
    try:
        with bare_command_line():
            cli = _Parsed(run=False, args=list(arguments))
    except ConfigError as error:
        raise ConfigError(f"rrsis fit would refuse its arguments: {error}") from error
    config = json.loads(cli.parser.dump(cli.config, skip_none=False, format="json"))
    return {name: config[name] for name in ("seed_everything", "trainer", "model", "data")}


def instantiate(arguments: Sequence[str]) -> tuple[RRSISModule, RRSISDataModule, Trainer]:
    """Build what ``rrsis fit`` would run with the same arguments, with random weights, without running it.

    Args:
        arguments: ``--config …`` and further options of ``rrsis fit``; also a ``config.yaml`` from one of its runs.
    """
    _quiet()
    with bare_command_line():
        built = _Parts(run=False, args=list(arguments), save_config_callback=None)
    return built.model, built.datamodule, built.trainer


@contextlib.contextmanager
def bare_command_line() -> Iterator[None]:
    """Hide ``sys.argv``: Lightning warns if it differs from the parsed arguments."""
    earlier, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = earlier


def _refuse_lost_settings(arguments: Sequence[str]) -> None:
    """Refuse an option for a part of a nested setting: jsonargparse silently drops the other parts.

    Raises:
        ConfigError: an option sets only a part of a nested setting.
    """
    parts: dict[str, list[str]] = {}
    for word in arguments:
        if match := re.match(r"--(model\.(?:init_args\.)?settings\.\w+)\.([\w.]+)", word):
            parts.setdefault(match[1], []).append(f"{match[2]}: …")
    for section, names in parts.items():
        raise ConfigError(f"give the parts of a nested setting together: --{section} '{{{', '.join(names)}}}'")


def _quiet() -> None:
    """Suppress messages without use for the user: advertising, and warnings about our own deliberate choices."""

    class NoTips(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            return "Tip:" not in record.getMessage()

    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(NoTips())
    for message in (
        ".*does not have many workers.*",
        ".*_pytree.*",
        ".*LeafSpec.*",
        ".*exists and is not empty.*",  # a resumed run
        ".*sync_dist=True.*",  # our scores are the same on all processes
        ".*callbacks used to create the checkpoint need to be provided.*",  # not to score it
    ):
        warnings.filterwarnings("ignore", message=message)
