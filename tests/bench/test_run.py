"""The script behind `make benchmark`, with a suite of one short job."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image


@pytest.mark.slow
def test_suite_to_table(root, tmp_path):
    (tmp_path / "configs").symlink_to(root / "configs")
    configs = ["configs/rsrefseg.yaml", "configs/overlays/rsrefseg_tiny.yaml", "configs/overlays/synthetic.yaml"]
    options = ["--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2, "--trainer.check_val_every_n_epoch", 1]
    job = {"title": "Short", "configs": configs, "options": options}
    suite = {"title": "T", "caption": "C", "jobs": {"short": job}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(suite))
    command = [sys.executable, str(root / "benchmarks" / "run.py"), "s.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stdout + done.stderr
    results = tmp_path / "benchmarks" / "results"
    rows = list(csv.DictReader((results / "s.csv").open()))
    assert [row["method"] for row in rows] == ["best constant mask", "Short"]
    assert float(rows[0]["oIoU"]) > 1
    assert "Short − best constant mask" in (results / "s.md").read_text()
    assert np.array(Image.open(results / "short.png")).std() > 10
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "short: finished earlier" in again.stdout
    record = json.loads((tmp_path / "runs" / "benchmark" / "short" / "job.json").read_text())
    assert record["result"]["dataset"] == "synthetic"
    assert record["result"]["n"] == 750
