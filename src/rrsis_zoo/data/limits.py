"""How many tokens of an expression each method reads. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rrsis_zoo.errors import ConfigError, unknown_name
from rrsis_zoo.files import expanded, read_bytes


@dataclass(frozen=True)
class TextLimit:
    """What a method reads of an expression.

    Attributes:
        tokens: the most it reads.
        marks: how many of them are start and end marks.
        source: of this information.
    """

    tokens: int
    marks: int
    source: str


TEXT_LIMITS = {
    "rsrefseg": TextLimit(64, 1, "64 text positions of SigLIP; the published limit of 128 tokens exceeds them"),
    "rsrefseg2": TextLimit(64, 1, "64 text positions of SigLIP 2"),
    "rs2sam2": TextLimit(1022, 2, "1,022 usable text positions of BEiT-3"),
    "rmsin": TextLimit(20, 2, "published loader: BERT tokens, cut at 20"),
    "fianet": TextLimit(22, 2, "published loader: BERT tokens, cut at 22 on RRSIS-D (20 on RefSegRS)"),
}
"""Method -> limit. A word is at least one token, so an expression with more words than that is certainly truncated;
how many are truncated in total depends on the method's tokenizer."""


def counters(tokenizers: Iterable[str]) -> dict[str, Callable[[str], int]]:
    """Return a function from expression to number of tokens, marks included, for every method.

    Args:
        tokenizers: ``METHOD=FILE``, sentencepiece models of ``rsrefseg`` (SigLIP's ``spiece.model``) or ``rs2sam2``
            (``beit3.spm``). Without one, words are counted, of which there are never more than tokens.

    Raises:
        ConfigError: another method, or a missing file.
    """
    count: dict[str, Callable[[str], int]] = {
        name: lambda text, limit=limit: len(text.split()) + limit.marks for name, limit in TEXT_LIMITS.items()
    }
    for option in tokenizers:
        method, _, file = option.partition("=")
        if method not in ("rsrefseg", "rs2sam2"):
            raise unknown_name("method in --tokenizer METHOD=FILE", method, ("rsrefseg", "rs2sam2"))
        path = expanded(file)
        if not path.exists():
            raise ConfigError(f"--tokenizer {option}: no file {file!r}; give the sentencepiece model as METHOD=FILE")
        count[method] = _pieces(method, path)
    return count


def _pieces(method: str, path: Path) -> Callable[[str], int]:
    import sentencepiece

    content = read_bytes(path, error=ConfigError)
    try:
        model = sentencepiece.SentencePieceProcessor(model_proto=content)  # type: ignore[call-arg]
        model.encode("a ship")  # type: ignore[attr-defined]  # an empty file fails only here
    except (RuntimeError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read as a sentencepiece model ({error})") from error
    marks = TEXT_LIMITS[method].marks
    if method == "rs2sam2":
        return lambda text: len(model.encode(text)) + marks  # type: ignore[attr-defined]
    from rrsis_zoo.models.tokenizers import canonicalise

    return lambda text: len(model.encode(canonicalise(text))) + marks  # type: ignore[attr-defined]
