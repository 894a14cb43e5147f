"""``rrsis segment``: pictures and sentences in, drawings, masks and records out."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rrsis_zoo.commands.arguments import Arguments
from rrsis_zoo.commands.asked import AS_CALIBRATED, COMPILE_HELP, each_input, loaded_model, presence_needed, sentences
from rrsis_zoo.commands.plugin_options import add_plugin
from rrsis_zoo.commands.progress import Progress
from rrsis_zoo.commands.segment_scenes import add_scene_options, is_scene, run_scenes
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError
from rrsis_zoo.files import expanded, regular_file

if TYPE_CHECKING:
    from rrsis_zoo.data.imagery.stretch import Stretch
    from rrsis_zoo.models.base import ReferringSegmenter
    from rrsis_zoo.outputs.found import Findings, Source
    from rrsis_zoo.outputs.names import Job

_DESCRIPTION = """Segment what sentences refer to in pictures.

The ending of --out says what is written: .png a drawing of the picture with masks, sentences and scores, .json COCO run
lengths; .gpkg, .geojson or .parquet a layer of polygons on a map, .tif masks on the raster's grid. A folder (one that
is there, or a name that ends with /) gets one file of each --kind for every input. A score is the mean probability
inside the mask; presence, the probability that the referent is there at all.

A picture goes through the model as a whole. An input is taken for a map, and read by windows, if a layer or a .tif is
written, if one of the options for maps below is given, or if GDAL alone reads it (.vrt and others)."""

_EPILOG = """exit status: 0 all inputs were segmented, 1 some of several inputs could not be, 2 nothing was done, or the
only input could not be segmented."""


def run_segment(arguments: Sequence[str]) -> int:
    """Segment the inputs; return the exit status.

    Raises:
        ConfigError: options that cannot be used, or outputs that exist.
        MissingDataError, DataFormatError: an input or a file of sentences that is not there; the only input is damaged.
        MissingWeightsError, WeightsMismatchError: the model cannot be loaded.
        OutputError: an output cannot be written.
    """
    options = _parser().parse_args(arguments)
    if is_scene(options):
        if options.prompts:
            raise ConfigError("--prompts is for pictures: every window of a map has prompts of its own; leave it out")
        return run_scenes(options)
    work = _Work(options)
    with Progress("rrsis segment") as progress:
        progress.now(f"loading {options.model}")
        model, source = loaded_model(options, progress, hashed=work.hashed)
        if options.prompts and not model.card.readable:
            raise ConfigError(f"--prompts: {model.name} writes no boxes or points that could be drawn; leave it out")
        if cut := model.cut(work.texts):
            progress.note(cut)
        numbers = itertools.count(1)

        def segment(job: Job) -> None:
            progress.now(f"{next(numbers)} of {len(work.jobs)}, {job.path}")
            _segment(job, work, model, source, progress)

        return each_input(work.jobs, len(work.jobs), segment, (DataFormatError, MissingDataError), progress)


def _parser() -> argparse.ArgumentParser:
    parser = Arguments(
        "rrsis segment",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="image files")
    what = parser.add_argument_group("what is looked for")
    what.add_argument("--text", metavar="SENTENCE", action="append", default=[], help="a sentence; may be repeated")
    what.add_argument("--text-file", metavar="F", action="append", default=[], help="UTF-8, one sentence a line")
    model = parser.add_argument_group("the model")
    model.add_argument(
        "--model",
        metavar="M",
        required=True,
        help="a checkpoint, a folder, local:PATH, hub:ORG/REPO, mini:METHOD, or a method's name",
    )
    model.add_argument("--weights", metavar="SOURCE", help="with a method's name: local:PATH or hub:ORG/REPO[:FILE]")
    model.add_argument("--preset", help="with a method's name: its sizes, if the weights do not say them")
    model.add_argument("--device", help="cpu, cuda, cuda:1 …; default: a GPU if there is one")
    model.add_argument("--compile", metavar="HOW", default="off", help=COMPILE_HELP)
    add_plugin(parser)
    out = parser.add_argument_group("what is written")
    out.add_argument("--out", help="a file, or a folder")
    out.add_argument(
        "--kind",
        metavar="KINDS",
        help="of png, json and mask, or gpkg, geojson, parquet, tif, png and json of a map, for instance png,json; "
        "default: what the ending says, or png, or gpkg of a map",
    )
    out.add_argument("--json", action="store_true", help="print a line of JSON for every input")
    out.add_argument(
        "--prompts",
        action="store_true",
        help="also draw, and record, the boxes and points that the model hands to its segmenter, if it writes such",
    )
    out.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--threshold", metavar="T", type=float, default=0.5, help="probability above which a pixel is in a mask (0.5)"
    )
    how.add_argument(
        "--presence",
        metavar="P",
        default=AS_CALIBRATED,
        help="a sentence whose presence is below P gets an empty mask; off: no sentence does; default: the threshold "
        "that `rrsis calibrate` has found, off without a calibration",
    )
    how.add_argument(
        "--stretch",
        metavar="S",
        help="how values become 8 bits: LOW,HIGH (percentiles of the picture), minmax, A:B (values) or none; "
        "default: 2,98 for more than 8 bits, none for 8",
    )
    add_scene_options(parser)
    return parser


class _Work:
    """What is to be done, checked before anything heavy is imported.

    Attributes:
        texts: the sentences.
        jobs: inputs with their outputs.
        stretch: as given; None for the default.
        threshold: as given.
        presence: `AS_CALIBRATED`, a number, or None for no threshold.
        json: whether records are printed.
        prompts: whether boxes and points of the localiser are drawn and recorded.
        hashed: whether an output says the weights' hash.

    Raises:
        ConfigError, MissingDataError, DataFormatError: see `run_segment`.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        from rrsis_zoo.data.imagery.stretch import Stretch
        from rrsis_zoo.errors import unknown_name
        from rrsis_zoo.outputs.kinds import KINDS
        from rrsis_zoo.outputs.names import Job, existing, jobs, kinds_for
        from rrsis_zoo.scenes.kinds import SCENE_KINDS

        self.texts = sentences(options.text, options.text_file)
        self.threshold: float = options.threshold
        if not 0 < self.threshold < 1:
            raise ConfigError(f"--threshold must be between 0 and 1, got {self.threshold:g}")
        self.presence = presence_needed(options.presence)
        self.stretch: Stretch | None = None if options.stretch is None else Stretch.parse(options.stretch)
        self.json: bool = options.json
        self.prompts: bool = options.prompts
        named = [] if options.kind is None else options.kind.split(",")
        for name in named:
            if name not in KINDS:
                raise unknown_name("--kind", name, [*KINDS, *SCENE_KINDS])
        inputs = [expanded(text) for text in options.inputs]
        for path in inputs:
            regular_file(path)
        if options.out is None:
            if not self.json or named:
                raise ConfigError("--out is missing: give a file, for instance --out out.png, or a folder, --out out/")
            self.jobs = [Job(path, {}) for path in inputs]
            self.hashed = True
            return
        out = str(expanded(options.out)) + ("/" if options.out.endswith("/") else "")
        kinds = kinds_for(out, named, further=[kind.suffix for kind in SCENE_KINDS.values() if kind.map])
        self.hashed = self.json or any(kind.name == "json" for kind in kinds)
        self.jobs = jobs(inputs, out, kinds, len(self.texts))
        there = existing(self.jobs)
        if there and not options.overwrite:
            more = f" and {len(there) - 1} more" if len(there) > 1 else ""
            raise ConfigError(f"{there[0]}{more} exists: --overwrite replaces it, or give another --out")


def _segment(job: Job, work: _Work, model: ReferringSegmenter, source: Source, progress: Progress) -> None:
    """Segment one input and write its outputs.

    Raises:
        DataFormatError: it cannot be read, or is too large for the memory.
        OutputError: an output cannot be written.
    """
    from rrsis_zoo.data.dataset import as_tensor
    from rrsis_zoo.data.imagery.picture import read_picture
    from rrsis_zoo.inference import answers
    from rrsis_zoo.outputs.found import Findings, found
    from rrsis_zoo.outputs.kinds import KINDS

    picture = read_picture(job.path, work.stretch)
    for note in picture.notes:
        progress.note(f"{job.path}: {note}")
    limits, pixels = picture.limits, as_tensor(picture.pixels)
    del picture  # a large one is not kept twice
    shown = pixels.permute(1, 2, 0).numpy()
    needed = None
    if model.calibration is not None and work.presence is not None:
        needed = model.calibration.threshold if work.presence == AS_CALIBRATED else float(work.presence)
    height, width = shown.shape[:2]
    try:
        stream, results = answers(model, pixels, work.texts, work.threshold), []
        for text in work.texts:
            answer = next(stream)
            one = found(text, answer.mask, answer.probabilities, answer.presence, needed)
            results.append(replace(one, marks=answer.marks) if work.prompts else one)
            del answer  # before the next one is made
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise DataFormatError(
            f"{job.path}: {height:,} x {width:,} pixels are too many for this machine's memory: cut it into tiles"
        ) from error
    findings = Findings(job.path, height, width, tuple(results), work.threshold, source, limits)
    for name, paths in job.files.items():
        KINDS[name].write(findings, shown, paths)
    if work.json:
        from rrsis_zoo.outputs.record import record

        utf8 = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
        progress.out(json.dumps(record(findings), ensure_ascii=not utf8))
    else:
        progress.out(_said(findings, job))


def _said(findings: Findings, job: Job) -> str:
    """Return what was found, for a person."""
    from rrsis_zoo.outputs.drawing import remark

    lines = [
        f"{findings.path}: {one.text}: {remark(one.score, one.share, one.presence, one.needed)}"
        for one in findings.found
    ]
    return "\n".join([*lines, f"wrote {', '.join(map(str, job.all_files))}"])
