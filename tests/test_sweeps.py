"""Every shipped sweep proposes what the real command accepts; the local runner searches, stops, goes on and reports."""

import copy
import json
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
import yaml

import warm
from bench.sweeps import Study, Trial, command_of, is_hopeless, propose, read_sweep
from kinds import TRAINED
from rrsis_zoo.data.layouts import Referent, ReferredScene, write_rrsisd
from rrsis_zoo.errors import ConfigError, DataFormatError, OutputError
from rrsis_zoo.methods.registry import list_models
from test_cli import CONFIGS

SWEEPS = sorted((CONFIGS / "sweeps").glob("*.yaml"))


def with_method(path, method, tmp_path):
    """A shipped sweep searched another way; a grid has both ends of what is continuous."""
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["method"] = method
    if method == "grid":
        config["parameters"] = {
            name: said if "values" in said else {"values": [said["min"], said["max"]]}
            for name, said in config["parameters"].items()
        }
    changed = tmp_path / path.name
    changed.write_text(yaml.safe_dump(config))
    return read_sweep(changed)


def parsed(arguments, monkeypatch):
    """The configuration that the real command makes of its arguments; nothing is built or run."""
    from rrsis_zoo.commands.fit import RRSISCLI

    class Parser(RRSISCLI):
        def before_instantiate_classes(self):
            """Weights and data are not looked for."""

        def instantiate_classes(self):
            """Nothing is built."""

        def _run_subcommand(self, subcommand):
            """Nothing is run."""

    monkeypatch.setattr(sys, "argv", ["rrsis", *arguments])
    cli = Parser()
    return json.loads(cli._parser("fit").dump(cli.config["fit"], format="json", skip_none=False))


def at(config, dotted):
    for name in dotted.split("."):
        config = config[name]
    return config


def test_there_is_one_for_each_method_and_a_published_size():
    names = {path.stem for path in SWEEPS}
    assert {f"{method}_tiny" for method in TRAINED} <= names
    assert names & set(list_models())


@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_real_command_accepts_what_is_proposed(path, method, root, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    sweep = with_method(path, method, tmp_path)
    trials = []
    for value in (20.0, 30.0, 25.0):
        parameters = propose(sweep, trials)
        assert set(parameters) == set(sweep.parameters)
        assert parameters not in [trial.parameters for trial in trials]
        trials.append(Trial(f"run-{len(trials)}", parameters, "finished", [value]))
    words = command_of(sweep, parameters)
    assert words[:2] == ["rrsis", "fit"]
    config = parsed(words[1:], monkeypatch)
    for name, value in parameters.items():
        assert at(config, name) == value, name
    # W&B's agent reports to the server through the logger of the overlay
    assert "QuietWandbLogger" in json.dumps(config["trainer"]["logger"])
    preset = config["model"]["init_args"]["preset"]
    if preset == "tiny":  # the method takes the settings, too
        from rrsis_zoo.methods.registry import method_at

        method_at(config["model"]["class_path"]).model().from_preset(preset, **config["model"]["init_args"]["settings"])


def test_proposals_do_not_repeat_by_chance_and_are_reproducible(root):
    sweep = read_sweep(CONFIGS / "sweeps" / "rsrefseg_tiny.yaml")
    assert propose(sweep, [], seed=1) == propose(sweep, [], seed=1) != propose(sweep, [], seed=2)


def small(tmp_path, **changes):
    config = {
        "method": "grid",
        "metric": {"name": "val/miou", "goal": "maximize"},
        "parameters": {"model.init_args.rate_factor": {"values": [0.5, 1.0, 2.0]}},
        "command": ["rrsis", "fit", "${args}"],
    }
    config = {**copy.deepcopy(config), **changes}
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in config.items() if value is not None}))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "guess"}, "'guess' is not one of"),
        ({"method": "custom"}, "expected grid, random or bayes"),
        ({"parameters": {"x": {"distribution": "bell", "min": 0.0, "max": 1.0}}}, "is not valid under any of"),
        ({"parameters": {"x": {"min": 2.0, "max": 1.0}}}, "x"),
        ({"command": ["python", "train.py", "${args}"]}, r"must start with rrsis, fit and contain \$\{args\}"),
        ({"command": ["rrsis", "fit"]}, "must start with"),
        ({"metric": None}, "metric.name"),
        ({"early_terminate": {"type": "median"}}, "median"),
        ({"run_cap": 3}, "run_cap"),
        ({"command": ["rrsis", "fit", "--ckpt_path=x", "${args}"]}, "ckpt_path cannot be set here"),
        ({"command": ["rrsis", "fit", "--ckpt_path", "x", "${args}"]}, "ckpt_path cannot be set here"),
        ({"command": ["rrsis", "fit", "--resume=x", "${args}"]}, "resume cannot be set here"),
        ({"command": ["rrsis", "fit", "--trainer.logger=x", "${args}"]}, r"trainer\.logger cannot be set here"),
        ({"command": ["rrsis", "fit", "--trainer", "{fast_dev_run: 1}", "${args}"]}, "fast_dev_run 1 gives no result"),
        ({"command": ["rrsis", "fit", "--trainer.limit_val_batches=2", "${args}"]}, "limit_val_batches 2 gives no"),
        ({"parameters": {"ckpt_path": {"values": ["a", "b"]}}}, "ckpt_path cannot be set here"),
        ({"parameters": {"untrained": {"value": True}}}, "untrained cannot be set here"),
        ({"parameters": {"trainer.limit_val_batches": {"values": [1.0, 2]}}}, "limit_val_batches 2 gives no result"),
        ({"parameters": {"trainer.limit_val_batches": {"min": 0.1, "max": 0.9}}}, "limit_val_batches 0.1 gives no"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        read_sweep(small(tmp_path, **changes))


def test_what_cannot_be_searched_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="there is no sweep file"):
        read_sweep(tmp_path / "gone.yaml")
    continuous = {"model.init_args.rate_factor": {"min": 0.5, "max": 1.0}}
    with pytest.raises(ConfigError, match="method grid cannot search"):
        propose(read_sweep(small(tmp_path, parameters=continuous)), [])
    with pytest.raises(ConfigError, match="--runs"):
        Study(read_sweep(small(tmp_path, method="random")), tmp_path / "runs").run()
    unknown = read_sweep(small(tmp_path, command=["rrsis", "fit", "${args}", "${arks}"]))
    with pytest.raises(ConfigError, match="arks"):
        command_of(unknown, {})


# -- the runner, with a program that writes a log as training does ----------------------------------------------------

FAKE = """
import csv, json, pathlib, sys, time
words = sys.argv[1:]
options = {w.split("=")[0]: w.split("=")[1] for w in words if "=" in w}
named = {a: b for a, b in zip(words, words[1:]) if a.startswith("--")}
factor = float(options["--model.init_args.rate_factor"])
if (pathlib.Path(named["--trainer.logger.save_dir"]) / f"fail-{factor}").exists():
    sys.exit("the loss is not a number")
folder = pathlib.Path(named["--trainer.logger.save_dir"]) / named["--trainer.logger.name"] / "version_0"
folder.mkdir(parents=True)
rows = []
for epoch in range(4):
    rows += [{"epoch": epoch, "train/loss": 1.0}, {"epoch": epoch, "val/miou": 10 * factor + epoch}]
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", "train/loss", "val/miou"])
        writer.writeheader()
        writer.writerows(rows)
    time.sleep(float(options.get("--model.init_args.pause", 0)))
(folder / "config.yaml").write_text("trainer: {max_epochs: 4, max_steps: -1}")
(folder / "checkpoints").mkdir()
done = {"epoch": 4, "step": 8, "finished": True, "cpu_s": 1.0, "time": 1.0}
(folder / "checkpoints" / "resume.json").write_text(json.dumps(done))
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "fake.py"
    path.write_text(FAKE)
    return str(path)


def study(tmp_path, **changes):
    return Study(read_sweep(small(tmp_path, **changes)), tmp_path / "runs")


def test_a_grid_is_searched_and_the_best_is_named(tmp_path, program):
    said = []
    done = study(tmp_path)
    done.run(program=program, say=said.append)
    assert [(t.name, t.state, t.history) for t in done.ranked()] == [
        ("run-003", "finished", [20.0, 21.0, 22.0, 23.0]),
        ("run-002", "finished", [10.0, 11.0, 12.0, 13.0]),
        ("run-001", "finished", [5.0, 6.0, 7.0, 8.0]),
    ]
    assert done.best_command() == "rrsis fit --model.init_args.rate_factor=2.0"
    written = (tmp_path / "runs" / "sweep.md").read_text()
    first = next(line for line in written.splitlines() if line.startswith("| run-"))
    assert first.startswith("| run-003 | 23.00 | finished | 4 | ")
    assert first.endswith(" | 2 |")
    assert done.best_command() in written
    assert said[-1] == "run-003: finished, val/miou 23.00"

    again = study(tmp_path)
    again.run(program="no such program", say=said.append)  # nothing is left to do
    assert again.trials == done.trials


def test_the_smallest_is_the_best_of_a_loss(tmp_path, program):
    done = study(tmp_path, metric={"name": "val/miou", "goal": "minimize"})
    done.run(program=program, say=lambda line: None)
    assert done.ranked()[0].parameters == {"model.init_args.rate_factor": 0.5}
    assert done.ranked()[0].best(largest=False) == 5.0


def test_a_configuration_file_of_a_sweep_sets_no_checkpoint(tmp_path):
    (tmp_path / "c.yaml").write_text("ckpt_path: x.ckpt")
    for words in (["--config", str(tmp_path / "c.yaml")], [f"--config={tmp_path / 'c.yaml'}"]):
        with pytest.raises(ConfigError, match=r"c\.yaml sets ckpt_path"):
            read_sweep(small(tmp_path, command=["rrsis", "fit", *words, "${args}"]))


def test_less_training_is_a_sweeps_own_matter(tmp_path):
    read_sweep(small(tmp_path, command=["rrsis", "fit", "--trainer.limit_train_batches=0.1", "${args}"]))


@pytest.mark.parametrize(
    ("point", "said"),
    [('"finished": False', "after 4 epochs"), ('"epoch": 3', "after 3 epochs"), ('"epoch": "4"', "is not known")],
)
def test_status_0_is_no_proof_of_a_whole_run(tmp_path, point, said):
    """A run that says 0 and did not come to its end has failed, whatever its log says."""
    (tmp_path / "fake.py").write_text(FAKE.replace('"time": 1.0}', f'"time": 1.0, {point}}}'))
    done = study(tmp_path)
    done.run(1, program=str(tmp_path / "fake.py"), say=lambda line: None)
    assert done.trials[0].state == "failed"
    assert said in done.trials[0].end[-1]


def test_a_run_that_a_signal_ended_is_done_again(tmp_path, program):
    text = FAKE.replace("factor = float", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)\nfactor = float")
    (tmp_path / "ended.py").write_text(text)
    said = []
    first = study(tmp_path)
    first.run(1, program=str(tmp_path / "ended.py"), say=said.append)
    assert said[-1] == "run-001: the run was interrupted by SIGTERM"
    second = study(tmp_path)
    assert [trial.state for trial in second.trials] == ["running"]
    second.run(1, program=program, say=lambda line: None)
    assert [trial.state for trial in second.trials] == ["finished"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"sweep": {}, "runs": 3}', '{"sweep": {}, "runs": [{"name": "../../x"}]}', "[" * 100_000]
)
def test_a_damaged_sweep_is_named(tmp_path, text):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "sweep.json").write_text(text)
    with pytest.raises(DataFormatError, match=r"sweep\.json.*remove it, or name another folder"):
        study(tmp_path)


def test_a_sweep_that_cannot_be_written_is_one_error(tmp_path, program):
    (tmp_path / "runs").touch()
    with pytest.raises(OutputError, match="runs"):
        study(tmp_path).run(1, program=program, say=lambda line: None)


def test_the_table_of_a_sweep_shows_values_as_they_are(tmp_path, program):
    values = {"model.init_args.rate_factor": {"values": [1.0]}, "model.init_args.x": {"values": ["a|b `c` <d>"]}}
    done = study(tmp_path, parameters=values)
    done.run(program=program, say=lambda line: None)
    table, _, best = (tmp_path / "runs" / "sweep.md").read_text().partition("The best:")
    assert r"| a\|b \`c\` &lt;d> |" in table
    assert best.strip().startswith("```sh\nrrsis fit")
    assert best.strip().endswith("\n```")


def test_an_interrupted_run_is_done_again(tmp_path, program):
    first = study(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        first.run(program=program, say=Interrupt(after=3))
    said = json.loads((tmp_path / "runs" / "sweep.json").read_text())
    assert [run["state"] for run in said["runs"]] == ["finished", "running"]
    second, lines = study(tmp_path), []
    second.run(program=program, say=lines.append)
    assert lines[0].startswith("run-002")
    assert [trial.state for trial in second.trials] == ["finished"] * 3
    assert len({json.dumps(trial.parameters) for trial in second.trials}) == 3


class Interrupt:
    """Presses the key at the so many-th line."""

    def __init__(self, after):
        self.after = after

    def __call__(self, line):
        self.after -= 1
        if not self.after:
            raise KeyboardInterrupt


def test_another_sweep_in_the_folder_is_refused(tmp_path, program):
    study(tmp_path).run(1, program=program, say=lambda line: None)
    with pytest.raises(ConfigError, match="another sweep"):
        study(tmp_path, parameters={"model.init_args.rate_factor": {"values": [3.0]}})


def test_failures_are_recorded_and_all_failures_end_the_sweep(tmp_path, program):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "fail-1.0").touch()
    one = study(tmp_path)
    one.run(program=program, say=lambda line: None)
    assert [trial.state for trial in one.trials] == ["finished", "failed", "finished"]
    assert one.trials[1].end == ["the loss is not a number"]
    assert one.ranked()[-1].name == "run-002"
    (tmp_path / "runs" / "fail-1.0").unlink()
    one.forget_failed()
    one.run(program=program, say=lambda line: None)
    assert sorted(trial.state for trial in one.trials) == ["finished"] * 3
    assert {trial.name for trial in one.trials} == {"run-001", "run-003", "run-004"}

    (tmp_path / "runs" / "sweep.json").unlink()
    for factor in (0.5, 1.0, 2.0):
        (tmp_path / "runs" / f"fail-{factor}").touch()
    with pytest.raises(ConfigError, match=r"all of the first 3 runs failed(.|\n)*not a number"):
        study(tmp_path).run(program=program, say=lambda line: None)


def test_a_run_without_the_metric_has_failed(tmp_path, program):
    done = study(tmp_path, metric={"name": "val/iou", "goal": "maximize"})
    done.run(1, program=program, say=lambda line: None)
    assert done.trials[0].state == "failed"
    assert "without a value of val/iou" in done.trials[0].end[-1]
    assert done.best_command() is None


HYPERBAND = {"type": "hyperband", "min_iter": 1, "eta": 2}


def test_early_termination_is_the_packages(tmp_path):
    sweep = read_sweep(small(tmp_path, early_terminate=HYPERBAND))
    done = [Trial(f"done-{n}", {"model.init_args.rate_factor": 2.0}, "finished", [20.0, 30.0, 40.0]) for n in (1, 2)]
    bad = Trial("bad", {"model.init_args.rate_factor": 0.5}, "running", [1.0, 2.0, 3.0])
    good = Trial("good", {"model.init_args.rate_factor": 1.0}, "running", [50.0, 60.0, 70.0])
    assert is_hopeless(sweep, [*done, bad])
    assert not is_hopeless(sweep, [*done, good])
    assert not is_hopeless(read_sweep(small(tmp_path)), [*done, bad])


def test_a_hopeless_run_is_ended(tmp_path, program):
    command = ["rrsis", "fit", "--model.init_args.pause=0.4", "${args}"]
    values = {"model.init_args.rate_factor": {"values": [2.0, 3.0, 1.0]}}
    done = study(tmp_path, early_terminate=HYPERBAND, command=command, parameters=values)
    done.run(program=program, poll_s=0.1, say=lambda line: None)
    assert [trial.state for trial in done.trials] == ["finished", "finished", "stopped"]
    assert 2 <= len(done.trials[2].history) < 4
    assert done.best_command() == "rrsis fit --model.init_args.pause=0.4 --model.init_args.rate_factor=3.0"


# -- the script, with real training -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_script_trains(root, tmp_path):
    rng = np.random.default_rng(0)
    mask = np.zeros((64, 64), dtype=np.bool_)
    mask[20:40, 20:50] = True
    write_rrsisd(
        tmp_path / "data",
        [
            ReferredScene(
                rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), [Referent(mask, ["the ship"], "ship")], split
            )
            for split in ("train", "train", "val")
        ],
    )
    shipped = yaml.safe_load((CONFIGS / "sweeps" / "control_tiny.yaml").read_text(encoding="utf-8"))
    command = [word for word in shipped["command"] if "synthetic" not in word and "epochs" not in word]
    spare = command.index("--config", command.index("configs/overlays/control_tiny.yaml"))
    del command[spare]  # of the overlay that was taken out
    options = [f"--data.root={tmp_path / 'data'}", "--data.batch_size=2", "--trainer.max_epochs=1"]
    shipped["command"] = [*command[:-1], *options, "--trainer.check_val_every_n_epoch=1", command[-1]]
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(shipped))
    arguments = [tmp_path / "sweep.yaml", "--folder", tmp_path / "runs", "--runs", "2"]
    done = subprocess.run(
        [warm.python(), root / "benchmarks" / "sweep.py", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        env={**os.environ},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads((tmp_path / "runs" / "sweep.json").read_text())
    assert [(run["state"], len(run["history"])) for run in said["runs"]] == [("finished", 1), ("finished", 1)]
    best = next(line for line in done.stdout.splitlines() if line.startswith("rrsis fit"))
    assert shlex.split(best)[:4] == ["rrsis", "fit", "--config", "configs/control.yaml"]
    assert not (tmp_path / "runs" / "wandb").exists()
