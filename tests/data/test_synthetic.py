"""The synthetic dataset as files and arrays."""

import hashlib
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from rrsis_zoo.data.rrsisd import read_rrsisd
from rrsis_zoo.data.synthetic import (
    CATEGORIES,
    HELD_OUT,
    KINDS,
    SIDECAR,
    contact_sheet,
    make_sample,
    make_synthetic,
    mask_ceiling,
    stride_iou,
)
from rrsis_zoo.data.synthetic.chance import UNIT, RandomStream
from rrsis_zoo.errors import ConfigError, MissingDataError

REFS = Path("rrsisd", "refs(unc).p")
INSTANCES = Path("rrsisd", "instances.json")
IMAGES = Path("images", "rrsisd", "JPEGImages")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """150 scenes on disk and their summary."""
    root = tmp_path_factory.mktemp("synthetic") / "set"
    return root, make_synthetic(root, scenes=150, splits=(80, 20, 50), processes=2)


def load(root):
    refs = pickle.loads((root / REFS).read_bytes())
    instances = json.loads((root / INSTANCES).read_text(encoding="utf-8"))
    sidecar = json.loads((root / SIDECAR).read_text(encoding="utf-8"))
    return refs, instances, sidecar


def files_of(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# -- determinism -------------------------------------------------------------------------------------------------------


def digest(sample):
    sha = hashlib.sha256(sample.scene.image.tobytes())
    for thing in sample.scene.objects:
        sha.update(np.packbits(thing.mask).tobytes())
        sha.update(f"{thing.category} {thing.colour} {thing.large} {thing.angle}".encode())
    for expression in sample.expressions:
        sha.update(f"{expression.text} {expression.referent}".encode())
    return sha.hexdigest()[:16]


@pytest.mark.parametrize(
    ("split", "count", "options", "expected"),
    [
        ("train", 40, {}, "4a03b38fcf618871"),
        ("val", 15, {"seed": 7, "expressions": 2}, "c6bd1e6516895a36"),
        ("test", 40, {}, "7dfb95cfa07cfcd9"),
        ("test", 10, {"size": 200, "seed": 1}, "94ae7b7ae496bfd1"),
    ],
)
def test_arrays_and_sentences_are_the_same_on_every_machine(split, count, options, expected):
    # A change of these digests is a change of the dataset: raise GENERATOR_VERSION with it.
    sha = hashlib.sha256("".join(digest(make_sample(split, i, **options)) for i in range(count)).encode())
    assert sha.hexdigest()[:16] == expected


def test_seed_split_and_index_all_matter():
    keys = [("train", 0, 0), ("train", 1, 0), ("val", 0, 0), ("train", 0, 1)]
    assert len({digest(make_sample(split, index, seed=seed)) for split, index, seed in keys}) == len(keys)


def test_the_number_of_processes_changes_nothing(tmp_path):
    for processes in (1, 2):
        make_synthetic(tmp_path / str(processes), scenes=12, splits=(2, 1, 1), processes=processes)
    first, second = files_of(tmp_path / "1"), files_of(tmp_path / "2")
    assert first == second
    assert len(first) == 12 + 3


def test_a_larger_training_split_leaves_the_others_as_they_are(tmp_path):
    make_synthetic(tmp_path / "a", scenes=6, splits=(2, 2, 2), processes=1)
    make_synthetic(tmp_path / "b", scenes=9, splits=(5, 2, 2), processes=1)

    def others(root):
        refs, _, sidecar = load(root)
        said = [(ref["split"], ref["sentences"][0]["raw"]) for ref in refs if ref["split"] != "train"]
        objects = [
            [{**thing, "ann_id": None} for thing in image["objects"]]
            for image in sidecar["images"]
            if image["split"] != "train"
        ]
        return said, objects

    assert others(tmp_path / "a") == others(tmp_path / "b")
    assert len(others(tmp_path / "a")[0]) == 4 * 3


def test_directions_are_rounded_before_use():
    assert UNIT[0] == (1.0, 0.0)
    assert UNIT[18] == (0.0, 1.0)
    assert UNIT[6] == (14189 / 16384, 0.5)
    assert all(value * 16384 == round(value * 16384) for pair in UNIT for value in pair)


def test_dice():
    stream = RandomStream(1, 2, 3)
    noise = stream.bell(200, 200)
    assert noise.dtype == np.int16
    assert abs(noise.mean()) < 3
    assert abs(noise.std() - 147.8) < 2
    assert {stream.integer(2, 4) for _ in range(100)} == {2, 3, 4}
    assert sorted(stream.shuffled(range(9))) == list(range(9))
    picks = [stream.weighted("abc", (1, 0, 3)) for _ in range(400)]
    assert picks.count("b") == 0
    assert 60 < picks.count("a") < 140


# -- scenes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64, 128, 200])
def test_scenes(size):
    for index in range(12):
        sample = make_sample("train", index, size=size, seed=3, expressions=2)
        scene = sample.scene
        assert scene.image.shape == (size, size, 3)
        assert scene.image.dtype == np.uint8
        assert 2 <= len(scene.objects) <= 5
        assert len(sample.expressions) == 2
        layers = np.sum([thing.mask for thing in scene.objects], axis=0)
        assert layers.max() == 1
        for thing in scene.objects:
            assert thing.mask.shape == (size, size)
            assert thing.mask.dtype == bool
            assert thing.mask.sum() >= 90 * (size / 128) ** 2
            border = np.concatenate([thing.mask[0], thing.mask[-1], thing.mask[:, 0], thing.mask[:, -1]])
            assert not border.any()
            assert thing.colour in CATEGORIES[thing.category].colours or (
                thing.colour is None and not CATEGORIES[thing.category].colours
            )


def test_objects_keep_their_place_when_the_image_grows():
    # The same stream at another size draw the same scene wherever no choice hangs on a single pixel of the ground.
    equal = 0
    for index in range(10):
        small, large = (make_sample("val", index, size=size, expressions=1).scene.objects for size in (128, 256))
        if [thing.category for thing in small] != [thing.category for thing in large]:
            continue
        ious = []
        for one, other in zip(small, large, strict=True):
            halved = other.mask.reshape(128, 2, 128, 2).mean(axis=(1, 3)) >= 0.5
            ious.append((one.mask & halved).sum() / (one.mask | halved).sum())
        equal += min(ious) > 0.9
    assert equal >= 5


def test_colours_of_the_objects_are_seen_in_the_image(made):
    root, _ = made
    _, _, sidecar = load(root)
    checked = 0
    for image in sidecar["images"]:
        pixels = np.asarray(Image.open(root / IMAGES / image["file_name"]), np.float64)
        for thing in image["objects"]:
            if thing["category"] not in ("airplane", "storage tank", "ship", "helipad"):
                continue
            r, g, b = np.median(pixels[rle.decode(thing["segmentation"]).astype(bool)], axis=0)
            strongest = {"red": r - max(g, b), "green": g - max(r, b), "blue": b - max(r, g), "yellow": min(r, g) - b}
            if thing["colour"] in strongest and thing["category"] != "ship":
                assert strongest[thing["colour"]] > 15, (image["file_name"], thing["category"], thing["colour"])
                checked += 1
            elif thing["colour"] == "white":
                assert min(r, g, b) > 120
                checked += 1
    assert checked > 60


# -- files -------------------------------------------------------------------------------------------------------------


def test_layout(made):
    root, _ = made
    refs, instances, sidecar = load(root)
    images = {image["id"]: image for image in instances["images"]}
    annotations = {annotation["id"]: annotation for annotation in instances["annotations"]}
    names = {category["id"]: category["name"] for category in instances["categories"]}
    assert len(images) == 150
    assert len(annotations) == len(instances["annotations"])
    assert {ref["ann_id"] for ref in refs} == set(annotations)
    assert {path.name for path in (root / IMAGES).iterdir()} == {image["file_name"] for image in images.values()}
    assert names[13] == "ship"
    assert names[10] == "groundtrackfield"
    assert not set(range(20)) - {2, 4, 5, 6, 10, 11, 13, 14, 15, 16, 18, 19} & set(names)
    for ref in refs:
        image, annotation = images[ref["image_id"]], annotations[ref["ann_id"]]
        assert set(ref) == {
            *("ref_id", "ann_id", "image_id", "split", "sentences", "sent_ids", "file_name", "category_id")
        }
        assert annotation["image_id"] == ref["image_id"]
        assert annotation["categories_id"] == ref["category_id"]
        assert ref["file_name"] == image["file_name"] == f"{ref['image_id']:05d}.jpg"
        (sentence,) = ref["sentences"]
        assert sentence["raw"] == sentence["sent"] == " ".join(sentence["tokens"])
        assert [sentence["sent_id"]] == ref["sent_ids"]
        mask = rle.decode(annotation["segmentation"])
        assert mask.shape == (image["height"], image["width"], 1)
        ys, xs = np.nonzero(mask[..., 0])
        assert annotation["bbox"] == [xs.min(), ys.min(), xs.max(), ys.max()]
        assert annotation["area"] == 255 * len(xs)
    assert len({ref["ref_id"] for ref in refs}) == len(refs) == 450
    with Image.open(root / IMAGES / "00001.jpg") as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (128, 128))
    assert sidecar["version"] >= 1


def test_images_on_disk_are_the_arrays(made):
    root, _ = made
    on_disk = np.asarray(Image.open(root / IMAGES / "00001.jpg"), np.int16)
    assert np.abs(on_disk - make_sample("train", 0).scene.image).mean() < 5


def test_the_reader_of_rrsis_d_reads_it(made):
    root, _ = made
    _, _, sidecar = load(root)
    images = {image["id"]: image for image in sidecar["images"]}
    records = [record for split in ("train", "val", "test") for record in read_rrsisd(root, split)]
    assert len(records) == 450
    for record, expression in zip(records, sidecar["expressions"], strict=True):
        image = images[expression["image_id"]]
        assert record.expression == expression["text"]
        assert record.category == expression["category"]
        assert record.split == image["split"]
        assert record.image_path == root / IMAGES / image["file_name"]
        truth = rle.decode(image["objects"][expression["referent"]]["segmentation"])
        assert np.array_equal(record.mask.decode(), truth.astype(bool))


def test_sidecar_agrees_with_the_layout(made):
    root, _ = made
    refs, instances, sidecar = load(root)
    annotations = {annotation["id"]: annotation for annotation in instances["annotations"]}
    images = {image["id"]: image for image in sidecar["images"]}
    for ref, expression in zip(refs, sidecar["expressions"], strict=True):
        image = images[expression["image_id"]]
        thing = image["objects"][expression["referent"]]
        assert expression["ref_id"] == ref["ref_id"]
        assert expression["text"] == ref["sentences"][0]["raw"]
        assert image["split"] == ref["split"]
        assert thing["ann_id"] == ref["ann_id"] == expression["ann_id"]
        assert thing["category"] == expression["category"]
        assert [thing["segmentation"]] == annotations[ref["ann_id"]]["segmentation"]
        assert expression["peers"] == sum(t["category"] == thing["category"] for t in image["objects"]) - 1
        for link in expression["links"]:
            for anchor in link["anchors"]:
                assert image["objects"][anchor["object"]]["category"] == anchor["category"]
        assert (expression["kind"] == "category") == (
            not expression["attribute"] and not expression["position"] and not expression["links"]
        )
    for image in sidecar["images"]:
        layers = sum(rle.decode(thing["segmentation"]).astype(int) for thing in image["objects"])
        assert layers.max() == 1


def test_kinds_categories_and_summary(made):
    root, summary = made
    refs, _, sidecar = load(root)
    assert summary.scenes == {"train": 80, "val": 20, "test": 50}
    assert summary.expressions == {"train": 240, "val": 60, "test": 150}
    for split in ("train", "val", "test"):
        assert set(summary.kinds[split]) == set(KINDS)
        assert sum(summary.kinds[split].values()) == summary.expressions[split]
    assert {thing["category"] for image in sidecar["images"] for thing in image["objects"]} == set(CATEGORIES)
    assert len(CATEGORIES) >= 14
    assert len({category.id for category in CATEGORIES.values()}) == len(CATEGORIES)
    text = str(summary)
    assert f"{summary.ceiling:.3f}" in text
    assert re.search(r"expressions +240 +60 +150 +450", text)
    # Three expressions of a scene mostly speak of different objects.
    shared = [len({ref["ann_id"] for ref in refs[i : i + 3]}) < 3 for i in range(0, len(refs), 3)]
    assert sum(shared) < 0.25 * len(shared)


# -- held-out combinations ---------------------------------------------------------------------------------------------


def uses(text, category, attribute, relation):
    """Read the combination from the sentence alone, independently of the generator's logical form."""
    sizes = {"large": "(large|larger|largest)", "small": "(small|smaller|smallest)"}
    noun = f"{sizes.get(attribute, attribute)} {category}" if attribute else f"(\\w+ )?{category}"
    if relation is None:
        return re.search(rf"\b{noun}\b", text) is not None
    text = text.replace(" of the image", "")
    near = {"nearest to": "(nearest to|closest to)"}.get(relation, relation)
    if not re.match(rf"the {noun}\b", text):
        return False
    rest = re.sub(r"(upper|lower) (left|right) of", r"\1_\2 of", text)
    wanted = re.sub(r"(upper|lower) (left|right) of", r"\1_\2 of", near)
    return re.search(rf"(?<!_)\b{wanted}\b", rest) is not None


def test_held_out_combinations_occur_in_test_only(made):
    root, summary = made
    refs, _, sidecar = load(root)
    patterns = [(c.category, c.attribute, c.relation) for c in HELD_OUT]
    assert sidecar["held_out"] == [dict(zip(("category", "attribute", "relation"), p, strict=True)) for p in patterns]
    flagged = 0
    for ref, expression in zip(refs, sidecar["expressions"], strict=True):
        text = expression["text"]
        found = [pattern for pattern in patterns if uses(text, *pattern)]
        assert bool(found) == bool(expression["held_out"]), (text, found, expression["held_out"])
        assert not (found and ref["split"] != "test"), (text, found)
        flagged += bool(found)
    assert flagged == summary.held_out
    assert flagged >= 0.08 * summary.expressions["test"]


def test_every_word_of_a_held_out_combination_is_learnt_in_other_company():
    # From the lists alone: the attribute goes with another category, the category with other attributes.
    for held in HELD_OUT:
        category = CATEGORIES[held.category]
        if held.attribute in ("large", "small"):
            assert category.sized
        elif held.attribute:
            assert held.attribute in category.colours
            free = [
                (c.name, colour)
                for c in CATEGORIES.values()
                for colour in c.colours
                if not any(h.relation is None and (h.category, h.attribute) == (c.name, colour) for h in HELD_OUT)
            ]
            assert any(colour == held.attribute for _, colour in free)
            assert any(name == held.category for name, _ in free)


# -- ceiling -----------------------------------------------------------------------------------------------------------


def slow_iou(mask, stride):
    """Cell means and bilinear interpolation written out pixel by pixel."""
    height, width = mask.shape
    h, w = height // stride, width // stride
    cells = [
        [mask[i * stride : (i + 1) * stride, j * stride : (j + 1) * stride].mean() for j in range(w)] for i in range(h)
    ]
    copy = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            gy, gx = max(0.0, (y + 0.5) / stride - 0.5), max(0.0, (x + 0.5) / stride - 0.5)
            y0, x0 = min(int(gy), h - 1), min(int(gx), w - 1)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            fy, fx = gy - y0, gx - x0
            upper = cells[y0][x0] * (1 - fx) + cells[y0][x1] * fx
            lower = cells[y1][x0] * (1 - fx) + cells[y1][x1] * fx
            copy[y, x] = upper * (1 - fy) + lower * fy > 0.5
    return (mask & copy).sum() / (mask | copy).sum()


def test_ceiling_of_the_dataset(made):
    root, summary = made
    _, _, sidecar = load(root)
    assert summary.ceiling >= 0.88
    images = {image["id"]: image for image in sidecar["images"]}
    masks = [
        rle.decode(images[e["image_id"]]["objects"][e["referent"]]["segmentation"]).astype(bool)
        for e in sidecar["expressions"]
    ]
    assert mask_ceiling(masks) == pytest.approx(summary.ceiling, abs=1e-12)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_ceiling_against_a_slow_reference(stride):
    rng = np.random.default_rng(0)
    ys, xs = np.mgrid[:24, :32]
    masks = [(ys - 11) ** 2 + (xs - 14) ** 2 < 60, (ys < 7) & (xs > 20), rng.random((24, 32)) > 0.5]
    values = [slow_iou(mask, stride) for mask in masks]
    assert [stride_iou(mask, stride) for mask in masks] == pytest.approx(values)
    assert mask_ceiling(masks, stride) == pytest.approx(np.mean(values))
    if stride == 1:
        assert values == [1, 1, 1]


def test_ceiling_refuses_what_has_none():
    full = np.ones((8, 8), bool)
    assert stride_iou(full) == 1
    with pytest.raises(ConfigError, match="empty mask"):
        stride_iou(~full)
    with pytest.raises(ConfigError, match="multiples of stride=3"):
        stride_iou(full, 3)
    with pytest.raises(ConfigError, match="at least one mask"):
        mask_ceiling([])


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scenes": 2}, "scenes must be 3 to 99999"),
        ({"scenes": 100_000}, "scenes must be 3 to 99999"),
        ({"size": 60}, "size must be a multiple of 4 from 64 to 1024"),
        ({"size": 130}, "got 130"),
        ({"seed": -1}, "seed must not be negative"),
        ({"splits": (1, 1)}, "three positive integers"),
        ({"splits": (1, 0, 1)}, "three positive integers"),
        ({"expressions": 0}, "expressions must be 1 to 6"),
        ({"processes": 0}, "processes must be at least 1"),
    ],
)
def test_bad_settings(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        make_synthetic(tmp_path / "set", **settings)
    assert not list(tmp_path.iterdir())


def test_unknown_split():
    with pytest.raises(ConfigError, match=r"unknown split 'tset' .did you mean 'test'"):
        make_sample("tset", 0)


@pytest.mark.parametrize(
    ("scenes", "splits", "expected"),
    [(3, (1100, 150, 250), [1, 1, 1]), (10, (1, 1, 1), [4, 3, 3]), (7, (100, 1, 1), [5, 1, 1])],
)
def test_split_sizes(tmp_path, scenes, splits, expected):
    summary = make_synthetic(tmp_path / "set", scenes=scenes, splits=splits, size=64, expressions=1, processes=1)
    assert list(summary.scenes.values()) == expected


def test_foreign_folders_are_left_alone(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"precious")
    with pytest.raises(ConfigError, match=r"no synthetic\.json"):
        make_synthetic(tmp_path, scenes=3, overwrite=True)
    assert (tmp_path / "photo.jpg").read_bytes() == b"precious"


def test_overwrite_is_asked_for(tmp_path):
    root = tmp_path / "set"
    make_synthetic(root, scenes=3, size=64, processes=1)
    before = files_of(root)
    with pytest.raises(ConfigError, match="overwrite=True"):
        make_synthetic(root, scenes=3, size=64, seed=1, processes=1)
    assert files_of(root) == before
    make_synthetic(root, scenes=3, size=64, seed=1, processes=1, overwrite=True)
    assert files_of(root) != before
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_broken_run_leaves_nothing(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr("rrsis_zoo.data.synthetic.write._write_sidecar", broken)
    with pytest.raises(OSError, match="disk full"):
        make_synthetic(tmp_path / "set", scenes=3, size=64, processes=1)
    assert not list(tmp_path.iterdir())


def test_no_torch():
    code = "import sys, rrsis_zoo.data.synthetic; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- contact sheets ----------------------------------------------------------------------------------------------------


def test_contact_sheet(made, tmp_path):
    root, _ = made
    shown = contact_sheet(root, tmp_path / "a.png", n=7, seed=5, columns=3, split="test", kind="relation")
    _, _, sidecar = load(root)
    by_ref = {expression["ref_id"]: expression for expression in sidecar["expressions"]}
    assert len(set(shown)) == 7
    assert {by_ref[ref]["kind"] for ref in shown} == {"relation"}
    assert shown == contact_sheet(
        root, tmp_path / "b.png", n=7, seed=5, columns=3, split="test", kind="relation", blind=True
    )
    first, second = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png"))
    outline = np.array([255, 0, 255])
    assert first.shape == second.shape == (3 * (256 + 40), 3 * (256 + 6), 3)
    assert (first == outline).all(axis=-1).sum() > 7 * 60
    assert not (second == outline).all(axis=-1).any()


def test_contact_sheet_errors(made, tmp_path):
    root, _ = made
    with pytest.raises(MissingDataError, match="make_synthetic"):
        contact_sheet(tmp_path, tmp_path / "a.png")
    with pytest.raises(ConfigError, match="unknown split"):
        contact_sheet(root, tmp_path / "a.png", split="tests")
    with pytest.raises(ConfigError, match="unknown kind"):
        contact_sheet(root, tmp_path / "a.png", kind="relations")
    with pytest.raises(ConfigError, match="must be positive"):
        contact_sheet(root, tmp_path / "a.png", n=0)
