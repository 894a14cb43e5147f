"""Paths: links to nowhere, pipes, folders in place of files, home folders, outputs that cannot be written."""

import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from rrsis_zoo.cli import main
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.dataset import RRSISDataset
from rrsis_zoo.data.hashes import cache_folder
from rrsis_zoo.data.layouts import LAYOUTS, Referent, ReferredScene
from rrsis_zoo.data.sources import SOURCES, ReadOptions
from rrsis_zoo.data.synthetic import contact_sheet, make_synthetic
from rrsis_zoo.data.verify import verify
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError, OutputError, RRSISError
from rrsis_zoo.inference import as_rgb

IMAGES = {
    "refsegrs": "images/1.tif",
    "risbench": "img_rgb/train_0_0.png",
    "rrsis-d": "images/rrsisd/JPEGImages/00001.jpg",
}
MASKS = {"refsegrs": "masks/1.tif", "risbench": "mask/train_0_0.png"}
LISTS = {
    "refsegrs": "output_phrase_train.txt",
    "risbench": "output_phrase_train.txt",
    "rrsis-d": "rrsisd/refs(unc).p",
    "rrsis-d json": "rrsisd/instances.json",
}
FILES = [
    *((name, path) for kind in (IMAGES, MASKS) for name, path in kind.items()),
    *((name.split()[0], path) for name, path in LISTS.items()),
]


def write(root, layout):
    rng = np.random.default_rng(0)
    writer = LAYOUTS[layout](root)
    for split in ("train", "train", "val", *(["test"] if "test" in writer.splits else [])):
        mask = np.zeros((32, 40), bool)
        mask[5:20, 8:30] = True
        image = rng.integers(0, 256, (32, 40, 3), np.uint8)
        writer.add(ReferredScene(image, [Referent(mask, ["the ship"], "ship")], split))
    writer.close()
    return root


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return {layout: write(tmp_path_factory.mktemp("whole") / layout, layout) for layout in LAYOUTS}


def spoil(path, kind):
    """Put something else in place of a file."""
    path.unlink()
    if kind == "link":
        path.symlink_to("/nowhere/annex/object")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a folder":
        path.symlink_to(path.parent)


KINDS = ["missing", "link", "loop", "folder", "pipe", "link to a folder"]


def command(capsys, monkeypatch, *arguments):
    """Run the command in this process; return its status and its one line of error."""
    monkeypatch.setattr(sys, "argv", ["rrsis", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("rrsis: ")]
    return ended.value.code, "".join(lines), said.out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("layout", "part"), FILES)
def test_what_is_in_place_of_a_file_ends_in_one_line_everywhere(
    whole, tmp_path, capsys, monkeypatch, layout, part, kind
):
    root = shutil.copytree(whole[layout], tmp_path / "copy")
    spoil(root / part, kind)
    name = part.rpartition("/")[2]
    data = ("--dataset", layout, "--root", root)
    for arguments in (("stats", *data), ("list", *data), ("list", *data, "--json")):
        status, line, _ = command(capsys, monkeypatch, "data", *arguments)
        assert (status, name in line or "output_phrase_" in line or "no 'refs" in line) == (2, True), line
    for more in ((), ("--manifest", tmp_path / "manifest.json")):
        status, line, said = command(capsys, monkeypatch, "data", "verify", *data, "--part", *more)
        assert status in (1, 2)
        assert name in (said + line)
    with pytest.raises((MissingDataError, DataFormatError)):
        RRSISDataModule(layout, str(root)).setup("fit")


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "missing"])
@pytest.mark.parametrize(("layout", "part"), [*IMAGES.items(), *MASKS.items()])
def test_a_file_that_goes_away_after_it_was_listed(whole, tmp_path, layout, part, kind):
    root = shutil.copytree(whole[layout], tmp_path / "copy")
    records = SOURCES[layout].read(root, "train", ReadOptions())
    spoil(root / part, kind)
    with pytest.raises(DataFormatError, match=part.rpartition("/")[2]):
        RRSISDataset(records)[0]
    if part in MASKS.values():
        with pytest.raises(RRSISError, match=part.rpartition("/")[2]):
            _ = records[0].mask.identity


def test_a_link_to_nowhere_is_told_with_its_target_and_a_link_to_a_file_is_a_file(whole, tmp_path):
    root = shutil.copytree(whole["refsegrs"], tmp_path / "copy")
    shutil.move(root / "images/1.tif", tmp_path / "object")
    (root / "images/1.tif").symlink_to(tmp_path / "object")
    assert len(SOURCES["refsegrs"].read(root, "train", ReadOptions())) == 2
    (tmp_path / "object").unlink()
    with pytest.raises(
        MissingDataError,
        match=r"1 file of split 'train' is not in .*images/1\.tif .*link to .*object, .* mount that disk",
    ):
        SOURCES["refsegrs"].read(root, "train", ReadOptions())
    report = verify("refsegrs", root, complete=False)
    (missing,) = [f.where for f in report.findings if f.what == "missing files"]
    assert "images/1.tif (it is a link to" in missing[0]


@pytest.mark.parametrize("layout", IMAGES)
def test_folders_that_are_links_to_nowhere(whole, tmp_path, layout):
    root = shutil.copytree(whole[layout], tmp_path / "copy")
    images = (root / IMAGES[layout]).parent
    shutil.rmtree(images)
    images.symlink_to("/nowhere/disk")
    with pytest.raises(MissingDataError, match="link to /nowhere/disk, which does not exist"):
        SOURCES[layout].find(root)
    (tmp_path / "root").symlink_to("/nowhere/root")
    with pytest.raises(MissingDataError, match="link to /nowhere/root, which does not exist"):
        SOURCES[layout].find(tmp_path / "root")
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingDataError, match="is a file; a folder was expected"):
        SOURCES[layout].find(tmp_path / "file")


FURTHER = {
    "earthreason": "train/images",
    "aerial-d": "train/images",
    "risors": "JPEGImages",
    "nwpu-refer": "image",
    "rrsis-hr": "images/rrsishr/JPEGImages",
    "ris-lad": "images/ris_lad/JPEGImages",
}


@pytest.mark.parametrize(("layout", "folder"), FURTHER.items())
def test_folders_of_the_further_layouts_that_are_links_to_nowhere(whole, tmp_path, layout, folder):
    root = shutil.copytree(whole[layout], tmp_path / "copy")
    shutil.rmtree(root / folder)
    (root / folder).symlink_to("/nowhere/disk")
    with pytest.raises(MissingDataError, match="link to /nowhere/disk, which does not exist"):
        SOURCES[layout].read(root, "train", ReadOptions())
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingDataError, match="is a file; a folder was expected"):
        SOURCES[layout].find(tmp_path / "file")


def test_a_folder_that_may_not_be_looked_into(whole, tmp_path, monkeypatch):
    def refuse(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refuse)
    for layout in LAYOUTS:
        with pytest.raises(RRSISError, match="Permission denied"):
            SOURCES[layout].read(whole[layout], "train", ReadOptions())


# -- home --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(whole, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    for layout, root in whole.items():
        shutil.copytree(root, home / layout)
    monkeypatch.setenv("HOME", str(home))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return home


@pytest.mark.parametrize("prefix", ["~", "$HOME", "${HOME}"])
def test_home_is_found_by_every_command_and_from_python(home, capsys, monkeypatch, tmp_path, prefix):
    for layout in IMAGES:
        root = f"{prefix}/{layout}"
        data = ("--dataset", layout, f"--root={root}")
        for arguments in (
            ("list", *data, "--split", "test"),
            ("verify", *data, "--part", f"--manifest={prefix}/{layout}.json"),
            ("stats", *data, f"--figure={prefix}/{layout}.png"),
        ):
            assert command(capsys, monkeypatch, "data", *arguments)[:2] == (0, "")
        assert (home / f"{layout}.json").is_file()
        assert (home / f"{layout}.png").is_file()
        assert len(RRSISDataModule(layout, root).records("train")) == 2
        assert SOURCES[layout].find(root)
        assert verify(layout, root, complete=False).passed
    make = ("make", "--scenes", "3", "--size", "64", f"--root={prefix}/made")
    assert command(capsys, monkeypatch, "data", *make)[:2] == (0, "")
    contact_sheet(f"{prefix}/made", f"{prefix}/sheet.png")
    assert {"made", "sheet.png"} <= {path.name for path in home.iterdir()}
    Image.new("RGB", (8, 8)).save(home / "x.png")
    assert as_rgb(f"{prefix}/x.png").shape == (3, 8, 8)
    monkeypatch.setenv("RRSIS_ZOO_CACHE", f"{prefix}/cache")
    assert cache_folder() == home / "cache"
    assert not list((tmp_path / "here").iterdir())


def test_the_synthetic_dataset_is_made_at_home(home, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("rrsis_zoo.data.synthetic.write.make_synthetic", lambda root: made.append(root) or "")
    data = RRSISDataModule("synthetic", "~/new")
    data.check()
    data.prepare_data()
    assert made == [home / "new"]


@pytest.mark.parametrize("root", ["~nobody-of-this-name/data", "$NOT_A_VARIABLE_OF_ANYBODY/data"])
def test_unknown_homes_are_refused_and_nothing_is_made(home, tmp_path, root):
    for use in (
        lambda: RRSISDataModule("synthetic", root).prepare_data(),
        lambda: make_synthetic(root, scenes=3, size=64),
        lambda: SOURCES["refsegrs"].find(root),
        lambda: as_rgb(f"{root}/x.png"),
    ):
        with pytest.raises(ConfigError, match=r"there is no (user|variable)"):
            use()
    assert not list((tmp_path / "here").iterdir())


# -- outputs -----------------------------------------------------------------------------------------------------------


def only(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_a_figure_or_manifest_that_cannot_be_written(whole, tmp_path, capsys, monkeypatch):
    data = ("--dataset", "refsegrs", "--root", whole["refsegrs"])
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.png").mkdir()
    for arguments, said in (
        (("stats", *data, "--figure", tmp_path / "file/a.png"), "file/a.png cannot be written (File exists: "),
        (("stats", *data, "--figure", tmp_path / "folder.png"), r"folder.png cannot be written (it is a folder"),
        (("stats", *data, "--figure", "/proc/a.png"), "/proc/a.png cannot be written ("),
        (("stats", *data, "--figure", tmp_path / "a.xyz"), "a.xyz: name it with one of .png"),
        (("stats", *data, "--figure", tmp_path / "a"), "a: name it with one of .png"),
        (
            ("verify", *data, "--part", "--manifest", tmp_path / "file/m.json"),
            "m.json cannot be written (File exists: ",
        ),
        (("verify", *data, "--part", "--manifest", tmp_path / "folder.png"), "folder.png: is not a manifest"),
        (("verify", *data, "--part", "--manifest", "/proc/m.json"), "/proc/m.json cannot be written ("),
    ):
        status, line, _ = command(capsys, monkeypatch, "data", *arguments)
        assert (status, said in line) == (2, True), line
    assert only(tmp_path) == ["file", "folder.png"]
    assert (tmp_path / "file").read_text() == "mine"
    assert command(capsys, monkeypatch, "data", "stats", *data, "--figure", tmp_path / "no/such/a.png")[:2] == (0, "")
    assert (tmp_path / "no/such/a.png").is_file()


def test_a_dataset_that_cannot_be_made(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("/nowhere/x")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    small = ("make", "--scenes", "3", "--size", "64")
    for root, said in (
        ("file", "file is a file"),
        ("file/inside", "file/inside cannot be written (Not a directory"),
        ("pipe", "pipe is a file"),
        ("link", "link is missing (it is a link to /nowhere/x"),
        ("/proc/made", "/proc/made cannot be written ("),
        (".", "contains files but no synthetic dataset"),
        ("/", "contains files but no synthetic dataset"),
    ):
        status, line, _ = command(capsys, monkeypatch, "data", *small, "--root", root)
        assert (status, said in line) == (2, True), line
    assert only(tmp_path) == ["file", "link", "pipe"]


def test_a_disk_that_is_full_leaves_nothing(tmp_path, monkeypatch):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    root = tmp_path / "made"
    for target in ("PIL.Image.Image.save", "rrsis_zoo.files.os.replace", "rrsis_zoo.files._to_disk"):
        with monkeypatch.context() as patch:
            patch.setattr(target, full)
            with pytest.raises(OutputError, match=r"cannot be written \(No space left on device"):
                make_synthetic(root, scenes=3, size=64, expressions=1, processes=1)
        assert only(tmp_path) == []
    make_synthetic(root, scenes=3, size=64, expressions=1, processes=1)
    before = only(root)
    with monkeypatch.context() as patch:
        patch.setattr("PIL.Image.Image.save", full)
        with pytest.raises(OutputError):
            make_synthetic(root, scenes=3, size=64, expressions=1, processes=1, overwrite=True)
    assert only(root) == before
    assert only(tmp_path) == sorted(["made", *before])


def test_a_link_to_a_folder_is_kept(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "made").symlink_to(tmp_path / "disk")
    for overwrite in (False, True):
        make_synthetic(tmp_path / "made", scenes=3, size=64, expressions=1, processes=1, overwrite=overwrite)
        assert (tmp_path / "made").is_symlink()
        assert (tmp_path / "disk/synthetic.json").is_file()


def test_a_contact_sheet_that_cannot_be_written(tmp_path):
    make_synthetic(tmp_path / "made", scenes=3, size=64, expressions=1, processes=1)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"sheet\.png cannot be written"):
        contact_sheet(tmp_path / "made", tmp_path / "file/sheet.png")
    with pytest.raises(ConfigError, match=r"sheet\.xyz: .*name it \.png"):
        contact_sheet(tmp_path / "made", tmp_path / "sheet.xyz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "made"]


def test_dollars_in_names_are_no_formulas(whole, tmp_path, capsys, monkeypatch):
    root = shutil.copytree(whole["refsegrs"], tmp_path / r"$\frac{")
    data = ("--dataset", "refsegrs", "--root", root, "--figure", tmp_path / "s.png")
    assert command(capsys, monkeypatch, "data", "stats", *data)[:2] == (0, "")
