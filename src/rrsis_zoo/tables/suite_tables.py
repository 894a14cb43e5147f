"""The tables of a suite, made from its ``job.json`` and per-sample files only. No torch.

``read_runs`` reads the folder, ``tables_of`` makes the tables, ``write_tables`` writes each in four forms. A number is
the mean over training runs; its interval resamples scenes and training runs (``rrsis_zoo.metrics.statistics``).
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rrsis_zoo.errors import unknown_name
from rrsis_zoo.escape import one_line, slug
from rrsis_zoo.files import make_folder, write_text
from rrsis_zoo.metrics.breakdown import NO_CATEGORY, sample_classes
from rrsis_zoo.metrics.statistics import holm, over_seeds
from rrsis_zoo.tables import diagnosis
from rrsis_zoo.tables.costs import cost_tables
from rrsis_zoo.tables.estimates import (
    ALPHA,
    LOCALISATION,
    MAIN,
    MIOU,
    Board,
    Estimate,
    Measure,
    Rows,
    Trial,
    compare,
    estimate,
    in_points,
    rank,
    read_board,
    shown,
    trainings,
)
from rrsis_zoo.tables.formats import Cell, Column, Table, millions, number, prose
from rrsis_zoo.tables.presence import ASKED, read_presence
from rrsis_zoo.tables.published import PublishedResult, has_ours, literature_tables, published_table
from rrsis_zoo.tables.records import on_made_scenes
from rrsis_zoo.tables.runs import JobRecord, Runs, code_versions, read_counts, read_runs, read_tests

__all__ = ["FORMATS", "Table", "read_counts", "read_runs", "read_tests", "tables_of", "write_tables"]

FORMATS = ("md", "csv", "tex", "html")

_DIVISIONS = {
    "category": ("categories", "category of the referent"),
    "size": ("sizes", "share of the image that the referent covers"),
    "kind": ("kinds", "kind of expression, as the data set names it"),
    "words": ("words", "what the expression mentions"),
    "length": ("lengths", "number of words"),
}
"""Division of ``sample_classes`` -> name of its table, description of its classes."""

_SYNTHETIC = prose("Synthetic scenes: **not a ranking** of the published methods.")

_READING = (
    "± is the standard deviation over training runs (seeds); brackets are the 95 % bootstrap interval, which resamples "
    "whole scenes and, where there are several, training runs"
)
_MARKS = (
    "Bold: significantly different from every other method in its {line} (paired randomisation test by scene, Holm's "
    f"correction, p < {ALPHA}, and an interval of the difference, by scene and training run, that excludes 0), with "
    "the next best underlined. Italic: the highest and all those not significantly different from it. Baselines and "
    "ablations do not compete."
)


def tables_of(runs: Runs, literature: Sequence[PublishedResult] = ()) -> dict[str, Table]:
    """Make all tables.

    Args:
        runs: of a suite.
        literature: published results to list as well, from ``rrsis_zoo.tables.published.read_published``.

    Returns:
        name -> table, in this order: for every dataset ``main``, ``differences``, ``localisation``, ``presence``,
        ``diagnosis``, ``where``,
        ``categories``, ``sizes``, ``kinds``, ``words``, ``lengths``, as far as its samples have this information, each
        followed by ``--DATASET`` if the suite has several; ``profile`` if there is one; ``published`` (published, ours,
        difference), which comes first if it holds any result of ours, and without one is made of a suite only;
        ``literature--DATASET``.

    Raises:
        MissingDataError: per-sample counts of a finished job are missing.
        DataFormatError: a damaged file, or results that do not belong in one table.
    """
    boards = [read_board(runs, dataset) for dataset in runs.datasets]
    published = published_table(boards)
    tables: list[Table] = []
    for board in boards:
        tables += _of_board(runs, board, f"--{slug(board.dataset)}" if len(boards) > 1 else "")
    tables += cost_tables(runs)
    if runs.suite or has_ours(published):
        tables.insert(0 if has_ours(published) else len(tables), published)
    return {table.name: table for table in [*tables, *literature_tables(literature)]}


def write_tables(tables: Mapping[str, Table], out: str | Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write every table as ``<name>.md``, ``.csv``, ``.tex`` and ``.html``, and return the files' paths.

    The HTML file is a page with only this table.

    Raises:
        ConfigError: an unknown format.
        OutputError: a file cannot be written; those already written are complete.
    """
    writers = {"md": Table.markdown, "csv": Table.csv, "tex": Table.latex, "html": page}
    out = make_folder(out)
    written = []
    for form in formats:
        if form not in writers:
            raise unknown_name("format", form, writers)
        for name, table in tables.items():
            path = out / f"{slug(name)}.{form}"
            write_text(path, writers[form](table))
            written.append(path)
    return written


_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 90rem; padding: 0 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; border-block: 2px solid; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: left; vertical-align: baseline; }
thead th { border-bottom: 1px solid; vertical-align: bottom; max-width: 10rem; }
tbody th { font-weight: normal; min-width: 9rem; }
thead th:first-child, tbody th { position: sticky; left: 0; background: Canvas; }
.number { text-align: right; }
td.number { white-space: nowrap; }
.detail, .notes, .caption, .provenance { font-size: .85em; opacity: .85; }
.notes { padding-left: 1.2rem; }
.leakage { font-size: .75em; line-height: 0; margin-left: .1em; }
.leakage.warns { color: #b3283a; font-weight: 600; }
@media (prefers-color-scheme: dark) { .leakage.warns { color: #f27a83; } }
"""


def page(table: Table) -> str:
    """Return a table as a complete HTML page."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(one_line(table.title))}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{table.html()}"
        "</body>\n</html>\n"
    )


# -- tables of a dataset -----------------------------------------------------------------------------------------------


def _of_board(runs: Runs, board: Board, suffix: str) -> Iterator[Table]:
    yield _main(runs, board, suffix)
    if board.protocol is None:
        return
    names = {trial.model.name for trial in board.trials}
    if any(names & set(trial.model.against) for trial in board.trials):
        yield _differences(runs, board, suffix)
    if any(all(s.counts.details is not None for s in trial.samples) for trial in board.trials if trial.samples):
        yield _localisation(runs, board, suffix)
    if any(job.presence is not None for job in board.finished):
        yield _presence(runs, board, suffix)
    if diagnosis.any_diagnosed(board):
        yield _diagnosis(runs, board, suffix)
        if (shares := _where_and_how(runs, board, suffix)) is not None:
            yield shares
    divisions = sample_classes(board.samples)
    for division, (name, what) in _DIVISIONS.items():
        if division in divisions:
            yield _by_class(runs, board, f"{name}{suffix}", division, what, divisions[division])


def _main(runs: Runs, board: Board, suffix: str) -> Table:
    columns = [Column("method", "method", numeric=False), Column("seeds", "seeds"), Column("parameters", "parameters")]
    columns += [Column("trained", "trained"), Column("train_cpu_min", "training, CPU min")]
    columns += [Column(m.key, "mIoU [95 %]" if m is MIOU else m.title) for m in MAIN]
    scores = [_column(board, measure, interval=measure is MIOU) for measure in MAIN]
    rows = [
        [_name(board, i), Cell(trial.seeds), *_cost(trial), *(column[i] for column in scores)]
        for i, trial in enumerate(board.trials)
    ]
    notes = [f"{_READING}.", *_marked(board, "column"), *_gaps(runs, board)]
    if any("nan" in (cell.text for cell in column) for column in scores):
        notes.append(
            "nan: under this protocol a pair of empty masks has no IoU, so the mean over all samples is undefined."
        )
    return _table(runs, board, f"main{suffix}", "", columns, rows, notes)


def _differences(runs: Runs, board: Board, suffix: str) -> Table:
    by_name = {trial.model.name: trial for trial in board.trials}
    pairs = [(trial, by_name[other]) for trial in board.trials for other in trial.model.against if other in by_name]
    there = [bool(a.samples and b.samples) for a, b in pairs]
    comparisons = [compare(board, a, b, MIOU) if both else None for (a, b), both in zip(pairs, there, strict=True)]
    fair = [
        c
        for (a, b), c in zip(pairs, comparisons, strict=True)
        if c is not None and not (a.contaminated or b.contaminated)
    ]
    corrected = iter(holm([c.p_value for c in fair]))
    significant = iter(shown(fair))
    rows = []
    for (first, second), comparison in zip(pairs, comparisons, strict=True):
        names = [_name(board, board.trials.index(trial), scores=True) for trial in (first, second)]
        if comparison is None:
            reason = next((t.absent for t in (first, second) if not t.samples), "no number")
            rows.append([*names, *[Cell(reason)] * 4])
            continue
        d = comparison.difference
        detail = f"[{number(d.low, board.digits, True)}, {number(d.high, board.digits, True)}]"
        rows.append(
            [
                *names,
                Cell(number(d.mean, board.digits, True), d.mean, "", detail, d.low, d.high),
                Cell(f"{comparison.p_value:.4f}", comparison.p_value),
                *_verdict(corrected, significant, first.contaminated or second.contaminated),
            ]
        )
    columns = [Column("method", "method", numeric=False), Column("compared_with", "compared with", numeric=False)]
    columns += [Column("difference", "difference of mIoU [95 %]"), Column("p", "p"), Column("p_holm", "p, corrected")]
    columns.append(Column("shown", "significant", numeric=False))
    notes = [
        "First minus second, in points of mIoU on the same samples. The interval resamples whole scenes and, where "
        "there are several, training runs. p comes from a randomisation test that swaps the two methods scene by "
        f"scene, given these training runs, and is corrected by Holm's method for {len(fair)} comparisons. A "
        f"difference is significant if the corrected p is below {ALPHA} and the interval excludes 0.",
        *_gaps(runs, board),
    ]
    return _table(runs, board, f"differences{suffix}", "paired differences", columns, rows, notes)


def _localisation(runs: Runs, board: Board, suffix: str) -> Table:
    columns = [Column("method", "method", numeric=False), *(Column(m.key, m.title) for m in LOCALISATION)]
    detailed = [all(s.counts.details is not None for s in trial.samples) for trial in board.trials]
    scores = [_column(board, measure, known=detailed) for measure in LOCALISATION]
    rows = [[_name(board, i), *(column[i] for column in scores)] for i in range(len(board.trials))]
    notes = [
        "Where: the share of samples whose predicted centre lies on the referent, and the IoU of the bounding boxes. "
        "How exactly: over these hits alone. Boundary IoU compares the pixels near both contours. In percent; samples "
        "without a referent count in the last column only.",
        f"{_READING}.",
        *_marked(board, "column"),
        *_gaps(runs, board),
    ]
    return _table(runs, board, f"localisation{suffix}", "where, and how exactly", columns, rows, notes)


def _presence(runs: Runs, board: Board, suffix: str) -> Table:
    columns = [
        Column("method", "method", numeric=False),
        *(Column(name, f"{title} [95 %]") for name, title in ASKED.items()),
    ]
    columns += [Column("miou", "mIoU [95 %]"), Column("rule", "no referent if", numeric=False)]
    miou, estimates = _column(board, MIOU, interval=True), read_presence(board)
    rows = []
    for i, (trial, (rule, values)) in enumerate(zip(board.trials, estimates, strict=True)):
        absent = "not measured" if trial.samples else trial.absent
        known = [
            Cell(absent if rule is None else "none")
            if e is None
            else replace(e.cell(board.digits, "", True), footnote=board.footnotes.score(i))
            for e in values
        ]
        rows.append([_name(board, i), *known, miou[i], Cell("–" if rule is None else rule)])
    notes = [
        "T-acc: share of the split's own sentences whose answer says that there is a referent. N-acc: share of as many "
        "foreign sentences, about something that is not in the image, whose answer says that there is none. An answer "
        "says so by an empty mask or, if its weights were calibrated on the validation split, by a presence below the "
        "threshold, which 5 % of the foreign sentences of that split reach. By masks: without presence. AUC: how often "
        "presence is higher for an own sentence than for a foreign one. In percent.",
        f"{_READING}.",
        *_gaps(runs, board),
    ]
    return _table(runs, board, f"presence{suffix}", "is it there at all?", columns, rows, notes)


def _diagnosis(runs: Runs, board: Board, suffix: str) -> Table:
    columns = [Column("method", "method", numeric=False), Column("samples", "N")]
    columns += [Column(name, f"{asked.title} [95 %]") for name, asked in diagnosis.ASKED.items()]
    rows, reasons, stocks = [], dict[str, list[str]](), set[str]()
    for i, trial in enumerate(board.trials):
        lines = diagnosis.diagnosed(trial)
        if not lines:
            word = "not diagnosed" if trial.samples else trial.absent
            rows.append([_name(board, i), Cell("–"), *[Cell(word)] * len(diagnosis.ASKED)])
            continue
        stocks |= {job.diagnosis.content.settings.get("stock") for job in trial.finished if job.diagnosis} - {None}
        lacking = diagnosis.missing(trial)
        for why in dict.fromkeys(lacking.values()):
            reasons.setdefault(why, []).append(trial.model.title)
        cells = []
        for name, asked in diagnosis.ASKED.items():
            found = None if name in lacking else diagnosis.estimate(lines, asked)
            if found is None:
                cells.append(Cell("–"))
            else:
                cells.append(replace(found.cell(board.digits, "", True), footnote=board.footnotes.score(i)))
        rows.append([_name(board, i), Cell(f"{len(lines[0]):,}", float(len(lines[0]))), *cells])
    notes = [
        "mIoU in percent with one step of the method replaced; hits: how often the heat map's highest cell lies on the "
        "referent. To stock: a stock SAM takes over, prompted by the heat map, by the box of the own mask, or by the "
        "truth. Best prompts, on a few samples only: what the method's own segmenter can do. Stuck words: how often "
        "the answer stayed the same (IoU of 0.5 or more) after a word was changed and the sentence meant something "
        "else, or nothing.",
        *([prose("Stock SAM: {stocks}.", stocks=", ".join(sorted(map(str, stocks))))] if stocks else []),
        *(prose("–: {why} ({titles}).", why=why, titles=", ".join(titles)) for why, titles in reasons.items()),
        f"{_READING}, of the diagnosed scenes.",
        *_gaps(runs, board),
    ]
    return _table(runs, board, f"diagnosis{suffix}", "where, how exactly, or the words", columns, rows, notes)


def _where_and_how(runs: Runs, board: Board, suffix: str) -> Table | None:
    lines = {trial.model.name: diagnosis.diagnosed(trial) for trial in board.trials}
    places = {trial.model.name: i for i, trial in enumerate(board.trials)}
    pairs = [(t.model.name, other) for t in board.trials for other in t.model.against if lines.get(t.model.name)]
    rows = []
    for first, second in pairs:
        if not lines.get(second):
            continue
        found = diagnosis.parts_of(lines[first], lines[second])
        cells = []
        for one in (found.total, found.where, found.exactly):
            d = in_points(one)
            detail = f"[{number(d.low, board.digits, True)}, {number(d.high, board.digits, True)}]"
            cells.append(Cell(number(d.mean, board.digits, True), d.mean, "", detail, d.low, d.high))
        names = [_name(board, places[name], scores=True) for name in (first, second)]
        rows.append([*names, *cells])
    if not rows:
        return None
    columns = [Column("method", "method", numeric=False), Column("compared_with", "compared with", numeric=False)]
    columns += [Column("difference", "difference of mIoU [95 %]"), Column("where", "by where [95 %]")]
    columns.append(Column("exactly", "by how exactly [95 %]"))
    notes = [
        "First minus second on the diagnosed samples, in points of mIoU. By where: because its heat map hits the "
        "referent more often. By how exactly: because its masks are better, where it hits and where it misses. The two "
        "add up to the difference. The intervals resample whole scenes and training runs.",
        *_gaps(runs, board),
    ]
    return _table(runs, board, f"where{suffix}", "differences by where and how exactly", columns, rows, notes)


def _by_class(runs: Runs, board: Board, name: str, division: str, what: str, classes: Mapping[str, Rows]) -> Table:
    columns = [Column(division, division, numeric=False), Column("class_n", "N")]
    columns += [
        Column(trial.model.name, trial.model.title, footnote=board.footnotes.name(i))
        for i, trial in enumerate(board.trials)
    ]
    rows = [
        [Cell(title), Cell(f"{mine.sum():,}", float(mine.sum())), *_column(board, MIOU, mine)]
        for title, mine in classes.items()
    ]
    if division == "category":
        named = [mine for title, mine in classes.items() if title != NO_CATEGORY] or list(classes.values())
        macro = [
            replace(_macro(board, trial, named), footnote=board.footnotes.score(i) if trial.samples else None)
            for i, trial in enumerate(board.trials)
        ]
        rows.append([Cell("mean of categories"), Cell(str(len(named)), float(len(named))), *macro])
    else:
        total = len(board.samples)
        rows.append([Cell("all expressions"), Cell(f"{total:,}", float(total)), *_column(board, MIOU)])
    notes = [f"mIoU in percent by {what}. {_READING}; intervals are in the CSV file.", *_marked(board, "row")]
    if division == "category":
        notes.append(_sources(board))
        notes.append("The mean of categories gives every category the same weight; its N is the number of categories.")
    if division == "words":
        notes.append("An expression can be of several kinds; they are recognised by lists of English words.")
    return _table(runs, board, name, f"mIoU by {_DIVISIONS[division][1]}", columns, rows, [*notes, *_gaps(runs, board)])


# -- parts of tables ---------------------------------------------------------------------------------------------------


def _table(
    runs: Runs,
    board: Board,
    name: str,
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    notes: Sequence[str],
) -> Table:
    full = ": ".join(part for part in (runs.title, board.title if len(runs.datasets) > 1 else "", title) if part)
    values = provenance(runs, board)
    synthetic = values["dataset"] == "synthetic" or any(on_made_scenes(job.result) for job in board.finished)
    made = [_SYNTHETIC] if synthetic else []
    return Table(name, full, runs.caption, columns, rows, [*made, *notes], values)


def _column(
    board: Board,
    measure: Measure,
    rows: Rows | None = None,
    interval: bool = False,
    known: Sequence[bool] | None = None,
) -> list[Cell]:
    """Return the cells of one measure, one for each row of the suite, the best ones marked.

    Args:
        board: of the rows.
        measure, rows: the score, and the samples that it is computed on.
        interval: whether it is also shown in the text, not only in the CSV.
        known: for each row, whether it has this measure; None for all.
    """
    known = known or [True] * len(board.trials)
    estimates = [
        estimate(board, trial, measure, rows) if trial.samples and there else None
        for trial, there in zip(board.trials, known, strict=True)
    ]
    marks = rank(board, estimates, measure, rows)
    cells = []
    for i, (trial, there, value, mark) in enumerate(zip(board.trials, known, estimates, marks, strict=True)):
        if value is not None:
            cells.append(replace(value.cell(board.digits, mark, interval), footnote=board.footnotes.score(i)))
        else:
            cells.append(Cell(trial.absent if not trial.samples else "none" if there else "not measured"))
    return cells


def _name(board: Board, row: int, scores: bool = False) -> Cell:
    """Return the cell with a row's name, and the footnote that belongs there.

    Args:
        board: of the row.
        row: its place.
        scores: whether the row's scores do not stand beside it, so that their footnote belongs there too.
    """
    note = board.footnotes.name(row) or (board.footnotes.score(row) if scores else None)
    return Cell(board.trials[row].model.title, footnote=note)


def _verdict(corrected: Iterator[float], significant: Iterator[bool], contaminated: bool) -> list[Cell]:
    """Return corrected p-value and significance of the next comparison; a contaminated one is none."""
    if contaminated:
        return [Cell("–"), Cell("not ranked")]
    p = next(corrected)
    return [Cell(f"{p:.4f}", p), Cell("yes" if next(significant) else "no")]


def _macro(board: Board, trial: Trial, classes: Sequence[Rows]) -> Cell:
    """Return the plain mean over categories, averaged over training runs; without an interval."""
    if not trial.samples:
        return Cell(trial.absent)
    known = [scores for rows in classes if (scores := trainings(board, trial, MIOU, rows)) is not None]
    if not known:
        return Cell("none")
    each = tuple(math.fsum(scores) / len(scores) for scores in zip(*known, strict=True))
    return Estimate(each, over_seeds(each), None).cell(board.digits)


def _cost(trial: Trial) -> list[Cell]:
    """Return parameters, trained parameters, and the mean processor time of a training run."""
    if trial.model.role == "baseline":
        return [Cell("–")] * 3
    if not trial.finished:
        return [Cell(trial.absent)] * 3
    parameters = trial.finished[0].result.get("parameters")
    size = [Cell("not known")] * 2 if not parameters else [millions(parameters[name]) for name in ("total", "trained")]
    if _untrained(trial.finished[0]):
        return [*size, Cell("–")]
    minutes = [job.record["fit"]["cpu_s"] / 60 for job in trial.finished if job.record["fit"]]
    if not minutes:
        return [*size, Cell("not known")]
    spent = math.fsum(minutes) / len(minutes)
    return [*size, Cell(number(spent, 1), spent)]


def _untrained(job: JobRecord) -> bool:
    """Return whether a job's method is training-free."""
    parameters = job.result.get("parameters")
    return bool(parameters) and not parameters["trained"]


def _marked(board: Board, line: str) -> list[str]:
    """Explain the marks, if anything can be marked."""
    competing = sum(bool(trial.samples) and trial.competes for trial in board.trials)
    return [prose(_MARKS, line=line)] if competing > 1 else []


def _gaps(runs: Runs, board: Board) -> list[str]:
    """List what is missing: failed jobs with their reason, jobs that were not run, and folders that were left out."""
    notes = []
    for trial in board.trials:
        notes += [f"{trial.model.title}{_seed(job.seed)}: {job.word}: {job.reason}" for job in trial.failed]
        if trial.missing:
            seeds = ", ".join(str(seed) for seed in trial.missing if seed is not None)
            notes.append(f"{trial.model.title}{f', seed {seeds}' if seeds else ''}: not run")
    trained = [t for t in board.trials if t.model.role != "baseline" and not any(map(_untrained, t.finished))]
    single = [t.model.title for t in trained if len(t.finished) == 1]
    if single:
        notes.append(
            f"One training run only, so the interval does not cover variation between runs: {'; '.join(single)}"
        )
    if runs.left_out:
        notes.append(
            f"Left out, because they belong to none of these models, data sets and seeds: {', '.join(runs.left_out)}"
        )
    return notes


def _seed(seed: int | None) -> str:
    return "" if seed is None else f", seed {seed}"


def _sources(board: Board) -> str:
    sources = {s.category_source for s in board.samples.subjects if s.category}
    titles = {"label": "labels of the data set", "text": "guessed from the sentence"}
    return f"Categories: {' and '.join(sorted(titles[s] for s in sources if s)) or 'none are known'}."


def provenance(runs: Runs, board: Board) -> dict[str, str]:
    """Return everything that the numbers on a dataset depend on, name -> text."""
    if board.protocol is None:
        return {"suite": runs.name, "dataset": board.dataset, "results": "none yet"}
    first = next((job for job in board.finished if job.record["role"] != "baseline"), board.finished[0]).result
    return {
        "suite": runs.name,
        "dataset": first["dataset"],
        "split": first["split"],
        "N": str(len(board.samples)),
        "scenes": str(len(set(board.scenes))),
        "protocol": first["protocol"],
        "evaluation size": str(first["eval_size"]),
        "text mode": str(first.get("text_mode") or "none"),
        **({"reading": first["reading_rule"]} if first.get("reading_rule") else {}),
        "annotations sha256": first["annotations_sha256"],
        "code": code_versions([job.result["code"] for job in board.finished if "code" in job.result]),
    }
