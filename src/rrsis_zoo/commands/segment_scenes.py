"""``rrsis segment`` for maps: rasters of any size in, layers and masks out."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rrsis_zoo.commands.asked import AS_CALIBRATED, each_input, loaded_model, presence_needed, sentences
from rrsis_zoo.commands.progress import Progress
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError, unknown_name
from rrsis_zoo.files import expanded, regular_file

if TYPE_CHECKING:
    from rrsis_zoo.models.base import ReferringSegmenter
    from rrsis_zoo.outputs.found import Source
    from rrsis_zoo.outputs.names import Job
    from rrsis_zoo.scenes.blend import Rows
    from rrsis_zoo.scenes.ledger import Ledger
    from rrsis_zoo.scenes.outcome import Outcome
    from rrsis_zoo.scenes.raster import Raster
    from rrsis_zoo.scenes.settings import Settings

_PRECISIONS = ("fp32", "bf16", "fp16")
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".jp2")
_OPTIONS = (
    "probability",
    "find",
    "gsd",
    "window",
    "overlap",
    "aoi",
    "bands",
    "min_area",
    "simplify",
    "batch",
    "precision",
)


def add_scene_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that only maps have."""
    group = parser.add_argument_group(
        "maps", "any of these options reads the inputs by windows; needs the extra scenes"
    )
    group.add_argument(
        "--find",
        choices=("one", "all"),
        help="the one referent of each sentence in the whole input, looked for from coarse to fine, or everything that "
        "fits, by the finest windows alone (one)",
    )
    group.add_argument(
        "--gsd",
        metavar="M",
        type=float,
        help="metres a pixel at which the model looks; results come out on the input's grid (the input's own)",
    )
    group.add_argument("--window", metavar="PX", type=int, help="side of a window at --gsd (the model's input side)")
    group.add_argument("--overlap", metavar="F", type=float, help="share of a window that the next one has too (0.25)")
    group.add_argument("--aoi", metavar="FILE", help="polygons in any CRS: nothing is read or found outside")
    group.add_argument(
        "--bands",
        metavar="R,G,B",
        help="which bands are red, green and blue; one is grey (what the file says, or 1,2,3)",
    )
    group.add_argument("--min-area", metavar="M2", type=float, help="smallest polygon in square metres (0)")
    group.add_argument(
        "--simplify", metavar="M", type=float, help="tolerance of the outlines in metres; 0: the edges of pixels (0)"
    )
    group.add_argument(
        "--probability",
        metavar="P.tif",
        help="also write probabilities in percent, a band for each sentence, as a cloud-optimised GeoTIFF; a folder if "
        "--out is one",
    )
    group.add_argument("--batch", metavar="N", type=int, help="windows that go through the model together (by memory)")
    group.add_argument("--precision", choices=_PRECISIONS, help="of the weights (bf16 on a GPU that has it, else fp32)")


def is_scene(options: argparse.Namespace) -> bool:
    """Return whether the inputs are read as maps: by the outputs, the options, or because Pillow does not know them."""
    from rrsis_zoo.scenes.kinds import SCENE_KINDS

    if any(getattr(options, name) is not None for name in _OPTIONS):
        return True
    maps = {kind.name: kind.suffix for kind in SCENE_KINDS.values() if kind.map}
    named = [] if options.kind is None else options.kind.split(",")
    if not maps.keys().isdisjoint(named):
        return True
    if options.out is not None and not named and Path(options.out).suffix.lower() in maps.values():
        return not (options.out.endswith("/") or os.path.isdir(options.out))
    return any(_only_gdal_reads(text) for text in options.inputs)


def _only_gdal_reads(text: str) -> bool:
    from rrsis_zoo.data.headers import NotAnImage, read_header

    if text.lower().endswith(_PICTURES):
        return False
    try:
        with regular_file(expanded(text)).open("rb") as file:
            read_header(file)
    except NotAnImage:
        return True
    except (ConfigError, DataFormatError, MissingDataError, OSError):
        return False  # said later, as of any input
    return False


def run_scenes(options: argparse.Namespace) -> int:
    """Segment the inputs; return the exit status.

    Raises:
        ConfigError, MissingDataError, DataFormatError, MissingWeightsError, WeightsMismatchError, OutputError: as
            `rrsis_zoo.commands.segment.run_segment`.
    """
    work = _Work(options)
    todo = [job for job in work.jobs if not work.is_done(job)]
    with Progress("rrsis segment") as progress:
        if len(todo) < len(work.jobs):
            progress.note(
                f"{len(work.jobs) - len(todo)} of {len(work.jobs)} inputs were done before and are left as they are"
            )
        if not todo:
            return 0
        progress.now(f"loading {options.model}")
        model, source = loaded_model(options, progress, hashed=True)
        _set_precision(model, options.precision)
        if cut := model.cut(work.texts):
            progress.note(cut)
        work.start(source, [job for job in work.jobs if job not in todo])

        def segment(job: Job) -> None:
            _segment(job, work, model, source, progress)

        return each_input(todo, len(work.jobs), segment, (ConfigError, DataFormatError, MissingDataError), progress)


class _Work:
    """What is to be done, checked before anything heavy is imported.

    Attributes:
        texts: the sentences.
        jobs: inputs with their outputs; ``probability`` is one of them.
        settings: of the search.
        json: whether records are printed.
        ledger: of the folder; None for a single file.

    Raises:
        ConfigError, MissingDataError, DataFormatError: see `run_scenes`.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        from rrsis_zoo.imagery.stretch import Stretch
        from rrsis_zoo.outputs.kinds import KINDS
        from rrsis_zoo.outputs.names import Job, existing, is_folder, jobs, kinds_for
        from rrsis_zoo.scenes.extra import check_extra
        from rrsis_zoo.scenes.kinds import SCENE_KINDS
        from rrsis_zoo.scenes.ledger import Ledger

        check_extra()
        self.texts = list(dict.fromkeys(sentences(options.text, options.text_file)))
        stretch = None if options.stretch is None else Stretch.parse(options.stretch)
        self.settings = _settings(options, stretch)
        self.json: bool = options.json
        self.ledger: Ledger | None = None
        named = [] if options.kind is None else options.kind.split(",")
        for name in named:
            if name == "mask":
                raise ConfigError("--kind mask is for pictures; a map's masks are --kind tif")
            if name not in SCENE_KINDS:
                raise unknown_name("--kind", name, [*KINDS, *SCENE_KINDS])
        inputs = [expanded(text) for text in options.inputs]
        for path in inputs:
            regular_file(path)
        if self.settings.aoi is not None:
            regular_file(self.settings.aoi)
        if options.out is None:
            if not self.json or named:
                raise ConfigError("--out is missing: give a file, for instance --out out.gpkg, or a folder, --out out/")
            if options.probability is not None and len(inputs) > 1:
                raise ConfigError(
                    f"{len(inputs)} inputs need a folder: --out out/ --probability {options.probability}/"
                )
            chance = {} if options.probability is None else {"probability": (expanded(options.probability),)}
            self.jobs = [Job(path, chance) for path in inputs]
        else:
            out = str(expanded(options.out)) + ("/" if options.out.endswith("/") else "")
            kinds = kinds_for(out, named, SCENE_KINDS, "gpkg")
            self.jobs = jobs(inputs, out, kinds, len(self.texts))
            if options.probability is not None:
                chance = str(expanded(options.probability)) + ("/" if options.probability.endswith("/") else "")
                self.jobs = _with_probability(self.jobs, out, chance, kinds[0].ending)
            if is_folder(out):
                facts = {"settings": self.settings, "texts": self.texts, "model": [options.model, options.weights]}
                aoi = self.settings.aoi
                facts["aoi"] = None if aoi is None else [aoi.stat().st_size, aoi.stat().st_mtime_ns]
                facts["precision"] = options.precision
                self.ledger = Ledger(Path(out), {**facts, "kinds": [kind.name for kind in kinds]})
        self._overwrite: bool = options.overwrite
        if not options.overwrite:
            there = existing([job for job in self.jobs if self.ledger is None or not self.ledger.begun(job.path)])
            if there:
                more = f" and {len(there) - 1} more" if len(there) > 1 else ""
                raise ConfigError(f"{there[0]}{more} exists: --overwrite replaces it, or give another --out")

    def is_done(self, job: Job) -> bool:
        """Return whether the same command has done this input before."""
        return self.ledger is not None and not self._overwrite and self.ledger.done(job.path, job.all_files)

    def start(self, source: Source, done: list[Job]) -> None:
        """Check that what was done before was done with this model, and remove what a killed run has left."""
        from rrsis_zoo.scenes.ledger import check_weights

        if self.ledger is not None:
            for job in done:
                check_weights(self.ledger, job.path, source.weights_sha256)
            self.ledger.clean()


def _settings(options: argparse.Namespace, stretch) -> Settings:
    from rrsis_zoo.scenes.settings import Settings

    presence = presence_needed(options.presence)
    given = {
        name: getattr(options, name)
        for name in ("find", "gsd", "window", "overlap", "min_area", "simplify", "batch")
        if getattr(options, name) is not None
    }
    try:
        return Settings(
            **given,
            aoi=None if options.aoi is None else expanded(options.aoi),
            bands=_bands(options.bands),
            stretch=stretch,
            threshold=options.threshold,
            presence="off" if presence is None else "calibrated" if presence == AS_CALIBRATED else float(presence),
        )
    except ConfigError as error:
        name = str(error).split(" ", 1)[0].replace("_", "-")
        raise ConfigError(f"--{name} {str(error).split(' ', 1)[1]}") from error


def _bands(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    words = text.split(",")
    if not all(word.strip().isascii() and word.strip().isdigit() and len(word) < 7 for word in words):
        raise ConfigError(f"--bands must be numbers from 1, for instance 4,3,2, or one, got {text!r}")
    return tuple(int(word) for word in words)


def _with_probability(jobs: list[Job], out: str, chance: str, ending: str) -> list[Job]:
    """Return the jobs with a file of probabilities each."""
    from rrsis_zoo.outputs.names import Job, is_folder

    suffix = ".probability.tif"
    result = []
    for job in jobs:
        if is_folder(out):
            if not (is_folder(chance) or chance == out):
                raise ConfigError(f"--probability {chance} must be a folder, as --out is: --probability {chance}/")
            first = job.all_files[0].name.removesuffix(ending)
            path = Path(chance) / f"{first}{suffix}"
        else:
            path = Path(chance)
            if path.suffix.lower() not in (".tif", ".tiff"):
                raise ConfigError(f"--probability {chance} must end in .tif")
        if path in job.all_files or path == job.path:
            raise ConfigError(f"--probability {chance} would replace {path}: give another name")
        result.append(Job(job.path, {**job.files, "probability": (path,)}))
    return result


def _set_precision(model: ReferringSegmenter, name: str | None) -> None:
    import torch

    if name is None:
        name = "bf16" if model.device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    model.to({"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name])


def _segment(job: Job, work: _Work, model: ReferringSegmenter, source: Source, progress: Progress) -> None:
    """Segment one input and write its outputs.

    Raises:
        ConfigError, DataFormatError: it cannot be read, or not with these settings.
        OutputError: an output cannot be written.
    """
    from rrsis_zoo.scenes.finding import find_in_scene
    from rrsis_zoo.scenes.kinds import SCENE_KINDS, write

    if work.ledger is not None:
        work.ledger.begin(job.path, source.weights_sha256)
    outcome = find_in_scene(
        model,
        source,
        job.path,
        work.texts,
        work.settings,
        rows_sink=_probabilities(job, work),
        note=progress.note,
        told=lambda level, levels, tally: progress.now(
            f"{job.path}: {f'level {level} of {levels}, ' if levels > 1 else ''}"
            f"window {tally.asked + tally.empty + tally.elsewhere:,} of {tally.total:,}"
        ),
    )
    for name, paths in job.files.items():
        if name != "probability":
            write(SCENE_KINDS[name], outcome, paths[0])
    if work.ledger is not None:
        work.ledger.end(job.path, source.weights_sha256)
    progress.note(_looked_at(outcome))
    if work.json:
        from rrsis_zoo.scenes.pictures import scene_record

        utf8 = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
        progress.out(json.dumps(scene_record(outcome), ensure_ascii=not utf8))
    else:
        progress.out("\n".join([*_said(outcome), f"wrote {', '.join(map(str, job.all_files))}"]))


def _probabilities(job: Job, work: _Work):
    """Return what opens the file of probabilities; None if there is none."""
    if "probability" not in job.files:
        return None
    (path,) = job.files["probability"]

    @contextlib.contextmanager
    def opened(raster: Raster) -> Iterator[Callable[[Rows], None]]:
        from rrsis_zoo.scenes.rasters import probability_file

        with probability_file(path, work.texts, raster) as take:
            yield take

    return opened


def _looked_at(outcome: Outcome) -> str:
    """Return how many windows there were, for a person."""
    asked = sum(tally.asked for tally in outcome.tallies)
    left_out = [
        (sum(tally.empty for tally in outcome.tallies), "without data"),
        (sum(tally.elsewhere for tally in outcome.tallies), "outside the area of interest"),
    ]
    words = [f"{count:,} {why}" for count, why in left_out if count]
    most = max(tally.batch for tally in outcome.tallies)
    more = f"; {' and '.join(words)} left out" if words else ""
    return f"{outcome.raster.path}: {asked:,} window{'s' * (asked != 1)}, {most} at a time{more}"


def _said(outcome: Outcome) -> list[str]:
    """Return what was found, for a person."""
    lines = []
    for text, answer in zip(outcome.texts, outcome.answers, strict=True):
        if not answer.regions:
            lines.append(f"{outcome.raster.path}: {text}: {answer.why}")
            continue
        best = max((region for region, _ in answer.regions), key=lambda region: region.rank)
        there = "" if best.presence is None else f", presence {best.presence:.2f}"
        count = len(answer.regions)
        what = "1 polygon, score" if count == 1 else f"{count:,} polygons, the best has score"
        lines.append(f"{outcome.raster.path}: {text}: {what} {best.score:.2f}{there}")
    return lines
