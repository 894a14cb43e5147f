import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from boxes import box

from rrsis_zoo.data.masks import at_image_size
from rrsis_zoo.data.rrsisd import CATEGORIES, find_rrsisd, read_rrsisd
from rrsis_zoo.errors import DataFormatError, MissingDataError, RRSISError

SPLITS = ("train", "val", "test")


def digest(mask):
    return hashlib.sha256(np.packbits(mask.ravel("C")).tobytes()).hexdigest()


# -- against the official loader ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_golden_equals_the_official_loader(golden, split):
    expected = json.loads((golden / "expected.json").read_text(encoding="utf-8"))["readers"]["lavt"]["splits"][split]
    samples = [(ref, n, phrase) for ref in expected for n, phrase in enumerate(ref["phrases"])]
    records = read_rrsisd(golden, split)
    assert len(records) == len(samples)
    display = dict(CATEGORIES)
    for record, (ref, n, phrase) in zip(records, samples, strict=True):
        assert record.sample_id == f"rrsis-d/{split}/{ref['ref_id']:05d}/{n}"
        assert record.expression == phrase.strip()
        assert record.image_file == ref["image_file"] == record.image_path.name
        assert record.category == display[ref["category"]]
        assert record.category_source == "label"
        assert record.split == split
        mask = record.mask.decode()
        assert mask.shape == (record.height, record.width) == (ref["mask"]["height"], ref["mask"]["width"])
        assert mask.sum() == ref["mask"]["pixel_count"]
        assert digest(mask) == ref["mask"]["sha256_packed_bool"]
        assert record.is_empty == (ref["mask"]["pixel_count"] == 0)
        assert digest(at_image_size(mask, (480, 480))) == ref["transform_480"]["mask"]["sha256_packed_bool"]


def test_golden_has_its_edge_cases(golden):
    records = {r.sample_id: r for split in SPLITS for r in read_rrsisd(golden, split)}
    assert len(records) == 10
    assert records["rrsis-d/test/20960/1"].expression == "The tennis court beside the café – left"
    assert records["rrsis-d/test/20960/1"].scene_id == records["rrsis-d/test/20961/0"].scene_id
    assert records["rrsis-d/test/00413/0"].is_empty
    overlap = next(r for r in read_rrsisd(golden, "val", layers="any") if "/18573/" in r.sample_id)
    assert overlap.mask.decode().sum() > records["rrsis-d/val/18573/0"].mask.decode().sum() == 1520


@pytest.mark.real
def test_real_files(real):
    areas = {a["id"]: a["area"] for a in json.loads((real / "rrsisd/instances.json").read_text())["annotations"]}
    counts = {}
    for split in SPLITS:
        records = read_rrsisd(real, split)
        counts[split] = len(records)
        for record in records:
            assert record.mask.decode().sum() * 255 == areas[int(record.sample_id.split("/")[2])]
            assert (record.height, record.width) == (800, 800)
            assert record.image_path.is_file()
    assert counts == {"train": 55, "val": 17, "test": 19}


# -- what is read ------------------------------------------------------------------------------------------------------


def test_one_record_per_sentence_in_the_order_of_the_pickle(tree, edit):
    edit(tree, refs=lambda refs: refs.reverse())
    records = read_rrsisd(tree, "train")
    assert [r.sample_id for r in records] == [
        "rrsis-d/train/00004/0",
        "rrsis-d/train/00003/0",
        "rrsis-d/train/00002/0",
        "rrsis-d/train/00001/0",
        "rrsis-d/train/00001/1",
    ]
    assert [r.expression for r in records] == ["Noise", "The dam", "The harbor", "The ship on the left", "A gray ship"]
    assert [r.category for r in records] == ["golf field", "dam", "harbor", "ship", "ship"]
    assert len({r.scene_id for r in records}) == 3


def test_masks_of_run_lengths_polygons_and_layers(tree):
    shape = (24, 32)
    masks = {r.sample_id: r.mask.decode() for split in SPLITS for r in read_rrsisd(tree, split)}
    np.testing.assert_array_equal(masks["rrsis-d/train/00001/0"], box(shape, 2, 3, 8, 9))
    np.testing.assert_array_equal(masks["rrsis-d/train/00001/1"], box(shape, 2, 3, 8, 9))
    np.testing.assert_array_equal(masks["rrsis-d/train/00002/0"], box(shape, 0, 20, 24, 32))
    np.testing.assert_array_equal(masks["rrsis-d/train/00003/0"], box(shape, 4, 4, 12, 16))
    layers = box(shape, 0, 0, 10, 10), box(shape, 0, 5, 24, 15)
    np.testing.assert_array_equal(masks["rrsis-d/val/00005/0"], layers[0] ^ layers[1])
    (joined,) = read_rrsisd(tree, "val", layers="any")
    np.testing.assert_array_equal(joined.mask.decode(), layers[0] | layers[1])


def test_text_is_stripped_composed_and_else_left_alone(tree, edit):
    texts = [r.expression for r in read_rrsisd(tree, "test")]
    assert texts[1] == "Le pont près du café – là"  # e + combining accent became one character
    assert len(texts[1]) == 25

    def change(refs):
        refs[0]["sentences"][0] |= {"raw": "  Two  blanks\n", "sent": "other"}
        del refs[1]["sentences"][0]["raw"]

    edit(tree, refs=change)
    assert [r.expression for r in read_rrsisd(tree, "train")][:3] == ["Two  blanks", "A gray ship", "The harbor"]
    assert read_rrsisd(tree, "train", text="sent")[0].expression == "other"


def test_empty_masks_are_kept_unless_dropped(tree):
    assert [r.is_empty for r in read_rrsisd(tree, "test")] == [True, False, False]
    assert [r.is_empty for r in read_rrsisd(tree, "test", drop_empty=True)] == [False, False]


def test_test_is_taken_by_containment_and_the_others_by_equality(tree, edit):
    edit(tree, refs=lambda refs: refs[0].update(split="testA"))
    assert len(read_rrsisd(tree, "train")) == 3
    assert read_rrsisd(tree, "test")[0].sample_id == "rrsis-d/test/00001/0"
    edit(tree, refs=lambda refs: refs[0].update(split="trainval"))
    with pytest.raises(DataFormatError, match=r"ref 1: its split 'trainval' is not train, val or test"):
        read_rrsisd(tree, "train")


def test_pickle_of_python_2_with_latin1_bytes(tree, edit):
    edit(tree, refs=lambda refs: refs[1]["sentences"][0].update(raw="caf?"))
    path = tree / "rrsisd/refs(unc).p"
    content = pickle.dumps(pickle.loads(path.read_bytes()), protocol=0)
    python2 = content.replace(b"Vcaf?\n", b"S'caf\\xe9'\n")
    assert python2 != content
    path.write_bytes(python2)
    assert read_rrsisd(tree, "train")[2].expression == "café"


# -- where it is looked for --------------------------------------------------------------------------------------------


def test_other_places_are_found_by_name(tree, tmp_path):
    fork = tmp_path / "fork"
    (fork / "annotations").mkdir(parents=True)
    shutil.copytree(tree / "images/rrsisd/JPEGImages", fork / "RRSIS-D/JPEGImages")
    for name in ("refs(unc).p", "instances.json"):
        shutil.copy(tree / "rrsisd" / name, fork / "annotations" / name)
    assert [r.sample_id for r in read_rrsisd(fork, "val")] == [r.sample_id for r in read_rrsisd(tree, "val")]
    shutil.copytree(fork / "annotations", fork / "copy")
    with pytest.raises(DataFormatError, match=r"'refs\(unc\).p' occurs 2 times under .*annotations.*copy"):
        find_rrsisd(fork)


def test_neighbours_of_the_published_place_do_not_disturb(tree):
    shutil.copytree(tree / "rrsisd", tree / "refcoco")
    assert find_rrsisd(tree).refs == tree / "rrsisd/refs(unc).p"


@pytest.mark.parametrize(
    ("lost", "said"),
    [("rrsisd/refs(unc).p", "refs(unc).p"), ("rrsisd/instances.json", "instances.json"), ("images", "JPEG")],
)
def test_missing_part_is_named_with_layout_place_and_licence(tree, lost, said):
    path = tree / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(MissingDataError) as caught:
        read_rrsisd(tree, "train")
    message = str(caught.value)
    for part in ("RRSIS-D", said, str(tree), "<root>/images/rrsisd/JPEGImages", "github.com/Lsan2401/RMSIN", "licence"):
        assert part in message
    assert "\n" not in message


def test_missing_root_and_missing_split(tree, edit, tmp_path):
    with pytest.raises(MissingDataError, match="RRSIS-D: no folder"):
        read_rrsisd(tmp_path / "nowhere", "train")
    edit(tree, refs=lambda refs: refs.__delitem__(slice(5, None)))
    with pytest.raises(MissingDataError, match="no expression of split 'test'"):
        read_rrsisd(tree, "test")


def test_missing_image_files_are_counted_before_any_is_needed(tree):
    for name in ("00001.jpg", "00003.jpg"):
        (tree / "images/rrsisd/JPEGImages" / name).unlink()
    with pytest.raises(MissingDataError, match=r"3 image files of split 'train' .*00001.jpg.*incomplete"):
        read_rrsisd(tree, "train")
    assert len(read_rrsisd(tree, "test")) == 3


# -- what is wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda refs: refs[2].update(ref_id=1), r"refs\(unc\).p: ref 1: field 'ref_id' occurs more than once"),
        (lambda refs: refs[0].update(ann_id=99), r"ref 1: its annotation 99 is not in .*instances.json"),
        (lambda refs: refs[0].update(image_id=99), r"ref 1: its image 99 has no entry in .*instances.json"),
        (lambda refs: refs[0].update(image_id=2), r"annotation 1: belongs to image 1, but ref 1 says 2"),
        (lambda refs: refs[0].pop("sentences"), r"ref 1: field 'sentences' is missing"),
        (lambda refs: refs[0].update(sentences=[]), r"ref 1: has no sentence"),
        (lambda refs: refs[0]["sentences"][1].update(raw=" "), r"ref 1, sentence 1: field 'raw' is blank"),
        (lambda refs: refs[0]["sentences"][1].update(raw=b"x"), r"sentence 1: field 'raw' must be str, got bytes"),
        (lambda refs: refs[0].update(ann_id="1"), r"ref 1: field 'ann_id' must be int, got str"),
        (lambda refs: refs[0].update(ann_id=True), r"ref 1: field 'ann_id' must be int, got bool"),
        (lambda refs: refs.insert(0, 5), r"ref at position 0: must be an object with fields, got int"),
    ],
)
def test_broken_refs_are_named(tree, edit, change, message):
    edit(tree, refs=change)
    with pytest.raises(DataFormatError, match=message):
        read_rrsisd(tree, "train")


def segmentation(*layers):
    return lambda content: content["annotations"][0].update(segmentation=list(layers))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][3].update(id=1), r"annotation 1: field 'id' occurs more than once"),
        (lambda c: c["images"][1].update(id=1), r"image 1: field 'id' occurs more than once"),
        (lambda c: c["images"].pop(0), r"ref 1: its image 1 has no entry"),
        (lambda c: c.pop("annotations"), r"instances.json: field 'annotations' is missing"),
        (lambda c: c["annotations"][0].pop("categories_id"), r"annotation 1: field 'categories_id' is missing"),
        (lambda c: c["annotations"][0].update(categories_id=20), r"annotation 1: its category 20 is not in"),
        (lambda c: c["categories"][4].update(name="diamond"), r"category 4 is 'diamond', which is not"),
        (segmentation(), r"annotation 1: its segmentation cannot be read: .* non-empty list"),
        (segmentation([1, 2, 3, 4]), r"annotation 1: its segmentation cannot be read: a polygon"),
        (segmentation(["a"] * 6), r"annotation 1: its segmentation cannot be read: a polygon"),
        (segmentation({"size": [24, 32]}), r"annotation 1: .* need counts"),
        (segmentation({"counts": "PX6"}), r"annotation 1: .* need a size"),
        (segmentation({"size": [24, 32], "counts": "5"}), r"annotation 1: .* cover 5 pixels, not the 24 x 32"),
        (segmentation({"size": [24, 32], "counts": "é"}), r"annotation 1: its segmentation cannot be read"),
        (segmentation({"size": [4, 4], "counts": [16]}, {"size": [4, 5], "counts": [20]}), r"different sizes"),
        (
            segmentation({"size": [4, 4], "counts": [16]}, [0, 0, 1, 1, 1, 0]),
            r"a non-empty list of run lengths or of poly",
        ),
    ],
)
def test_broken_instances_are_named(tree, edit, change, message):
    edit(tree, instances=change)
    with pytest.raises(DataFormatError, match=message):
        read_rrsisd(tree, "train")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"images": 3}', b"\xff\xfe"])
def test_broken_json_is_named(tree, content):
    (tree / "rrsisd/instances.json").write_bytes(content)
    with pytest.raises(DataFormatError, match=r"instances\.json(: | is not (JSON|UTF-8 text) )"):
        read_rrsisd(tree, "train")


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickle_that_would_run_code_is_refused(tree, tmp_path):
    trap = tmp_path / "trap"
    content = pickle.dumps([Hostile(trap)])
    (tree / "rrsisd/refs(unc).p").write_bytes(content)
    with pytest.raises(DataFormatError, match=r"refs\(unc\)\.p: .*posix.mkdir; only plain Python values"):
        read_rrsisd(tree, "train")
    assert not trap.exists()
    pickle.loads(content)
    assert trap.exists()  # the trap was a real one


@pytest.mark.parametrize("value", [np.int64(1), np.float32(1), np.zeros(1), Path("x")])
def test_pickle_with_other_than_plain_values_is_refused(tree, edit, value):
    edit(tree, refs=lambda refs: refs[0].update(ann_id=value))
    with pytest.raises(DataFormatError, match="only plain Python values"):
        read_rrsisd(tree, "train")


def test_damaged_annotation_files_never_escape_as_other_errors(tree):
    random = np.random.default_rng(0)
    for name in ("refs(unc).p", "instances.json"):
        path = tree / "rrsisd" / name
        content = path.read_bytes()
        cuts = [content[:n] for n in range(0, len(content), max(1, len(content) // 60))]
        flips = []
        for _ in range(150):
            flipped = bytearray(content)
            flipped[random.integers(len(content))] = random.integers(256)
            flips.append(bytes(flipped))
        messages = []
        for damaged in cuts + flips:
            path.write_bytes(damaged)
            try:
                for record in read_rrsisd(tree, "train"):
                    record.mask.decode()
            except RRSISError as error:
                messages.append(str(error))
        assert len(messages) > len(cuts) - 2
        assert all(str(tree) in message for message in messages)
        path.write_bytes(content)


def test_reading_needs_no_torch():
    code = "import sys, rrsis_zoo.data.sources, rrsis_zoo.data.layouts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
