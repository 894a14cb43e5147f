"""Run a suite and write its table: `make benchmark`, or `python benchmarks/run.py SUITE`.

Jobs run in processes of their own, two side by side with one thread each. Their folders (logs, checkpoints, per-sample
counts) go to runs/benchmark/, the table and the figures to benchmarks/results/. Finished jobs are skipped.
"""

import argparse
import shutil
import sys
from pathlib import Path

from rrsis_zoo.bench.baselines import best_constant
from rrsis_zoo.bench.jobs import read_suite, run_all
from rrsis_zoo.bench.tables import Row, comparison, read_counts
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.errors import RRSISError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", type=Path, nargs="?", default=Path("benchmarks/embedded.yaml"))
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"), help="folder of the jobs")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="folder of tables and figures")
    parser.add_argument("--at-once", type=int, default=2, help="jobs side by side, one thread each")
    options = parser.parse_args()

    suite = read_suite(options.suite)
    data = RRSISDataModule("synthetic", num_workers=0)
    data.prepare_data()
    jobs = run_all(suite.jobs, options.runs, options.at_once)
    failed = [job for job in jobs if job["status"] != "finished"]
    for job in failed:
        last = (job.get("test") or job["fit"])["end"]
        print(f"{job['name']} failed; the end of its log in {options.runs / job['name']}:", *last, sep="\n  ")
    if failed:
        return 1

    records = data.records("test")
    rows = {"constant": Row("best constant mask", best_constant(data.records("train"), records))}
    options.results.mkdir(parents=True, exist_ok=True)
    for job in jobs:
        folder = options.runs / job["name"] / "test" / "version_0"
        said = job["result"]["parameters"]
        counts = read_counts(folder / "test_samples.jsonl.gz", records)
        rows[job["name"]] = Row(job["title"], counts, (said["total"], said["trained"]), job["fit"]["cpu_s"])
        if not job["name"].endswith("-shuffled"):  # a method that learned nothing from words shows nothing
            shutil.copy(folder / "predictions.png", options.results / f"{job['name']}.png")
    names = [job["name"] for job in jobs]
    against = {n: [o for o in ("constant", f"{n}-shuffled", "control") if o in rows and o != n] for n in names}
    against = {n: others for n, others in against.items() if not n.endswith("-shuffled")}
    table = comparison(rows, records, "canonical", suite.title, suite.caption.strip(), against)
    stem = options.results / options.suite.stem
    stem.with_suffix(".md").write_text(table.markdown(), encoding="utf-8")
    table.write_csv(stem.with_suffix(".csv"))
    print(table.markdown())
    print(f"wrote {stem}.md, {stem}.csv and figures in {options.results}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RRSISError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        sys.exit(2)
