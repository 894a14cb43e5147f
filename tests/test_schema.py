from typing import Annotated

import pytest
from pydantic import Field

from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.schema import Strict, Text, checked


class Row(Strict):
    size: Annotated[list[int], Field(min_length=2, max_length=2)]
    name: Text = ""


@pytest.mark.parametrize("size", [[2.9, 1], ["2", 1], [True, 1], [1], None, float("nan")])
def test_nothing_is_converted(size):
    with pytest.raises(DataFormatError, match=r"a\.json, line 3: size"):
        checked(Row, {"size": size}, "a.json, line 3")


def test_further_fields_are_ignored_and_missing_ones_named():
    assert checked(Row, {"size": [1, 2], "later": 1}, "a.json") == Row(size=[1, 2])
    with pytest.raises(DataFormatError, match=r"size: .* got nothing; run it again"):
        checked(Row, {}, "a.json", advice="run it again")
    with pytest.raises(DataFormatError, match="the content"):
        checked(Row, [], "a.json")


def test_half_a_character_is_no_text():
    assert checked(Row, {"size": [1, 2], "name": "\U0001f6a2\u2028"}, "a.json").name == "\U0001f6a2\u2028"
    with pytest.raises(DataFormatError, match=r"name: .*lone surrogate"):
        checked(Row, {"size": [1, 2], "name": "\ud83d"}, "a.json")
