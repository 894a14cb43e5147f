"""Write synthetic scenes to disk in a published dataset's layout, with a sidecar for what that dataset does not record.

In RRSIS-D's layout, the default::

    <root>/rrsisd/refs(unc).p                       one ref per expression
    <root>/rrsisd/instances.json                    one annotation per referent, boxes and areas as RRSIS-D writes them
    <root>/images/rrsisd/JPEGImages/<5 digits>.jpg
    <root>/synthetic.json                           seed, version, held-out combinations, all objects, all meanings

A scene depends only on the seed, the size, its split and its number in the split: a larger training split leaves the
test scenes unchanged, and the number of processes has no effect.

In the layouts of RefSegRS and RISBench every expression has a copy of its image and a mask file; the reader of that
dataset reads them, and finds the copies.

Unlike the real files of RRSIS-D, an image has several refs, and a referent with several expressions is one annotation;
join refs with annotations by ``ann_id``. Categories 0 to 19 are RRSIS-D's, 20 and above are ours.

The sidecar's ``images`` list every object of a scene (category, colour, size, box, mask), referred to or not; its
``expressions`` give, per ref, the kind, the parts of the meaning, the indices of the referent and of the anchors in
the image's objects, and the held-out combinations.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from pycocotools import mask as rle

from rrsis_zoo.data.cards import Split
from rrsis_zoo.data.layouts import LAYOUTS, Layout, LayoutWriter, Referent, ReferredScene, RRSISDWriter
from rrsis_zoo.data.synthetic.ceiling import stride_iou
from rrsis_zoo.data.synthetic.chance import RandomStream
from rrsis_zoo.data.synthetic.draw import CATEGORIES
from rrsis_zoo.data.synthetic.language import HELD_OUT, KINDS, Expression, express
from rrsis_zoo.data.synthetic.scenes import Scene, SceneObject, make_scene
from rrsis_zoo.errors import ConfigError, unknown_name
from rrsis_zoo.files import cannot_write, dangling, expanded, write_text
from rrsis_zoo.shown import short_repr

T = TypeVar("T")
R = TypeVar("R")

GENERATOR_VERSION = 1
"""Incremented by every change to an array or a sentence."""

SPLITS = ("train", "val", "test")
SIDECAR = "synthetic.json"
MIN_SIZE, MAX_SIZE = 64, 1024
MAX_SCENES = 99_999  # five digits in a file name
MAX_EXPRESSIONS = 6
JPEG_QUALITY = 92


@dataclass(frozen=True)
class Sample:
    """A scene with its expressions.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        index: number in the split, from 0.
        scene: image, objects and masks.
        expressions: verified sentences.
    """

    split: str
    index: int
    scene: Scene
    expressions: tuple[Expression, ...]

    __repr__ = short_repr


@dataclass(frozen=True)
class Summary:
    """What a run of the generator wrote.

    Attributes:
        root: folder of the dataset.
        size: image side in pixels.
        seed: seed of the set.
        scenes, expressions: numbers per split.
        kinds, categories: numbers of expressions per split by kind and by the referent's category.
        held_out: test expressions that use a held-out combination.
        ceiling: mean over all expressions of the IoU that a perfect mask reaches at stride 4 (`stride_iou`), 0 to 1.
    """

    root: Path
    size: int
    seed: int
    scenes: dict[str, int]
    expressions: dict[str, int]
    kinds: dict[str, Counter[str]]
    categories: dict[str, Counter[str]]
    held_out: int
    ceiling: float

    def __str__(self) -> str:
        def row(name: str, counts: Iterable[int]) -> str:
            counts = list(counts)
            return f"{name:<20}" + "".join(f"{count:>8}" for count in (*counts, sum(counts)))

        return "\n".join(
            (
                f"synthetic scenes in {self.root}: {self.size} px, seed {self.seed}, version {GENERATOR_VERSION}",
                f"{'':<20}" + "".join(f"{name:>8}" for name in (*SPLITS, "all")),
                row("scenes", self.scenes.values()),
                row("expressions", self.expressions.values()),
                *(row(f"  {kind}", (self.kinds[split][kind] for split in SPLITS)) for kind in KINDS),
                *(row(f"  {name}", (self.categories[split][name] for split in SPLITS)) for name in CATEGORIES),
                f"test expressions with combinations unseen in training: {self.held_out}",
                f"mIoU of the perfect mask at stride 4: {self.ceiling:.3f}",
            )
        )


def make_sample(split: str, index: int, *, size: int = 128, seed: int = 0, expressions: int = 3) -> Sample:
    """Return one scene with its expressions: the same arrays and sentences on every machine.

    Args:
        split: ``train``, ``val`` or ``test``; only test scenes use held-out combinations.
        index: number of the scene in its split, from 0.
        size: side of the image in pixels, 64 to 1024, a multiple of 4.
        seed: non-negative seed of the whole set.
        expressions: number of expressions, 1 to 6.

    Raises:
        ConfigError: a value out of range.

    Example:
        >>> sample = make_sample("test", 0)
        >>> sample.scene.image.shape, sample.scene.theme
        ((128, 128, 3), 'coast')
        >>> for expression in sample.expressions:
        ...     print(expression.text)
        the harbor farthest from the swimming pool
        the harbor below the swimming pool
        the swimming pool in the image
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    _check_values(size, seed, expressions)
    attempt = 0
    while True:  # a scene of unlike objects may give too few expressions; the next attempt is another scene
        stream = RandomStream(seed, SPLITS.index(split), index, attempt)
        scene = make_scene(size, stream)
        sentences = express(scene.objects, expressions, split == "test", stream)
        if len(sentences) == expressions:
            return Sample(split, index, scene, tuple(sentences))
        attempt += 1


def make_synthetic(
    root: str | Path,
    *,
    scenes: int = 1500,
    size: int = 128,
    seed: int = 0,
    splits: Sequence[int] = (1100, 150, 250),
    expressions: int = 3,
    layout: Layout = "rrsis-d",
    processes: int | None = None,
    overwrite: bool = False,
) -> Summary:
    """Generate the synthetic dataset.

    Args:
        root: folder to create.
        scenes: number of scenes of all splits together, 3 to 99,999.
        size: side of the square images in pixels, 64 to 1024, a multiple of 4; the objects grow with it.
        seed: non-negative seed.
        splits: relative sizes of train, val and test; each split gets at least one scene.
        expressions: expressions per scene, 1 to 6.
        layout: the published dataset whose file layout and reader it uses; ``synthetic`` reads RRSIS-D's.
        processes: worker processes; None for one per processor. The result does not depend on it.
        overwrite: replace an earlier synthetic dataset in ``root``.

    Returns:
        Counts and the IoU ceiling; ``print`` shows them as a table.

    Raises:
        ConfigError: a value out of range, or a ``root`` with other content.
        OutputError: it cannot be written; existing files are unchanged.
    """
    root = expanded(root)
    _check_values(size, seed, expressions)
    counts = _split_sizes(scenes, splits)
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    if processes is not None and processes < 1:
        raise ConfigError(f"processes must be at least 1, or None for one per processor; got {processes}")
    place = check_root(root, overwrite)

    tasks = [(split, index) for split in SPLITS for index in range(counts[split])]
    work = partial(_encode, size=size, seed=seed, expressions=expressions)
    with drafted(root, place) as draft:
        writer = _writer(draft, layout)
        encoded = [_save(one, writer) for one in in_order(work, tasks, processes)]
        writer.close()
        _write_sidecar(draft, encoded, layout, size, seed, expressions)
    return _summarise(root, encoded, size, seed)


# -- checks ------------------------------------------------------------------------------------------------------------


def _check_values(size: int, seed: int, expressions: int) -> None:
    if not MIN_SIZE <= size <= MAX_SIZE or size % 4:
        raise ConfigError(f"size must be a multiple of 4 from {MIN_SIZE} to {MAX_SIZE} pixels, got {size}")
    if seed < 0:
        raise ConfigError(f"seed must not be negative, got {seed}")
    if not 1 <= expressions <= MAX_EXPRESSIONS:
        raise ConfigError(f"expressions must be 1 to {MAX_EXPRESSIONS} per scene, got {expressions}")


def _split_sizes(scenes: int, splits: Sequence[int]) -> dict[str, int]:
    """Divide the scenes by the relative sizes (largest remainders), one at least for each split."""
    if not len(SPLITS) <= scenes <= MAX_SCENES:
        raise ConfigError(f"scenes must be {len(SPLITS)} to {MAX_SCENES}, one for each split at least; got {scenes}")
    if len(splits) != len(SPLITS) or any(not isinstance(part, int) or part < 1 for part in splits):
        raise ConfigError(f"splits must be three positive integers (train, val, test), got {splits!r}")
    total = sum(splits)
    sizes = [scenes * part // total for part in splits]
    order = sorted(range(len(splits)), key=lambda i: -(scenes * splits[i] % total))
    for i in order[: scenes - sum(sizes)]:
        sizes[i] += 1
    for i, number in enumerate(sizes):
        if number == 0:
            sizes[sizes.index(max(sizes))] -= 1
            sizes[i] = 1
    return dict(zip(SPLITS, sizes, strict=True))


@contextmanager
def drafted(root: Path, place: Path) -> Iterator[Path]:
    """Yield an empty folder that takes its place at the end: a failed run leaves no partial dataset.

    Args:
        root: as given, for error messages.
        place: of the dataset, from `check_root`; what is there is replaced.

    Raises:
        OutputError: it cannot be written; what was in its place is unchanged.
    """
    draft = place.with_name(f"{place.name}.partial-{os.getpid()}")
    try:
        with cannot_write(root):
            draft.mkdir(parents=True)
        yield draft
        with cannot_write(root):
            if os.path.exists(place):
                shutil.rmtree(place)
            draft.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_root(root: Path, overwrite: bool) -> Path:
    """Return the folder that the dataset goes to: the root itself, or what it is a link to."""
    with cannot_write(root):
        place = Path(os.path.realpath(root))  # a link stays a link
        if not os.path.exists(place):
            if root.is_symlink():
                raise ConfigError(f"{root} is missing{dangling(root)}; name another folder")
            return place
        if not os.path.isdir(place):
            raise ConfigError(f"{root} is a file; name a folder for the synthetic dataset")
        holds = any(place.iterdir())
    if holds and not os.path.isfile(place / SIDECAR):
        raise ConfigError(f"{root} contains files but no synthetic dataset (no {SIDECAR}); name another folder")
    if holds and not overwrite:
        raise ConfigError(f"{root} already contains a synthetic dataset; name another folder or set overwrite=True")
    return place


# -- the work of one process -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Encoded:
    """A sample as pixels, until they are written, and plain values; ``image`` and ``expressions`` go to the sidecar."""

    split: str
    scene: ReferredScene | None
    image: dict[str, Any]
    expressions: list[dict[str, Any]]
    ceilings: list[float]


def in_order(work: Callable[[T], R], tasks: Sequence[T], processes: int | None, chunk: int = 8) -> Iterator[R]:
    """Yield the results in the order of the tasks.

    Args:
        work: what is done with a task; it must be picklable.
        tasks: in their order.
        processes: number of worker processes; None for one per processor.
        chunk: tasks that a process is given at a time.
    """
    if processes is None:
        processes = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if min(processes, len(tasks)) == 1:
        yield from map(work, tasks)
        return
    with ProcessPoolExecutor(min(processes, len(tasks))) as pool:
        yield from pool.map(work, tasks, chunksize=chunk)


def _encode(task: tuple[str, int], *, size: int, seed: int, expressions: int) -> _Encoded:
    sample = make_sample(*task, size=size, seed=seed, expressions=expressions)
    things = sample.scene.objects
    # one reference per sentence, as in the real files; sentences about one object share its mask and so its annotation
    referents = [Referent(things[e.referent].mask, [e.text], things[e.referent].category) for e in sample.expressions]
    scene = ReferredScene(sample.scene.image, referents, cast(Split, sample.split))
    objects = [_describe(thing) for thing in things]
    image = {"split": sample.split, "index": sample.index, "theme": sample.scene.theme, "objects": objects}
    ceilings = [stride_iou(things[e.referent].mask) for e in sample.expressions]
    return _Encoded(sample.split, scene, image, [_parse(e) for e in sample.expressions], ceilings)


def _describe(thing: SceneObject) -> dict[str, Any]:
    code = rle.encode(np.asfortranarray(thing.mask, np.uint8))
    ys, xs = np.nonzero(thing.mask)
    return {
        "category": thing.category,
        "colour": thing.colour,
        "large": thing.large,
        "angle": thing.angle,
        "area": len(xs),
        "bbox": [int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())],
        "segmentation": {"size": list(code["size"]), "counts": cast(bytes, code["counts"]).decode("ascii")},
    }


def _parse(expression: Expression) -> dict[str, Any]:
    meaning = expression.meaning
    return {
        "text": expression.text,
        "kind": meaning.kind,
        "referent": expression.referent,
        "category": meaning.phrase.category,
        "attribute": meaning.phrase.attribute,
        "position": meaning.position,
        "links": [
            {
                "relation": link.relation,
                "anchors": [
                    {**asdict(anchor), "object": index} for anchor, index in zip(link.anchors, objects, strict=True)
                ],
            }
            for link, objects in zip(meaning.links, expression.anchors, strict=True)
        ],
        "peers": expression.peers,
        "minimal": expression.minimal,
        "held_out": [str(combination) for combination in expression.held_out],
    }


# -- files -------------------------------------------------------------------------------------------------------------


def _save(encoded: _Encoded, writer: LayoutWriter) -> _Encoded:
    """Write the scene and give the sidecar's entries their ids; return the entries without the pixels."""
    assert encoded.scene is not None
    objects = encoded.image["objects"]
    for thing in objects:
        thing["ann_id"] = None
    for expression, written in zip(encoded.expressions, writer.add(encoded.scene), strict=True):
        objects[expression["referent"]]["ann_id"] = written.ann_id
        expression.update(ref_id=written.ref_id, ann_id=written.ann_id, image_id=written.image_id)
        encoded.image.setdefault("file_name", written.file_name)
        encoded.image["id"] = written.image_id
    return replace(encoded, scene=None)


def _writer(root: Path, layout: Layout) -> LayoutWriter:
    categories = {name: (category.id, category.file_name) for name, category in CATEGORIES.items()}
    if layout == "rrsis-d":
        return RRSISDWriter(root, categories=categories, quality=JPEG_QUALITY)
    return LAYOUTS[layout](root, categories=categories)


def _write_sidecar(
    root: Path, encoded: Sequence[_Encoded], layout: Layout, size: int, seed: int, expressions: int
) -> None:
    sidecar = {
        "generator": "rrsis_zoo.data.synthetic",
        "version": GENERATOR_VERSION,
        "layout": layout,
        "seed": seed,
        "size": size,
        "expressions_per_scene": expressions,
        "held_out": [asdict(combination) for combination in HELD_OUT],
        "images": [one.image for one in encoded],
        "expressions": [expression for one in encoded for expression in one.expressions],
    }
    write_text(root / SIDECAR, json.dumps(sidecar))


def _summarise(root: Path, encoded: Sequence[_Encoded], size: int, seed: int) -> Summary:
    by_split = {split: [e for one in encoded if one.split == split for e in one.expressions] for split in SPLITS}
    return Summary(
        root=root,
        size=size,
        seed=seed,
        scenes={split: sum(one.split == split for one in encoded) for split in SPLITS},
        expressions={split: len(by_split[split]) for split in SPLITS},
        kinds={split: Counter(e["kind"] for e in by_split[split]) for split in SPLITS},
        categories={split: Counter(e["category"] for e in by_split[split]) for split in SPLITS},
        held_out=sum(bool(e["held_out"]) for e in by_split["test"]),
        ceiling=float(np.mean([value for one in encoded for value in one.ceilings])),
    )
