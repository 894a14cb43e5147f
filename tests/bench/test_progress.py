"""What the log of a suite says of running jobs, from the files that trainings write, with a clock of its own."""

import os
import re
import time

import pytest
from made_runs import made_result

from bench.forecast import Forecast
from bench.jobs import Decision, Goal, JobRun, Planned
from bench.load import Load
from bench.progress import SILENT_S, Progress, read_epochs
from bench.suites import Job
from rrsis_zoo.files import write_json
from rrsis_zoo.training.loggers import _LogWriter

RESULT = made_result("one", 0.5, 1)


def job(name, seed=1, minutes=2.0):
    return Job("s", name, "one", seed, name.capitalize(), "method", (), (), {}, minutes)


def log_of(folder):
    return _LogWriter(folder / "fit" / "version_0")


def steps(log, epoch, first, last, loss, every=10, per=100):
    """Log an epoch's steps as Lightning does: both from 0."""
    for step in range(first, last, every):
        log.log_metrics({"epoch": epoch, "train/loss": loss, "lr-AdamW/a": 1e-3}, step + every - 1)
    log.save()


def validated(log, epoch, step, miou):
    log.log_metrics({"epoch": epoch, "val/miou": miou, "val/oiou": miou - 2}, step)
    log.save()


@pytest.fixture
def watched(tmp_path):
    """A training of four epochs of 100 steps that has just begun, what says how it is doing, and its clock."""

    class Watched:
        now = 0.0
        lines: list[str]

        def __init__(self):
            self.lines = []
            goal = Goal(4, None, False, "canonical", "test", RESULT["n"], RESULT["annotations_sha256"])
            jobs = [job("a"), job("b")]
            planned = Planned(jobs[0], (), {}, "k", goal, steps=400)
            self.folder = tmp_path / "a--one--seed1"
            self.run = JobRun(planned, self.folder, Decision("start", "new"))
            self.run.command()
            self.progress = Progress(jobs, 2, None, self.lines.append, lambda: self.now)
            self.progress.begins(self.run)
            self.log = log_of(self.folder)

        def at(self, seconds):
            self.now = seconds
            self.progress.look()
            told, self.lines[:] = list(self.lines), []
            return told

    return Watched()


def test_a_line_for_every_epoch(watched):
    steps(watched.log, 0, 0, 50, 2.0)
    assert watched.at(10) == []
    steps(watched.log, 0, 50, 100, 1.0)
    assert watched.at(20) == []  # it may not have been validated yet
    validated(watched.log, 0, 99, 31.25)
    steps(watched.log, 1, 100, 110, 0.5)
    # 60 steps in 20 s since step 50; 290 are left, and 15 % of all for validation and test
    (line,) = watched.at(30)
    assert line == "a--one--seed1: epoch 1 of 4: loss 1.5, val mIoU 31.2, val oIoU 29.2; about 1.9 min left"
    assert watched.at(40) == []
    steps(watched.log, 1, 110, 200, 0.5)
    steps(watched.log, 2, 200, 300, 0.25)
    steps(watched.log, 3, 300, 400, 0.125)
    assert [line.partition(";")[0] for line in watched.at(60)] == [
        "a--one--seed1: epoch 2 of 4: loss 0.5", "a--one--seed1: epoch 3 of 4: loss 0.25",
    ]  # fmt: skip
    validated(watched.log, 3, 399, 60.0)
    watched.progress.test_begins("a--one--seed1")
    assert watched.lines == ["a--one--seed1: epoch 4 of 4: loss 0.125, val mIoU 60.0, val oIoU 58.0"]


def test_a_job_that_says_nothing_is_heard_of(watched):
    """At least every two minutes, before its first step, in a long epoch, and in its test."""
    assert SILENT_S < 110
    told = [(second, line) for second in range(400) for line in watched.at(float(second))]
    assert [second for second, _ in told] == [90, 180, 270, 360]
    assert told[0][1] == "a--one--seed1: no step is logged yet, 1.5 min so far"
    steps(watched.log, 0, 0, 20, 1.0)
    assert watched.at(400) == []
    steps(watched.log, 0, 20, 40, 1.0)
    (line,) = watched.at(460)
    # 20 steps in 60 s
    assert line == "a--one--seed1: epoch 1 of 4, step 40 of 400: loss 1; about 21 min left"
    watched.progress.test_begins("a--one--seed1")
    watched.lines.clear()
    assert watched.at(500) == []
    assert watched.at(551) == ["a--one--seed1: still testing, 1.5 min so far"]


def test_what_an_earlier_attempt_has_said_is_not_said_again(tmp_path, watched):
    """A resumed training has the rows of its earlier epochs, and until it begins also those that it will drop."""
    steps(watched.log, 0, 0, 100, 2.0)
    steps(watched.log, 1, 100, 160, 1.0)
    for path in watched.folder.rglob("metrics.csv"):
        os.utime(path, (time.time() - 100, time.time() - 100))
    point = {"epoch": 1, "step": 100, "cpu_s": 1.0, "time": 1.7e9}
    write_json(watched.folder / "fit/version_0/checkpoints/resume.json", point)
    (watched.folder / "fit/version_0/checkpoints/resume.ckpt").touch()
    again = JobRun(watched.run.planned, watched.folder, Decision("resume", ""))
    again.command()
    lines = []
    progress = Progress([job("a")], 2, None, lines.append, lambda: watched.now)
    progress.begins(again)
    progress.look()
    assert lines == []
    log = log_of(watched.folder)
    log.go_on(100, None)
    for second, first in ((10, 100), (20, 150)):
        steps(log, 1, first, first + 50, 0.5)
        watched.now = second
        progress.look()
    steps(log, 2, 200, 210, 0.5)
    watched.now = 21
    progress.look()
    # the pace is that of this attempt: 60 steps in 11 s, 190 left and 15 % of 400
    assert lines == ["a--one--seed1: epoch 2 of 4: loss 0.5; about 46 s left"]


def test_a_log_in_any_state_is_read(tmp_path):
    path = tmp_path / "metrics.csv"
    assert read_epochs(path) == []
    for text in ("", "epoch,step", "epoch,step\n", "\x00", "a,b\n1,2\n", "epoch,step,train/loss\n0,9,\n0,x,1\n"):
        path.write_text(text)
        assert all(epoch.losses == [] for epoch in read_epochs(path))
    path.write_bytes(b"\xff\xfe")
    assert read_epochs(path) == []
    path.write_text("epoch,step,train/loss\n0,9,1.5\n0,19,nan\n1,29,2\n1,39,0.")
    first, second = read_epochs(path)
    assert (first.number, first.step, first.losses) == (1, 20, [1.5])
    assert (second.number, second.step, second.losses) == (2, 30, [2.0])


def test_the_expected_end_follows_the_jobs_that_end():
    """Two side by side: 4 + 2 + 2 minutes by the suite; then the first one takes twice as long as the suite says."""
    a, b, c = job("a", minutes=4.0), job("b"), job("b", seed=2)
    forecast = Forecast([a, b, c], 2)
    assert forecast.left({a.name: (0.0, None), b.name: (0.0, None)}) == 4.0
    assert forecast.left({a.name: (1.0, None), b.name: (1.0, None)}) == 3.0
    assert forecast.left({a.name: (1.0, 9.0), b.name: (1.0, None)}) == 9.0
    forecast.ended(b, 4.0)
    assert forecast.done == (1, 3)
    assert forecast.expected(a) == 8.0  # at the same pace
    assert forecast.expected(c) == 4.0  # the same model
    assert forecast.left({a.name: (4.0, None), c.name: (0.0, None)}) == 4.0
    forecast.ended(a, None)  # a failure says nothing
    assert forecast.expected(c) == 4.0
    forecast.ended(c, 4.0)
    assert not forecast.waiting({})


def test_without_times_of_the_suite_the_end_is_known_after_a_job():
    a, b, c = job("a", minutes=None), job("b", minutes=None), job("c", minutes=3.0)
    forecast = Forecast([a, b, c], 1)
    assert forecast.left({a.name: (0.0, None)}) is None
    forecast.ended(a, 5.0)
    assert forecast.left({}) == 8.0  # the mean for b; what the suite says for c


def test_the_end_is_said_with_the_time_of_day(watched):
    watched.now = 60.0
    watched.progress.ends("a--one--seed1", finished=True)
    (line,) = watched.lines
    # b is expected to take as much of its two minutes as a did
    assert re.fullmatch(r"1 of 2 jobs done; the others in about 1\.0 min, at \d\d:\d\d( on .*)?", line)


def test_a_busy_machine_is_told():
    load = 0.4
    watch = Load(2, cores=2, read=lambda: load)
    assert watch.at_start() == ""
    assert watch.news(0.0) == ""
    load = 1.6
    assert watch.at_start().startswith("warning: the machine is busy (load 1.6 before any job runs, on 2 cores")
    assert Load(2, cores=16, read=lambda: load).at_start() == ""  # there is room
    load = 2.2
    assert watch.news(200.0) == ""  # the jobs themselves
    load = 3.4
    assert watch.news(210.0) == "warning: the machine is busy (load 3.4 on 2 cores; the jobs use 2): they take longer"
    assert watch.news(500.0) == ""  # not again at once
    assert watch.news(900.0)

    def unknown():
        raise OSError

    assert Load(2, cores=2, read=unknown).at_start() == ""
