"""``rrsis score``: the numbers of masks that any program has saved."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rrsis_zoo.errors import ConfigError, DataFormatError

_DESCRIPTION = """Score saved masks under a named protocol, or under all of them side by side.

PREDICTIONS and TARGETS are an npz file with arrays pred_0, pred_1, ... / target_0, target_1, ...; a folder of PNG
files with equal names; or a .jsonl file with COCO run lengths, one mask a line. Masks hold 0 and one other value;
floating-point predictions are log-odds. At native size a mask must have the size of its target. For the protocols
that compare at 480, 1008 or 1024 pixels both are resized by PIL's nearest, log-odds bilinearly."""


def run_score(arguments: Sequence[str]) -> int:
    """Print the numbers; return 0.

    Raises:
        MissingDataError, DataFormatError, ConfigError: files, masks or options that cannot be used.
    """
    parser = argparse.ArgumentParser(
        "rrsis score", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--predictions", required=True, metavar="P", help="saved predictions")
    parser.add_argument("--targets", required=True, metavar="T", help="saved true masks; may be the same npz file")
    parser.add_argument("--protocol", default="canonical", metavar="X", help="name of a protocol, or all")
    parser.add_argument("--json", action="store_true", help="print JSON: an object, or a list of them for all")
    parser.add_argument(
        "--ignore-index", type=int, metavar="K", help="leave pixels out whose target is K (255 beside 1 always is)"
    )
    parser.add_argument(
        "--nan-policy",
        choices=("propagate", "omit"),
        default="propagate",
        help="rsrefseg: whether a sample with both masks empty makes mIoU nan, or is left out of it",
    )
    parser.add_argument(
        "--breakdown", action="store_true", help="also by size and words, boundary IoU, localisation, empty targets"
    )
    options = parser.parse_args(arguments)

    from rrsis_zoo.metrics.protocols import PROTOCOLS, get_protocol

    names = list(PROTOCOLS) if options.protocol == "all" else [get_protocol(options.protocol).name]
    results = list(_scored(options, names))
    if options.json:
        print(json.dumps(results if options.protocol == "all" else results[0], indent=1, ensure_ascii=False))
    else:
        print(_text(results))
    return 0


def _scored(options: argparse.Namespace, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the record of every protocol, its values in percent, None where there is none."""
    from rrsis_zoo.metrics.breakdown import breakdown, evaluate, without_nan
    from rrsis_zoo.metrics.protocols import get_protocol

    protocols = [get_protocol(name) for name in names]
    samples, ignored = _measured(options, list(dict.fromkeys(p.eval_size for p in protocols)))
    for protocol in protocols:
        mine = samples[protocol.eval_size]
        record = {"protocol": protocol.name, **without_nan(evaluate(mine, protocol, options.nan_policy))}
        record |= {"eval_size": protocol.eval_size, "n_empty": int((mine.counts.target == 0).sum())}
        if ignored:
            record["ignored_pixels"] = ignored
        if options.breakdown:
            record["breakdown"] = without_nan(breakdown(mine, protocol))
        yield record


def _measured(options: argparse.Namespace, sizes: Sequence[Any]) -> tuple[dict[Any, Any], int]:
    """Return the samples at every evaluation size, and how many native pixels were left out."""
    import numpy as np
    import torch

    from rrsis_zoo.metrics.measure import measure
    from rrsis_zoo.metrics.samples import Counts, Samples, Subject
    from rrsis_zoo.metrics.saved import LogOddsRange, as_prediction, as_target, matched, open_saved

    predictions, targets = open_saved(options.predictions, "pred"), open_saved(options.targets, "target")
    keys, log_odds = matched(predictions, targets), LogOddsRange()
    rows: dict[Any, list[list[int]]] = {size: [] for size in sizes}
    ignored, ambiguous, labelled = 0, [], False
    for key in keys:
        raw = targets.read(key)
        target, counted = as_target(raw, f"target {key}", options.ignore_index)
        pred = as_prediction(predictions.read(key), f"prediction {key}")
        log_odds.add(pred)
        if counted is not None:
            labelled = True
            ignored += int(counted.size - counted.sum())
        elif options.ignore_index is None and (raw == 255).any():
            ambiguous.append(key)
        given, truth = (torch.from_numpy(np.ascontiguousarray(array)) for array in (pred, target))
        kept = None if counted is None else torch.from_numpy(np.ascontiguousarray(counted))
        for size in sizes:
            try:
                i, u, p, is_nan, *details = measure(given, truth, size, options.breakdown, kept).tolist()
            except ConfigError as error:
                raise ConfigError(
                    f"{key}: {error}; or choose a protocol that resizes both (lavt480, evisam3, rs2sam2)"
                ) from error
            if is_nan:
                raise DataFormatError(f"prediction {key} holds values that are not numbers: log-odds are needed")
            shape = target.shape if size == "native" else (size, size)
            rows[size].append([i, u, p, *shape, *details])
    log_odds.check(predictions.where)
    if labelled and ambiguous:
        print(
            f"rrsis score: 255 was ignored in targets that also hold 1, and is foreground in {len(ambiguous)} others "
            f"({', '.join(ambiguous[:3])} …); if it is a label to ignore there too, give --ignore-index 255",
            file=sys.stderr,
        )
    facts = {key: {**targets.facts.get(key, {}), **predictions.facts.get(key, {})} for key in keys}
    texts = ("expression", "category", "category_source", "kind")
    subjects = [
        Subject(key, str(facts[key].get("scene_id", key)), **{n: facts[key][n] for n in texts if n in facts[key]})
        for key in keys
    ]
    table = {size: Counts.from_rows(np.array(lines, dtype=np.int64)) for size, lines in rows.items()}
    return {size: Samples(subjects, counts) for size, counts in table.items()}, ignored


def _text(results: Sequence[dict[str, Any]]) -> str:
    columns = [name for name in results[0] if name == "n" or name in ("oiou", "miou") or name.startswith("pr@")]
    titles = {"n": "N", "oiou": "oIoU", "miou": "mIoU"}
    lines = [f"{'protocol':<12}{'size':>8}" + "".join(f"{titles.get(c, c.capitalize()):>8}" for c in columns)]
    for record in results:
        lines.append(f"{record['protocol']:<12}{record['eval_size']!s:>8}" + "".join(_cell(record[c]) for c in columns))
    if len(results) > 1:
        spread = []
        for column in columns[1:]:
            values = [record[column] for record in results if record[column] is not None]
            spread.append(_cell(max(values) - min(values) if values else None))
        lines.append(f"{'largest difference':<28}" + "".join(spread))
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
        lines += [f"    {name:<22}" + "".join(_cell(column[name]) for column in columns) for name in columns[0]]
    plain = {name: value for name, value in values.items() if not isinstance(value, dict) and name != "category_source"}
    return lines + [f"  {name:<24}{_cell(value)}" for name, value in plain.items()]


def _cell(value: float | None) -> str:
    return f"{'nan' if value is None else value if isinstance(value, int) else f'{value:.2f}':>8}"
