"""Expressions are answered in groups: nothing in a model sees more of them at once, and no answer changes."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import rrsis_zoo
from rrsis_zoo.methods.registry import list_models, method_named
from rrsis_zoo.models.types import Batch, Restored

EXPRESSIONS = [
    "the red ship left of the pier",
    "a storage tank",
    "the tennis court at the bottom",
    "the ship",
    "a red tank left of the pier",
    "the court",
    "a pier",
]


@pytest.fixture(scope="module", params=list_models())
def model(request):
    torch.manual_seed(0)
    model = method_named(request.param).model().from_preset("tiny")
    model.fit_tokenizer(EXPRESSIONS * 3)
    return model.eval()


def batch():
    generator = torch.Generator().manual_seed(1)
    images = [torch.randint(0, 256, (3, h, w), dtype=torch.uint8, generator=generator) for h, w in ((70, 90), (64, 50))]
    return Batch(images, EXPRESSIONS, torch.tensor([0, 0, 1, 0, 1, 1, 0]))


def answered(model, limit, mode):
    model.max_expressions = limit
    try:
        with torch.inference_mode():
            prediction = model(batch(), mode)
            return prediction, model.restore(prediction), list(model.restore_each(prediction))
    finally:
        del model.max_expressions  # the class's own is seen again


@pytest.mark.parametrize("mode", ["independent", "published"])
def test_groups_change_no_answer(model, mode):
    whole, maps, _ = answered(model, None, mode)
    for limit in (1, 2, 3, 100):
        parts, restored, each = answered(model, limit, mode)
        torch.testing.assert_close(parts.mask_logits, whole.mask_logits, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(parts.prompts.heatmap, whole.prompts.heatmap, atol=2e-5, rtol=1e-4)
        assert parts.image_index.equal(whole.image_index)
        assert len(restored) == len(each) == len(EXPRESSIONS)
        for one, other, expected in zip(restored, each, maps, strict=True):
            assert one.equal(other)
            torch.testing.assert_close(one, expected, atol=2e-5, rtol=1e-4)


def rows_seen(model, run):
    """Run, and return module name -> the sizes of the first axis of what it was given."""
    seen = defaultdict(set)

    def note(name):
        def hook(module, arguments, named, output):
            for value in (*arguments, *named.values()):
                if isinstance(value, torch.Tensor) and value.ndim:
                    seen[name].add(len(value))
                elif hasattr(value, "ids"):
                    seen[name].add(len(value.ids))

        return hook

    hooks = [m.register_forward_hook(note(name), with_kwargs=True) for name, m in model.named_modules() if name]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def test_no_module_sees_more_than_a_group(model):
    image = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    same = ["the ship"]  # of one length: what modules see depends on the number of expressions alone

    def run(count, limit):
        model.max_expressions = limit
        try:
            return rows_seen(model, lambda: rrsis_zoo.segment(model, image, same * count))
        finally:
            del model.max_expressions

    group, rest, many = run(2, None), run(1, None), run(7, 2)
    assert many.keys() == group.keys()
    for name, sizes in many.items():
        assert sizes <= group[name] | rest[name], name
    unbounded = run(7, None)
    assert unbounded.keys() == many.keys()
    if model.name != "rs2sam2":  # bounded by itself
        assert any(unbounded[name] - sizes for name, sizes in many.items())


def test_images_are_encoded_once(model):
    calls = []
    encode = model.encode
    model.encode = lambda views, sizes: (calls.append(len(sizes)), encode(views, sizes))[1]
    model.max_expressions = 2
    try:
        rrsis_zoo.segment(model, np.zeros((60, 70, 3), np.uint8), EXPRESSIONS)
    finally:
        del model.encode, model.max_expressions
    assert calls == [1]


def test_training_takes_all_at_once(model):
    model.max_expressions = 2
    model.train()
    try:
        parts = list(
            model.refer_in_groups(
                model.encode_image(batch().images), model.tokenize(EXPRESSIONS, "published"), batch().image_index
            )
        )
    finally:
        model.eval()
        del model.max_expressions
    assert [len(part) for part in parts] == ([2, 2, 2, 1] if model.card.training_free else [7])


def test_what_only_segment_reads_is_not_kept(model):
    whole, *_ = answered(model, None, "independent")
    parts, *_ = answered(model, 2, "independent")
    assert whole.prompts.aux.keys() - parts.prompts.aux.keys() == model.segment_only


def test_maps_of_the_images_size_are_not_piled_up(model):
    """No operation answers with more than one map of the image's size, however many sentences there are."""
    image = np.zeros((300, 300, 3), np.uint8)

    class Largest(TorchDispatchMode):
        bytes = 0

        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            out = function(*arguments, **(named or {}))
            if isinstance(out, torch.Tensor) and out.shape[-2:] == (300, 300) and out.is_floating_point():
                self.bytes = max(self.bytes, out.numel() * out.element_size())
            return out

    model.max_expressions = 2
    try:
        with Largest() as largest:
            rrsis_zoo.segment(model, image, ["the ship"] * 9)
    finally:
        del model.max_expressions
    maps = 1 if model.name == "think2seg" else 3  # the image itself; Pillow resizes that of Think2Seg-RS
    assert largest.bytes == maps * 300 * 300 * 4


def test_restored_maps_are_made_when_they_are_asked_for():
    made = []

    def make(n):
        made.append(n)
        return torch.full((1, 2), float(n))

    maps = Restored(make, 3)
    assert len(maps) == 3
    assert not made
    assert maps[-1].tolist() == [[2.0, 2.0]]
    assert [m[0, 0].item() for m in maps] == [0.0, 1.0, 2.0]
    assert [m[0, 0].item() for m in maps[1:]] == [1.0, 2.0]
    assert made == [2, 0, 1, 2, 1, 2]
    with pytest.raises(IndexError):
        maps[3]
    again = Restored([make(7)])  # as Lightning builds sequences anew
    assert len(again) == 1
    assert again[0].equal(make(7))
