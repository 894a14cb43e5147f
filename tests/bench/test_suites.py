"""Suite files: what they become, and what is said of those that are wrong."""

import shlex

import pytest
import yaml
from made_runs import Row, write_job

from bench.runner import write_suite
from bench.suites import read_suite
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.tables.runs import read_runs

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
    assert not any(job.calibrate for job in read.jobs())
    assert all(job.calibrate for job in suite(f"calibrate: true\n{GOOD}").jobs())
    assert [job.diagnose for job in suite(f"diagnose: 24\n{GOOD}").jobs()][:2] == [24, 24]
    assert not any(job.diagnose for job in read.jobs())
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
    "no yaml": (("seeds: [1, 2]", "seeds: [1, 2"), "is not a suite"),
    "no file": (
        ("[special.yaml]", "[gone.yaml]"),
        "models.large.for.two.configs: there is no file gone.yaml; paths are relative to",
    ),
    "no protocol": (("canonical", "canonic"), "unknown protocol 'canonic' (did you mean 'canonical'?)"),
    "no end": (("{minutes: 9}", "{minutes: .inf}"), "limits.minutes: must be a positive number, got inf"),
    "large seed": (("seeds: [1, 2]", "seeds: [4294967296]"), "seeds: must be a list of different non-negative"),
    "seeds": (("seeds: [1, 2]", "seeds: [1, 1]"), "seeds: must be a list of different non-negative integers"),
    "own seeds": (("seeds: [1]\n", "seeds: one\n"), "models.large-shuffled.seeds: must be a list"),
    "nobody": (("against: [constant, small]", "against: [larg]"), "unknown row to compare with 'larg' (did you mean"),
    "itself": (("against: []", "against: [large-shuffled]"), "unknown row to compare with 'large-shuffled'"),
    "role": (("role: ablation", "role: baseline"), "unknown role 'baseline'; known: ablation, control, method"),
    "a word for a switch": (("baselines: [", "calibrate: maybe\nbaselines: ["), "calibrate: must be true or false"),
    "a switch for a number": (
        ("baselines: [", "diagnose: true\nbaselines: ["), "diagnose: must be a number of scenes, 0 or more, got True"
    ),
    "baseline": (("baselines: [constant]", "baselines: [mean]"), "unknown baseline 'mean'; known: constant"),
    "a baseline's name": (("  small:\n", "  constant:\n"), "models: constant is the name of a baseline"),
    "folder": (("  small:\n", "  Small Net:\n"), "'Small Net' cannot name a folder"),
    "separator": (("  small:\n", "  small--one:\n"), "'small--one' cannot name a folder"),
    "dataset": (("      two: {configs", "      tow: {configs"), "dataset of the suite 'tow' (did you mean 'two'?)"),
    "seed by option": (("trainer.max_epochs: 5", "seed_everything: 5"), "seed_everything cannot be set here"),
    "root": (("data.draw: scenes", "data.root: x"), "datasets.two.options: data.root cannot be set here"),
    "logger": (("trainer.max_epochs: 6", "trainer.logger.name: x"), "trainer.logger.name cannot be set here"),
    "minutes": (("cpu_minutes: 2", "cpu_minutes: -2"), "models.small.cpu_minutes: must be a positive number, got -2"),
    "no model": ((GOOD[GOOD.index("models:") :], "models: {}\n"), "models: must be NAME: FIELDS pairs, got {}"),
    "text": (("title: Small", "title: 3"), "models.small.title: must be a text, got 3"),
}  # fmt: skip


RESERVED = {
    "a checkpoint": ("ckpt_path: /tmp/x.ckpt", "ckpt_path cannot be set here"),
    "as on the command line": ("--ckpt_path: /tmp/x.ckpt", "'--ckpt_path' is not the name of an option"),
    "in the name": ("'ckpt_path=/tmp/x.ckpt': ''", "'ckpt_path=/tmp/x.ckpt' is not the name of an option"),
    "in a value": ("trainer.max_epochs: --ckpt_path=/tmp/x.ckpt", "takes for another option"),
    "resume": ("resume: runs/x", "resume cannot be set here"),
    "untrained": ("untrained: true", "untrained cannot be set here"),
    "weights_only": ("weights_only: false", "it is not a setting of trainer, model or data"),
    "another configuration": ("config: other.yaml", "config cannot be set here; what sets it is configs"),
    "root by section": ("data: {root: /elsewhere}", "data.root (in data) cannot be set here"),
    "root by text": ("data: '{root: /elsewhere}'", "data.root (in data) cannot be set here"),
    "a section's file": ("data: /tmp/data.yaml", "data must be NAME: VALUE pairs"),
    "protocol by section": (
        "model.init_args: {protocol: lavt480}",
        "model.protocol (in model.init_args) cannot be set",
    ),
    "protocol, short": ("model.protocol: lavt480", "model.protocol cannot be set here"),
    "protocol, deep": ("model: {init_args: {protocol: lavt480}}", "model.protocol (in model) cannot be set here"),
    "logger by section": ("trainer: {logger: false}", "trainer.logger (in trainer) cannot be set here"),
    "logger, added": ("trainer.logger+: CSVLogger", "trainer.logger+ cannot be set here"),
    "logger, its name": ("trainer.logger.init_args.name: x", "trainer.logger.init_args.name cannot be set here"),
    "folder": ("trainer.default_root_dir: /tmp", "trainer.default_root_dir cannot be set here"),
    "seed of the data": ("data.seed: 3", "data.seed cannot be set here"),
    "one batch": ("trainer.limit_test_batches: 1", "trainer.limit_test_batches 1 gives no result"),
    "a share": ("trainer.limit_train_batches: 0.5", "trainer.limit_train_batches 0.5 gives no result"),
    "a share by text": ("trainer: '{limit_val_batches: 2}'", "trainer.limit_val_batches 2 gives no result"),
    "fast_dev_run": ("trainer.fast_dev_run: true", "trainer.fast_dev_run True gives no result"),
    "overfit": ("trainer.overfit_batches: 2", "trainer.overfit_batches 2 gives no result"),
    "barebones": ("trainer.barebones: true", "trainer.barebones True gives no result"),
    "no checkpoint": ("trainer.enable_checkpointing: false", "trainer.enable_checkpointing False gives no result"),
    "no training": ("trainer.max_epochs: 0", "trainer.max_epochs 0 gives no result"),
    "no steps": ("trainer.max_steps: 0", "trainer.max_steps 0 gives no result"),
    "a date": ("trainer.max_epochs: 2020-01-01", "trainer.max_epochs must be a text, a number"),
    "no number": ("model.init_args.weight_decay: .nan", "model.init_args.weight_decay must be a text, a number"),
}


@pytest.mark.parametrize("fault", RESERVED)
@pytest.mark.parametrize("place", ["trainer.max_epochs: 5", "data.draw: scenes", "trainer.max_epochs: 6"])
def test_what_the_runner_sets_cannot_be_set_in_any_spelling(suite, fault, place):
    """In options of a model, of a data set, and of both."""
    option, expected = RESERVED[fault]
    with pytest.raises(ConfigError) as error:
        suite(GOOD.replace(place, option, 1))
    assert expected in str(error.value)
    assert "s.yaml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "option",
    [
        "trainer.limit_test_batches: 1.0", "trainer.limit_val_batches: null", "trainer.fast_dev_run: false",
        "trainer.overfit_batches: 0.0", "model: ControlModule", "model.init_args.weights: 'local:x'",
        "trainer: {max_epochs: 3}", "data.text: raw", "trainer.enable_checkpointing: true",
    ],
)  # fmt: skip
def test_what_is_whole_may_be_set(suite, option):
    assert suite(GOOD.replace("trainer.max_epochs: 5", option, 1)).jobs()


def test_a_configuration_file_sets_no_more_than_options(suite, tmp_path):
    (tmp_path / "large.yaml").write_text("trainer: {max_epochs: 3}\nckpt_path: null\nseed_everything: 4\n")
    suite(GOOD)
    for text, name in (
        ("ckpt_path: /tmp/x.ckpt", "ckpt_path"),
        ("resume: runs/x", "resume"),
        ("untrained: true", "untr"),
    ):
        (tmp_path / "large.yaml").write_text(text)
        with pytest.raises(ConfigError, match=rf"models\.large\.configs: large\.yaml sets {name}"):
            suite(GOOD)


def test_a_part_by_a_configuration_file_is_refused_by_the_plan(root, monkeypatch, tmp_path):
    """By what the configuration comes to: a later file may make it whole again."""
    from bench.keys import Keys
    from bench.plan import plan

    monkeypatch.chdir(root)
    given = yaml.safe_load((root / "benchmarks" / "embedded.yaml").read_text())
    (tmp_path / "part.yaml").write_text("trainer: {limit_test_batches: 3}")
    given["models"]["control"]["configs"].append(str(tmp_path / "part.yaml"))
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(given))
    jobs = [job for job in read_suite(tmp_path / "s.yaml").jobs() if job.model == "control"][:1]
    with pytest.raises(
        ConfigError, match=r"control--synthetic--seed1: trainer\.limit_test_batches 3\.?0? gives no result"
    ):
        plan(jobs, {}, Keys())


BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 8)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text", [BOMB, "[" * 5000, "a: &a [*a]", "? [1]\n: 2", "\x00", "title: 2020-99-99", "{}", "[]", "", "x" * 10**6]
)
def test_a_hostile_suite_file_is_refused_at_once(suite, text):
    with pytest.raises(ConfigError, match=r"s\.yaml"):
        suite(text)


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


@pytest.mark.parametrize("name", ["embedded", "pretrained", "foreign", "real"])
def test_shipped_suites_are_accepted_by_the_command(root, monkeypatch, name):
    """Every job's configuration resolves, and says what the suite says."""
    from bench.plan import is_trained
    from rrsis_zoo.commands.fit import resolve
    from rrsis_zoo.methods.registry import method_at, methods

    monkeypatch.chdir(root)
    suite = read_suite(root / "benchmarks" / f"{name}.yaml")
    seen = set()
    for job in suite.jobs():
        config = resolve(job.arguments())
        settings = config["model"]["init_args"]
        assert (config["seed_everything"], config["data"]["seed"]) == (job.seed, job.seed)
        assert config["data"]["dataset"] == job.dataset
        assert settings["protocol"] == "canonical"
        method = method_at(config["model"]["class_path"])
        seen.add(method.name)
        assert is_trained(config) != method.card.training_free
        if method.card.training_free:
            continue
        if name != "real":
            assert config["trainer"]["accelerator"] == "cpu"
            assert config["trainer"]["check_val_every_n_epoch"] <= config["trainer"]["max_epochs"]
            decay = "poly_epochs" if settings["poly_epochs"] is not None else "cosine_epochs"
            ends = config["trainer"]["max_epochs"]
            if (steps := config["trainer"]["max_steps"]) > 0:  # a part of an epoch, validated at its end
                assert config["trainer"]["val_check_interval"] == steps
                ends = steps / 220  # 3,300 expressions, 15 a step
            assert settings[decay] == pytest.approx(ends)
    started = {"rsrefseg", "rsrefseg2", "rs2sam2", "evisam3"}  # from miniatures
    missing = {"embedded": {"sam3_zeroshot"}, "real": set()}  # our miniature of SAM 3 reads no text
    wanted = set(methods()) - missing[name] if name in missing else started | ({"control"} & seen)
    assert seen == wanted
    assert ("control" in seen) == (name != "pretrained")
    if name == "pretrained":
        assert all(len(m.seeds) == 3 for m in suite.models)
        assert all(m.against == (f"{m.name}-random",) for m in suite.models if not m.name.endswith("-random"))
    elif name == "foreign":
        assert suite.calibrate
        shares = {job.model: resolve(job.arguments())["data"]["foreign_share"] for job in suite.jobs()}
        assert shares == {model: 0.25 if model.endswith("-foreign") else 0 for model in shares}
        assert all(m.against == (m.name.removesuffix("-foreign"),) for m in suite.models if m.name.endswith("-foreign"))
    elif name == "embedded":
        (known,) = [m for m in suite.models if m.name == "perfect-where"]
        assert (known.role, known.title) == ("ablation", "Perfect where: noisy true boxes, SAM 2 (mini)")
        yardsticks = {"lavt", "rmsin"}  # after a minute they are far from what they can do: one seed says that
        assert {m.name for m in suite.models if m.role != "ablation" and len(m.seeds) < 2} == yardsticks
        assert suite.minutes == 25
    else:
        published = {job.name: resolve(job.arguments()) for job in suite.jobs() if job.model == "rs2sam2"}
        assert published["rs2sam2--rrsis-d--seed1"]["data"]["augment"] == {"random_boxes": 0.2}
        assert published["rs2sam2--refsegrs--seed1"]["data"]["augment"] is None
        assert published["rs2sam2--refsegrs--seed1"]["trainer"]["max_epochs"] == 60


@pytest.mark.parametrize(("other", "more"), [("pretrained", set()), ("foreign", {"control"})])
def test_what_two_suites_train_they_train_alike(root, other, more):
    """So a method's numbers in one are those in the other, and a finished job may be moved from one to the other."""
    short, long = (
        {model.name: model.change for model in read_suite(root / "benchmarks" / f"{name}.yaml").models}
        for name in ("embedded", other)
    )
    both = short.keys() & long.keys()
    assert both == {"rsrefseg", "rsrefseg2", "rs2sam2", "evisam3"} | more
    assert all(short[name] == long[name] for name in both)


def test_a_refused_option_is_named(root, monkeypatch, tmp_path):
    from bench.keys import Keys
    from bench.plan import plan

    monkeypatch.chdir(root)
    given = yaml.safe_load((root / "benchmarks" / "embedded.yaml").read_text())
    given["models"]["control"]["options"]["data.batchsize"] = 3
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(given))
    jobs = [job for job in read_suite(tmp_path / "s.yaml").jobs() if job.model == "control"]
    with pytest.raises(ConfigError, match=r"control--synthetic--seed1: .*batchsize"):
        plan(jobs, {}, Keys())
