"""What is to be done with a job, and what its folder says while it is under way. No process is started here."""

import csv
import json
import time
from dataclasses import replace

import pytest
from made_runs import made_result

from rrsis_zoo.bench.jobs import Goal, JobRun, Planned, cannot_start, decide
from rrsis_zoo.bench.parts import key_of
from rrsis_zoo.bench.processes import Usage
from rrsis_zoo.bench.suites import Job
from rrsis_zoo.files import read_json, write_json

PARTS = {"configuration": "a", "weights": "b", "data": "c", "protocol": "d", "code": "e"}
GOOD = Usage(0, 10.0, 8.0)
GOAL = Goal(5, None, False, "canonical", "test", 45, "ab" * 32)
RESULT = made_result("one", 0.5, 1)
BAD = Usage(2, 3.0, 2.0, ["Seed set to 1", "rrsis: there is no file x", "and a last line"])


def planned(**parts):
    job = Job("s", "small", "one", 1, "Small", "method", ("constant",), ("small.yaml",), {"trainer.max_epochs": 5})
    known = {**PARTS, **parts}
    return Planned(job, tuple(job.arguments()), known, key_of(known), GOAL)


def begin(folder, plan=None, retry=False):
    plan = plan or planned()
    return JobRun(plan, folder, decide(plan, folder, retry))


def leave_checkpoints(folder, epoch=3, step=30, cpu_s=5.0, when=None):
    place = folder / "fit" / "version_0" / "checkpoints"
    place.mkdir(parents=True, exist_ok=True)
    (place / "best.ckpt").touch()
    (place / "resume.ckpt").touch()
    done = {"epoch": epoch, "step": step, "cpu_s": cpu_s, "time": time.time() if when is None else when}
    write_json(place / "resume.json", done)
    return place


def leave_reached(folder, epochs=5, steps=50, **more):
    """As the training does when it ends by itself; ten steps an epoch."""
    said = {"epochs": epochs, "steps": steps, "steps_an_epoch": 10, "max_epochs": 5, "max_steps": None}
    write_json(folder / "fit" / "version_0" / "reached.json", {**said, "stopped": False, "may_stop": False, **more})


def finish(run, folder):
    run.command()
    leave_reached(folder)
    run.ended(GOOD)
    run.command()
    leave_result(folder)
    run.ended(GOOD)
    return run.finish()


def leave_result(folder, **more):
    write_json(folder / "test" / "version_0" / "test.json", {**RESULT, **more})


def test_from_new_to_finished(tmp_path):
    folder = tmp_path / "job"
    assert decide(planned(), folder, False).action == "start"
    assert decide(planned(), folder, False).why == "new"
    run = begin(folder)
    fit = run.command()
    assert (fit.module, fit.arguments[0], fit.log) == ("rrsis_zoo.cli", "fit", folder / "fit.log")
    said = " ".join(fit.arguments)
    assert "--trainer.max_epochs 5" in said
    assert "--trainer.callbacks+ rrsis_zoo.training.resume.ResumePoint" in said
    assert "--ckpt_path" not in said
    assert "--trainer.callbacks+ rrsis_zoo.bench.reached.Reached" in said
    checkpoints = leave_checkpoints(folder)
    leave_reached(folder)
    run.ended(GOOD)
    assert run.stage == "test"
    assert [p.name for p in checkpoints.iterdir()] == ["best.ckpt"]  # nothing is left to resume
    test = run.command()
    assert (test.arguments[0], test.log) == ("test", folder / "test.log")
    assert test.arguments[-2:] == ("--ckpt_path", str(checkpoints / "best.ckpt"))
    assert "ResumePoint" not in " ".join(test.arguments)
    leave_result(folder)
    run.ended(Usage(0, 4.0, 3.0))
    assert run.stage == "over"
    record = run.finish()
    assert record == json.loads((folder / "job.json").read_text())
    assert not (folder / "state.json").exists()
    whose = ("schema", "suite", "name", "model", "dataset", "seed", "title", "role")
    assert {name: record[name] for name in whose} == {
        "schema": 1, "suite": "s", "name": "small--one--seed1", "model": "small", "dataset": "one", "seed": 1,
        "title": "Small", "role": "method",
    }  # fmt: skip
    assert (record["status"], record["reason"], record["against"]) == ("finished", "", ["constant"])
    assert (record["key"], record["key_parts"]) == (key_of(PARTS), PARTS)
    assert record["fit"] == {"status": 0, "wall_s": 10.0, "cpu_s": 8.0, "end": [], "resumed": 0}
    assert record["test"] == {"status": 0, "wall_s": 4.0, "cpu_s": 3.0, "end": []}
    assert record["result"] == RESULT
    assert record["profile"] is None


@pytest.mark.parametrize("part", PARTS)
def test_finished_is_skipped_until_a_part_changes(tmp_path, part):
    folder = tmp_path / "job"
    finish(begin(folder), folder)
    assert decide(planned(), folder, False).action == "skip"
    assert decide(planned(), folder, True).action == "skip"
    again = decide(planned(**{part: "other"}), folder, False)
    assert (again.action, again.why) == ("start", f"changed since then: {part}")
    leave_checkpoints(folder)  # of the old configuration: they are no start for the new one
    begin(folder, planned(**{part: "other"}))
    assert [p.name for p in folder.iterdir()] == []


def test_a_failure_stays_until_it_is_retried(tmp_path):
    folder = tmp_path / "job"
    run = begin(folder)
    run.command()
    run.ended(BAD)
    assert run.stage == "over"
    record = run.finish()
    assert (record["status"], record["test"], record["result"]) == ("failed", None, None)
    assert record["reason"] == "training ended with status 2: rrsis: there is no file x"
    assert record["fit"]["end"] == BAD.end
    left = decide(planned(), folder, False)
    assert (left.action, left.why) == (
        "leave", f"failed earlier: {record['reason']}; --retry tries it again",
    )  # fmt: skip
    assert decide(planned(data="other"), folder, False).action == "start"
    assert decide(planned(), folder, True).action == "start"
    leave_checkpoints(folder, epoch=1)
    assert decide(planned(), folder, True).why == "failed earlier; goes on after 1 epoch"
    assert finish(begin(folder, retry=True), folder)["status"] == "finished"
    assert decide(planned(), folder, False).action == "skip"


def test_a_failed_test_is_retried_without_training(tmp_path):
    folder = tmp_path / "job"
    run = begin(folder)
    run.command()
    leave_checkpoints(folder)
    leave_reached(folder)
    run.ended(GOOD)
    run.command()
    run.ended(replace(BAD, status=-9))
    assert run.finish()["reason"] == "the test was ended by SIGKILL (was there enough memory?)"
    assert decide(planned(), folder, False).action == "leave"
    decision = decide(planned(), folder, True)
    assert (decision.action, decision.why) == ("test", "failed earlier; it is trained")
    again = JobRun(planned(), folder, decision)
    assert again.command().arguments[0] == "test"
    leave_result(folder)
    again.ended(GOOD)
    record = again.finish()
    assert (record["status"], record["fit"]["cpu_s"]) == ("finished", 8.0)


def test_a_test_without_results_is_a_failure(tmp_path):
    folder = tmp_path / "job"
    run = begin(folder)
    for _ in range(2):
        run.command()
        leave_reached(folder)
        run.ended(GOOD)
    assert run.finish()["reason"] == "the test left no test.json"


def test_killed_in_training(tmp_path):
    """The next runner goes on from the checkpoint; what counts is the work up to it and the work after it."""
    folder = tmp_path / "job"
    begin(folder).command()
    assert decide(planned(), folder, False).action == "start"  # killed before the first checkpoint
    run = begin(folder)
    run.command()
    checkpoints = leave_checkpoints(folder, epoch=3, cpu_s=5.0, when=time.time() + 6.0)
    decision = decide(planned(), folder, False)
    assert (decision.action, decision.why) == ("resume", "goes on after 3 epochs")
    again = JobRun(planned(), folder, decision)
    assert again.command().arguments[-2:] == ("--ckpt_path", str(checkpoints / "resume.ckpt"))
    # killed again, before a checkpoint of its own: that attempt counts for nothing
    assert decide(planned(), folder, False).action == "resume"
    write_json(checkpoints / "resume.json", {**read_json(checkpoints / "resume.json"), "time": time.time() - 60.0})
    record = finish(begin(folder), folder)
    assert record["fit"]["cpu_s"] == 5.0 + GOOD.cpu_s
    assert record["fit"]["wall_s"] == pytest.approx(6.0 + GOOD.wall_s, abs=0.5)
    assert record["fit"]["resumed"] == 2


def test_killed_in_the_test(tmp_path):
    folder = tmp_path / "job"
    run = begin(folder)
    run.command()
    leave_checkpoints(folder)
    leave_reached(folder)
    run.ended(GOOD)
    run.command()
    (folder / "test" / "version_0").mkdir(parents=True)
    (folder / "test" / "version_0" / "half").touch()
    decision = decide(planned(), folder, False)
    assert decision.action == "test"
    JobRun(planned(), folder, decision).command()
    assert not (folder / "test").exists()


def test_a_moved_folder_starts_again(tmp_path):
    """The checkpoint holds the path of the best one; in another place that one would be lost."""
    run = begin(tmp_path / "job")
    run.command()
    leave_checkpoints(tmp_path / "job")
    (tmp_path / "job").rename(tmp_path / "moved")
    assert decide(planned(), tmp_path / "moved", False).action == "start"


def test_the_log_of_an_interrupted_training_is_whole(tmp_path):
    folder = tmp_path / "job"
    log = folder / "fit" / "version_0" / "metrics.csv"
    begin(folder).command()
    leave_checkpoints(folder, step=20, when=time.time() + 1)
    log.write_text("step,train/loss\n9,3.0\n19,2.0\n29,1.5\n")  # ten steps beyond the checkpoint: they are done again
    run = begin(folder)
    assert not log.exists()
    run.command()
    log.write_text("step,train/loss,val/miou\n29,1.4,\n29,,7.0\n")
    leave_reached(folder)
    run.ended(GOOD)
    rows = list(csv.DictReader(log.open()))
    assert [(row["step"], row["train/loss"], row["val/miou"]) for row in rows] == [
        ("9", "3.0", ""), ("19", "2.0", ""), ("29", "1.4", ""), ("29", "", "7.0"),
    ]  # fmt: skip
    assert [path.name for path in log.parent.glob("metrics*")] == ["metrics.csv"]


def test_what_cannot_start_keeps_an_earlier_result(tmp_path):
    folder = tmp_path / "job"
    blocked = replace(planned(), parts={}, key="", goal=None, fault="no data")
    assert decide(blocked, folder, True).action == "blocked"
    assert cannot_start(blocked, folder)["reason"] == "no data"
    assert read_json(folder / "job.json")["status"] == "failed"
    decision = decide(planned(), folder, False)
    assert (decision.action, decision.why) == ("start", "new")  # it never ran: nobody has to ask for a second try
    record = finish(begin(folder), folder)
    assert cannot_start(blocked, folder)["status"] == "failed"
    assert read_json(folder / "job.json") == record
