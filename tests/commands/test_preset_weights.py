"""Weights follow the preset unless they were given."""

import pytest

from rrsis_zoo.cli import run
from rrsis_zoo.commands.fit import resolve
from rrsis_zoo.commands.preset_weights import check_sizes, with_preset_weights
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.registry import card, list_models, methods
from rrsis_zoo.training.shipped_configs import shipped_names, with_shipped

SIGLIP = "hub:google/siglip-so400m-patch14-384"
B = {"sam": "hub:facebook/sam-vit-base", "siglip": SIGLIP}
MINI = {"sam": "mini:sam", "siglip": "mini:siglip"}


def weights(*words):
    return resolve(["--config", "rsrefseg", *words])["model"]["init_args"]["weights"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--model.init_args.preset", "b"], B),
        (["--model.preset=b"], B),
        (["--config", "overlays/rsrefseg_mini", "--model.init_args.preset", "tiny"], None),
        (["--config", "overlays/rsrefseg_tiny", "--model.init_args.preset", "mini"], MINI),
        (["--config", "overlays/rsrefseg_mini"], MINI),
        # given ones stay
        (["--model.init_args.preset", "b", "--model.init_args.weights", "none"], "none"),
        (["--model.init_args.weights", "null", "--model.init_args.preset", "b"], None),
        (["--model.init_args.preset", "b", "--model.init_args.weights.siglip", "local:x"], B | {"siglip": "local:x"}),
        (["--model.init_args.weights.sam", "local:x"], {"sam": "local:x", "siglip": SIGLIP}),
    ],
)
def test_which_weights(words, expected):
    assert weights(*words) == expected


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("{preset: b}", [], B),  # none are given
        (
            "{preset: l, weights: {sam: local:x, siglip: none}}",
            ["--model.preset", "b"],
            {"sam": "local:x", "siglip": "none"},
        ),
        ("{preset: l, weights: local:whole.ckpt}", ["--model.preset", "b"], "local:whole.ckpt"),
        ("{preset: l, weights: null}", ["--model.preset", "b"], None),
        ("{preset: b, weights: {sam: 'hub:facebook/sam-vit-large', siglip: none}}", [], "as given"),
    ],
)
def test_weights_of_ones_own_configuration(tmp_path, text, options, expected):
    path = tmp_path / "mine.yaml"
    path.write_text(f"model: {{class_path: {methods()['rsrefseg'].class_path}, init_args: {text}}}")
    found = resolve(["--config", str(path), *options])["model"]["init_args"]["weights"]
    assert found == ({"sam": "hub:facebook/sam-vit-large", "siglip": "none"} if expected == "as given" else expected)


def test_a_replacement_is_said():
    words, _ = with_shipped(["--config", "rsrefseg", "--model.init_args.preset", "b"])
    found, note = with_preset_weights(words)
    assert found[:-1] == words
    assert note == f"weights follow preset 'b': sam hub:facebook/sam-vit-base, siglip {SIGLIP}"
    assert with_preset_weights(found) == (found, None)
    assert with_preset_weights(words[:2]) == (words[:2], None)
    assert with_preset_weights([*words, "--ckpt_path", "x"]) == ([*words, "--ckpt_path", "x"], None)


@pytest.mark.parametrize("name", [name for name in shipped_names() if not name.startswith("overlays/")])
def test_shipped_configurations_have_the_weights_of_their_preset(name):
    """Otherwise another preset would keep them."""
    model = resolve(["--config", name])["model"]["init_args"]
    method = next(known for known in sorted(list_models(), key=len, reverse=True) if name.startswith(known))
    assert model["weights"] == dict(card(method).presets[model["preset"]].weights)


def test_weights_of_another_size_are_refused_before_anything_is_looked_for(tmp_path):
    facts = card("rsrefseg")
    check_sizes(facts, "b", B)
    check_sizes(facts, "b", {"sam": "local:x", "siglip": "none"})
    with pytest.raises(
        ConfigError, match=r"preset 'b': weights.sam hub:facebook/sam-vit-large is what preset 'l' starts"
    ):
        check_sizes(facts, "b", {"sam": "hub:facebook/sam-vit-large", "siglip": SIGLIP})
    words = ["--config", "rsrefseg", "--config", "overlays/rsrefseg_mini", "--data.root", str(tmp_path)]
    with pytest.raises(
        ConfigError, match=r"has other sizes; leave the weights out, or give --model\.init_args\.weights\.sam"
    ):
        run(["fit", *words, "--model.init_args.weights.sam", "hub:facebook/sam-vit-base"])
