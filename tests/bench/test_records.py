"""A suite's files as they come: cut short, of another shape, impossible. The command names file and field in a line."""

import copy
import json
import os

import pytest
from made_runs import Row, made_profile, made_result, make

from bench.records import GalleryFile, Owner, Point, ProfileList, State, SweepFile
from rrsis_zoo import cli
from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.tables.records import JobFile, Profile, Result, SuiteFile, read_record

JOB = "a--synthetic--seed1"


@pytest.fixture
def command(capsys, monkeypatch):
    """Run a command as the shell does; return its status and what it printed as an error."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["rrsis", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, capsys.readouterr().err

    return run


def changed(content, path, value):
    """A copy with one value, by its dotted path, replaced; ``...`` removes it."""
    content = copy.deepcopy(content)
    *way, last = path.split("/")
    inner = content
    for name in way:
        inner = inner[int(name) if isinstance(inner, list) else name]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return content


# -- by the command ----------------------------------------------------------------------------------------------------

FAULTS = [
    ("job.json", "result/metrics/oiou", 900.0, "oiou must be from 0 to 100, got 900"),
    ("job.json", "result/metrics/miou", -1.0, "miou must be from 0 to 100, got -1"),
    ("job.json", "result/metrics/pr@0.5", float("nan"), "result.metrics.pr@0.5"),
    ("job.json", "result/metrics/n", 44, "n is 45, but 44"),
    ("job.json", "result/n", -45, "result.n"),
    ("job.json", "result/n", 45.0, "result.n"),
    ("job.json", "result/n", "45", "result.n"),
    ("job.json", "result/n", True, "result.n"),
    ("job.json", "result/n", 10**400, "result.n"),
    ("job.json", "result/n_empty", 46, "n_empty is 46, more than the 45"),
    ("job.json", "result/breakdown/macro_miou", 101, "macro_miou must be from 0 to 100"),
    ("job.json", "result/breakdown/per_size_n", {"a": -1}, "per_size_n must be a number of samples"),
    ("job.json", "result/breakdown/per_size_miou", [1], "result.breakdown.per_size_miou"),
    ("job.json", "result/eval_size", 0, "result.eval_size"),
    ("job.json", "result/annotations_sha256", "x", "result.annotations_sha256"),
    ("job.json", "result/code", None, "result.code"),
    ("job.json", "result/parameters", {"total": -1, "trained": 0}, "result.parameters.total"),
    ("job.json", "result", [], "result"),
    ("job.json", "result", None, "status 'finished' without a result"),
    ("job.json", "status", "done", "status"),
    ("job.json", "seed", "1", "seed"),
    ("job.json", "name", "../../x", "name"),
    ("job.json", "name", ..., "name"),
    ("job.json", "fit/cpu_s", -1, "fit.cpu_s"),
    ("job.json", "fit/cpu_s", float("inf"), "fit.cpu_s"),
    ("job.json", "profile/step/latency_s/median", 0, "profile.step.latency_s.median"),
    ("job.json", "profile/inference", {}, "profile.inference"),
    ("suite.json", "models", {}, "models"),
    ("suite.json", "models/0/role", "king", "models.0.role"),
    ("suite.json", "seeds", 1, "seeds"),
    ("suite.json", "datasets", [{"name": "a", "title": "b"}] * 2, "the data set 'a' is listed twice"),
    ("suite.json", "caption", 3, "caption"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make(tmp_path_factory.mktemp("records") / "made", [Row("a", 0.6)], seeds=(1,), profile=True)


@pytest.mark.parametrize(("file", "path", "value", "said"), FAULTS)
def test_the_command_names_file_and_field(runs, command, file, path, value, said):
    target = runs / file if file == "suite.json" else runs / JOB / file
    good = target.read_text()
    try:
        target.write_text(json.dumps(changed(json.loads(good), path, value)))
        status, error = command("table", runs)
    finally:
        target.write_text(good)
    assert status == 2
    assert error.count("\n") == 1
    assert str(target) in error
    assert said in error


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"x"', "[" * 100_000, "{}", '{"schema": 9}', "\x00\xff"])
@pytest.mark.parametrize("file", ["suite.json", "job.json", "test.json"])
def test_what_is_cut_short_or_of_another_shape_is_named(tmp_path, command, file, text):
    folder = make(tmp_path / "made", [Row("a", 0.6)], seeds=(1,), n=6)
    target = folder / file if file == "suite.json" else folder / JOB / file
    target.write_bytes(text.encode("latin-1"))
    status, error = command("table", folder / JOB if file == "test.json" else folder)
    assert status == 2
    assert error.count("\n") == 1
    assert str(target) in error


def test_a_pipe_does_not_hang(tmp_path, command):
    folder = make(tmp_path / "made", [Row("a", 0.6)], seeds=(1,), n=6)
    (folder / JOB / "job.json").unlink()
    os.mkfifo(folder / JOB / "job.json")
    status, error = command("table", folder)
    assert (status, error.count("\n")) == (2, 1)


# -- every schema ------------------------------------------------------------------------------------------------------

SPENT = {"status": 0, "wall_s": 1.0, "cpu_s": 1.0, "end": []}
FILES = {
    Result: made_result("one", 0.5, 1),
    JobFile: {
        "name": "a--one", "model": "a", "dataset": "one", "seed": 1, "title": "A", "role": "method", "key": "k",
        "status": "finished", "reason": "", "fit": SPENT, "test": SPENT, "result": made_result("one", 0.5, 1),
        "profile": made_profile(0.5),
    },
    Profile: made_profile(0.5),
    State: {
        "key": "k", "place": "/x", "spent": {"wall_s": 0.0, "cpu_s": 0.0}, "started": 1.0, "point": {"epoch": 1},
        "resumed": 0, "fit": SPENT,
    },
    Point: {"epoch": 1, "step": 10, "cpu_s": 2.0, "time": 1.7e9},
    SuiteFile: {
        "name": "s", "title": "T", "caption": "C", "seeds": [1], "datasets": [{"name": "d", "title": "D"}],
        "models": [{"name": "m", "title": "M", "role": "method", "against": []}],
    },
    GalleryFile: {
        "samples": [
            {
                "sample_id": "x", "expression": "ship", "category": None, "kind": None, "image": "a.webp",
                "truth": "b.png", "mask": "c.png", "heatmap": "d.png",
            }
        ]
    },
    SweepFile: {
        "sweep": {}, "runs": [
            {"name": "run-001", "parameters": {}, "state": "finished", "history": [1.0], "minutes": 1.0, "end": []}
        ],
    },
    ProfileList: {"profiles": [{"arguments": [], "log": "x"}]},
    Owner: {"pid": 1, "host": "h", "since": "now"},
}  # fmt: skip
WRONG = [None, True, "12", 12.5, -1, [], {}, [[]], {"x": 1}, float("nan"), float("inf"), 10**400, "x" * 1000]


def complaint(path, schema):
    try:
        read_record(path, schema, "again")
    except DataFormatError as error:
        return str(error)
    return None


def places(content, before=()):
    """Paths of all values in a file."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in inner:
        yield (*before, name)
        yield from places(value, (*before, name))


@pytest.mark.parametrize("schema", FILES, ids=lambda schema: schema.__name__)
def test_any_value_of_any_kind_in_any_place(schema, tmp_path):
    """A wrong value is either refused in our own words, or one that is allowed there; nothing else is raised."""
    path, refused, tried = tmp_path / "file.json", 0, 0
    path.write_text(json.dumps(FILES[schema]))
    assert read_record(path, schema, "again") == json.loads(path.read_text())
    for place in places(FILES[schema]):
        if len(place) > 1 and place[0] in ("breakdown", "result", "profile") and schema is not Profile:
            continue  # hundreds of the same kind, or those of a schema that is here itself
        for value in WRONG:
            content = copy.deepcopy(FILES[schema])
            inner = content
            for name in place[:-1]:
                inner = inner[name]
            inner[place[-1]] = value
            path.write_text(json.dumps(content))
            tried += 1
            said = complaint(path, schema)
            assert said is None or (said.startswith(str(path)) and "\n" not in said)
            refused += said is not None
    assert refused > 0.6 * tried


def test_records_of_earlier_versions_are_read(tmp_path):
    """What a later version writes besides is left alone; what an earlier one did not write is not asked for."""
    old = {name: value for name, value in FILES[Result].items() if name not in ("text_mode", "parameters", "breakdown")}
    (tmp_path / "old.json").write_text(json.dumps(old))
    read_record(tmp_path / "old.json", Result, "again")
    new = {"untrained": False, "partial": None, "layout": "rrsis-d", "published_split": True, "something": "else"}
    (tmp_path / "new.json").write_text(json.dumps({**FILES[Result], **new}))
    assert read_record(tmp_path / "new.json", Result, "again")["something"] == "else"
