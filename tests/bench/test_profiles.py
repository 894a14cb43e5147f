"""Profiles of several models from one command."""

import json
import os
import subprocess

import numpy as np
import pytest

import warm
from rrsis_zoo.data.layouts import Referent, ReferredScene, write_rrsisd


@pytest.mark.slow
@pytest.mark.usefixtures("bench_on_path")
def test_one_after_another(root, tmp_path_factory, tmp_path):
    """One that fails is named in its log and takes no other along."""
    mask = np.zeros((64, 80), dtype=np.bool_)
    mask[20:40, 20:50] = True
    image = np.zeros((64, 80, 3), np.uint8)
    tree = tmp_path_factory.mktemp("profiles") / "data"
    write_rrsisd(tree, [ReferredScene(image + n, [Referent(mask, ["the ship"], "ship")], "train") for n in range(4)])

    def entry(name, method, data):
        configs = [root / "configs" / f"{method}.yaml", root / "configs" / "overlays" / f"{method}_tiny.yaml"]
        arguments = [part for path in configs for part in ("--config", str(path))]
        options = ["--data.batch_size", "2", "--seconds", "0", "--expressions", "1", "--data.root", str(data)]
        return {
            "arguments": ["--out", str(tmp_path / f"{name}.json"), *arguments, *options],
            "log": str(tmp_path / f"{name}.log"),
        }

    entries = [entry("gone", "control", "nowhere"), entry("a", "control", tree), entry("b", "rsrefseg", tree)]
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps({"profiles": entries}))
    command = [warm.python(), "-m", "bench.profiles", str(listed)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    statuses = [2, 0, 0]
    assert json.loads(listed.read_text())["profiles"] == [
        {**entry, "status": status} for entry, status in zip(entries, statuses, strict=True)
    ]
    assert (tmp_path / "gone.log").read_text().splitlines()[-1].startswith("profile: ")
    found = [json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab"]
    assert [record["model"] for record in found] == ["control", "rsrefseg"]
    assert all("wrote" in (tmp_path / f"{name}.log").read_text() for name in "ab")
    assert "gone.json" not in os.listdir(tmp_path)
