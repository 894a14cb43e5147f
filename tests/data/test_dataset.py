import pickle

import numpy as np
import pytest
import torch
from boxes import box
from PIL import Image
from torch.utils.data import DataLoader

from rrsis_zoo.data import dataset as module
from rrsis_zoo.data.dataset import RRSISDataset, collate, read_image
from rrsis_zoo.data.masks import at_image_size
from rrsis_zoo.data.rrsisd import read_rrsisd
from rrsis_zoo.errors import DataFormatError


def test_samples_are_native_pixels(tree):
    records = read_rrsisd(tree, "train")
    data = RRSISDataset(records)
    assert len(data) == 5
    sample = data[2]
    with Image.open(records[2].image_path) as image:
        expected = np.array(image)
    assert sample.image.dtype == torch.uint8
    assert sample.image.is_contiguous()
    np.testing.assert_array_equal(sample.image.numpy().transpose(1, 2, 0), expected)
    assert sample.mask.dtype == torch.bool
    np.testing.assert_array_equal(sample.mask.numpy(), box((24, 32), 0, 20, 24, 32))
    assert sample.record is records[2]


def test_dataset_can_be_sent_to_a_spawned_worker(tree):
    data = RRSISDataset(read_rrsisd(tree, "train"))
    assert pickle.loads(pickle.dumps(data)).records == data.records


def test_batch_holds_equal_scenes_once(tree):
    data = RRSISDataset(read_rrsisd(tree, "train"))
    order = [3, 1, 4, 2]  # images 2, 1, 3, 1
    batch = collate([data[i] for i in order])
    assert len(batch) == 4
    assert len(batch.images) == 3
    assert batch.image_index.tolist() == [0, 1, 2, 1]
    assert batch.image_index.dtype == torch.int64
    assert batch.expressions == ["The dam", "A gray ship", "Noise", "The harbor"]
    assert batch.sample_ids == [f"rrsis-d/train/{s}" for s in ("00003/0", "00001/1", "00004/0", "00002/0")]
    assert batch.masks is not None
    for n, i in enumerate(order):
        assert torch.equal(batch.images[batch.image_index[n]], data[i].image)
        assert torch.equal(batch.masks[n], data[i].mask)


def test_loader_decodes_each_scene_of_a_batch_once(tree, monkeypatch):
    reads = []
    monkeypatch.setattr(module, "read_image", lambda path: reads.append(path.name) or read_image(path))
    data = RRSISDataset(read_rrsisd(tree, "train"))
    (batch,) = DataLoader(data, batch_size=5, collate_fn=collate)
    assert reads == ["00001.jpg", "00002.jpg", "00003.jpg"]
    assert batch.image_index.tolist() == [0, 0, 0, 1, 2]


def test_mask_of_another_size_is_fitted_to_the_image_and_told(tree):
    data = RRSISDataset(read_rrsisd(tree, "test"))
    assert data.misaligned() == ["rrsis-d/test/00008/0"]
    sample = data[2]
    assert sample.image.shape == (3, 30, 32)
    assert sample.mask.shape == (30, 32)
    # Rows 20-23 of 24, looked up at pixel centres: (row + 0.5) * 24 / 30 >= 20 from row 25 on.
    np.testing.assert_array_equal(sample.mask.numpy(), box((30, 32), 25, 0, 30, 32))
    assert RRSISDataset(read_rrsisd(tree, "train")).misaligned() == []


def test_fit_mask_looks_up_pixel_centres():
    mask = np.random.default_rng(0).random((13, 17)) < 0.5
    rows, columns = (np.arange(29) + 0.5) * 13 / 29, (np.arange(8) + 0.5) * 17 / 8
    expected = mask[rows.astype(int)][:, columns.astype(int)]
    np.testing.assert_array_equal(at_image_size(mask, (29, 8)), expected)
    assert at_image_size(mask, (13, 17)) is mask


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P"])
def test_other_modes_become_rgb(tmp_path, mode):
    path = tmp_path / ("x.jpg" if mode in ("L", "CMYK") else "x.png")
    Image.new("RGB", (6, 4), (204, 204, 204)).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (3, 4, 6)
    assert (image.int() - 204).abs().max() <= 2  # 204 is in the palette of P


def test_deeper_images_are_refused_instead_of_clipped(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((4, 6), 5000, dtype=np.uint16)).save(path)
    with pytest.raises(DataFormatError, match=r"deep\.png: must be an image with 8 bits"):
        read_image(path)


def damage(path, kind):
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "zero":
        path.write_bytes(b"")
    elif kind == "page":
        path.write_text("<html>Quota exceeded</html>")
    else:
        path.unlink()


# One case with a worker: torch waits five seconds for a worker whose loader is given up after an error.
@pytest.mark.parametrize(("kind", "workers"), [("truncated", 0), ("zero", 0), ("page", 0), ("missing", 0), ("zero", 1)])
def test_unreadable_image_is_named(tree, kind, workers):
    data = RRSISDataset(read_rrsisd(tree, "train"))
    damage(tree / "images/rrsisd/JPEGImages/00002.jpg", kind)
    loader = DataLoader(data, batch_size=5, collate_fn=collate, num_workers=workers)
    with pytest.raises(DataFormatError, match=r"00002\.jpg: .*fetch"):
        list(loader)
    if kind != "truncated":  # a header is all that misaligned reads
        with pytest.raises(DataFormatError, match=r"00002\.jpg: .*fetch"):
            data.misaligned()
