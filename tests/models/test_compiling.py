"""torch.compile on the parts that repeat: whole graphs, few of them, and the same answers."""

import shutil
from collections import Counter
from dataclasses import dataclass

import contract
import pytest
import torch
from torch import nn

from kinds import TRAINED
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.loading import load_model
from rrsis_zoo.methods.registry import list_models, method_named
from rrsis_zoo.models.compiling import Part, compile_parts
from rrsis_zoo.models.types import Batch

SENTENCES = [
    "the ship",
    "a large storage tank in the upper right corner of the image",
    "the red vehicle left of the pier",
    "the airplane",
    "the tennis court at the bottom",
]
CLOSE = {"rtol": 1e-3, "atol": 1e-3}
"""Of log-odds of tiny models in float32, whose spread is about 1: compiled parts hide pads instead of leaving them out,
and add up in another order."""


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def asked(expressions, images, masks=False):
    """Return a batch of the first sentences about the contract's images."""
    whole = contract.batch()
    index = torch.arange(len(expressions)) % images
    own = [whole.masks[contract.INDEX.index(int(i))] for i in index] if masks else None
    return Batch(whole.images[:images], list(expressions), index, own, [f"s{i}" for i in range(len(expressions))])


def built(method):
    model = contract.build(lambda: method_named(method).model().from_preset("tiny"))
    return model.train(not model.card.training_free)


BATCHES = [asked(SENTENCES[:3], 2), asked(SENTENCES[1:], 3), asked([SENTENCES[0], SENTENCES[3]] * 3, 2)]
"""Other sentences, numbers of expressions and of images; in the last all sentences are equally long."""


@pytest.mark.slow
@pytest.mark.parametrize("method", list_models())
def test_answers_in_whole_graphs_without_recompiling(method):
    model = built(method).eval()
    with torch.no_grad():
        expected = [model(batch).mask_logits for batch in BATCHES]
        model.use_compile("default", backend="eager", fullgraph=True)
        first = model(BATCHES[0]).mask_logits
        with torch._dynamo.config.patch(error_on_recompile=True):
            others = [model(batch).mask_logits for batch in BATCHES[1:]]
    for ours, theirs in zip((first, *others), expected, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.slow
def test_a_single_expression_is_one_further_graph():
    model = built("rsrefseg2").eval()
    with torch.no_grad():
        model.use_compile("default", backend="eager", fullgraph=True)
        model(BATCHES[0])
        model(asked(SENTENCES[:1], 1))
        with torch._dynamo.config.patch(error_on_recompile=True):
            model(asked(SENTENCES[2:3], 1))
            model(BATCHES[1])


@pytest.mark.slow
@pytest.mark.parametrize("method", TRAINED)
def test_training_steps_in_whole_graphs_without_recompiling(method):
    batches = [asked(SENTENCES[:3], 2, masks=True), asked(SENTENCES[1:], 3, masks=True)]

    def gradients(model, batch):
        torch.manual_seed(3)
        model.zero_grad()
        loss = model.loss(model(batch, "published"), batch)["loss"]
        loss.backward()
        return {"loss": loss.detach(), **{n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}}

    model = built(method)
    without_chance(model)
    names = list(model.state_dict())
    expected = [gradients(model, batch) for batch in batches]
    model = built(method)
    without_chance(model)
    # once with derivatives by the compiler too, which takes three times as long
    model.use_compile("default", backend="aot_eager" if method == "rsrefseg" else "eager", fullgraph=True)
    assert list(model.state_dict()) == names
    first = gradients(model, batches[0])
    with torch._dynamo.config.patch(error_on_recompile=True):
        second = gradients(model, batches[1])
    for ours, theirs in zip((first, second), expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            scale = float(theirs[name].abs().max()) + 1e-6
            assert float((value - theirs[name]).abs().max()) < 2e-3 * scale + 1e-6, name


def without_chance(model):
    """Compiled parts draw other random numbers."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler, which this machine lacks")
def test_with_inductor():
    """The real compiler, once: an answer."""
    model, batch = built("rsrefseg").eval(), asked(SENTENCES[:3], 2, masks=True)
    with torch.no_grad():
        expected = model(batch).mask_logits
        model.use_compile("default")
        torch.testing.assert_close(model(batch).mask_logits, expected, **CLOSE)
    model.use_compile("off")
    with torch.no_grad():
        assert model(batch).mask_logits.equal(expected)


def test_off_undoes_it():
    model = built("control").eval()
    with torch.no_grad():
        expected = model(BATCHES[0]).mask_logits
        model.use_compile("default", backend="eager")
        assert model.steady
        model.use_compile("off")
        assert not model.steady
        assert model(BATCHES[0]).mask_logits.equal(expected)
        assert not any(module._compiled_call_impl for module in model.modules())


def test_load_model_compiles():
    model = load_model("mini:rsrefseg", compile="default")
    assert all(part.module._compiled_call_impl is not None for part in model.compiled_parts().values())
    assert not any("_orig_mod" in name for name in model.state_dict())
    with pytest.raises(ConfigError, match=r"unknown compile 'fast'; known: default, max-autotune, off"):
        load_model("mini:rsrefseg", compile="fast")


def test_a_method_without_parts_is_told():
    model = built("control")
    model.compiled_parts = dict
    with pytest.raises(ConfigError, match="control has no parts that can be compiled: set compile off"):
        model.use_compile("default")


@dataclass
class Pair:
    words: torch.Tensor
    other: torch.Tensor


class Both(nn.Module):
    def forward(self, x, pair):
        return x + pair.words.sum(1) + pair.other


def test_only_the_axes_of_numbers_are_dynamic():
    """An axis of channels that changes is another graph; numbers of expressions and words are not."""
    module, graphs = Both(), Counter()

    def backend(graph, inputs):
        graphs["compiled"] += 1
        return graph

    compile_parts({"both": Part(module, {"1.words": (1,)})}, "default", "it", backend=backend, fullgraph=True)
    for n, words in ((3, 4), (4, 4), (5, 3), (3, 9)):
        out = module(torch.ones(n, 2), Pair(torch.ones(n, words, 2), torch.zeros(n, 2)))
        assert out.equal(torch.full((n, 2), 1.0 + words))
        assert graphs["compiled"] == 1
    module(torch.ones(3, 5), Pair(torch.ones(3, 4, 5), torch.zeros(3, 5)))
    assert graphs["compiled"] == 2
