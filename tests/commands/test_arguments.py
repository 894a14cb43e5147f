"""Arguments of the commands without Lightning: errors of one line, with the nearest name; options of two kinds."""

import re

import pytest

from rrsis_zoo.cli import run
from rrsis_zoo.commands.arguments import divided
from rrsis_zoo.errors import ConfigError


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["models", "--jsn"], "unrecognized arguments: --jsn (did you mean --json?); rrsis models --help lists"),
        (["data", "list", "--dataset", "rrsis-d", "--splt=val"], "--splt=val (did you mean --split?)"),
        (["models", "fech", "rsrefseg"], "invalid choice: 'fech' (choose from 'fetch') (did you mean fetch?)"),
        (
            ["convert", "a"],
            "the following arguments are required: OUT; rrsis convert --help lists the options",
        ),
        (["score", "--xyzzy"], "rrsis score --help lists the options"),
        (["table"], "the following arguments are required: RUNS"),
        (["plot"], "the following arguments are required: RUN"),
        (["--versoin"], "unknown option '--versoin' (did you mean '--version'?)"),
    ],
)
def test_one_line(words, said):
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        run(words)
    assert "\n" not in str(caught.value)


def test_options_are_divided_with_their_values():
    words = ["model", "--data.root", "--data", "--data.size=3", "--out", "o", "--data.last"]
    mine, others = divided(words, lambda name: name.startswith("--data."))
    assert mine == ["--data.root", "--data", "--data.size=3", "--data.last"]  # the last one's value is missing
    assert others == ["model", "--out", "o"]
