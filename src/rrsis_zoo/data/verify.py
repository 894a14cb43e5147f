"""Checks that a copy of a dataset is complete: opens every file and decodes every mask. No torch here."""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from rrsis_zoo.data.cards import SPLITS, DatasetCard
from rrsis_zoo.data.foreground import explain
from rrsis_zoo.data.hashes import file_hashes
from rrsis_zoo.data.limits import Limits, TokenCounter, too_long
from rrsis_zoo.data.masks import GreyFile, MaskSource, Median3
from rrsis_zoo.data.pixels import image_bands, image_orientation, read_grey, read_rgb
from rrsis_zoo.data.records import Record
from rrsis_zoo.data.sentences import has_control, visible
from rrsis_zoo.data.sources import ReadOptions, source
from rrsis_zoo.errors import ConfigError, DataFormatError, RRSISError
from rrsis_zoo.files import expanded, read_json, write_json

_MANY = 2000  # images that take long enough for a message


@dataclass
class Finding:
    """Samples or files with the same defect.

    Attributes:
        what: the defect.
        where: sample ids, file names or messages.
        expected: how many the complete published copy has, which do not count as faults.
        repair: how the readers handle it.
        harmless: whether it is for information only.
    """

    what: str
    where: list[str]
    expected: int = 0
    repair: str = ""
    harmless: bool = False

    @property
    def is_fault(self) -> bool:
        """Whether the copy is not what it should be."""
        return not self.harmless and len(self.where) != self.expected

    def text(self, most: int) -> str:
        """Return the defect and at most ``most`` of its places, one per line."""
        known = f" (known: the published copy has {self.expected})" if self.expected else ""
        repair = f"; {self.repair}" if self.repair else ""
        more = [f"... and {len(self.where) - most} more: --all lists them"] if len(self.where) > most else []
        return "\n      ".join(
            [f"  - {len(self.where)} {self.what}{known}{repair}", *map(visible, self.where[:most]), *more]
        )


@dataclass
class Report:
    """The results of checking a copy.

    Attributes:
        dataset, root: what was checked.
        counts: expressions per split that could be read.
        scenes: distinct images per split, by their pixels.
        findings: in the order of the checks.
    """

    dataset: str
    root: Path
    counts: dict[str, int] = field(default_factory=dict)
    scenes: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not any(finding.is_fault for finding in self.findings)

    def text(self, most: int = 5) -> str:
        """Return the report, with at most ``most`` places per finding."""
        lines = [f"{self.dataset} in {self.root}"]
        for split, count in self.counts.items():
            lines.append(f"  {split:<6}{count:>8,} expressions {self.scenes.get(split, 0):>8,} scenes")
        faults = [finding for finding in self.findings if finding.is_fault]
        notes = [finding for finding in self.findings if not finding.is_fault and finding.where]
        for title, some in (("worth knowing", notes), ("WRONG", faults)):
            if some:
                lines += [f"{title}:", *(finding.text(most) for finding in some)]
        lines.append("nothing is wrong" if self.passed else f"failed checks: {len(faults)}")
        return "\n".join(lines)


def verify(
    dataset: str,
    root: Path,
    *,
    complete: bool = True,
    reading: ReadOptions | None = None,
    manifest: Path | None = None,
    limits: Limits = MappingProxyType({}),
    counters: Mapping[str, TokenCounter] = MappingProxyType({}),
    threads: int | None = None,
) -> Report:
    """Check a copy of a dataset.

    Args:
        dataset: its name.
        root: its folder.
        complete: compare counts and known defects with the published ones; False for a part of the dataset.
        reading: choices on which published programs differ; None for those behind the published numbers.
        manifest: file of hashes: written if missing, otherwise compared with.
        limits: method -> what it reads of an expression; longer ones are listed.
        counters: method -> its own token counter; words are counted for the others.
        threads: to read files; None for one per processor.

    Raises:
        MissingDataError: the dataset, or a part of its layout, is missing.
        ConfigError: a manifest that cannot be used.
        OutputError: the manifest cannot be written.
    """
    known, root = source(dataset), expanded(root)
    reading = reading or ReadOptions()
    known.check_options(reading)
    known.find(root)
    report = Report(dataset, root)
    records: list[Record] = []
    unread: list[str] = []
    absent: list[str] = []
    for split in SPLITS:
        try:
            some = known.read(root, split, reading, absent)
        except RRSISError as error:
            unread.append(f"{split}: {error}")
            continue
        report.counts[split] = len(some)
        records += some
    add = report.findings.append
    add(Finding("missing files", absent))
    card = known.card if complete else None
    add(Finding("splits that cannot be read", unread))
    if card is not None:
        add(Finding("splits without the published number of expressions", _counts(report.counts, card)))
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        _check_pixels(records, report, card, pool)
    again = [record.sample_id for record in records if known.copies and not record.sample_id.endswith("/0")]
    add(Finding("lines that repeat an earlier id", again, repair="read as samples of their own", harmless=True))
    add(Finding("sentences that an image has twice, word for word", _twice(records), harmless=True))
    odd = [f"{r.sample_id} {r.expression!r}" for r in records if has_control(r.expression)]
    add(Finding("sentences with tabs, line breaks or control characters", odd, repair="kept", harmless=True))
    for method, limit in limits.items():
        unit = "its tokenizer" if method in counters else "words, so at least these"
        long = [record.sample_id for record in records if too_long(record.expression, limit, counters.get(method))]
        add(Finding(f"expressions longer than the {limit.tokens} tokens of {method} (by {unit})", long, harmless=True))
    if manifest is not None:
        differing = compare_manifest(root, _files(known.find(root), records), manifest)
        add(Finding(f"files that differ from {manifest}", differing))
    return report


# -- the checks --------------------------------------------------------------------------------------------------------


def _counts(counts: dict[str, int], card: DatasetCard) -> list[str]:
    return [
        f"{split} has {counts.get(split, 0):,}, {number:,} are published"
        for split, number in card.counts.items()
        if counts.get(split, 0) != number
    ]


@dataclass
class _Image:
    size: tuple[int, int] | None
    pixels: str
    orientation: int = 1
    fault: str = ""


def _check_pixels(
    records: Sequence[Record], report: Report, card: DatasetCard | None, pool: ThreadPoolExecutor
) -> None:
    paths = list(dict.fromkeys(record.image_path for record in records))
    if len(paths) >= _MANY:
        print(f"opening {len(paths):,} images and {len(records):,} masks", file=sys.stderr, flush=True)
    images = dict(zip(paths, pool.map(_look_at_image, paths), strict=True))
    masks = list(pool.map(_look_at_mask, (record.mask for record in records)))
    expected = card.known if card is not None else {}

    def add(what: str, where: Iterable[str], repair: str = "", harmless: bool = False) -> None:
        report.findings.append(Finding(what, list(where), expected.get(what, 0), repair, harmless))

    add("unreadable images", (image.fault for image in images.values() if image.fault))
    add("unreadable masks", (mask.fault for mask in masks if mask.fault))
    pairs = [(r, images[r.image_path], m) for r, m in zip(records, masks, strict=True)]
    if card is not None:
        other = (r for r, image, _ in pairs if image.size not in (None, card.image_size))
        add(f"images that are not {card.image_size[0]} x {card.image_size[1]}", (r.image_file for r in other), "", True)
    add(
        "masks that differ from their image in size",
        (r.sample_id for r, image, m in pairs if image.size and m.size and image.size != m.size),
        "the mask is resized to the image, nearest neighbour",
    )
    turned = [f"{path.name} (image, {image.orientation})" for path, image in images.items() if image.orientation > 1]
    turned += [f"{r.sample_id} (mask, {m.orientation})" for r, _, m in pairs if m.orientation > 1]
    add("files with an EXIF orientation", turned, "turned as displayed; masks are expected to match that", True)
    empty = (f"{r.sample_id}{f' ({m.emptiness})' if m.emptiness else ''}" for r, _, m in pairs if m.size and not m.area)
    add("empty masks", empty, "kept; drop_empty leaves them out")
    add(
        "masks that are not two-valued",
        (f"{r.sample_id} ({m.levels} levels)" for r, _, m in pairs if m.levels > 2),
        "the dataset's threshold decides",
    )
    add(
        "masks with several channels",
        (r.sample_id for r, _, m in pairs if m.bands > 1),
        "their grey level is used",
        True,
    )
    scenes: dict[str, set[str]] = defaultdict(set)
    files: dict[str, set[str]] = defaultdict(set)
    for record, image, _ in pairs:
        if image.pixels:
            scenes[image.pixels].add(record.split)
            files[image.pixels].add(record.image_file)
    report.scenes = dict(Counter(split for splits in scenes.values() for split in splits))
    crossing = (p for p, splits in scenes.items() if len(splits) > 1)
    add("equal scenes across splits", (f"{' + '.join(sorted(scenes[p]))}: {min(files[p])}" for p in crossing))


def _look_at_image(path: Path) -> _Image:
    try:
        pixels, orientation = read_rgb(path), image_orientation(path)
    except DataFormatError as error:
        return _Image(None, "", fault=str(error))
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    return _Image((pixels.shape[0], pixels.shape[1]), digest, orientation)


@dataclass
class _Mask:
    size: tuple[int, int] | None
    area: int = 0
    levels: int = 0
    bands: int = 1
    orientation: int = 1
    emptiness: str = ""
    fault: str = ""


def _look_at_mask(mask: MaskSource) -> _Mask:
    while isinstance(mask, Median3):
        mask = mask.source
    try:
        if not isinstance(mask, GreyFile):
            area = int(mask.decode().sum())
            return _Mask((mask.height, mask.width), area, emptiness="" if area else explain(mask))
        grey = read_grey(mask.path)
        area = int((grey > mask.threshold).sum())
        return _Mask(
            size=(grey.shape[0], grey.shape[1]),
            area=area,
            levels=int(np.count_nonzero(np.bincount(grey.ravel()))),
            bands=len(image_bands(mask.path)),
            orientation=image_orientation(mask.path),
            emptiness="" if area else explain(mask),
        )
    except DataFormatError as error:
        return _Mask(None, fault=str(error))


def _twice(records: Sequence[Record]) -> list[str]:
    seen = Counter((record.split, record.image_file, record.expression) for record in records)
    return [f"{file} {expression!r}" for (_, file, expression), number in seen.items() if number > 1]


# -- manifest ----------------------------------------------------------------------------------------------------------


def _files(parts: object, records: Sequence[Record]) -> list[Path]:
    """Return all files in use: those that list the samples, images, masks."""
    paths: list[Path] = []
    for part in vars(parts).values():
        paths += [path for path in (part.values() if isinstance(part, dict) else [part]) if os.path.isfile(path)]
    paths += [record.image_path for record in records]
    return paths + [record.mask.path for record in records if isinstance(record.mask, GreyFile)]


def compare_manifest(root: Path, paths: Sequence[Path], manifest: Path) -> list[str]:
    """Compare the files of a copy with a manifest, or write one.

    A manifest is JSON: path below the root -> SHA-256.

    Returns:
        The differences; none if the manifest was just written.

    Raises:
        ConfigError: the file is not a manifest.
        OutputError: it cannot be written.
    """
    hashes: dict[str, str] = {}
    for path, digest in file_hashes(root, paths).items():
        hashes[Path(os.path.relpath(path, root)).as_posix()] = digest
    if not os.path.lexists(manifest):
        write_json(manifest, dict(sorted(hashes.items())), indent=0)
        print(f"{manifest}: written, {len(hashes):,} files; the next run compares with it")
        return []
    try:
        wanted = read_json(manifest)
    except RRSISError as error:
        raise ConfigError(f"{manifest}: is not a manifest ({error}); name a new file to write one") from error
    if not isinstance(wanted, dict) or not all(isinstance(digest, str) for digest in wanted.values()):
        raise ConfigError(f"{manifest}: must contain an object of path: SHA-256; name a new file to write one")
    differing = [f"{name} is missing" for name in sorted(wanted.keys() - hashes.keys())]
    differing += [f"{name} is new" for name in sorted(hashes.keys() - wanted.keys())]
    changed = (name for name in sorted(wanted) if hashes.get(name, wanted[name]) != wanted[name])
    return [*differing, *(f"{name} has changed" for name in changed)]
