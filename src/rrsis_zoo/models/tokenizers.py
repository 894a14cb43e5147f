"""Tokenizers without transformers' classes: the published vocabularies, and one learned from the training expressions.

The model file travels inside our checkpoints (``state``), so that a checkpoint needs no second file.
"""

from __future__ import annotations

import copy
import io
import json
import re
import string
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import sentencepiece
import tokenizers
import torch
from tokenizers import models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.files import read_bytes
from rrsis_zoo.models.types import TextMode, Tokens

_PART = 256  # sentences that are padded to one length, to be counted
FILE_LIMIT = 256 * 2**20
"""Bytes of a tokenizer's file; Gemma's, the largest of ours, has 34 MB."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)


class FileTokenizer(ABC):
    """A tokenizer that is one published file: what is the same whatever the file holds.

    Args:
        model: the file's bytes.
        max_length: tokens at most; longer sentences are cut.
    """

    pad_id: ClassVar[int]

    def __init__(self, model: bytes, max_length: int) -> None:
        if max_length < 3:  # two marks and a piece
            raise ConfigError(f"a tokenizer must give at least 3 tokens of a sentence, max_length is {max_length}")
        if not model:
            raise ConfigError("the tokenizer file is empty")
        self.model = model
        self.max_length = max_length

    @classmethod
    def from_file(cls, path: Path, max_length: int) -> Self:
        """Read the published file.

        Raises:
            MissingDataError: it is not there.
            ConfigError: it is no file of such a tokenizer.
        """
        return cls(read_bytes(path, FILE_LIMIT, ConfigError), max_length)

    @abstractmethod
    def encode(self, expression: str) -> list[int]:
        """Return the ids of one sentence, at most ``max_length`` of them."""

    def __call__(self, expressions: Sequence[str], text_mode: TextMode) -> Tokens:
        """Tokenise N sentences (see `rrsis_zoo.models.base.Tokens`)."""
        return pad([self.encode(readable(e)) for e in expressions], self.pad_id, text_mode)

    def lengths(self, expressions: Sequence[str]) -> list[int]:
        """Return how many ids each sentence would have, with its marks, if nothing were cut."""
        unlimited = copy.copy(self)
        unlimited.max_length = sys.maxsize
        parts = [expressions[i : i + _PART] for i in range(0, len(expressions), _PART)]
        return [length for part in parts for length in unlimited(part, "independent").length.tolist()]

    def state(self) -> dict[str, Any]:
        """Return plain values and tensors that ``from_state`` reads."""
        # a tensor of bytes: torch.load(weights_only=True) reads it everywhere
        return {"model": torch.frombuffer(bytearray(self.model), dtype=torch.uint8), "max_length": self.max_length}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make the tokenizer of ``state()``.

        Raises:
            ConfigError: it is none.
        """
        model, max_length = state.get("model"), state.get("max_length")
        if not isinstance(model, Tensor) or model.dtype != torch.uint8 or model.ndim != 1:
            raise ConfigError("a tokenizer's state must have its file as a uint8 tensor under 'model'")
        if type(max_length) is not int:
            raise ConfigError(f"a tokenizer's max_length must be a whole number, got {str(max_length)[:60]!r}")
        if model.numel() > FILE_LIMIT:
            raise ConfigError(f"a tokenizer's file has at most {FILE_LIMIT} bytes, got {model.numel()}")
        return cls(model.cpu().numpy().tobytes(), max_length)


class SigLIPTokenizer(FileTokenizer):
    """SigLIP's text convention: lower case, no punctuation, pieces, end token 1, pads of id 1.

    See docs/methods/rsrefseg.md §3.3.

    Args:
        model: the sentencepiece model file's bytes.
        max_length: rows of the text tower's position table; longer sentences are cut, the end token kept.
    """

    end_id = 1
    pad_id = 1  # the published tokenizer pads with the end token

    def __init__(self, model: bytes, max_length: int) -> None:
        super().__init__(model, max_length)
        self._pieces = read_pieces(model)

    @classmethod
    def from_expressions(cls, expressions: Sequence[str], max_pieces: int, max_length: int) -> Self:
        """Learn at most ``max_pieces`` pieces from sentences, with SigLIP's special ids.

        Raises:
            ConfigError: there is nothing to learn from.
        """
        sentences = [clean for e in expressions if (clean := canonicalise(e))]
        # ids of SigLIP: pad, end, unknown; no begin
        return cls(learn(sentences, max_pieces, pad_id=0, eos_id=cls.end_id, unk_id=2, bos_id=-1), max_length)

    @property
    def vocabulary_size(self) -> int:
        """Number of pieces, special ones included."""
        return self._pieces.get_piece_size()

    def encode(self, expression: str) -> list[int]:
        """Return the ids of one sentence with its end token, at most ``max_length`` of them."""
        ids = self._pieces.encode(canonicalise(expression))
        return [*ids[: self.max_length - 1], self.end_id]


class SigLIP2Tokenizer(FileTokenizer):
    """SigLIP 2's text convention as RSRefSeg 2 used it: Gemma's pieces, end token 1, pads of id 0.

    See docs/methods/rsrefseg2.md §3. Letters keep their case. Newer classes for this vocabulary lower them and pad on
    the left, hence the file itself is read.

    Args:
        model: the bytes of a ``tokenizer.json``.
        max_length: rows of the text tower's position table; longer sentences are cut, the end token kept.
    """

    pad_id = 0
    end_id = 1
    _special = ("<pad>", "<eos>", "<bos>", "<unk>")  # ids 0 to 3

    def __init__(self, model: bytes, max_length: int) -> None:
        super().__init__(model, max_length)
        with _no_panic(f"the tokenizer file is no tokenizer.json ({len(model)} bytes)"):
            self._pieces = tokenizers.Tokenizer.from_buffer(model)
            vocabulary = self._pieces.get_vocab(with_added_tokens=True)
            steps = [
                json.loads(part.__getstate__())
                for part in (self._pieces.normalizer, self._pieces.pre_tokenizer)
                if part is not None
            ]
        if getattr(self._pieces.model, "dropout", None):
            raise ConfigError("the tokenizer file is not SigLIP 2's: its dropout would answer at random")
        if not all(map(_plain_step, steps)):
            raise ConfigError("the tokenizer file is not SigLIP 2's: it replaces or splits by more than short texts")
        if not vocabulary:
            raise ConfigError("the tokenizer file has no pieces")
        self._ids = max(vocabulary.values()) + 1
        for index, piece in enumerate(self._special[:2]):
            if self._pieces.token_to_id(piece) != index:
                given = self._pieces.token_to_id(piece)
                raise ConfigError(f"the tokenizer file is not SigLIP 2's: {piece} has id {given}, expected {index}")
        self._pieces.no_truncation()  # the file may bring both; we cut and pad ourselves
        self._pieces.no_padding()

    @classmethod
    def from_expressions(cls, expressions: Sequence[str], max_pieces: int, max_length: int) -> Self:
        """Learn at most ``max_pieces`` pieces of words from sentences, with SigLIP 2's special ids.

        Raises:
            ConfigError: there is nothing to learn from.
        """
        sentences = [e for e in expressions if e.strip()]
        if not sentences:
            raise ConfigError("a vocabulary is learned from the training expressions, but there are none")
        pieces = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
        pieces.normalizer = normalizers.Replace(" ", "▁")
        pieces.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        pieces.train_from_iterator(
            sentences,
            trainers.BpeTrainer(
                vocab_size=max_pieces,
                special_tokens=list(cls._special),
                limit_alphabet=max(1, max_pieces - len(cls._special)),
                show_progress=False,
            ),
        )
        return cls(pieces.to_str().encode(), max_length)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, special ones included; ids that no piece has count too."""
        return self._ids

    def encode(self, expression: str) -> list[int]:
        """Return the ids of one sentence with its end token, at most ``max_length`` of them."""
        with _no_panic("the tokenizer file cannot be used"):
            ids = self._pieces.encode(expression, add_special_tokens=False).ids
        return [*ids[: self.max_length - 1], self.end_id]


class BEiT3Tokenizer(FileTokenizer):
    """BEiT-3's text convention: ``<s>`` pieces ``</s>``, case and punctuation kept, ids as XLM-RoBERTa counts them.

    Ids 0 to 3 are ``<s>``, ``<pad>``, ``</s>``, ``<unk>``; a piece with id k > 0 in ``beit3.spm`` has id k + 1.
    RS2-SAM2 pads with the *unknown* id, so that an unknown piece inside a sentence is hidden like a pad.

    Args:
        model: the sentencepiece model file's bytes.
        max_length: tokens at most; longer sentences are cut, the end token kept.
    """

    begin_id, end_id, unknown_id = 0, 2, 3
    pad_id = unknown_id

    def __init__(self, model: bytes, max_length: int) -> None:
        super().__init__(model, max_length)
        self._pieces = read_pieces(model)

    @classmethod
    def from_expressions(cls, expressions: Sequence[str], max_pieces: int, max_length: int) -> Self:
        """Learn a vocabulary of at most ``max_pieces`` ids from sentences.

        Raises:
            ConfigError: there is nothing to learn from.
        """
        sentences = [clean for e in expressions if (clean := e.strip())]
        return cls(learn(sentences, max_pieces - 2, unk_id=0, bos_id=1, eos_id=2, pad_id=-1), max_length)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids: the pieces, moved by one, and BEiT-3's ``<mask>`` behind them."""
        return self._pieces.get_piece_size() + 2

    def encode(self, expression: str) -> list[int]:
        """Return the ids of one sentence with begin and end token, at most ``max_length`` of them."""
        ids = [piece + 1 if piece else self.unknown_id for piece in self._pieces.encode(expression)]
        return [self.begin_id, *ids[: self.max_length - 2], self.end_id]


class PieceTokenizer(FileTokenizer):
    """EviSAM3's text convention: the ids of ``beit3.spm`` as they are, no marks, pads of id 0.

    See docs/methods/evisam3.md §3. Id 0 is the unknown piece too. Case and punctuation are kept. BEiT-3 itself keeps
    piece k in row k + 1 of its table.

    Args:
        model: the sentencepiece model file's bytes.
        max_length: longer sentences are cut.
    """

    pad_id = 0

    def __init__(self, model: bytes, max_length: int) -> None:
        super().__init__(model, max_length)
        self._pieces = read_pieces(model)

    @classmethod
    def from_expressions(cls, expressions: Sequence[str], max_pieces: int, max_length: int) -> Self:
        """Learn at most ``max_pieces`` pieces from sentences, with the special ids of ``beit3.spm``.

        Raises:
            ConfigError: there is nothing to learn from.
        """
        sentences = [clean for e in expressions if (clean := e.strip())]
        return cls(learn(sentences, max_pieces, unk_id=0, bos_id=1, eos_id=2, pad_id=-1), max_length)

    @property
    def vocabulary_size(self) -> int:
        """Number of pieces, special ones included."""
        return self._pieces.get_piece_size()

    def encode(self, expression: str) -> list[int]:
        """Return the ids of one sentence, at most ``max_length`` of them."""
        return self._pieces.encode(expression)[: self.max_length]


_SHORT = 8  # characters of a replacement; parts of a sequence
_STEPS = ("Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Strip", "Metaspace", "Whitespace", "WhitespaceSplit", "ByteLevel")


def _plain_step(step: Any, inner: bool = False) -> bool:
    """Whether a normaliser or splitter of a ``tokenizer.json`` does nothing but known things to short texts.

    A stranger's regular expression may take for ever, and replacements that grow fill the memory.
    """
    if not isinstance(step, dict):
        return False
    kind = step.get("type")
    if kind == "Sequence":
        parts = step.get("normalizers") or step.get("pretokenizers") or []
        return not inner and len(parts) <= _SHORT and all(_plain_step(part, inner=True) for part in parts)
    if kind in ("Replace", "Split"):
        pattern = step.get("pattern")
        text = pattern.get("String") if isinstance(pattern, dict) else None
        return isinstance(text, str) and text != "" and len(step.get("content") or "") <= min(_SHORT, 2 * len(text))
    if kind == "Prepend":
        return len(step.get("prepend") or "") <= _SHORT
    return kind in _STEPS


def readable(expression: str) -> str:
    """Return a sentence with ``?`` for every lone surrogate, which no tokenizer takes."""
    return expression.encode("utf-8", errors="replace").decode("utf-8")


@contextmanager
def _no_panic(message: str) -> Iterator[None]:
    """Turn whatever the tokenizers library ends in into our error; its panics are no ``Exception``.

    Raises:
        ConfigError: see there.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise ConfigError(f"{message}: {' '.join(str(error).split())[:200]}") from error
        raise


def read_pieces(model: bytes) -> sentencepiece.SentencePieceProcessor:
    """Read a sentencepiece model.

    Raises:
        ConfigError: it is none.
    """
    try:
        pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        count = pieces.get_piece_size()
    except Exception as error:  # whatever its reader ends in
        raise ConfigError(f"the tokenizer file is no sentencepiece model ({len(model)} bytes)") from error
    if count < 3:  # unknown, begin and end
        raise ConfigError(f"the tokenizer file has {count} pieces: it is no model of sentences")
    return pieces


def learn(sentences: Sequence[str], pieces: int, *, unk_id: int, bos_id: int, eos_id: int, pad_id: int) -> bytes:
    """Return a sentencepiece model of at most that many pieces; a special id of -1: there is no such piece.

    Raises:
        ConfigError: there are no sentences.
    """
    if not sentences:
        raise ConfigError("a vocabulary is learned from the training expressions, but there are none")
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=written,
        model_type="unigram",
        vocab_size=pieces,
        hard_vocab_limit=False,  # few sentences have fewer pieces than the table has rows
        num_threads=1,  # the result must not depend on the machine
        unk_id=unk_id,
        bos_id=bos_id,
        eos_id=eos_id,
        pad_id=pad_id,
        minloglevel=2,
    )
    return written.getvalue()


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
