import math

import lightning
import pytest
import torch

import rrsis_zoo
from kinds import TRAINED
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.errors import ConfigError, MissingWeightsError, WeightsMismatchError
from rrsis_zoo.methods.registry import card, method_named
from rrsis_zoo.pretrained.whole import find_whole
from rrsis_zoo.training.module import check_rates
from rrsis_zoo.weights.checkpoints import weights_hash


def rates(method, value=1e-3):
    return dict.fromkeys(method_named(method).model().from_preset("tiny").parameter_groups(), value)


def module(method, **options):
    torch.manual_seed(0)
    return method_named(method).module()(preset="tiny", learning_rates=rates(method), **options)


def data(tree, **options):
    return RRSISDataModule(root=str(tree), batch_size=4, eval_batch_size=4, num_workers=0, **options)


def trainer(folder, **options):
    defaults = {
        "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
        "num_sanity_val_steps": 0, "use_distributed_sampler": False, "default_root_dir": folder, "max_epochs": 1,
        "enable_checkpointing": False,
    }  # fmt: skip
    return lightning.Trainer(**{**defaults, **options})


@pytest.fixture(scope="module", params=TRAINED)
def trained(request, tree, tmp_path_factory):
    """(method, checkpoint after two epochs, the test's numbers straight after)."""
    folder = tmp_path_factory.mktemp("run")
    lightning.seed_everything(0)
    run, model = trainer(folder, max_epochs=2), module(request.param, warmup_epochs=1, cosine_start=1, cosine_epochs=4)
    run.fit(model, datamodule=data(tree))
    run.save_checkpoint(folder / "two.ckpt")
    numbers = run.test(model, datamodule=data(tree), verbose=False)[0]
    return request.param, folder / "two.ckpt", numbers, model


def test_a_checkpoint_is_a_model(trained, tree):
    """It loads without a config or a base file, and gives the numbers it gave."""
    method, path, numbers, model = trained
    loaded = rrsis_zoo.load_model(path)
    assert loaded.name == method
    assert not loaded.training
    assert weights_hash(loaded) == weights_hash(model.model)
    again = module(method)
    assert trainer(path.parent).test(again, datamodule=data(tree), ckpt_path=path, verbose=False)[0] == numbers
    assert numbers["test/n"] == 10
    assert set(numbers) == {f"test/{k}" for k in ("n", "oiou", "miou", *(f"pr@{t}" for t in (0.5, 0.6, 0.7, 0.8, 0.9)))}


def test_lightning_loads_it_too(trained):
    method, path, _, model = trained
    again = method_named(method).module().load_from_checkpoint(path, weights_only=True)
    assert weights_hash(again.model) == weights_hash(model.model)


def test_load_model_by_name(trained):
    method, path, _, model = trained
    loaded = rrsis_zoo.load_model(method, weights=f"local:{path}")
    assert weights_hash(loaded) == weights_hash(model.model)
    assert rrsis_zoo.load_model(method, preset="tiny", weights="none").config == model.model.config
    with pytest.raises(ConfigError, match="its own preset"):
        rrsis_zoo.load_model(path, preset="tiny")
    with pytest.raises(ConfigError, match="local:PATH"):
        find_whole("none", card(method))
    with pytest.raises(MissingWeightsError, match="hf download a/b"):
        rrsis_zoo.load_model(method, weights="hub:a/b")
    other = next(p for p in method_named(method).model().presets if p != "tiny")
    with pytest.raises(ConfigError, match="has another configuration than preset"):
        rrsis_zoo.load_model(method, weights=f"local:{path}", preset=other)


def test_resuming_is_going_on(trained, tree, tmp_path):
    """Four epochs in one go and two plus two end at the same weights."""
    method, path, _, _ = trained
    options = {"warmup_epochs": 1, "cosine_start": 1, "cosine_epochs": 4}
    lightning.seed_everything(0)
    whole = module(method, **options)
    trainer(tmp_path, max_epochs=4).fit(whole, datamodule=data(tree))
    resumed = module(method, **options)
    trainer(tmp_path, max_epochs=4).fit(resumed, datamodule=data(tree), ckpt_path=path)
    for (name, a), b in zip(whole.model.named_parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5, msg=name)


def test_a_checkpoint_of_another_configuration_is_refused(trained, tree):
    method, path, _, _ = trained
    other = next(p for p in method_named(method).model().presets if p.startswith("tiny") and p != "tiny")
    wrong = method_named(method).module()(preset=other, learning_rates=rates(method))
    with pytest.raises(ConfigError, match="config is"):
        trainer(path.parent).test(wrong, datamodule=data(tree), ckpt_path=path)


def test_an_evaluation_setting_is_free(trained, tree):
    """RSRefSeg 2's fallback: one checkpoint is tested with and without it; what is trained must still be the same."""
    method, path, numbers, model = trained
    if method != "rsrefseg2":
        assert not method_named(method).model().evaluation_settings
        return
    other = module(method, settings={"stability_fallback": True})
    tested = trainer(path.parent).test(other, datamodule=data(tree), ckpt_path=path, verbose=False)[0]
    assert other.model.config.stability_fallback
    assert tested["test/n"] == numbers["test/n"]
    assert weights_hash(other.model) == weights_hash(model.model)
    wrong = module(method, settings={"stability_fallback": True, "loss": {"bce": 1.0}})
    with pytest.raises(ConfigError, match="config is"):
        trainer(path.parent).test(wrong, datamodule=data(tree), ckpt_path=path)


def test_files_that_are_no_checkpoint(tmp_path):
    with pytest.raises(MissingWeightsError, match=r"no checkpoint .*gone\.ckpt"):
        rrsis_zoo.load_model(tmp_path / "gone.ckpt")
    (tmp_path / "cut.ckpt").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(WeightsMismatchError, match=r"cut\.ckpt \(\d+ bytes\)"):
        rrsis_zoo.load_model(tmp_path / "cut.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(WeightsMismatchError, match="not a checkpoint of rrsis-zoo"):
        rrsis_zoo.load_model(tmp_path / "other.ckpt")
    with pytest.raises(ConfigError, match="did you mean"):
        rrsis_zoo.load_model("rsrefsge")


@pytest.mark.parametrize("method", TRAINED)
def test_every_group_has_its_rate(method):
    model = method_named(method).model().from_preset("tiny")
    given = {name: i + 1.0 for i, name in enumerate(model.parameter_groups())}
    groups = check_rates(model, given)
    assert {g["name"]: g["lr"] for g in groups} == given
    assert sum(p.numel() for g in groups for p in g["params"]) == sum(
        p.numel() for p in model.parameters() if p.requires_grad
    )
    first = next(iter(given))
    with pytest.raises(ConfigError, match=f"missing: {first}"):
        check_rates(model, {k: v for k, v in given.items() if k != first})
    with pytest.raises(ConfigError, match="unknown: decoderr"):
        check_rates(model, {**given, "decoderr": 1.0})


def test_rates_follow_the_schedule(tree, tmp_path):
    """Warm-up by step from 0.01 of each group's own rate times the common factor, then the cosine by epoch."""
    seen = []

    class Watch(lightning.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append({g["name"]: g["lr"] for g in trainer.optimizers[0].param_groups})

    method = "rsrefseg"
    given = {**rates(method, 2e-3), "prompter": 1e-3}
    schedule = {"warmup_epochs": 1, "cosine_start": 1, "cosine_epochs": 2}
    model = method_named(method).module()(preset="tiny", learning_rates=given, rate_factor=0.5, **schedule)
    trainer(tmp_path, max_epochs=3, callbacks=[Watch()], limit_val_batches=0).fit(model, datamodule=data(tree))
    assert len(seen) == 9  # 14 expressions, 4 a step
    assert [s["prompter"] for s in seen[:3]] == pytest.approx([5e-4 * f for f in (0.01, 0.34, 0.67)])
    assert seen[0]["mask_decoder"] == pytest.approx(1e-3 * 0.01)
    assert seen[3]["mask_decoder"] == pytest.approx(1e-3)
    assert seen[6]["mask_decoder"] == pytest.approx(1e-3 * (1 + math.cos(math.pi / 2)) / 2)


def test_accumulation_clipping_and_bf16(tree, tmp_path):
    run = trainer(tmp_path, accumulate_grad_batches=3, gradient_clip_val=0.1, precision="bf16-mixed", max_epochs=1)
    model = module("rsrefseg")
    run.fit(model, datamodule=data(tree))
    assert run.global_step == 1
    assert all(p.isfinite().all() for p in model.parameters())


def test_base_weights_are_read_only_without_a_checkpoint(trained, tree, tmp_path):
    """Missing base files stop a fresh run, not the test of a checkpoint."""
    method, path, numbers, _ = trained
    weights = dict.fromkeys(card(method).foundations, f"local:{tmp_path / 'gone'}")
    fresh = module(method, weights=weights)
    with pytest.raises(MissingWeightsError, match="gone"):
        trainer(tmp_path).fit(fresh, datamodule=data(tree))
    again = module(method, weights=weights)
    assert trainer(tmp_path).test(again, datamodule=data(tree), ckpt_path=path, verbose=False)[0] == numbers
