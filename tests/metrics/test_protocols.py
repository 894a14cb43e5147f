import dataclasses
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
    }
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol.both_empty = 1.0  # pyright: ignore[reportAttributeAccessIssue]


def test_every_protocol_is_found_under_its_own_name():
    assert PROTOCOLS
    assert all(get_protocol(name).name == name for name in PROTOCOLS)


def test_unknown_protocol_names_the_closest():
    with pytest.raises(ConfigError, match=r"unknown protocol 'cannonical' \(did you mean 'canonical'\?\)"):
        get_protocol("cannonical")


def test_scores_and_protocols_import_no_torch():
    code = "import sys, rrsis_zoo.metrics.scores, rrsis_zoo.metrics.protocols; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
