"""``rrsis calibrate``: how likely an answer has a referent at all, for one set of weights."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrsis_zoo.commands.arguments import Arguments, divided
from rrsis_zoo.commands.device import working_device
from rrsis_zoo.commands.given_model import data_for, is_elsewhere, loadable
from rrsis_zoo.errors import ConfigError

if TYPE_CHECKING:
    from rrsis_zoo.data.datamodule import RRSISDataModule
    from rrsis_zoo.models.base import ReferringSegmenter
    from rrsis_zoo.training.presence import Asking

_DESCRIPTION = """Find out how likely an answer has a referent at all, for one set of weights.

The model answers the validation split's own sentences, and as many foreign ones: sentences of other scenes about
something that does not occur in this one. Own sentences that by the data set's word have no target count with these. A
logistic regression tells the two kinds of answers apart. The result is
written beside the model, where `load_model`, `segment` and `rrsis test` find it. Data are those of the configuration;
without one, those of the run that the checkpoint belongs to."""


def run_calibrate(arguments: Sequence[str]) -> int:
    """Write ``presence.json``; return 0.

    Raises:
        ConfigError, MissingDataError, DataFormatError, MissingWeightsError, WeightsMismatchError: options, data or
            weights that cannot be used.
        OutputError: the file cannot be written.
    """
    parser = Arguments(
        "rrsis calibrate",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [-h] --ckpt MODEL [--config FILE …] [--data.NAME VALUE …] [--out FILE] [--device D]",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--ckpt", required=True, metavar="MODEL", help="checkpoint, folder of a run or of a model, or source of a model"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: beside the model")
    parser.add_argument("--device", metavar="D", help="cpu, cuda, …; default: a GPU if there is one")
    parser.add_argument(
        "--config", action="append", default=[], metavar="FILE", help="as for rrsis fit; may be repeated"
    )
    rest, words = divided(arguments, lambda name: name == "--data" or name.startswith("--data."))
    options = parser.parse_args(words)

    from rrsis_zoo.files import write_text
    from rrsis_zoo.loading import load_model
    from rrsis_zoo.models.presence import calibration_file

    source = loadable(options.ckpt)
    out = options.out or _beside(source)
    configs = options.config or _of_the_run(source)
    model = load_model(source)
    data = _data([word for config in configs for word in ("--config", config)] + rest, source, model.name)
    model.to(working_device(options.device))
    asking = _ask(model, data)
    calibration = _calibration(model, data, asking)
    write_text(out, calibration.text())
    auc = calibration.auc
    interval = "" if auc.low is None else f" [{auc.low:.1f}, {auc.high:.1f}]"
    lacking = f", {calibration.no_target:,} own without a target" if calibration.no_target else ""
    print(
        f"wrote {out}: AUC {auc.value:.1f}{interval} % over {calibration.own:,} own and {calibration.foreign:,} "
        f"foreign sentences{lacking} of {calibration.scenes:,} scenes; threshold {calibration.threshold:.3f}"
    )
    if not is_elsewhere(source) and out.absolute() != calibration_file(Path(source)).absolute():
        print(f"load_model looks for it at {calibration_file(Path(source))}")
    return 0


def _beside(text: str) -> Path:
    """Return where the calibration of a model belongs."""
    from rrsis_zoo.files import expanded
    from rrsis_zoo.models.presence import calibration_file

    if is_elsewhere(text):
        raise ConfigError(
            f"{text} is not a place to write to: give --out FILE, or save the model in a folder of yours first"
        )
    return calibration_file(expanded(text.removeprefix("local:")))


def _of_the_run(text: str) -> list[str]:
    """Return the configuration saved in the run that a checkpoint belongs to."""
    from rrsis_zoo.training.runs import CONFIG

    path = Path(text.removeprefix("local:"))
    config = path.parent.parent / CONFIG
    if path.suffix == ".ckpt" and os.path.isfile(config):
        return [str(config)]
    raise ConfigError(f"which data? {text} is not in the folder of a run: give --config, as for rrsis fit")


def _data(words: Sequence[str], model: str, kind: str) -> RRSISDataModule:
    """Return the data of a configuration, read.

    Args:
        words: arguments of the command.
        model: what the user gave.
        kind: name of its method.

    Raises:
        ConfigError: another option, a bad value, or the configuration of another method.
    """
    from rrsis_zoo.commands.fit import resolve

    try:
        settings = resolve(words)
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix("rrsis fit would refuse its arguments: ")) from error
    return data_for(settings, "validate", model, kind)


def _ask(model: ReferringSegmenter, data: RRSISDataModule) -> Asking:
    """Let the model answer all sentences, own and foreign."""
    import torch

    from rrsis_zoo.training.presence import Asking

    split = data.fit_eval_split
    asking = Asking(model, data.records(split), data.foreign(split))
    print(
        f"asking {model.name} {len(asking.records):,} own and {len(asking.foreign):,} foreign sentences of "
        f"{data.identity(split).name} {split}",
        flush=True,
    )
    with torch.inference_mode():
        for batch in data.val_dataloader():
            prediction = model(batch.to(model.device), "independent")
            asking.add(batch, prediction, model.restore_each(prediction), "independent")
    return asking


def _calibration(model: ReferringSegmenter, data: RRSISDataModule, asking: Asking) -> Any:
    import numpy as np
    import torch

    from rrsis_zoo.data.annotations import annotations_hash
    from rrsis_zoo.data.foreign import SEED
    from rrsis_zoo.metrics.calibration import FALSE_ALARMS, FOLDS, fit_presence
    from rrsis_zoo.metrics.presence import in_percent
    from rrsis_zoo.models.presence import EVIDENCE, OWN, Calibration, Estimated
    from rrsis_zoo.training.presence import Answered
    from rrsis_zoo.version import __version__
    from rrsis_zoo.weights.checkpoints import weights_hash

    split = data.fit_eval_split
    answered = Answered.of(asking.rows)
    own, foreign = answered.evidence(foreign=False), answered.evidence(foreign=True)
    scenes, foreign_scenes = (
        [(asking.foreign if row.foreign else asking.records)[row.place].scene_id for row in rows]
        for rows in (answered.answerable, answered.unanswerable)
    )
    fit = fit_presence(own, foreign, scenes, foreign_scenes)
    return Calibration(
        schema=1,
        model=model.name,
        weights_sha256=weights_hash(model),
        evidence=[*EVIDENCE, OWN][: own.shape[1]],
        coefficients=fit.coefficients.tolist(),
        intercept=fit.intercept,
        threshold=fit.threshold,
        false_alarms=FALSE_ALARMS,
        auc=Estimated(**in_percent(fit.auc)),  # type: ignore[arg-type]
        folds=FOLDS,
        own=len(own),
        foreign=len(answered.foreign),
        no_target=len(foreign) - len(answered.foreign),
        scenes=len({*scenes, *foreign_scenes}),
        dataset=data.identity(split).name,
        split=split,
        text_mode="independent",
        seed=SEED,
        annotations_sha256=annotations_hash(asking.records),
        foreign_sha256=annotations_hash(asking.foreign),
        versions={
            "rrsis-zoo": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scikit-learn": version("scikit-learn"),
        },
    )
