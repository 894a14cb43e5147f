"""Diagnoses as `rrsis diagnose` leaves them beside a test, with made-up counts."""

import numpy as np

from rrsis_zoo.diagnosis.records import Count, Line, Probe
from rrsis_zoo.diagnosis.report import write_diagnosis

TRUTH = 100


class Found:
    left_out: dict = {}  # noqa: RUF012
    empty = 0

    def __init__(self, lines, missing):
        self.lines, self.missing = lines, missing


def lines_of(name, seed):
    rng = np.random.default_rng((seed, len(name)))
    lines = []
    for i in range(30):
        count = [Count(intersection=int(n), predicted=TRUTH) for n in rng.integers(0, TRUTH + 1, 3)]
        original = int(rng.integers(0, TRUTH + 1))
        probe = Probe(
            probe="swap", change="left -> right", sentence="the ship on the right", meant="none", object=None, truth=0,
            intersection=0, predicted=TRUTH, original=original, referent=0, presence=None,
        )  # fmt: skip
        rungs = {"own": count[0], "truth_box": count[1]} | ({"truth_dense": count[2]} if name == "good" else {})
        lines.append(
            Line(
                sample_id=f"s/{i}", scene_id=f"scene{i // 3}", expression="the ship", category="ship", kind=None,
                height=20, width=20, truth=TRUTH, hit=float(rng.integers(0, 2)), rungs=rungs, best_step=None, others=[],
                bins=[[5, 300, 0, 0.0], [200, 100, 100, 90.0]], thresholds=[[50, TRUTH]] * 19, expected=count[0],
                presence=None, noun_is_unique=None, probes=[probe] if i % 3 == 0 else [],
            )
        )  # fmt: skip
    return lines


def diagnose(job, name, seed, missing=None):
    """Write a made-up diagnosis into a job's folder."""
    folder = job / "diagnosis"
    folder.mkdir()
    settings = {"given": str(job / "best.ckpt"), "stock": "mini:sam"}
    write_diagnosis(folder, settings, Found(lines_of(name, seed), missing or {}), (), ())
