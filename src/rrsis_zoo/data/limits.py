"""How many tokens of an expression are read, and which expressions are longer. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rrsis_zoo.models.card import TextLimit

LITERATURE = {
    "fianet": TextLimit(22, 2, "published loader: BERT tokens, cut at 22 on RRSIS-D (20 on RefSegRS)"),
}
"""Limits of methods that are not in this zoo."""

TokenCounter = Callable[[str], int]
"""From an expression to its number of tokens, start and end marks included."""


def words(limit: TextLimit) -> TokenCounter:
    """Return a counter of words, for where a method's tokenizer is not at hand.

    A word is at least one token, so an expression with more words than that is certainly truncated; how many are
    truncated in total depends on the tokenizer.
    """
    return lambda expression: len(expression.split()) + limit.marks


def too_long(expression: str, limit: TextLimit, count: TokenCounter | None) -> bool:
    """Whether an expression is longer than what is read of it, as far as ``count`` (None: words) can tell."""
    return (count or words(limit))(expression) > limit.tokens


Limits = Mapping[str, TextLimit]
"""Method -> limit."""
