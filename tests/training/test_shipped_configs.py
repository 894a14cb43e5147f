"""Configurations by name, and an installed package that has them and nothing of the repository's own."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import rrsis_zoo
from rrsis_zoo.commands.fit import resolve
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.training.shipped_configs import shipped_folder, shipped_names, with_shipped

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"


def test_names_of_a_clone():
    assert shipped_folder().resolve() == CONFIGS.resolve()
    names = shipped_names()
    assert {"rs2sam2", "control", "overlays/rsrefseg_tiny"} <= set(names)
    assert not [name for name in names if name.startswith(("sweeps/", "model/", "data/"))]  # no whole configurations


def test_names_become_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["fit", "--config", "rs2sam2", "--config=overlays/rs2sam2_tiny", "--data.root", "control"]
    found, notes = with_shipped(words)
    folder = shipped_folder()
    assert found == [
        "fit", "--config", str(folder / "rs2sam2.yaml"), f"--config={folder / 'overlays' / 'rs2sam2_tiny.yaml'}",
        "--data.root", "control",
    ]  # fmt: skip
    assert notes == []
    assert resolve(["--config", "control", "--config", "overlays/control_tiny"]) == resolve(
        ["--config", str(CONFIGS / "control.yaml"), "--config", str(CONFIGS / "overlays" / "control_tiny.yaml")]
    )


def test_a_file_that_exists_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "control").write_text("trainer: {max_epochs: 1}")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "control.yaml").write_text("trainer: {max_epochs: 2}")
    words = ["fit", "--config", "control", "--config", "configs/control.yaml"]
    assert with_shipped(words) == (words, [])
    (tmp_path / "rsrefseg").mkdir()  # a folder is no configuration
    assert with_shipped(["--config", "rsrefseg"])[0] == ["--config", str(shipped_folder() / "rsrefseg.yaml")]


@pytest.mark.parametrize("value", ["nowhere.yaml", "configs/nowhere.yaml", "./control", "trainer: {max_epochs: 1}", ""])
def test_what_is_no_name_is_left_to_the_parser(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    assert with_shipped(["fit", "--config", value]) == (["fit", "--config", value], [])
    assert with_shipped(["fit", "--config"]) == (["fit", "--config"], [])


def test_an_unknown_name_lists_the_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=r"unknown configuration 'rsam2' \(did you mean 'rs2sam2'\?\); known: .*rsrefseg2"
    ):
        with_shipped(["fit", "--config", "rsam2"])


@pytest.fixture
def installed(tmp_path):
    """A folder of packages as an installed wheel leaves it, where there is no clone beside them."""
    package = tmp_path / "site" / "rrsis_zoo"
    package.mkdir(parents=True)
    for path in Path(rrsis_zoo.__file__).parent.iterdir():
        if path.name != "__pycache__":
            (package / path.name).symlink_to(path)
    shutil.copytree(CONFIGS, package / "configs")
    return package


WAYS = [
    (["control", "overlays/control_tiny"], 0),
    (["configs/control.yaml", "configs/overlays/control_tiny.yaml"], 2),
]
"""Configurations as a user may name them, and how many notes say where they lie."""


def test_an_installed_package_from_any_folder(installed, tmp_path, monkeypatch):
    """Both ways in one process, which imports all of the package from where it is installed."""
    monkeypatch.setenv("PYTHONPATH", str(installed.parent))
    (tmp_path / "empty").mkdir()
    lines = [
        ["fit", *(word for name in configs for word in ("--config", name)), "--data.root", "none", "--print_config"]
        for configs, _ in WAYS
    ]
    code = (
        "import rrsis_zoo, sys; from rrsis_zoo.cli import main; print(rrsis_zoo.__file__, file=sys.stderr)\n"
        f"for words in {lines!r}:\n"
        "    sys.argv[1:] = words\n"
        "    try:\n        main()\n    except SystemExit as end:\n        assert not end.code\n"
        "    print('--')\n    print('--', file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "empty",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    where, _, rest = done.stderr.partition("\n")
    assert where == str(installed / "__init__.py")
    outputs = zip(done.stdout.split("--\n"), rest.split("--\n"), strict=True)
    for (_, said), (shown, notes) in zip(WAYS, list(outputs)[:2], strict=True):
        assert "preset: tiny" in shown
        found = [line for line in notes.splitlines() if "shipped with rrsis-zoo" in line]
        assert len(found) == said
        assert all(str(installed / "configs") in line for line in found)


def test_the_wheel_has_configurations_and_no_benchmark(tmp_path):
    wheels = pytest.importorskip("hatchling.builders.wheel")
    (path,) = wheels.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(path).namelist())
    package = {name for name in names if name.startswith("rrsis_zoo/")}
    assert {name for name in names - package if ".dist-info/" not in name} == set()
    assert {f"rrsis_zoo/configs/{path.relative_to(CONFIGS).as_posix()}" for path in CONFIGS.rglob("*.yaml")} <= package
    assert {"rrsis_zoo/cli.py", "rrsis_zoo/commands/table.py", "rrsis_zoo/miniatures/sam/model.safetensors"} <= package
    assert {"rrsis_zoo/demo/page.py", "rrsis_zoo/demo/page.css"} <= package
    folders = {name.split("/")[1] for name in package if name.count("/") > 1}
    assert not {"bench", "benchmarks", "parity", "golden_cases", "tests"} & folders


def test_an_editable_install_has_no_second_configurations(tmp_path):
    wheels = pytest.importorskip("hatchling.builders.wheel")
    (path,) = wheels.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["editable"])
    assert not [name for name in zipfile.ZipFile(path).namelist() if name.startswith("rrsis_zoo/")]


def test_what_the_wheel_is_made_of():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["only-include"] == ["src/rrsis_zoo", "configs"]
    assert wheel["sources"] == {"src/rrsis_zoo": "rrsis_zoo", "configs": "rrsis_zoo/configs"}
    package = ROOT / "src" / "rrsis_zoo"
    folders = {path.relative_to(package).parts[0] for path in package.rglob("*.py")}
    assert not {"bench", "parity", "golden_cases"} & folders
