from pathlib import Path

import pytest

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.outputs.kinds import KINDS
from rrsis_zoo.outputs.names import existing, is_folder, jobs, kinds_for


def planned(inputs, out, kinds="png", sentences=1):
    return jobs([Path(path) for path in inputs], out, [KINDS[kind] for kind in kinds.split(",")], sentences)


def written(inputs, out, kinds="png", sentences=1):
    return [str(path) for job in planned(inputs, out, kinds, sentences) for path in job.all_files]


def test_a_file_gets_the_kind_of_its_ending():
    assert [kind.name for kind in kinds_for("a.png", [])] == ["png"]
    assert [kind.name for kind in kinds_for("a.JSON", [])] == ["json"]
    assert [kind.name for kind in kinds_for("a.png", ["mask"])] == ["mask"]
    assert [kind.name for kind in kinds_for("a/", [])] == ["png"]
    assert [kind.name for kind in kinds_for("a/", ["json", "mask", "json"])] == ["json", "mask"]
    for out, named, said in (
        ("a.jpg", [], r"--out a\.jpg must end in one of \.png, \.json, or in / for a folder"),
        ("a", [], "or in / for a folder"),
        ("a.json", ["png"], r"must end in \.png for --kind png"),
        ("a.png", ["png", "json"], r"--kind png,json makes several files of an input: give a folder, --out a\.png/"),
    ):
        with pytest.raises(ConfigError, match=said):
            kinds_for(out, named)


def test_names_in_a_folder(tmp_path):
    assert written(["x/a.b.tif"], "out/", "png,json,mask") == ["out/a.b.png", "out/a.b.json", "out/a.b.mask.png"]
    assert written(["a.tif"], "out/", "mask", 3) == ["out/a.mask-1.png", "out/a.mask-2.png", "out/a.mask-3.png"]
    assert written(["a.tif"], "o.png", "mask", 2) == ["o-1.png", "o-2.png"]
    assert is_folder(str(tmp_path))
    assert not is_folder(str(tmp_path / "new"))


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["x/a.tif", "b.tif"], ["a", "b"]),
        (["2019/a.tif", "2020/a.tif", "b.tif"], ["2019-a", "2020-a", "b"]),
        (["a.tif", "a.jpg"], ["a.tif", "a.jpg"]),
        (["a.tif", "A.tif"], None),  # one file on some disks
        (["1/x/a.tif", "2/x/a.tif", "2/x/a.png"], ["1-x-a", "2-x-a", "a.png"]),
        (["2019/a.tif", "2020/a.tif", "2019-a.png"], ["2019-a.tif", "2020-a", "2019-a.png"]),
    ],
)
def test_inputs_of_one_name_do_not_overwrite_each_other(inputs, expected):
    if expected is None:
        with pytest.raises(ConfigError, match="would both become"):
            written(inputs, "out/")
    else:
        assert written(inputs, "out/") == [f"out/{name}.png" for name in expected]


def test_what_would_be_lost_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    for inputs, out, kinds, said in (
        (["a.png", "b.png"], "o.png", "png", "2 inputs need a folder: --out o/"),
        (["a.png", "./a.png"], "out/", "png", "a.png is given twice"),
        (["a.png", "link.png"], "out/", "png", "is given twice"),
        (["a.png"], "./", "png", "a.png would replace the input a.png"),
        (["a.png"], "link.png", "png", "link.png would replace the input a.png"),
        (["a.mask.tif", "a.tif"], "out/", "png,mask", r"a\.mask\.tif and a\.tif would both become out/a\.mask\.png"),
    ):
        with pytest.raises(ConfigError, match=said):
            planned(inputs, out, kinds)


def test_what_is_there(tmp_path):
    (tmp_path / "a.json").touch()
    (tmp_path / "a.png").symlink_to("nowhere")
    assert existing(planned(["x/a.tif"], f"{tmp_path}/", "png,json,mask")) == [tmp_path / "a.png", tmp_path / "a.json"]
