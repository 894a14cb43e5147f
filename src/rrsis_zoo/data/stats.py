"""Statistics of a dataset, as a table and as a figure. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.data.counted import counted
from rrsis_zoo.data.foreground import explain
from rrsis_zoo.data.records import Record
from rrsis_zoo.data.sentences import visible
from rrsis_zoo.files import writing
from rrsis_zoo.shown import short_repr

_CENTS = (0, 5, 25, 50, 75, 95, 100)
SIZES = ((0, 32**2, "below 32²"), (32**2, 96**2, "32² to 96²"), (96**2, 2**62, "96² and above"))
"""Areas in pixels, COCO's three classes."""


@dataclass(frozen=True)
class SplitStatistics:
    """One split.

    Attributes:
        expressions, distinct, scenes: numbers of samples, distinct sentences (ignoring case), distinct images.
        words: (N,) words in each expression.
        areas: (N,) foreground pixels of each mask.
        shares: (N,) foreground share of each image, 0 to 1.
        categories: numbers of expressions by category; ``(none found)`` if the text names none.
        emptiness: why masks are empty -> how many, among the first few with a known reason.
        no_target: expressions without a target by the dataset's own word.
    """

    expressions: int
    distinct: int
    scenes: int
    words: NDArray[np.int64]
    areas: NDArray[np.int64]
    shares: NDArray[np.float64]
    categories: Counter[str]
    emptiness: Counter[str]
    no_target: int = 0

    __repr__ = short_repr


FIGURES = (".png", ".pdf", ".svg")
"""Formats of the figure."""

_EXPLAINED = 200  # empty masks of a split whose files are reopened


def statistics(records: Sequence[Record], what: str = "") -> SplitStatistics:
    """Count a split; decodes every mask.

    Args:
        records: of the split.
        what: named in lines about its progress on standard error; without it there are none.

    Raises:
        DataFormatError: a mask that cannot be read.
    """
    masks = (record.mask.decode() for record in counted(records, len(records), what))
    seen = [(int(mask.sum()), mask.size) for mask in masks]
    areas, sizes = np.array(seen, np.int64).reshape(-1, 2).T
    empty = [record.mask for record, area in zip(records, areas, strict=True) if not area]
    return SplitStatistics(
        expressions=len(records),
        distinct=len({record.expression.lower() for record in records}),
        scenes=len({record.scene_id for record in records}),
        words=np.array([len(record.expression.split()) for record in records], np.int64),
        areas=areas,
        shares=areas / sizes,
        categories=Counter(record.category or "(none found)" for record in records),
        emptiness=Counter(filter(None, map(explain, empty[:_EXPLAINED]))),
        no_target=sum(record.no_target for record in records),
    )


def text(by_split: Mapping[str, SplitStatistics]) -> str:
    """Return the statistics as a table, one column per split."""

    def row(name: str, values: Sequence[object]) -> str:
        return f"{name:<34}" + "".join(f"{value!s:>12}" for value in values)

    splits = list(by_split.values())
    lines = [row("", list(by_split))]
    lines.append(row("expressions", [f"{s.expressions:,}" for s in splits]))
    lines.append(row("  different sentences", [f"{s.distinct:,}" for s in splits]))
    lines.append(row("scenes", [f"{s.scenes:,}" for s in splits]))
    lines.append(row("  expressions per scene", [f"{s.expressions / s.scenes:.2f}" for s in splits]))
    for cent in _CENTS:
        lines.append(row(f"words, {cent} %", [f"{np.percentile(s.words, cent):.0f}" for s in splits]))
    for cent in _CENTS:
        shares = [f"{100 * np.percentile(s.shares, cent):.3g}" for s in splits]
        lines.append(row(f"mask, % of the image, {cent} %", shares))
    lines.append(row("empty masks", [int((s.areas == 0).sum()) for s in splits]))
    if any(s.no_target for s in splits):
        lines.append(row("  expressions without a target", [s.no_target for s in splits]))
    for low, high, name in SIZES:
        part = [(s.areas > 0) & (s.areas >= low) & (s.areas < high) for s in splits]
        lines.append(row(f"masks {name} pixels", [f"{100 * p.mean():.1f} %" for p in part]))
    for name, _ in sum((s.categories for s in splits), Counter[str]()).most_common():
        lines.append(row(f"  {visible(name)}", [s.categories[name] for s in splits]))
    for split, s in by_split.items():
        lines += [f"empty masks of {split}: {reason}" for reason, _ in s.emptiness.most_common(3)]
    return "\n".join(lines)


def ceilings_text(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Return ceilings as a table, one row per method."""
    names = list(next(iter(scores.values())))
    lines = [f"{'true mask through the output grid':<36}" + "".join(f"{name:>8}" for name in names)]
    for method, values in scores.items():
        lines.append(f"{method:<36}" + "".join(f"{values[name]:>8.2f}" for name in names))
    return "\n".join(lines)


def figure(by_split: Mapping[str, SplitStatistics], title: str, path: Path) -> None:
    """Write a figure: lengths of expressions, sizes of masks, categories.

    Args:
        by_split: split -> its statistics.
        title: above the plots.
        path: with a suffix of `FIGURES`.

    Raises:
        OutputError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colours = {"train": "#3b6ea8", "val": "#e0a030", "test": "#b04a5a"}
    total = sum((s.categories for s in by_split.values()), Counter[str]())
    names = [name for name, _ in total.most_common(30)]
    labels = [visible(name)[:60] for name in names]
    shape = Figure(figsize=(12, max(4.2, 0.24 * len(names) + 1.4)), layout="constrained", dpi=110)
    FigureCanvasAgg(shape)
    shape.suptitle(visible(title), fontsize=13, parse_math=False)  # a folder may be called $x$
    lengths, sizes, categories = shape.subplots(1, 3)
    longest = max(int(s.words.max()) for s in by_split.values())
    for split, s in by_split.items():
        style = {"histtype": "step", "color": colours[split], "label": f"{split} ({s.expressions:,})", "linewidth": 1.6}
        weights = np.full(s.expressions, 100 / s.expressions)
        lengths.hist(s.words, bins=np.arange(0.5, longest + 1.5), weights=weights, **style)
        some = s.shares > 0
        if some.any():
            bins = list(np.logspace(-3, 2, 31))
            sizes.hist(100 * s.shares[some], bins=bins, weights=weights[some], **style)
    lengths.set(xlabel="words in an expression", ylabel="% of expressions")
    sizes.set(xlabel="mask, % of the image", ylabel="% of expressions", xscale="log")
    left = np.zeros(len(names))
    for split, s in by_split.items():
        share = np.array([100 * s.categories[name] / max(1, total.total()) for name in names])
        categories.barh(range(len(names)), share, left=left, color=colours[split])
        left += share
    categories.set_yticks(range(len(names)), labels)
    categories.invert_yaxis()
    categories.set(xlabel="% of all expressions")
    lengths.xaxis.get_major_locator().set_params(integer=True)
    lengths.legend(frameon=False)
    for axis in (lengths, sizes, categories):
        axis.spines[["top", "right"]].set_visible(False)
    for label in categories.get_yticklabels():
        label.set_parse_math(False)
    with writing(path) as temporary:
        shape.savefig(temporary)
