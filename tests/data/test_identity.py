"""Whose data a run is on: a published set's name is for a published set."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rrsis_zoo.data.annotations import annotations_hash
from rrsis_zoo.data.cards import RRSIS_D
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.identity import data_name, is_published
from rrsis_zoo.data.layouts import Referent, ReferredScene, write_rrsisd
from rrsis_zoo.data.sources import SOURCES
from rrsis_zoo.errors import ConfigError

SIDE = 64


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data set of two, two and three samples, one of which has an empty mask."""
    scenes = []
    for split, count in (("train", 2), ("val", 2), ("test", 3)):
        for i in range(count):
            mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
            mask[10:30, 20:50] = split != "test" or i > 0
            image = np.full((SIDE, SIDE, 3), 90 + i, dtype=np.uint8)
            scenes.append(ReferredScene(image, [Referent(mask, [f"the {split} ship"], "ship")], split))
    root = tmp_path_factory.mktemp("data") / "harbours"
    write_rrsisd(root, scenes)
    return root


@pytest.fixture
def published(monkeypatch):
    """RRSIS-D, had it been as small as the data of `root`."""
    card = replace(
        RRSIS_D,
        counts={"train": 2, "val": 2, "test": 3},
        image_size=(SIDE, SIDE),
        empty_masks={"train": 0, "val": 0, "test": 1},
    )
    monkeypatch.setitem(SOURCES, "rrsis-d", replace(SOURCES["rrsis-d"], card=card))
    return card


def test_own_data_have_their_folders_name(root):
    assert RRSISDataModule("rrsis-d", str(root)).identity("test") == ("harbours", False)


def test_own_data_have_the_name_that_they_were_given(root):
    data = RRSISDataModule("rrsis-d", str(root), name="Harbours, 2024")
    assert data.identity("test") == ("Harbours, 2024", False)


@pytest.mark.parametrize("name", ["rrsis-d", "RRSIS-D", "rrsisd", "RRSIS D", "RISBench", "RefSegRS"])
def test_own_data_may_not_have_a_published_name(root, name):
    data = RRSISDataModule("rrsis-d", str(root), name=name)
    with pytest.raises(ConfigError, match=r"data.name .* is the name of a published dataset.*give another name"):
        data.setup("fit")
    with pytest.raises(ConfigError, match=r"data\.name"):
        data.identity("test")


@pytest.mark.parametrize("name", ["", " ", "two\nlines", "x" * 101])
def test_a_name_is_one_line(name):
    with pytest.raises(ConfigError, match="name must be one line"):
        RRSISDataModule("rrsis-d", name=name)


def test_the_published_data_have_the_published_name(root, published):
    assert RRSISDataModule("rrsis-d", str(root)).identity("test") == ("rrsis-d", True)
    data = RRSISDataModule("rrsis-d", str(root), name="rrsis-d")
    data.setup()
    assert data.identity("val") == ("rrsis-d", True)
    # under another name they are not compared with what was published
    assert RRSISDataModule("rrsis-d", str(root), name="mine").identity("test") == ("mine", False)


@pytest.mark.parametrize(
    ("options", "as_published"),
    [
        ({"drop_empty": True}, False),
        ({"mask_cleanup": "median3"}, False),
        ({"layers": "any"}, False),
        ({"text": "sent"}, True),
    ],
)
def test_the_published_data_read_in_another_way(root, published, options, as_published):
    """The data are what they are; their samples or masks are not always those that papers score."""
    assert RRSISDataModule("rrsis-d", str(root), **options).identity("test") == ("rrsis-d", as_published)


def test_shuffled_sentences_are_not_what_was_published(root, published):
    data = RRSISDataModule("rrsis-d", str(root), shuffle_expressions=True)
    assert data.identity("train") == ("rrsis-d", False)
    assert data.identity("test") == ("rrsis-d", True)


@pytest.mark.parametrize(
    "other",
    [
        {"counts": {"train": 2, "val": 2, "test": 4}},
        {"image_size": (SIDE, SIDE + 1)},
        {"image_names": dict.fromkeys(("train", "val", "test"), r"\d{6}\.jpg")},
        {"empty_masks": {"test": 0}},
        {"annotations_sha256": {"test": "0" * 64}},
    ],
)
def test_everything_that_is_known_must_fit(root, published, other):
    records = RRSISDataModule("rrsis-d", str(root)).records("test")
    assert is_published(published, "test", records)
    assert not is_published(replace(published, **other), "test", records)


def test_a_known_hash_decides(root, published):
    records = RRSISDataModule("rrsis-d", str(root)).records("test")
    card = replace(published, annotations_sha256={"test": annotations_hash(records)}, image_size=(1, 1))
    assert is_published(card, "test", records)
    assert not is_published(card, "test", [replace(records[0], expression="another"), *records[1:]])


def test_synthetic_scenes_are_called_so_wherever_they_lie():
    assert RRSISDataModule("synthetic", "/nowhere").identity("test") == ("synthetic", False)
    assert RRSISDataModule("synthetic", "/nowhere", name="toys").identity("test") == ("toys", False)


@pytest.mark.parametrize("folder", ["rrsis-d", "RRSIS_D", "refsegrs", "odd\nname", "/"])
def test_a_folder_with_a_published_name_lends_none(folder):
    assert data_name("rrsis-d", Path("/data") / folder, None, False, SOURCES) == "own data (rrsis-d layout)"
