"""The commands of docs/scenes.md, run one after the other."""

import re
import shlex

import geopandas
import pytest

from rrsis_zoo.cli import run


@pytest.mark.slow
def test_commands(root, tmp_path, monkeypatch, capsys):
    """From no scene to a layer; at half the page's size, which is four times as quick."""
    page = (root / "docs" / "scenes.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for line in block.splitlines():
        program, *words = shlex.split(line.replace("--size 1024", "--size 512"))
        assert program == "rrsis"
        assert run(words) == 0
    layer = geopandas.read_file("helipads.gpkg")
    truth = geopandas.read_file("datasets/scenes/scene_000.gpkg", layer="objects")
    assert layer.crs == truth.crs
    assert set(layer["text"]) <= {"the helipad"}
    assert (layer["area_m2"] >= 15).all()
    assert "the helipad" in capsys.readouterr().out
