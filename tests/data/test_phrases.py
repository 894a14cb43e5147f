import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rrsis_zoo.data.categories import Categories
from rrsis_zoo.data.dataset import RRSISDataset
from rrsis_zoo.data.refsegrs import find_refsegrs, read_refsegrs
from rrsis_zoo.data.risbench import CATEGORIES, read_risbench
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError

GOLDEN = Path(__file__).parents[1] / "golden/datasets"


@pytest.fixture
def refsegrs(tmp_path):
    return Path(shutil.copytree(GOLDEN / "refsegrs", tmp_path / "refsegrs"))


@pytest.fixture
def risbench(tmp_path):
    return Path(shutil.copytree(GOLDEN / "risbench", tmp_path / "risbench"))


def ids(records):
    return [record.sample_id for record in records]


# -- where it is looked for --------------------------------------------------------------------------------------------


def test_old_names_and_an_unpacked_archive_are_found(refsegrs, tmp_path):
    wanted = ids(read_refsegrs(refsegrs, "val"))
    old = tmp_path / "old"
    (old / "new_dataset2").mkdir(parents=True)
    shutil.copytree(refsegrs / "images", old / "new_dataset2/images2")
    shutil.copytree(refsegrs / "masks", old / "new_dataset2/masks2")
    for name in ("train", "val3", "test3"):
        shutil.copy(refsegrs / f"output_phrase_{name.rstrip('3')}.txt", old / f"output_phrase_{name}.txt")
    assert ids(read_refsegrs(old, "val")) == wanted
    outer = tmp_path / "outer"
    shutil.copytree(refsegrs, outer / "RefSegRS")
    shutil.copytree(refsegrs, outer / "__MACOSX/RefSegRS")
    assert ids(read_refsegrs(outer, "val")) == wanted
    shutil.copytree(refsegrs, outer / "again")
    with pytest.raises(DataFormatError, match=r"phrase file of split 'train' occurs 2 times under .*RefSegRS.*again"):
        find_refsegrs(outer)


def test_renamed_folders_of_risbench_are_found(risbench):
    wanted = [record.mask.identity for record in read_risbench(risbench, "test")]
    (risbench / "img_rgb").rename(risbench / "images")
    (risbench / "mask").rename(risbench / "masks")
    assert [record.mask.identity for record in read_risbench(risbench, "test")] == wanted


@pytest.mark.parametrize(
    ("lost", "said"),
    [("images", "folder of images"), ("masks", "folder of masks"), ("output_phrase_val.txt", "output_phrase_val.txt")],
)
def test_missing_part_is_named_with_layout_place_licence_and_next_step(refsegrs, lost, said):
    path = refsegrs / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(MissingDataError) as caught:
        read_refsegrs(refsegrs, "val")
    for part in (said, str(refsegrs), "<root>/masks/<id>.tif", "RefSegRS.zip", "CC-BY-4.0", "rrsis data verify"):
        assert part in str(caught.value)


def test_missing_root_and_no_phrases_at_all(refsegrs, tmp_path):
    with pytest.raises(MissingDataError, match="RefSegRS: no folder"):
        find_refsegrs(tmp_path / "nowhere")
    for path in refsegrs.glob("output_phrase_*.txt"):
        path.unlink()
    with pytest.raises(MissingDataError, match="no 'output_phrase_"):
        find_refsegrs(refsegrs)


def test_missing_files_are_counted_before_any_is_needed(refsegrs):
    (refsegrs / "images/945.tif").unlink()
    (refsegrs / "masks/3080.tif").unlink()
    with pytest.raises(
        MissingDataError, match=r"3 files of split 'test' .*images/945\.tif, masks/3080\.tif.*incomplete"
    ):
        read_refsegrs(refsegrs, "test")
    assert len(read_refsegrs(refsegrs, "train")) == 3


# -- text --------------------------------------------------------------------------------------------------------------


def phrases(root, content, split="train"):
    (root / f"output_phrase_{split}.txt").write_bytes(content)


def test_lines_are_read_as_the_field_does(refsegrs):
    phrases(refsegrs, "\ufeff25 car  on\u0085 the road \r\n\r\n1361\tcafe\u0301\r1489   van \u2028 x".encode())
    records = read_refsegrs(refsegrs, "train")
    assert [r.expression for r in records] == ["car  on\u0085 the road", "café", "van \u2028 x"]
    assert [r.image_file for r in records] == ["images/25.tif", "images/1361.tif", "images/1489.tif"]


def test_an_id_on_several_lines_is_several_samples(refsegrs):
    phrases(refsegrs, b"25 road\n1361 car\n25 road\n25 van\n")
    assert ids(read_refsegrs(refsegrs, "train")) == [f"refsegrs/train/{n}" for n in ("25/0", "1361/0", "25/1", "25/2")]


def test_latin_1_is_an_error_with_the_line_and_the_cure(refsegrs):
    phrases(refsegrs, "25 road\n1361 café\n".encode("latin-1"))
    with pytest.raises(DataFormatError, match=r"output_phrase_train\.txt, line 2: is not UTF-8 .*iconv -f latin1"):
        read_refsegrs(refsegrs, "train")


def test_line_without_phrase_is_named(refsegrs):
    phrases(refsegrs, b"25 road\n\n1361 \n")
    with pytest.raises(DataFormatError, match=r"output_phrase_train\.txt, line 3: '1361' has no phrase"):
        read_refsegrs(refsegrs, "train")


def test_empty_phrase_file_is_named(refsegrs):
    phrases(refsegrs, b"\n \n")
    with pytest.raises(MissingDataError, match=r"output_phrase_train\.txt has no lines"):
        read_refsegrs(refsegrs, "train")


# -- masks -------------------------------------------------------------------------------------------------------------


def sample(root, name="25"):
    data = RRSISDataset(read_refsegrs(root, "train"))
    return data[[r.sample_id for r in data.records].index(f"refsegrs/train/{name}/0")]


def test_mask_of_three_channels_is_its_grey(refsegrs):
    grey = sample(refsegrs).mask
    with Image.open(refsegrs / "masks/25.tif") as mask:
        mask.convert("RGB").save(refsegrs / "masks/25.tif")
    assert (sample(refsegrs).mask == grey).all()
    colours = np.zeros((64, 64, 3), np.uint8)
    colours[:8, :, 1] = 255  # luma 150
    colours[8:16, :, 2] = 255  # luma 29
    Image.fromarray(colours).save(refsegrs / "masks/25.tif")
    assert sample(refsegrs).mask.sum() == 8 * 64


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_sixteen_bit_tif_is_refused(refsegrs, folder):
    Image.fromarray(np.full((64, 64), 300, np.uint16)).save(refsegrs / folder / "25.tif")
    with pytest.raises(DataFormatError, match=rf"{folder}/25\.tif: must be an image with 8 bits per channel"):
        sample(refsegrs)


@pytest.mark.parametrize("folder", ["images", "masks"])
@pytest.mark.parametrize("name", ["25", "1361"])  # plain and LZW
@pytest.mark.parametrize("part", [0, 0.5])
def test_cut_off_tif_is_refused(refsegrs, folder, name, part):
    path = refsegrs / folder / f"{name}.tif"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(DataFormatError, match=rf"{folder}/{name}\.tif: cannot be read as an image"):
        sample(refsegrs, name)


def test_mask_of_another_size_is_fitted_and_told(refsegrs):
    with Image.open(refsegrs / "masks/25.tif") as mask:
        mask.resize((32, 48), Image.Resampling.NEAREST).save(refsegrs / "masks/25.tif")
    data = RRSISDataset(read_refsegrs(refsegrs, "train"))
    assert data.misaligned() == ["refsegrs/train/25/0"]
    assert sample(refsegrs).mask.shape == (64, 64)


def test_identity_is_of_the_content_not_of_the_place(refsegrs, tmp_path):
    other = Path(shutil.copytree(refsegrs, tmp_path / "other"))
    here, there = (read_refsegrs(root, "train")[0].mask for root in (refsegrs, other))
    assert here.identity == there.identity
    Image.new("L", (64, 64)).save(other / "masks/1361.tif")
    assert here.identity != there.identity


def test_threshold_out_of_range(refsegrs):
    with pytest.raises(ConfigError, match="threshold must be 0 to 254"):
        read_refsegrs(refsegrs, "train", threshold=255)


# -- categories --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "category"),
    [
        ("The planes near the Harbour", "airplane"),
        ("a storage-tank", "storage tank"),
        ("two storagetanks", "storage tank"),
        ("the damaged cargo area", None),
        ("the dam by the bridge", "dam"),
        ("the buses", "vehicle"),
        ("The expressway toll station", "expressway toll station"),
        ("the toll-station", "expressway toll station"),
        ("the cooling tower left of the pier", "chimney"),
        ("the track and field stadium", "ground track field"),
        ("something", None),
    ],
)
def test_category_is_the_first_and_longest_name(expression, category):
    assert CATEGORIES.find(expression) == category


def test_longer_names_win_where_they_begin():
    assert Categories(("road", "road marking")).find("the road markings on the road") == "road marking"


def test_reading_needs_no_torch():
    code = "import sys, rrsis_zoo.commands.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
