"""Perfect predictions that would score less than 100 without a word: `rrsis score` refuses them or says so."""

import contextlib
import gzip
import io
import json
import os
import time
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from rrsis_zoo.cli import run
from rrsis_zoo.data.masks import encode_mask, run_lengths
from rrsis_zoo.errors import ConfigError, DataFormatError, RRSISError
from rrsis_zoo.metrics.protocols import PROTOCOLS

SIZE = (40, 60)


def truth(n=4, size=SIZE, seed=0):
    """Masks at different places, without any symmetry."""
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(n):
        mask = np.zeros(size, np.bool_)
        top, left = rng.integers(0, size[0] - 14), rng.integers(0, size[1] - 20)
        mask[top : top + 14, left : left + 20] = True
        masks.append(mask & (rng.random(size) < 0.8))
    return masks


def code(mask, counts=None):
    return {"size": list(mask.shape), "counts": encode_mask(mask).decode() if counts is None else counts}


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def npz(path, preds, targets=(), first=0):
    arrays = {f"pred_{i + first}": p for i, p in enumerate(preds)} | {f"target_{i}": t for i, t in enumerate(targets)}
    np.savez(path, **arrays)
    return path


def folder(path, masks, make=lambda m: Image.fromarray(m.astype(np.uint8) * 255), names=None, **options):
    path.mkdir()
    for i, mask in enumerate(masks):
        make(mask).save(path / f"{names[i] if names else i}.png", **options)
    return path


@pytest.fixture
def score(capsys):
    def scored(predictions, targets, *options):
        """The record, and what was said beside it."""
        arguments = ["score", "--predictions", str(predictions), "--targets", str(targets), "--json", *options]
        assert run(arguments) == 0
        done = capsys.readouterr()
        return json.loads(done.out), done.err

    return scored


@pytest.fixture
def refused(capsys):
    def why(predictions, targets, *options):
        with pytest.raises((DataFormatError, ConfigError)) as caught:
            run(["score", "--predictions", str(predictions), "--targets", str(targets), *options])
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return why


# -- which belongs to which --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sample_id", "image_id"])
def test_names_make_the_order_indifferent(tmp_path, score, name):
    masks = truth()
    t = lines(tmp_path / "t.jsonl", [{name: i, "segmentation": code(m)} for i, m in enumerate(masks)])
    p = lines(tmp_path / "p.jsonl", [{name: str(i), **code(masks[i])} for i in (3, 1, 2, 0)])
    assert score(p, t) == (score(t, t)[0], "")
    assert score(p, t)[0]["miou"] == 100


@pytest.mark.parametrize(
    "name",
    ["ref_id", "id", "ann_id", "annId", "ID", "key", "idx", "file_name", "fileName", "image", "img_path", "uuid"],
)
def test_a_name_that_is_not_known_is_no_place(tmp_path, refused, name):
    masks = truth()
    t = lines(tmp_path / "t.jsonl", [{"image_id": i, **code(m)} for i, m in enumerate(masks)])
    p = lines(tmp_path / "p.jsonl", [{name: i, **code(masks[i])} for i in (3, 1, 2, 0)])
    for files in ((p, t), (t, p), (p, p)):
        assert f"line 1: has {name}, but neither sample_id nor image_id" in refused(*files)


@pytest.mark.parametrize("field", ["category_id", "scene_id", "score", "iscrowd", "class_name", "area"])
def test_what_names_no_sample_may_stand_there(tmp_path, score, field):
    p = lines(tmp_path / "p.jsonl", [{field: "1", **code(m)} for m in truth()])
    record, said = score(p, p)
    assert record["miou"] == 100
    assert said == "rrsis score: no line names its sample, so predictions and targets were matched line by line\n"


def test_places_are_not_matched_with_names(tmp_path, refused):
    masks = truth()
    named = [
        lines(tmp_path / "image.jsonl", [{"image_id": i, **code(m)} for i, m in enumerate(masks)]),
        lines(tmp_path / "sample.jsonl", [{"sample_id": str(i), **code(m)} for i, m in enumerate(masks)]),
        folder(tmp_path / "images", masks),
    ]
    placed = [
        lines(tmp_path / "placed.jsonl", [code(masks[i]) for i in (3, 1, 2, 0)]),
        npz(tmp_path / "a.npz", masks, masks),
    ]
    for names in named:
        for places in placed:
            for files in ((names, places), (places, names)):
                assert "so they cannot be matched" in refused(*files)


def test_two_kinds_of_names_are_said(tmp_path, score):
    masks = truth()
    t = lines(tmp_path / "t.jsonl", [{"image_id": i, **code(m)} for i, m in enumerate(masks)])
    p = lines(tmp_path / "p.jsonl", [{"sample_id": str(i), **code(m)} for i, m in enumerate(masks)])
    assert score(p, t)[1] == "rrsis score: sample_id of the predictions were matched with image_id of the targets\n"
    assert "file names of the predictions" in score(folder(tmp_path / "p", masks), t)[1]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"sample_id": None}, {"sample_id": "b"}], "line 1: sample_id is null"),
        ([{"sample_id": "a"}, {"sample_id": None, "image_id": 3}], "line 2: sample_id is null"),
        ([{"image_id": 0}, {"sample_id": "a", "image_id": 1}], "line 2: has sample_id, earlier lines have image_id"),
        ([{"sample_id": "a"}, {}], "line 2: has line numbers, earlier lines have sample_id"),
        ([{}, {"image_id": 1}], "line 2: has image_id, earlier lines have line numbers"),
        ([{"image_id": 7}, {"image_id": 7}], "line 2: 7 occurs twice.*give several of one image a sample_id"),
        ([{"sample_id": 7}, {"sample_id": "7"}], "line 2: 7 occurs twice"),
        ([{"sample_id": True}], "line 1: sample_id"),
        ([{"sample_id": 1.0}], "line 1: sample_id"),
        ([{"sample_id": ["a"]}], "line 1: sample_id"),
        ([{"sample_id": "a", "expression": 12}], "line 1: expression"),
        ([{"sample_id": "a", "category": ["ship"]}], "line 1: category"),
        ([{"sample_id": "a", "scene_id": 1.5}], "line 1: scene_id"),
    ],
)
def test_lines_are_named_in_one_way(tmp_path, rows, words):
    path = lines(tmp_path / "p.jsonl", [{**row, **code(m)} for row, m in zip(rows, truth(), strict=False)])
    with pytest.raises(DataFormatError, match=words):
        run(["score", "--predictions", str(path), "--targets", str(path)])


def test_numbers_that_begin_elsewhere(tmp_path, refused, score):
    masks = truth(6)
    words = refused(npz(tmp_path / "a.npz", masks, masks, first=1), tmp_path / "a.npz")
    assert "1 of the 6 masks" in words
    assert "array numbers 1 … and array numbers 0 …" in words
    names = refused(folder(tmp_path / "p", masks, names=[f"{i:03d}" for i in range(6)]), folder(tmp_path / "t", masks))
    assert "file names 000 … and file names 0 …" in names
    # equal sets, shifted all the same
    shifted = npz(tmp_path / "b.npz", masks[-1:] + masks[:-1], masks)
    record, said = score(shifted, shifted)
    assert "6 predictions are not their own target but exactly that of another sample" in said
    assert any("if they were numbered one lower" in doubt for doubt in record["doubts"])
    shifted = npz(tmp_path / "c.npz", masks[1:] + masks[:1], masks)
    assert any("if they were numbered one higher" in doubt for doubt in score(shifted, shifted)[0]["doubts"])


def test_another_order_is_doubted(tmp_path, score):
    masks = truth(6)
    for name, order in (("a", (3, 0, 1, 5, 4, 2)), ("b", (5, 4, 3, 2, 1, 0))):
        t = lines(tmp_path / "t.jsonl", [code(m) for m in masks])
        p = lines(tmp_path / f"{name}.jsonl", [code(masks[i]) for i in order])
        record, said = score(p, t)
        assert record["miou"] < 90
        assert "order or their names differ" in said
    same = [{"sample_id": i, "expression": "the ship", **code(m)} for i, m in enumerate(masks)]
    other = [row | {"expression": "the car"} for row in same]
    said = score(lines(tmp_path / "p.jsonl", other), lines(tmp_path / "t.jsonl", same))[1]
    assert "6 samples have different expressions in predictions and targets" in said


def test_what_was_not_read_is_said(tmp_path, score, refused):
    masks = truth()
    p, t = folder(tmp_path / "p", masks), folder(tmp_path / "t", masks)
    Image.fromarray(masks[0].astype(np.uint8)).save(p / "9.webp")
    (p / "._0.png").write_bytes(b"\x00\x05\x16\x07")
    unread = "1 were not read, because they are not .png, .tif, .tiff, .bmp: 9.webp"
    assert score(p, t)[1] == f"rrsis score: {p}: {unread}\n"
    arrays = {f"pred_{i}": m for i, m in enumerate(masks)} | {f"target_{i}": m for i, m in enumerate(masks)}
    np.savez(tmp_path / "a.npz", **arrays, pred_4_logits=masks[0], categories=np.arange(4))
    assert (
        "1 were not read, because their names are not pred_ and a number: pred_4_logits"
        in score(tmp_path / "a.npz", tmp_path / "a.npz")[1]
    )


# -- which values mean what --------------------------------------------------------------------------------------------


def alpha(mask, colour=0):
    return Image.fromarray(np.dstack([np.full((*mask.shape, 3), colour), mask * 255]).astype(np.uint8), "RGBA")


def grey_alpha(mask):
    return Image.fromarray(np.dstack([np.zeros(mask.shape), mask * 255]).astype(np.uint8), "LA")


def palette(colours):
    def make(mask):
        image = Image.fromarray(mask.astype(np.uint8), "P")
        image.putpalette([value for colour in colours for value in colour])
        return image

    return make


BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (alpha, "partly transparent"),
        (lambda m: alpha(m, 255), "partly transparent"),
        (grey_alpha, "partly transparent"),
        (lambda m: Image.fromarray(np.dstack([m * 255, m * 0, m * 0]).astype(np.uint8)), "contains colours"),
        (palette([WHITE, BLACK]), "palette in which 0 is #ffffff, 1 is #000000: it is not clear"),
        (palette([BLACK, BLACK]), "it is not clear which is foreground"),
        (lambda m: Image.fromarray((m * 120 + 20).astype(np.uint8)), ", got 20, 140;"),
        (lambda m: Image.fromarray((m * 2 + np.eye(*SIZE)).astype(np.uint8)), ", got 0, 1, 2"),
        (lambda m: Image.fromarray(np.where(m, 1, 255).astype(np.uint8)), ", got 1, 255;"),
    ],
)
def test_an_image_that_may_mean_two_things(tmp_path, refused, make, words):
    masks = truth()
    p, t = folder(tmp_path / "p", masks, make), folder(tmp_path / "t", masks)
    assert words in refused(p, t)
    if "1, 255" not in words:
        assert words in refused(t, p)


@pytest.mark.parametrize(
    "make",
    [
        lambda m: Image.fromarray(m),
        lambda m: Image.fromarray(m.astype(np.uint8)),
        lambda m: Image.fromarray(m.astype(np.uint8) * 7),
        lambda m: Image.fromarray(m.astype(np.uint16) * 65535),
        lambda m: Image.fromarray(np.dstack([m.astype(np.uint8) * 255] * 3)),
        lambda m: Image.fromarray(np.dstack([m.astype(np.uint8) * 255] * 3 + [np.full(SIZE, 255, np.uint8)])),
        lambda m: Image.fromarray(np.dstack([m.astype(np.uint8) * 255] * 4)),
        palette([BLACK, RED]),
        palette([BLACK, WHITE]),
    ],
)
def test_an_image_that_means_one_thing(tmp_path, score, make):
    masks = truth()
    p, t = folder(tmp_path / "p", masks, make), folder(tmp_path / "t", masks)
    for files in ((p, t), (t, p)):
        record, said = score(*files)
        assert (record["miou"], said) == (100, "")


def test_palettes_and_orientations_are_said(tmp_path, score):
    masks = truth()
    t = folder(tmp_path / "t", masks)
    said = score(folder(tmp_path / "p", masks, palette([WHITE, RED])), t)[1]
    assert "4 masks have a palette; index 0 was read as background, though its colour is #ffffff" in said
    turned = Image.Exif()
    turned[0x0112] = 3
    p = folder(tmp_path / "turned", [m[::-1, ::-1] for m in masks], exif=turned)
    record, said = score(p, t)
    assert record["miou"] == 100
    assert "4 masks were rotated according to their EXIF orientation" in said


def test_files_that_are_no_single_mask(tmp_path, refused):
    masks = truth()
    t = folder(tmp_path / "t", masks)

    def changed(content):
        path = tmp_path / f"p{len(list(tmp_path.iterdir()))}"
        folder(path, masks)
        if callable(content):
            content(path / "2.png")
        else:
            (path / "2.png").write_bytes(content)
        return path

    def pipe(path):
        path.unlink()
        os.mkfifo(path)

    def nowhere(path):
        path.unlink()
        path.symlink_to("/nowhere/2.png")

    def saved(form, **options):
        out = io.BytesIO()
        Image.fromarray(masks[2]).convert("L").save(out, form, **options)
        return out.getvalue()

    second = {"save_all": True, "append_images": [Image.fromarray(~masks[2]).convert("L")]}
    whole, size = (t / "2.png").read_bytes(), b"IHDR\x00\x01\x00\x00\x00\x00\x7f\xff\x08\x00\x00\x00\x00"
    for content, words in (
        (saved("JPEG"), "is a JPEG file"),
        (saved("GIF"), "is a GIF file"),
        (saved("TIFF", **second), "contains several images"),
        (saved("PNG", **second), "contains several images"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 60 40\n", "PostScript"),
        (b"", "the file is empty"),
        (whole[:60], "cannot be read as an image"),
        (whole[:20] + bytes(100), "cannot be read as an image"),
        (whole[:12] + size + zlib.crc32(size).to_bytes(4) + whole[33:], "65,536 x 32,767 pixels"),
        (pipe, "pipe, device or socket"),
        (nowhere, "link to /nowhere/2.png"),
    ):
        started = time.perf_counter()
        with pytest.raises(RRSISError, match=words):
            run(["score", "--predictions", str(changed(content)), "--targets", str(t)])
        assert time.perf_counter() - started < 2


def test_255_beside_1_is_said(tmp_path, score, refused):
    masks = truth()
    off = [np.roll(m, 1) for m in masks]
    whole = npz(tmp_path / "a.npz", off, masks)
    background = npz(tmp_path / "b.npz", off, [np.where(m, 1, 255).astype(np.uint8) for m in masks])
    assert "255 may be the background" in refused(background, background)
    said_so = score(background, background, "--ignore-index", "255")[0]
    assert said_so["ignored_pixels"] > 0
    labels = [m.astype(np.uint8) for m in masks]
    labels[1][30:35] = 255
    ignoring = npz(tmp_path / "c.npz", off, labels)
    assert score(ignoring, ignoring)[1] == (
        "rrsis score: 300 pixels were left out: 255 is an ignore label in the 1 targets that also contain 1\n"
    )
    said = score(ignoring, ignoring, "--ignore-index", "255")[1]
    assert said == "rrsis score: 300 pixels with label 255 were left out, in 1 targets\n"
    assert "no target contains the label 9 to ignore" in score(whole, whole, "--ignore-index", "9")[1]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda m: np.where(m, 0.9, 0.2), "all lie in [0, 1], as probabilities do"),
        (lambda m: np.where(m, 1.0, 0.0) + np.float32(1e-3) * np.eye(*SIZE), "as probabilities do"),
        (lambda m: np.where(m, 1.001, -0.004), "as probabilities do"),
        (lambda m: np.where(m, 93.0, 4.0), "nowhere negative"),
        (lambda m: np.where(m, 200, 30).astype(np.uint8), "one other value, got 30, 200"),
        (lambda m: np.where(m, 2, 1), "one other value, got 1, 2"),
        (lambda m: np.where(m, 1, -1), "one other value, got -1, 1"),
        (lambda m: np.where(m, "True", "False"), "got <U5"),
        (lambda m: np.where(m, b"1", b"0"), "got |S1"),
        (lambda m: m.astype(complex), "got complex128"),
        (lambda m: m.astype("m8[s]"), "got timedelta64"),
        (lambda m: m.astype("M8[s]"), "got datetime64"),
        (lambda m: m.astype([("mask", bool)]), "not a plain array|got "),
        (lambda m: m.astype(object), "Python objects|cannot be read"),
        (lambda m: np.bool_(True), "shape (H, W), got ()"),
        (lambda m: m.reshape(-1), "shape (H, W), got (2400,)"),
        (lambda m: m[None], "shape (H, W), got (1, 40, 60)"),
        (lambda m: np.stack([~m, m], -1), "shape (H, W), got (40, 60, 2)"),
        (lambda m: np.stack([m, m, ~m], -1), "contains colours"),
        (lambda m: m[:0], "shape (H, W), got (0, 60)"),
        (lambda m: np.where(m, np.nan, -1.0), "not numbers"),
        (lambda m: np.where(m, np.nan, 1), "not numbers|as probabilities do"),
    ],
)
def test_arrays_that_are_no_masks_and_no_log_odds(tmp_path, make, words):
    masks = truth()
    with np.errstate(all="ignore"):
        arrays = {f"pred_{i}": make(m) for i, m in enumerate(masks)} | {f"target_{i}": m for i, m in enumerate(masks)}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataFormatError) as caught:
        run(["score", "--predictions", str(tmp_path / "a.npz"), "--targets", str(tmp_path / "a.npz")])
    assert any(word in str(caught.value) for word in words.split("|")), str(caught.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "make",
    [
        lambda m: np.where(m, np.inf, -np.inf).astype(np.float16),
        lambda m: np.where(m, np.inf, -np.inf).astype(np.float32),
        lambda m: np.where(m, np.inf, -np.inf),
        lambda m: np.where(m, 3e38, -3e38).astype(np.float32),
        lambda m: np.where(m, 1e308, -1e308),
        lambda m: np.where(m, np.inf, -np.inf).astype(np.longdouble),
        lambda m: np.where(m, 5, -5).astype(">f4"),
        lambda m: np.where(m, 255.0, 0.0),
        lambda m: m.astype(">i4") * 70_000,
        lambda m: m.astype(np.uint64) * np.uint64(2**63),
        lambda m: np.asfortranarray(m),
    ],
)
def test_arrays_of_every_kind_are_perfect(tmp_path, score, make, protocol):
    masks = [np.zeros((200, 200), np.bool_) for _ in range(2)]
    masks[0][30:150, 10:120] = masks[1][100:199, 0:200] = True
    path = npz(tmp_path / "a.npz", [make(m) for m in masks], [m.astype(">u2") for m in masks])
    record, said = score(path, path, "--protocol", protocol)
    assert record["miou"] > 98.5
    assert said == ""


# -- which way up ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "wrong", "words"),
    [
        (SIZE, np.logical_not, "inverted"),
        (SIZE, np.flipud, "flipped upside down"),
        (SIZE, np.fliplr, "mirrored"),
        (SIZE, lambda m: m[::-1, ::-1], "turned by 180 degrees"),
        (SIZE, lambda m: m.T.reshape(SIZE), "read by columns and not by rows"),
        (SIZE, lambda m: m.reshape(60, 40).T, "read by rows and not by columns"),
        ((50, 50), np.transpose, "transposed"),
        ((50, 50), np.rot90, "turned by 270 degrees"),
        ((50, 50), lambda m: np.rot90(m, 3), "turned by 90 degrees"),
    ],
)
@pytest.mark.parametrize("form", ["mask", "log-odds"])
def test_masks_that_would_score_better_otherwise(tmp_path, score, size, wrong, words, form):
    masks = truth(size=size)
    preds = [np.ascontiguousarray(wrong(m)) for m in masks]
    if form == "log-odds":
        preds = [np.where(p, 1.0, -1.0) for p in preds]
    path = npz(tmp_path / "a.npz", preds, masks)
    record, said = score(path, path)
    assert record["miou"] < 50
    assert f"would score an mIoU of 100.0 instead of {record['miou']:.1f} if they were {words}" in said
    assert record["doubts"] == [line.removeprefix("rrsis score: ") for line in said.splitlines()]


def test_run_lengths_by_rows(tmp_path, score):
    """COCO's run down the columns; other tools write them along the rows."""
    masks = truth()
    rows = [run_lengths(encode_mask(m.reshape(60, 40).T)).tolist() for m in masks]
    t = lines(tmp_path / "t.jsonl", [{"image_id": i, **code(m)} for i, m in enumerate(masks)])
    p = lines(tmp_path / "p.jsonl", [{"image_id": i, **code(m, counts=rows[i])} for i, m in enumerate(masks)])
    assert "if they were read by rows and not by columns" in score(p, t)[1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("make", [lambda m: m, lambda m: np.where(m, 3.0, -3.0)])
def test_a_prediction_on_its_side_is_refused(tmp_path, refused, make, protocol):
    masks = truth()
    path = npz(tmp_path / "a.npz", [make(m.T) for m in masks], masks)
    assert "is 60 x 40 (height x width), its target 40 x 60: one of them is transposed" in refused(
        path, path, "--protocol", protocol
    )


def test_another_aspect_is_said(tmp_path, score):
    masks = truth()
    path = npz(tmp_path / "a.npz", [np.where(m[:, 10:50], 3.0, -3.0) for m in masks], masks)
    assert "4 predictions differ from their targets in aspect ratio" in score(path, path)[1]


def test_inverted_or_empty_throughout_is_said(tmp_path, score):
    masks = truth()
    path = npz(tmp_path / "a.npz", [~m for m in masks], [~m for m in masks])
    assert "% of their images on average: are they inverted?" in score(path, path)[1]
    none = [m & False for m in masks]
    path = npz(tmp_path / "b.npz", none, masks)
    assert "no prediction has any foreground" in score(path, path)[1]
    path = npz(tmp_path / "d.npz", [np.where(m, -0.1, -3.0) for m in masks], masks)
    assert "nowhere above 0" in score(path, path)[1]
    path = npz(tmp_path / "c.npz", masks, none)
    assert "no target has any foreground" in score(path, path)[1]


def test_what_empty_targets_cost_is_said(tmp_path, score):
    masks = [*truth(), *[np.zeros(SIZE, np.bool_)] * 2]
    path = npz(tmp_path / "a.npz", masks, masks)
    begin = "rrsis score: 2 targets are empty; a prediction that is empty too has IoU "
    assert score(path, path)[1] == f"{begin}0 under canonical\n"
    every = "0 under canonical, lavt480, rs2sam2, evisam3; nan under rsrefseg; 100 under generalized\n"
    assert score(path, path, "--protocol", "all")[1] == begin + every


def test_an_ordinary_result_is_not_doubted(tmp_path, score):
    """Neither a good one, nor one that is bad in no particular way."""
    masks = truth(30)
    rng = np.random.default_rng(1)
    good = [m ^ (rng.random(SIZE) < 0.05) for m in masks]
    bad = [np.roll(m, rng.integers(5, 30, 2), (0, 1)) for m in masks]
    one = [np.roll(masks[0], 12, 1)] * 30
    for name, preds in (("good", good), ("bad", bad), ("one", one)):
        path = npz(tmp_path / f"{name}.npz", preds, masks)
        record, said = score(path, path)
        assert ("doubts" in record, said) == (False, ""), name


# -- files that lie ----------------------------------------------------------------------------------------------------


def header(shape, dtype="|b1", rest=b"\0\0\0\0"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-len(text) - 11 % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + rest


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (header((2**20, 2**20)), "1,099,511,627,776 values"),
        (header((2**31, 2**31)), "values"),
        (header((40, 60)), "damaged: its header says"),
        (header((2, 2), "<f16"), "damaged"),
        (header((2, 2), "|O"), "Python objects"),
        (header((-2, -2)), "shape|damaged|cannot be read"),
        (header((2, 2), "<q4"), "cannot be read"),
        (header("(" * 90 + ")" * 90), "damaged"),
        (header("(" * 9), "cannot be read"),
        (header("9" * 5000), "cannot be read"),
        (b"\x93NUMPY\x09\x00", "not a plain array"),
        (b"\x93NUMPY\x03\x00" + bytes(20), "not a plain array"),
        (b"", "cannot be read"),
        (b"no array", "cannot be read"),
    ],
)
def test_an_array_that_is_not_what_its_header_says(tmp_path, refused, content, words):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("pred_0.npy", content)
        file.writestr("target_0.npy", content)
    started = time.perf_counter()
    why = refused(path, path)
    assert any(word in why for word in words.split("|")), why
    assert time.perf_counter() - started < 2


def test_zip_files_that_lie(tmp_path, refused, monkeypatch):
    path = npz(tmp_path / "a.npz", truth(1), truth(1))
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):  # damaged anywhere: one of our errors, or nothing that matters was hit
        (tmp_path / "b.npz").write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        with np.errstate(all="ignore"), contextlib.suppress(RRSISError):
            run(["score", "--predictions", str(tmp_path / "b.npz"), "--targets", str(tmp_path / "b.npz")])
    with zipfile.ZipFile(tmp_path / "lzma.npz", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("pred_0.npy", header((2, 2)))
    assert "compressed in a way that numpy does not use" in refused(tmp_path / "lzma.npz", path)
    monkeypatch.setenv("RRSIS_ZOO_PIXEL_LIMIT", "1000")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("target_0.npy", header((100, 100), rest=bytes(10_000)))
    assert "10,000 values of 1 bytes; at most 1,000 pixels of 2 bytes each are read" in refused(
        path, tmp_path / "bomb.npz"
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"size": [2.9, 2], "counts": "04"}, "size.0: "),
        ({"size": ["2", 2], "counts": "04"}, "size.0: "),
        ({"size": [True, 2], "counts": [1, 1]}, "size.0: "),
        ({"size": [2, 2, 1], "counts": "04"}, "size: "),
        ({"size": [-2, -2], "counts": "04"}, "no pixels"),
        ({"size": [2**20, 2**20], "counts": [2**40]}, "more than"),
        ({"size": [2**40, 2**40], "counts": "0"}, "more than"),
        ({"size": [2, 2], "counts": [4.0]}, "counts"),
        ({"size": [2, 2], "counts": ["4"]}, "counts"),
        ({"size": [2, 2], "counts": [True, 3]}, "counts"),
        ({"size": [2, 2], "counts": [-1, 5]}, "at least 0"),
        ({"size": [2, 2], "counts": [2**70]}, "add up to|at least 0"),
        ({"size": [2, 2], "counts": "ß"}, "not a mask as run lengths"),
        ({"size": [2, 2], "counts": "05"}, "not the 2 x 2"),
        ({"size": [2, 2], "counts": ""}, "not a mask as run lengths"),
        ({"size": [2, 2], "counts": None}, "counts"),
        ({"segmentation": [[0, 0, 1, 1, 2, 2]]}, "not a mask as run lengths"),
        ({"segmentation": None}, "not a mask as run lengths"),
        ([1], "not a mask as run lengths"),
        (7, "not a mask as run lengths"),
    ],
)
def test_a_line_that_is_no_mask(tmp_path, refused, line, words):
    if isinstance(line, dict):
        line = {"sample_id": "b", **line}
    path = lines(tmp_path / "a.jsonl", [{"sample_id": "a", "size": [2, 2], "counts": "04"}, line])
    why = refused(path, path)
    assert "a.jsonl, line 2: " in why
    assert any(word in why for word in words.split("|")), why


def test_lines_that_are_no_json(tmp_path, refused):
    path, good = tmp_path / "a.jsonl.gz", b'{"sample_id": "a", "size": [2, 2], "counts": "04"}\n'
    for content, words in (
        (b"[" * 100_000, "nested too deeply"),
        (b"{", "is not JSON"),
        (b"\xff", "not UTF-8"),
        (b'{"sample_id": "\\ud800", "size": [2, 2], "counts": "04"}', "lone surrogate"),
        (bytes(2**26), "larger than such a file can be"),
    ):
        path.write_bytes(gzip.compress(good + content, 1))
        assert words in refused(path, path)
    path.write_bytes(gzip.compress(good * 1000)[:-30])
    assert "occurs twice" in refused(path, path)


def test_a_sentence_may_hold_any_separator(tmp_path, score):
    texts = ["a\u2028b", "a\u2029b", "a\x85b", "a\x0bb", "a\x0cb", "a\x1cb", "a\rb"]
    rows = [{"sample_id": i, "expression": t, **code(truth(1)[0])} for i, t in enumerate(texts)]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\r\n" for row in rows))
    assert score(path, path)[0]["n"] == len(texts)


@pytest.mark.parametrize("name", ["p.jsonl", "p.npz", "p"])
def test_what_is_no_regular_file(tmp_path, refused, name):
    os.mkfifo(tmp_path / name)
    t = npz(tmp_path / "t.npz", truth(1), truth(1))
    assert "pipe, device or socket" in refused(tmp_path / name, t)
    assert "too long" in refused("x" * 5000, t).lower()
