"""Readers of EarthReason, Aerial-D, RRSIS-HR, RISORS, NWPU-Refer against the contracts in tests/golden/datasets2."""

import json
from pathlib import Path

import pytest

from rrsis_zoo.cli import run
from rrsis_zoo.data.describe import describe_record
from rrsis_zoo.data.sources import SOURCES, ReadOptions

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
