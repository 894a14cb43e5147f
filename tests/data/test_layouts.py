import json
import pickle

import numpy as np
import pytest
from boxes import box
from PIL import Image

from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.layouts import (
    LAYOUTS,
    RRSIS_D_CATEGORIES,
    Referent,
    ReferredScene,
    RRSISDWriter,
    write_refsegrs,
    write_risbench,
    write_rrsisd,
)
from rrsis_zoo.data.rrsisd import read_rrsisd
from rrsis_zoo.data.sources import SOURCES, ReadOptions
from rrsis_zoo.data.synthetic import contact_sheet, make_sample, make_synthetic
from rrsis_zoo.data.verify import verify
from rrsis_zoo.errors import ConfigError, DataFormatError

IMAGE = np.full((20, 30, 3), (10, 200, 90), dtype=np.uint8)
MASK = box((20, 30), 3, 5, 9, 12)


def scene(**changes):
    referent = {"mask": MASK, "expressions": ["A ship"], "category": "ship"}
    referent |= {k: v for k, v in changes.items() if k in referent}
    rest = {"image": IMAGE, "split": "train"} | {k: v for k, v in changes.items() if k not in referent}
    return ReferredScene(referents=[Referent(**referent)], **rest)


def test_files_have_the_published_fields(tmp_path, golden):
    write_rrsisd(
        tmp_path, iter([scene(), scene(category="storage tank", expressions=["Un café", "Two"], split="test")])
    )
    ours = pickle.loads((tmp_path / "rrsisd/refs(unc).p").read_bytes())
    theirs = pickle.loads((golden / "rrsisd/refs(unc).p").read_bytes())
    assert set(ours[0]) == set(theirs[0])
    assert set(ours[0]["sentences"][0]) == set(theirs[0]["sentences"][0])
    assert ours[1]["sent_ids"] == [s["sent_id"] for s in ours[1]["sentences"]] == [2, 3]
    assert ours[1]["sentences"][0]["tokens"] == ["Un", "café"]
    assert ours[1]["category_id"] == 15

    written = json.loads((tmp_path / "rrsisd/instances.json").read_text(encoding="utf-8"))
    published = json.loads((golden / "rrsisd/instances.json").read_text(encoding="utf-8"))
    assert set(written) == set(published)
    assert set(written["images"][0]) == set(published["images"][0])
    assert set(written["annotations"][0]) == set(published["annotations"][0])
    assert written["categories"] == published["categories"]
    annotation = written["annotations"][0]
    assert annotation["bbox"] == [5, 3, 11, 8]
    assert annotation["area"] == 255 * 42
    assert len(annotation["segmentation"]) == 1
    assert annotation["segmentation"][0]["size"] == [20, 30]


def test_what_is_written_is_read_back(tmp_path):
    write_rrsisd(tmp_path, [scene(), scene(mask=np.zeros_like(MASK)), scene(split="val"), scene(split="test")])
    first, second = read_rrsisd(tmp_path, "train")
    np.testing.assert_array_equal(first.mask.decode(), MASK)
    assert second.is_empty
    assert (first.image_file, first.category) == ("00001.jpg", "ship")
    with Image.open(first.image_path) as image:
        assert (image.mode, image.size) == ("RGB", (30, 20))
        np.testing.assert_allclose(np.array(image, dtype=int), IMAGE, atol=3)
    assert [len(read_rrsisd(tmp_path, split)) for split in ("val", "test")] == [1, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": IMAGE / 255}, "uint8"),
        ({"mask": MASK[:-1]}, r"mask must be bool \(20, 30\), got bool \(19, 30\)"),
        ({"mask": MASK.astype(np.uint8)}, "mask must be bool"),
        ({"category": "storagetank"}, "did you mean 'storage tank'"),
        ({"split": "testing"}, "did you mean 'test'"),
        ({"expressions": "A ship"}, "list of one or more"),
        ({"expressions": []}, "list of one or more"),
        ({"expressions": ["A ship", " "]}, "blank"),
    ],
)
def test_scenes_that_cannot_be_written_are_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        write_rrsisd(tmp_path, [scene(**changes)])


def test_own_categories_are_read_back(tmp_path):
    writer = RRSISDWriter(tmp_path, categories={"glacier": (20, "glacier"), "ship": RRSIS_D_CATEGORIES["ship"]})
    writer.add(scene(category="glacier"))
    writer.add(scene())
    writer.close()
    assert [record.category for record in read_rrsisd(tmp_path, "train")] == ["glacier", "ship"]


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ({"glacier": (0, "glacier")}, "'glacier'.* id 0 .* number your own categories from 20 on"),
        ({"glacier": (-1, "glacier")}, "id -1"),
        ({"boat": RRSIS_D_CATEGORIES["ship"]}, "'boat'"),
        ({"glacier": (20, "glacier"), "dune": (20, "dune")}, "'glacier' and 'dune' have the same id 20"),
    ],
)
def test_categories_that_could_not_be_read_back_are_refused(tmp_path, categories, message):
    with pytest.raises(ConfigError, match=message):
        RRSISDWriter(tmp_path / "new", categories=categories)
    assert not (tmp_path / "new").exists()


def test_nothing_is_overwritten(tree):
    with pytest.raises(ConfigError, match="already contains RRSIS-D files"):
        write_rrsisd(tree, [scene()])
    assert len(read_rrsisd(tree, "train")) == 5


LAYOUT_OF = {"rrsis-d": write_rrsisd, "refsegrs": write_refsegrs, "risbench": write_risbench}
JPEG = {"rrsis-d", "rrsis-hr", "ris-lad", "risors", "nwpu-refer"}


def write(layout, root, scenes):
    if layout in LAYOUT_OF:
        return LAYOUT_OF[layout](root, scenes)
    writer = LAYOUTS[layout](root)
    for one in scenes:
        writer.add(one)
    return writer.close()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_back_by_its_reader(tmp_path, layout):
    source = SOURCES[layout]
    scenes = [
        scene(expressions=["A café on the left", "Two"]),
        scene(mask=np.zeros_like(MASK) if LAYOUTS[layout].holds_empty else MASK, split="val"),
        *([scene(split="test")] if "test" in source.splits else []),
    ]
    write(layout, tmp_path / layout, scenes)
    train, val, *_ = by_split = [source.read(tmp_path / layout, split, ReadOptions()) for split in source.splits]
    assert [r.expression for r in train] == ["A café on the left", "Two"]
    unlabelled = layout in ("refsegrs", "earthreason")  # RefSegRS has no ships
    assert [r.category for r in by_split[-1]] == ([None] if unlabelled else ["ship"])
    np.testing.assert_array_equal(train[1].mask.decode(), MASK)
    assert val[0].is_empty == LAYOUTS[layout].holds_empty
    assert not any(r.no_target for r in (*train, *val))
    with Image.open(train[1].image_path) as image:
        np.testing.assert_allclose(np.array(image, dtype=int), IMAGE, atol=3 if layout in JPEG else 0)
    if layout == "risbench":
        names = [r.image_file for some in by_split for r in some]
        assert names == [f"img_rgb/{n}.png" for n in ("train_0_0", "train_0_1", "train_1_0", "test_0_0")]
    with pytest.raises(ConfigError, match=r"already contains .* files"):
        write(layout, tmp_path / layout, scenes)


def nothing(split="train"):
    return ReferredScene(IMAGE, [Referent(np.zeros_like(MASK), ["A whale"], "ship", no_target=True)], split)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_a_layout_has_no_place_for_is_refused(tmp_path, layout):
    """Expressions without a target, a split, an empty mask that a reader would leave out."""
    kind = LAYOUTS[layout]
    if kind.holds_no_target:
        write(layout, tmp_path / layout, [nothing(), scene()])
        records = SOURCES[layout].read(tmp_path / layout, "train", ReadOptions())
        assert [(r.expression, r.no_target, r.is_empty) for r in records] == [
            ("A whale", True, True),
            ("A ship", False, False),
        ]
        kept = SOURCES[layout].read(tmp_path / layout, "train", ReadOptions(drop_empty=True))
        assert len(kept) == 2
        fewer = SOURCES[layout].read(tmp_path / layout, "train", ReadOptions(drop_no_target=True))
        assert [r.expression for r in fewer] == ["A ship"]
    else:
        with pytest.raises(ConfigError, match=rf"no target, which {kind.title} has no place for"):
            write(layout, tmp_path / layout, [nothing()])
    with pytest.raises(ConfigError, match="has no target, but its mask is not empty"):
        kind(tmp_path / "full").add(ReferredScene(IMAGE, [Referent(MASK, ["A"], "ship", no_target=True)], "train"))
    if not kind.holds_empty:
        with pytest.raises(ConfigError, match="mask of 'A ship' is empty"):
            kind(tmp_path / "empty").add(scene(mask=np.zeros_like(MASK)))
    if "test" not in kind.splits:
        with pytest.raises(ConfigError, match="has no split 'test'"):
            kind(tmp_path / "split").add(scene(split="test"))


def test_polygons_of_any_mask_are_its_pixels(tmp_path):
    """NWPU-Refer's masks are polygons: holes, diagonals, single pixels and the border come back as they were."""
    rng = np.random.default_rng(0)
    masks = [rng.random((20, 30)) < share for share in (0.02, 0.5, 0.9)] + [np.ones((20, 30), bool)]
    write("nwpu-refer", tmp_path / "x", [scene(mask=mask, expressions=[f"{n}"]) for n, mask in enumerate(masks)])
    records = SOURCES["nwpu-refer"].read(tmp_path / "x", "train", ReadOptions())
    for record, mask in zip(records, masks, strict=True):
        np.testing.assert_array_equal(record.mask.decode(), mask)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_synthetic_scenes_in_every_layout(tmp_path, layout):
    """The same scenes, sentences and masks whatever they are written as."""
    root = tmp_path / "made"
    make_synthetic(root, scenes=6, splits=(4, 1, 1), size=64, layout=layout, processes=1)
    sidecar = json.loads((root / "synthetic.json").read_text())
    assert sidecar["layout"] == layout
    data = RRSISDataModule(layout, str(root))
    records = [record for split in SOURCES[layout].splits for record in data.records(split)]
    assert [r.expression for r in records] == [e["text"] for e in sidecar["expressions"]]
    # copies of a scene are found; in EarthReason a scene is a file
    assert len({r.scene_id for r in records}) == (18 if layout == "earthreason" else 6)
    parts = (("train", 4), ("val", 2)) if layout == "aerial-d" else (("train", 4), ("val", 1), ("test", 1))
    samples = [make_sample(split, i, size=64) for split, n in parts for i in range(n)]
    truth = [(s.scene.objects[e.referent].mask, s.scene.image) for s in samples for e in s.expressions]
    for record, (mask, image) in zip(records, truth, strict=True):
        np.testing.assert_array_equal(record.mask.decode(), mask)
        with Image.open(record.image_path) as written:
            assert np.abs(np.array(written, dtype=int) - image).mean() < (5 if layout in JPEG else 1e-9)
    contact_sheet(root, tmp_path / "sheet.png", n=4)
    if layout != "rrsis-d":
        with pytest.raises(DataFormatError, match=rf"layout of {layout}: read it with data\.dataset {layout}"):
            RRSISDataModule("synthetic", str(root)).records("train")


def test_referents_with_one_mask_are_one_annotation(tmp_path):
    other = box((20, 30), 10, 5, 15, 12)
    referents = [Referent(MASK, ["A"], "ship"), Referent(other, ["B"], "ship"), Referent(MASK, ["C"], "ship")]
    write_rrsisd(tmp_path, [ReferredScene(IMAGE, referents, "train")])
    refs = pickle.loads((tmp_path / "rrsisd/refs(unc).p").read_bytes())
    assert [(ref["ref_id"], ref["ann_id"]) for ref in refs] == [(1, 1), (2, 2), (3, 1)]
    assert len(json.loads((tmp_path / "rrsisd/instances.json").read_text())["annotations"]) == 2


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_manifest_holds_every_file_that_is_read(tmp_path, name):
    """A file of annotations that changes under a run would change the scores of it."""
    root, manifest = tmp_path / "copy", tmp_path / "manifest.json"
    writer = LAYOUTS[name](root)
    for split in SOURCES[name].splits:
        writer.add(scene(split=split))
    writer.close()
    verify(name, root, complete=False, manifest=manifest)
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert json.loads(manifest.read_text()).keys() == files - {"README.md"}
    for changed in sorted(path for path in root.rglob("*") if path.suffix in (".json", ".xml", ".txt")):
        content = changed.read_bytes()
        changed.write_bytes(content + b"\n")
        report = verify(name, root, complete=False, manifest=manifest)
        assert f"{changed.relative_to(root).as_posix()} has changed" in str(report.findings), changed
        changed.write_bytes(content)
