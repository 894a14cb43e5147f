"""Masks that come out empty: training, validation and test refuse them and say why, so do verify and stats."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rrsis_zoo.cli import run
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.foreground import check_foreground, explain
from rrsis_zoo.data.layouts import Referent, ReferredScene, write_refsegrs, write_risbench, write_rrsisd
from rrsis_zoo.data.masks import GreyFile, Median3, RunLengths, encode_mask
from rrsis_zoo.data.refsegrs import read_refsegrs
from rrsis_zoo.data.verify import verify
from rrsis_zoo.errors import DataFormatError

CONFIGS = Path(__file__).parents[2] / "configs"


def palette(*colours):
    def make(mask):
        image = Image.fromarray(mask.astype(np.uint8), "P")
        image.putpalette([0, 0, 0, *colours])
        return image

    return make


def alpha(mask):
    return Image.fromarray(np.dstack([np.zeros((*mask.shape, 3), np.uint8), mask.astype(np.uint8) * 255]))


KINDS = {
    "0 and 1": (
        lambda m: Image.fromarray(m.astype(np.uint8)),
        r"grey levels are 0 and 1, .* above 50: .*threshold to 0",
    ),
    "0, 7 and 50": (
        lambda m: Image.fromarray(np.where(m, 50, np.arange(m.shape[1]) % 2 * 7).astype(np.uint8)),
        r"grey levels are 0, 7 and 50",
    ),
    "dark red palette": (
        palette(128, 0, 0),
        r"palette colours are as bright as grey levels 0 and 38, .*threshold to 0",
    ),
    "black palette": (palette(0, 0, 0), r"palette gives the indices 0 and 1 the same brightness 0"),
    "alpha channel": (alpha, r"in their alpha channel \(values 0 and 255\)"),
    "blank": (lambda m: Image.fromarray(np.zeros(m.shape, np.uint8)), r"or score: they are blank"),
    "all 1": (lambda m: Image.fromarray(np.ones(m.shape, np.uint8)), r"grey level is 1 throughout"),
}


def scenes():
    rng = np.random.default_rng(0)
    for split in ("train", "train", "train", "val", "test"):
        mask = np.zeros((32, 40), bool)
        mask[5:20, 8:30] = True
        yield ReferredScene(
            rng.integers(0, 256, (32, 40, 3), np.uint8), [Referent(mask, ["the ship", "a ship"], "ship")], split
        )


def remake(folder, make, names="*"):
    for path in folder.glob(names):
        mask = np.array(Image.open(path)) > 0
        make(mask).save(path)


@pytest.fixture
def root(tmp_path):
    write_refsegrs(tmp_path / "rs", scenes())
    return tmp_path / "rs"


@pytest.mark.parametrize("kind", KINDS)
def test_a_split_without_foreground_is_refused_with_what_the_files_hold(root, kind):
    make, said = KINDS[kind]
    remake(root / "masks", make)
    for stage in ("fit", "validate", "test"):
        with pytest.raises(DataFormatError, match=rf"all \d masks of split '\w+' are empty, .*{said}"):
            RRSISDataModule("refsegrs", str(root)).setup(stage)
    RRSISDataModule("refsegrs", str(root)).setup("predict")  # pictures without annotation have blank masks


def test_the_setting_that_is_named_mends_it(root):
    for kind in ("0 and 1", "dark red palette"):
        remake(root / "masks", KINDS[kind][0])
        RRSISDataModule("refsegrs", str(root), threshold=0).setup("fit")


def test_one_mask_with_foreground_is_enough_and_only_the_first_is_read(root, monkeypatch):
    remake(root / "masks", KINDS["0 and 1"][0])
    for split, name in (("train", "2.tif"), ("val", "7.tif"), ("test", "9.tif")):
        Image.new("L", (40, 32), 255).save(root / "masks" / name)
        check_foreground(read_refsegrs(root, split), split)
    read = []
    monkeypatch.setattr(GreyFile, "decode", lambda self: read.append(self.path.name) or np.ones((2, 2), bool))
    check_foreground(read_refsegrs(root, "train"), "train")
    assert read == ["1.tif"]


def test_validation_alone_counts_too(root):
    remake(root / "masks", KINDS["0 and 1"][0], "[78].tif")
    with pytest.raises(DataFormatError, match="all 2 masks of split 'val' are empty"):
        RRSISDataModule("refsegrs", str(root)).setup("fit")
    RRSISDataModule("refsegrs", str(root)).setup("test")


def test_leaving_out_all_of_them_is_no_cure(root):
    remake(root / "masks", KINDS["0 and 1"][0])
    with pytest.raises(DataFormatError, match=r"no sample of split 'train' is left: .*drop_empty"):
        RRSISDataModule("refsegrs", str(root), drop_empty=True).setup("fit")


@pytest.mark.parametrize("kind", ["blank", "black palette", "alpha channel"])
def test_risbench(tmp_path, kind):
    write_risbench(tmp_path / "ris", scenes())
    remake(tmp_path / "ris/mask", KINDS[kind][0])
    with pytest.raises(DataFormatError, match=KINDS[kind][1]):
        RRSISDataModule("risbench", str(tmp_path / "ris")).setup("fit")


def test_run_lengths(tmp_path):
    blank = [
        ReferredScene(s.image, [Referent(np.zeros((32, 40), bool), ["a ship"], "ship")], s.split) for s in scenes()
    ]
    write_rrsisd(tmp_path / "d", blank)
    with pytest.raises(DataFormatError, match=r"all 3 masks of split 'train' are empty.*they are blank"):
        RRSISDataModule("rrsis-d", str(tmp_path / "d")).setup("fit")
    code = encode_mask(np.ones((6, 5), bool))
    assert "set data.layers to any" in explain(RunLengths((code, code), 6, 5))
    dot = np.zeros((6, 5), bool)
    dot[2, 2] = True
    assert "data.mask_cleanup at none" in explain(Median3(RunLengths((encode_mask(dot),), 6, 5)))


def test_fit_and_test_end_in_one_line(root, tmp_path, monkeypatch, capsys):
    """By the command: status 2, the grey levels, the setting."""
    from rrsis_zoo.cli import main

    remake(root / "masks", KINDS["0 and 1"][0])
    monkeypatch.chdir(tmp_path)
    configs = [CONFIGS / "control.yaml", CONFIGS / "overlays/control_tiny.yaml", CONFIGS / "overlays/refsegrs.yaml"]
    arguments = [*(f"--config={path}" for path in configs), f"--data.root={root}", "--trainer.logger=false"]
    monkeypatch.setattr(sys, "argv", ["rrsis", "fit", *arguments, "--trainer.accelerator=cpu", "--data.num_workers=0"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rrsis: ")]
    assert "grey levels are 0 and 1" in line
    assert "set data.threshold to 0" in line


def test_verify_and_stats_say_why(root, capsys):
    remake(root / "masks", KINDS["0 and 1"][0])
    assert run(["data", "verify", "--dataset", "refsegrs", "--root", str(root), "--part"]) == 1
    said = capsys.readouterr().out
    assert "10 empty masks" in said
    assert "refsegrs/train/1/0 (their grey levels are 0 and 1, and foreground is above 50: set" in said
    assert run(["data", "stats", "--dataset", "refsegrs", "--root", str(root)]) == 0
    assert "empty masks of train: their grey levels are 0 and 1" in capsys.readouterr().out
    assert run(["data", "verify", "--dataset", "refsegrs", "--root", str(root), "--part", "--threshold", "0"]) == 0
    assert run(["data", "list", "--dataset", "refsegrs", "--root", str(root), "--threshold", "0"]) == 0
    assert "refsegrs/train/1/0\t32x40\t330\tNone\tthe ship" in capsys.readouterr().out


def test_a_blank_mask_is_only_named(root):
    shutil.rmtree(root)
    write_refsegrs(root, scenes())
    Image.new("L", (40, 32)).save(root / "masks/1.tif")
    report = verify("refsegrs", root, complete=False)
    assert {f.what: f.where for f in report.findings if f.is_fault} == {"empty masks": ["refsegrs/train/1/0"]}
