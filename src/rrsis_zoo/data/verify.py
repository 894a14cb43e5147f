"""Checks that a copy of a dataset is complete: opens every file and decodes every mask. No torch here."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from rrsis_zoo.data.cards import DatasetCard
from rrsis_zoo.data.counted import counted
from rrsis_zoo.data.foreground import explain
from rrsis_zoo.data.foreign import NoMask
from rrsis_zoo.data.hashes import file_hashes
from rrsis_zoo.data.imagery.picture import picture_orientation, read_picture
from rrsis_zoo.data.limits import Limits, TokenCounter, too_long
from rrsis_zoo.data.masks import GreyFile, MaskSource, Median3
from rrsis_zoo.data.pixels import image_bands, image_orientation, read_grey, read_rgb
from rrsis_zoo.data.records import Record
from rrsis_zoo.data.sentences import has_control, visible
from rrsis_zoo.data.sources import ReadOptions, source
from rrsis_zoo.errors import ConfigError, DataFormatError, RRSISError
from rrsis_zoo.files import expanded, read_json, write_json


@dataclass
class Finding:
    """Samples or files with the same defect.

    Attributes:
        what: the defect, of several.
        one: the defect, of one.
        where: sample ids, file names or messages.
        expected: how many the complete published copy has, which do not count as faults.
        exact: whether fewer than expected are a fault too.
        repair: how the readers handle it, or what to do.
        harmless: whether it is for information only.
    """

    what: str
    one: str
    where: list[str]
    expected: int = 0
    exact: bool = False
    repair: str = ""
    harmless: bool = False

    @property
    def is_fault(self) -> bool:
        """Whether the copy is not what it should be."""
        number = len(self.where)
        return not self.harmless and (number != self.expected if self.exact else number > self.expected)

    def text(self, most: int) -> str:
        """Return the defect and at most ``most`` of its places, one per line."""
        number = len(self.where)
        named = f"1 {self.one}" if number == 1 else f"{number or 'no'} {self.what}"
        known = f" (the published copy has {self.expected})" if self.expected else ""
        repair = f"; {self.repair}" if self.repair and number else ""
        more = [f"... and {number - most} more: --all lists them"] if number > most else []
        return "\n      ".join([f"  - {named}{known}{repair}", *map(visible, self.where[:most]), *more])


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
            scenes = self.scenes.get(split, 0)
            lines.append(
                f"  {split:<6}{count:>8,} {'expression' if count == 1 else 'expressions':<11} "
                f"{scenes:>8,} {'scene' if scenes == 1 else 'scenes'}"
            )
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
    for split in known.splits_in(root):
        try:
            some = known.read(root, split, reading, absent)
        except RRSISError as error:
            unread.append(f"{split}: {_without_advice(error, known.card)}")
            continue
        report.counts[split] = len(some)
        records += some
    _add(report, "missing files", "missing file", absent)
    card = known.card
    _add(report, "splits that cannot be read", "split that cannot be read", _shortened(unread))
    if card is not None and complete:
        _add(
            report,
            "splits without the published number of expressions",
            "split without the published number of expressions",
            _counts(report.counts, card),
            "for a part of the data set, or data of your own in its layout, add --part",
        )
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        _check_pixels(records, report, card, complete, pool)
    if known.left_out is not None:
        _add(
            report,
            "annotations that the reader leaves out",
            "annotation that the reader leaves out",
            known.left_out(root),
            "by the rule of the published reader",
            harmless=True,
        )
    again = [record.sample_id for record in records if known.copies and not record.sample_id.endswith("/0")]
    _add(
        report,
        "lines that repeat an earlier id",
        "line that repeats an earlier id",
        again,
        "each is read as a sample of its own",
        harmless=True,
    )
    _add(
        report,
        "sentences that an image has twice, word for word",
        "sentence that an image has twice, word for word",
        _twice(records),
        harmless=True,
    )
    odd = [f"{r.sample_id} {r.expression!r}" for r in records if has_control(r.expression)]
    rest = "with tabs, line breaks or control characters"
    _add(report, f"sentences {rest}", f"sentence {rest}", odd, "kept", harmless=True)
    for method, limit in limits.items():
        unit = "its tokenizer" if method in counters else "words, so at least these"
        long = [record.sample_id for record in records if too_long(record.expression, limit, counters.get(method))]
        rest = f"longer than the {limit.tokens} tokens of {method} (by {unit})"
        _add(report, f"expressions {rest}", f"expression {rest}", long, harmless=True)
    if manifest is not None:
        per_image = [] if known.per_image is None else known.per_image(root)
        differing = compare_manifest(root, [*_files(known.find(root), records), *per_image], manifest)
        _add(report, f"files that differ from {manifest}", f"file that differs from {manifest}", differing)
    return report


def _add(
    report: Report,
    what: str,
    one: str,
    where: Iterable[str],
    repair: str = "",
    harmless: bool = False,
    expected: int = 0,
    exact: bool = False,
) -> None:
    """Add a finding, with every place once: several samples may be of the same file."""
    report.findings.append(Finding(what, one, list(dict.fromkeys(where)), expected, exact, repair, harmless))


def _without_advice(error: RRSISError, card: DatasetCard | None) -> str:
    """Return an error without where the data can be got from: whoever checks a copy has it."""
    return str(error) if card is None else str(error).removesuffix(f"; {card.how_to_get}")


def _shortened(faults: Sequence[str]) -> list[str]:
    """Return ``split: reason`` for each, a reason that was given already only by name: several splits share a file."""
    seen: dict[str, str] = {}
    lines = []
    for fault in faults:
        split, _, why = fault.partition(": ")
        lines.append(f"{split}: the same as {seen[why]}" if why in seen else fault)
        seen.setdefault(why, split)
    return lines


# -- the checks --------------------------------------------------------------------------------------------------------


def _counts(counts: dict[str, int], card: DatasetCard) -> list[str]:
    return [
        f"{split} has {counts[split]:,}, {number:,} are published"
        for split, number in card.counts.items()
        if split in counts and counts[split] != number  # the others are reported as such
    ]


@dataclass
class _Image:
    size: tuple[int, int] | None
    pixels: str
    orientation: int = 1
    fault: str = ""


def _check_pixels(
    records: Sequence[Record], report: Report, card: DatasetCard | None, complete: bool, pool: ThreadPoolExecutor
) -> None:
    depth = {record.image_path: record.any_depth for record in records}
    looked = counted(pool.map(_look_at_image, depth.keys(), depth.values()), len(depth), "images opened")
    images = dict(zip(depth, looked, strict=True))
    masks = list(counted(pool.map(_look_at_mask, (record.mask for record in records)), len(records), "masks decoded"))
    expected, whole = _known_defects(report.counts, card, complete)

    def add(what: str, one: str, where: Iterable[str], repair: str = "", harmless: bool = False) -> None:
        known = expected.get(what, 0)
        _add(report, what, one, where, repair, harmless, known, whole and known > 0)

    add("unreadable images", "unreadable image", (image.fault for image in images.values() if image.fault))
    add("unreadable masks", "unreadable mask", (mask.fault for mask in masks if mask.fault))
    pairs = [(r, images[r.image_path], m) for r, m in zip(records, masks, strict=True)]
    if card is not None and card.image_size is not None and complete:
        other = (r for r, image, _ in pairs if image.size not in (None, card.image_size))
        size = f"{card.image_size[0]} x {card.image_size[1]}"
        add(f"images that are not {size}", f"image that is not {size}", (r.image_file for r in other), "", True)
    add(
        "masks that differ from their image in size",
        "mask that differs from its image in size",
        (r.sample_id for r, image, m in pairs if image.size and m.size and image.size != m.size),
        "the mask is resized to the image, nearest neighbour",
    )
    turned = [f"{path.name} (image, {image.orientation})" for path, image in images.items() if image.orientation > 1]
    turned += [f"{r.sample_id} (mask, {m.orientation})" for r, _, m in pairs if m.orientation > 1]
    add(
        "files with an EXIF orientation",
        "file with an EXIF orientation",
        turned,
        "turned as displayed; masks are expected to match that",
        True,
    )
    empty = (
        f"{r.sample_id}{f' ({m.emptiness})' if m.emptiness else ''}"
        for r, _, m in pairs
        if m.size and not m.area and not r.no_target
    )
    add("empty masks", "empty mask", empty, "kept, unless data.drop_empty is true")
    add(
        "expressions without a target that have a mask",
        "expression without a target that has a mask",
        (r.sample_id for r, _, m in pairs if r.no_target and (m.area or m.hidden)),
        "the data set says both: its word counts where it is a class (the mask is empty then), else the mask",
    )
    add(
        "expressions without a target",
        "expression without a target",
        (r.sample_id for r, _, m in pairs if r.no_target and m.size and not (m.area or m.hidden)),
        "an empty mask is intended there by the data set's own word; data.drop_no_target leaves them out",
        True,
    )
    add(
        "masks that are not two-valued",
        "mask that is not two-valued",
        (f"{r.sample_id} ({m.levels} levels)" for r, _, m in pairs if m.levels > 2),
        "the dataset's threshold decides",
    )
    add(
        "masks with several channels",
        "mask with several channels",
        (r.sample_id for r, _, m in pairs if m.bands > 1),
        "the grey level is used",
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
    add(
        "equal scenes across splits",
        "scene in several splits",
        (f"{' + '.join(sorted(scenes[p]))}: {min(files[p])}" for p in crossing),
    )


def _known_defects(counts: Mapping[str, int], card: DatasetCard | None, complete: bool) -> tuple[dict[str, int], bool]:
    """Return the defects that the published copy has, and whether this copy must have all of them.

    In a part there are fewer; none counts as known in data of which no split has the published number of expressions.
    """
    if card is None:
        return {}, False
    same = [split for split, number in card.counts.items() if counts.get(split) == number]
    whole = len(same) == len(card.counts)
    return (card.known if same or complete else {}), whole and complete


def _look_at_image(path: Path, any_depth: bool) -> _Image:
    try:
        pixels = read_picture(path).pixels if any_depth else read_rgb(path)
        orientation = picture_orientation(path) if any_depth else image_orientation(path)
    except DataFormatError as error:
        return _Image(None, "", fault=str(error))
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    return _Image((pixels.shape[0], pixels.shape[1]), digest, orientation)


@dataclass
class _Mask:
    size: tuple[int, int] | None
    area: int = 0
    hidden: int = 0
    levels: int = 0
    bands: int = 1
    orientation: int = 1
    emptiness: str = ""
    fault: str = ""


def _look_at_mask(mask: MaskSource) -> _Mask:
    while isinstance(mask, Median3):
        mask = mask.source
    try:
        if isinstance(mask, NoMask):
            return _Mask((mask.height, mask.width), hidden=int(mask.like.decode().sum()))
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
    if not os.path.lexists(manifest):
        hashes = _named(root, paths)
        write_json(manifest, dict(sorted(hashes.items())), indent=0)
        print(f"{manifest}: written, {len(hashes):,} files; the next run compares with it")
        return []
    try:
        wanted = read_json(manifest)
    except RRSISError as error:
        raise ConfigError(f"{manifest}: is not a manifest ({error}); name a new file to write one") from error
    if not isinstance(wanted, dict) or not all(isinstance(digest, str) for digest in wanted.values()):
        raise ConfigError(f"{manifest}: must contain an object of path: SHA-256; name a new file to write one")
    # the file of a sample that was left out, because its other file is missing, is not missing itself
    there = [root / name for name in wanted if os.path.isfile(root / name)]
    hashes = _named(root, [*paths, *there])
    differing = [f"{name} is missing" for name in sorted(wanted.keys() - hashes.keys())]
    differing += [f"{name} is new" for name in sorted(hashes.keys() - wanted.keys())]
    changed = (name for name in sorted(wanted) if hashes.get(name, wanted[name]) != wanted[name])
    return [*differing, *(f"{name} has changed" for name in changed)]


def _named(root: Path, paths: Sequence[Path]) -> dict[str, str]:
    """Return path below the root -> SHA-256."""
    return {Path(os.path.relpath(path, root)).as_posix(): digest for path, digest in file_hashes(root, paths).items()}
