"""Rasters as people have them: any number of bands, any depth, any way of storing."""

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from stubs import UTM, Stub, blobs, burnt, written

from rrsis_zoo.errors import ConfigError, DataFormatError
from rrsis_zoo.imagery.picture import read_picture
from rrsis_zoo.imagery.stretch import Stretch
from rrsis_zoo.scenes import segment_scene
from rrsis_zoo.scenes.raster import Source, describe
from rrsis_zoo.scenes.view import View, limits_of
from rrsis_zoo.scenes.windows import Window

IMAGE = blobs(150, 130, cell=30)
DEEP = (IMAGE.astype(np.uint16) * 9 + np.random.default_rng(0).integers(0, 9, IMAGE.shape)).astype(np.uint16)
PLACE = {"transform": UTM, "crs": "EPSG:32633"}


def seen(path, bands=None, stretch=None, window=None, size=None):
    """What the model is shown of a raster, (H, W, 3), and where it has a value."""
    raster = describe(path, bands)
    with Source(raster) as source:
        size = size or (raster.height, raster.width)
        view = View(source, *size, limits_of(source, stretch))
        pixels, valid = view.read(window or Window(0, 0, *size))
    return pixels.transpose(1, 2, 0), valid


def shown(values, valid, low=2, high=98):
    """By the definition: percentiles of the values that count."""
    out = np.zeros((*values.shape[:2], 3), np.uint8)
    for channel in range(3):
        one = values[..., channel].astype(float)
        ends = np.percentile(one[valid & np.isfinite(one)], [low, high])
        scaled = np.clip((one - ends[0]) / (ends[1] - ends[0]) * 255, 0, 255)
        out[..., channel] = np.rint(np.nan_to_num(scaled))
    return out


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"tiled": True, "blockxsize": 64, "blockysize": 32},
        {"blockysize": 7, "compress": "LZW", "predictor": 2},
        {"BIGTIFF": "YES", "compress": "DEFLATE", "interleave": "band"},
        {"compress": "ZSTD", "tiled": True, "blockxsize": 16, "blockysize": 16},
        {"driver": "PNG"},
        {"driver": "HFA"},
    ],
    ids=["striped", "tiled", "lzw", "bigtiff", "zstd", "png", "imagine"],
)
def test_8_bits_in_any_file(tmp_path, stored):
    place = {} if stored.get("driver") == "PNG" else PLACE
    path = written(tmp_path / "a.tif", IMAGE, **place, **stored)
    pixels, valid = seen(path)
    assert np.array_equal(pixels, IMAGE)
    assert valid is None
    part, _ = seen(path, window=Window(100, 60, 31, 44))
    assert np.array_equal(part, IMAGE[100:131, 60:104])
    assert np.array_equal(burnt(segment_scene(Stub(), path, "red", find="all"), path), IMAGE[..., 0] > 127)


def test_jpeg_in_tiff(tmp_path):
    """Pillow and GDAL decode it to the same picture, up to how they enlarge its coarser colours."""
    smooth = np.asarray(Image.fromarray(IMAGE).resize((130, 150)).resize((26, 30)).resize((130, 150)))
    options = {"compress": "JPEG", "jpeg_quality": 95, "photometric": "YCBCR", "tiled": True}
    path = written(tmp_path / "a.tif", smooth, **PLACE, blockxsize=64, blockysize=64, **options)
    assert np.abs(seen(path)[0].astype(int) - smooth).max() < 24
    assert np.abs(seen(path)[0].astype(int) - read_picture(path).pixels).mean() < 1


def test_alpha_and_masks(tmp_path):
    """Pixels without a value are shown, but are never foreground."""
    there = np.random.default_rng(1).random(IMAGE.shape[:2]) < 0.7
    alpha = np.concatenate([IMAGE, np.where(there, 255, 0).astype(np.uint8)[..., None]], axis=2)
    internal = {"GDAL_TIFF_INTERNAL_MASK": True}
    files = [
        written(tmp_path / "alpha.tif", alpha, **PLACE, alpha="YES"),
        written(tmp_path / "alpha.png", alpha, driver="PNG"),
    ]
    with rasterio.Env(**internal):
        files.append(written(tmp_path / "mask.tif", IMAGE, **PLACE, mask=there))
    for path in files:
        pixels, valid = seen(path)
        assert np.array_equal(pixels, IMAGE)
        assert np.array_equal(valid, there)
        table = segment_scene(Stub(), path, "red", find="all")
        assert np.array_equal(burnt(table, path), (IMAGE[..., 0] > 127) & there)


def test_palette(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (9, 4), dtype=np.uint8)
    colours[:, 3] = 255
    colours[4, 3] = 0
    numbers = np.random.default_rng(1).integers(0, 9, (80, 70), dtype=np.uint8)
    table = {n: tuple(colour) for n, colour in enumerate(colours.tolist())}
    path = written(tmp_path / "a.tif", numbers, **PLACE, colormap=table, photometric="PALETTE")
    pixels, valid = seen(path)
    assert np.array_equal(pixels, colours[numbers, :3])
    # TIFF knows no alpha of a colour; PNG does
    assert valid is None or valid.all()
    image = Image.fromarray(numbers, "P")
    image.putpalette(colours[:, :3].tobytes())
    image.info["transparency"] = 4
    image.save(tmp_path / "a.png")
    pixels, valid = seen(tmp_path / "a.png")
    assert np.array_equal(pixels, colours[numbers, :3])
    assert np.array_equal(valid, numbers != 4)
    half, _ = seen(path, size=(40, 35))
    blocks = colours[numbers, :3].reshape(40, 2, 35, 2, 3).mean(axis=(1, 3))
    assert np.abs(half - blocks).max() <= 1


def test_16_bits_with_four_bands_and_nodata(tmp_path):
    four = np.concatenate([DEEP, DEEP[..., :1] // 2], axis=2)
    valid = np.ones(IMAGE.shape[:2], bool)
    valid[20:50, 30:90] = False
    four[~valid] = 65535
    path = written(tmp_path / "a.tif", four, **PLACE, nodata=65535, photometric="MINISBLACK")
    pixels, known = seen(path)
    assert np.array_equal(known, valid)
    assert np.array_equal(pixels[valid], shown(four, valid)[valid])
    assert describe(path).notes == ("bands 1, 2, 3 of 4 are red, green, blue; --bands changes that",)
    infrared, _ = seen(path, bands=(4, 1, 2))
    assert np.array_equal(infrared[valid], shown(four[..., [3, 0, 1]], valid)[valid])
    extremes, _ = seen(path, stretch=Stretch.parse("minmax"))
    assert np.array_equal(extremes[valid], shown(four, valid, 0, 100)[valid])
    fixed, _ = seen(path, stretch=Stretch.parse("100:1500"))
    scaled = np.rint(np.clip((four[..., :3].astype(float) - 100) * 255 / 1400, 0, 255))
    assert np.array_equal(fixed[valid], scaled[valid])
    with pytest.raises(DataFormatError, match="more than 8 bits, and --stretch none"):
        seen(path, stretch=Stretch.parse("none"))


def test_one_picture_is_stretched_as_segment_stretches_it(tmp_path):
    path = written(tmp_path / "a.tif", DEEP[..., 0], photometric="MINISBLACK")
    assert np.array_equal(seen(path)[0], read_picture(path).pixels)
    eight = written(tmp_path / "b.tif", IMAGE)
    stretch = Stretch.parse("5,90")
    assert np.array_equal(seen(eight, stretch=stretch)[0], read_picture(eight, stretch).pixels)


def test_float_with_nan(tmp_path):
    values = DEEP.astype(np.float32) / 2000
    values[:40, :50] = np.nan
    values[60, 70] = np.inf
    path = written(tmp_path / "a.tif", values, **PLACE)
    pixels, valid = seen(path)
    expected = np.isfinite(values).any(axis=2)
    assert np.array_equal(valid, expected)
    assert np.array_equal(pixels[valid], shown(values, expected)[valid])
    table = segment_scene(Stub(), path, "red", find="all")
    assert not burnt(table, path)[:40, :50].any()


def test_the_stretch_is_of_the_whole_raster_and_not_of_a_window(tmp_path):
    ramp = np.linspace(0, 4000, 256 * 300).reshape(256, 300).astype(np.uint16)
    path = written(tmp_path / "a.tif", ramp, **PLACE)
    pixels, _ = seen(path, window=Window(0, 0, 64, 64))
    assert pixels.max() < 70
    limits = np.percentile(ramp, [2, 98])
    assert seen(path)[0][128, 150, 0] == pytest.approx((ramp[128, 150] - limits[0]) / np.diff(limits)[0] * 255, abs=1)


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_numbers_of_bands(tmp_path, bands):
    many = np.stack([IMAGE[..., n % 3] // (n + 1) for n in range(bands)], axis=2)
    path = written(tmp_path / "a.tif", many, **PLACE, photometric="MINISBLACK")
    pixels, _ = seen(path)
    assert np.array_equal(pixels, many[..., [0, 0, 0] if bands < 3 else [0, 1, 2]])
    assert bool(describe(path).notes) == (bands != 1)
    assert np.array_equal(seen(path, bands=(bands,))[0], many[..., [bands - 1] * 3])
    with pytest.raises(ConfigError, match=rf"has {bands} bands, and --bands 9 asks for more"):
        describe(path, (9,))


def test_the_file_says_which_bands_are_colours(tmp_path):
    order = [ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined]
    four = np.concatenate([IMAGE[..., ::-1], IMAGE[..., :1] // 3], axis=2)
    path = written(tmp_path / "a.tif", four, **PLACE, photometric="MINISBLACK", colorinterp=order)
    assert np.array_equal(seen(path)[0], IMAGE)
    assert describe(path).notes == ()


def test_a_virtual_raster(tmp_path):
    """Two files side by side, as gdalbuildvrt joins them."""
    left = written(tmp_path / "left.tif", IMAGE[:, :70], **PLACE)
    right = written(tmp_path / "right.tif", IMAGE[:, 70:], **PLACE)
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{n}"><ColorInterp>{colour}</ColorInterp>'
        + "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="1">{path.name}</SourceFilename><SourceBand>{n}</SourceBand>'
            f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="150"/>'
            f'<DstRect xOff="{x}" yOff="0" xSize="{width}" ySize="150"/></SimpleSource>'
            for path, x, width in ((left, 0, 70), (right, 70, 60))
        )
        + "</VRTRasterBand>"
        for n, colour in enumerate(("Red", "Green", "Blue"), start=1)
    )
    path = tmp_path / "both.vrt"
    path.write_text(
        f'<VRTDataset rasterXSize="130" rasterYSize="150"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>500000, 0.5, 0, 5000000, 0, -0.5</GeoTransform>{bands}</VRTDataset>"
    )
    assert np.array_equal(seen(path)[0], IMAGE)
    table = segment_scene(Stub(), path, "red", find="all")
    assert table.crs == "EPSG:32633"
    assert np.array_equal(burnt(table, path), IMAGE[..., 0] > 127)


def test_a_picture_without_georeference(tmp_path):
    """Pixel coordinates, x right and y down; no CRS, no areas in metres."""
    image = np.zeros((90, 120, 3), np.uint8)
    image[10:30, 50:70, 0] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    table = segment_scene(Stub(), tmp_path / "a.png", "red", find="all")
    assert table.crs is None
    assert table.geometry[0].bounds == (50, 10, 70, 30)
    assert table.area_px.tolist() == [400]
    assert table.area_m2.isna().all()
    assert table.gsd_m.isna().all()


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_turned_photograph(tmp_path, orientation):
    """A scene of pixels as they are stored would be turned otherwise than the picture that everybody sees."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(IMAGE).save(tmp_path / "a.jpg", exif=exif, quality=95)
    with pytest.raises(DataFormatError, match=rf"is stored turned \(EXIF orientation {orientation}\).*save it upright"):
        describe(tmp_path / "a.jpg")


def test_shrinking_is_averaging_the_same_by_any_windows(tmp_path):
    path = written(tmp_path / "a.tif", IMAGE[:, :, :], **PLACE)
    whole, _ = seen(path, size=(60, 52))
    part, _ = seen(path, size=(60, 52), window=Window(17, 9, 30, 31))
    assert np.abs(whole[17:47, 9:40].astype(int) - part).max() <= 1
    half, _ = seen(path, size=(75, 65))
    assert np.abs(half - IMAGE.reshape(75, 2, 65, 2, 3).mean(axis=(1, 3))).max() <= 1
