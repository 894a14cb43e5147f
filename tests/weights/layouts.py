"""Files as the authors' programs leave them, made from golden cases."""

import functools
import json
import re
from argparse import Namespace

import torch
from safetensors.torch import save_file

from golden_cases.case import Case
from golden_cases.run import ADAPTERS
from rrsis_zoo.weights.skeleton import without_weights


def key_list(folder):
    """Shapes and dtypes of a case, without values: every tensor is one number, repeated by strides of 0."""
    case = Case(folder)
    return {
        name: torch.zeros((), dtype=getattr(torch, record["dtype"])).expand(record["shape"])
        for name, record in case.keys.items()
    }


def empty_model(case):
    with without_weights():
        return ADAPTERS[case.model].build(case).eval()


def golden_model(golden, method, name="tiny"):
    """A case, a model of it without values, for those who only look, and the values in a dictionary of one's own."""
    case, model, weights = _golden_model(golden / method / name)
    return case, model, dict(weights)


@functools.lru_cache(3)
def _golden_model(folder):
    case = Case(folder)
    return case, empty_model(case), dict(case.weights(lambda name: True))


def bf16(state):
    """Values as some programs save them; those of `key_list` stay one number each, not gigabytes of it."""

    def cast(v):
        repeated = v.numel() > 1 and not any(v.stride())
        return v.as_strided((), ()).to(torch.bfloat16).expand(v.shape) if repeated else v.to(torch.bfloat16)

    return {k: cast(v) if v.is_floating_point() else v for k, v in state.items()}


def prefixed(prefix):
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


WRAPPERS = {
    "mmengine": lambda state: {"meta": {"epoch": 3, "cfg": "model = dict()"}, "state_dict": state},
    "deepspeed": lambda state: {"module": state, "dp_world_size": 8, "global_steps": 7},
    "data parallel in mmengine": lambda state: {"state_dict": prefixed("module.")(state)},
    "bf16 in mmengine": lambda state: {"state_dict": bf16(state)},
}
"""Wrappers that every method's files may come in."""

PEFT = {
    "adapters without their name": lambda n: re.sub(r"\.lora_([AB])\.default\.", r".lora_\1.", n),
    "no base_layer": lambda n: n.replace(".base_layer.", "."),
}
"""Names of adapters as other versions of peft write them."""


def two_models(state):
    """LAVT's training checkpoint of the variant with BERT beside the model, with options and optimiser."""
    text = {name: tensor for name, tensor in state.items() if name.startswith("text_encoder.")}
    return {
        "model": {name: tensor for name, tensor in state.items() if name not in text},
        "bert_model": {name.removeprefix("text_encoder."): tensor for name, tensor in text.items()},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2), "step": 1}}, "param_groups": [{"lr": 5e-5}]},
        "epoch": 39,
        "args": Namespace(swin_type="base", lr=5e-5, mha="", ddp_trained_weights=False),
        "lr_scheduler": {"last_epoch": 3},
    }


OF_METHOD = {
    "lavt": {"two models": two_models},
    "rmsin": {"two models": two_models},
    "rs2sam2": {"zero": prefixed("module.evf_model."), "evf": prefixed("evf_model.")},
}
"""Wrappers of one method only."""


def wrappers(method):
    return WRAPPERS | OF_METHOD.get(method, {})


def write(content, path):
    if path.suffix == ".safetensors":
        save_file({k: v.contiguous() for k, v in content.items()}, path)
    else:
        torch.save(content, path)
    return path


def config_of(folder):
    return json.loads((folder / "config.json").read_text())
