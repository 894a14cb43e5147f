"""Evaluation protocols: what has to be fixed before two numbers may be compared. No torch.

Published programs differ in the comparison of Pr@t, in what an empty pair of masks scores, and in the pixel grid on
which masks meet; a protocol is one choice of all of these under one name, and every number leaves with that name.
"""

import math
from dataclasses import dataclass
from typing import Literal

from rrsis_zoo.errors import unknown_name


@dataclass(frozen=True)
class Protocol:
    """What a protocol decides.

    Attributes:
        name: public name, as in result records.
        comparison: how a sample's IoU is compared with the threshold t of Pr@t.
        comparison_dtype: precision in which IoU and t are compared. It matters on the boundary: the float32 nearest to
            0.7 is below the float64 nearest to 0.7.
        both_empty: IoU of a sample whose predicted and true masks are both empty; nan makes mIoU nan and counts as a
            miss of every Pr@t. Such a sample adds nothing to oIoU under any protocol.
        eval_size: ``"native"``: the prediction is brought to the size of the annotation file; an int s: masks meet at
            s x s pixels, the target resized with nearest neighbour regardless of aspect.
        text_mode: how expressions of one batch share a tensor, see ``rrsis_zoo.models.base.TextMode``.
    """

    name: str
    comparison: Literal[">=", ">"]
    comparison_dtype: Literal["float64", "float32"]
    both_empty: float
    eval_size: int | Literal["native"]
    text_mode: Literal["published", "independent"]


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="canonical",
            comparison=">=",
            comparison_dtype="float64",
            both_empty=0.0,
            eval_size="native",
            text_mode="independent",
        ),
        Protocol(  # spec metrics §4: the metric of RSRefSeg and RSRefSeg 2
            name="rsrefseg",
            comparison=">",
            comparison_dtype="float32",
            both_empty=math.nan,
            eval_size="native",
            text_mode="published",
        ),
    )
}
"""All protocols by name."""


def get_protocol(name: str) -> Protocol:
    """Return the protocol of that name.

    Raises:
        ConfigError: no protocol of that name.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
