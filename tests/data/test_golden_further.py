"""Readers of EarthReason, Aerial-D, RRSIS-HR, RISORS, NWPU-Refer against the contracts in tests/golden/datasets2."""

import json
import shutil
from pathlib import Path

import pytest

from rrsis_zoo.cli import run
from rrsis_zoo.data.describe import describe_record
from rrsis_zoo.data.sources import SOURCES, ReadOptions
from rrsis_zoo.data.verify import verify
from rrsis_zoo.errors import DataFormatError

GOLDEN = Path(__file__).parents[1] / "golden/datasets2"
FOLDERS = {
    "earthreason": "earthreason",
    "aerial-d": "aeriald",
    "rrsis-hr": "rrsis_hr",
    "risors": "risors",
    "nwpu-refer": "nwpu_refer",
}
FIELDS = ("category", "kind", "is_empty", "mask")


def contracts(dataset):
    content = json.loads((GOLDEN / FOLDERS[dataset] / "expected.json").read_text(encoding="utf-8"))
    yield {}, content["contract"]["splits"]
    for setting, splits in content.get("contract_options", {}).items():
        name, _, value = setting.partition("=")
        yield {name: {"True": True, "False": False}.get(value, value)}, splits.get("splits", splits)


CASES = [(dataset, options, splits) for dataset in FOLDERS for options, splits in contracts(dataset)]


@pytest.mark.parametrize(("dataset", "options", "splits"), CASES, ids=[f"{d}-{o}" for d, o, _ in CASES])
def test_records_equal_the_contract(dataset, options, splits):
    assert splits
    for split, wanted in splits.items():
        records = SOURCES[dataset].read(GOLDEN / FOLDERS[dataset], split, ReadOptions(**options))
        said = [describe_record(record) for record in records]
        assert [(one["image_file"], one["expression"]) for one in said] == [
            (one["image_file"], one["phrase"]) for one in wanted
        ]
        for one, other in zip(said, wanted, strict=True):
            assert {name: one[name] for name in FIELDS} == {name: other[name] for name in FIELDS}, one["sample_id"]
        assert len({one["sample_id"] for one in said}) == len(said)


@pytest.mark.parametrize(("dataset", "options", "splits"), CASES, ids=[f"{d}-{o}" for d, o, _ in CASES])
def test_list_equals_the_contract(dataset, options, splits, capsys):
    """`rrsis data list --json`, with the options under the names that a training has them."""
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value).lower())]
    root = str(GOLDEN / FOLDERS[dataset])
    for split, wanted in splits.items():
        assert run(["data", "list", "--dataset", dataset, "--root", root, "--split", split, "--json", *flags]) == 0
        said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [one["expression"] for one in said] == [one["phrase"] for one in wanted]
        for one, other in zip(said, wanted, strict=True):
            assert {name: one[name] for name in FIELDS} == {name: other[name] for name in FIELDS}
    assert run(["data", "list", "--dataset", dataset, "--root", root, "--json", *flags]) == 0
    assert len(capsys.readouterr().out.splitlines()) == sum(map(len, splits.values()))


def listed(dataset, root):
    """Expressions and masks of all splits."""
    source = SOURCES[dataset]
    records = [r for split in source.splits_in(root) for r in source.read(root, split, ReadOptions())]
    return [(r.sample_id, r.expression, r.category, describe_record(r)["mask"]) for r in records]


def test_other_places_of_the_same_files(tmp_path):
    """NWPU-Refer's images a folder deeper; RRSIS-HR's class under its other name, its folders renamed."""
    nwpu = shutil.copytree(GOLDEN / "nwpu_refer", tmp_path / "nwpu")
    (nwpu / "image").rename(nwpu / "inner")
    (nwpu / "image").mkdir()
    (nwpu / "inner").rename(nwpu / "image/image")
    assert listed("nwpu-refer", nwpu) == listed("nwpu-refer", GOLDEN / "nwpu_refer")
    hr = shutil.copytree(GOLDEN / "rrsis_hr", tmp_path / "hr")
    instances = json.loads((hr / "rrsishr/instances.json").read_text(encoding="utf-8"))
    for annotation in instances["annotations"]:
        old = "category_id" if "category_id" in annotation else "categories_id"
        new = "categories_id" if old == "category_id" else "category_id"
        annotation[new] = annotation.pop(old)
    (hr / "rrsishr/instances.json").write_text(json.dumps(instances), encoding="utf-8")
    (hr / "rrsishr").rename(hr / "rrsis_hr")
    (hr / "images/rrsishr").rename(hr / "images/rrsis_hr")
    assert listed("rrsis-hr", hr) == listed("rrsis-hr", GOLDEN / "rrsis_hr")


DEFECTS = {
    "earthreason": {"masks that are not two-valued": ["earthreason/test/café_5/0 (3 levels)"]},
    "rrsis-hr": {"empty masks": ["rrsis-hr/val/00301/0"]},
    "nwpu-refer": {"equal scenes across splits": ["train + val: 205.jpg"]},
}
"""That were put in on purpose."""


@pytest.mark.parametrize("dataset", FOLDERS)
def test_verify_reads_every_miniature(dataset):
    """Masks that are empty by intention are no defects; annotations that are left out are told."""
    report = verify(dataset, GOLDEN / FOLDERS[dataset], complete=False)
    assert sum(report.counts.values()) == sum(len(some) for _, some in next(contracts(dataset))[1].items())
    assert {f.what: f.where for f in report.findings if f.is_fault} == DEFECTS.get(dataset, {})
    told = {f.what: len(f.where) for f in report.findings if f.where}
    assert ("expressions without a target" in told) == (dataset in ("earthreason", "nwpu-refer"))
    assert ("annotations that the reader leaves out" in told) == (dataset == "risors")


@pytest.mark.parametrize("area", [None, "12", True, [1]])
def test_an_area_that_is_no_number_is_named(tmp_path, area):
    root = shutil.copytree(GOLDEN / "risors", tmp_path / "risors")
    path = sorted((root / "Annotations").iterdir())[0]
    content = json.loads(path.read_text(encoding="utf-8"))
    content["annotations"][0]["area"] = area
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataFormatError, match=r"annotation 0: field 'area' must be int"):
        listed("risors", root)
