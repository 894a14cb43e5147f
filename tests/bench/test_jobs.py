import json
from dataclasses import replace

import numpy as np
import pytest

from rrsis_zoo.bench.jobs import Job, read_suite, run, run_all
from rrsis_zoo.data.layouts import Referent, Scene, write_rrsisd
from rrsis_zoo.errors import ConfigError


@pytest.fixture(scope="module")
def job(root, tmp_path_factory):
    rng = np.random.default_rng(0)
    mask = np.zeros((64, 64), dtype=np.bool_)
    mask[20:40, 20:50] = True
    scenes = [
        Scene(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), [Referent(mask, ["the ship"], "ship")], split)
        for split in ("train", "train", "val", "test")
    ]
    data = tmp_path_factory.mktemp("jobs") / "data"
    write_rrsisd(data, scenes)
    configs = (root / "configs" / "rsrefseg.yaml", root / "configs" / "overlays" / "rsrefseg_tiny.yaml")
    options = ("--data.root", str(data), "--data.batch_size", "2", "--trainer.max_epochs", "1")
    return Job("one", "One", tuple(map(str, configs)), (*options, "--trainer.check_val_every_n_epoch", "1"))


def test_finished_jobs_are_skipped_and_changed_ones_are_not(job, tmp_path, capsys):
    first = run_all([job], tmp_path, 1)[0]
    assert first["status"] == "finished", (tmp_path / "one" / "fit.log").read_text()
    assert first["result"]["n"] == 1
    assert first["fit"]["cpu_s"] > 0
    written = (tmp_path / "one" / "job.json").stat().st_mtime_ns
    assert run(job, tmp_path / "one") == first
    assert (tmp_path / "one" / "job.json").stat().st_mtime_ns == written
    assert "finished earlier" in capsys.readouterr().out
    assert replace(job, options=(*job.options, "--seed_everything", "5")).key() != job.key()


def test_a_failure_is_recorded_and_tried_again(job, tmp_path):
    broken = replace(job, options=("--data.root", str(tmp_path / "nowhere")))
    record = run(broken, tmp_path / "broken")
    assert record["status"] == "failed"
    assert "nowhere" in record["fit"]["end"][-1]
    assert json.loads((tmp_path / "broken" / "job.json").read_text()) == record
    assert run(broken, tmp_path / "broken")["status"] == "failed"


def test_shipped_suites_are_readable(root):
    for path in (root / "benchmarks").glob("*.yaml"):
        suite = read_suite(path)
        assert len({job.name for job in suite.jobs}) == len(suite.jobs) > 0
        assert all((root / config).is_file() for job in suite.jobs for config in job.configs)


def test_a_broken_suite_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no suite"):
        read_suite(tmp_path / "gone.yaml")
    (tmp_path / "s.yaml").write_text("title: x\ncaption: y\njobs: {a: {titel: b}}\n")
    with pytest.raises(ConfigError, match=r"s\.yaml"):
        read_suite(tmp_path / "s.yaml")
