"""The recipes for a cluster, with stand-ins for its commands."""

import os
import signal
import subprocess
import sys
import time

import pytest

JOBS = [f"m{i}--d--seed1" for i in range(5)]


@pytest.fixture
def stand_in(tmp_path):
    """Make a program that prints its arguments, one a line."""

    def make(name, text='printf "%s\\n" "$@"'):
        path = tmp_path / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
        return path

    return make


def sbatch(root, name, *arguments, **environment):
    script = root / "benchmarks" / "slurm" / name
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
    done = subprocess.run(
        ["bash", str(script), *arguments], capture_output=True, text=True, env={**clean, **environment}, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_array_shares_out_all_jobs(root, stand_in):
    listing = "\n".join(JOBS)
    python = stand_in("python", f'if [[ " $* " == *" --list "* ]]; then echo "{listing}"; else printf "%s\\n" "$@"; fi')
    asked = []
    for task in range(3):
        said = sbatch(
            root, "suite.sbatch", PYTHON=str(python), SUITE="s.yaml", ROOTS="a=/x b=/y",
            SLURM_ARRAY_TASK_ID=str(task), SLURM_ARRAY_TASK_COUNT="3", SLURM_NTASKS="1",
        )  # fmt: skip
        assert said[:6] == ["benchmarks/run.py", "s.yaml", "--root", "a=/x", "b=/y", "--only"]
        asked += said[6:]
    assert sorted(asked) == JOBS
    idle = {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "6"}
    assert sbatch(root, "suite.sbatch", PYTHON=str(python), **idle) == ["no job falls to task 5 of 6"]
    tables = sbatch(root, "suite.sbatch", PYTHON=str(python), SUITE="s.yaml", TABLES="1", SLURM_ARRAY_TASK_ID="0")
    assert tables == ["benchmarks/run.py", "s.yaml"]


def test_the_array_asks_the_real_script(root):
    said = sbatch(
        root, "suite.sbatch", PYTHON=sys.executable, SUITE="benchmarks/real.yaml",
        SLURM_ARRAY_TASK_ID="40", SLURM_ARRAY_TASK_COUNT="50",
    )  # fmt: skip
    assert said == ["no job falls to task 40 of 50"]


def test_one_training_on_two_nodes(root, stand_in, tmp_path, monkeypatch):
    """The command is one that torchrun and `rrsis fit` take; requeued, it goes on from its resume point."""
    from torch.distributed.run import get_args_parser

    from rrsis_zoo.commands.fit import resolve

    folder = stand_in("srun").parent
    stand_in("scontrol", 'echo "node1"; echo "node2"')
    given = ["--config", str(root / "configs/rsrefseg.yaml"), "--config", str(root / "configs/overlays/ddp.yaml")]
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "77", "SLURM_NNODES": "2",
        "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_GPUS_ON_NODE": "4", "BIN": "bin",
    }  # fmt: skip
    monkeypatch.chdir(tmp_path)
    said = sbatch(root, "fit.sbatch", *given, **environment)
    assert said[:2] == ["--kill-on-bad-exit=1", "bin/torchrun"]
    launch = get_args_parser().parse_args(said[2:])
    assert (launch.nnodes, launch.nproc_per_node, launch.rdzv_backend) == ("2", "4", "c10d")
    assert (launch.rdzv_id, launch.rdzv_endpoint, launch.no_python) == ("77", "node1:29400", True)
    assert (launch.training_script, launch.training_script_args[0]) == ("bin/rrsis", "fit")
    trainer = resolve(launch.training_script_args[1:])["trainer"]
    assert (trainer["num_nodes"], int(trainer["devices"]), trainer["strategy"]) == (2, 4, "ddp")
    assert trainer["accumulate_grad_batches"] == 1
    assert [c["class_path"].rpartition(".")[2] for c in trainer["callbacks"]] == [
        "ModelCheckpoint", "LearningRateMonitor", "ResumePoint",
    ]  # fmt: skip
    point = tmp_path / "runs" / "fit-77" / "version_0" / "checkpoints" / "resume.ckpt"
    point.parent.mkdir(parents=True)
    point.touch()
    again = sbatch(root, "fit.sbatch", *given, **environment)
    assert again == [*said, "--ckpt_path", str(point.relative_to(tmp_path))]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signals_of_the_scheduler_reach_the_runner(root, stand_in, tmp_path, number):
    """The batch script is the runner itself, so that its orderly end is the task's, with its status."""
    caught = tmp_path / "caught"
    trap = f'trap "touch {caught}; exit {128 + number}" {int(number)}; touch {tmp_path}/up'
    runs = f"{trap}; while true; do sleep 0.05; done"
    python = stand_in("python", f'case "$*" in *--list*) echo job;; *) {runs};; esac')
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
    script = root / "benchmarks" / "slurm" / "suite.sbatch"
    task = subprocess.Popen(["bash", str(script)], env={**clean, "PYTHON": str(python), "SUITE": "s.yaml"})
    end = time.monotonic() + 30
    while not (tmp_path / "up").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    task.send_signal(number)
    assert task.wait(30) == 128 + number
    assert caught.exists()
    assert "#SBATCH --signal=B:USR1@120" in script.read_text()
