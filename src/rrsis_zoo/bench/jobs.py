"""Jobs: each trains and tests one method in processes of its own and leaves one ``job.json``.

A job is keyed by its configuration files, options, data and the package's code: a finished one is skipped, a changed
one is done again, a failed one is recorded with its last lines and tried again at the next call.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import rrsis_zoo
from rrsis_zoo.errors import ConfigError


@dataclass(frozen=True)
class Job:
    """One row of a table.

    Attributes:
        name: unique in its suite; also the name of its folder.
        title: as the table says it.
        configs: configuration files in the order in which they apply.
        options: further arguments of ``rrsis fit`` and ``rrsis test``.
    """

    name: str
    title: str
    configs: tuple[str, ...]
    options: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """Return the arguments that fit and test share."""
        return [part for config in self.configs for part in ("--config", config)] + list(self.options)

    def key(self) -> str:
        """Return the hash of all that decides the result: configuration, its parts, and the package's code."""
        digest = hashlib.sha256(json.dumps([self.name, self.configs, self.options]).encode())
        package = Path(rrsis_zoo.__file__).parent
        parts = sorted(Path(self.configs[0]).parent.rglob("*.yaml"))
        for path in (*parts, *sorted(package.rglob("*.py"))):
            if package / "bench" not in path.parents:  # how tables look does not change what was measured
                digest.update(path.read_bytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Suite:
    """Jobs on the same data.

    Attributes:
        title, caption: of the table.
        jobs: its rows.
    """

    title: str
    caption: str
    jobs: tuple[Job, ...]


def read_suite(path: Path) -> Suite:
    """Read a suite file.

    Raises:
        ConfigError: a file that is not there, an unknown or missing field, or a name that is used twice.
    """
    if not path.is_file():
        raise ConfigError(f"there is no suite {path}")
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        jobs = tuple(
            Job(name, fields["title"], tuple(fields["configs"]), tuple(map(str, fields.get("options", ()))))
            for name, fields in given["jobs"].items()
        )
        return Suite(given["title"], given["caption"], jobs)
    except (TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path}: a suite has title, caption and jobs of title, configs, options; {error}") from error


def run_all(jobs: Sequence[Job], folder: Path, at_once: int) -> list[dict[str, Any]]:
    """Run what is not finished, ``at_once`` jobs side by side, one thread each; return all records in order."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda job: run(job, folder / job.name), jobs))


def run(job: Job, folder: Path) -> dict[str, Any]:
    """Run one job unless it is finished, and return its record."""
    key, path = job.key(), folder / "job.json"
    if path.is_file():
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.get("key") == key and record["status"] == "finished":
            print(f"{job.name}: finished earlier", flush=True)
            return record
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    record: dict[str, Any] = {"key": key, "name": job.name, "title": job.title, "status": "failed"}
    logger = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(folder)]
    quiet = ["--trainer.enable_progress_bar", "false"]
    print(f"{job.name}: training", flush=True)
    fit = _command(
        ["fit", *job.arguments(), *logger, "--trainer.logger.name", "fit", *quiet],
        folder / "fit.log",
    )
    record["fit"] = fit
    if fit["status"] == 0:
        checkpoint = folder / "fit" / "version_0" / "checkpoints" / "best.ckpt"
        place = ["--trainer.logger.name", "test"]
        arguments = ["test", *job.arguments(), "--ckpt_path", str(checkpoint), *logger, *place, *quiet]
        record["test"] = _command(arguments, folder / "test.log")
        if record["test"]["status"] == 0:
            record["result"] = json.loads((folder / "test" / "version_0" / "test.json").read_text(encoding="utf-8"))
            record["status"] = "finished"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    took = f"{fit['cpu_s'] / 60:.1f} CPU minutes of training"
    print(f"{job.name}: {record['status']} ({took})", flush=True)
    return record


def _command(arguments: list[str], log: Path) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "rrsis_zoo.cli", *arguments], stdout=out, stderr=subprocess.STDOUT, env=environment
        )
        _, status, used = os.wait4(process.pid, 0)  # the usage of this process alone, others run beside it
        process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "status": process.returncode,
        "wall_s": round(time.perf_counter() - start, 1),
        "cpu_s": round(_cpu(used), 1),
        "end": log.read_text(encoding="utf-8").splitlines()[-5:] if process.returncode else [],
    }


def _cpu(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime
