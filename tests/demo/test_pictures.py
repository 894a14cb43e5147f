"""What people upload: everything that can be shown is, the rest is refused in one sentence without our folders."""

import numpy as np
import pytest
from asked import noise
from PIL import Image

from rrsis_zoo.demo.pictures import PIXEL_LIMIT, Shown, read_shown
from rrsis_zoo.errors import DataFormatError


def test_the_same_pixels_are_the_same_picture(tmp_path):
    Image.fromarray(noise()).save(tmp_path / "a.png")
    Image.fromarray(noise()).save(tmp_path / "b.tif")
    Image.fromarray(noise(1)).save(tmp_path / "c.png")
    a, b, c = (read_shown(tmp_path / name) for name in ("a.png", "b.tif", "c.png"))
    assert (a.name, b.name) == ("a.png", "b.tif")
    assert a.key == b.key != c.key
    assert Shown("d", np.zeros((2, 6, 3), np.uint8)).key != Shown("d", np.zeros((6, 2, 3), np.uint8)).key


def test_deep_values_are_shown_and_said(tmp_path):
    values = np.linspace(0, 40000, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.tif")
    picture = read_shown(tmp_path / "deep.tif")
    assert picture.pixels.shape == (64, 64, 3)
    assert picture.limits is not None
    (note,) = picture.notes
    assert note == "values 799.1-39199.9 are shown as 0-255"


def test_pages_are_said(tmp_path):
    first, *others = [Image.fromarray(noise(seed)) for seed in range(3)]
    first.save(tmp_path / "pages.tif", save_all=True, append_images=others)
    picture = read_shown(tmp_path / "pages.tif")
    assert np.array_equal(picture.pixels, noise(0))
    assert picture.notes == ("the first of its 3 pages or frames is used",)


def whole(tmp_path):
    Image.fromarray(noise()).save(tmp_path / "whole.png")
    return (tmp_path / "whole.png").read_bytes()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: b"not an image at all", "cannot be read as an image"),
        (lambda _: b"", "cannot be read as an image"),
        (lambda folder: whole(folder)[:2000], "cut short or damaged"),
        (lambda _: b"%PDF-1.7 ...", "cannot be read as an image"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path, make, said):
    path = tmp_path / "bad.png"
    path.write_bytes(make(tmp_path))
    with pytest.raises(DataFormatError, match=said) as caught:
        read_shown(path)
    assert str(caught.value).startswith("bad.png: ")
    assert str(tmp_path) not in str(caught.value)


def test_too_large_is_refused_before_it_is_decoded(tmp_path):
    side = 4104
    Image.new("1", (side, side)).save(tmp_path / "large.png")
    assert side**2 > PIXEL_LIMIT
    with pytest.raises(DataFormatError, match="4,104 x 4,104 pixels, and this page takes up to 16,777,216: cut it"):
        read_shown(tmp_path / "large.png")
