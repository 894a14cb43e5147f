"""``rrsis diagnose``: which points a method loses by where, by how exactly, and by not reading the sentence."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrsis_zoo.commands.arguments import Arguments, divided
from rrsis_zoo.commands.device import working_device
from rrsis_zoo.commands.given_model import data_for, loadable
from rrsis_zoo.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from rrsis_zoo.data.datamodule import RRSISDataModule
    from rrsis_zoo.diagnosis.collect import Plan
    from rrsis_zoo.diagnosis.records import Line
    from rrsis_zoo.models.base import ReferringSegmenter

_DESCRIPTION = """Find out what a method gets wrong: where, how exactly, or the words.

The ladder replaces one step at a time by the truth or by a stock SAM; the probes change the sentence and keep the
image. Every image is encoded once for all of them. With --against the difference of two diagnoses is split as well. In
FOLDER are then diagnosis_samples.jsonl.gz with every sample, diagnosis.json with every number, and diagnosis.html, a
page with figures. A checkpoint alone is enough: it knows its data; the options of the data are those of `rrsis test`.
docs/diagnosis.md explains every number."""

_VALUES = ("--rungs", "--probes", "--stock", "--limit", "--best", "--against", "--out", "--device", "--ckpt")
_HELP = ("-h", "--help")


def run_diagnose(arguments: Sequence[str]) -> int:
    """Write the diagnosis of a model; return 0.

    Raises:
        ConfigError, MissingDataError, DataFormatError, MissingWeightsError, WeightsMismatchError: options, data or
            weights that cannot be used.
        OutputError: a file cannot be written.
    """
    parser = Arguments(
        "rrsis diagnose",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [-h] MODEL [--config FILE …] [--data.NAME VALUE …] [--out FOLDER] [--against FOLDER …] …",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--ckpt", metavar="MODEL", help="checkpoint, folder of a run or of a model, or source of a model; or first word"
    )
    parser.add_argument("--rungs", metavar="NAMES", help="of the ladder, with commas; default: all")
    parser.add_argument("--probes", metavar="NAMES", help="of the sentence, with commas, or none; default: all")
    parser.add_argument("--stock", metavar="SOURCE", help="stock SAM; default: the one that the model starts from")
    parser.add_argument("--limit", type=int, metavar="N", help="only N scenes, spread over the split")
    parser.add_argument("--best", type=int, metavar="N", default=16, help="sentences with best prompts; default: 16")
    parser.add_argument("--against", action="append", default=[], type=Path, metavar="FOLDER", help="of another model")
    parser.add_argument("--out", type=Path, metavar="FOLDER", default=Path("diagnosis"), help="default: diagnosis")
    parser.add_argument("--device", metavar="D", help="cpu, cuda, …; default: a GPU if there is one")
    mine, others = divided(arguments, lambda name: name in _VALUES)
    options = parser.parse_args([*mine, *(word for word in others if word in _HELP)])
    given, words = _given(options.ckpt, others)
    _check_numbers(options)

    from rrsis_zoo.diagnosis.page import write_page
    from rrsis_zoo.diagnosis.report import open_diagnosis, write_diagnosis
    from rrsis_zoo.files import make_folder

    against = [open_diagnosis(folder) for folder in options.against]
    rungs, probes = _rungs(options.rungs), _probes(options.probes)
    model, data = _model_and_data(given, words)
    plan, stock = _plan(model, rungs, probes, options)
    make_folder(options.out)
    start = time.perf_counter()
    found = _ask(model, data, data.test_split, options.limit, plan)
    validation = _validation(model, data, options.limit)
    settings = {
        "model": model.name,
        "given": given,
        "data": data.identity(data.test_split).name,
        "split": data.test_split,
        "stock": stock,
        "limit": options.limit,
        "seconds": round(time.perf_counter() - start, 1),
    }
    diagnosis = write_diagnosis(options.out, settings, found, validation, against)
    page = write_page(options.out, diagnosis, _gallery(found.gallery()), against)
    print(f"wrote {page}: {diagnosis.headline()}")
    return 0


def _gallery(rows: Sequence[Any]) -> bytes | None:
    """Return the PNG of the worst answers; None if there is no mistake."""
    import tempfile

    from rrsis_zoo.figures import prediction_figure

    if not rows:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gallery.png"
        prediction_figure(rows, path)
        return path.read_bytes()


def _given(ckpt: str | None, words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the model, and the words without it."""
    if ckpt is not None:
        return ckpt, list(words)
    if not words or words[0].startswith("-"):
        raise ConfigError(
            "rrsis diagnose needs a model: `rrsis diagnose MODEL`, with a checkpoint, the folder of a run or of a "
            "model, or a source such as mini:rsrefseg"
        )
    return words[0], list(words[1:])


def _check_numbers(options: argparse.Namespace) -> None:
    for name in ("limit", "best"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name} must be at least 1, got {value}")


def _rungs(text: str | None) -> tuple[str, ...]:
    from rrsis_zoo.diagnosis.ladder_names import RUNGS

    return _names("rung", text, tuple(RUNGS))


def _probes(text: str | None) -> tuple[str, ...]:
    from rrsis_zoo.diagnosis.probes import PROBES

    return () if text == "none" else _names("probe", text, tuple(PROBES))


def _names(what: str, text: str | None, known: Sequence[str]) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",")] if text is not None else [*known]
    for name in names:
        if name not in known:
            raise unknown_name(what, name, known)
    return tuple(name for name in known if name in names)


def _model_and_data(given: str, words: Sequence[str]) -> tuple[ReferringSegmenter, RRSISDataModule]:
    """Return the model in evaluation mode and the data of `rrsis test` with the same words, both ready."""
    from rrsis_zoo.commands.fit import resolve
    from rrsis_zoo.commands.from_checkpoint import with_checkpoint
    from rrsis_zoo.loading import load_model

    names = {word.partition("=")[0] for word in words}
    if given.startswith("mini:") and names.isdisjoint({"--config", "-c", "--data", "--data.dataset"}):
        words = ["--data.dataset", "synthetic", *words]  # what all miniatures were trained on
    full, known = with_checkpoint(["test", given, *words])
    _, without_weights = divided(full[1:], lambda name: name in ("--ckpt_path", "--model.init_args.weights"))
    settings = resolve(without_weights)
    if known is not None:
        known.check_root(argparse.Namespace(**settings["data"]))
    model = load_model(loadable(given))
    return model, data_for(settings, "test", given, model.name)


def _plan(
    model: ReferringSegmenter, rungs: Sequence[str], probes: Sequence[str], options: argparse.Namespace
) -> tuple[Plan, str | None]:
    """Move the model to its device, open the stock SAM, and return what is asked, with the SAM's source."""
    import torch

    from rrsis_zoo.diagnosis.collect import Plan
    from rrsis_zoo.diagnosis.ladder_names import STOCK
    from rrsis_zoo.diagnosis.stock import open_stock, own_source

    device = torch.device(working_device(options.device))
    model.to(device)
    source = (options.stock or own_source(model)) if not {*rungs}.isdisjoint(STOCK) else None
    stock = None if source is None else open_stock(source, device)
    return Plan(rungs=rungs, probes=probes, stock=stock, best=options.best), source


def _ask(model: ReferringSegmenter, data: RRSISDataModule, split: Any, limit: int | None, plan: Plan) -> Any:
    from rrsis_zoo.diagnosis.collect import collect
    from rrsis_zoo.diagnosis.known import contents_of, some_scenes

    records = some_scenes(data.records(split), limit)
    print(f"asking {model.name} about {len(records):,} sentences of {data.identity(split).name} {split}", flush=True)
    return collect(model, data.batches(records), records, contents_of(data, split), plan)


def _validation(model: ReferringSegmenter, data: RRSISDataModule, limit: int | None) -> Sequence[Line]:
    """Return the own answers on the validation split, for its best threshold; none if there is no such split."""
    from rrsis_zoo.diagnosis.collect import Plan
    from rrsis_zoo.errors import DataFormatError, MissingDataError

    if data.test_split == data.fit_eval_split:
        return ()
    try:
        return _ask(model, data, data.fit_eval_split, limit, Plan(rungs=("own",))).lines
    except (MissingDataError, DataFormatError) as error:
        print(f"without the validation split there is no best threshold: {error}")
        return ()
