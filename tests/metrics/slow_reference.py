"""The metrics once more, slowly and plainly, from the definitions of the published programs; no code is shared."""

import math

import numpy as np
from PIL import Image

PROGRAMS = {
    # name: (grid, strict comparison, precision, IoU of an empty pair, first sentence only, epsilon of the union)
    "canonical": (None, False, np.float64, 0.0, False, 0.0),
    "lavt480": (480, False, np.float64, 0.0, False, 0.0),
    "rs2sam2": (1024, False, np.float64, 0.0, False, 0.0),
    "rsrefseg": (None, True, np.float32, math.nan, False, 0.0),
    "evisam3": (1008, True, np.float32, 0.0, True, 1e-8),
    "generalized": (None, False, np.float64, 1.0, False, 0.0),
}
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


def slow_metrics(protocol, predictions, targets, ids):
    """Percentages of predictions (bool masks or float log-odds, numpy) on bool targets."""
    grid, strict, precision, both_empty, first_only, epsilon = PROGRAMS[protocol]
    seen, both_sum, either_sum, ious = set(), 0, 0, []
    for pred, target, name in zip(predictions, targets, ids, strict=True):
        reference = name.rsplit("/", 1)[0]
        if first_only and reference in seen:
            continue
        seen.add(reference)
        shape = target.shape if grid is None else (grid, grid)
        p, t = decided(pred, shape), nearest(target, shape)
        both, either = int(np.sum(p * t)), int(np.sum(np.maximum(p, t)))
        both_sum, either_sum = both_sum + both, either_sum + either
        ious.append(both / (either + epsilon) if either else both_empty)
    n = len(ious)
    out = {"n": n, "oiou": 100 * both_sum / either_sum, "miou": 100 * sum(ious) / n}
    for t in THRESHOLDS:
        hits = [precision(iou) > precision(t) if strict else precision(iou) >= precision(t) for iou in ious]
        out[f"pr@{t}"] = 100 * sum(bool(hit) for hit in hits) / n
    return out


def slow_no_target(protocol, predictions, targets, ids):
    """What expressions without a target do to the numbers: counts, and percentages."""
    grid, *_, first_only, epsilon = PROGRAMS[protocol]
    seen, silent, spoken, ious, target_ious, both_sum, either_sum = set(), [], [], [], [], 0, 0
    for pred, target, name in zip(predictions, targets, ids, strict=True):
        reference = name.rsplit("/", 1)[0]
        if first_only and reference in seen:
            continue
        seen.add(reference)
        shape = target.shape if grid is None else (grid, grid)
        p, t = decided(pred, shape), nearest(target, shape)
        both, either = int(np.sum(p * t)), int(np.sum(np.maximum(p, t)))
        if t.sum() == 0:
            silent.append(p.sum() == 0)
            ious.append(1.0 if p.sum() == 0 else 0.0)
        else:
            spoken.append(p.sum() > 0)
            ious.append(both / (either + epsilon))
            target_ious.append(both / (either + epsilon))
            both_sum, either_sum = both_sum + both, either_sum + either
    return {
        "n_empty": len(silent),
        "no_target_acc": 100 * sum(map(bool, silent)) / len(silent),
        "target_acc": 100 * sum(map(bool, spoken)) / len(spoken),
        "miou_generalized": 100 * sum(ious) / len(ious),
        "miou_target": 100 * sum(target_ious) / len(target_ious),
        "oiou_target": 100 * both_sum / either_sum,
    }


def decided(pred, shape):
    """0 and 1 at the shape."""
    if pred.dtype == np.bool_:
        return nearest(pred, shape)
    return (bilinear(pred.astype(np.float64), shape) > 0).astype(np.int64)


def undecided(pred, shape):
    """Pixels whose resized log-odds are 0 up to the rounding of single precision."""
    return 0 if pred.dtype == np.bool_ else int((np.abs(bilinear(pred.astype(np.float64), shape)) < 1e-6).sum())


def nearest(mask, shape):
    image = Image.fromarray((mask * 255).astype(np.uint8)).resize(shape[::-1], Image.NEAREST)
    return (np.array(image) == 255).astype(np.int64)


def bilinear(values, shape):
    """Pixel centres (align_corners False), edges repeated, no anti-aliasing; one axis after the other."""
    for axis in (0, 1):
        n, m = values.shape[axis], shape[axis]
        if n == m:
            continue
        place = np.maximum((np.arange(m) + 0.5) * n / m - 0.5, 0)
        low = np.minimum(np.floor(place).astype(int), n - 1)
        high, part = np.minimum(low + 1, n - 1), place - low
        part = part[:, None] if axis == 0 else part[None]
        values = values.take(low, axis) * (1 - part) + values.take(high, axis) * part
    return values


def slow_boundary(mask, ratio=0.02):
    """Pixels of a mask from which a pixel outside (of the mask or the image) is within d rows and columns."""
    h, w = mask.shape
    d = max(1, round(ratio * math.sqrt(h * h + w * w)))
    padded = np.pad(mask, d)
    out = np.zeros_like(mask)
    for y in range(h):
        for x in range(w):
            out[y, x] = mask[y, x] and not padded[y : y + 2 * d + 1, x : x + 2 * d + 1].all()
    return out


def slow_box(mask):
    places = np.argwhere(mask)
    return [0, 0, 0, 0] if not len(places) else [*places.min(0).tolist(), *(places.max(0) + 1).tolist()]


def slow_centre_inside(pred, target):
    places = np.argwhere(pred)
    if not len(places):
        return False
    distance = ((places - places.mean(0)) ** 2).sum(1)
    nearest_ones = places[np.abs(distance - distance.min()) < 1e-9]
    return any(bool(target[y, x]) for y, x in nearest_ones)
