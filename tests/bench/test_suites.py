"""Suite files: what they become, and what is said of those that are wrong."""

import shlex

import pytest
import yaml
from made_runs import Row, write_job

from rrsis_zoo.bench.runner import write_suite
from rrsis_zoo.bench.runs import read_runs
from rrsis_zoo.bench.suites import read_suite
from rrsis_zoo.errors import ConfigError

GOOD = """
title: T
caption: C
protocol: canonical
seeds: [1, 2]
limits: {minutes: 9}
against: [constant, small]
baselines: [constant]
datasets:
  one: {title: One}
  two: {title: Two, configs: [two.yaml], options: {data.batch_size: 3, data.draw: scenes}}
models:
  small:
    title: Small
    role: control
    configs: [small.yaml]
    cpu_minutes: 2
  large:
    title: Large
    configs: [large.yaml, tiny.yaml]
    options: {data.batch_size: 4, trainer.max_epochs: 5, model.init_args.settings: {rank: 2}, data.augment: null}
    cpu_minutes: 3.5
    for:
      two: {configs: [special.yaml], options: {trainer.max_epochs: 6}}
  large-shuffled:
    title: Large, shuffled
    role: ablation
    against: []
    seeds: [1]
    configs: [large.yaml]
    options: {data.shuffle_expressions: true}
"""


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """Write a suite file and read it; configuration files lie in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("two", "small", "large", "tiny", "special"):
        (tmp_path / f"{name}.yaml").touch()

    def read(text, name="s.yaml"):
        (tmp_path / name).write_text(text)
        return read_suite(tmp_path / name)

    return read


def test_jobs(suite):
    read = suite(GOOD)
    assert (read.name, read.protocol, read.minutes, read.baselines) == ("s", "canonical", 9, ("constant",))
    # the first seed of everything first, of a seed the longest first, ablations at the end
    assert [job.name for job in read.jobs()] == [
        "large--one--seed1", "large--two--seed1", "small--one--seed1", "small--two--seed1",
        "large--one--seed2", "large--two--seed2", "small--one--seed2", "small--two--seed2",
        "large-shuffled--one--seed1", "large-shuffled--two--seed1",
    ]  # fmt: skip
    jobs = {job.name: job for job in read.jobs()}
    large = jobs["large--two--seed2"]
    assert (large.title, large.role, large.against, large.cpu_minutes) == (
        "Large",
        "method",
        ("constant", "small"),
        3.5,
    )
    assert jobs["small--one--seed1"].against == ("constant",)
    assert jobs["large-shuffled--one--seed1"].against == ()


def test_what_applies_in_which_order(suite):
    """Files: model, dataset, both; options: dataset, model, both; then protocol and seed."""
    jobs = {job.name: job for job in suite(GOOD).jobs()}
    assert shlex.join(jobs["large--two--seed2"].arguments("/my data")) == (
        "--config large.yaml --config tiny.yaml --config two.yaml --config special.yaml "
        "--data.batch_size 4 --data.draw scenes --trainer.max_epochs 6 "
        """--model.init_args.settings '{"rank": 2}' --data.augment null """
        "--model.init_args.protocol canonical --seed_everything 2 --data.seed 2 --data.root '/my data'"
    )
    assert "--data.root" not in jobs["large--one--seed1"].arguments()
    assert jobs["large--one--seed1"].options["trainer.max_epochs"] == 5
    assert "--data.shuffle_expressions true" in " ".join(jobs["large-shuffled--one--seed1"].arguments())


def test_described_for_tables(suite):
    said = suite(GOOD).described()
    assert [(m["name"], m["role"]) for m in said["models"]] == [
        ("constant", "baseline"), ("small", "control"), ("large", "method"), ("large-shuffled", "ablation"),
    ]  # fmt: skip
    assert said["models"][3]["seeds"] == [1]
    assert said["datasets"] == [{"name": "one", "title": "One"}, {"name": "two", "title": "Two"}]
    assert (said["schema"], said["seeds"], said["limits"]) == (1, [1, 2], {"minutes": 9.0})


def test_only_some_seeds(suite):
    """Models keep those of their own that are chosen; who is left with none is no row, and nobody's rival."""
    read = suite(GOOD.replace("against: [constant, small]", "against: [constant, large-shuffled]"))
    first, second = read.only_seeds([1]), read.only_seeds([2])
    assert [job.name for job in first.jobs()] == [job.name for job in read.jobs() if job.seed == 1]
    assert [job.name for job in second.jobs()] == [
        "large--one--seed2", "large--two--seed2", "small--one--seed2", "small--two--seed2",
    ]  # fmt: skip
    assert (second.seeds, second.seeds_left_out, second.minutes) == ((2,), (1,), None)
    rows = [(m["name"], m["seeds"], m["against"]) for m in second.described()["models"][1:]]
    assert rows == [("small", [2], ["constant"]), ("large", [2], ["constant"])]
    assert second.described()["limits"] == {}
    assert read.only_seeds([2, 1]) == read  # the order is the suite's, and the limit that of the whole
    with pytest.raises(ConfigError, match=r"s has no seed 3; there are 1, 2"):
        read.only_seeds([1, 3])


def test_tables_of_some_seeds(suite, tmp_path):
    """Other jobs that have finished in the folder stay there, and are in no table until they are asked for."""
    read, folder = suite(GOOD), tmp_path / "runs"
    for job in read.jobs():
        folder.mkdir(exist_ok=True)
        write_job(folder, Row(job.model, 0.5, job.role), job.dataset, job.seed, n=3)
    for part, seeds in ((read.only_seeds([2]), {2}), (read, {1, 2})):
        write_suite(part, folder)
        runs = read_runs(folder)
        assert {job.seed for job in runs.jobs} == seeds
        assert {job.name for job in runs.jobs} == {job.name for job in part.jobs()}
        assert set(runs.left_out) == {job.name for job in read.jobs()} - {job.name for job in part.jobs()}


FAULTS = {
    "titel": (("title: T\n", "titel: T\n"), "the suite: unknown field 'titel' (did you mean 'title'?)"),
    "no caption": (("caption: C\n", ""), "the suite: lacks caption"),
    "name twice": (("  large-shuffled:\n", "  small:\n"), "'small' is given twice"),
    "no yaml": (("seeds: [1, 2]", "seeds: [1, 2"), "is no suite"),
    "no file": (("[special.yaml]", "[gone.yaml]"), "models.large.for.two.configs: there is no file gone.yaml; it is"),
    "no protocol": (("canonical", "canonic"), "unknown protocol 'canonic' (did you mean 'canonical'?)"),
    "seeds": (("seeds: [1, 2]", "seeds: [1, 1]"), "seeds: must be a list of different non-negative integers"),
    "own seeds": (("seeds: [1]\n", "seeds: one\n"), "models.large-shuffled.seeds: must be a list"),
    "nobody": (("against: [constant, small]", "against: [larg]"), "unknown row to compare with 'larg' (did you mean"),
    "itself": (("against: []", "against: [large-shuffled]"), "unknown row to compare with 'large-shuffled'"),
    "role": (("role: ablation", "role: baseline"), "unknown role 'baseline'; known: ablation, control, method"),
    "baseline": (("baselines: [constant]", "baselines: [mean]"), "unknown baseline 'mean'; known: constant"),
    "a baseline's name": (("  small:\n", "  constant:\n"), "models: constant is the name of a baseline"),
    "folder": (("  small:\n", "  Small Net:\n"), "'Small Net' is no name of a folder"),
    "separator": (("  small:\n", "  small--one:\n"), "'small--one' is no name of a folder"),
    "dataset": (("      two: {configs", "      tow: {configs"), "dataset of the suite 'tow' (did you mean 'two'?)"),
    "seed by option": (("trainer.max_epochs: 5", "seed_everything: 5"), "seed_everything cannot be set here"),
    "root": (("data.draw: scenes", "data.root: x"), "datasets.two.options: data.root cannot be set here"),
    "logger": (("trainer.max_epochs: 6", "trainer.logger.name: x"), "trainer.logger.name cannot be set here"),
    "minutes": (("cpu_minutes: 2", "cpu_minutes: -2"), "models.small.cpu_minutes: must be a positive number, got -2"),
    "no model": ((GOOD[GOOD.index("models:") :], "models: {}\n"), "models: must be NAME: FIELDS pairs, got {}"),
    "text": (("title: Small", "title: 3"), "models.small.title: must be a text, got 3"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_suite_is_named_with_the_place(suite, fault):
    (before, after), expected = FAULTS[fault]
    assert GOOD.count(before) >= 1
    with pytest.raises(ConfigError) as error:
        suite(GOOD.replace(before, after, 1))
    assert expected in str(error.value)
    if fault != "no protocol":
        assert "s.yaml" in str(error.value)


def test_a_suite_that_is_not_there(suite, tmp_path):
    suite(GOOD)
    with pytest.raises(ConfigError, match=r"no suite .*gone\.yaml; there are .*s\.yaml"):
        read_suite(tmp_path / "gone.yaml")


@pytest.mark.parametrize("name", ["embedded", "pretrained", "real"])
def test_shipped_suites_are_accepted_by_the_command(root, monkeypatch, name):
    """Every job's configuration resolves, and says what the suite says."""
    from rrsis_zoo.registry import MODELS
    from rrsis_zoo.training.cli import resolve

    monkeypatch.chdir(root)
    suite = read_suite(root / "benchmarks" / f"{name}.yaml")
    seen = set()
    for job in suite.jobs():
        config = resolve(job.arguments())
        settings = config["model"]["init_args"]
        assert (config["seed_everything"], config["data"]["seed"]) == (job.seed, job.seed)
        assert config["data"]["dataset"] == job.dataset
        assert settings["protocol"] == "canonical"
        seen.add(config["model"]["class_path"].split(".")[-2])
        if name != "real":
            assert config["trainer"]["accelerator"] == "cpu"
            assert config["trainer"]["check_val_every_n_epoch"] <= config["trainer"]["max_epochs"]
            assert settings["cosine_epochs"] == config["trainer"]["max_epochs"]
    assert seen == set(MODELS) - ({"control"} if name == "pretrained" else set())
    if name == "pretrained":
        assert all(len(m.seeds) == 3 for m in suite.models)
        assert all(m.against == (f"{m.name}-random",) for m in suite.models if not m.name.endswith("-random"))
    elif name == "embedded":
        assert min(len(m.seeds) for m in suite.models if m.role != "ablation") >= 2
        assert suite.minutes == 25
    else:
        published = {job.name: resolve(job.arguments()) for job in suite.jobs() if job.model == "rs2sam2"}
        assert published["rs2sam2--rrsis-d--seed1"]["data"]["augment"] == {"random_boxes": 0.2}
        assert published["rs2sam2--refsegrs--seed1"]["data"]["augment"] is None
        assert published["rs2sam2--refsegrs--seed1"]["trainer"]["max_epochs"] == 60


def test_what_two_suites_train_they_train_alike(root):
    """So a method's numbers in one are those in the other, and a finished job may be moved from one to the other."""
    short, long = (
        {model.name: model.change for model in read_suite(root / "benchmarks" / f"{name}.yaml").models}
        for name in ("embedded", "pretrained")
    )
    both = short.keys() & long.keys()
    assert both == {"rsrefseg", "rsrefseg2", "rs2sam2", "evisam3"}
    assert all(short[name] == long[name] for name in both)


def test_a_refused_option_is_named(root, monkeypatch, tmp_path):
    from rrsis_zoo.bench.keys import Keys
    from rrsis_zoo.bench.plan import plan

    monkeypatch.chdir(root)
    given = yaml.safe_load((root / "benchmarks" / "embedded.yaml").read_text())
    given["models"]["control"]["options"]["data.batchsize"] = 3
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(given))
    jobs = [job for job in read_suite(tmp_path / "s.yaml").jobs() if job.model == "control"]
    with pytest.raises(ConfigError, match=r"control--synthetic--seed1: .*batchsize"):
        plan(jobs, {}, Keys())
