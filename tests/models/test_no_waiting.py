"""Nothing between a batch and its loss, or its masks, waits for a GPU."""

import json
from dataclasses import replace

import contract
import pytest
import torch

from kinds import TRAINED
from no_waiting import DEVICE, NoWaiting, Waited, without_autocast
from rrsis_zoo.methods.registry import card, list_models, method_named
from rrsis_zoo.models.layers.host import constant, in_groups, picked, to_device

PRESETS = [(name, preset) for name in list_models() for preset in ("tiny", "mini") if preset in card(name).presets]
REPLIES = [
    [{"bbox_2d": [2, 3, 50, 60], "positive_points": [[10, 20], [20, 30]]}, {"bbox_2d": [5, 5, 20, 30]}],
    [],
    [{"positive_points": [[40, 40], [60, 70]]}],
    "no list",
    [{"bbox_2d": [1, 1, 9, 9]}],
]


@pytest.fixture(autouse=True)
def _no_autocast():
    with without_autocast():
        yield


def built(method, preset, training):
    """Return the model on the device, and the contract's batch: five expressions over images of three sizes."""
    model = contract.build(lambda: method_named(method).model().from_preset(preset)).train(training)
    batch = contract.batch()
    if method == "think2seg":  # its language model's reply is text, which is on the host by its nature
        replies = [f"<answer>{json.dumps(reply)}</answer>" for reply in REPLIES]
        model.write = lambda state, tokens, image_index: replies[: len(image_index)]
    return model.to(DEVICE), batch.to(DEVICE)


def encoded(model, batch):
    if model.name != "think2seg":
        return model.encode_image(batch.images)
    side, frame = model.config.sam.image_size, model.config.frame  # Pillow stretches its images, on the host
    views = {
        "frame": torch.empty(3, 3, frame, frame, device=DEVICE),
        "image": torch.empty(3, 3, side, side, device=DEVICE),
    }
    return model.encode(views, batch.sizes)


@pytest.mark.parametrize(("mode", "absent"), [("published", False), ("independent", True)])
@pytest.mark.parametrize(("method", "preset"), [case for case in PRESETS if case[0] in TRAINED])
def test_a_training_step(method, preset, mode, absent):
    model, batch = built(method, preset, training=True)
    if absent:
        batch = replace(batch, absent=[False, True, False, False, True])
    optimiser = torch.optim.AdamW([p for group in model.parameter_groups().values() for p in group], foreach=False)
    with NoWaiting():
        prediction = model(batch, mode)
        loss = model.loss(prediction, batch)["loss"]
        model.readings(prediction)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], 1.0, foreach=False)
        optimiser.step()
    assert loss.device.type == DEVICE
    assert any(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(("mode", "groups"), [("published", None), ("independent", 2)])
@pytest.mark.parametrize(("method", "preset"), PRESETS)
def test_an_answer(method, preset, mode, groups):
    model, batch = built(method, preset, training=False)
    model.max_expressions = None if method == "think2seg" else groups
    with torch.inference_mode(), NoWaiting():
        state = encoded(model, batch)
        prediction = model.refer(state, model.tokenize(batch.expressions, mode), batch.image_index)
        prediction.image_of = batch.image_of
        maps = model.restore(prediction)
        one = model.restore(prediction[1:2])
    assert [tuple(each.shape) for each in maps] == [contract.SIZES[i] for i in contract.INDEX]
    assert one[0].shape == maps[1].shape
    assert {each.device.type for each in maps} == {DEVICE}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, which this machine does not have")
@pytest.mark.parametrize("method", TRAINED)
def test_a_training_step_on_a_gpu(method):
    model = contract.build(lambda: method_named(method).model().from_preset("tiny")).train().cuda()
    batch = contract.batch().pin_memory().to("cuda", non_blocking=True)
    optimiser = torch.optim.AdamW([p for group in model.parameter_groups().values() for p in group], fused=True)
    for debug in ("default", "error"):  # the first step allocates, and chooses kernels
        torch.cuda.set_sync_debug_mode(debug)
        try:
            optimiser.zero_grad()
            model.loss(model(batch, "published"), batch)["loss"].backward()
            optimiser.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")


# -- the helper fails where it should ----------------------------------------------------------------------------------

WAITING = {
    "item": lambda x: x.sum().item(),
    "tolist": lambda x: x.tolist(),
    "bool": lambda x: bool((x > 0).any()),
    "int": lambda x: int(x.sum()),
    "nonzero": lambda x: x.nonzero(),
    "unique": lambda x: x.unique(),
    "unique rows": lambda x: torch.unique(x[None], dim=0),
    "a mask as an index": lambda x: x[x > 0],
    "to the host": lambda x: x.cpu(),
    "numbers to the device": lambda x: x + torch.tensor([1.0, 2.0, 3.0], device=x.device),
    "new_tensor": lambda x: x.new_tensor([1.0, 2.0, 3.0]),
    "a tensor to the device": lambda x: torch.ones(3).to(x.device),
    "copy_": lambda x: x.copy_(torch.ones(3)),
    "a list as an index": lambda x: x[[0, 2]],
    "repeat_interleave": lambda x: x.repeat_interleave(x.long()),
    "masked_select": lambda x: x.masked_select(x > 0),
}


@pytest.mark.parametrize("what", WAITING)
def test_what_waits_is_found(what):
    with pytest.raises(Waited), NoWaiting():
        WAITING[what](torch.empty(3, device=DEVICE))


def test_what_does_not_wait_is_allowed():
    x = torch.empty(3, 4, device=DEVICE)
    with NoWaiting():
        y = x + constant([1.0, 2.0, 3.0, 4.0], x)
        y = picked(y, [2, 0])
        y = y[to_device(torch.tensor([1, 1]), DEVICE)]
        y = torch.where(y > 0, y, 0) + torch.arange(4, device=DEVICE)
    assert y.shape == (2, 4)


# -- equal sizes are worked on together --------------------------------------------------------------------------------


def test_equal_sizes_are_one_call():
    asked = []

    def double(x):
        asked.append(tuple(x.shape))
        return x.sum((-2, -1))[:, None] * 2

    given = [torch.full((2, 3), 1.0), torch.full((4, 1), 2.0), torch.full((2, 3), 3.0)]
    assert in_groups(double, given).tolist() == [[12.0], [16.0], [36.0]]
    assert asked == [(2, 2, 3), (1, 4, 1)]
    asked.clear()
    assert in_groups(double, given[::2]).tolist() == [[12.0], [36.0]]
    assert asked == [(2, 2, 3)]


@pytest.mark.parametrize("method", TRAINED)
def test_together_gives_what_each_gives_alone(method):
    """Views, targets and native maps, bit for bit."""
    model, batch = contract.build(lambda: method_named(method).model().from_preset("tiny")).eval(), contract.batch()
    images = [batch.images[0], batch.images[1], batch.images[0].flip(-1)]
    masks = [batch.masks[0], batch.masks[1], batch.masks[3], batch.masks[0].flip(0)]
    together, alone = model.prepare(images), [model.prepare([image]) for image in images]
    for name, view in together.items():
        assert view.equal(torch.cat([each[name] for each in alone]))
    assert model.target(masks).equal(torch.cat([model.target([mask]) for mask in masks]))
    with torch.no_grad():
        prediction = model(batch)
    restored = model.restore(prediction)
    for n, one in enumerate(restored):
        assert one.equal(model.restore(prediction[n : n + 1])[0])
        assert one.equal(model.restore_each(prediction)[n])
