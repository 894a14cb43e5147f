"""What every method must do, whatever it is: one function a promise of `rrsis_zoo.models.base`."""

import copy
import functools
import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from rrsis_zoo.errors import ConfigError, RRSISError
from rrsis_zoo.inference import segment
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.frozen import TrainingFree
from rrsis_zoo.models.types import Batch, TextMode

EXPRESSIONS = [
    "the ship",
    "a large storage tank in the upper right corner of the image",
    "the red vehicle left of the pier",
    "the airplane",
    "the tennis court at the bottom",
]
SIZES = [(96, 96), (80, 130), (150, 61)]
INDEX = [0, 2, 0, 1, 2]

Factory = Callable[[], ReferringSegmenter]


def batch(seed: int = 0) -> Batch:
    """Five expressions over three images of different native sizes, the image order mixed."""
    rng = torch.Generator().manual_seed(seed)
    images = [torch.randint(0, 256, (3, h, w), generator=rng, dtype=torch.uint8) for h, w in SIZES]
    masks = []
    for i in INDEX:
        h, w = SIZES[i]
        mask = torch.zeros(h, w, dtype=torch.bool)
        mask[h // 4 : h // 2, w // 4 : (3 * w) // 4] = True
        masks.append(mask)
    names = [f"sample{i}" for i in range(len(INDEX))]
    return Batch(images, list(EXPRESSIONS), torch.tensor(INDEX), masks, names)


def build(factory: Factory, seed: int = 1) -> ReferringSegmenter:
    """Return a model of one's own: a copy, which takes a third of the time of building one."""
    model, state = _built(factory, seed)
    torch.set_rng_state(state)
    return copy.deepcopy(model)


@functools.lru_cache(2)
def _built(factory: Factory, seed: int) -> tuple[ReferringSegmenter, torch.Tensor]:
    torch.manual_seed(seed)
    model = factory()
    if not model.tokenizer_ready:
        model.fit_tokenizer(EXPRESSIONS)
    return model, torch.get_rng_state()


@torch.no_grad()
def logits(model: ReferringSegmenter, b: Batch, mode: TextMode = "independent") -> torch.Tensor:
    return model(b, mode).mask_logits


def shapes(factory: Factory) -> None:
    model, b = build(factory).eval(), batch()
    n, m = len(b), len(b.images)
    with torch.no_grad():
        state = model.encode_image(b.images)
        assert len(state) == m
        assert state.sizes.tolist() == [list(s) for s in SIZES]
        assert state.fitted.shape == (m, 2)
        assert {f.shape[0] for f in state.features.values()} == {m}
        prediction = model.refer(state, model.tokenize(b.expressions, "published"), b.image_index)
    p = prediction.prompts
    assert prediction.mask_logits.shape == (n, 1, model.sides[1], model.sides[1])
    if not isinstance(model, TrainingFree):
        assert model.target(b.masks).shape == (n, 1, model.sides[0], model.sides[0])
    assert prediction.mask_logits.isfinite().all()
    assert p.sparse.ndim == 3
    assert p.heatmap.shape[:2] == (n, 1)
    assert p.heatmap.shape[2] == p.heatmap.shape[3]
    tensors = [p.sparse, p.heatmap, *([p.dense] if p.dense is not None else []), *p.aux.values()]
    assert {t.shape[0] for t in tensors} == {n}
    assert 0 <= p.heatmap.min() <= p.heatmap.max() <= 1
    assert p[1:3].sparse.equal(p.sparse[1:3])
    readable = [name for name in ("boxes", "points") if getattr(p, name) is not None]
    card = getattr(type(model), "card", None)  # only a registered method has one
    assert tuple(readable) == (card.readable if card is not None else ())
    if p.boxes is not None:
        assert p.scores.shape == p.boxes.shape[:2]
    if p.points is not None:
        assert p.point_labels.shape == p.points.shape[:3]


def restore(factory: Factory) -> None:
    """Log-odds come back at native size, and their sign is the decision before and after."""
    model, b = build(factory).eval(), batch()
    with torch.no_grad():
        prediction = model(b)
        native = model.restore(prediction)
        assert [tuple(x.shape) for x in native] == [SIZES[i] for i in INDEX]
        assert all(x.isfinite().all() for x in native)
        for constant in (-3.0, 2.0):
            prediction.mask_logits = torch.full_like(prediction.mask_logits, constant)
            for x in model.restore(prediction):
                assert torch.allclose(x, torch.full_like(x, constant), atol=1e-5)


def independent(factory: Factory) -> None:
    """In text mode `independent` an expression's result does not depend on its batch mates, nor an image's on its."""
    model, b = build(factory).eval(), batch()
    together = logits(model, b)
    for i, expression in enumerate(b.expressions):
        alone = Batch([b.images[INDEX[i]]], [expression], torch.tensor([0]))
        torch.testing.assert_close(logits(model, alone)[0], together[i], rtol=1e-4, atol=1e-4)


def published_depends_on_mates(factory: Factory) -> None:
    """In text mode `published` pads are read: a longer mate changes a short expression's answer."""
    model, b = build(factory).eval(), batch()
    alone = Batch([b.images[0]], [b.expressions[0]], torch.tensor([0]))
    assert not torch.allclose(logits(model, b, "published")[0], logits(model, alone, "published")[0], atol=1e-6)


def scene_once(factory: Factory) -> None:
    """Encoding a scene once for many expressions gives what encoding it for each gives."""
    model, b = build(factory).eval(), batch()
    copies = Batch([b.images[i] for i in INDEX], b.expressions, torch.arange(len(INDEX)))
    torch.testing.assert_close(logits(model, copies), logits(model, b), rtol=1e-4, atol=1e-4)


def chunks(factory: Factory) -> None:
    model, b = build(factory).eval(), batch()
    whole = logits(model, b)
    model.max_expressions = 2
    torch.testing.assert_close(logits(model, b), whole, rtol=1e-4, atol=1e-4)


def partition(factory: Factory) -> None:
    model = build(factory)
    groups = model.parameter_groups()
    ids = [id(p) for group in groups.values() for p in group]
    assert len(ids) == len(set(ids)), "a parameter is in two groups"
    assert set(ids) == {id(p) for p in model.parameters() if p.requires_grad}
    assert all(groups.values()), "an empty group"


def inert(factory: Factory) -> None:
    """Exactly the declared parameters get no gradient, and they alone (of what would train) are frozen."""
    model, b = build(factory).train(), batch()
    declared = model.inert_parameters()
    named = dict(model.named_parameters())
    assert set(declared) <= set(named)
    assert not any(named[name].requires_grad for name in declared)
    assert all(declared.values()), "each needs its reason"
    for name in declared:
        named[name].requires_grad_(True)
    model.loss(model(b, "published"), b)["loss"].backward()
    without = {name for name, p in named.items() if p.requires_grad and p.grad is None}
    assert without == set(declared)


def loss(factory: Factory) -> None:
    model, b = build(factory).train(), batch()
    terms = model.loss(model(b, "published"), b)
    assert all(t.ndim == 0 and t.isfinite() for t in terms.values())
    torch.testing.assert_close(sum(t for name, t in terms.items() if name != "loss"), terms["loss"])
    targets = model.target(b.masks or [])
    assert targets.dtype == torch.uint8
    assert targets.shape[:2] == (len(b), 1)
    assert set(targets.unique().tolist()) <= {0, 1, 255}


def without_a_referent(factory: Factory) -> None:
    """Sentences added without a referent: every term is finite, and those that need one are of the others alone."""
    model, b = build(factory).train(), batch()
    absent = [False, True, False, False, True]
    assert b.masks is not None
    masks = [torch.zeros_like(mask) if gone else mask for mask, gone in zip(b.masks, absent, strict=True)]
    mixed, nothing = replace(b, masks=masks, absent=absent), replace(b, absent=[True] * 5)
    nothing.masks = [torch.zeros_like(mask) for mask in masks]
    prediction = model(b, "published")
    terms, whole = model.loss(prediction, mixed), model.loss_terms(prediction, model.target(masks))
    there = [n for n, gone in enumerate(absent) if not gone]
    others = model.loss_terms(prediction[there], model.target([masks[n] for n in there]))
    for name, value in terms.items():
        if name != "loss":
            torch.testing.assert_close(value, (others if name in model.needs_referent else whole)[name])
    torch.testing.assert_close(sum(t for name, t in terms.items() if name != "loss"), terms["loss"])
    empty = model.loss(prediction, nothing)
    assert all(value.isfinite() for value in empty.values())
    assert all(empty[name].item() == 0 for name in model.needs_referent & empty.keys())
    (terms["loss"] + empty["loss"]).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def learns(factory: Factory) -> None:
    """A few steps on one batch lower the loss."""
    model, b = build(factory).train(), batch()
    optimiser = torch.optim.AdamW([p for g in model.parameter_groups().values() for p in g], lr=1e-3)
    values = []
    for _ in range(8):
        optimiser.zero_grad()
        value = model.loss(model(b, "published"), b)["loss"]
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert min(values[-2:]) < 0.9 * values[0]


def save_and_load(factory: Factory) -> None:
    """Parameters and tokenizer through a file that is read with weights_only=True give the same output."""
    first, b = build(factory).eval(), batch()
    expected, file = logits(first, b), io.BytesIO()
    torch.save({"state": first.state_dict(), "tokenizer": first.tokenizer_state()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    torch.manual_seed(99)
    second = factory().eval()
    second.load_state_dict(saved["state"])
    second.load_tokenizer_state(saved["tokenizer"])
    assert logits(second, b).equal(expected)


def deterministic(factory: Factory) -> None:
    model, b = build(factory).eval(), batch()
    assert logits(model, b).equal(logits(model, b))


def odd_images_of_a_user(factory: Factory) -> None:
    """`segment` reads grey and transparent images as RGB, and refuses what it would have to guess at."""
    model = build(factory).eval()
    grey = np.random.default_rng(0).integers(0, 256, (24, 32), dtype=np.uint8)
    colour = np.repeat(grey[..., None], 3, axis=2)
    expected = segment(model, colour, "the ship").probabilities
    assert np.isfinite(expected).all()
    transparent = Image.fromarray(np.dstack([colour, np.full_like(grey, 9)]))
    for same in (grey, Image.fromarray(grey), transparent):
        assert np.array_equal(segment(model, same, "the ship").probabilities, expected)
    for wrong, said in (
        (Image.fromarray(grey.astype(np.uint16)), "8 bits per channel"),
        (np.full((24, 32, 3), np.nan), "float64"),
        (np.zeros((24, 32, 4), dtype=np.uint8), r"\(24, 32, 4\)"),
    ):
        with pytest.raises(RRSISError, match=said):
            segment(model, wrong, "the ship")


def odd_input(factory: Factory) -> None:
    """Odd sentences and images give a result; what is no RGB image gives an error that names its sample."""
    model = build(factory).eval()
    sentences = ["", "ship " * 2000, "🚢", "码头左边的船", "...", " the\tship\n"]
    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    out = model.restore(model(Batch([image], sentences, torch.zeros(len(sentences), dtype=torch.int64))))
    assert all(x.shape == (40, 40) and x.isfinite().all() for x in out)
    pixel = Batch([torch.full((3, 1, 1), 7, dtype=torch.uint8)], ["the ship"], torch.tensor([0]))
    assert model.restore(model(pixel))[0].shape == (1, 1)
    bad = {
        "grey": torch.zeros(1, 8, 8, dtype=torch.uint8),
        "with alpha": torch.zeros(4, 8, 8, dtype=torch.uint8),
        "16 bits": torch.zeros(3, 8, 8, dtype=torch.int16),
        "not a number": torch.full((3, 8, 8), torch.nan),
    }
    for what, wrong in bad.items():
        with pytest.raises(ConfigError, match=rf"image 1 \(of {what}\) must be uint8 RGB"):
            model(Batch([image, wrong], ["the ship"] * 2, torch.tensor([0, 1]), sample_ids=["good", what]))


def training_is_refused(factory: Factory) -> None:
    """A method without a training says so in one line, and has nothing that could be trained."""
    model, b = build(factory).train(), batch()
    assert not model.training
    assert not model.parameter_groups()
    assert not any(p.requires_grad for p in model.parameters())
    with pytest.raises(ConfigError, match=f"{model.name} is training-free"):
        model.loss(model(b), b)


ALWAYS = (
    shapes,
    restore,
    independent,
    scene_once,
    chunks,
    save_and_load,
    deterministic,
    odd_input,
    odd_images_of_a_user,
)
TRAINED = (partition, inert, loss, without_a_referent, learns)
UNTRAINED = (training_is_refused,)
PROMISES = (*ALWAYS, *TRAINED)
"""Of a method that is trained; one that is not keeps `ALWAYS` and `UNTRAINED`."""
