"""The runs in a folder: what each is, since when, how far it came, and its scores. No torch."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from rrsis_zoo.errors import MissingDataError, RRSISError
from rrsis_zoo.escape import one_line
from rrsis_zoo.files import read_json
from rrsis_zoo.tables.leakage import finding_of
from rrsis_zoo.tables.logs import LOG, read_log
from rrsis_zoo.tables.records import LIMIT, Result, read_record, unfit
from rrsis_zoo.yaml_files import read_yaml

Kind = Literal["fit", "validate", "test", "predict"]

CONFIG, TEST = "config.yaml", "test.json"
_KINDS: tuple[Kind, ...] = ("fit", "validate", "test", "predict")
_POINT, _LAST, _LOCK = "checkpoints/resume.json", "checkpoints/last.ckpt", ".lock"
_SKIPPED = ("wandb", "checkpoints", "gallery")
_OURS = re.compile(r"rrsis_zoo\.(?:methods|training)\.(\w+)\b")
_DEPTH = 6  # levels of folders in folders
_CHUNK = 2**20
_MONITOR = "val/miou"


@dataclass(frozen=True)
class RunEntry:
    """A run's folder.

    Attributes:
        folder: of the run, below the one that was listed.
        name: its own name.
        kind: the command that wrote it.
        method, preset: of the model; empty if unknown.
        data: name of the dataset, and the split of a test; empty if unknown.
        date: local time of its start, ISO 8601, to the second.
        state: ``running``, ``stopped`` (a training that can be resumed), ``finished``, or ``incomplete``.
        detail: how far it came, or why its scores do not count; empty if there is nothing to say.
        scores: metric -> percent, ``n`` or ``masks`` -> count; of a training those of its best validation.
        protocol: of the scores; empty if unknown.
        checkpoint: that was scored, as it was given; empty if there was none.
        seen: what the weights of a test have seen of its split (`rrsis_zoo.leakage.levels`); empty for other runs.
    """

    folder: str
    name: str
    kind: Kind
    method: str
    preset: str
    data: str
    date: str
    state: str
    detail: str
    scores: Mapping[str, float | None] = field(default_factory=dict)
    protocol: str = ""
    checkpoint: str = ""
    seen: str = ""

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def list_runs(folder: str | Path) -> list[RunEntry]:
    """Return the runs in a folder and its subfolders, the earliest first.

    Raises:
        MissingDataError: there is no such folder.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise MissingDataError(
            f"there is no folder {folder}: `rrsis fit` writes its runs to runs/METHOD/fit; give the folder of yours"
        )
    return sorted((_entry(path) for path in _run_folders(folder, _DEPTH)), key=lambda entry: (entry.date, entry.folder))


def _run_folders(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # no permission
        return
    if _is_run({entry.name for entry in entries}):
        yield folder
        return
    for entry in entries:
        inside = depth and entry.is_dir(follow_symlinks=False)
        if inside and entry.name not in _SKIPPED and not entry.name.startswith("."):
            yield from _run_folders(Path(entry.path), depth - 1)


def _is_run(names: set[str]) -> bool:
    written = {TEST, LOG, "hparams.yaml", "checkpoints"}
    return not names.isdisjoint(written) or any(re.fullmatch(r"predictions(\.\d+)?\.jsonl", name) for name in names)


def _entry(folder: Path) -> RunEntry:
    config = _config(folder / CONFIG)
    predictions = sorted(folder.glob("predictions*.jsonl"))
    log = _log(folder / LOG)
    kind = _kind(folder, predictions)
    model, data = _section(config, "model"), _section(config, "data")
    init_args = _section(model, "init_args")
    common: dict[str, Any] = {
        "folder": folder.as_posix(),
        "name": folder.name,
        "kind": kind,
        "method": _method(folder, model),
        "preset": _text(init_args.get("preset")),
        "data": _text(data.get("name")) or _text(data.get("dataset")),
        "date": _date(folder),
        "protocol": _text(init_args.get("protocol")),
        "checkpoint": _text(config.get("ckpt_path")) if kind != "fit" else "",
    }
    if kind == "test":
        return _test(folder, common)
    if kind == "predict":
        masks = sum(_lines(path) for path in predictions)
        state = "finished" if predictions else "incomplete"
        return RunEntry(**{**common, "protocol": ""}, state=state, detail="", scores={"masks": masks} if masks else {})
    if kind == "validate":
        scores = _scores(next((row for row in reversed(log) if row.get(_MONITOR)), {}))
        return RunEntry(**common, state="finished" if scores else "incomplete", detail="", scores=scores)
    return _fit(folder, common, log, _monitor(config))


def _kind(folder: Path, predictions: Sequence[Path]) -> Kind:
    """Return what a folder is: by its content, and without any, by the name of the folder that holds it."""
    if os.path.isfile(folder / TEST):
        return "test"
    if predictions:
        return "predict"
    if os.path.isdir(folder / "checkpoints"):
        return "fit"
    by_name: dict[str, Kind] = {kind: kind for kind in _KINDS}
    return by_name.get(folder.parent.name, "validate")


def _test(folder: Path, common: Mapping[str, Any]) -> RunEntry:
    try:
        result = read_record(folder / TEST, Result, "")
    except MissingDataError:
        return RunEntry(**common, state="incomplete", detail="")
    except RRSISError:
        return RunEntry(**common, state="incomplete", detail=f"{TEST} is damaged")
    said = {
        "method": result["model"],
        "preset": result["preset"] or "",
        "data": f"{result['dataset']} {result['split']}",
        "protocol": result["protocol"],
    }
    scores = {"n": result["n"], **result["metrics"]}
    seen = finding_of(result).level
    return RunEntry(**{**common, **said}, state="finished", detail=unfit(result), scores=scores, seen=seen)


def _fit(folder: Path, common: Mapping[str, Any], log: Sequence[Mapping[str, str]], monitor: str) -> RunEntry:
    best: Mapping[str, str] = {}
    for row in log:
        value = _number(row.get(monitor) or row.get(_MONITOR))
        if value is not None and value > (_number(best.get(monitor) or best.get(_MONITOR)) or -math.inf):
            best = row
    point = _point(folder)
    epoch, step = (_last(log, name) for name in ("epoch", "step"))
    if point is not None and not point.get("finished"):
        state, epoch, step = "stopped", max(point["epoch"] - 1, epoch or 0), max(point["step"], step or 0)
    else:
        state = "finished" if point is not None or os.path.isfile(folder / _LAST) else "incomplete"
    if state != "finished" and _locked(folder):
        state = "running"
    done = "no step" if step is None and not os.path.isfile(folder / _LAST) else ""
    if epoch is not None:
        done = f"epoch {epoch + 1}"
    scores = _scores(best)
    if scores and (at := _number(best.get("epoch"))) is not None:
        scores["epoch"] = int(at) + 1
    return RunEntry(**common, state=state, detail=done, scores=scores)


# -- files, which may be of another version, incomplete, or anything ---------------------------------------------------


def _config(path: Path) -> Mapping[str, Any]:
    try:
        content = read_yaml(path)
    except RRSISError:
        return {}
    return content if isinstance(content, Mapping) else {}


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _method(folder: Path, model: Mapping[str, Any]) -> str:
    if match := _OURS.match(_text(model.get("class_path"))):
        return match[1]
    return folder.parent.parent.name if folder.parent.name in _KINDS else ""


def _monitor(config: Mapping[str, Any]) -> str:
    """Return the score by which the training's best checkpoint is chosen."""
    callbacks = _section(config, "trainer").get("callbacks")
    for callback in callbacks if isinstance(callbacks, list) else []:
        if isinstance(callback, Mapping) and _text(callback.get("class_path")).endswith("ModelCheckpoint"):
            return _text(_section(callback, "init_args").get("monitor")) or _MONITOR
    return _MONITOR


def _date(folder: Path) -> str:
    """Return when the run's first file was written."""
    first = folder / CONFIG if os.path.isfile(folder / CONFIG) else folder
    return datetime.fromtimestamp(first.stat().st_mtime).astimezone().isoformat(timespec="seconds")


def _log(path: Path) -> list[dict[str, str]]:
    try:
        return read_log(path)
    except RRSISError:
        return []


def _scores(row: Mapping[str, str]) -> dict[str, float | None]:
    scores: dict[str, float | None] = {}
    for name, text in row.items():
        metric = name.removeprefix("val/") if isinstance(name, str) and name.startswith("val/") else ""
        if metric in ("oiou", "miou") or metric.startswith("pr@"):
            scores[metric] = _number(text)
    return scores


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _last(log: Sequence[Mapping[str, str]], name: str) -> int | None:
    values = [value for row in log if (value := _number(row.get(name))) is not None]
    return int(max(values)) if values else None


def _point(folder: Path) -> dict[str, Any] | None:
    """Return the content of ``resume.json``; None if there is none."""
    try:
        content = read_json(folder / _POINT, LIMIT)
    except RRSISError:
        return None
    sound = isinstance(content, dict) and all(isinstance(content.get(name), int) for name in ("epoch", "step"))
    return content if sound else None


def _locked(folder: Path) -> bool:
    """Return whether a training is writing to a folder."""
    if not os.path.isfile(folder / _LOCK):
        return False
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except (NotImplementedError, OSError):  # a file system without locks, or no permission
        return False
    lock.release()
    return False


def _lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(_CHUNK), b""))
    except OSError:
        return 0


# -- text --------------------------------------------------------------------------------------------------------------


def listing(entries: Sequence[RunEntry]) -> str:
    """Return a line for each run, under a heading."""
    rows = [("run", "what", "model", "data", "started", "state", "scores"), *(_row(entry) for entry in entries)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(entry: RunEntry) -> tuple[str, ...]:
    model = " ".join(filter(None, (entry.method, entry.preset))) or "?"
    state = ", ".join(filter(None, (entry.state, entry.detail)))
    date = entry.date[:16].replace("T", " ")
    texts = (entry.folder, entry.kind, model, entry.data or "?", date, state, _scores_text(entry))
    return tuple(one_line(text) for text in texts)


def _scores_text(entry: RunEntry) -> str:
    scores = entry.scores
    if (masks := scores.get("masks")) is not None:
        return f"{int(masks):,} masks"
    shown = [
        f"{title} {'nan' if (value := scores[name]) is None else f'{value:.2f}'}"
        for name, title in (("miou", "mIoU"), ("oiou", "oIoU"))
        if name in scores
    ]
    if not shown:
        return "–"
    said = ", ".join(shown)
    if entry.kind == "fit":
        at = scores.get("epoch")
        return f"val {said}" + ("" if at is None else f" (epoch {int(at)})")
    if entry.kind == "validate":
        return f"val {said}"
    mark = "" if entry.seen in ("", "clean", "unknown") else f"; its weights have seen the split: {entry.seen}"
    return f"{said} ({entry.protocol}, N {int(scores.get('n') or 0):,}){mark}"
