"""Run a suite and make its tables and report: `make benchmark`, or `python benchmarks/run.py SUITE`.

Every job trains and tests one method in processes of its own: one on each GPU, or two side by side with one thread each
on a CPU. Jobs leave logs, checkpoints and per-sample counts in runs/SUITE/JOB/; tables, report and figures go to
runs/SUITE/results/, and `make publish-results` takes them into the repository. Finished jobs are skipped while nothing
that decides their result has changed. A signal or a kill loses nothing: the same command goes on from the last
checkpoints.
"""

import argparse
import fnmatch
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from bench.suites import Job, Suite, read_suite
from rrsis_zoo import signals
from rrsis_zoo.errors import ConfigError, RRSISError
from rrsis_zoo.files import make_folder


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, nargs="?", default=Path("benchmarks/embedded.yaml"))
    parser.add_argument("--runs", type=Path, help="folder of the jobs; runs/SUITE by default")
    parser.add_argument("--results", type=Path, help="folder of tables and report; RUNS/results by default")
    parser.add_argument("--at-once", type=int, default=2, help="jobs side by side on a CPU, one thread each (2)")
    parser.add_argument(
        "--seeds", nargs="+", type=int, metavar="SEED", help="only these seeds of the suite, in tables and report too"
    )
    parser.add_argument("--only", nargs="+", metavar="JOB", help="run these jobs and make no tables; * and ? stand for")
    parser.add_argument("--retry", action="store_true", help="try failed jobs again")
    parser.add_argument(
        "--root", nargs="+", default=[], metavar="NAME=FOLDER", help="where a dataset of the suite lies"
    )
    parser.add_argument("--list", action="store_true", help="print the names of all jobs and end")
    parser.add_argument("--plan", action="store_true", help="print what would run, and why, and end")
    return parser.parse_args()


def main() -> int:
    start = time.monotonic()
    options = arguments()
    if options.at_once < 1:
        raise ConfigError(f"--at-once must be at least 1, got {options.at_once}")
    suite = read_suite(options.suite)
    if options.seeds:
        suite = suite.only_seeds(options.seeds)
    roots = read_roots(options.root, suite)
    jobs = chosen(suite.jobs(), options.only)
    if options.list:
        print("\n".join(job.name for job in jobs))
        return 0
    return run(options, suite, jobs, roots, start)


def run(options: argparse.Namespace, suite: Suite, jobs: Sequence[Job], roots: Mapping[str, str], start: float) -> int:
    print(f"{suite.name}: looking at configuration, weights and data of {len(jobs)} jobs", flush=True)
    # late: torch and Lightning take some seconds, which a mistake in the suite need not wait for
    from bench import plan, runner
    from bench.jobs import decide
    from bench.keys import Keys
    from bench.load import Load
    from bench.processes import Processes
    from bench.results import REPORT, overview, write_results

    say, keys = runner.Clock(start), Keys()
    folder = options.runs or Path("runs") / suite.name
    results = options.results or folder / "results"
    planned = plan.plan(jobs, roots, keys)
    decisions = [decide(job, folder / job.job.name, options.retry) for job in planned]
    places = plan.slots(planned, options.at_once)
    for line in plan.announce(suite, planned, decisions, places, folder):
        say(line)
    if options.plan:
        for job, decision in zip(planned, decisions, strict=True):
            print(f"  {job.job.name}: {decision.action} ({decision.why})")
        return 0

    load = None if any(place.name for place in places) else Load(len(places))  # on GPUs, the cores do not decide
    if load is not None and (warning := load.at_start()):
        say(warning)
    if not options.only:
        make_folder(results)  # before hours of work, not after them
    tables: dict[str, Any] = {}
    # several runners may share a folder where each runs jobs of its own (an array on a cluster)
    with nullcontext() if options.only else runner.only_runner(folder), Processes() as processes:
        runner.write_suite(suite, folder)
        faults: list[str] = []
        if not options.only:
            faults += baselines(suite, roots, keys, folder, say)
        records = runner.run_jobs(planned, folder, places, options.retry, processes, say, load)
        if not options.only:
            faults += runner.run_profiles(planned, records, folder, places[0], processes, say)
            if any(record["status"] == "finished" for record in records):
                say("making tables and report")
                tables = write_results(folder, results)
    for line in [*runner.summary(suite, records, say.minutes), *faults]:
        say(line)
    if tables:
        print(f"\n{overview(tables)}\n\nall tables: {results}\nreport: {results / REPORT}", flush=True)
    return 1 if faults or any(record["status"] != "finished" for record in records) else 0


def read_roots(given: Sequence[str], suite: Suite) -> dict[str, str]:
    """Return dataset -> folder of ``NAME=FOLDER`` arguments."""
    roots = {}
    known = [dataset.name for dataset in suite.datasets]
    for text in given:
        name, equals, folder = text.partition("=")
        if not equals or not folder or name not in known:
            raise ConfigError(f"--root {text}: write NAME=FOLDER with a dataset of {suite.name}: {', '.join(known)}")
        roots[name] = folder
    return roots


def chosen(jobs: Sequence[Job], patterns: Sequence[str] | None) -> list[Job]:
    """Return the jobs whose names fit one of the patterns; all where there is none."""
    if patterns is None:
        return list(jobs)
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(job.name, pattern) for job in jobs):
            raise ConfigError(f"--only {pattern}: no such job; there are {', '.join(job.name for job in jobs)}")
    return [job for job in jobs if any(fnmatch.fnmatchcase(job.name, pattern) for pattern in patterns)]


def baselines(suite: Suite, roots: Mapping[str, str], keys: Any, folder: Path, say: Any) -> list[str]:
    """Leave the baselines of every dataset as jobs; return what went wrong."""
    from bench import runner
    from bench.baselines import constant_name, run_constant
    from rrsis_zoo.commands.fit import resolve

    faults = []
    for dataset in suite.datasets if suite.baselines else ():
        job = next(job for job in suite.jobs() if job.dataset == dataset.name)
        name = constant_name(dataset)
        try:
            settings = resolve(job.arguments(roots.get(dataset.name)))["data"]
            record, made = run_constant(suite, dataset, settings, keys, folder / name)
        except RRSISError as error:
            faults.append(f"{name}: cannot start: {error}")
            say(faults[-1])
            continue
        took = f"{record['test']['wall_s']:.0f} s"
        say(f"{name}: finished in {took}: {runner.miou_text(record)}" if made else f"{name}: finished earlier")
    return faults


def script() -> int:
    """Do what ``main`` does; a signal ends it with what is under way, and its status says so."""
    with signals.handled():
        try:
            return main()
        except RRSISError as error:
            print(f"benchmark: {error}", file=sys.stderr)
            return 2
        except signals.Interrupted as asked:
            asked.note = "the same command goes on from the last checkpoints"
            raise


if __name__ == "__main__":
    sys.exit(script())
