"""Evaluation protocols: what must be fixed before two numbers can be compared. No torch.

Published programs differ in the comparison of Pr@t, in the score of an empty pair of masks, in the pixel grid on which
masks are compared and in the sentences they use; a protocol is one choice of all of these under one name, recorded with
every number. ``docs/metrics.md`` says which paper used which.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rrsis_zoo.errors import unknown_name

EvalSize = int | Literal["native"]
"""Pixel grid on which masks are compared: that of the annotation file, or s x s pixels."""


@dataclass(frozen=True)
class Protocol:
    """One set of evaluation conventions.

    Attributes:
        name: public name, as in result records.
        comparison: how a sample's IoU is compared with the threshold t of Pr@t.
        comparison_dtype: precision in which IoU and t are compared. It matters at equality: the float32 nearest to 0.7
            is below the float64 nearest to 0.7.
        both_empty: IoU of a sample whose predicted and true masks are both empty; nan makes mIoU nan and counts as a
            miss of every Pr@t. Such a sample adds nothing to oIoU under any protocol.
        eval_size: ``"native"``: log-odds are resized to the annotation file's size; an int s: masks are compared at
            s x s pixels regardless of aspect ratio, the target resized with PIL's nearest neighbour.
        text_mode: how expressions of one batch share a tensor, see ``rrsis_zoo.models.base.TextMode``.
        sentences: ``"all"``: every sentence is a sample; ``"first"``: only the first of each reference.
        union_epsilon: added to the union of a sample (not to the sum of unions).
    """

    name: str
    comparison: Literal[">=", ">"]
    comparison_dtype: Literal["float64", "float32"]
    both_empty: float
    eval_size: EvalSize
    text_mode: Literal["published", "independent"]
    sentences: Literal["all", "first"] = "all"
    union_epsilon: float = 0.0

    def counted(self, sample_ids: Sequence[str]) -> list[bool]:
        """Return which of the samples, in dataset order, the protocol uses.

        A reference is the part of an id before its last ``/``, as in ``rrsis-d/test/00413/0`` (dataset, split,
        reference, sentence); ids of another form count as one reference each.
        """
        if self.sentences == "all":
            return [True] * len(sample_ids)
        seen: set[str] = set()
        first = []
        for name in sample_ids:
            reference = name.rpartition("/")[0] if name.count("/") == 3 else name
            first.append(reference not in seen)
            seen.add(reference)
        return first


_CANONICAL = Protocol(
    name="canonical",
    comparison=">=",
    comparison_dtype="float64",
    both_empty=0.0,
    eval_size="native",
    text_mode="independent",
)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        _CANONICAL,
        # test.py of RMSIN and FIANet, one sentence at a time; LGCE's train.py
        replace(_CANONICAL, name="lavt480", eval_size=480),
        # RS2-SAM2's test.py: the same loop at the size of its SAM 2
        replace(_CANONICAL, name="rs2sam2", eval_size=1024),
        # the metric of RSRefSeg and RSRefSeg 2
        Protocol(
            name="rsrefseg",
            comparison=">",
            comparison_dtype="float32",
            both_empty=math.nan,
            eval_size="native",
            text_mode="published",
        ),
        # EviSAM3's evaluator in training, the source of its tables; its standalone script differs
        Protocol(
            name="evisam3",
            comparison=">",
            comparison_dtype="float32",
            both_empty=0.0,
            eval_size=1008,
            text_mode="published",
            sentences="first",
            union_epsilon=1e-8,
        ),
        # LISA, EVF-SAM, gRefCOCO: expressions may refer to nothing, and an empty mask is then correct
        replace(_CANONICAL, name="generalized", both_empty=1.0),
    )
}
"""All protocols by name."""


def get_protocol(name: str) -> Protocol:
    """Return the protocol of that name.

    Raises:
        ConfigError: no protocol of that name.

    Example:
        >>> protocol = get_protocol("evisam3")
        >>> protocol.eval_size, protocol.comparison, protocol.text_mode
        (1008, '>', 'published')
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
