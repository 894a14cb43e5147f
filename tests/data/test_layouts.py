import json
import pickle

import numpy as np
import pytest
from boxes import box
from PIL import Image

from rrsis_zoo.data.layouts import Referent, Scene, write_rrsisd
from rrsis_zoo.data.rrsisd import read_rrsisd
from rrsis_zoo.errors import ConfigError

IMAGE = np.full((20, 30, 3), (10, 200, 90), dtype=np.uint8)
MASK = box((20, 30), 3, 5, 9, 12)


def scene(**changes):
    referent = {"mask": MASK, "expressions": ["A ship"], "category": "ship"}
    referent |= {k: v for k, v in changes.items() if k in referent}
    rest = {"image": IMAGE, "split": "train"} | {k: v for k, v in changes.items() if k not in referent}
    return Scene(referents=[Referent(**referent)], **rest)


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


def test_nothing_is_overwritten(tree):
    with pytest.raises(ConfigError, match="holds RRSIS-D files already"):
        write_rrsisd(tree, [scene()])
    assert len(read_rrsisd(tree, "train")) == 5
