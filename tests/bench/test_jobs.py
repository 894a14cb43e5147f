"""What is to be done with a job, and what its folder says while it is under way. No process is started here."""

import json
import time
from dataclasses import replace

import pytest
from made_runs import made_result

from bench.jobs import Decision, Goal, JobRun, Planned, cannot_start, decide
from bench.parts import key_of
from bench.processes import Usage
from bench.suites import Job
from rrsis_zoo.errors import OutputError
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


def leave_end(folder, epoch=5, step=50, finished=True, **more):
    """As the training does when it ends by itself; ten steps an epoch."""
    place = leave_checkpoints(folder, epoch, step)
    write_json(place / "resume.json", {**read_json(place / "resume.json"), "finished": finished, **more})
    return place


def finish(run, folder):
    run.command()
    leave_end(folder)
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
    checkpoints = leave_end(folder)
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


def test_a_suite_that_diagnoses(tmp_path):
    """After the test; a diagnosis that fails is a failed job."""
    plan = replace(planned(), job=replace(planned().job, diagnose=24))
    for status, outcome in ((0, ("finished", "")), (2, ("failed", "the diagnosis"))):
        folder = tmp_path / str(status)
        run = begin(folder, plan)
        run.command()
        checkpoints = leave_end(folder)
        run.ended(GOOD)
        assert run.stage == "test"
        leave_result(folder)
        run.ended(GOOD)
        assert run.stage == "diagnose"
        command = run.command()
        assert command.arguments[:3] == ("diagnose", "--ckpt", str(checkpoints / "best.ckpt"))
        assert command.arguments[-6:] == ("--out", str(folder / "diagnosis"), "--limit", "24", "--best", "6")
        assert command.log == folder / "diagnose.log"
        run.ended(Usage(status, 4.0, 3.0))
        assert run.stage == "over"
        record = run.finish()
        assert (record["status"], record["reason"][: len(outcome[1])]) == outcome
        assert record["test"] is not None


def test_a_training_free_method_is_only_tested(tmp_path):
    """No training, no checkpoint, no calibration, no diagnosis; an interrupted test starts again."""
    job = replace(planned().job, calibrate=True, diagnose=24)
    plan = replace(planned(), job=job, trained=False)
    run = begin(tmp_path / "job", plan)
    assert run.stage == "test"
    command = run.command()
    assert (command.arguments[0], command.log) == ("test", tmp_path / "job" / "test.log")
    assert "--ckpt_path" not in command.arguments
    assert "ResumePoint" not in " ".join(command.arguments)
    run.ended(Usage(-15, 1.0, 1.0))
    assert run.finish()["status"] == "interrupted"
    assert decide(plan, tmp_path / "job", False).action == "start"
    run = begin(tmp_path / "job", plan)
    run.command()
    leave_result(tmp_path / "job")
    run.ended(GOOD)
    assert run.stage == "over"
    record = run.finish()
    assert (record["status"], record["fit"], record["test"]["cpu_s"]) == ("finished", None, 8.0)
    assert decide(plan, tmp_path / "job", False).action == "skip"


def test_a_suite_that_calibrates(tmp_path):
    """Between training and test; without its file there is no test."""
    plan = replace(planned(), job=replace(planned().job, calibrate=True))
    for left in (True, False):
        folder = tmp_path / str(left)
        run = begin(folder, plan)
        run.command()
        checkpoints = leave_end(folder)
        run.ended(GOOD)
        assert run.stage == "calibrate"
        command = run.command()
        assert command.arguments == ("calibrate", "--ckpt", str(checkpoints / "best.ckpt"))
        assert command.log == folder / "calibrate.log"
        if left:
            (checkpoints / "best.presence.json").write_text("{}")
        run.ended(GOOD)
        assert run.stage == ("test" if left else "over")
    record = run.finish()
    assert (record["status"], record["reason"]) == ("failed", "the calibration left no best.presence.json")
    assert decide(plan, folder, True).action == "test"  # it is trained, and calibrated again
    assert begin(folder, plan, retry=True).stage == "calibrate"
    run = begin(tmp_path / "bad", plan)
    run.command()
    leave_end(tmp_path / "bad")
    run.ended(GOOD)
    run.command()
    run.ended(BAD)
    assert run.finish()["reason"].startswith("the calibration ended with status 2")


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
    leave_end(folder)
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
        leave_end(folder)
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
    leave_end(folder)
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


# -- what counts as finished -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [143, 130, 129, -15, -2, -1, 138])
def test_what_a_signal_ended_is_taken_up_again(tmp_path, status):
    """Whether the process caught it or not: the resume point stays, nothing is recorded, and nobody has to ask."""
    folder = tmp_path / "job"
    run = begin(folder)
    run.command()
    leave_checkpoints(folder, epoch=3)
    run.ended(Usage(status, 10.0, 8.0))
    assert run.stage == "over"
    record = run.finish()
    assert (record["status"], record["result"]) == ("interrupted", None)
    assert record["reason"].startswith("training was interrupted by SIG")
    assert not (folder / "job.json").exists()
    assert (folder / "fit" / "version_0" / "checkpoints" / "resume.ckpt").exists()
    assert decide(planned(), folder, False).why == "goes on after 3 epochs"
    again = begin(folder)
    again.command()
    leave_end(folder)
    again.ended(GOOD)
    again.command()
    again.ended(Usage(status, 1.0, 1.0))
    assert again.finish()["reason"].startswith("the test was interrupted by SIG")
    assert not (folder / "job.json").exists()
    assert decide(planned(), folder, False).action == "test"
    assert finish_test(folder)["status"] == "finished"


def finish_test(folder):
    run = begin(folder)
    run.command()
    leave_result(folder)
    run.ended(GOOD)
    return run.finish()


SHORT = {
    "one epoch less": ({"epoch": 4, "step": 40}, "after 4 epochs and 40 steps, and should have done 5 epochs"),
    "the last epoch cut short": ({"epoch": 4, "batch": 9, "step": 49}, "after 4 epochs and 49 steps"),
    "stopped by nobody": ({"epoch": 2, "step": 20}, "after 2 epochs"),
    "not at its end": ({"finished": False}, "after 5 epochs"),
    "nothing": (None, "left no resume.json"),
    "half a file": ("{", "resume.json is not JSON"),
    "another file": ({"epoch": "5"}, "epoch: "),
}


@pytest.mark.parametrize("how", SHORT)
def test_status_0_is_no_proof_of_a_whole_training(tmp_path, how):
    left, said = SHORT[how]
    folder = tmp_path / "job"
    run = begin(folder)
    run.command()
    checkpoints = leave_end(folder, **left if isinstance(left, dict) else {})
    if left is None:
        (checkpoints / "resume.json").unlink()
    elif isinstance(left, str):
        (checkpoints / "resume.json").write_text(left)
    run.ended(GOOD)
    record = run.finish()
    assert record["status"] == "interrupted"
    assert said in record["reason"]
    assert not (folder / "job.json").exists()
    assert (checkpoints / "resume.ckpt").exists()
    assert decide(planned(), folder, False).action == "resume"


@pytest.mark.parametrize(
    ("goal", "left"),
    [
        ({"epochs": None, "steps": 33}, {"epoch": 3, "step": 33}),
        ({"epochs": 9, "steps": 33}, {"epoch": 3, "step": 33}),
        ({"may_stop": True}, {"epoch": 2, "step": 20}),
        ({"epochs": None, "may_stop": True}, {"epoch": 2, "step": 17}),
    ],
    ids=["by steps", "by steps before epochs", "early stopping", "a limit of time"],
)
def test_other_ends_of_a_training(tmp_path, goal, left):
    folder, plan = tmp_path / "job", replace(planned(), goal=replace(GOAL, **goal))
    run = begin(folder, plan)
    run.command()
    leave_end(folder, **left)
    run.ended(GOOD)
    assert run.stage == "test"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"partial": {"n": 45, "of": 3481}}, "only 45 of 3,481 samples were scored"),
        ({"untrained": True}, "the model was not trained"),
        ({"n": 44, "metrics": {"n": 44}}, "its n is 44, expected 45"),
        ({"annotations_sha256": "cd" * 32}, "its annotations_sha256 is"),
        ({"protocol": "lavt480"}, "its protocol is 'lavt480', expected 'canonical'"),
        ({"split": "train"}, "its split is 'train'"),
        ({"metrics": {"oiou": 900.0}}, "oiou must be from 0 to 100"),
    ],
)
def test_a_test_that_is_not_the_jobs_is_no_result(tmp_path, said, reason):
    folder = tmp_path / "job"
    run = begin(folder)
    run.command()
    leave_end(folder)
    run.ended(GOOD)
    run.command()
    leave_result(folder, **said)
    run.ended(GOOD)
    record = run.finish()
    assert (record["status"], record["result"]) == ("failed", None)
    assert reason in record["reason"]


def test_a_clock_that_is_set_back_loses_nothing(tmp_path):
    """An attempt's point is told by what it says, not by when: here it seems to be older than the attempt."""
    folder = tmp_path / "job"
    begin(folder).command()
    leave_checkpoints(folder, epoch=1, step=10, cpu_s=5.0, when=time.time() - 3600)
    run = begin(folder)
    run.command()
    leave_checkpoints(folder, epoch=2, step=20, cpu_s=4.0, when=time.time() - 7200)
    run = begin(folder)
    run.command()  # killed before a point of its own
    record = finish(begin(folder), folder)
    assert record["fit"]["cpu_s"] == 5.0 + 4.0 + GOOD.cpu_s
    assert record["fit"]["wall_s"] == GOOD.wall_s  # what a clock says that was set is not added
    assert record["fit"]["resumed"] == 3


# -- what is damaged ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "[" * 100_000, '{"key": 3}', "\x00"])
def test_damaged_files_of_a_job(tmp_path, text):
    """``job.json`` may be all that is left of days of work: nobody redoes it unasked. Others are as if not there."""
    folder = tmp_path / "job"
    finish(begin(folder), folder)
    (folder / "job.json").write_text(text)
    left = decide(planned(), folder, False)
    assert left.action == "leave"
    assert str(folder / "job.json") in left.why
    assert left.why.endswith("--retry does the job again")
    assert decide(planned(), folder, True).action == "start"
    assert cannot_start(replace(planned(), fault="no data"), folder)["reason"] == "no data"
    assert (folder / "job.json").read_text() == text
    begin(folder, retry=True).command()
    checkpoints = leave_checkpoints(folder)
    (checkpoints / "resume.json").write_text(text)
    assert decide(planned(), folder, False).why == "goes on after some epochs"
    assert begin(folder).command().arguments[-1].endswith("resume.ckpt")
    (folder / "state.json").write_text(text)
    again = decide(planned(), folder, False)
    assert again.action == "start"
    assert str(folder / "state.json") in again.why
    assert finish(begin(folder), folder)["status"] == "finished"


def test_the_folder_of_another_job_is_no_result_of_this_one(tmp_path):
    folder = tmp_path / "job"
    finish(begin(folder), folder)
    other = replace(planned(), job=replace(planned().job, model="other"))
    assert "is the record of small--one--seed1" in decide(other, folder, False).why


def test_what_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file/job cannot be written"):
        JobRun(planned(), tmp_path / "file" / "job", Decision("start", ""))
    folder = tmp_path / "job"
    run = begin(folder)
    (folder / "state.json").mkdir()
    with pytest.raises(OutputError, match=r"state\.json cannot be written \(it is a folder\)"):
        run.command()
