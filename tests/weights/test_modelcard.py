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
