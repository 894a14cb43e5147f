"""Tokenizers on sentencepiece alone: the published vocabularies, and one learned from the training expressions.

The model file travels inside our checkpoints (``state``), so that a checkpoint needs no second file.
"""

from __future__ import annotations

import io
import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import sentencepiece
import torch
from torch import Tensor

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.models.base import TextMode, Tokens

_PUNCTUATION = str.maketrans("", "", string.punctuation)


class SigLIPTokenizer:
    """SigLIP's text convention (spec rsrefseg §3.3): lower case, no punctuation, pieces, end token 1, pads of id 1.

    Args:
        model: the sentencepiece model file's bytes.
        max_length: rows of the text tower's position table; longer sentences are cut, the end token kept.
    """

    end_id = 1
    pad_id = 1  # the published tokenizer pads with the end token

    def __init__(self, model: bytes, max_length: int) -> None:
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ConfigError(f"the tokenizer file is no sentencepiece model ({len(model)} bytes)") from error
        self.model = model
        self.max_length = max_length

    @classmethod
    def from_file(cls, path: Path, max_length: int) -> Self:
        """Read a published ``spiece.model``."""
        return cls(path.read_bytes(), max_length)

    @classmethod
    def from_expressions(cls, expressions: Sequence[str], max_pieces: int, max_length: int) -> Self:
        """Learn at most ``max_pieces`` pieces from sentences, with SigLIP's special ids.

        Raises:
            ConfigError: there is nothing to learn from.
        """
        sentences = [clean for e in expressions if (clean := canonicalise(e))]
        if not sentences:
            raise ConfigError("a vocabulary is learned from the training expressions, but there are none")
        written = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=written,
            model_type="unigram",
            vocab_size=max_pieces,
            hard_vocab_limit=False,  # few sentences have fewer pieces than the table has rows
            num_threads=1,  # the result must not depend on the machine
            pad_id=0,
            eos_id=cls.end_id,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
        return cls(written.getvalue(), max_length)

    @property
    def vocabulary_size(self) -> int:
        """Number of pieces, special ones included."""
        return self._pieces.get_piece_size()

    def encode(self, expression: str) -> list[int]:
        """Return the ids of one sentence with its end token, at most ``max_length`` of them."""
        ids = self._pieces.encode(canonicalise(expression))
        return [*ids[: self.max_length - 1], self.end_id]

    def __call__(self, expressions: Sequence[str], text_mode: TextMode) -> Tokens:
        """Tokenise N sentences (see `rrsis_zoo.models.base.Tokens`)."""
        return pad([self.encode(e) for e in expressions], self.pad_id, text_mode)

    def state(self) -> dict[str, Any]:
        """Return plain values and tensors that ``from_state`` reads."""
        # a tensor of bytes: torch.load(weights_only=True) reads it everywhere
        return {"model": torch.frombuffer(bytearray(self.model), dtype=torch.uint8), "max_length": self.max_length}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make the tokenizer of ``state()``."""
        return cls(state["model"].numpy().tobytes(), int(state["max_length"]))


class PieceTokenizer:
    """EviSAM3's text convention (spec evisam3 §3): the sentencepiece ids as they are, no marks, pads of id 0.

    Id 0 is the unknown piece too. Letters keep their case.

    Args:
        model: the sentencepiece model file's bytes.
        max_length: longer sentences are cut.
    """

    pad_id = 0

    def __init__(self, model: bytes, max_length: int) -> None:
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ConfigError(f"the tokenizer file is no sentencepiece model ({len(model)} bytes)") from error
        self.model = model
        self.max_length = max_length

    @classmethod
    def from_file(cls, path: Path, max_length: int) -> Self:
        """Read a published ``beit3.spm``."""
        return cls(path.read_bytes(), max_length)

    @classmethod
    def from_expressions(cls, expressions: Sequence[str], max_pieces: int, max_length: int) -> Self:
        """Learn at most ``max_pieces`` pieces from sentences, the unknown piece being 0.

        Raises:
            ConfigError: there is nothing to learn from.
        """
        sentences = [e for e in expressions if e.strip()]
        if not sentences:
            raise ConfigError("a vocabulary is learned from the training expressions, but there are none")
        written = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=written,
            model_type="unigram",
            vocab_size=max_pieces,
            hard_vocab_limit=False,  # few sentences have fewer pieces than the table has rows
            num_threads=1,  # the result must not depend on the machine
            minloglevel=2,
        )
        return cls(written.getvalue(), max_length)

    @property
    def vocabulary_size(self) -> int:
        """Number of pieces, special ones included."""
        return self._pieces.get_piece_size()

    def encode(self, expression: str) -> list[int]:
        """Return the ids of one sentence, at most ``max_length`` of them."""
        return self._pieces.encode(expression)[: self.max_length]

    def __call__(self, expressions: Sequence[str], text_mode: TextMode) -> Tokens:
        """Tokenise N sentences (see `rrsis_zoo.models.base.Tokens`)."""
        return pad([self.encode(e) for e in expressions], self.pad_id, text_mode)

    def state(self) -> dict[str, Any]:
        """Return plain values and tensors that ``from_state`` reads."""
        return {"model": torch.frombuffer(bytearray(self.model), dtype=torch.uint8), "max_length": self.max_length}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make the tokenizer of ``state()``."""
        return cls(state["model"].numpy().tobytes(), int(state["max_length"]))


def canonicalise(expression: str) -> str:
    """Lower-case, drop ASCII punctuation and surplus blanks, as SigLIP's training did."""
    return re.sub(r"\s+", " ", expression.lower().translate(_PUNCTUATION)).strip()


def pad(rows: Sequence[Sequence[int]], pad_id: int, text_mode: TextMode) -> Tokens:
    """Pad rows of ids on the right to the longest one.

    Returns:
        ids (N, L) int64 and the number of positions that are read: all L in text mode ``published``, the row's own
        in ``independent``.
    """
    length = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    ids: Tensor = torch.full((len(rows), int(length.max()) if len(rows) else 0), pad_id, dtype=torch.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return Tokens(ids, torch.full_like(length, ids.shape[1]) if text_mode == "published" else length)
