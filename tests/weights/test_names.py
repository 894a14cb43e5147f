import json

import pytest
import torch

from golden_cases.case import Case
from rrsis_zoo.methods.rsrefseg.model import RSRefSeg
from rrsis_zoo.methods.rsrefseg2.model import RSRefSeg2
from rrsis_zoo.methods.rsrefseg2.weights import published_operations
from rrsis_zoo.models.backbones.sam import SAM, SAMConfig
from rrsis_zoo.pretrained.official import official_names
from rrsis_zoo.weights.names import sam_to_transformers


def test_sam_names_are_transformers_own():
    """Against the real class, not against a list that somebody typed."""
    from transformers import SamConfig, SamModel

    small = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "mlp_dim": 48,
        "global_attn_indexes": [1],
    }
    with torch.device("meta"):
        theirs = SamModel(SamConfig(vision_config=small)).state_dict()
        ours = SAM(SAMConfig(width=32, depth=2, heads=4, mlp_width=48, global_blocks=(1,))).state_dict()
    renamed = {hf: tuple(ours[name].shape) for name, hf in sam_to_transformers(ours).items()}
    assert renamed == {name: tuple(t.shape) for name, t in theirs.items()}


@pytest.mark.parametrize("preset", ["l", "b"])
def test_rsrefseg_names_are_the_authors(golden, preset):
    with torch.device("meta"):
        model = RSRefSeg.from_preset(preset)
    names = official_names(model)
    assert len(set(names.values())) == len(names)
    keys = json.loads((golden / "rsrefseg" / f"full_keys_{preset}" / "keys.json").read_text())
    assert set(names.values()) == set(keys)


@pytest.mark.parametrize("preset", ["l", "t"])
def test_rsrefseg2_names_are_the_authors(golden, preset):
    with torch.device("meta"):
        model = RSRefSeg2.from_preset(preset)
    names = official_names(model)
    assert len(set(names.values())) == len(names)
    assert set(names.values()) == set(Case(golden / "rsrefseg2" / f"full_keys_{preset}").keys)


def test_rsrefseg2_operations_are_the_released_lists(golden):
    given = Case(golden / "rsrefseg2" / "full_keys_l").configuration["prompter"]
    ours = {name.replace("_layers", "_operation_order"): names for name, names in published_operations().items()}
    assert ours == {name: value for name, value in given.items() if name.endswith("_operation_order")}
