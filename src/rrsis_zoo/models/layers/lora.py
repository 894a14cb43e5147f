"""Low-rank adapters (LoRA) through peft, under the module's own names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from rrsis_zoo.models.configuration import Count, Share
from rrsis_zoo.weights.wrappers import is_lora


def _quick(pattern: str) -> str:
    """Refuse an invalid regular expression, or one that may be very slow: repeated groups, or many repetitions."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"should be a regular expression ({error})") from error
    if re.search(r"\)[*+{]", pattern) or len(re.findall(r"(?<!\\)[*+{]", pattern)) > 6:
        raise ValueError("should have no repeated groups, and six repetitions at most")
    return pattern


Pattern = Annotated[str, Field(max_length=500), AfterValidator(_quick)]
"""A regular expression for names of layers."""


@dataclass(frozen=True)
class LoRA:
    """Placement and size of low-rank adapters.

    Attributes:
        targets: regular expression that must match a layer's whole name.
        rank: inner width r.
        alpha: the adapter's output is scaled by alpha / r.
        dropout: on the adapter's input, in training.
    """

    targets: Pattern
    rank: Count = 16
    alpha: Count = 16
    dropout: Share = 0.1


def inject_lora(module: nn.Module, lora: LoRA) -> None:
    """Wrap the targeted linear and convolution layers of ``module`` in place; everything else in it is frozen.

    A layer ``x`` becomes ``x.base_layer``, ``x.lora_A.default`` and ``x.lora_B.default``. A convolution's A has the
    layer's kernel, stride and padding, its B is 1 × 1. B starts at zero: the module's output does not change.

    Raises:
        ValueError: no layer matches.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=lora.targets, bias="none"
    )
    inject_adapter_in_model(config, module)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(is_lora(name))


def merged_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the state dict with which an unadapted module computes the same as this adapted one in evaluation.

    The weight of an adapted layer becomes W + alpha / rank · B A (for a convolution the equivalent kernel), computed
    in float32 and stored in the layer's dtype; everything else is shared with the module.

    Raises:
        ValueError: nothing in the module is adapted.
    """
    from peft.tuners.lora import LoraLayer

    adapted = {name: layer for name, layer in module.named_modules() if isinstance(layer, LoraLayer)}
    if not adapted:
        raise ValueError("no layer of the module is adapted")
    state = {
        name.replace(".base_layer.", "."): tensor for name, tensor in module.state_dict().items() if not is_lora(name)
    }
    with torch.no_grad():
        for name, layer in adapted.items():
            weight = layer.get_base_layer().weight
            assert isinstance(weight, Tensor)
            for adapter in layer.active_adapters:
                delta = layer.get_delta_weight(adapter)  # type: ignore[operator]
                weight = (weight.float() + delta.float()).to(weight.dtype)
            state[f"{name}.weight"] = weight
    return state
