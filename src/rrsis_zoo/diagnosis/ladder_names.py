"""The rungs of the ladder, and what each of them says. No torch."""

from __future__ import annotations

RUNGS = {
    "own": "the method itself",
    "heat_point": "heat map's peak, to a stock SAM as a point",
    "heat_box": "heat map's half-height box, to a stock SAM",
    "heat_mask": "heat map, to a stock SAM as a mask prompt",
    "mask_box": "box of the own mask's largest part, to a stock SAM",
    "truth_point": "innermost point of the truth, to a stock SAM",
    "truth_box": "box of the truth, to a stock SAM",
    "truth_dense": "truth as the method's own dense prompt",
    "best_prompts": "best prompts found by gradient descent",
}
"""Name of a rung -> what it is, from the method itself to the ceiling of its segmenter."""

STOCK = ("heat_point", "heat_box", "heat_mask", "mask_box", "truth_point", "truth_box")
"""Rungs that ask a stock SAM."""

PROBE_REASON = {
    "anchor gone": "these data do not list the objects of a scene: no anchor is known, and nothing is known to be gone",
}
"""Probe -> why it is left out where the contents of scenes are not known."""

SHORT = {
    "own": "own",
    "heat_point": "heat map to stock, point",
    "heat_box": "heat map to stock, box",
    "heat_mask": "heat map to stock, mask",
    "mask_box": "own mask to stock, box",
    "truth_point": "truth to stock, point",
    "truth_box": "truth to stock, box",
    "truth_dense": "truth as dense prompt",
    "best_prompts": "best prompts",
}
"""Name of a rung -> its label in figures and tables."""
