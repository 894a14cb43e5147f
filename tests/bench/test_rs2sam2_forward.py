"""The script behind `make rs2sam2-forward`: it must compare two ways to the same result."""

import json
import os
import subprocess

import warm


def test_both_ways_give_the_same(root):
    command = [warm.python(), str(root / "benchmarks" / "rs2sam2_forward.py"), "--preset", "tiny", "--repeats", "2"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(done.stdout.splitlines()[-1])
    assert record["difference_in_std"] < 1e-4
    assert set(record["parts"]) == {
        "union encoder", "prompts", "trunk", "neck", "fusion behind it", "decoder", "output",
    }  # fmt: skip
    for way in ("ours", "published"):
        assert record["seconds"][way] > 0
        assert record["top_megabytes"][way] > 50
