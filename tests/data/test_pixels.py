"""Pictures as people have them: deep, turned, large, damaged, of other kinds; as image, as mask, as PIL image."""

import io
import os
import struct
import warnings
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image, ImageOps

from image_files import png, tiff
from rrsis_zoo.data import pixels
from rrsis_zoo.data.headers import read_header
from rrsis_zoo.data.masks import GreyFile
from rrsis_zoo.data.pixels import image_orientation, image_size, open_image, read_grey, read_rgb, to_array
from rrsis_zoo.errors import ConfigError, DataFormatError, RRSISError
from rrsis_zoo.inference import as_rgb

SCENE = (np.random.default_rng(0).random((12, 20, 4)) * 2040).astype(np.uint16)  # 11 bits, as satellites deliver


def jpeg2000(values):
    out = io.BytesIO()
    Image.fromarray(values).save(out, "JPEG2000")
    return out.getvalue()


def deeper(code, bits):
    """Return a JPEG 2000 whose header says another depth."""
    at = code.index(b"\xff\x51") + 40
    return code[:at] + bytes([bits - 1]) + code[at + 1 :]


def twelve_bit_jpeg():
    out = io.BytesIO()
    Image.new("RGB", (20, 12)).save(out, "JPEG")
    at = out.getvalue().index(b"\xff\xc0") + 4
    return out.getvalue()[:at] + b"\x0c" + out.getvalue()[at + 1 :]


FLOATS = SCENE.astype(np.float32)
DEEP = {
    **{f"png{n}": ("x.png", png(SCENE[..., :n]), 16) for n in (1, 2, 3, 4)},
    **{f"tiff{n}": ("x.tif", tiff(SCENE[..., :n]), 16) for n in (1, 3, 4)},
    "tiff planar": ("x.tif", tiff(SCENE[..., :3], planar=2), 16),
    "tiff big-endian": ("x.tif", tiff(SCENE[..., :3], ">"), 16),
    "bigtiff": ("x.tif", tiff(SCENE[..., :3], big=True), 16),
    "bigtiff big-endian": ("x.tif", tiff(SCENE[..., :1], ">", big=True), 16),
    "tiff floats": ("x.tif", tiff(FLOATS[..., :3], numbers=3), 32),
    "tiff grey floats": ("x.tif", tiff(FLOATS[..., :1], numbers=3), 32),
    "tiff 32 bits": ("x.tif", tiff(SCENE[..., :3].astype(np.uint32)), 32),
    "tiff signed": ("x.tif", tiff(SCENE[..., :1].astype(np.int16), numbers=2), 16),
    "tiff signed bytes": ("x.tif", tiff(SCENE[..., :1].astype(np.int8), numbers=2), 8),
    "named otherwise": ("x.jpg", png(SCENE[..., :3]), 16),
    "ppm": ("x.ppm", b"P6 20 12 2047\n" + SCENE[..., :3].astype(">u2").tobytes(), 11),
    "pgm with a comment": ("x.pgm", b"P5\n# 11 bits\n20 12\n2047\n" + SCENE[..., 0].astype(">u2").tobytes(), 11),
    "plain ppm": ("x.ppm", b"P3 2 1 4095\n1 2 3 4 5 4095\n", 12),
    "pfm": ("x.pfm", b"Pf\n20 12\n-1.0\n" + FLOATS[..., 0].tobytes(), 32),
    "jpeg 12 bits": ("x.jpg", twelve_bit_jpeg(), 12),
    "jpeg 2000 grey": ("x.jp2", jpeg2000(SCENE[..., 0]), 16),
    "jpeg 2000": ("x.jp2", deeper(jpeg2000(SCENE[..., :3].astype(np.uint8)), 11), 11),
}


@pytest.mark.parametrize("case", DEEP)
def test_what_is_deeper_than_8_bits_is_refused_with_its_depth_and_the_cure(tmp_path, case):
    name, content, bits = DEEP[case]
    path = tmp_path / name
    path.write_bytes(content)
    with path.open("rb") as file:
        header = read_header(file)
    assert header.bits == bits
    assert header.is_deep
    for read in (as_rgb, read_grey, lambda p: GreyFile(p, 0).decode()):
        expected = rf"{name}: must be an image with 8 bits per channel, .* {bits} .*-scale"
        with pytest.raises(DataFormatError, match=expected):
            read(path)


@pytest.mark.parametrize("case", ["png3", "png1", "tiff3", "tiff grey floats", "tiff planar"])
@pytest.mark.parametrize("state", ["lazy", "in memory", "loaded"])
def test_deep_pil_images_are_refused_too(tmp_path, case, state):
    name, content, bits = DEEP[case]
    (tmp_path / name).write_bytes(content)
    image = Image.open(io.BytesIO(content) if state == "in memory" else tmp_path / name)
    if state == "loaded":
        image.load()
    with pytest.raises(DataFormatError, match=rf"must be an image with 8 bits per channel, .* {bits} "):
        as_rgb(image)


def test_grey_of_16_bits_is_exact_where_its_values_are_asked_for(tmp_path):
    (tmp_path / "x.png").write_bytes(png(SCENE[..., :1]))
    (tmp_path / "x.tif").write_bytes(tiff(SCENE[..., :1], ">"))
    for name in ("x.png", "x.tif"):
        with open_image(tmp_path / name) as image:
            np.testing.assert_array_equal(np.asarray(image), SCENE[..., 0])
    (tmp_path / "x.png").write_bytes(png(SCENE[..., :3]))
    with pytest.raises(DataFormatError, match="8 bits per channel"):
        open_image(tmp_path / "x.png")


MODES = {
    "PNG": "1 L LA P RGB RGBA",
    "JPEG": "1 L RGB CMYK YCbCr",
    "TIFF": "1 L LA P PA RGB RGBA CMYK YCbCr",
    "BMP": "1 L P RGB RGBA",
    "GIF": "1 L LA P RGB RGBA",
    "WEBP": "1 L LA P PA RGB RGBA CMYK YCbCr",
    "PPM": "1 L RGB RGBA",
    "JPEG2000": "L LA RGB RGBA CMYK YCbCr",
}


@pytest.mark.parametrize(("form", "mode"), [(form, mode) for form, modes in MODES.items() for mode in modes.split()])
def test_eight_bits_are_read_as_pil_reads_them(tmp_path, mode, form):
    picture = Image.fromarray((SCENE[..., :3] // 8).astype(np.uint8)).convert("P" if mode == "PA" else mode)
    path = tmp_path / "picture"
    picture.convert(mode).save(path, form)
    if (form, mode) == ("TIFF", "YCbCr") and int(PIL.__version__.partition(".")[0]) < 13:
        with pytest.raises(DataFormatError, match=r"an uncompressed TIFF in YCbCr, which Pillow .* reads wrongly"):
            read_rgb(path)
        with pytest.raises(DataFormatError, match="save it as RGB, or install Pillow 13"):
            as_rgb(Image.open(path))
        return
    expected = Image.open(path).convert("RGB")
    with path.open("rb") as file:
        header = read_header(file)
    assert (header.width, header.height, header.is_deep) == (*picture.size, False)
    assert header.format == form
    np.testing.assert_array_equal(read_rgb(path), np.asarray(expected))
    np.testing.assert_array_equal(as_rgb(Image.open(path)).permute(1, 2, 0).numpy(), np.asarray(expected))
    assert image_size(path) == (12, 20)


# -- orientation -------------------------------------------------------------------------------------------------------

SHOWN = np.zeros((6, 10, 3), np.uint8)
SHOWN[:2, :3] = (255, 255, 255)
SHOWN[4:, :1] = (200, 200, 200)


def stored(orientation):
    """Return the picture as a camera stores it, so that it is shown as SHOWN."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # PIL's numbers of the inverse transposition
    image = Image.fromarray(SHOWN)
    return image if orientation == 1 else image.transpose(Image.Transpose(undo[orientation]))


def turned(path, orientation, form, **settings):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored(orientation).save(path, form, exif=exif, **settings)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("form", "settings"),
    [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})],
)
def test_all_orientations_are_followed_for_images_masks_and_pil_images(tmp_path, orientation, form, settings):
    path = tmp_path / "picture"
    turned(path, orientation, form, **settings)
    np.testing.assert_array_equal(read_rgb(path), SHOWN)
    np.testing.assert_array_equal(GreyFile(path, 50).decode(), SHOWN[..., 0] > 50)
    np.testing.assert_array_equal(as_rgb(path).permute(1, 2, 0).numpy(), SHOWN)
    np.testing.assert_array_equal(np.asarray(open_image(path)), SHOWN)
    assert image_size(path) == (6, 10)
    assert (GreyFile(path, 50).height, GreyFile(path, 50).width) == (6, 10)
    assert image_orientation(path) == orientation
    for image in (Image.open(path), Image.open(io.BytesIO(path.read_bytes()))):
        np.testing.assert_array_equal(as_rgb(image).permute(1, 2, 0).numpy(), SHOWN)
    loaded = Image.open(path)
    loaded.load()
    np.testing.assert_array_equal(as_rgb(loaded).permute(1, 2, 0).numpy(), SHOWN)
    turned_by_its_user = ImageOps.exif_transpose(Image.open(path))
    np.testing.assert_array_equal(as_rgb(turned_by_its_user).permute(1, 2, 0).numpy(), SHOWN)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_is_turned(tmp_path, orientation):
    turned(tmp_path / "x.jpg", orientation, "JPEG", quality=100, subsampling=0)
    assert image_size(tmp_path / "x.jpg") == (6, 10)
    assert np.abs(read_rgb(tmp_path / "x.jpg").astype(int) - SHOWN).max() < 60


def test_an_orientation_behind_the_pixels_of_a_png_is_found(tmp_path):
    path = tmp_path / "x.png"
    turned(path, 6, "PNG")
    content = path.read_bytes()
    at = content.index(b"eXIf") - 4
    chunk = content[at : at + 12 + int.from_bytes(content[at : at + 4])]
    end = content.index(b"IEND") - 4
    path.write_bytes(content[:at] + content[at + len(chunk) : end] + chunk + content[end:])
    np.testing.assert_array_equal(read_rgb(path), SHOWN)
    assert image_size(path) == (6, 10)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08", b"Exif\0\0II*\0\xff\xff\xff\x7f", b""]
)
def test_a_damaged_exif_block_is_passed_over(tmp_path, exif):
    Image.fromarray(SHOWN).save(tmp_path / "x.png", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(read_rgb(tmp_path / "x.png"), SHOWN)
        assert image_orientation(tmp_path / "x.png") == 1


def test_an_orientation_that_means_nothing_is_passed_over(tmp_path):
    for value in (0, 9, 65535):
        exif = Image.Exif()
        exif[0x0112] = value
        Image.fromarray(SHOWN).save(tmp_path / "x.png", exif=exif)
        np.testing.assert_array_equal(read_rgb(tmp_path / "x.png"), SHOWN)


# -- other kinds -------------------------------------------------------------------------------------------------------

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(trap) print\n%%EOF\n"


@pytest.mark.parametrize("name", ["x.png", "x.eps", "x.tif"])
def test_no_other_program_is_started_for_a_picture(tmp_path, monkeypatch, name):
    """PIL hands PostScript to Ghostscript, whatever the file is called."""

    def started(*_args, **_options):
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen", started)
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", started)
    path = tmp_path / name
    path.write_bytes(EPS)
    for read in (read_rgb, read_grey, image_size, open_image, image_orientation, as_rgb):
        with pytest.raises(DataFormatError, match=rf"{name}: cannot be read as an image: it is PostScript"):
            read(path)
    assert Image.open(path).format == "EPS"
    with pytest.raises(DataFormatError, match=r"lazily opened EPS file.*image\.convert"):
        as_rgb(Image.open(path))


def test_nothing_but_this_module_opens_pictures_by_guess():
    root = Path(__file__).parents[2]
    for folder in ("src", "benchmarks"):
        for path in (root / folder).rglob("*.py"):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                assert "Image.open(" not in line or "formats=" in line, f"{path}:{number}: use pixels.open_image"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty; fetch it again"),
        (b"<!DOCTYPE html><html>Quota exceeded</html>", "a web page"),
        (b"\xef\xbb\xbf<html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"/annex/objects/SHA256E-s1--0.png\n", "git annex get"),
        (b"../.git/annex/objects/aa/SHA256E-s1--0.png", "git annex get"),
        (b"%PDF-1.7", "a PDF"),
        (b"\0\0\0\x20ftypavif", "AVIF or HEIF"),
        (b"\x93NUMPY\x01\0", "a NumPy array"),
        (b"PK\x03\x04", "an archive; unpack it"),
        (b"something", "in no supported format .*PNG, JPEG"),
        (b"\x89PNG\r\n\x1a\n", "header is .*fetch the file again"),
        (b"II*\0\x08\0\0\0", "header is cut short; fetch the file again"),
        (b"\xff\xd8\xff\xe0", "header is cut short; fetch the file again"),
        (b"P5 0 3 255\n", "0 x 3 pixels"),
        (b"BM", "header is cut short or damaged; fetch"),
    ],
)
def test_what_is_no_image_is_called_by_its_name(tmp_path, content, said):
    (tmp_path / "x.png").write_bytes(content)
    for read in (read_rgb, image_size):
        with pytest.raises(DataFormatError, match=rf"x\.png: cannot be read as an image: .*{said}"):
            read(tmp_path / "x.png")


def test_a_tiff_of_many_bands_is_whole_and_is_said_to_be(tmp_path, capfd):
    for channels in (2, 5, 8):
        content = tiff(np.zeros((8, 8, channels), np.uint8))
        (tmp_path / "x.tif").write_bytes(content)
        with pytest.raises(DataFormatError, match=rf"x\.tif: .*TIFF with {channels} channels of 8 bits"):
            read_rgb(tmp_path / "x.tif")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("make", ["missing", "link", "loop", "folder", "pipe"])
def test_what_is_no_file_ends_in_one_line(tmp_path, make):
    path = tmp_path / "x.png"
    if make == "link":
        path.symlink_to("/nowhere/x.png")
    elif make == "loop":
        path.symlink_to(path)
    elif make == "folder":
        path.mkdir()
    elif make == "pipe":
        os.mkfifo(path)
    said = {"missing": "file is missing$", "link": "link to /nowhere/x.png, which does not", "loop": "symbolic links"}
    for read in (read_rgb, image_size, as_rgb, open_image):
        with pytest.raises(DataFormatError, match=rf"x\.png.*{said.get(make, f'is a {make}')}"):
            read(path)


def test_a_pil_image_whose_file_is_cut_short(tmp_path):
    out = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 99, 199)).save(out, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(out.getvalue()[:-60])
    with pytest.raises(DataFormatError, match=r"cut\.jpg: .*cut short or damaged"):
        as_rgb(Image.open(tmp_path / "cut.jpg"))
    with pytest.raises(DataFormatError, match=r"^the image: .*cut short or damaged"):
        as_rgb(Image.open(io.BytesIO(out.getvalue()[:-60])))


# -- size --------------------------------------------------------------------------------------------------------------


def test_a_large_whole_image_is_read_without_a_warning(tmp_path):
    Image.new("1", (14000, 14000)).save(tmp_path / "large.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_size(tmp_path / "large.png") == (14000, 14000)
        grey = read_grey(tmp_path / "large.png")
    assert grey.shape == (14000, 14000)
    assert Image.MAX_IMAGE_PIXELS == 89478485


def test_large_images_are_converted_in_strips(tmp_path, monkeypatch):
    picture = Image.fromarray((SCENE[..., :3] // 8).astype(np.uint8))
    for mode in ("RGB", "P", "L", "RGBA"):
        picture.convert(mode).save(tmp_path / "x.png")
        expected = [read(tmp_path / "x.png") for read in (read_rgb, read_grey)]
        monkeypatch.setattr(pixels, "_BLOCK", 50)
        for read, whole in zip((read_rgb, read_grey), expected, strict=True):
            np.testing.assert_array_equal(read(tmp_path / "x.png"), whole)
        monkeypatch.undo()


def test_the_limit_is_said_and_can_be_raised(tmp_path, monkeypatch):
    Image.new("L", (200, 100)).save(tmp_path / "x.png")
    monkeypatch.setenv(pixels.LIMIT_VARIABLE, "19999")
    with pytest.raises(DataFormatError, match=r"x\.png: has 200 x 100 pixels, the limit is 19,999: .*PIXEL_LIMIT"):
        read_rgb(tmp_path / "x.png")
    monkeypatch.setenv(pixels.LIMIT_VARIABLE, "20000")
    assert read_rgb(tmp_path / "x.png").shape == (100, 200, 3)
    for wrong in ("", "-5", "many", "1e9", "9" * 40):
        monkeypatch.setenv(pixels.LIMIT_VARIABLE, wrong)
        with pytest.raises(ConfigError, match="must be a number of pixels"):
            read_rgb(tmp_path / "x.png")


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG", "PPM"])
def test_a_few_bytes_cannot_ask_for_gigabytes(tmp_path, monkeypatch, form):
    """A header that says 16,000 x 16,000 in front of next to nothing: nothing is allocated."""
    path = tmp_path / "bomb"
    big = 16000
    if form == "WEBP":
        body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (big - 1).to_bytes(3, "little") * 2 + bytes(40)
        path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body)
    elif form == "TIFF":
        content = bytearray(tiff(np.zeros((1, 1, 3), np.uint8)))
        for tag in (256, 257):
            at = content.index(struct.pack("<HHI", tag, 4, 1)) + 8
            content[at : at + 4] = struct.pack("<I", big)
        path.write_bytes(content)
    else:
        Image.new("RGB", (8, 8)).save(path, form)
        content = bytearray(path.read_bytes())
        at, code = {
            "PNG": (16, struct.pack(">II", big, big)),
            "BMP": (18, struct.pack("<ii", big, big)),
            "GIF": (6, struct.pack("<HH", big, big)),
            "JPEG": (content.find(b"\xff\xc0") + 5, struct.pack(">HH", big, big)),
            "PPM": (3, b"16000 16000"),
        }[form]
        content[at : at + (3 if form == "PPM" else len(code))] = code
        path.write_bytes(content)
    forms = [path]
    if form not in ("PNG", "WEBP"):  # of these two PIL itself refuses this one
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        forms.append(Image.open(path))
    for read, what in ((read_rgb, path), (image_size, path), *((as_rgb, form) for form in forms)):
        with pytest.raises(DataFormatError, match=r"16,000 x 16,000 pixels by its header, but only \d+ bytes"):
            read(what)


def test_damaged_pictures_raise_no_other_error(tmp_path):
    """Every format, a hundred mutations each: read or refused, nothing else."""
    random = np.random.default_rng(0)
    picture = Image.fromarray((SCENE[..., :3] // 8).astype(np.uint8))
    path = tmp_path / "picture"
    for form, settings in (
        ("PNG", {}),
        ("PNG", {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"}),
        ("JPEG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("BMP", {}),
        ("GIF", {}),
        ("WEBP", {}),
        ("PPM", {}),
        ("JPEG2000", {}),
    ):
        picture.save(path, form, **settings)
        whole = path.read_bytes()
        refused = 0
        for _ in range(100):
            content = bytearray(whole)
            for _ in range(random.integers(1, 4)):
                content[random.integers(min(len(content), 200))] = random.integers(256)
            path.write_bytes(content[: random.integers(len(content))] if random.random() < 0.2 else content)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for read in (read_rgb, read_grey, image_size):
                    try:
                        read(path)
                    except RRSISError:
                        refused += 1
        assert refused > 20


def test_pixels_of_a_palette_with_transparency_come_without_a_warning(tmp_path):
    picture = Image.fromarray((SCENE[..., 0] % 3).astype(np.uint8))
    picture.putpalette([0, 0, 0, 255, 255, 255, 128, 0, 0])
    picture.save(tmp_path / "x.png", transparency=bytes([0, 255, 128]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grey = read_grey(tmp_path / "x.png")
    assert set(np.unique(grey)) == {0, 38, 255}
    assert to_array(Image.open(tmp_path / "x.png"), "RGB", "x").shape == (12, 20, 3)


def test_a_tiff_that_says_its_size_twice_is_refused(tmp_path):
    """Programs differ in which one counts; so would the size from the header and that of the pixels."""
    path = tmp_path / "twice.tif"
    Image.new("RGB", (17, 24)).save(path)
    content = bytearray(path.read_bytes())
    (first,) = struct.unpack("<I", content[4:8])
    at = next(at for at in range(first + 2, len(content), 12) if content[at : at + 2] == b"\x03\x01")  # compression
    content[at : at + 2] = b"\x00\x01"  # the width's number
    path.write_bytes(content)
    for read in (image_size, read_rgb):
        with pytest.raises(DataFormatError, match="a tag occurs twice"):
            read(path)
