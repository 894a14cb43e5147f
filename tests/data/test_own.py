"""Your own data from a CSV or JSON lines file: what is read, what is wrong with a row, other layouts made of it."""

import csv
import json
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import warm
from rrsis_zoo.cli import run
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.dataset import RRSISDataset
from rrsis_zoo.data.describe import describe_record
from rrsis_zoo.data.imagery.picture import read_picture
from rrsis_zoo.data.layouts import LAYOUTS
from rrsis_zoo.data.masks import encode_mask
from rrsis_zoo.data.sources import SOURCES, ReadOptions
from rrsis_zoo.data.synthetic import make_sample
from rrsis_zoo.data.verify import verify
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError

ROOT = Path(__file__).parents[2]
SIZE = (40, 60)
MASK = np.zeros(SIZE, bool)
MASK[10:30, 5:45] = True
POLYGON = [5, 10, 45, 10, 45, 30, 5, 30]
RUNS = {"size": list(SIZE), "counts": encode_mask(MASK).decode()}
HEADER = ("image", "mask", "expression", "split", "category")
ROWS = [
    ("a.png", "masks/a.png", "the ship", "train", "ship"),
    ("a.png", json.dumps(POLYGON), "the grey ship", "train", "ship"),
    ("a.png", json.dumps(POLYGON), "a ship, grey", "train", "ship"),
    ("sub/b.jpg", json.dumps(RUNS), "the other ship", "train", ""),
    ("d.gif", json.dumps([POLYGON, [0, 0, 4, 0, 4, 4, 0, 4]]), "both", "val", ""),
    ("c.tif", "None", "the airplane", "test", ""),
    ("c.tif", json.dumps([RUNS]), "the café", "test", ""),
]


def read(root, split, **options):
    return SOURCES["folder"].read(root, split, ReadOptions(**options))


def write_csv(root, rows, header=HEADER, delimiter=",", name="samples.csv"):
    with (root / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])


def write_lines(root, rows):
    lines = []
    for row in rows:
        values = dict(zip(HEADER, row, strict=True))
        values["mask"] = json.loads(row[1]) if row[1][0] in "[{" else None if row[1] == "None" else row[1]
        lines.append(json.dumps({**values, "category": values["category"] or None}))
    (root / "samples.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture
def own(tmp_path):
    """Three pictures, the last with 16 bits, and masks in every form."""
    root = tmp_path / "harbours"
    (root / "masks").mkdir(parents=True)
    (root / "sub").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "a.png")
    Image.fromarray(255 - pixels).save(root / "sub/b.jpg")
    Image.fromarray(pixels[..., 0]).save(root / "d.gif")
    cv2.imwrite(str(root / "c.tif"), pixels.astype(np.uint16) * 37)
    Image.fromarray(MASK.astype(np.uint8)).save(root / "masks/a.png")
    write_csv(root, ROWS)
    return root


def test_masks_in_every_form_are_the_same(own):
    train, val, test = (read(own, split) for split in ("train", "val", "test"))
    for record in (*train, test[1]):
        np.testing.assert_array_equal(record.mask.decode(), MASK)
    assert val[0].mask.decode().sum() == MASK.sum() + 16
    assert [r.expression for r in (*train, *val, *test)] == [row[2] for row in ROWS]
    assert [r.category for r in train] == ["ship", "ship", "ship", None]
    assert (test[0].no_target, test[0].is_empty, test[0].mask.decode().shape) == (True, True, SIZE)
    # the row of the referent's first expression, and which of its expressions
    assert [r.sample_id for r in train] == [f"folder/train/{i}" for i in ("00002/0", "00003/0", "00003/1", "00005/0")]
    assert train[1].reference == train[2].reference != train[0].reference
    assert [r.scene_id for r in train] == ["folder/a.png"] * 3 + ["folder/sub/b.jpg"]


@pytest.mark.parametrize("form", ["semicolons", "tabs", "mark and CRLF", "lines", "the list itself"])
def test_other_forms_of_the_list_read_the_same(own, form):
    wanted = [[describe_record(r) for r in read(own, split)] for split in ("train", "val", "test")]
    (own / "samples.csv").rename(own / "old.txt")
    root = own
    if form == "semicolons":
        write_csv(own, ROWS, delimiter=";")
    elif form == "tabs":
        write_csv(own, ROWS, header=[name.upper() for name in HEADER], delimiter="\t", name="samples.tsv")
    elif form == "mark and CRLF":
        text = (own / "old.txt").read_text(encoding="utf-8").replace("\n", "\r\n")
        (own / "samples.csv").write_text("\ufeff" + text, encoding="utf-8", newline="")
    elif form == "lines":
        write_lines(own, ROWS)
    else:
        shutil.copy(own / "old.txt", own / "one.csv")
        shutil.copy(own / "old.txt", own / "two.csv")
        with pytest.raises(DataFormatError, match=r"2 lists in .* \(one\.csv, two\.csv\): name one"):
            read(own, "train")
        root = own / "two.csv"
    read_now = [[describe_record(r) for r in read(root, split)] for split in ("train", "val", "test")]
    if form == "lines":  # without a header all rows are one higher
        for one in [one for some in (*read_now, *wanted) for one in some]:
            del one["sample_id"]
    assert read_now == wanted


def test_deep_pictures_are_those_of_segment(own):
    """16 bits a channel, which published data sets may not have."""
    (sample, _) = RRSISDataset(read(own, "test")).__getitems__([0, 1])
    np.testing.assert_array_equal(sample.image.permute(1, 2, 0).numpy(), read_picture(own / "c.tif").pixels)
    assert sample.image.max() == 255
    assert RRSISDataset(read(own, "test")).misaligned() == []


def test_verify_and_the_name_in_results(own, capsys):
    assert run(["data", "verify", "--dataset", "folder", "--root", str(own)]) == 0
    said = capsys.readouterr().out
    assert "1 expression without a target; an empty mask is intended" in said
    assert run(["data", "stats", "--dataset", "folder", "--root", str(own)]) == 0
    for root in (own, own / "samples.csv"):
        assert RRSISDataModule("folder", str(root)).identity("train") == ("harbours", False)
    with pytest.raises(ConfigError, match="is the name of a published dataset"):
        RRSISDataModule("folder", str(own), name="RRSIS-D").identity("train")
    with pytest.raises(MissingDataError, match=r"needs the folder of your list.*set data\.root"):
        RRSISDataModule("folder").check()


def test_equal_pictures_in_two_splits_are_found(own):
    shutil.copy(own / "a.png", own / "copy.png")
    write_csv(own, [*ROWS, ("copy.png", "masks/a.png", "the ship", "val", "")])
    report = verify("folder", own)
    (leak,) = [f for f in report.findings if f.is_fault]
    assert leak.what == "equal scenes across splits"


def test_splits_that_no_row_has_are_not_expected(own, capsys):
    write_csv(own, [row for row in ROWS if row[3] != "test"])
    assert verify("folder", own).passed
    assert run(["data", "list", "--dataset", "folder", "--root", str(own)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    with pytest.raises(MissingDataError, match="has no row of split 'test'"):
        read(own, "test")


def test_options(own):
    Image.new("L", SIZE[::-1]).save(own / "masks/a.png")
    assert [r.is_empty for r in read(own, "train")] == [True, False, False, False]
    assert len(read(own, "train", drop_empty=True)) == 3
    assert [r.no_target for r in read(own, "test", drop_empty=True)] == [True, False]
    assert [r.no_target for r in read(own, "test", drop_no_target=True)] == [False]
    (fault,) = [f for f in verify("folder", own).findings if f.is_fault]
    assert (fault.what, fault.where) == ("empty masks", ["folder/train/00002/0"])
    Image.fromarray(MASK.astype(np.uint8) * 9).save(own / "masks/a.png")
    assert read(own, "train", threshold=9)[0].is_empty
    with pytest.raises(ConfigError, match="threshold must be 0 to 254"):
        read(own, "train", threshold=300)
    with pytest.raises(ConfigError, match="layers='any' does not apply"):
        read(own, "train", layers="any")


ROW = {"image": "a.png", "mask": "masks/a.png", "expression": "the ship", "split": "train", "category": "ship"}
FAULTS = [
    ({"image": ""}, "row 8: image is blank"),
    ({"image": "e.png"}, "row 8: there is no file 'e.png' in '.*harbours'"),
    ({"mask": "masks/d.png"}, "row 8: there is no file 'masks/d.png'"),
    ({"image": "../a.png"}, r"row 8: image '\.\./a\.png' must be a path below '.*harbours'"),
    ({"mask": "/etc/a.png"}, "row 8: mask '/etc/a.png' must be a path below"),
    ({"mask": "masks\\a.png"}, "row 8: mask .* with / between folders"),
    ({"mask": "a.png"}, "row 8: mask and image are the same file"),
    ({"mask": " "}, "row 8: mask is blank; where nothing in the image fits the expression, write none"),
    ({"mask": "[1, 2, 3, 4]"}, "row 8: mask: .* a polygon must be at least three points x, y"),
    ({"mask": "[[1, 2, 3, 4, 5"}, "row 8: mask is not JSON"),
    ({"mask": "{}"}, "row 8: mask: .* run lengths need a size of two integers"),
    ({"mask": '{"size": [60, 40], "counts": [2400]}'}, "row 8: mask: its run lengths are of 60 x 40 .* has 40 x 60"),
    ({"mask": "[]"}, r"row 8: mask must be the name of an image file, run lengths .*, or none; got '\[\]'"),
    ({"mask": "[1, 1, 900, 1, 5, 5]"}, "row 8: mask: .* a polygon has a point far outside its 40 x 60 mask"),
    ({"expression": " "}, "row 8: expression is blank"),
    ({"expression": "a" * 20000}, "row 8: expression: the sentence has 20,000 characters"),
    ({"split": "training"}, "row 8: split 'training' is not train, val or test; did you mean train"),
    ({"split": "x"}, "row 8: split 'x' is not train, val or test$"),
]


@pytest.mark.parametrize(("changes", "message"), FAULTS, ids=[str(n) for n in range(len(FAULTS))])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_bad_row_is_named_with_what_was_expected(own, changes, message, kind):
    row = tuple({**ROW, **changes}.values())
    if kind == "csv":
        write_csv(own, [*ROWS[:6], row])
    else:
        (own / "samples.csv").unlink()
        lines = [json.dumps(ROW)] * 7 + [json.dumps(dict(zip(HEADER, row, strict=True)))]
        (own / "samples.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataFormatError, match=rf"samples\.{kind}, .*{message}"):
        read(own, "train")
    report = verify("folder", own)
    assert not report.passed


def test_several_bad_rows_are_named_at_once(own):
    write_csv(own, [*ROWS, *(("a.png", "masks/a.png", "", "train", "") for _ in range(9)), ("a.png", "masks/a.png")])
    with pytest.raises(DataFormatError) as caught:
        read(own, "train")
    said = str(caught.value)
    assert "row 9: expression is blank; row 10: expression is blank" in said
    assert said.endswith("; and 5 more rows")
    write_csv(own, [*ROWS, ("a.png", "masks/a.png")])
    with pytest.raises(
        DataFormatError, match=r"row 9: has 2 cells, the header 5: put texts that contain ',' in quotes"
    ):
        read(own, "val")  # whatever the split


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is blank; expected: a CSV file with the columns"),
        (b"file,mask,expression,split\n", r"row 1: the columns are file, .*; image is missing"),
        (b"image,mask,mask,expression,split\n", "mask occurs more than once"),
        (b"image,mask,expression,split,catgory\n", "did you mean category by catgory"),
        ("image,mask,expression,split\na.png,none,the ship,train\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("image,mask,expression,split\na.png,none,café,train\n".encode("latin-1"), "row 2: is not UTF-8"),
        (b'image,mask,expression,split\na.png,none,"x' + b"y" * 2**25, "row 2: is not a row of a table"),
        (b'image,mask,expression,split\na.png,none,"the ship,train\n', "row 2: is not a row of a table"),
        (b"<!DOCTYPE html><html>", "it is a web page"),
    ],
)
def test_a_list_that_is_none_is_named(own, content, message):
    (own / "samples.csv").write_bytes(content)
    with pytest.raises(DataFormatError, match=message):
        read(own, "train")


def test_lines_that_are_none_are_named(own):
    (own / "samples.csv").unlink()
    lines = [json.dumps(ROW), "{", "[1]", json.dumps({**ROW, "expression": 3}), json.dumps({"picture": "a", **ROW})]
    lines.append(json.dumps({k if k != "expression" else "expresion": v for k, v in ROW.items()}))
    (own / "samples.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataFormatError) as caught:
        read(own, "train")
    for part in (
        "row 2: it is not JSON",
        "row 3: must be an object, got list",
        "row 4: expression must be a text, got int",
        "row 6: expression is missing; it has image, mask, expresion, split, category; did you mean expression by expr",
    ):
        assert part in str(caught.value)
    assert "row 5" not in str(caught.value)


def test_where_there_is_no_list(own, tmp_path):
    (own / "samples.csv").unlink()
    with pytest.raises(MissingDataError, match=r"no list \(\*\.csv, .*\) in .*expected: a CSV file"):
        read(own, "train")
    with pytest.raises(MissingDataError, match="there is no such folder"):
        read(tmp_path / "nowhere", "train")


# -- other layouts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_written_in_every_published_layout(own, tmp_path, layout, capsys):
    """The same sentences and masks, read by that data set's reader; what it cannot hold is refused by row."""
    kind, target = LAYOUTS[layout], tmp_path / "out"
    make = ["data", "make", "--from", str(own), "--layout", layout, "--root", str(target)]
    if not kind.holds_no_target:
        with pytest.raises(ConfigError, match=r"harbours, row 7, 8: .* has no (target|split)"):
            run(make)
        assert not target.exists()
        write_csv(own, [row for row in ROWS if row[1] != "None" and row[3] in kind.splits])
    assert run(make) == 0
    assert f"--data.dataset {layout} --data.root {target}" in capsys.readouterr().out
    for split in SOURCES[layout].splits:
        before = {r.expression: r for r in read(own, split)}
        after = SOURCES[layout].read(target, split, ReadOptions())
        assert sorted(r.expression for r in after) == sorted(before)
        for record in after:
            mine = before[record.expression]
            np.testing.assert_array_equal(record.mask.decode(), mine.mask.decode())
            assert record.no_target == mine.no_target
            pixels = RRSISDataset([record])[0].image.permute(1, 2, 0).numpy().astype(int)
            assert np.abs(pixels - read_picture(mine.image_path).pixels).mean() < 12
    with pytest.raises(ConfigError, match="is there already"):
        run(make)


def test_options_of_make_from(own, tmp_path):
    make = ["data", "make", "--from", str(own)]
    with pytest.raises(ConfigError, match="--from needs --root FOLDER"):
        run(make)
    with pytest.raises(ConfigError, match="--size, --seed is for drawn scenes"):
        run([*make, "--root", str(tmp_path / "x"), "--size", "64", "--seed", "3"])
    with pytest.raises(ConfigError, match="unknown layout for --from 'scene'"):
        run([*make, "--root", str(tmp_path / "x"), "--layout", "scene"])


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_five_commands_from_pictures_to_a_model(tmp_path):
    """An empty folder, twenty pictures and a CSV: the page's commands, to the letter."""
    page = (ROOT / "docs/start/your_own_images.md").read_text(encoding="utf-8")
    (block,) = [part.partition("```")[0] for part in page.split("```sh\n")[1:]]
    commands = [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()]
    assert len(commands) == 5
    (tmp_path / "mydata/pictures").mkdir(parents=True)
    (tmp_path / "mydata/masks").mkdir()
    rows = []
    for number in range(1, 21):
        split = "train" if number <= 10 else "val" if number <= 15 else "test"
        sample = make_sample("train", number, size=64)
        things = sample.scene.objects
        Image.fromarray(sample.scene.image).save(tmp_path / f"mydata/pictures/{number:02d}.png")
        mask = things[sample.expressions[0].referent].mask
        Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / f"mydata/masks/{number:02d}.png")
        rows.append((f"pictures/{number:02d}.png", f"masks/{number:02d}.png", sample.expressions[0].text, split))
    rows.append(("pictures/01.png", "none", "the sea monster", "train"))
    write_csv(tmp_path / "mydata", rows, header=HEADER[:4])
    for words in commands:
        assert words[0] == "rrsis"
        done = warm.command(words[1:], tmp_path)
        assert done.returncode == 0, (words, done.stdout + done.stderr)
        if words[1] == "fit":
            assert "1 of 11 training expressions have no target" in done.stdout + done.stderr
    record = json.loads((tmp_path / "runs/rsrefseg/test/version_0/test.json").read_text())
    assert (record["dataset"], record["n"], record["untrained"]) == ("mydata", 5, False)
    assert (tmp_path / "out.png").is_file()
    assert (tmp_path / "my-rsrefseg/model.safetensors").is_file()
