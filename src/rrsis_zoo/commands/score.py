"""``rrsis score``: scores of masks saved by any program."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rrsis_zoo.commands.arguments import Arguments
from rrsis_zoo.errors import ConfigError, DataFormatError
from rrsis_zoo.metrics.protocol_table import cell, protocol_table

if TYPE_CHECKING:
    from rrsis_zoo.metrics.protocols import Protocol
    from rrsis_zoo.metrics.samples import Samples

_DESCRIPTION = """Score saved masks under a named protocol, or under all of them side by side.

PREDICTIONS and TARGETS are an npz file with arrays pred_0, pred_1, ... / target_0, target_1, ...; a folder of PNG
files with matching names; or a .jsonl file with COCO run lengths, one mask per line. Masks contain 0 and one other
value; floating-point predictions are log-odds. At native size a mask must have its target's size. For the protocols
that compare at 480, 1008 or 1024 pixels both are resized with PIL's nearest neighbour, log-odds bilinearly."""


def run_score(arguments: Sequence[str]) -> int:
    """Print the scores; return 0.

    Raises:
        MissingDataError, DataFormatError, ConfigError: files, masks or options that cannot be used.
    """
    parser = Arguments("rrsis score", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", required=True, metavar="P", help="saved predictions")
    parser.add_argument("--targets", required=True, metavar="T", help="saved true masks; may be the same npz file")
    parser.add_argument("--protocol", default="canonical", metavar="X", help="name of a protocol, or all")
    parser.add_argument("--json", action="store_true", help="print JSON: an object, or a list of them for all")
    parser.add_argument(
        "--ignore-index", type=int, metavar="K", help="leave out pixels whose target is K (255 always, if 1 occurs too)"
    )
    parser.add_argument(
        "--nan-policy",
        choices=("propagate", "omit"),
        default="propagate",
        help="rsrefseg: whether a sample with two empty masks makes mIoU nan, or is left out of it",
    )
    parser.add_argument(
        "--breakdown",
        action="store_true",
        help="also print scores by size and words, boundary IoU, localisation, empty targets",
    )
    options = parser.parse_args(arguments)

    from rrsis_zoo.metrics.protocols import PROTOCOLS, get_protocol

    names = list(PROTOCOLS) if options.protocol == "all" else [get_protocol(options.protocol).name]
    results = list(_scored(options, names))
    if options.json:
        content = results if options.protocol == "all" else results[0]
        # JSON can escape characters that the terminal cannot show
        utf8 = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
        print(json.dumps(content, indent=1, ensure_ascii=not utf8))
    else:
        print(_text(results))
    return 0


def _scored(options: argparse.Namespace, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the record of every protocol, with values in percent, None if undefined."""
    from rrsis_zoo.metrics.breakdown import breakdown, evaluate, without_nan
    from rrsis_zoo.metrics.protocols import get_protocol

    protocols = [get_protocol(name) for name in names]
    measured = _measured(options, list(dict.fromkeys(p.eval_size for p in protocols)))
    empty = max(int((samples.counts.target == 0).sum()) for samples in measured.samples.values())
    for note in [*measured.notes, *_of_empty(empty, protocols), *measured.doubts]:
        print(f"rrsis score: {note}", file=sys.stderr)
    for protocol in protocols:
        mine = measured.samples[protocol.eval_size]
        record = {"protocol": protocol.name, **without_nan(evaluate(mine, protocol, options.nan_policy))}
        record |= {"eval_size": protocol.eval_size, "n_empty": int((mine.counts.target == 0).sum())}
        if measured.ignored:
            record["ignored_pixels"] = measured.ignored
        if measured.doubts:
            record["doubts"] = measured.doubts
        if options.breakdown:
            record["breakdown"] = without_nan(breakdown(mine, protocol))
        yield record


def _of_empty(empty: int, protocols: Sequence[Protocol]) -> list[str]:
    """Note the score of a perfect prediction of an empty target: under most protocols it costs points."""
    scores: dict[str, list[str]] = {}
    for protocol in protocols:
        scores.setdefault(f"{100 * protocol.both_empty:.0f}", []).append(protocol.name)
    under = "; ".join(f"{score} under {', '.join(names)}" for score, names in scores.items())
    many = "1 target is" if empty == 1 else f"{empty:,} targets are"
    return [f"{many} empty; a prediction that is empty too has IoU {under}"] if empty else []


@dataclass
class _Measured:
    """Measurements of saved masks.

    Attributes:
        samples: by evaluation size.
        ignored: native pixels that were left out.
        notes: on how masks were read and matched.
        doubts: what looks wrong about them.
    """

    samples: dict[Any, Samples]
    ignored: int
    notes: list[str]
    doubts: list[str]


class _Labels:
    """The ignore labels over all targets."""

    def __init__(self, ignore_index: int | None) -> None:
        self._ignore_index = ignore_index
        self._ambiguous: list[str] = []
        self._labelled, self._without_background = 0, 0
        self.pixels = 0

    def add(self, key: str, raw: Any, counted: Any) -> None:
        """Take a target as saved, and which of its pixels count."""
        if counted is not None:
            self._labelled += 1
            self._without_background += not (raw == 0).any()
            self.pixels += int(counted.size - counted.sum())
        elif self._ignore_index is None and (raw == 255).any():
            self._ambiguous.append(key)

    def notes(self, where: Any) -> Iterator[str]:
        """Yield notes for the user.

        Raises:
            DataFormatError: 255 was taken as an ignore label, but seems to be the background.
        """
        if self._ignore_index is not None:
            note = f"{self.pixels:,} pixels with label {self._ignore_index} were left out, in {self._labelled} targets"
            yield note if self._labelled else f"no target contains the label {self._ignore_index} to ignore"
        elif self._labelled and self._labelled == self._without_background:
            raise DataFormatError(
                f"the targets in {where} contain 1 and 255, but none of them contains 0: 255 may be the background, or "
                "an ignore label. Save the background as 0, or pass --ignore-index 255 if there is none"
            )
        elif self._labelled:
            yield (
                f"{self.pixels:,} pixels were left out: 255 is an ignore label in the {self._labelled} targets that "
                "also contain 1"
            )
            if self._ambiguous:
                yield (
                    f"255 was ignored in targets that also contain 1, and is foreground in {len(self._ambiguous)} "
                    f"others ({', '.join(self._ambiguous[:3])} …); if it is an ignore label there too, pass "
                    "--ignore-index 255"
                )


def _measured(options: argparse.Namespace, sizes: Sequence[Any]) -> _Measured:
    """Measure all samples at every evaluation size."""
    import numpy as np
    import torch

    from rrsis_zoo.metrics.doubts import Doubts
    from rrsis_zoo.metrics.measure import measure
    from rrsis_zoo.metrics.samples import Counts, Samples, Subject
    from rrsis_zoo.metrics.saved import matched, open_saved
    from rrsis_zoo.metrics.sizes import decide
    from rrsis_zoo.metrics.values import LogOddsRange, as_prediction, as_target

    predictions, targets = open_saved(options.predictions, "pred"), open_saved(options.targets, "target")
    keys, notes = matched(predictions, targets)
    log_odds, labels, doubts = LogOddsRange(), _Labels(options.ignore_index), Doubts()
    rows: dict[Any, list[list[int]]] = {size: [] for size in sizes}
    stretched: list[str] = []
    for key in keys:
        raw = targets.read(key)
        target, counted = as_target(raw, f"target {key}", options.ignore_index)
        pred = as_prediction(predictions.read(key), f"prediction {key}")
        log_odds.add(pred)
        labels.add(key, raw, counted)
        _check_shapes(key, pred.shape, target.shape)
        if pred.shape[0] * target.shape[1] != pred.shape[1] * target.shape[0]:
            stretched.append(key)
        prediction, truth = (torch.from_numpy(np.ascontiguousarray(array)) for array in (pred, target))
        kept = None if counted is None else torch.from_numpy(np.ascontiguousarray(counted))
        for size in sizes:
            try:
                i, u, p, is_nan, *details = measure(prediction, truth, size, options.breakdown, kept).tolist()
            except ConfigError as error:
                raise ConfigError(
                    f"{key}: {error}; or choose a protocol that resizes both (lavt480, evisam3, rs2sam2)"
                ) from error
            if is_nan:
                raise DataFormatError(f"prediction {key} contains values that are not numbers: log-odds are needed")
            shape = target.shape if size == "native" else (size, size)
            rows[size].append([i, u, p, *shape, *details])
        native = decide(prediction, (truth.shape[0], truth.shape[1]))[0]
        doubts.add(key, native if kept is None else native & kept, truth)
    notes += [note for note in (log_odds.check(predictions.where), *labels.notes(targets.where)) if note]
    for saved in (predictions, targets):
        notes += [f"{saved.where}: {count} {note}" for note, count in saved.notes.items()]
    if stretched:
        notes.append(
            f"{len(stretched)} predictions differ from their targets in aspect ratio ({', '.join(stretched[:3])} …) "
            "and were stretched to it"
        )
    facts = {key: {**targets.facts.get(key, {}), **predictions.facts.get(key, {})} for key in keys}
    texts = ("expression", "category", "category_source", "kind")
    subjects = [
        Subject(key, str(facts[key].get("scene_id", key)), **{n: facts[key][n] for n in texts if n in facts[key]})
        for key in keys
    ]
    table = {size: Counts.from_rows(np.array(lines, dtype=np.int64)) for size, lines in rows.items()}
    return _Measured(
        {size: Samples(subjects, counts) for size, counts in table.items()}, labels.pixels, notes, doubts.found()
    )


def _check_shapes(key: str, pred: tuple[int, ...], target: tuple[int, ...]) -> None:
    """Refuse a prediction with its sides swapped: resizing would hide that.

    Raises:
        DataFormatError: height and width of the prediction are those of the target, swapped.
    """
    if pred != target and pred == target[::-1]:
        raise DataFormatError(
            f"prediction {key} is {pred[0]} x {pred[1]} (height x width), its target {target[0]} x {target[1]}: one of "
            "them is transposed, or its size was written as width, height"
        )


def _text(results: Sequence[dict[str, Any]]) -> str:
    lines = [protocol_table(results)]
    for record in results:
        if "breakdown" in record:
            lines += ["", f"{record['protocol']}:", *_breakdown_text(record["breakdown"])]
    return "\n".join(lines)


def _breakdown_text(values: dict[str, Any]) -> list[str]:
    lines = []
    groups = [name.removesuffix("_n") for name in values if name.startswith("per_") and name.endswith("_n")]
    for group in groups if values["category_source"] else groups[1:]:
        lines.append(f"  {group.replace('per_', 'by '):<24}{'N':>8}{'oIoU':>8}{'mIoU':>8}{'Pr@0.5':>8}{'Pr@0.9':>8}")
        columns = [values[f"{group}_{metric}"] for metric in ("n", "oiou", "miou", "pr@0.5", "pr@0.9")]
        lines += [f"    {name:<22}" + "".join(cell(column[name]) for column in columns) for name in columns[0]]
    plain = {name: value for name, value in values.items() if not isinstance(value, dict) and name != "category_source"}
    return lines + [f"  {name:<24}{cell(value)}" for name, value in plain.items()]
