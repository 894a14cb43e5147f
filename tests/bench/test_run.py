"""The script behind `make benchmark`, with a suite of one short job that is killed in the middle of its training."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from made_runs import made_profile

import warm
from bench.keys import Keys
from bench.plan import Slot, plan
from bench.processes import Processes
from bench.results import write_results
from bench.runner import run_jobs, write_suite
from bench.suites import read_suite
from rrsis_zoo.data.annotations import annotations_hash
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.synthetic import make_synthetic
from rrsis_zoo.loading import load_model
from rrsis_zoo.metrics.breakdown import breakdown, evaluate, without_nan
from rrsis_zoo.metrics.protocols import get_protocol
from rrsis_zoo.metrics.samples import read_samples
from rrsis_zoo.models.base import count_parameters
from rrsis_zoo.weights.checkpoints import weights_hash

NAME = "short--synthetic--seed3"
SUITE = {
    "title": "T",
    "caption": "C",
    "protocol": "canonical",
    "seeds": [3],
    "datasets": {"synthetic": {"title": "synthetic scenes", "configs": ["configs/overlays/synthetic.yaml"]}},
    "models": {
        "short": {
            "title": "Short",
            "configs": ["configs/rsrefseg.yaml", "configs/overlays/rsrefseg_tiny.yaml"],
            "options": {
                "trainer.max_epochs": 4,
                "trainer.check_val_every_n_epoch": 2,
                "trainer.log_every_n_steps": 1,
                "data.batch_size": 6,
            },
        }
    },
}


@pytest.fixture(scope="module")
def place(root, tmp_path_factory):
    """A folder with the suite, the configurations and a small dataset."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "configs").symlink_to(root / "configs")
    (folder / "s.yaml").write_text(yaml.safe_dump(SUITE))
    make_synthetic(folder / "data", scenes=12, size=64, processes=1)
    return folder


class Warm(Processes):
    """Its processes have imported everything already, but for one command's, whose processor time is its own."""

    cold: str | None = None

    def start(self, program, arguments, log, environment):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "executable", warm.REAL if self.cold in arguments else warm.python())
            return super().start(program, arguments, log, environment)


def command(root, *arguments, python=None):
    return [python or warm.REAL, str(root / "benchmarks" / "run.py"), "s.yaml", *map(str, arguments)]


def run_here(place, runs, monkeypatch, lines, retry=False, watch=None, cold=None):
    """Run the suite's job from this process, which has imported everything already."""
    monkeypatch.chdir(place)
    planned = plan(read_suite(place / "s.yaml").jobs(), {"synthetic": str(place / "data")}, Keys())
    with Warm() as processes:
        processes.cold = cold
        if watch is not None:
            threading.Thread(target=watch, args=(processes,), daemon=True).start()
        return run_jobs(planned, runs, [Slot({"OMP_NUM_THREADS": "1"})], retry, processes, lines.append)[0]


@pytest.fixture(scope="module")
def whole(place):
    """The record of a job that nobody disturbed, and its folder."""
    with pytest.MonkeyPatch.context() as patch:
        record = run_here(place, place / "whole", patch, [], cold="fit")
    assert record["status"] == "finished", record["reason"]
    return record, place / "whole" / NAME


def test_every_number_comes_from_the_samples(whole, place):
    """Recomputed: the metrics and their breakdown from the per-sample file, the rest from checkpoint and data."""
    record, folder = whole
    assert json.loads((folder / "job.json").read_text()) == record
    result = dict(record["result"])
    samples, rules = read_samples(folder / "test" / "version_0" / "test_samples.jsonl.gz"), get_protocol("canonical")
    assert result.pop("metrics") == without_nan(evaluate(samples, rules))
    assert result.pop("breakdown") == without_nan(breakdown(samples, rules))
    data = RRSISDataModule("synthetic", str(place / "data"), num_workers=0)
    records = data.records("test")
    assert [s.sample_id for s in samples.subjects] == [r.sample_id for r in records]
    model = load_model(folder / "fit" / "version_0" / "checkpoints" / "best.ckpt")
    code = result.pop("code")
    assert code["version"]
    lineage = result.pop("lineage")
    trained = [(t["dataset"], t["split"], t["selected_on"]) for t in lineage["trainings"]]
    assert trained == [("synthetic", "train", "val")]
    assert (lineage["releases"], lineage["starts"]) == ([], [])  # from random weights
    assert result == {
        "model": "rsrefseg",
        "preset": "tiny",
        "untrained": False,
        "protocol": "canonical",
        "eval_size": "native",
        "text_mode": "independent",
        "dataset": "synthetic",
        "layout": "synthetic",
        "published_split": False,
        "split": "test",
        "n": len(samples),
        "partial": None,
        "n_empty": int((samples.counts.target == 0).sum()),
        "reading": asdict(data.reading),
        "parameters": asdict(count_parameters(model)),
        "weights_sha256": weights_hash(model),
        "annotations_sha256": annotations_hash(records),
        "precision": "32-true",
    }
    assert record["fit"]["cpu_s"] > 0
    assert (record["seed"], record["fit"]["resumed"]) == (3, 0)


def stop_in_training(place, root, runs):
    """Start the runner and ask it to end after an epoch; return its status, what it printed and where training is."""
    options = ["--runs", runs, "--root", f"synthetic={place / 'data'}", "--only", "*"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    runner = subprocess.Popen(command(root, *options, python=warm.python()), cwd=place, text=True, **pipes)
    point, end = runs / NAME / "fit" / "version_0" / "checkpoints" / "resume.json", time.monotonic() + 240
    while not point.exists() and runner.poll() is None:
        assert time.monotonic() < end, "no epoch ended"
        time.sleep(0.02)
    runner.send_signal(signal.SIGTERM)
    printed = runner.communicate()[0]
    running = subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True).stdout
    assert str(runs) not in running, "the training goes on without its runner"
    return runner.returncode, printed, json.loads(point.read_text()) if point.exists() else None


def kill_once_it_goes_on(log):
    """Return what kills the training, with all that it has started, when it has taken its checkpoint up."""

    def watch(processes):
        while "Restored all states" not in (log.read_text().rpartition("ended by SIGTERM")[2] if log.exists() else ""):
            time.sleep(0.01)
        os.killpg(processes._running[0].popen.pid, signal.SIGKILL)

    return watch


@pytest.mark.slow
def test_killed_and_resumed(whole, place, root, monkeypatch):
    """SIGTERM for the runner in mid training, then SIGKILL for the training: it goes on, and nothing differs."""
    record, folder = whole
    for attempt in range(5):  # the other epochs take a second: on a busy machine they may be over before the signal
        runs = place / f"stopped{attempt}"
        status, printed, point = stop_in_training(place, root, runs)
        assert "s: 1 job (1 model, 1 dataset, 1 seed): 1 to run" in printed
        assert "FAILED" not in printed, printed
        if point is not None and not point["finished"]:
            break
    assert 4 <= point["step"] < 16, "no signal came in mid training"
    assert status == 143
    assert printed.endswith("rrsis: ended by SIGTERM: the same command goes on from the last checkpoints\n")
    assert not (runs / NAME / "job.json").exists()

    lines = []
    killed = run_here(place, runs, monkeypatch, lines, watch=kill_once_it_goes_on(runs / NAME / "fit.log"))
    assert lines[0].startswith(f"{NAME}: training: goes on after {point['epoch']} epoch")
    assert killed["reason"] == "training was ended by SIGKILL (was there enough memory?)"
    assert run_here(place, runs, monkeypatch, lines)["status"] == "failed"
    again = run_here(place, runs, monkeypatch, lines, retry=True)
    assert (again["status"], again["fit"]["resumed"]) == ("finished", 2)
    assert again["result"] == record["result"]  # the weights' hash among it
    logs = [list(csv.DictReader((f / "fit" / "version_0" / "metrics.csv").open())) for f in (folder, runs / NAME)]
    assert logs[0] == logs[1]
    losses = [row["train/loss"] for row in logs[0] if row["train/loss"]]
    assert len(losses) == 16  # 4 epochs of 24 expressions, 6 a step
    assert run_here(place, runs, monkeypatch, lines) == again
    assert lines[-1] == f"{NAME}: finished earlier"


def test_mistakes_are_one_line(place, root):
    def said(*arguments):
        done = subprocess.run(command(root, *arguments), cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == (0 if "--list" in arguments else 2), done.stderr
        return done.stdout + done.stderr

    assert said("--list") == f"{NAME}\n"
    assert said("--only", "long*") == f"benchmark: --only long*: no such job; there are {NAME}\n"
    form = "write NAME=FOLDER with a dataset of s: synthetic"
    assert said("--root", "rrsis-d=/data") == f"benchmark: --root rrsis-d=/data: {form}\n"
    assert said("--seeds", "3", "--list") == f"{NAME}\n"
    assert said("--seeds", "1") == "benchmark: s has no seed 1; there are 3\n"
    assert said("--at-once", "0") == "benchmark: --at-once must be at least 1, got 0\n"


def test_tables_and_report_of_a_real_job(whole, place, tmp_path, monkeypatch):
    """With the real tables and the real report: the numbers are the job's."""
    record, folder = whole
    monkeypatch.chdir(place)
    write_suite(read_suite(place / "s.yaml"), folder.parent)
    write_results(folder.parent, tmp_path)
    (row,) = csv.DictReader((tmp_path / "main.csv").open())
    assert row["method"] == "Short"
    assert float(row["oiou"]) == record["result"]["metrics"]["oiou"]
    for form in ("md", "tex", "html"):
        assert "Short" in (tmp_path / f"main.{form}").read_text()
    assert "Short" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "short--synthetic.webp").stat().st_size > 10_000


def test_a_run_changes_no_tracked_file(whole, place, root, script, tmp_path, monkeypatch, capsys):
    """In a repository with our own .gitignore: `make benchmark` with nothing but tables and report left to make."""
    record, folder = whole
    repository = tmp_path / "clone"
    repository.mkdir()
    for name in (".gitignore", "README.md"):
        shutil.copy(root / name, repository / name)
    shutil.copytree(root / "benchmarks" / "results", repository / "benchmarks" / "results")
    (repository / "configs").symlink_to(root / "configs")
    shutil.copy(place / "s.yaml", repository / "benchmarks" / "s.yaml")

    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *identity, *words], cwd=repository, capture_output=True, text=True, check=True)
        return done.stdout

    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "all")
    shutil.copytree(folder.parent, repository / "runs" / "s")
    shutil.rmtree(repository / "runs" / "s" / ".locks", ignore_errors=True)
    profiled = repository / "runs" / "s" / NAME / "job.json"
    profiled.write_text(json.dumps({**record, "profile": made_profile(0.5)}))
    monkeypatch.chdir(repository)
    monkeypatch.setattr(sys, "argv", ["run.py", "benchmarks/s.yaml", "--root", f"synthetic={place / 'data'}"])
    assert script.script() == 0
    assert git("status", "--porcelain") == ""
    results = Path("runs") / "s" / "results"
    assert {"main.md", "report.html", "short--synthetic.webp"} <= {path.name for path in results.iterdir()}
    printed = capsys.readouterr().out
    assert f"{NAME}: finished earlier" in printed
    end = printed[printed.index("\nT\n") :]
    assert end.splitlines()[-1] == "report: runs/s/results/report.html"
    (row,) = csv.DictReader((results / "main.csv").open())
    assert re.search(rf"^Short +{float(row['miou']):.1f} \[", end, re.MULTILINE)
