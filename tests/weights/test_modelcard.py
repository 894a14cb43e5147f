"""The card of a model: what a stranger's folder says of itself stays text."""

import json

import huggingface_hub
from markdown_it import MarkdownIt

from rrsis_zoo.methods.registry import card
from rrsis_zoo.models.modelcard import model_card

EVIL = "x`y```\n\n# owned\n\n[click](javascript:alert(1)) <img src=x onerror=alert(1)> ![](http://evil.example/a.png)\n\n```"
PROVENANCE = {
    "release": "none of ours",
    "sha256": {EVIL: EVIL},
    "dtypes": [EVIL],
    "converted_by": EVIL,
    "source": EVIL,
    "report": EVIL,
}


def headings_and_tags(card):
    tokens = MarkdownIt("commonmark", {"html": True}).parse(card.partition("\n---\n")[2])
    inline = [child.type for token in tokens for child in token.children or ()]
    headings = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    return headings, {token.type for token in tokens} | set(inline)


def test_nothing_leaves_its_block():
    config = {"name": EVIL, "a": {"b": "```"}}
    headings, kinds = headings_and_tags(model_card(card("control"), config, PROVENANCE))
    assert headings[1:] == ["Licences", "Weights", "Configuration"]
    assert not kinds & {"html_block", "html_inline", "image"}
    plain = {**dict.fromkeys(("converted_by", "source", "report"), "x"), "sha256": {"a": "b"}, "dtypes": ["c"]}
    clean, allowed = headings_and_tags(model_card(card("control"), {}, {**PROVENANCE, **plain}))
    assert (headings, kinds) == (clean, allowed)


def test_the_settings_can_be_read_from_it():
    text = model_card(card("control"), {"name": "```", "tick": "`"}, None)
    tokens = MarkdownIt("commonmark").parse(text)
    (block,) = [token.content for token in tokens if token.type == "fence" and token.info == "json"]
    assert json.loads(block) == {"name": "```", "tick": "`"}
    data = huggingface_hub.ModelCard(text).data
    assert (data.library_name, data.tags[-1]) == ("rrsis-zoo", "control")


SCORES = {"n": 450, "oiou": 70.125, "miou": 60.5, "pr@0.5": None}
TRAINING = {
    "settings": {"root": "/home/somebody/data", "text": "sent"},
    "data": {"name": "my harbour", "published": False, "train": 3300, "val": 450},
    "precision": "bf16-mixed",
    "step": 12000,
    "validation": {"split": "val", "protocol": "canonical", "epoch": 3, "scores": SCORES},
    "tests": [{"dataset": "other", "split": "test", "protocol": "lavt480", "n": 750, "metrics": {"miou": 55.0}}],
}


def test_the_authors_scores_stand_in_the_card_of_their_weights_only():
    facts = card("rsrefseg2")
    plain = {**dict.fromkeys(("converted_by", "source", "report"), "x"), "sha256": {"a": "b"}, "dtypes": ["c"]}
    authors = {**PROVENANCE, **plain, "release": None}
    assert "## Published results" in model_card(facts, {}, authors)
    for provenance, training in ((None, None), (None, TRAINING), ({**authors, "saved_again": True}, None)):
        text = model_card(facts, {}, provenance, training)
        assert "Published results" not in text
        assert not any(f"{value:.2f}" in text for score in facts.published for value in score.values.values())


def test_a_card_speaks_of_its_training():
    text = model_card(card("rsrefseg"), {}, None, TRAINING)
    assert (
        "Trained with rrsis-zoo on my harbour (3,300 training and 450 validation samples; in the layout `rrsis-d`; not "
        "a published dataset), 12,000 optimiser steps in precision bf16-mixed."
    ) in text
    assert "| my harbour | val | canonical | 450 | – | – | – | – | – | 70.12 | 60.50 |" in text
    assert "| other | test | lavt480 | 750 | – | – | – | – | – | – | 55.00 |" in text
    assert "somebody" not in text
    published = {**TRAINING, "data": {**TRAINING["data"], "name": "rrsis-d", "published": True}}
    assert "on rrsis-d (3,300 training and 450 validation samples; as published)" in model_card(
        card("rsrefseg"), {}, None, published
    )
    bare = {"precision": "32-true", "step": 1}
    text = model_card(card("rsrefseg"), {}, None, bare)
    assert "Trained with rrsis-zoo, 1 optimiser step in precision 32-true." in text
    assert "Results" not in text


def test_a_strangers_training_stays_text():
    evil = {"name": EVIL, "published": False, "train": 1, "val": 1}
    test = {"dataset": EVIL, "split": EVIL, "protocol": EVIL, "n": 1, "metrics": {}}
    training = {"settings": {"dataset": EVIL}, "data": evil, "precision": EVIL, "step": 1, "tests": [test]}
    headings, kinds = headings_and_tags(model_card(card("control"), {}, None, training))
    assert headings[1:] == ["Licences", "Weights", "Configuration", "Results"]
    assert not kinds & {"html_block", "html_inline", "image"}
    assert kinds <= headings_and_tags(model_card(card("control"), {}, None, TRAINING))[1] | {"softbreak"}


def test_a_card_says_what_the_weights_have_seen():
    plain = {**dict.fromkeys(("converted_by", "source", "report"), "x"), "sha256": {"a": "b"}, "dtypes": ["c"]}
    text = model_card(card("rsrefseg2"), {}, {**plain, "release": "refsegrs"})
    assert "* refsegrs test: **selection**. RSRefSeg 2, refsegrs.pth: In RSRefSeg 2's configurations the" in text
    assert "| 77.39 | selection |" in text
    assert "nothing is known of any other split" in text
    assert "**selection**" not in model_card(card("rsrefseg2"), {}, {**plain, "release": None})


def test_a_card_says_what_a_training_started_from():
    lineage = {
        "starts": [
            {"source": "hub:facebook/sam-vit-base", "base": "sam"},
            {"source": "local:siglip", "base": "siglip"},
        ],
        "trainings": [{"dataset": "rrsis-d", "split": "train", "selected_on": "val"}],
    }
    published = {"name": "rrsis-d", "published": True, "train": 3300, "val": 450}
    tests = [{**TRAINING["tests"][0], "dataset": "risbench"}]
    text = model_card(card("rsrefseg"), {}, None, {**TRAINING, "data": published, "tests": tests, "lineage": lineage})
    assert "* starts from hub:facebook/sam-vit-base: SA-1B (aerial images: not known)" in text
    assert "* trained on rrsis-d, split train; checkpoints are chosen on val" in text
    assert "| 70.12 | 60.50 | selection |" in text
    assert "| 55.00 | pool |" in text
    drawn = {**TRAINING, "settings": {"dataset": "synthetic"}}
    assert "| 70.12 | 60.50 | selection |" in model_card(card("rsrefseg"), {}, None, drawn)
    tested = {**drawn, "tests": [{**tests[0], "dataset": "my harbour"}]}
    assert "| 55.00 | clean |" in model_card(card("rsrefseg"), {}, None, tested)
