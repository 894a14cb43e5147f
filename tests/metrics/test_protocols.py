import dataclasses
import math
import subprocess
import sys

import pytest

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.protocols import PROTOCOLS, get_protocol


def test_canonical_conventions():
    protocol = get_protocol("canonical")
    assert dataclasses.asdict(protocol) == {
        "name": "canonical",
        "comparison": ">=",
        "comparison_dtype": "float64",
        "both_empty": 0.0,
        "eval_size": "native",
        "text_mode": "independent",
        "sentences": "all",
        "union_epsilon": 0.0,
    }
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol.both_empty = 1.0  # pyright: ignore[reportAttributeAccessIssue]


def test_the_named_protocols():
    """What each differs in from the canonical one, and nothing else."""
    assert all(get_protocol(name).name == name for name in PROTOCOLS)
    canonical = dataclasses.asdict(get_protocol("canonical"))
    differences = {
        name: {k: v for k, v in dataclasses.asdict(p).items() if k != "name" and v != canonical[k]}
        for name, p in PROTOCOLS.items()
    }
    strict = {"comparison": ">", "comparison_dtype": "float32", "text_mode": "published"}
    assert math.isnan(differences["rsrefseg"].pop("both_empty"))
    assert differences == {
        "canonical": {},
        "lavt480": {"eval_size": 480},
        "rs2sam2": {"eval_size": 1024},
        "rsrefseg": strict,
        "evisam3": {**strict, "eval_size": 1008, "sentences": "first", "union_epsilon": 1e-8},
        "generalized": {"both_empty": 1.0},
    }


def test_unknown_protocol_names_the_closest():
    with pytest.raises(ConfigError, match=r"unknown protocol 'cannonical' \(did you mean 'canonical'\?\)"):
        get_protocol("cannonical")


def test_what_tables_need_imports_no_torch():
    modules = ", ".join(f"rrsis_zoo.metrics.{m}" for m in ("breakdown", "protocols", "samples", "scores", "statistics"))
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
