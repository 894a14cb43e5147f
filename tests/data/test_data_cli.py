"""``rrsis data``, in this process."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rrsis_zoo.cli import run
from rrsis_zoo.commands.data import _token_counter
from rrsis_zoo.data.cards import RRSIS_D
from rrsis_zoo.data.ceilings import through_grid
from rrsis_zoo.data.limits import LITERATURE
from rrsis_zoo.data.synthetic import stride_iou
from rrsis_zoo.data.verify import verify
from rrsis_zoo.errors import ConfigError, MissingDataError
from rrsis_zoo.methods.registry import list_models, methods
from rrsis_zoo.models.card import OutputGrid
from rrsis_zoo.models.layers.geometry import restore_each, stretch_mask

GRIDS = {name: known.card.grid for name, known in methods().items()}

GOLDEN = Path(__file__).parents[1] / "golden/datasets"
FOLDERS = {"refsegrs": "refsegrs", "rrsis-d": "rrsisd", "risbench": "risbench"}


@pytest.fixture
def made(tmp_path):
    """A synthetic RISBench without fault: six scenes, twelve expressions, copies of images."""
    root = tmp_path / "made"
    arguments = ["--scenes", "6", "--size", "64", "--expressions", "2", "--layout", "risbench", "--root", str(root)]
    assert run(["data", "make", *arguments]) == 0
    return root


def data(*arguments):
    return run(["data", *map(str, arguments)])


# -- list --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", FOLDERS)
def test_list_is_a_line_of_json_a_sentence(dataset, capsys):
    lines = {}
    for split in ("train", "val", "test", "all"):
        assert data("list", "--dataset", dataset, "--root", GOLDEN / FOLDERS[dataset], "--split", split, "--json") == 0
        lines[split] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines["all"] == lines["train"] + lines["val"] + lines["test"]
    assert len({one["sample_id"] for one in lines["all"]}) == len(lines["all"])
    for one in lines["all"]:
        keys = ["sample_id", "image_file", "expression", "category", "category_source"]
        assert list(one) == [*keys, "kind", "is_empty", "no_target", "mask"]
        assert (one["kind"], one["no_target"]) == (None, False)
        assert one["is_empty"] == (one["mask"]["pixel_count"] == 0)
        assert list(one["mask"]) == ["height", "width", "pixel_count", "bbox_xyxy_inclusive", "sha256_packed_bool"]
        assert one["expression"] == one["expression"].strip()
        assert one["category_source"] == (
            None if one["category"] is None else "label" if dataset == "rrsis-d" else "text"
        )
    by_id = {one["sample_id"]: one for one in lines["all"]}
    if dataset == "rrsis-d":
        assert by_id["rrsis-d/train/09976/0"]["mask"]["height"] == 80  # the mask's own size, not the image's
        assert by_id["rrsis-d/test/20960/1"]["expression"] == "The tennis court beside the café – left"
        assert by_id["rrsis-d/test/00413/0"]["mask"]["bbox_xyxy_inclusive"] is None


def test_list_for_people(capsys):
    data("list", "--dataset", "refsegrs", "--root", GOLDEN / "refsegrs", "--split", "train")
    assert capsys.readouterr().out.splitlines()[0] == "refsegrs/train/1361/0\t64x64\t576\troad\troad"


def test_reader_that_has_enough_is_no_error(made):
    command = [sys.executable, "-m", "rrsis_zoo.cli", "data", "list", "--dataset", "risbench", "--root", str(made)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("risbench/train/")
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_wrong_names_are_told(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown dataset 'rrsisd' .did you mean 'rrsis-d'"):
        data("list", "--dataset", "rrsisd")
    with pytest.raises(ConfigError, match=r"unknown split 'tset' .did you mean 'test'"):
        data("list", "--dataset", "rrsis-d", "--split", "tset", "--root", tmp_path)
    with pytest.raises(ConfigError, match=r"unknown command of rrsis data 'verfy' .did you mean 'verify'"):
        data("verfy")


@pytest.mark.parametrize("dataset", FOLDERS)
@pytest.mark.parametrize("command", ["verify", "list", "stats"])
def test_absent_dataset_is_told_where_to_get(command, dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for root in ([], ["--root", tmp_path / "nowhere"]):
        with pytest.raises(MissingDataError) as caught:
            data(command, "--dataset", dataset, *root)
        next_step = f"rrsis data verify --dataset {dataset}"
        for part in ("expected files: <root>/", "available from", "licence: ", next_step):
            assert part in str(caught.value)


# -- make --------------------------------------------------------------------------------------------------------------


def test_make_says_how_to_use_it(made, capsys, tmp_path):
    with pytest.raises(ConfigError, match="unknown layout 'rsbench'"):
        data("make", "--layout", "rsbench", "--root", tmp_path / "x")
    with pytest.raises(ConfigError, match="already contains a synthetic dataset"):
        data("make", "--root", made)


# -- verify ------------------------------------------------------------------------------------------------------------


def test_verify_passes_what_is_whole(made, capsys):
    assert data("verify", "--dataset", "risbench", "--root", made, "--part") == 0
    said = capsys.readouterr().out
    assert "nothing is wrong" in said
    assert "WRONG" not in said


def found(root, dataset="risbench", **settings):
    """Fault -> where."""
    report = verify(dataset, root, **{"complete": False, **settings})
    return {finding.what: finding.where for finding in report.findings if finding.is_fault}


def test_verify_compares_with_the_published_counts(made):
    faults = found(made, complete=True)
    (what,) = faults
    assert what == "splits without the published number of expressions"
    assert "train has 8, 26,300 are published" in faults[what]


def test_verify_names_a_file_once_however_many_samples_it_has(tree, tmp_path, capsys):
    """And a reason once that is that of every split."""
    root = tmp_path / "rrsisd"
    made = ["--scenes", "6", "--size", "64", "--expressions", "2", "--root", str(root)]
    assert data("make", *made) == 0
    images = sorted((root / "images/rrsisd/JPEGImages").iterdir())
    images[0].unlink()
    images[1].write_bytes(images[1].read_bytes()[:300])
    capsys.readouterr()
    assert data("verify", "--dataset", "rrsis-d", "--root", root, "--part") == 1
    said = capsys.readouterr().out
    assert f"- 1 missing file\n      {images[0].name}\n" in said
    assert "- 1 unreadable image\n" in said
    assert said.count(images[1].name) == 1
    assert data("verify", "--dataset", "rrsis-d", "--root", root) == 1
    listed = re.search(r"- (\d+) images that are not 800 x 800\n((?: {6}.*\n)+)", capsys.readouterr().out)
    assert listed is not None
    assert listed[1] == "4"
    assert len(set(listed[2].splitlines())) == 4
    (root / "rrsisd/instances.json").write_text("{")
    assert data("verify", "--dataset", "rrsis-d", "--root", root) == 1
    said = capsys.readouterr().out
    assert "- 3 splits that cannot be read\n      train: " in said
    assert "val: the same as train\n      test: the same as train\nfailed checks: 1" in said
    assert said.count("is not JSON") == 1


def test_verify_calls_nothing_wrong_that_is_not(made, tree, capsys):
    """What other data in the layout cannot have; a split that cannot be read has no wrong number besides."""
    assert data("verify", "--dataset", "rrsis-d", "--root", tree) == 1
    wrong = capsys.readouterr().out.partition("WRONG:")[2]
    assert "3 splits without the published number of expressions; for a part" in wrong
    assert wrong.count("  - ") == 1  # neither fewer empty masks than published, nor those that there are
    for split in ("train", "val"):
        (made / f"output_phrase_{split}.txt").unlink()
    assert data("verify", "--dataset", "risbench", "--root", made) == 1
    said = capsys.readouterr().out
    assert "- 2 splits that cannot be read\n      train: RISBench: no 'output_phrase_train.txt'" in said
    assert "- 1 split without the published number of expressions" in said  # what cannot be read is not counted too
    assert "available from" not in said  # they have it


def test_verify_knows_the_defects_of_a_whole_split(tree, monkeypatch):
    """Of a part with one whole split the published copy's defects are known; of data of one's own they are not."""
    unknown = {"empty masks", "masks that differ from their image in size"}
    assert set(found(tree, "rrsis-d")) == unknown
    monkeypatch.setitem(RRSIS_D.counts, "test", 3)
    assert not found(tree, "rrsis-d")
    monkeypatch.setitem(RRSIS_D.known, "empty masks", 0)
    assert set(found(tree, "rrsis-d")) == {"empty masks"}


def test_verify_counts_one_as_one(made, capsys):
    (made / "output_phrase_val.txt").write_text("train_4_0.png the ship\n")
    assert data("verify", "--dataset", "risbench", "--root", made, "--part") == 0
    said = capsys.readouterr().out
    assert re.search(r"^  val +1 expression  +1 scene$", said, re.MULTILINE)
    assert re.search(r"^  train +8 expressions  +4 scenes$", said, re.MULTILINE)
    assert not re.search(r"\b1 \w+s\b", said)
    for finding in verify("risbench", made, complete=False, limits=LITERATURE).findings:
        text = replace(finding, where=["x"]).text(5)
        assert not re.search(r"\b1 (\w+s|.*-valued masks)\b", text), text
        assert "they" not in text


def test_verify_names_every_fault(made, capsys):
    images, masks = sorted((made / "img_rgb").glob("train_0_*.png")), sorted((made / "mask").iterdir())
    images[0].unlink()
    images[1].write_bytes(images[1].read_bytes()[:200])
    test = made / "mask/test_0_0.png"
    Image.new("L", (64, 64)).save(test)
    val = next(path for path in masks if path.name == "train_4_0.png")
    Image.new("L", (32, 64), 255).save(val)
    grey = np.zeros((64, 64), np.uint8)
    grey[:9], grey[9:20] = 255, 3
    Image.fromarray(grey).save(made / "mask/train_1_0.png")
    shutil.copy(made / "img_rgb/train_1_0.png", made / "img_rgb/test_0_1.png")
    (made / "mask/train_2_0.png").write_bytes(b"")
    faults = found(made)
    assert faults.pop("missing files") == ["img_rgb/train_0_0.png"]
    (image,) = faults.pop("unreadable images")
    assert "train_0_1.png: cannot be read" in image
    (mask,) = faults.pop("unreadable masks")
    assert "train_2_0.png: cannot be read" in mask
    assert faults.pop("empty masks") == ["risbench/test/test_0_0/0"]
    assert faults.pop("masks that differ from their image in size") == ["risbench/val/train_4_0/0"]
    assert faults.pop("masks that are not two-valued") == ["risbench/train/train_1_0/0 (3 levels)"]
    (leak,) = faults.pop("equal scenes across splits")
    assert leak.startswith("test + train: img_rgb/t")
    assert not faults
    assert data("verify", "--dataset", "risbench", "--root", made, "--part") == 1
    assert "failed checks: 7" in capsys.readouterr().out
    (made / "output_phrase_val.txt").write_bytes("train_4_0.png café".encode("latin-1"))
    (unread,) = found(made)["splits that cannot be read"]
    assert unread.startswith("val: ")
    assert "is not UTF-8" in unread


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_verify_runs_no_code_of_a_pickle(tree, tmp_path, capsys):
    (tree / "rrsisd/refs(unc).p").write_bytes(pickle.dumps([Hostile(tmp_path / "trap")]))
    assert data("verify", "--dataset", "rrsis-d", "--root", tree, "--part") == 1
    assert "only plain Python values are read" in capsys.readouterr().out
    assert not (tmp_path / "trap").exists()


def test_verify_counts_what_the_readers_repair():
    report = verify("refsegrs", GOLDEN / "refsegrs", complete=False)
    counted = {finding.what: (finding.where, finding.repair) for finding in report.findings}
    assert counted["masks with several channels"] == (["refsegrs/test/4213/0"], "the grey level is used")
    assert counted["lines that repeat an earlier id"] == (
        ["refsegrs/test/945/1"],
        "each is read as a sample of its own",
    )
    assert "1 mask with several channels; the grey level is used" in report.text()


def test_verify_knows_the_published_defects(tree, edit, monkeypatch):
    """A complete RRSIS-D has three empty masks and 14 of another size: fewer or more is wrong, these are not."""
    card = {"counts": {"train": 5, "val": 1, "test": 3}, "image_size": (24, 32)}
    for name, value in card.items():
        monkeypatch.setitem(vars(RRSIS_D), name, value)
    monkeypatch.setitem(RRSIS_D.known, "empty masks", 1)
    assert set(found(tree, "rrsis-d", complete=True)) == {"masks that differ from their image in size"}
    monkeypatch.setitem(RRSIS_D.known, "masks that differ from their image in size", 1)
    assert not found(tree, "rrsis-d", complete=True)
    monkeypatch.setitem(RRSIS_D.known, "empty masks", 3)
    assert set(found(tree, "rrsis-d", complete=True)) == {"empty masks"}


def test_manifest_is_written_and_compared(made, tmp_path, capsys):
    manifest = tmp_path / "manifest.json"
    arguments = ("verify", "--dataset", "risbench", "--root", made, "--part", "--manifest", manifest)
    assert data(*arguments) == 0
    assert len(json.loads(manifest.read_text())) == 2 * 12 + 3
    assert data(*arguments) == 0
    with (made / "output_phrase_test.txt").open("a") as file:
        file.write("\n")
    Image.new("L", (64, 64), 255).save(made / "mask/train_0_0.png")
    content = json.loads(manifest.read_text())
    content["img_rgb/gone.png"] = content.pop("img_rgb/train_0_0.png")
    manifest.write_text(json.dumps(content))
    capsys.readouterr()
    assert data(*arguments) == 1
    said = capsys.readouterr().out
    for part in (
        "img_rgb/gone.png is missing",
        "img_rgb/train_0_0.png is new",
        "mask/train_0_0.png has changed",
        "output_phrase_test.txt has changed",
    ):
        assert part in said
    (made / "img_rgb/train_1_0.png").unlink()
    capsys.readouterr()
    assert data(*arguments) == 1
    said = capsys.readouterr().out
    assert "img_rgb/train_1_0.png is missing" in said
    assert "mask/train_1_0.png" not in said  # its sample is left out, but it is there, and the same
    manifest.write_text("[]")
    with pytest.raises(ConfigError, match=r"manifest\.json: must contain an object"):
        data(*arguments)


def test_long_expressions_are_counted(made, tmp_path):
    import sentencepiece

    phrases = made / "output_phrase_test.txt"
    first = phrases.read_text().splitlines()[0].split()[0]
    phrases.write_text(f"{first} {' '.join(['ship'] * 40)}\n")

    assert LITERATURE.keys().isdisjoint(methods())  # a method says its own limit
    limits = LITERATURE | {name: known.card.text for name, known in methods().items()}

    def long(*options):
        counters = dict(map(_token_counter, options))
        report = verify("risbench", made, complete=False, limits=limits, counters=counters)
        return {f.what.split(" of ")[1].split()[0]: len(f.where) for f in report.findings if "longer" in f.what}

    assert long() == dict.fromkeys(list_models(), 0) | dict.fromkeys(("lavt", "rmsin", "sam3_zeroshot", "fianet"), 1)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c d e f"] * 20),
        model_prefix=str(tmp_path / "tiny"),
        vocab_size=12,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    counted = long(f"rsrefseg={tmp_path / 'tiny.model'}")
    assert counted["rsrefseg"] == 1  # 40 unknown words are 80 pieces
    with pytest.raises(ConfigError, match=r"unknown method in --tokenizer METHOD=FILE 'bert'"):
        long("bert=x")
    with pytest.raises(ConfigError, match="no file 'x'"):
        long("rsrefseg=x")


# -- stats -------------------------------------------------------------------------------------------------------------


def test_stats_in_words_and_as_a_figure(made, tmp_path, capsys):
    assert data("stats", "--dataset", "risbench", "--root", made, "--figure", tmp_path / "s.png", "--ceilings") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line[:34].strip(): line[34:].split() for line in lines if line[:34].strip()}
    assert rows["expressions"] == ["8", "2", "2"]
    assert rows["scenes"] == ["4", "1", "1"]
    assert rows["expressions per scene"] == ["2.00", "2.00", "2.00"]
    assert rows["empty masks"] == ["0", "0", "0"]
    assert np.asarray(Image.open(tmp_path / "s.png").convert("L")).std() > 20
    assert sum(line.startswith("rs2sam2 ") for line in lines) == 3
    assert not any("median" in line for line in lines)  # a question of RRSIS-D only


def test_grid_of_the_masks_own_resolution_is_known_elsewhere():
    """A square of the grid's input side: the same figure as the generator's own ceiling, written independently."""
    mask = (np.add(*np.ogrid[:64, :64]) % 37 < 20) & (np.arange(64) > 9)
    grid = OutputGrid(64, 16, False, "")
    copy = through_grid(mask, grid)
    assert (mask & copy).sum() / (mask | copy).sum() == pytest.approx(stride_iou(mask, 4))
    np.testing.assert_array_equal(through_grid(mask, OutputGrid(64, 64, False, "")), mask)


def test_grid_of_rsrefseg_is_the_way_of_the_model_itself():
    """Its own training target, shares of its cells, its own way back to native size."""
    mask = np.random.default_rng(0).random((30, 50)).repeat(9, 0).repeat(7, 1) < 0.4
    target = stretch_mask(torch.from_numpy(mask), 1024)[None, None].float()
    shares = torch.nn.functional.avg_pool2d(target, 4)
    (native,) = restore_each(shares, torch.tensor([0]), torch.tensor([mask.shape]), 1024)
    np.testing.assert_array_equal(through_grid(mask, GRIDS["rsrefseg"]), native.numpy() > 0.5)


@pytest.mark.parametrize("method", GRIDS)
def test_grids_keep_size_place_and_most_of_a_large_mask(method):
    mask = np.zeros((300, 500), bool)
    mask[40:200, 300:490] = True
    copy = through_grid(mask, GRIDS[method])
    assert copy.shape == mask.shape
    assert (mask & copy).sum() / (mask | copy).sum() > 0.97
    assert not through_grid(np.zeros_like(mask), GRIDS[method]).any()


def test_ceilings_of_rrsis_d_have_the_median(tree, capsys):
    assert data("stats", "--dataset", "rrsis-d", "--root", tree, "--split", "train", "--ceilings") == 0
    assert "official mask vs its 3 x 3 median" in capsys.readouterr().out
