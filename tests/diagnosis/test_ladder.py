"""The rungs: a stub in the stock SAM's place, the truth as dense prompt in every method's convention, best prompts."""

import numpy as np
import pytest
import torch

from rrsis_zoo.diagnosis.collect import Plan, collect
from rrsis_zoo.diagnosis.known import contents_of, some_scenes
from rrsis_zoo.diagnosis.ladder import Asked, best_prompts, iou_of, missing_rungs, truth_on
from rrsis_zoo.diagnosis.ladder_names import RUNGS, STOCK
from rrsis_zoo.diagnosis.places import largest_box, mask_box
from rrsis_zoo.diagnosis.stock import open_stock, own_source
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.loading import load_model
from rrsis_zoo.methods.registry import method_named
from rrsis_zoo.models.seam import truth_as_logits

MINIATURES = ("rsrefseg", "rsrefseg2", "rs2sam2", "evisam3")


def asked_of(model, data, count=2):
    records = some_scenes(data.records("test"), 1)[:count]
    batch = next(iter(data.batches(records)))
    with torch.no_grad():
        prediction = model(batch, "independent")
        return Asked(model, prediction, model.restore(prediction), batch.masks)


@pytest.mark.parametrize("name", MINIATURES)
def test_best_prompts_are_never_below_the_own_and_the_weights_stay(name, data):
    model = load_model(f"mini:{name}")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    asked = asked_of(model, data)
    masks, steps = best_prompts(asked, steps=6)
    for mask, logits, truth, step in zip(masks, asked.logits, asked.truth, steps, strict=True):
        own = iou_of(logits > 0, truth)
        assert iou_of(mask, truth) >= own
        assert (step == 0) == (iou_of(mask, truth) == own)
    assert any(steps)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", MINIATURES)
def test_the_same_prompts_again_give_the_same_masks(name, data):
    model = load_model(f"mini:{name}")
    asked = asked_of(model, data)
    own = asked.prediction
    with torch.no_grad():
        again = model.segment_again(own.state, own.prompts, own.image_index)(own.prompts)
    assert torch.allclose(again, own.mask_logits, atol=1e-4)
    assert missing_rungs(model, own.prompts) == {}


def test_a_coupled_network_has_only_the_rungs_that_need_no_prompts(data):
    model = load_model("control", weights="none", preset="tiny")
    model.fit_tokenizer([record.expression for record in data.records("train")])
    asked = asked_of(model, data)
    missing = missing_rungs(model, asked.prediction.prompts)
    assert {*RUNGS} - {*missing} == {"own", "mask_box", "truth_point", "truth_box"}
    assert all("coupled" in why for why in missing.values())


def test_truth_as_log_odds_has_the_95th_percentile_of_the_own_magnitudes(rng):
    dense, truth = torch.from_numpy(rng.normal(-3, 2, (2, 1, 20, 20))).float(), torch.zeros(2, 1, 20, 20)
    truth[..., 3:9, 4:8] = 1
    found = truth_as_logits(dense, truth)
    for own, g, given in zip(dense, truth, found, strict=True):
        c = np.percentile(own.abs().numpy(), 95)
        assert given[g == 1].numpy() == pytest.approx(c, rel=1e-5)
        assert given[g == 0].numpy() == pytest.approx(-c, rel=1e-5)


def test_truth_on_a_coarse_grid_keeps_small_referents_and_not_the_padding():
    target = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
    target[0, 0, 16:32, 16:24] = 1  # two cells of 8 x 8
    target[1, 0, 20:22, 20:22] = 1  # less than half of a cell
    target[1, 0, 56:] = 255
    found = truth_on(target, (8, 8))
    assert found[0, 0].nonzero().tolist() == [[2, 2], [3, 2]]
    assert found[1, 0].nonzero().tolist() == [[2, 2]]


def test_an_empty_mask_stays_empty_on_the_way_to_stock(model, data, perfect_stock):
    from rrsis_zoo.diagnosis.ladder import climb

    asked = asked_of(model, data)
    silent = Asked(model, asked.prediction, [torch.full_like(one, -1) for one in asked.logits], asked.truth)
    found = climb(silent, ("own", "mask_box"), perfect_stock, (torch.zeros(1),))
    assert not any(mask.any() for mask in found["mask_box"])


@pytest.mark.parametrize("source", ["mini:sam", "mini:sam2"])
def test_a_stock_sam_finds_what_the_truth_points_at(source, data):
    stock = open_stock(source, torch.device("cpu"))
    record = data.records("test")[0]
    batch = next(iter(data.batches([record])))
    truth = batch.masks[0]
    size = tuple(truth.shape)
    with torch.no_grad():
        image = stock.encode(batch.images[0])
        answers = [
            *stock.by_boxes(image, [mask_box(truth.numpy())], size),
            *stock.by_masks(image, [torch.where(truth, 8.0, -8.0)], size),
        ]
    for mask in answers:
        assert iou_of(mask, truth) > 0.6


def test_stock_of_every_method_and_a_source_without_a_size():
    assert {name: own_source(load_model(f"mini:{name}")) for name in MINIATURES} == {
        "rsrefseg": "mini:sam",
        "rsrefseg2": "mini:sam2",
        "rs2sam2": "mini:sam2",
        "evisam3": "mini:sam2",
    }
    with torch.device("meta"):
        published = [method_named(name).model() for name in ("rsrefseg", "evisam3")]
        sources = [own_source(kind.from_preset(next(iter(kind.presets)))) for kind in published]
    assert sources == ["hub:facebook/sam-vit-large", None]  # no miniature for real images
    with pytest.raises(ConfigError, match="which SAM is it"):
        open_stock("local:somewhere/model.pt", torch.device("cpu"))


def test_all_stock_rungs_are_rungs():
    assert {*STOCK} < {*RUNGS}


def test_the_own_box_of_several_parts_is_that_of_the_largest():
    mask = np.zeros((20, 20), np.bool_)
    mask[2:4, 2:4] = mask[10:18, 5:9] = True
    assert largest_box(mask) == (10, 5, 18, 9)


def test_best_prompts_of_batches_whose_sentences_have_different_lengths(data):
    """RS2-SAM2's words are padded to the longest sentence of a batch."""
    records = data.records("test")
    plan = Plan(rungs=("own", "best_prompts"), best=8)
    found = collect(load_model("mini:rs2sam2"), data.batches(records), records, contents_of(data, "test"), plan)
    best = [line for line in found.lines if "best_prompts" in line.rungs]
    assert len(best) == 8
    assert all(line.rungs["best_prompts"].iou(line.truth) >= line.iou for line in best)
    assert len({line.scene_id for line in best}) == 8


def test_a_coupled_network_is_diagnosed_with_an_empty_sentence_too(data):
    model = load_model("control", weights="none", preset="tiny")
    model.fit_tokenizer([record.expression for record in data.records("train")])
    records = some_scenes(data.records("test"), 2)
    found = collect(model, data.batches(records), records, contents_of(data, "test"), Plan(probes=("blind", "shuffle")))
    assert {*found.missing} == {*RUNGS} - {"own"}
    assert found.missing["heat_box"] != found.missing["mask_box"]  # no heat map; and no stock SAM was opened here
    assert [p.sentence for line in found.lines for p in line.probes].count("") == 2
