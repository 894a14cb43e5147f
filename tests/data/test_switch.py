"""One argument, or one overlay, and everything else stays: the three datasets through fit and test."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rrsis_zoo.cli import run
from rrsis_zoo.data.synthetic import make_synthetic

ROOT = Path(__file__).parents[2]
CONFIGS, GOLDEN = ROOT / "configs", ROOT / "tests/golden/datasets"
FOLDERS = {"refsegrs": "refsegrs", "rrsis-d": "rrsisd", "risbench": "risbench"}
TESTS = {"refsegrs": 4, "rrsis-d": 5, "risbench": 4}
FURTHER = {
    "earthreason": "earthreason",
    "aerial-d": "aeriald",
    "rrsis-hr": "rrsis_hr",
    "risors": "risors",
    "nwpu-refer": "nwpu_refer",
}


@pytest.mark.parametrize("by_overlay", [False, True])
@pytest.mark.parametrize("dataset", FOLDERS)
def test_fit_and_test_of_a_tiny_preset(dataset, by_overlay, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rrsis"])
    (tmp_path / "datasets").mkdir()
    for name, folder in FOLDERS.items():
        (tmp_path / "datasets" / name).symlink_to(GOLDEN / folder)
    overlay = CONFIGS / f"overlays/{dataset.replace('-', '_')}.yaml"
    switch = ["--config", overlay] if by_overlay else ["--data.dataset", dataset]
    common = ["--config", CONFIGS / "control.yaml", "--config", CONFIGS / "overlays/control_tiny.yaml", *switch]
    common += ["--data.batch_size", 2, "--trainer.enable_progress_bar", "false"]
    fit = [*common, "--trainer.max_epochs", 1, "--trainer.check_val_every_n_epoch", 1]
    if by_overlay:
        fit += ["--trainer.limit_train_batches", 1]
    assert run([*map(str, ["fit", *fit])]) == 0
    if by_overlay:
        return
    best = tmp_path / "runs/control/fit/version_0/checkpoints/best.ckpt"
    assert run([*map(str, ["test", *common, "--ckpt_path", best])]) == 0
    record = json.loads((tmp_path / "runs/control/test/version_0/test.json").read_text())
    assert (record["split"], record["n"]) == ("test", TESTS[dataset])


@pytest.mark.parametrize("dataset", [*FURTHER, "ris-lad", "folder"])
def test_fit_and_test_on_each_by_one_argument(dataset, tmp_path, monkeypatch, capsys):
    """Published numbers of Aerial-D are of val, and so is its test here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rrsis"])
    place = tmp_path / "datasets" / dataset
    place.parent.mkdir()
    if dataset in FURTHER:
        place.symlink_to(ROOT / "tests/golden/datasets2" / FURTHER[dataset])
    elif dataset == "ris-lad":
        make_synthetic(place, scenes=4, splits=(2, 1, 1), size=64, layout=dataset, processes=1)
    else:
        write_own(place)
    common = ["--config", CONFIGS / "control.yaml", "--config", CONFIGS / "overlays/control_tiny.yaml"]
    common += ["--data.dataset", dataset, *(["--data.root", place] if dataset == "folder" else [])]
    common += ["--data.batch_size", 2, "--data.num_workers", 0, "--trainer.enable_progress_bar", "false"]
    fit = [*common, "--trainer.max_epochs", 1, "--trainer.check_val_every_n_epoch", 1]
    assert run([*map(str, ["fit", *fit])]) == 0
    assert run(["test", "runs/control/fit/version_0"]) == 0
    record = json.loads((tmp_path / "runs/control/test/version_0/test.json").read_text())
    assert record["split"] == ("val" if dataset == "aerial-d" else "test")
    assert (record["layout"], record["n"] > 0) == (dataset, True)
    said = capsys.readouterr().out
    assert ("no published reader; read here with language en" in said) == (dataset == "nwpu-refer")
    assert ("N-acc" in said) == (record["n_empty"] > 0)


def write_own(place):
    place.mkdir()
    rows = ["image,mask,expression,split"]
    for number, split in enumerate(("train", "train", "val", "test")):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
        rows.append(f'{number}.png,"[4, 4, 20, 4, 20, 30]",the ship,{split}')
        rows.append(f"{number}.png,none,the airplane,{split}")
    (place / "samples.csv").write_text("\n".join(rows))
