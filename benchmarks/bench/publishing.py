"""Results in the repository: what a finished suite leaves there, and how it is made anew without training. No torch."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.results import first_trainings, write_results
from bench.suites import Suite
from rrsis_zoo.diagnosis.records import SAMPLES
from rrsis_zoo.diagnosis.report import REPORT
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError
from rrsis_zoo.files import cannot_write, make_folder, read_json, read_text, write_text, writing
from rrsis_zoo.tables.formats import Table
from rrsis_zoo.tables.runs import DIAGNOSIS, Runs, read_runs

RECORDS = "records.zip"
"""Everything that tables and report are made from."""

_IN_README = "embedded"
"""The suite whose tables the README shows."""
_README_TABLES = re.compile(r"(?<=<!-- embedded tables -->\n).*?(?=<!-- end of tables -->)", re.DOTALL)
_MOST_BYTES = 2**30  # of the unpacked records


def publish(suite: Suite, folder: Path, root: Path) -> list[Path]:
    """Replace a suite's results in the repository by those of its runs.

    Args:
        suite: the suite.
        folder: of its runs.
        root: of the repository.

    Returns:
        The files and folders that were written.

    Raises:
        MissingDataError: there are no runs.
        ConfigError: they are not complete.
        DataFormatError: they are damaged.
        OutputError: a file cannot be written.
    """
    runs = read_runs(folder)
    if faults := missing(suite, runs):
        raise ConfigError(
            f"{folder} is not complete: {', '.join(faults)}: `make benchmark` runs what is missing, with --retry also "
            "what has failed"
        )
    out = make_folder(root / "benchmarks" / "results") / suite.name
    with _replacing(out) as place:
        tables = write_results(folder, place)
        _pack(runs, place / RECORDS)
    return [out, *_into_readme(suite, tables, root)]


def publish_again(suite: Suite, root: Path) -> list[Path]:
    """Make a suite's results in the repository anew from the records beside them.

    Figures stay as they are; otherwise as `publish`.

    Raises:
        MissingDataError: there are no such records.
        DataFormatError: they are damaged.
        OutputError: a file cannot be written.
    """
    out = root / "benchmarks" / "results" / suite.name
    if not os.path.isfile(out / RECORDS):
        raise MissingDataError(f"there is no {out / RECORDS}: `make publish-results` after `make benchmark` writes it")
    with tempfile.TemporaryDirectory() as temporary, _replacing(out) as place:
        folder = Path(temporary) / suite.name
        _unpack(out / RECORDS, folder)
        tables = write_results(folder, place)
        for kept in [out / RECORDS, *out.glob("*.webp")]:
            if not os.path.exists(place / kept.name):
                shutil.copyfile(kept, place / kept.name)
    return [out, *_into_readme(suite, tables, root)]


def missing(suite: Suite, runs: Runs) -> list[str]:
    """Return the names of the suite's jobs that are not finished, each with the reason if it has failed."""
    known = {job.name: job for job in runs.jobs}
    names = [job.name for job in suite.jobs()] + [f"{b}--{d.name}" for b in suite.baselines for d in suite.datasets]
    return [
        name if name not in known else f"{name} ({known[name].word})"
        for name in names
        if name not in known or not known[name].finished
    ]


# -- the README --------------------------------------------------------------------------------------------------------


def readme_text(readme: str, main: str, kinds: str) -> str:
    """Return the README with its tables anew.

    Args:
        readme: as it is.
        main, kinds: the tables as Markdown.

    Raises:
        DataFormatError: it has no place for them.
    """
    rows = "\n".join(line for line in kinds.splitlines() if line.startswith("|"))
    made = f"\n{main.partition(chr(10))[2].strip()}\n\nmIoU by kind of expression:\n\n{rows}\n\n"
    text, places = _README_TABLES.subn(lambda _: made, readme)
    if places != 1:
        raise DataFormatError("README.md needs one `<!-- embedded tables -->` and one `<!-- end of tables -->`")
    return text


def _into_readme(suite: Suite, tables: Mapping[str, Table], root: Path) -> list[Path]:
    if suite.name != _IN_README:
        return []
    path = root / "README.md"
    write_text(path, readme_text(read_text(path), tables["main"].markdown(), tables["kinds"].markdown()))
    return [path]


# -- the records -------------------------------------------------------------------------------------------------------


def _pack(runs: Runs, out: Path) -> None:
    """Write the records of all jobs, and the pictures of those that the report shows."""
    files = [runs.folder / "suite.json"]
    for job in runs.jobs:
        files += [job.folder / "job.json", job.place / "test_samples.jsonl.gz"]
        files += [path for name in (REPORT, SAMPLES) if os.path.isfile(path := job.folder / DIAGNOSIS / name)]
    for job in first_trainings(runs):
        files += sorted(path for path in (job.place / "gallery").rglob("*") if os.path.isfile(path))
    with writing(out) as path, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            # the same records give the same file, whenever they are packed
            entry = zipfile.ZipInfo(file.relative_to(runs.folder).as_posix())
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, _without_places(file) if file.name == REPORT else file.read_bytes())


def _without_places(report: Path) -> bytes:
    """Return a diagnosis' report with the file name of its checkpoint alone, not the path on this machine."""
    content = read_json(report)
    content["settings"]["given"] = Path(content["settings"]["given"]).name
    return json.dumps(content, ensure_ascii=False).encode()


def _unpack(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MOST_BYTES:
                raise DataFormatError(f"{path} unpacks to more than {_MOST_BYTES >> 30} GiB: publish the results again")
            archive.extractall(folder)  # nothing outside: it leaves out drives, roots and `..`
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise DataFormatError(f"{path} is damaged ({error}): publish the results again") from error


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Yield a new folder that replaces the given one at the end of the block, unless the block fails."""
    with cannot_write(folder):
        place = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield place
        with cannot_write(folder):
            place.chmod(0o755)  # a temporary folder is its owner's alone
            if os.path.isdir(folder):
                shutil.rmtree(folder)
            place.rename(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)
