"""A job on a cluster that SLURM manages: put back, and found again when it has come back. No torch."""

from __future__ import annotations

import os
import subprocess
import sys


def job() -> str:
    """Return the number of the job that this process belongs to, of an array with the task; empty outside SLURM."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")


def has_come_back() -> bool:
    """Tell whether the job runs again, after a preemption, a node's failure or ``scontrol requeue``."""
    return bool(job()) and os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0")


def requeue() -> None:
    """Put the job back into the queue; it goes on where it was, see `rrsis_zoo.training.runs.of_this_job`."""
    command = ["scontrol", "requeue", job()]
    try:
        status = subprocess.run(command, check=False).returncode
    except OSError as error:
        status = error
    if status != 0:
        print(f"rrsis: {' '.join(command)} failed ({status}): submit the job again", file=sys.stderr, flush=True)
