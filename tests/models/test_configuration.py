from dataclasses import dataclass, replace
from typing import Literal

import pytest

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.registry import list_models, method_named
from rrsis_zoo.methods.rsrefseg.model import RSRefSeg, RSRefSegConfig
from rrsis_zoo.models.configuration import change, check_choices, from_plain, to_plain


@pytest.mark.parametrize("method", list_models())
def test_every_preset_goes_through_plain_values(method):
    for config in method_named(method).model().presets.values():
        assert from_plain(type(config), to_plain(config)) == config


def test_nested_changes():
    config = change(
        RSRefSegConfig(), {"sam": {"image_size": 512, "global_blocks": [1, 2]}, "bce_weight": 1}, "rsrefseg"
    )
    assert config.sam == replace(RSRefSegConfig().sam, image_size=512, global_blocks=(1, 2))
    assert config.bce_weight == 1.0
    assert isinstance(config.bce_weight, float)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": 5}, "unknown setting of rsrefseg 'image'"),
        ({"sam": {"imagesize": 5}}, "did you mean 'image_size'"),
        ({"dense_prompt": "yes"}, "rsrefseg.dense_prompt must be like True"),
        ({"sam": {"image_size": 512.5}}, "rsrefseg.sam.image_size must be like 1024"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        RSRefSeg.from_preset("tiny", **changes) if "sam" not in changes else change(
            RSRefSegConfig(), changes, "rsrefseg"
        )


def test_unknown_preset():
    with pytest.raises(ConfigError, match="known: b, l, mini, tiny"):
        RSRefSeg.from_preset("xl")


@dataclass(frozen=True)
class Choosing:
    colour: Literal["red", "blue"] = "red"
    size: int = 3

    def __post_init__(self):
        check_choices(self, "paint")


def test_choices():
    assert change(Choosing(), {"colour": "blue", "size": 4}, "paint") == Choosing("blue", 4)
    said = r"unknown choice for paint\.colour 'bleu'.*did you mean 'blue'.*known: blue, red"
    with pytest.raises(ConfigError, match=said):
        change(Choosing(), {"colour": "bleu"}, "paint")
