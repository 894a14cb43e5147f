import shutil
from pathlib import Path

import pytest

from rrsis_zoo.data import hashes
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.hashes import file_hashes
from rrsis_zoo.data.refsegrs import read_refsegrs
from rrsis_zoo.data.scenes import share_scenes

GOLDEN = Path(__file__).parents[1] / "golden/datasets"


@pytest.fixture
def copies(tmp_path):
    """Four ids of two scenes, one of them in two splits."""
    root = Path(shutil.copytree(GOLDEN / "refsegrs", tmp_path / "refsegrs"))
    shutil.copy(root / "images/25.tif", root / "images/1489.tif")
    shutil.copy(root / "images/25.tif", root / "images/4497.tif")
    return root


def test_equal_files_share_a_scene_over_all_splits(copies):
    train, val = (share_scenes(copies, read_refsegrs(copies, split)) for split in ("train", "val"))
    scenes = {record.image_file: record.scene_id for record in (*train, *val)}
    assert scenes["images/25.tif"] == scenes["images/1489.tif"] == scenes["images/4497.tif"]
    assert len(set(scenes.values())) == len(scenes) - 2
    assert all(scene.startswith("refsegrs/") for scene in scenes.values())


def test_an_image_is_decoded_once_for_all_its_copies(copies, monkeypatch):
    from rrsis_zoo.data import dataset

    reads = []
    monkeypatch.setattr(dataset, "read_image", lambda path, read=dataset.read_image: reads.append(path) or read(path))
    data = RRSISDataModule("refsegrs", str(copies), test_split="train", num_workers=0)
    (batch,) = data.test_dataloader()
    assert len(reads) == len(batch.images) == 2
    assert batch.image_index.tolist() == [0, 1, 1]


def test_hashes_are_remembered_until_a_file_changes(copies, monkeypatch):
    hashed = []
    monkeypatch.setattr(hashes, "_sha256", lambda path, real=hashes._sha256: hashed.append(path.name) or real(path))
    paths = sorted((copies / "images").iterdir())
    first = file_hashes(copies, paths)
    assert len(hashed) == len(paths)
    assert file_hashes(copies, paths) == first
    assert len(hashed) == len(paths)
    (copies / "images/25.tif").write_bytes(b"other")
    assert file_hashes(copies, paths) != first
    assert hashed[len(paths) :] == ["25.tif"]


def test_without_a_place_to_remember_it_still_works_and_says_so(copies, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("RRSIS_ZOO_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="set RRSIS_ZOO_CACHE"):
        assert len(file_hashes(copies, [copies / "images/25.tif"])) == 1


def test_a_damaged_memory_is_no_harm(copies, tmp_path):
    first = file_hashes(copies, [copies / "images/25.tif"])
    for path in hashes.cache_folder().iterdir():
        path.write_text("{")
    assert file_hashes(copies, [copies / "images/25.tif"]) == first
