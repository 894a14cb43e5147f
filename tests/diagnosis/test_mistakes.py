"""One class a sample, the first that fits."""

import numpy as np
import pytest

from rrsis_zoo.diagnosis.mistakes import CLASSES, Other, mistake


@pytest.mark.parametrize(
    ("intersection", "predicted", "truth", "others", "expected"),
    [
        (80, 80, 100, [], "good"),
        (0, 0, 100, [Other(0, 50)], "empty"),
        (0, 100, 100, [Other(90, 100, anchor=True), Other(0, 40)], "anchor"),
        (0, 100, 100, [Other(90, 100), Other(0, 40, anchor=True)], "wrong object"),
        (60, 120, 100, [Other(30, 60)], "several"),
        (49, 120, 100, [Other(30, 60)], "mixed"),
        (70, 80, 100, [], "border"),
        (30, 37, 100, [], "part"),
        (90, 300, 100, [], "spill"),
        (0, 100, 100, [Other(0, 50)], "background"),
        (0, 100, 100, [Other(1, 50)], "mixed"),
        (50, 70, 100, [Other(20, 41)], "mixed"),
    ],
)
def test_classes(intersection, predicted, truth, others, expected):
    assert mistake(intersection, predicted, truth, others) == expected


def slow(p, g, others, anchors):
    """The definition with masks."""
    iou = (p & g).sum() / max(1, (p | g).sum())
    to_others = [(p & o).sum() / max(1, (p | o).sum()) for o in others]
    best = int(np.argmax(to_others)) if others else None
    tests = {
        "good": iou >= 0.8,
        "empty": not p.any(),
        "anchor": best is not None and to_others[best] >= 0.5 and anchors[best],
        "wrong object": best is not None and to_others[best] >= 0.5,
        "several": (p & g).sum() >= g.sum() / 2 and any((p & o).sum() >= o.sum() / 2 for o in others),
        "border": iou >= 0.5,
        "part": p.any() and (p & g).sum() / p.sum() >= 0.8,
        "spill": (p & g).sum() / g.sum() >= 0.8,
        "background": not (p & g).any() and not any((p & o).any() for o in others),
        "mixed": True,
    }
    assert [*tests] == [*CLASSES]
    return next(name for name, fits in tests.items() if fits)


def test_the_definition_with_masks_gives_the_same(rng):
    seen = set()
    for _ in range(3000):
        cells = rng.permutation(4)
        image = np.zeros((4, 10), np.bool_)
        g, o1, o2 = (image.copy() for _ in range(3))
        for mask, row in zip((g, o1, o2), cells, strict=False):
            mask[row, : rng.integers(2, 11)] = True
        p = image.copy()
        for row in range(4):
            p[row, : rng.integers(0, 11) * rng.integers(0, 2)] = True
        anchors = [bool(rng.integers(2)), False]
        others = [Other(int((p & o).sum()), int(o.sum()), a) for o, a in zip((o1, o2), anchors, strict=True)]
        found = mistake(int((p & g).sum()), int(p.sum()), int(g.sum()), others)
        assert found == slow(p, g, (o1, o2), anchors)
        seen.add(found)
    assert seen == {*CLASSES}
