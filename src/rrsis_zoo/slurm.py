"""Jobs on a SLURM cluster: requeue one, and recognise one that was requeued. No torch."""

from __future__ import annotations

import os
import subprocess
import sys


def job() -> str:
    """Return this process's job number, with the task of an array; empty outside SLURM."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")


def has_come_back() -> bool:
    """Return whether the job was restarted, after preemption, a node failure or ``scontrol requeue``."""
    return bool(job()) and os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0")


def requeue() -> None:
    """Requeue the job; it continues where it was, see `rrsis_zoo.training.runs.of_this_job`."""
    command = ["scontrol", "requeue", job()]
    try:
        status = subprocess.run(command, check=False).returncode
    except OSError as error:
        status = error
    if status != 0:
        print(f"rrsis: {' '.join(command)} failed ({status}): submit the job again", file=sys.stderr, flush=True)
