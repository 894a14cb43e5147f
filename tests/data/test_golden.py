"""Our readers against what the official loaders make of the same files (tests/golden/datasets)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rrsis_zoo.data.dataset import RRSISDataset
from rrsis_zoo.data.describe import describe_mask, describe_record
from rrsis_zoo.data.masks import at_image_size
from rrsis_zoo.data.sources import SOURCES, ReadOptions
from rrsis_zoo.models.layers.geometry import normalise, resize

GOLDEN = Path(__file__).parents[1] / "golden/datasets"
FOLDERS = {"refsegrs": "refsegrs", "rrsis-d": "rrsisd", "risbench": "risbench"}
REFERENCE = {"refsegrs": "lavt", "rrsis-d": "lavt", "risbench": "rsrefseg"}
NOISE = {"refsegrs": 0.02, "rrsis-d": 0.05}  # of normalised values; JPEG decoders differ by a level or two
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SPLITS = ("train", "val", "test")


def expected(dataset, split, reader=None):
    content = json.loads((GOLDEN / FOLDERS[dataset] / "expected.json").read_text(encoding="utf-8"))
    return content["readers"][reader or REFERENCE[dataset]]["splits"][split]


def read(dataset, split, **options):
    return SOURCES[dataset].read(GOLDEN / FOLDERS[dataset], split, ReadOptions(**options))


def samples(dataset, split):
    """One entry per sentence: (official record, phrase)."""
    return [(one, phrase) for one in expected(dataset, split) for phrase in one.get("phrases") or [one["phrase"]]]


@pytest.mark.parametrize("dataset", FOLDERS)
@pytest.mark.parametrize("split", SPLITS)
def test_records_and_masks_equal_the_official_ones(dataset, split):
    records, wanted = read(dataset, split), samples(dataset, split)
    assert len(records) == len(wanted)
    rules = (
        {one["image_id"]: one for one in expected(dataset, split, "threshold_rules")} if dataset == "risbench" else {}
    )
    for record, (one, phrase) in zip(records, wanted, strict=True):
        said = describe_record(record)
        assert said["expression"] == phrase.strip()
        assert said["image_file"] == one["image_file"]
        assert record.image_path.is_file()
        assert said["mask"] == (rules[one["image_id"]]["gt0"] if rules else one["mask"])
        assert record.is_empty == (said["mask"]["pixel_count"] == 0)
        assert (record.height, record.width) == (said["mask"]["height"], said["mask"]["width"])
        assert record.split == split
    assert len({record.sample_id for record in records}) == len(records)


@pytest.mark.parametrize("dataset", NOISE)
@pytest.mark.parametrize("split", SPLITS)
def test_official_transform_to_480(dataset, split):
    """The native tensors that a batch holds lead to the official 480-px input and target."""
    data = RRSISDataset(read(dataset, split))
    for sample, (one, _) in zip((data[i] for i in range(len(data))), samples(dataset, split), strict=True):
        wanted = one["transform_480"]
        mask = at_image_size(sample.record.mask.decode(), (480, 480))  # the official mask is resized from its own size
        assert describe_mask(mask) == wanted["mask"]
        assert tuple(sample.image.shape[:0:-1]) == tuple(one["image_size_wh"])
        levels = resize(sample.image[None].float(), (480, 480)).round()  # enlarging: anti-aliasing is without effect
        image = normalise(levels / 255, MEAN, STD)[0]
        torch.testing.assert_close(
            image.mean((1, 2)), torch.tensor(wanted["image_mean_per_channel"]), atol=NOISE[dataset], rtol=0
        )
        for probe in wanted["image_probe"]:
            value = image[:, probe["y"], probe["x"]]
            torch.testing.assert_close(value, torch.tensor(probe["value"]), atol=NOISE[dataset], rtol=0)


@pytest.mark.parametrize(("threshold", "rule"), [(50, "gt50"), (127, "gt127")])
def test_other_thresholds_on_request(threshold, rule):
    for split in SPLITS:
        masks = [describe_mask(r.mask.decode()) for r in read("risbench", split, threshold=threshold)]
        assert masks == [one[rule] for one in expected("risbench", split, "threshold_rules")]


def test_edge_cases_are_inside():
    by_id = {record.sample_id: record for split in SPLITS for record in read("refsegrs", split)}
    assert by_id["refsegrs/test/945/0"].expression == "impervious surface"
    assert by_id["refsegrs/test/945/1"].expression == "road marking"
    assert by_id["refsegrs/test/945/1"].category == "road marking"  # RSRefSeg 2's converter says "road"
    assert by_id["refsegrs/test/3080/0"].is_empty
    assert by_id["refsegrs/val/2339/0"].expression == "building along the road"  # last line, no newline
    assert by_id["refsegrs/val/4497/0"].expression == "vehicle  driving on the road"
    by_id = {record.sample_id: record for split in SPLITS for record in read("risbench", split)}
    assert by_id["risbench/val/train_14700_0/0"].split == "val"  # from the txt file, not from the name
    assert by_id["risbench/test/test_10_0/0"].category == "storage tank"
    assert by_id["risbench/test/test_0_0/0"].category == "baseball diamond"
    assert by_id["risbench/test/test_9_7/0"].is_empty
    assert not [record for record in read("risbench", "test", drop_empty=True) if record.is_empty]


def test_median_is_an_option():
    (soft,) = [r for r in read("rrsis-d", "test") if "/03600/" in r.sample_id]
    (clean,) = [r for r in read("rrsis-d", "test", mask_cleanup="median3") if "/03600/" in r.sample_id]
    official = np.pad(soft.mask.decode(), 1, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(official, (3, 3))
    np.testing.assert_array_equal(clean.mask.decode(), np.median(windows, axis=(2, 3)) > 0.5)
    assert clean.mask.decode().sum() != soft.mask.decode().sum()
    assert clean.mask.identity != soft.mask.identity
