"""Golden cases of Think2Seg-RS: the segmenter; its replies and its prompt are lists (`golden_cases.lists`)."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from golden_cases.adapter import Adapter, Computed, Part
from golden_cases.case import Case
from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.methods.think2seg.model import Think2Seg, Think2SegConfig, sam_input
from rrsis_zoo.models.backbones.sam2 import SAM2Config
from rrsis_zoo.models.layers.geometry import resize
from rrsis_zoo.models.types import ImageState
from rrsis_zoo.weights.foundations import SAM2_VIDEO_PARTS


def _build(case: Case) -> Part:
    known = {f.name for f in fields(SAM2Config)}
    if unknown := set(case.configuration) - known:
        raise DataFormatError(f"{case.folder}: there is no setting {sorted(unknown)[0]} of SAM 2")
    sizes: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in case.configuration.items()}
    model = Think2Seg(Think2SegConfig(sam=SAM2Config(**sizes), writer="scripted"))
    return Part({"it": model}, lambda name: name.removeprefix("it.sam."))


def _points(instance: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Return places (P, 2) and kinds (P,): corners first, then points, one "not a point" at the end."""
    box, points = instance.get("bbox_2d"), instance.get("positive_points", [])
    corners = [] if box is None else [box[:2], box[2:]]
    kinds = [2, 3][: len(corners)] + [1] * len(points) + [-1]
    return torch.tensor([*corners, *points, [0, 0]], dtype=torch.float32), torch.tensor(kinds)


def _run_segment(part: Part, case: Case) -> Computed:
    model = part.get_submodule("it")
    assert isinstance(model, Think2Seg)
    frame = case.input("image")
    size = (frame.shape[-2], frame.shape[-1])
    view = sam_input(frame[None], model.config.sam.image_size)
    pyramid = model.sam.encode(view)
    state = ImageState(pyramid._asdict(), torch.tensor([size]), torch.tensor([size]))
    tensors, masks = {"input": view[0], "embedding": pyramid.embedding}, []
    first = torch.zeros(1, dtype=torch.int64)
    for i, instance in enumerate(case.meta["inputs"]["instances"]):
        at, kinds = _points(instance)
        tokens = model.encode_points(at[None], kinds[None], size)
        low = model.draw(state, tokens, first)
        mask = resize(low, size)[0] > 0
        masks.append(mask[0])
        decoded = model.sam.decode(pyramid, tokens, model.sam.no_mask(1))
        tensors |= {
            f"sparse{i}": tokens,
            f"logits4_{i}": decoded.masks,
            f"low{i}": low[0].clamp(-32, 32),
            f"mask{i}": mask,
        }
        said = case.meta["expected"]["instances"][i]
        chosen = [k for k in range(4) if torch.equal(decoded.masks[0, k], low[0, 0])]
        if chosen != said["chosen"]:
            raise DataFormatError(f"instance {i}: mask {chosen} is returned, expected {said['chosen']}")
    tensors["union"] = torch.stack(masks).any(0)
    return Computed(tensors)


ADAPTER = Adapter(build=_build, parts={"segment": _run_segment}, skipped=SAM2_VIDEO_PARTS, flips=2)
