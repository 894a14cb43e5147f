"""The script behind `make real-step`, at tiny sizes: files in the released layouts, a step, and a resumed one."""

import json
import subprocess

import pytest

import warm


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rsrefseg2"])  # the others go the same way, some 17 s of processor time each
def test_a_step_and_a_resumed_one(root, tmp_path, method):
    command = [warm.python(), root / "benchmarks" / "real_step.py", "--config", f"configs/{method}.yaml"]
    command += ["--overlay", f"configs/overlays/{method}_tiny.yaml", "--folder", tmp_path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout[done.stdout.rindex('{\n "config"') :])
    assert (result["resumed"]["step"], result["resumed"]["optimiser_step"]) == (2, 2)
    assert list(tmp_path.iterdir()) == []
