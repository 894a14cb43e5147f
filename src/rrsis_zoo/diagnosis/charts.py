"""The figures of a diagnosis. matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rrsis_zoo.diagnosis.ladder_names import RUNGS, SHORT

Values = Mapping[str, Any]

# Okabe and Ito's colours, distinguishable to the colour-blind
BLUE, ORANGE, GREEN, GREY, RED = "#0072B2", "#E69F00", "#009E73", "#8c8c8c", "#D55E00"
_CLASS_COLOURS = {
    "good": "#009E73",
    "border": "#56B4E9",
    "part": "#0072B2",
    "spill": "#332288",
    "several": "#E69F00",
    "wrong object": "#D55E00",
    "anchor": "#882255",
    "background": "#CC79A7",
    "mixed": "#BBBBBB",
    "empty": "#222222",
}


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _ends(one: Values) -> list[list[float]]:
    """Return the lengths of an error bar."""
    if one["low"] is None:
        return [[0.0], [0.0]]
    return [[max(0.0, one["value"] - one["low"])], [max(0.0, one["high"] - one["value"])]]


def ladder(numbers: Values, missing: Mapping[str, str]) -> Any:
    """Draw the rungs as bars with intervals; a rung on fewer samples has the method's own score there as a tick."""
    names = [name for name in RUNGS if name in numbers["rungs"] or name in missing]
    figure, axis = _figure(8.2, 0.42 * len(names) + 1.1)
    colours = {"own": BLUE, "truth_dense": GREEN, "best_prompts": GREEN}
    for y, name in enumerate(names):
        if name in missing:
            axis.text(1, y, "–", va="center", color="0.4")
            continue
        one = numbers["rungs"][name]
        axis.barh(y, one["value"], color=colours.get(name, ORANGE), height=0.62)
        axis.errorbar(one["value"], y, xerr=_ends(one), color="0.15", capsize=3, lw=1.2)
        end = one["high"] if one["high"] is not None else one["value"]
        some = f"  (of {one['n']} samples, own {one['own']:.1f})" if one["n"] < numbers["samples"] else ""
        axis.text(end + 1, y, f"{one['value']:.1f}{some}", va="center", fontsize=9)
    axis.axvline(numbers["rungs"]["own"]["value"], color=BLUE, lw=0.9, ls=":")
    axis.set_yticks(range(len(names)), [SHORT[name] for name in names], fontsize=9)
    axis.invert_yaxis()
    axis.set_xlim(0, 130)
    axis.set_xticks(range(0, 101, 20))
    axis.set_xlabel("mIoU in %, with 95 % intervals by scene")
    return figure


def waterfall(name: str, other: str, own: float, theirs: float, parts: Values) -> Any:
    """Draw how the other's mIoU becomes this one's: by *where*, then by *how exactly*."""
    figure, axis = _figure(7.2, 3.1)
    middle = theirs + parts["where"]["value"]
    axis.bar(0, theirs, color=GREY, width=0.6)
    axis.bar(3, own, color=BLUE, width=0.6)
    for x, start, key in ((1, theirs, "where"), (2, middle, "exactly")):
        one = parts[key]
        axis.bar(x, one["value"], bottom=start, color=GREEN if one["value"] >= 0 else RED, width=0.6)
        axis.errorbar(x, start + one["value"], yerr=_ends(one), color="0.15", capsize=4, lw=1.2)
    levels = [theirs, middle, own]
    for x, level in enumerate(levels):
        axis.plot([x - 0.3, x + 1.3], [level, level], color="0.4", lw=0.8)
    starts = {"where": theirs, "exactly": middle}
    ends = {key: [starts[key] + v for v in (parts[key]["low"], parts[key]["high"]) if v is not None] for key in starts}
    tops = [theirs, max(theirs, middle, *ends["where"]), max(middle, own, *ends["exactly"]), own]
    texts = (f"{theirs:.1f}", f"{parts['where']['value']:+.1f}", f"{parts['exactly']['value']:+.1f}", f"{own:.1f}")
    for x, (top, text) in enumerate(zip(tops, texts, strict=True)):
        axis.text(x, top + 0.8, text, ha="center", fontsize=10)
    low = min(theirs, middle, own, *ends["where"], *ends["exactly"])
    axis.set_ylim(max(0, low - 12), max(tops) + 5)
    axis.set_xticks(range(4), [other, "where", "how exactly", name], fontsize=9)
    axis.set_ylabel("mIoU in % (axis cut)" if low > 12 else "mIoU in %")
    return figure


def mistakes(numbers: Values) -> Any:
    """Draw the shares of the classes stacked, of all samples, and by kind of sentence and size."""
    groups = [("all samples", numbers["mistakes"]["all"])]
    groups += [(name, shares) for name, shares in numbers["mistakes"]["kind"].items()]
    groups += [(f"covers {name}", shares) for name, shares in numbers["mistakes"]["size"].items()]
    figure, axis = _figure(8.2, 0.4 * len(groups) + 1.5)
    for y, (_, shares) in enumerate(groups):
        left = 0.0
        for name, colour in _CLASS_COLOURS.items():
            value = shares[name]["value"]
            axis.barh(y, value, left=left, color=colour, height=0.66, label=name if y == 0 else None)
            if value >= 7:
                dark = name in ("good", "part", "spill", "empty", "anchor", "wrong object")
                text = f"{value:.0f}"
                axis.text(left + value / 2, y, text, ha="center", va="center", fontsize=8, color="w" if dark else "k")
            left += value
    axis.set_yticks(range(len(groups)), [f"{name} ({next(iter(s.values()))['n']})" for name, s in groups], fontsize=9)
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.set_xlabel("share of the samples in % (their number in brackets)")
    figure.legend(loc="outside upper center", ncols=5, fontsize=8, frameon=False)
    return figure


def reliability(numbers: Values) -> Any:
    """Draw how often pixels of a probability are on the referent, and the mIoU over the threshold."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 3.4), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    found = numbers["reliability"]
    left.plot([0, 100], [0, 100], color="0.6", lw=0.9, ls="--")
    left.plot(found["fine_predicted"], found["fine_found"], "-", color="0.65", lw=1.2, label="finer bins")
    left.plot(found["predicted"], found["found"], "o", label="bins of equal number", color=BLUE, ms=5)
    left.legend(fontsize=8, frameon=False, loc="upper left")
    left.set_xlabel("mean probability of a bin of pixels in %")
    left.set_ylabel("of them on the referent in %")
    left.set_title(f"calibration error {found['ece']['value']:.2f} %", fontsize=9)
    masks = numbers["masks"]
    right.plot([100 * t for t in masks["thresholds"]], masks["curve"], "-", color=BLUE, lw=1.4, label="[p > t]")
    right.axvline(50, color="0.6", lw=0.9, ls="--")
    expected = masks["expected_iou"]["value"]
    right.axhline(expected, color=GREEN, lw=1.1, ls=":", label=f"expected-IoU masks, {expected:.1f}")
    if (best := masks["best_threshold"]) is not None:
        right.plot([100 * best["threshold"]], [best["value"]], "D", color=ORANGE, ms=6, label="best on validation")
    right.set_xlabel("threshold t in %")
    right.set_ylabel("mIoU in %")
    right.legend(fontsize=8, frameon=False)
    return figure


MEASURES = {
    "right": "IoU with what it now means",
    "own": "IoU of the unchanged sentence",
    "stuck": "stuck on the old answer",
    "unmoved": "answer unmoved",
    "nothing": "empty where nothing fits",
    "consistency": "IoU with the own answer",
    "presence": "presence",
    "presence_before": "presence before",
    "area": "area, of the one before",
    "iou": "IoU with the referent",
    "drop": "drop of IoU",
    "iou unique": "IoU, noun is unique",
    "iou not unique": "IoU, noun is not unique",
    "iou all": "IoU with the referent",
    "iou empty": "IoU, empty sentence",
    "iou another scene's": "IoU, another scene's sentence",
}
"""Name of a measure of the probes -> what is shown."""


def probes(columns: Sequence[tuple[str, Values]]) -> Any:
    """Draw the probe matrix: a row per probe and measure, a column per model."""
    rows = [
        (probe, measure)
        for probe in dict.fromkeys(p for _, numbers in columns for p in numbers["probes"])
        for measure in MEASURES
        if any(
            measure in numbers["probes"].get(probe, {}) and numbers["probes"][probe][measure]["n"]
            for _, numbers in columns
        )
    ]
    figure, axis = _figure(4.6 + 1.5 * len(columns), 0.3 * len(rows) + 1.0)
    for x, (_, numbers) in enumerate(columns):
        for y, (probe, measure) in enumerate(rows):
            one = numbers["probes"].get(probe, {}).get(measure)
            if not one or one["value"] is None:
                axis.text(x, y, "–", ha="center", va="center", color="0.5", fontsize=9)
                continue
            share = min(1.0, max(0.0, one["value"] / 100))
            axis.barh(y, 0.96, left=x - 0.48, height=0.92, color=(0.0, 0.447, 0.698, 0.05 + 0.9 * share))
            axis.text(
                x, y, f"{one['value']:.0f}", ha="center", va="center", fontsize=9, color="w" if share > 0.6 else "k"
            )
    labels = [f"{probe}: {MEASURES[measure]}" for probe, measure in rows]
    axis.set_yticks(range(len(rows)), labels, fontsize=9)
    axis.set_xticks(range(len(columns)), [name for name, _ in columns], fontsize=9)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_xlim(-0.5, len(columns) - 0.5)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    return figure
