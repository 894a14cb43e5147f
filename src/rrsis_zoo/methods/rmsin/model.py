"""RMSIN: LAVT for aerial images, with three additions (Liu et al., CVPR 2024). docs/methods/rmsin.md is its text.

(i) A second branch behind every stage weights positions without reading words, (ii) a mixer on the coarsest grid joins
all scales, (iii) the decoder's second convolutions turn their kernels for every sample. Each has a switch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.lavt.layers import Backbone, Decoder, Stage
from rrsis_zoo.methods.lavt.model import LAVT, LAVTConfig
from rrsis_zoo.methods.lavt.model import TINY as LAVT_TINY
from rrsis_zoo.methods.rmsin.card import CARD
from rrsis_zoo.methods.rmsin.layers import CrossScale, CrossScaleConfig, IntraScaleStage
from rrsis_zoo.methods.rmsin.weights import official_name
from rrsis_zoo.models.configuration import Count, Share
from rrsis_zoo.models.layers.rotated import RotatedConv


@dataclass(frozen=True)
class RMSINConfig(LAVTConfig):
    """Configuration of RMSIN; the fields of `LAVTConfig` and these.

    Attributes:
        intra_scale, cross_scale, rotated: the three additions; without all of them it is LAVT.
        mixer: sizes of the cross-scale interaction.
        kernels: of a rotated convolution.
        max_angle: bound of their rotation in degrees.
        router_dropout: in what chooses angle and weight of a kernel.
        dice_share: as in `LAVTConfig`, but 0.1 as published.
    """

    intra_scale: bool = True
    cross_scale: bool = True
    rotated: bool = True
    mixer: CrossScaleConfig = field(default_factory=CrossScaleConfig)
    kernels: Count = 1
    max_angle: float = 40.0
    router_dropout: Share = 0.2
    dice_share: Share = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cross_scale and self.image_size % (8 * self.swin.patch_size):
            step = 8 * self.swin.patch_size
            raise ConfigError(f"rmsin.image_size must be a multiple of {step}, got {self.image_size}")
        if self.cross_scale and self.swin.width % 4:
            raise ConfigError(f"rmsin.swin.width must be a multiple of 4, got {self.swin.width}")
        if not 0 <= self.max_angle <= 45:
            raise ConfigError(f"rmsin.max_angle must be between 0 and 45 degrees, got {self.max_angle}")


TINY = RMSINConfig(
    **{name: getattr(LAVT_TINY, name) for name in LAVTConfig.__dataclass_fields__},
    mixer=CrossScaleConfig(heads=4, key_width=8),
    router_dropout=0.0,
)


class RMSIN(LAVT):
    """Rotated multi-scale interaction network.

    Raises:
        ConfigError: sizes that do not fit each other.
    """

    card = CARD
    official_name = staticmethod(official_name)
    config: RMSINConfig
    presets: ClassVar[dict[str, Any]] = {
        "base": RMSINConfig(),
        "remotesam": RMSINConfig(image_size=896),
        "tiny": TINY,
        "tiny256": replace(TINY, image_size=256, swin=replace(TINY.swin, window=8)),
    }

    def make_backbone(self) -> Backbone:
        """Return the trunk with both branches behind every stage, and the mixer."""
        c = self.config
        stage = IntraScaleStage if c.intra_scale else Stage
        cross = CrossScale(c.mixer, c.swin.channels, c.grids[3]) if c.cross_scale else None
        return Backbone(c.swin, lambda i: stage(c.swin, i, self.make_fusion(i)), cross)

    def make_decoder(self) -> Decoder:
        """Return the decoder with rotated convolutions."""
        c = self.config
        if not c.rotated:
            return super().make_decoder()
        return Decoder(
            c.swin.channels, lambda width: RotatedConv(width, width, c.kernels, c.max_angle, c.router_dropout)
        )

    def inert_prefixes(self) -> dict[str, str]:
        """Return both gates and the second branch behind the last stage (Q6)."""
        reason = "nothing reads the sum behind the last stage"
        added = ("visual_gate", "position_weights") if self.config.intra_scale else ()
        return {**super().inert_prefixes(), **{f"backbone.stages.3.{part}.": reason for part in added}}
