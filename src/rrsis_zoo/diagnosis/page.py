"""One page with all figures of a diagnosis, which needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rrsis_zoo.diagnosis import charts
from rrsis_zoo.diagnosis.ladder_names import SHORT
from rrsis_zoo.diagnosis.mistakes import CLASSES
from rrsis_zoo.diagnosis.probes import PROBES
from rrsis_zoo.diagnosis.report import PAGE, Diagnosis, Opened
from rrsis_zoo.files import write_text

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem } figure { margin: 1rem 0 }
img { max-width: 100% } figcaption, .small { color: #555; font-size: .9rem } td, th { padding: .15rem .8rem .15rem 0;
text-align: left; vertical-align: top } table { border-collapse: collapse; font-size: .9rem }
"""


def write_page(folder: Path, diagnosis: Diagnosis, gallery: bytes | None, against: Sequence[Opened] = ()) -> Path:
    """Write ``diagnosis.html``; return its path.

    Args:
        folder: of the diagnosis.
        diagnosis: its numbers.
        gallery: a PNG of the worst answers of each class; None for none.
        against: the diagnoses that it was compared with.

    Raises:
        OutputError: it cannot be written.
    """
    content, numbers = diagnosis.content, diagnosis.content.numbers
    settings = content.settings
    title = f"{settings['given']}: where, how exactly, or the words"
    data = f"{settings['data']} {settings['split']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(diagnosis.headline())}. Data: {escape(data)}. Stock SAM: {escape(str(settings['stock'] or '–'))}. "
        f"Intervals are 95 %, by scene.</p>",
        "<h2>The ladder</h2>",
        _shown(
            charts.ladder(numbers, content.missing),
            "mIoU with one step replaced. Above the dotted line: what is gained if that step were as good as its "
            "replacement. Orange: a stock SAM takes over; green: the method's own segmenter with better prompts.",
        ),
        _dashes(content.missing),
        *_differences(numbers, settings, content.against, against),
        "<h2>What kind of mistake</h2>",
        _shown(charts.mistakes(numbers), "One class a sample, the first that fits."),
        _list(CLASSES),
        *([_png(gallery, "The worst answer of each class.")] if gallery else []),
        "<h2>Does it read the sentence?</h2>",
        *_words(settings, numbers, against),
        "<h2>Is its probability one?</h2>",
        _shown(
            charts.reliability(numbers),
            "Left: pixels in bins of equal number; on the diagonal a probability is what it says. Right: mIoU over the "
            "threshold.",
        ),
        _masks(numbers["masks"]),
        _dashes(content.left_out),
    ]
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    write_text(folder / PAGE, head + "\n".join(parts) + "</html>\n")
    return folder / PAGE


def _shown(figure: Any, caption: str) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    return _png(stream.getvalue(), caption)


def _png(content: bytes, caption: str) -> str:
    encoded = base64.b64encode(content).decode("ascii")
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{encoded}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _dashes(reasons: Mapping[str, str]) -> str:
    if not reasons:
        return ""
    rows = "".join(f"<li>{escape(SHORT.get(name, name))}: {escape(why)}</li>" for name, why in reasons.items())
    return f'<ul class="small">{rows}</ul>'


def _list(meanings: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in meanings.items())
    return f'<table class="small">{rows}</table>'


def _differences(
    numbers: Mapping[str, Any], settings: Mapping[str, Any], found: Mapping[str, Any], against: Sequence[Opened]
) -> list[str]:
    out = []
    for other in against:
        parts = found[other.name]
        theirs = parts["total"]
        own = parts["first"]
        out.append(
            _shown(
                charts.waterfall(str(settings["given"]), other.name, own, own - theirs["value"], parts),
                f"The difference from {other.name} on the samples of both: how much of it is due to more hits, and how "
                "much to better masks.",
            )
        )
    return ["<h2>Where, and how exactly</h2>", *out] if out else []


def _words(settings: Mapping[str, Any], numbers: Mapping[str, Any], against: Sequence[Opened]) -> list[str]:
    columns = [(str(settings["given"]), numbers), *((other.name, other.content.numbers) for other in against)]
    if not any(one["probes"] for _, one in columns):
        return ["<p>No probe was asked for.</p>"]
    return [
        _shown(charts.probes(columns), "The image stays, the sentence changes. All in percent."),
        _list({name: text for name, text in PROBES.items() if name in numbers["probes"]}),
    ]


def _masks(masks: Mapping[str, Any]) -> str:
    rows = [("expected-IoU masks", masks["expected_iou"])]
    if (best := masks["best_threshold"]) is not None:
        rows.append((f"threshold {best['threshold']:.2f}, best on {best['validation']} validation samples", best))
    lines = []
    for name, one in rows:
        gain = one["gain"]
        interval = "" if gain["low"] is None else f" [{gain['low']:+.2f}, {gain['high']:+.2f}]"
        lines.append(
            f"<tr><td>{escape(name)}</td><td>{one['value']:.2f}</td><td>{gain['value']:+.2f}{interval}</td></tr>"
        )
    return f"<table><tr><th>masks</th><th>mIoU</th><th>gain over p &gt; 0.5</th></tr>{''.join(lines)}</table>"
