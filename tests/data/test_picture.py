"""Files as people have them: right, or one clear sentence."""

import io

import numpy as np
import pytest
from PIL import Image

from image_files import png, tiff
from rrsis_zoo.data.imagery.picture import read_picture
from rrsis_zoo.data.imagery.stretch import Stretch
from rrsis_zoo.errors import DataFormatError

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (12, 20, 3), dtype=np.uint8)
DEEP = (RNG.random((12, 20, 4)) * 2040).astype(np.uint16)  # 11 bits, as satellites deliver


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def stretched(values, low, high):
    """Return what percentiles give, for each channel."""
    limits = np.percentile(values.reshape(-1, values.shape[-1]).astype(float), [low, high], axis=0)
    shown = np.rint(np.clip((values - limits[0]) / (limits[1] - limits[0]) * 255, 0, 255)).astype(np.uint8)
    return np.repeat(shown, 3, 2) if shown.shape[2] == 1 else shown


PALETTE = Image.fromarray(COLOURS).quantize(16)
GREY = Image.fromarray(COLOURS[..., 0])
CMYK = Image.fromarray(COLOURS).convert("CMYK")
EIGHT_BITS = {
    "turned": ("x.png", saved(Image.fromarray(COLOURS), "PNG", exif=turned(6)), np.rot90(COLOURS, -1)),
    "palette": ("x.png", saved(PALETTE, "PNG", transparency=3), np.asarray(PALETTE.convert("RGB"))),
    "grey with alpha": (
        "x.png",
        saved(Image.merge("LA", [GREY, GREY]), "PNG"),
        np.repeat(COLOURS[..., :1], 3, 2),
    ),
    "CMYK": ("x.tif", saved(CMYK, "TIFF"), np.asarray(CMYK.convert("RGB"))),
    "one bit": ("x.png", saved(GREY.convert("1"), "PNG"), np.asarray(GREY.convert("1").convert("RGB"))),
    "one pixel": ("x.bmp", saved(Image.fromarray(COLOURS[:1, :1]), "BMP"), COLOURS[:1, :1]),
}


@pytest.mark.parametrize("case", EIGHT_BITS)
def test_8_bits_are_left_as_they_are(tmp_path, case):
    name, content, expected = EIGHT_BITS[case]
    (tmp_path / name).write_bytes(content)
    picture = read_picture(tmp_path / name)
    np.testing.assert_array_equal(picture.pixels, expected)
    assert (picture.limits, picture.notes) == (None, ())


DEEP_FILES = {
    "PNG, grey": ("x.png", png(DEEP[..., :1]), DEEP[..., :1]),
    "PNG": ("x.png", png(DEEP[..., :3]), DEEP[..., :3]),
    "TIFF, grey": ("x.tif", tiff(DEEP[..., :1]), DEEP[..., :1]),
    "TIFF": ("x.tif", tiff(DEEP[..., :3]), DEEP[..., :3]),
    "TIFF, big-endian": ("x.tif", tiff(DEEP[..., :3], ">"), DEEP[..., :3]),
    "TIFF, floats": (
        "x.tif",
        tiff(DEEP[..., :3].astype(np.float32) / 7, numbers=3),
        DEEP[..., :3].astype(np.float32) / 7,
    ),
    "PPM": ("x.ppm", b"P6 20 12 65535\n" + DEEP[..., :3].astype(">u2").tobytes(), DEEP[..., :3]),
    "JPEG 2000, grey": ("x.jp2", saved(Image.fromarray(DEEP[..., 0]), "JPEG2000"), DEEP[..., :1]),
}


@pytest.mark.parametrize("case", DEEP_FILES)
def test_deeper_values_are_stretched(tmp_path, case):
    name, content, values = DEEP_FILES[case]
    path = tmp_path / name
    path.write_bytes(content)
    picture = read_picture(path)
    assert np.abs(picture.pixels.astype(int) - stretched(values, 2, 98)).max() <= 1
    (note,) = picture.notes
    assert "are shown as 0-255; --stretch changes that" in note
    fixed = read_picture(path, Stretch.parse("0:2040"))
    assert fixed.limits == ((0, 2040),) * values.shape[2]
    expected = np.broadcast_to(np.clip(values / 8, 0, 255), fixed.pixels.shape)
    assert np.abs(fixed.pixels - expected).max() <= 1
    with pytest.raises(DataFormatError, match=rf"{name}: is a .* bits, and --stretch none keeps 8-bit values only"):
        read_picture(path, Stretch.parse("none"))


def test_transparent_pixels_do_not_set_the_limits(tmp_path):
    values = DEEP.copy()
    values[..., 3] = 65535
    values[:6] = [60000, 60000, 60000, 0]
    for name, content in (("x.png", png(values)), ("x.tif", tiff(values))):
        (tmp_path / name).write_bytes(content)
        limits = read_picture(tmp_path / name, Stretch.parse("minmax")).limits
        assert limits == tuple((float(c.min()), float(c.max())) for c in np.moveaxis(DEEP[6:, :, :3], 2, 0))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_colours_are_turned_as_8_bits_are(tmp_path, orientation):
    """By the rule of Pillow's own transpositions."""
    shown = {}
    for name, values in (("deep.png", DEEP[..., :3]), ("flat.png", DEEP[..., :3].astype(np.uint8))):
        content = png(values) if name == "deep.png" else saved(Image.fromarray(values), "PNG")
        at = content.index(b"IDAT") - 4
        exif = saved(Image.new("L", (1, 1)), "PNG", exif=turned(orientation))
        start = exif.index(b"eXIf") - 4
        chunk = exif[start : start + 12 + int.from_bytes(exif[start : start + 4])]
        (tmp_path / name).write_bytes(content[:at] + chunk + content[at:])
        shown[name] = read_picture(tmp_path / name, Stretch.parse("0:255")).pixels
    assert shown["deep.png"].shape == shown["flat.png"].shape
    below = shown["deep.png"] < 255
    assert below.any()
    np.testing.assert_array_equal(shown["deep.png"][below], shown["flat.png"][below])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_tiffs_are_turned_too(tmp_path, orientation):
    """Also those of floats, which Pillow does not open."""
    values = DEEP[..., :3] // 8
    (tmp_path / "deep.tif").write_bytes(tiff(values.astype(np.float32), numbers=3, orientation=orientation))
    (tmp_path / "flat.tif").write_bytes(tiff(values.astype(np.uint8), orientation=orientation))
    deep, flat = (read_picture(tmp_path / f"{name}.tif", Stretch.parse("0:255")).pixels for name in ("deep", "flat"))
    np.testing.assert_array_equal(deep, flat)


def test_8_bits_are_stretched_if_that_is_asked_for(tmp_path):
    (tmp_path / "x.png").write_bytes(saved(Image.fromarray(COLOURS // 4 + 10), "PNG"))
    picture = read_picture(tmp_path / "x.png", Stretch.parse("minmax"))
    assert picture.limits == ((10, 73),) * 3
    assert (picture.pixels.min(), picture.pixels.max()) == (0, 255)


def test_of_several_pages_or_frames_the_first_is_used_and_that_is_said(tmp_path):
    first, second = Image.fromarray(COLOURS), Image.fromarray(COLOURS[::-1].copy())
    several = {"save_all": True, "append_images": [second, first]}
    for name, content in (
        ("x.tif", saved(first, "TIFF", **several)),
        ("x.webp", saved(first, "WEBP", lossless=True, **several)),
        ("x.png", saved(first, "PNG", **several)),
        ("x.gif", saved(first, "GIF", **several)),
    ):
        (tmp_path / name).write_bytes(content)
        picture = read_picture(tmp_path / name)
        assert picture.notes == ("the first of its 3 pages or frames is used",)
        if name != "x.gif":  # which has 256 colours
            np.testing.assert_array_equal(picture.pixels, COLOURS)


def test_overviews_are_no_pages(tmp_path):
    small = Image.fromarray(COLOURS[::2, ::2].copy())
    small.encoderinfo = {"tiffinfo": {254: 1}}
    (tmp_path / "x.tif").write_bytes(saved(Image.fromarray(COLOURS), "TIFF", save_all=True, append_images=[small]))
    with Image.open(tmp_path / "x.tif") as image:
        image.seek(1)
        assert image.tag_v2[254] == 1
    assert read_picture(tmp_path / "x.tif").notes == ()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("bands.tif", tiff(np.repeat(DEEP, 3, 2)), "12 channels of 16 bits.*gdal_translate -b 1 -b 2 -b 3"),
        (
            "planes.tif",
            tiff(DEEP[..., :3], planar=2),
            "stored one after the other.*gdal_translate -co INTERLEAVE=PIXEL",
        ),
        ("signed.tif", tiff(DEEP[..., :3].astype(np.int16), numbers=2), "16 signed bits.*gdal_translate"),
        ("cut.png", png(DEEP[..., :3])[:300], r"cut\.png"),
        ("cut.tif", tiff(DEEP[..., :3])[:700], r"cut\.tif"),
        ("empty.jpg", b"", "the file is empty; fetch it again"),
        ("page.jpg", b"<!DOCTYPE html><html>", "it is a web page, not the image"),
        (
            "nan.tif",
            tiff(np.full((3, 4, 1), np.nan, np.float32), numbers=3),
            r"nan\.tif: none of its pixels has a value",
        ),
    ],
)
def test_what_cannot_be_read_is_named_with_the_cure(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataFormatError, match=said) as refused:
        read_picture(tmp_path / name)
    assert str(tmp_path / name) in str(refused.value)


def test_a_picture_beyond_the_limit_names_the_setting(tmp_path, monkeypatch):
    for name, content in (("x.png", png(DEEP[..., :3])), ("y.png", saved(Image.fromarray(COLOURS), "PNG"))):
        (tmp_path / name).write_bytes(content)
        monkeypatch.setenv("RRSIS_ZOO_PIXEL_LIMIT", "239")
        with pytest.raises(
            DataFormatError, match=f"{name}: has 20 x 12 pixels, the limit is 239.*RRSIS_ZOO_PIXEL_LIMIT"
        ):
            read_picture(tmp_path / name)
        monkeypatch.setenv("RRSIS_ZOO_PIXEL_LIMIT", "240")
        assert read_picture(tmp_path / name).pixels.shape == (12, 20, 3)
