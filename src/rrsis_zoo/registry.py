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


def _rs2sam2() -> type[ReferringSegmenter]:
    from rrsis_zoo.models.rs2sam2 import RS2SAM2

    return RS2SAM2


def _rs2sam2_module() -> type[RRSISModule]:
    from rrsis_zoo.training.rs2sam2 import RS2SAM2Module

    return RS2SAM2Module


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
            name="rs2sam2",
            title="RS2-SAM2: a SAM 2 that reads the sentence in every block",
            paper="Rong et al., AAAI 2026, arXiv 2503.07266",
            code_licence="none stated",
            weights_licence="SAM 2: Apache-2.0; BEiT-3: MIT; the authors' own weights: none stated",
            model=_rs2sam2,
            module=_rs2sam2_module,
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
