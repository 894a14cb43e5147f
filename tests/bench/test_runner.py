"""The runner with a program that takes no time: what runs where and when, and what is left when something is killed."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_runs import made_profile, made_result

from bench import jobs as jobs_module
from bench import runner
from bench.jobs import Decision, Goal, Planned
from bench.parts import key_of
from bench.plan import Slot, announce, expected_minutes, slots
from bench.processes import Processes
from bench.runner import only_runner, run_jobs, run_profiles, summary
from bench.suites import Job, Suite
from rrsis_zoo.errors import ConfigError, OutputError
from rrsis_zoo.files import read_json, write_json

PARTS = {"configuration": "a", "weights": "b", "data": "c", "protocol": "d", "code": "e"}

PROGRAM = """
    import json, os, signal, subprocess, sys, time
    from pathlib import Path

    import __main__
    assert __main__.__spec__.name == "fake_rrsis"  # by this name Lightning starts further processes
    command, arguments = sys.argv[1], sys.argv[2:]
    value = dict(zip(arguments[::2], arguments[1::2]))
    folder = Path(value["--trainer.logger.save_dir"])
    with open(folder.parent / "events.txt", "a") as events:
        print(command, folder.name, os.environ.get("CUDA_VISIBLE_DEVICES"), file=events)
    print("this is the log of", command)
    if command == "fit":
        place = folder / "fit" / "version_0" / "checkpoints"
        place.mkdir(parents=True, exist_ok=True)
        (place / "best.ckpt").touch()
    for name in ("sleep", "spawn"):
        if (folder.parent / f"{folder.name}.{name}").exists():
            if name == "spawn":
                subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            print(os.getpid(), flush=True)
            time.sleep(600)
    if (folder.parent / f"{folder.name}.patient").exists() and command == "fit":  # ends in order, as `rrsis fit` does

        def end(number, frame):
            point = {"epoch": 1, "step": 13, "cpu_s": 0.5, "time": time.time()}
            (place / "resume.json").write_text(json.dumps(point))
            (place / "resume.ckpt").touch()
            (folder.parent / f"{folder.name}.patient").unlink()
            sys.exit(128 + number)

        signal.signal(signal.SIGTERM, end)
        print(os.getpid(), flush=True)
        time.sleep(600)
    log = folder.parent / f"{folder.name}.log"
    if command == "fit" and log.exists():  # what the training logs
        (folder / "fit" / "version_0" / "metrics.csv").write_text(log.read_text())
    fault = folder.parent / f"{folder.name}.fails"
    if fault.exists() and fault.read_text() == command:
        print("rrsis: no luck")
        sys.exit(2)
    home = Path(__file__).parent
    if command == "fit":
        (place / "resume.json").write_text((home / "resume.json").read_text())
    if command == "test":
        place = folder / "test" / "version_0"
        place.mkdir(parents=True)
        (place / "test.json").write_text((home / "test.json").read_text())
"""
RESULT = made_result("one", 0.5, 1)
GOAL = Goal(2, None, False, "canonical", "test", RESULT["n"], RESULT["annotations_sha256"])
POINT = {"epoch": 2, "step": 20, "finished": True, "cpu_s": 1.0, "time": 1.7e9}

PROFILES = """
    import json, os, signal, sys, time
    from pathlib import Path
    path = Path(sys.argv[1])
    listed = json.loads(path.read_text())
    for entry in listed["profiles"]:
        out, target, *arguments = entry["arguments"]
        assert out == "--out"
        if "last" in target:
            print("no more memory", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        entry["status"] = 1 if "broken" in target else 0
        if entry["status"]:
            Path(entry["log"]).write_text("no\\n")
        else:
            made = json.loads((Path(__file__).parent / "profile.json").read_text())
            Path(target).write_text(json.dumps({**made, "arguments": arguments}))
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(listed))
        draft.rename(path)
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A command of our name's place that does what files in the folder of the runs say."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "fake_rrsis.py").write_text(textwrap.dedent(PROGRAM))
    (modules / "fake_profiles.py").write_text(textwrap.dedent(PROFILES))
    for name, content in (("test", RESULT), ("resume", POINT), ("profile", made_profile(0.5))):
        write_json(modules / f"{name}.json", content)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(modules), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(jobs_module, "PROGRAM", "fake_rrsis")
    monkeypatch.setattr(runner, "PROFILER", "fake_profiles")
    runs = tmp_path / "runs"
    runs.mkdir()
    return runs


def planned(name, seed=1, fault="", role="method", **parts):
    job = Job("s", name, "one", seed, name.capitalize(), role, (), (), {}, 2.0)
    known = {**PARTS, **parts}
    arguments = ("--seed_everything", str(seed))
    if fault:
        return Planned(job, arguments, {}, "", None, fault)
    return Planned(job, arguments, known, key_of(known), GOAL)


def run(plans, folder, places=None, retry=False):
    lines = []
    places = places or [Slot({"OMP_NUM_THREADS": "1"})] * 2
    with Processes() as processes:
        records = run_jobs(plans, folder, places, retry, processes, lines.append)
    return records, lines


def events(folder):
    path = folder / "events.txt"
    found = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def test_what_is_run_and_what_is_said(program):
    plans = [planned("a"), planned("b"), planned("c", fault="there is no data")]
    (program / "b--one--seed1.fails").write_text("fit")
    records, lines = run(plans, program)
    assert [record["status"] for record in records] == ["finished", "failed", "failed"]
    assert records[1]["reason"] == "training ended with status 2: rrsis: no luck"
    assert [json.loads((program / f"{n}--one--seed1" / "job.json").read_text()) for n in "abc"] == records
    assert (program / "a--one--seed1" / "fit.log").read_text().startswith("this is the log of fit")
    assert len([line for line in lines if line.startswith("a--one--seed1")]) == 3
    for start in (
        "a--one--seed1: training (1 of 2)",
        "b--one--seed1: training (2 of 2)",
        "c--one--seed1: cannot start: there is no data",
        "a--one--seed1: testing (training took 0.0 min of processor time)",
        f"b--one--seed1: FAILED: {records[1]['reason']}; log: {program / 'b--one--seed1' / 'fit.log'}",
        "a--one--seed1: finished in 0.0 min: mIoU 44.7",
    ):
        assert any(line.startswith(start) for line in lines), (start, lines)
    assert sorted(events(program)) == [
        "fit a--one--seed1 None", "fit b--one--seed1 None", "test a--one--seed1 None",
    ]  # fmt: skip

    again, lines = run(plans, program)  # nothing to do but the data's job, which is still not possible
    assert again == records
    assert events(program) == []
    assert lines[0] == "a--one--seed1: finished earlier"
    assert lines[1].endswith("--retry tries it again")

    (program / "b--one--seed1.fails").unlink()
    third, lines = run([planned("a", code="other"), planned("b"), planned("c")], program, retry=True)
    assert [record["status"] for record in third] == ["finished"] * 3
    assert "a--one--seed1: training: changed since then: code (1 of 3)" in lines
    assert "b--one--seed1: training: failed earlier; from the beginning (2 of 3)" in lines
    assert "c--one--seed1: training (3 of 3)" in lines


def test_a_training_free_method_is_only_tested(program):
    """It is not profiled either: a training step is part of a profile."""
    plans = [replace(planned("a"), trained=False), replace(planned("b"), trained=False)]
    (program / "b--one--seed1.fails").write_text("test")
    records, lines = run(plans, program, [Slot({"OMP_NUM_THREADS": "1"})])
    assert [(record["status"], record["fit"]) for record in records] == [("finished", None), ("failed", None)]
    assert lines[0] == "a--one--seed1: testing (1 of 2)"
    assert lines[1].startswith("a--one--seed1: finished in 0.0 min: mIoU 44.7")
    assert lines[-1].endswith(f"log: {program / 'b--one--seed1' / 'test.log'}")
    assert events(program) == ["test a--one--seed1 None", "test b--one--seed1 None"]
    with Processes() as processes:
        assert run_profiles(plans, records, program, Slot({}), processes, lines.append) == []
    assert not (program / "profiles.json").exists()
    assert "1 of 2 jobs finished" in summary(Suite("s", "", "", "canonical", (1,), (), (), (), None), records, 1.0)[0]


def test_epochs_and_the_expected_end_are_said(program):
    """Also of a training that ends before anybody has looked; nothing more is expected after the last job."""
    (program / "a--one--seed1.log").write_text(
        "epoch,step,train/loss,val/miou\n0,9,2.0,\n0,19,1.0,\n1,29,0.5,\n1,39,0.25,\n1,39,,51.23\n"
    )
    _, lines = run([planned("a"), planned("b")], program, [Slot({"OMP_NUM_THREADS": "1"})])
    said = [line.partition("; about")[0] for line in lines]
    assert said[:4] == [
        "a--one--seed1: training (1 of 2)",
        "a--one--seed1: epoch 1 of 2: loss 1.5",
        "a--one--seed1: epoch 2 of 2: loss 0.375, val mIoU 51.2",
        "a--one--seed1: testing (training took 0.0 min of processor time)",
    ]
    assert lines[4].startswith("a--one--seed1: finished in 0.0 min")
    assert lines[5].startswith("1 of 2 jobs done; the others in about")
    assert lines[-1].startswith("b--one--seed1: finished in")


def test_one_job_on_each_gpu(program, monkeypatch):
    plans = [replace(planned("a", seed), on_gpu=True) for seed in range(6)]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,GPU-x")
    places = slots(plans, 2)
    assert [place.name for place in places] == ["GPU 4", "GPU 5", "GPU GPU-x"]
    run(plans, program, places)
    used = [line.split() for line in events(program)]
    assert {gpu for *_, gpu in used} == {"4", "5", "GPU-x"}
    for seed in range(6):
        assert len({gpu for _, name, gpu in used if name == f"a--one--seed{seed}"}) == 1
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert [place.environment for place in slots(plans, 2)] == [{"CUDA_VISIBLE_DEVICES": n} for n in "012"]
    on_cpu = slots([planned("a")], 2)  # a configuration that asks for no accelerator
    assert [dict(place.environment) for place in on_cpu] == [{"OMP_NUM_THREADS": "1"}] * 2
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert len(slots(plans, 3)) == 3


def test_how_long_it_takes():
    def job(minutes):
        return replace(planned("a").job, cpu_minutes=minutes)

    assert expected_minutes([job(3.0), job(2.0), job(2.0)], 2) == 4.0
    assert expected_minutes([job(3.0), job(None)], 2) is None
    suite = Suite("s", "T", "C", "canonical", (1,), (), (), (), 3.0)
    plans = [planned("a"), planned("b"), planned("b", seed=2)]
    decisions = [Decision(action, "") for action in ("skip", "start", "resume")]
    places = [Slot({"CUDA_VISIBLE_DEVICES": "0"}, "GPU 0")]
    lines = announce(suite, plans, decisions, places, Path("runs/s"))
    assert lines == [
        "s: 3 jobs (2 models, 1 dataset, 2 seeds): 1 finished earlier, 2 to run",
        "1 at once, GPU 0; logs: runs/s/JOB/*.log",
        "expected: 4 minutes of at most 3, from the suite's cpu_minutes: too long, use fewer epochs",
    ]
    part = replace(suite, minutes=None, seeds_left_out=(3, 4))
    assert announce(part, plans, decisions, places, Path("runs/s")) == [
        lines[0],
        "only seeds 1, 2, without 3, 4, also in tables and report",
        lines[1],
        "expected: 4 minutes, from the suite's cpu_minutes",
    ]
    records = [
        {"name": "x", "status": "finished", "fit": {"cpu_s": 60.0}, "test": {"cpu_s": 30.0}},
        {"name": "y", "status": "failed", "reason": "why", "fit": None},
    ]
    assert summary(suite, records, 2.0) == [
        "s: 1 of 2 jobs finished; this took 2.0 minutes (limit 3), all jobs together 1.5 minutes of processor time",
        "FAILED y: why",
    ]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]


def wait_until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to it"
        time.sleep(0.05)


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="tells processes apart by /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_nothing_is_left_behind(program, tmp_path, how, root):
    """Whatever ends the runner ends its jobs and what they have started; a job under way is no finished one."""
    (program / "a--one--seed1.spawn").touch()
    started = runner_of(program, tmp_path, root)
    log = program / "a--one--seed1" / "fit.log"
    wait_until(lambda: log.exists() and len(log.read_text().splitlines()) == 2)
    wait_until((program / "b--one--seed1" / "job.json").exists)
    pid = int(log.read_text().splitlines()[1])
    group = subprocess.run(["ps", "-o", "pid=", "-g", str(pid)], capture_output=True, text=True).stdout.split()
    assert len(group) == 2
    started.send_signal(how)
    assert started.wait(60) == (-how if how == signal.SIGKILL else 128 + how)
    wait_until(lambda: not any(alive(int(one)) for one in group))
    assert not (program / "a--one--seed1" / "job.json").exists()
    (program / "a--one--seed1.spawn").unlink()
    records, lines = run([planned("a"), planned("b")], program)
    assert [record["status"] for record in records] == ["finished", "finished"]
    assert lines[0].startswith("a--one--seed1: training: from the beginning")
    assert lines[1] == "b--one--seed1: finished earlier"


def runner_of(program, tmp_path, root):
    """Start a runner of two jobs in a process of its own, with the signals as the script behind it has them."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from rrsis_zoo import signals
        from bench import jobs, runner
        from bench.parts import PARTS, key_of
        from bench.plan import Slot
        from bench.processes import Processes
        from bench.suites import Job

        jobs.PROGRAM = "fake_rrsis"
        parts = {PARTS!r}
        names = [Job("s", name, "one", 1, "T", "method", (), (), {{}}) for name in "ab"]
        plans = [jobs.Planned(job, (), parts, key_of(parts), jobs.{GOAL!r}) for job in names]
        assert "torch" not in sys.modules  # it would take some seconds to look what is left to do
        with signals.handled(), Processes() as processes:
            runner.run_jobs(plans, Path({str(program)!r}), [Slot({{}})] * 2, False, processes, print)
        """)
    )
    return subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(root / "benchmarks")])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores Ctrl-C
    )


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_training_ends_in_order_with_its_runner(program, tmp_path, how, root):
    """It is asked before it is killed, and the next runner goes on from the point that it has left."""
    (program / "a--one--seed1.patient").touch()
    started = runner_of(program, tmp_path, root)
    log = program / "a--one--seed1" / "fit.log"
    wait_until(lambda: log.exists() and len(log.read_text().splitlines()) == 2)
    started.send_signal(how)
    assert started.wait(60) == 128 + how
    assert not alive(int(log.read_text().splitlines()[1]))
    assert not (program / "a--one--seed1" / "job.json").exists()
    records, lines = run([planned("a")], program)
    assert lines[0] == "a--one--seed1: training: goes on after 1 epoch (1 of 1)"
    assert (records[0]["status"], records[0]["fit"]["resumed"]) == ("finished", 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_training_that_is_ended_alone_goes_on_next_time(program, number, request):
    """Somebody ends the training and not its runner: it is not finished, stands in no file, and nobody has to ask."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # pytest in the background of a script: children inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
        request.addfinalizer(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    (program / "a--one--seed1.patient").touch()
    log = program / "a--one--seed1" / "fit.log"

    def end():
        wait_until(lambda: log.exists() and len(log.read_text().splitlines()) == 2)
        os.kill(int(log.read_text().splitlines()[1]), number)

    ending = threading.Thread(target=end)
    ending.start()
    (record, other), lines = run([planned("a"), planned("b")], program)
    ending.join()
    assert (record["status"], other["status"]) == ("interrupted", "finished")
    why = f"training was interrupted by {number.name}"
    assert f"a--one--seed1: INTERRUPTED: {why}; the next run resumes it; log: {log}" in lines
    assert summary(Suite("s", "T", "C", "canonical", (1,), (), (), (), None), [record, other], 1.0)[-1] == (
        f"INTERRUPTED a--one--seed1: {why}"
    )
    assert not (program / "a--one--seed1" / "job.json").exists()
    resumed = number == signal.SIGTERM  # the other one it did not catch, and left no point
    assert (program / "a--one--seed1" / "fit" / "version_0" / "checkpoints" / "resume.ckpt").exists() == resumed
    (program / "a--one--seed1.patient").unlink(missing_ok=True)
    records, lines = run([planned("a"), planned("b")], program)
    assert lines[0].startswith(f"a--one--seed1: training: {'goes on' if resumed else 'from the beginning'}")
    assert [one["status"] for one in records] == ["finished", "finished"]


def test_places_that_cannot_be_written(program, tmp_path):
    """One error of ours each, before anything has run."""
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        run([planned("a")], tmp_path / "file")
    with pytest.raises(OutputError, match="file"), only_runner(tmp_path / "file" / "runs"):
        pass
    (program / ".locks" / "a--one--seed1.lock").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"a--one--seed1\.lock cannot be locked"):
        run([planned("a")], program)
    (program / "fit.log").mkdir()
    with Processes() as processes, pytest.raises(OutputError, match=r"fit\.log cannot be written"):
        processes.start("fake_rrsis", [], program / "fit.log", {})
    assert events(program) == []


@pytest.mark.parametrize("text", ["{", "[]", '{"status": "finished"}'])
def test_a_damaged_record_stops_no_runner(program, text):
    run([planned("a")], program)
    (program / "a--one--seed1" / "job.json").write_text(text)
    events(program)
    records, lines = run([planned("a"), planned("b")], program)
    assert [record["status"] for record in records] == ["failed", "finished"]
    assert lines[0].startswith(f"a--one--seed1: {program / 'a--one--seed1' / 'job.json'}")
    assert lines[0].endswith("--retry does the job again")
    assert events(program) == ["fit b--one--seed1 None", "test b--one--seed1 None"]
    records, _ = run([planned("a"), planned("b")], program, retry=True)
    assert [record["status"] for record in records] == ["finished", "finished"]


def test_a_second_runner_is_refused(program):
    with (
        only_runner(program),
        pytest.raises(ConfigError, match=rf"another runner .*process {os.getpid()} on"),
        only_runner(program),
    ):
        pass
    with only_runner(program):
        pass


def test_a_job_of_another_runner_is_left_to_it(program):
    """Two that share a folder, as the tasks of an array do."""
    with runner._hold(program, "a--one--seed1"):
        records, lines = run([planned("a"), planned("b")], program)
    assert [record["status"] for record in records] == ["failed", "finished"]
    assert records[0]["reason"] == "another process was running it"
    assert not (program / "a--one--seed1").exists()
    assert lines[0] == "a--one--seed1: another process runs it; skipped"


def profiles(plans, records, folder):
    lines = []
    with Processes() as processes:
        faults = run_profiles(plans, records, folder, Slot({"OMP_NUM_THREADS": "1"}), processes, lines.append)
    return faults, lines


def test_profiles(program):
    """One for each model, of its first seed, in its record; a failure is named and the others go on."""
    plans = [planned("broken"), planned("a"), planned("c", role="ablation"), planned("a", 2), planned("d", fault="x")]
    records, _ = run(plans, program)
    faults, lines = profiles(plans, records, program)
    log = program / "broken--one--seed1" / "profile.log"
    assert faults == [f"broken--one--seed1: profiling ended with status 1: no; log: {log}"]
    assert lines == [
        "profiling, one after another: broken--one--seed1, a--one--seed1", *faults, "a--one--seed1: profiled",
    ]  # fmt: skip
    profile = {**made_profile(0.5), "arguments": ["--seed_everything", "1"]}
    assert read_json(program / "a--one--seed1" / "job.json") == {**records[1], "profile": profile}
    assert all(
        read_json(program / f"{n}--one--{s}" / "job.json")["profile"] is None
        for n, s in [("broken", "seed1"), ("c", "seed1"), ("a", "seed2")]
    )
    records, _ = run(plans, program)
    assert records[1]["profile"] is not None
    assert profiles(plans[1:2], records[1:2], program) == ([], ["a--one--seed1: profiled earlier"])
    write_json(program / "a--one--seed1" / "job.json", {**records[1], "key": "of something else"})
    assert run(plans[1:2], program)[0][0]["profile"] is None


def test_profiles_that_are_ended_keep_what_is_done(program):
    plans = [planned("a"), planned("last"), planned("b")]
    records, _ = run(plans, program)
    faults, lines = profiles(plans, records, program)
    why = f"profiling was ended by SIGKILL (was there enough memory?); log: {program / 'profiles.log'}"
    assert faults == [f"{name}--one--seed1: {why}" for name in ("last", "b")]
    assert lines[1:] == ["a--one--seed1: profiled", *faults]
    kept = [read_json(program / f"{name}--one--seed1" / "job.json")["profile"] for name in ("a", "last", "b")]
    assert kept == [{**made_profile(0.5), "arguments": ["--seed_everything", "1"]}, None, None]
