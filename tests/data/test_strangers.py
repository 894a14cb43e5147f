"""Annotation files of strangers: other programs' texts, wrong shapes, paths that lead elsewhere, bombs."""

import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rrsis_zoo.cli import run
from rrsis_zoo.data.layouts import Referent, ReferredScene, write_refsegrs
from rrsis_zoo.data.masks import RunLengths, encode_mask, encode_polygon, encode_runs
from rrsis_zoo.data.plain_pickle import read_plain_pickle
from rrsis_zoo.data.refsegrs import read_refsegrs
from rrsis_zoo.data.rrsisd import read_rrsisd
from rrsis_zoo.data.sentences import characters, sentence, visible
from rrsis_zoo.data.synthetic import contact_sheet, make_synthetic
from rrsis_zoo.data.synthetic.read import read_synthetic
from rrsis_zoo.data.verify import verify
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError, RRSISError

# -- texts of other programs -------------------------------------------------------------------------------------------

TEXT = "the ship\u2019s dock near the café"


class AsPython2(pickle._Pickler):
    """Pickles texts as Python 2 did its byte strings, in some encoding."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012
    encoding = "utf-8"

    def save_str(self, text):
        content = text.encode(self.encoding)
        if self.proto == 0:
            self.write(b"S" + repr(content)[1:].encode() + b"\n")
        elif len(content) < 256:
            self.write(b"U" + bytes([len(content)]) + content)
        else:
            self.write(b"T" + len(content).to_bytes(4, "little") + content)
        self.memoize(text)

    dispatch[str] = save_str


def as_python2(value, protocol, encoding="utf-8"):
    out = io.BytesIO()
    pickler = AsPython2(out, protocol)
    pickler.encoding = encoding
    pickler.dump(value)
    return out.getvalue()


@pytest.mark.parametrize("protocol", [0, 1, 2])
@pytest.mark.parametrize("long", [1, 20])
def test_strings_of_python_2_are_utf_8_before_they_are_latin_1(tmp_path, protocol, long):
    path = tmp_path / "refs(unc).p"
    for text, encoding in ((TEXT * long, "utf-8"), ("the café" * 40 * long, "latin-1"), ("the dock" * long, "ascii")):
        path.write_bytes(as_python2([{"raw": text, "sent": [text], "id": 3}], protocol, encoding))
        assert read_plain_pickle(path) == [{"raw": text, "sent": [text], "id": 3}]
    path.write_bytes(pickle.dumps([TEXT, {"a": TEXT}], protocol))
    assert read_plain_pickle(path) == [TEXT, {"a": TEXT}]


def test_each_string_of_python_2_is_looked_at_for_itself(tmp_path):
    """One in Latin-1 leaves the others alone, and texts that Python 2 knew as such stay."""
    utf8, latin, text = "’é".encode(), "é".encode("latin-1"), "\u2019"
    content = b"\x80\x02](" + b"".join(b"U" + bytes([len(c)]) + c for c in (utf8, latin))
    content += b"X" + len(text.encode()).to_bytes(4, "little") + text.encode() + b"e."
    (tmp_path / "x.p").write_bytes(content)
    assert read_plain_pickle(tmp_path / "x.p") == ["’é", "é", "’"]


def test_references_of_python_2_reach_the_records(tree):
    path = tree / "rrsisd/refs(unc).p"
    refs = pickle.loads(path.read_bytes())
    refs[0]["sentences"][0]["raw"] = TEXT
    for protocol in (0, 1, 2):
        path.write_bytes(as_python2(refs, protocol))
        assert read_rrsisd(tree, "train")[0].expression == TEXT


def test_halves_of_a_character_are_joined_or_refused(tree, edit):
    edit(tree, refs=lambda refs: refs[0]["sentences"][0].update(raw="a \ud83d\udea2 ship"))
    assert read_rrsisd(tree, "train")[0].expression == "a 🚢 ship"
    for half in ("\ud800", "\udc80", "a\udfff", "\udea2\ud83d"):
        edit(tree, refs=lambda refs, half=half: refs[0]["sentences"][0].update(raw=f"ship {half}"))
        with pytest.raises(DataFormatError, match=r"ref 1, sentence 0: field 'raw': contains half a character .*U\+D"):
            read_rrsisd(tree, "train")
        report = verify("rrsis-d", tree, complete=False)
        (said,) = [f.where for f in report.findings if f.is_fault and f.what == "splits that cannot be read"]
        assert "half a character" in said[0]
        report.text().encode("utf-8")


@pytest.mark.parametrize("half", ["\\ud800", "x\\udfff"])
def test_halves_in_json_are_refused(tree, half):
    path = tree / "rrsisd/instances.json"
    content = path.read_text()
    for known in ("00001.jpg", '"name": "ship"'):
        assert known in content
        path.write_text(content.replace(known, known[:-1] + half + known[-1]))
        with pytest.raises(RRSISError) as caught:
            read_rrsisd(tree, "train")
        str(caught.value).encode("utf-8")
    path.write_text(content)


def test_a_sentence_is_one_line_of_text():
    assert sentence(" \ufeff the  cafe\u0301\u2028x \n", "x") == "the  café\u2028x"
    assert characters("a\ud83d\udea2", "x") == "a🚢"
    assert visible("a\tb\x1b[31m\x00\u2028\u202e é 🚢\xa0") == "a\\tb\\x1b[31m\\x00\\u2028\\u202e é 🚢\xa0"
    with pytest.raises(DataFormatError, match=r"line 3: the sentence has 20,000 characters"):
        sentence("a" * 20000, "line 3")


@pytest.fixture
def rs(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
    mask = np.zeros((32, 40), bool)
    mask[4:20, 8:30] = True
    write_refsegrs(
        tmp_path / "rs", [ReferredScene(image, [Referent(mask, ["ship"], "ship")], s) for s in ("train", "val", "test")]
    )
    return tmp_path / "rs"


def test_control_characters_are_kept_told_and_not_obeyed(rs, capsys):
    said = "the\x00red\x1b[31m ship\u202e\tx"
    (rs / "output_phrase_train.txt").write_bytes(f"1 {said}\r\n".encode())
    assert [r.expression for r in read_refsegrs(rs, "train")] == [said]
    assert run(["data", "list", "--dataset", "refsegrs", "--root", str(rs), "--split", "train"]) == 0
    (line,) = capsys.readouterr().out.split("\n")[:-1]
    assert line.endswith("the\\x00red\\x1b[31m ship\\u202e\\tx")
    assert run(["data", "verify", "--dataset", "refsegrs", "--root", str(rs), "--part"]) in (0, 1)
    told = capsys.readouterr().out
    assert "1 sentence with tabs, line breaks or control characters" in told
    assert "\x1b" not in told
    assert "\x00" not in told


def test_joined_phrase_files_have_marks_inside(rs):
    (rs / "output_phrase_train.txt").write_bytes("\ufeff1 ship\n".encode() + "\ufeff2 pier\r\n".encode())
    assert [(r.image_file, r.expression) for r in read_refsegrs(rs, "train")] == [
        ("images/1.tif", "ship"),
        ("images/2.tif", "pier"),
    ]


def test_utf_16_is_named(rs):
    (rs / "output_phrase_train.txt").write_bytes("1 ship\n".encode("utf-16"))
    with pytest.raises(DataFormatError, match=r"line 1: is not UTF-8 but UTF-16; .*iconv -f utf-16"):
        read_refsegrs(rs, "train")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer, .*git lfs pull"),
        (b"/annex/objects/SHA256E-s1--0\n", "a git-annex pointer, .*git annex get"),
        (b"<!DOCTYPE html><html>Quota exceeded</html>", "a web page, not the annotations"),
    ],
)
def test_what_stands_in_place_of_the_annotations_is_named(rs, tree, content, said):
    (rs / "output_phrase_train.txt").write_bytes(content)
    with pytest.raises(DataFormatError, match=rf"output_phrase_train\.txt: it is {said}"):
        read_refsegrs(rs, "train")
    for name in ("instances.json", "refs(unc).p"):  # the second is read first
        (tree / "rrsisd" / name).write_bytes(content)
        with pytest.raises(DataFormatError, match=rf"{re.escape(name)}: it is {said}"):
            read_rrsisd(tree, "train")


def test_a_line_that_goes_on_for_megabytes_is_refused(rs):
    (rs / "output_phrase_train.txt").write_bytes(b"1 " + b"ship " * 400_000)
    with pytest.raises(DataFormatError, match=r"line 1: the sentence has 2,000,000 characters"):
        read_refsegrs(rs, "train")


# -- bombs -------------------------------------------------------------------------------------------------------------

PICKLES = {
    "place in the memory": b"]r\xff\xff\xff\x0f.",
    "place in text": b"]p4000000000\n.",
    "place that is no number": b"]p-1\n.",
    "text of 1 TiB": b"\x8d" + (2**40).to_bytes(8, "little") + b"x.",
    "bytes of 4 GiB": b"B" + (2**32 - 1).to_bytes(4, "little") + b"x.",
    "byte array of 1 TiB": b"\x96" + (2**40).to_bytes(8, "little") + b"x.",
    "string of 2 GiB": b"T" + (2**31 - 1).to_bytes(4, "little") + b"x.",
    "number of 2 GiB": b"\x8b" + (2**31 - 1).to_bytes(4, "little") + b"x.",
    "negative length": b"\x8b" + (2**32 - 5).to_bytes(4, "little") + b"x.",
    "frame of 2^62": b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"].",
    "digits": b"I" + b"9" * 100_000 + b"\n.",
    "no end": b"](((((",
    "cut in a line": b"S'abc",
    "cut in a pair of lines": b"cos\nsystem",
    "unknown instruction": b"\xff.",
    "out of band": b"\x97.",
    "extension": b"\x82\x01.",
    "persistent": b"Px\n.",
    "a call": b"cos\nsystem\n(S'true'\ntR.",
    "a class of old": b"(S'true'\nios\nsystem\n.",
    "text": b"no pickle at all",
    "": b"",
}


def within(code, seconds=4):
    """Run code that may have half a gigabyte beyond what the imports take."""
    limit = "import resource, rrsis_zoo.data.sources\nfrom pathlib import Path\n"
    limit += "used = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
    limit += "resource.setrlimit(resource.RLIMIT_AS, (used + 2**29,) * 2)\n"
    done = subprocess.run([sys.executable, "-c", limit + code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    slow = [line for line in done.stdout.splitlines() if float(line.partition(" ")[0]) > seconds]
    assert not slow
    return done.stdout.splitlines()


def test_a_few_bytes_of_pickle_cannot_take_gigabytes(tmp_path):
    for number, content in enumerate(PICKLES.values()):
        (tmp_path / f"{number:02d}.p").write_bytes(content)
    nested = b"]" * 200_000 + b"a" * 199_999 + b"."
    (tmp_path / "nested.p").write_bytes(nested)
    said = within(
        "import time\nfrom rrsis_zoo.data.plain_pickle import read_plain_pickle\n"
        "from rrsis_zoo.errors import DataFormatError\n"
        f"for path in sorted(Path({str(tmp_path)!r}).iterdir()):\n"
        "    start = time.monotonic()\n"
        "    try:\n        read_plain_pickle(path)\n        what = 'read'\n"
        "    except DataFormatError as error:\n        what = str(error)\n"
        "    print(f'{time.monotonic() - start:.2f} {what}')\n"
    )
    assert len(said) == len(PICKLES) + 1
    assert said[-1].endswith(" read")
    for line in said[:-1]:
        assert "cannot be read as a pickle of plain values" in line
    assert "only plain Python values are read" in said[list(PICKLES).index("a call")]


@pytest.mark.parametrize("case", PICKLES)
def test_references_that_are_no_pickle_are_named(tree, case):
    (tree / "rrsisd/refs(unc).p").write_bytes(PICKLES[case])
    with pytest.raises(DataFormatError, match=r"refs\(unc\)\.p: cannot be read as a pickle of plain values \(.+\)"):
        read_rrsisd(tree, "train")


def test_run_lengths_cannot_ask_for_terabytes():
    side = 2**20
    counts = encode_counts([0] * 2 + [2**33] * 128)
    assert len(counts) < 1000
    for height, width in ((side, side), (2**40, 1), (1, 2**40), (10**400, 10**400)):
        with pytest.raises(ValueError, match="a mask has more than 536,870,912 pixels, the limit"):
            RunLengths((counts,), height, width)
        with pytest.raises(ValueError, match="more than"):
            encode_runs([height * width], height, width)
        with pytest.raises(ValueError, match="more than"):
            encode_polygon([0, 0, 1, 1, 0, 1], height, width)


def encode_counts(runs):
    """COCO's code by its definition, for numbers of any size."""
    out = bytearray()
    for i, run_length in enumerate(runs):
        left = run_length - (runs[i - 2] if i > 2 else 0)
        while True:
            group, left = left & 0x1F, left >> 5
            more = left != (-1 if group & 0x10 else 0)
            out.append(48 + group + (0x20 if more else 0))
            if not more:
                break
    return bytes(out)


@pytest.mark.parametrize(
    ("height", "width"),
    [(2.9, 4), ("2", 4), (True, 4), (None, 4), (-2, -4), (0, 4), (float("nan"), 4), ([2], 4), (2.0, 4)],
)
def test_sizes_are_two_whole_numbers(height, width):
    for make in (
        lambda: RunLengths((b"8",), height, width),
        lambda: encode_runs([8], height, width),
        lambda: encode_polygon([0, 0, 2, 2, 0, 2], height, width),
    ):
        with pytest.raises(ValueError, match=r"size must be two integers|has no pixels"):
            make()


@pytest.mark.parametrize(
    "runs", [[8.0], [True] * 8, ["8"], [None], [2**70, -(2**70) + 8], [float("inf")], [9], [], [[8]]]
)
def test_runs_are_whole_numbers_that_fill_the_mask(runs):
    with pytest.raises(ValueError, match="run lengths must be integers"):
        encode_runs(runs, 2, 4)


@pytest.mark.parametrize(
    "points",
    [
        *(
            [0, 0, 5, 5, value, 2]
            for value in (float("nan"), float("inf"), 1e300, 10**400, -(10**9), "3", None, True, [1])
        ),
        [0, 0, 5, 5, 2],
        [0, 0, 5, 5],
        [0, 0, 9, 9] * 3000,
    ],
)
def test_points_that_are_no_polygon(points):
    with pytest.raises(ValueError, match="polygon"):
        encode_polygon(points, 10, 10)


def test_a_large_polygon_is_read_and_an_endless_one_is_not():
    angles = np.linspace(0, 2 * np.pi, 5000)
    points = np.stack([500 + 400 * np.cos(angles), 500 + 400 * np.sin(angles)], 1).ravel().tolist()
    area = RunLengths((encode_polygon(points, 1000, 1000),), 1000, 1000).decode().sum()
    assert area == pytest.approx(np.pi * 400**2, rel=0.01)
    with pytest.raises(ValueError, match=r"outline of \d+ pixels, more than"):
        encode_polygon([0, 0, 20000, 20000] * 60 + [0, 20000], 20000, 20000)


def test_many_layers_cost_what_their_runs_cost():
    mask = np.random.default_rng(0).random((40, 50)) < 0.3
    dots = np.zeros((400, 40, 50), bool)
    for i, (y, x) in enumerate(np.argwhere(mask)[:400]):
        dots[i, y, x] = True
    source = RunLengths(tuple(map(encode_mask, dots)), 40, 50)
    np.testing.assert_array_equal(source.decode(), dots.sum(0) == 1)


def test_json_of_instances_with_a_bomb_is_refused(tree, edit):
    for segmentation in (
        [{"size": [2**20, 2**20], "counts": encode_counts([2**33] * 128).decode()}],
        [{"size": [2**20, 2**20], "counts": [2**40]}],
        [{"size": [24.0, 32], "counts": "P`0"}],
        [{"size": ["24", "32"], "counts": "P`0"}],
        [{"size": [True, 768], "counts": "P`0"}],
        [{"size": [24, 32], "counts": [768.0]}],
        [{"size": [24, 32], "counts": 5}],
        [{"size": [[24], 32], "counts": "P`0"}],
        [{"size": [24, 32], "counts": "é"}],
        [[0, 0, 1e308, 1e308, 0, 5]],
        [[0, 0, [], 1, 0, 5]],
        [{}],
        [[]],
        [None],
    ):
        edit(tree, instances=lambda c, s=segmentation: c["annotations"][0].update(segmentation=s))
        with pytest.raises(DataFormatError, match=r"instances\.json: annotation 1: its segmentation cannot be read: "):
            read_rrsisd(tree, "train")


# -- wrong shapes ------------------------------------------------------------------------------------------------------

WRONG = [None, True, 2.5, -1, 10**400, "x", [], {}, [[]], [None], {"a": 1}]


@pytest.mark.parametrize("part", ["images", "annotations", "categories"])
def test_every_field_of_the_instances_may_be_anything(tree, part):
    path = tree / "rrsisd/instances.json"
    good = json.loads(path.read_text())
    tried, refused = 0, []
    for where in [(part,), (part, 0), *((part, 0, key) for key in good[part][0])]:
        for wrong in WRONG:
            content = json.loads(json.dumps(good))
            holder = content
            for key in where[:-1]:
                holder = holder[key]
            holder[where[-1]] = wrong
            path.write_text(json.dumps(content))
            tried += 1
            try:
                for record in read_rrsisd(tree, "train"):
                    record.mask.decode()
            except (DataFormatError, MissingDataError) as error:
                refused.append(str(error))
    assert len(refused) > tried / 2
    assert all(len(message) < 1000 and "\n" not in message for message in refused)


def test_every_field_of_the_references_may_be_anything(tree):
    path = tree / "rrsisd/refs(unc).p"
    good = pickle.loads(path.read_bytes())
    refused = 0
    for where in [(), (0,), *((0, key) for key in good[0]), (0, "sentences", 0), (0, "sentences", 0, "raw")]:
        for wrong in [*WRONG, b"x", (1, 2)]:
            content = [pickle.loads(pickle.dumps(good))]
            holder, keys = content, (0, *where)
            for key in keys[:-1]:
                holder = holder[key]
            holder[keys[-1]] = wrong
            path.write_bytes(pickle.dumps(content[0]))
            try:
                read_rrsisd(tree, "train")
            except (DataFormatError, MissingDataError):
                refused += 1
    assert refused > 60


@pytest.mark.parametrize(
    "name", ["../00001.jpg", "/etc/passwd", "..", ".", "", "a/../00001.jpg", "a\\b.jpg", "x\x00.jpg"]
)
def test_a_file_name_does_not_lead_out_of_its_folder(tree, edit, name):
    edit(tree, instances=lambda c: c["images"][0].update(file_name=name))
    with pytest.raises(
        DataFormatError, match=r"image 1: field 'file_name': .* must be the name of a file in its folder"
    ):
        read_rrsisd(tree, "train")


def test_an_id_of_a_phrase_does_not_either(rs):
    shutil.copy(rs / "images/1.tif", rs / "secret.tif")
    for name in ("../secret", f"{rs}/secret", "./1"):
        (rs / "output_phrase_train.txt").write_text(f"{name} ship\n")
        with pytest.raises(DataFormatError, match=r"line 1: .* must be the name of a file in its folder"):
            read_refsegrs(rs, "train")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made") / "synthetic"
    make_synthetic(root, scenes=3, size=64, expressions=1, processes=1)
    return root


def test_a_sidecar_may_hold_anything(made, tmp_path):
    root = Path(shutil.copytree(made, tmp_path / "copy"))
    path = root / "synthetic.json"
    good = json.loads(path.read_text())
    contact_sheet(root, tmp_path / "sheet.png")
    sheets, refused = 0, []
    for where in [
        *((key,) for key in ("version", "layout", "size", "images", "expressions")),
        *(("images", 0, key) for key in ("id", "file_name", "split", "objects")),
        *(("images", 0, "objects", 0, key) for key in ("bbox", "segmentation")),
        *(("images", 0, "objects", 0, "segmentation", key) for key in ("size", "counts")),
        *(("expressions", 0, key) for key in ("ref_id", "image_id", "kind", "text", "referent")),
    ]:
        for wrong in [*WRONG, "absent"]:
            content = json.loads(json.dumps(good))
            holder = content
            for key in where[:-1]:
                holder = holder[key]
            holder[where[-1]] = wrong
            if wrong == "absent":
                del holder[where[-1]]
            path.write_text(json.dumps(content))
            for read in (
                lambda: read_synthetic(root, "train"),
                lambda: contact_sheet(root, tmp_path / "s.png", blind=True),
            ):
                try:
                    read()
                    sheets += 1
                except (DataFormatError, MissingDataError, ConfigError) as error:
                    refused.append(str(error))
    assert sheets > 20
    assert len(refused) > 200
    assert all(str(root) in message and "\n" not in message for message in refused)
    for broken in ("", "{", "[]", "[" * 100_000, '{"version": 1}'):
        path.write_text(broken)
        for read in (lambda: read_synthetic(root, "train"), lambda: contact_sheet(root, tmp_path / "s.png")):
            with pytest.raises(DataFormatError, match=r"synthetic\.json.*remove its folder"):
                read()


def test_a_sidecar_shows_no_picture_from_elsewhere(made, tmp_path):
    root = Path(shutil.copytree(made, tmp_path / "copy"))
    Image.new("RGB", (64, 64), (255, 0, 0)).save(tmp_path / "secret.png")
    path = root / "synthetic.json"
    for name in (str(tmp_path / "secret.png"), "../../../../secret.png"):
        content = json.loads(path.read_text())
        for image in content["images"]:
            image["file_name"] = name
        path.write_text(json.dumps(content))
        with pytest.raises(DataFormatError, match="must be the name of a file in its folder"):
            contact_sheet(root, tmp_path / "sheet.png")
        assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize("content", ["[]", "{", '{"a": 1}', '{"a": null}', "5", "", "[" * 100_000, "\ud800"])
def test_a_manifest_of_another_kind_is_named(rs, tmp_path, content):
    manifest = tmp_path / "m.json"
    manifest.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError, match=r"m\.json: .*name a new file"):
        verify("refsegrs", rs, complete=False, manifest=manifest)


def test_remembered_hashes_of_another_kind_are_made_anew(rs, tmp_path, monkeypatch):
    from rrsis_zoo.data.hashes import cache_folder, file_hashes

    monkeypatch.setenv("RRSIS_ZOO_CACHE", str(tmp_path / "cache"))
    paths = [rs / "images/1.tif"]
    expected = file_hashes(rs, paths)
    (index,) = cache_folder().iterdir()
    stat = paths[0].stat()
    for entry in (
        5,
        [],
        ["a", "b", "c"],
        [stat.st_size, stat.st_mtime_ns, 5],
        [stat.st_size, stat.st_mtime_ns, "../x"],
        None,
    ):
        index.write_text(json.dumps({"images/1.tif": entry}))
        assert file_hashes(rs, paths) == expected
    for content in (b"\xff", b"[]", b"5", b"[" * 100_000):
        index.write_bytes(content)
        assert file_hashes(rs, paths) == expected
    index.unlink()
    os.mkfifo(index)
    assert file_hashes(rs, paths) == expected  # nobody waits for the other end of a pipe
