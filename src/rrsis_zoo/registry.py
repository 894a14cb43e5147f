"""Public names of the methods and what a user must know of each before using it. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rrsis_zoo.errors import unknown_name

if TYPE_CHECKING:
    from rrsis_zoo.models.base import ReferringSegmenter
    from rrsis_zoo.training.module import RRSISModule


@dataclass(frozen=True)
class ModelCard:
    """A method of the zoo.

    Attributes:
        name: public name.
        title: what it is, in one line.
        paper: where it was published.
        code_licence: of the authors' code.
        weights_licence: of the weights it starts from and of the authors' own, where there are any.
        model: returns the torch class.
        module: returns the LightningModule class.
    """

    name: str
    title: str
    paper: str
    code_licence: str
    weights_licence: str
    model: Callable[[], type[ReferringSegmenter]]
    module: Callable[[], type[RRSISModule]]


def _rsrefseg() -> type[ReferringSegmenter]:
    from rrsis_zoo.models.rsrefseg import RSRefSeg

    return RSRefSeg


def _rsrefseg_module() -> type[RRSISModule]:
    from rrsis_zoo.training.rsrefseg import RSRefSegModule

    return RSRefSegModule


def _evisam3() -> type[ReferringSegmenter]:
    from rrsis_zoo.models.evisam3 import EviSAM3

    return EviSAM3


def _evisam3_module() -> type[RRSISModule]:
    from rrsis_zoo.training.evisam3 import EviSAM3Module

    return EviSAM3Module


def _control() -> type[ReferringSegmenter]:
    from rrsis_zoo.models.control import Control

    return Control


def _control_module() -> type[RRSISModule]:
    from rrsis_zoo.training.control import ControlModule

    return ControlModule


MODELS: dict[str, ModelCard] = {
    card.name: card
    for card in (
        ModelCard(
            name="rsrefseg",
            title="RSRefSeg: CLIP activations become SAM's prompts",
            paper="Chen et al., IGARSS 2025, arXiv 2501.06809",
            code_licence="Apache-2.0",
            weights_licence="SAM and SigLIP: Apache-2.0; the authors publish no trained weights",
            model=_rsrefseg,
            module=_rsrefseg_module,
        ),
        ModelCard(
            name="evisam3",
            title="EviSAM3: evidence gathered along SAM 3's trunk corrects the prompts of its decoder",
            paper="Duan et al., NeurIPS 2026",
            code_licence="MIT by the authors' read-me; SAM 3's classes are transformers', Apache-2.0",
            weights_licence="SAM 3: SAM License, gated, no open-source licence, passes on to fine-tuned weights; "
            "BEiT-3: MIT; the authors publish no trained weights",
            model=_evisam3,
            module=_evisam3_module,
        ),
        ModelCard(
            name="control",
            title="Control: a small coupled network, the yardstick of the others",
            paper="none: this project",
            code_licence="Apache-2.0",
            weights_licence="none needed; timm's backbones have their own",
            model=_control,
            module=_control_module,
        ),
    )
}


def list_models() -> list[str]:
    """Return the public names of all methods."""
    return list(MODELS)


def card(name: str) -> ModelCard:
    """Return a method's card.

    Raises:
        ConfigError: no method of that name.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    return MODELS[name]
