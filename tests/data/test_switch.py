"""One argument, or one overlay, and everything else stays: the three datasets through fit and test."""

import json
import sys
from pathlib import Path

import pytest

from rrsis_zoo.cli import run

ROOT = Path(__file__).parents[2]
CONFIGS, GOLDEN = ROOT / "configs", ROOT / "tests/golden/datasets"
FOLDERS = {"refsegrs": "refsegrs", "rrsis-d": "rrsisd", "risbench": "risbench"}
TESTS = {"refsegrs": 4, "rrsis-d": 5, "risbench": 4}


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
