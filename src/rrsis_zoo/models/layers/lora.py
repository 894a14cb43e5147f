"""Low-rank adapters (LoRA) under the module's own names, as peft makes them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from rrsis_zoo.models.configuration import Count, Share
from rrsis_zoo.weights.wrappers import is_lora

_NAME = "default"
"""peft's name of an adapter among several."""


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


class _Adapted(nn.Module):
    """A layer x with an adapter: x(input) + alpha / rank · B(A(input)), under the names that peft gives to the parts.

    peft has many more kinds of adapters, and needs transformers and accelerate for them: seconds at every start. This
    one kind is equal to its, bit for bit, initial values included (tests/models/layers/test_lora.py).

    Args:
        base: linear layer or convolution.
        a: A, from the layer's inputs to the rank.
        b: B, from the rank to the layer's outputs.
        lora: size.
    """

    def __init__(self, base: nn.Module, a: nn.Module, b: nn.Module, lora: LoRA) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_dropout = nn.ModuleDict({_NAME: nn.Dropout(lora.dropout) if lora.dropout else nn.Identity()})
        self.lora_A = nn.ModuleDict({_NAME: a})
        self.lora_B = nn.ModuleDict({_NAME: b})
        self.scaling = lora.alpha / lora.rank
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        nn.init.zeros_(self.b)

    @property
    def a(self) -> Tensor:
        """Weight of A."""
        return cast(Tensor, self.lora_A[_NAME].weight)

    @property
    def b(self) -> Tensor:
        """Weight of B."""
        return cast(Tensor, self.lora_B[_NAME].weight)

    @property
    def weight(self) -> Tensor:
        """The layer's own weight: modules such as attention read it."""
        return cast(Tensor, self.base_layer.weight)

    @property
    def bias(self) -> Tensor | None:
        """The layer's own bias."""
        return cast(Tensor | None, self.base_layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of layer and adapter, in the layer's dtype."""
        result = self.base_layer(x)
        adapted = self.lora_B[_NAME](self.lora_A[_NAME](self.lora_dropout[_NAME](x.to(self.a.dtype))))
        return (result + adapted * self.scaling).to(result.dtype)

    def change(self) -> Tensor:
        """Return alpha / rank · B A in float32, of the shape of the layer's weight."""
        a, b = self.a.float(), self.b.float()
        if a.ndim == 2:
            return b @ a * self.scaling
        if a.shape[2:] == (1, 1):
            return (b[..., 0, 0] @ a[..., 0, 0])[..., None, None] * self.scaling
        return F.conv2d(a.transpose(0, 1), b).transpose(0, 1) * self.scaling


def _adapted(layer: nn.Module, lora: LoRA) -> _Adapted:
    """Return a layer with an adapter.

    Raises:
        ValueError: neither linear nor a convolution of one group.
    """
    if isinstance(layer, nn.Linear):
        a = nn.Linear(layer.in_features, lora.rank, bias=False)
        b = nn.Linear(lora.rank, layer.out_features, bias=False)
    elif isinstance(layer, nn.Conv2d) and layer.groups == 1:
        size, stride, padding = layer.kernel_size, layer.stride, layer.padding
        a = nn.Conv2d(layer.in_channels, lora.rank, size, stride, padding, bias=False)  # type: ignore[arg-type]
        b = nn.Conv2d(lora.rank, layer.out_channels, 1, bias=False)
    else:
        raise ValueError(f"low-rank adapters are for linear layers and convolutions, not for {type(layer).__name__}")
    return _Adapted(layer, a, b, lora)


def inject_lora(module: nn.Module, lora: LoRA) -> None:
    """Wrap the targeted linear and convolution layers of ``module`` in place; everything else in it is frozen.

    A layer ``x`` becomes ``x.base_layer``, ``x.lora_A.default`` and ``x.lora_B.default``. A convolution's A has the
    layer's kernel, stride and padding, its B is 1 × 1. B starts at zero: the module's output does not change.

    Raises:
        ValueError: no layer matches, or one that cannot be adapted.
    """
    targets = [name for name, _ in module.named_modules() if re.fullmatch(lora.targets, name)]
    if not targets:
        raise ValueError(f"no layer is a target of the adapters: none has a name that matches {lora.targets!r}")
    for name in targets:
        parent, _, own = name.rpartition(".")
        setattr(module.get_submodule(parent), own, _adapted(module.get_submodule(name), lora))
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(is_lora(name))


def merged_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the state dict with which an unadapted module computes the same as this adapted one in evaluation.

    The weight of an adapted layer becomes W + alpha / rank · B A (for a convolution the equivalent kernel), computed
    in float32 and stored in the layer's dtype; everything else is shared with the module.

    Raises:
        ValueError: nothing in the module is adapted.
    """
    adapted = {name: layer for name, layer in module.named_modules() if isinstance(layer, _Adapted)}
    if not adapted:
        raise ValueError("no layer of the module is adapted")
    state = {
        name.replace(".base_layer.", "."): tensor for name, tensor in module.state_dict().items() if not is_lora(name)
    }
    with torch.no_grad():
        for name, layer in adapted.items():
            state[f"{name}.weight"] = (layer.weight.float() + layer.change()).to(layer.weight.dtype)
    return state
