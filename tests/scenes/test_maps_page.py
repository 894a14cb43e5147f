"""What docs/start/maps.md and the README say to type is run; the options are those of the command."""

import importlib.util
import itertools
import re
import shlex
import shutil
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio

from rrsis_zoo.commands.segment import _parser, run_segment
from rrsis_zoo.commands.segment_scenes import _OPTIONS, is_scene
from rrsis_zoo.scenes.kinds import SCENE_KINDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "start" / "maps.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A folder with the examples, as somebody has it who follows the page."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "rrsis"], ids=" ".join)
def test_commands(reader, words):
    assert words[1] == "segment"
    assert run_segment(words[2:]) == 0
    out = Path(words[words.index("--out") + 1])
    if out.is_dir():
        expected = {"coast.gpkg", "coast.mask.tif", "harbour.gpkg", "harbour.mask.tif", ".done.jsonl"}
        assert {path.name for path in out.iterdir()} == expected
    else:
        assert set(geopandas.read_file(out).text) == {"the ship", "the windmill"}


def test_the_figure_is_of_the_first_command():
    draw = _script()
    first = COMMANDS[0]
    assert [word for before, word in itertools.pairwise(first) if before == "--text"] == [*draw.SENTENCES]
    for word in ("--find", "all", "--gsd", "1", "--min-area", "20"):
        assert word in first


def test_the_scene_is_the_generators(tmp_path):
    draw = _script()
    with rasterio.open(draw.SCENE) as file:
        assert (file.crs.to_epsg(), file.res) == (32633, (0.5, 0.5))
        assert np.abs(file.read().transpose(1, 2, 0).astype(int) - draw.pixels()).mean() < 5  # JPEG


def _script():
    spec = importlib.util.spec_from_file_location("draw_map", ROOT / "examples" / "draw_map.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_python(reader):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    space = {}
    exec(compile(code, "maps.md", "exec"), space)
    assert len(space["layer"]) >= 3
    assert space["layer"].attrs["rrsis_zoo"]["without"].keys() == {"the dam"}


def test_every_option_and_kind_is_on_the_page():
    for name in _OPTIONS:
        assert f"`--{name.replace('_', '-')}" in PAGE
    for kind in SCENE_KINDS.values():
        assert f"| `{kind.suffix}` | `{kind.name}` |" in PAGE
    for option in re.findall(r"^\| `(--[\w-]+)", PAGE, re.MULTILINE):
        assert any(option in action.option_strings for action in _parser()._actions), option


def test_the_readme_has_a_map():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^rrsis segment .*\.gpkg$", readme, re.MULTILINE)
    assert is_scene(_parser().parse_args(shlex.split(line)[2:]))
    assert "(docs/start/maps.md)" in readme
