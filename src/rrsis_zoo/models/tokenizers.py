"""Tokenizers without transformers' classes: the published vocabularies, or learned from the training expressions.

Our checkpoints contain the tokenizer's file (``state``), so that they need no second file.
"""

from __future__ import annotations

import copy
import html
import io
import json
import re
import string
import sys
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
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

_PART = 256  # sentences that are tokenised together to count tokens
FILE_LIMIT = 256 * 2**20
"""Largest size of a tokenizer's file in bytes; Gemma's, the largest of ours, has 34 MB."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)


class FileTokenizer(ABC):
    """A tokenizer from one published file: the common part for all formats.

    Args:
        model: the file's bytes.
        max_length: maximum number of tokens; longer sentences are truncated.
    """

    pad_id: ClassVar[int]

    def __init__(self, model: bytes, max_length: int) -> None:
        if max_length < 3:  # two marks and a piece
            raise ConfigError(f"a tokenizer must give at least 3 tokens per sentence, but max_length is {max_length}")
        if not model:
            raise ConfigError("the tokenizer file is empty")
        self.model = model
        self.max_length = max_length

    @classmethod
    def from_file(cls, path: Path, max_length: int) -> Self:
        """Read the published file.

        Raises:
            MissingDataError: the file does not exist.
            ConfigError: it is not the file of such a tokenizer.
        """
        return cls(read_bytes(path, FILE_LIMIT, ConfigError), max_length)

    @abstractmethod
    def encode(self, expression: str) -> list[int]:
        """Return the ids of one sentence, at most ``max_length`` of them."""

    def __call__(self, expressions: Sequence[str], text_mode: TextMode) -> Tokens:
        """Tokenise N sentences; ids int64 (N, L) (see `rrsis_zoo.models.base.Tokens`)."""
        return pad([self.encode(readable(e)) for e in expressions], self.pad_id, text_mode)

    def lengths(self, expressions: Sequence[str]) -> list[int]:
        """Return the number of ids of each sentence, including its marks, without truncation."""
        unlimited = copy.copy(self)
        unlimited.max_length = sys.maxsize
        parts = [expressions[i : i + _PART] for i in range(0, len(expressions), _PART)]
        return [length for part in parts for length in unlimited(part, "independent").length.tolist()]

    def state(self) -> dict[str, Any]:
        """Return the tokenizer as plain values and tensors for ``from_state``."""
        # a tensor of bytes: torch.load(weights_only=True) reads it everywhere
        return {"model": torch.frombuffer(bytearray(self.model), dtype=torch.uint8), "max_length": self.max_length}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the tokenizer from ``state()``.

        Raises:
            ConfigError: not the state of a tokenizer.
        """
        model, max_length = state.get("model"), state.get("max_length")
        if not isinstance(model, Tensor) or model.dtype != torch.uint8 or model.ndim != 1:
            raise ConfigError("a tokenizer's state must have its file as a uint8 tensor under 'model'")
        if type(max_length) is not int:
            raise ConfigError(f"a tokenizer's max_length must be an integer, got {str(max_length)[:60]!r}")
        if model.numel() > FILE_LIMIT:
            raise ConfigError(f"a tokenizer's file has at most {FILE_LIMIT} bytes, got {model.numel()}")
        return cls(model.cpu().numpy().tobytes(), max_length)


class SigLIPTokenizer(FileTokenizer):
    """SigLIP's text convention: lower case, no punctuation, pieces, end token 1, pads of id 1.

    See docs/methods/rsrefseg.md §3.3.

    Args:
        model: the sentencepiece model file's bytes.
        max_length: rows of the text tower's position table; longer sentences are truncated, keeping the end token.
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
            ConfigError: there are no sentences.
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
    """SigLIP 2's text convention as used by RSRefSeg 2: Gemma's pieces, end token 1, pads of id 0.

    See docs/methods/rsrefseg2.md §3. Letters keep their case. Newer classes for this vocabulary convert to lower case
    and pad on the left, so the file itself is read.

    Args:
        model: the bytes of a ``tokenizer.json``.
        max_length: rows of the text tower's position table; longer sentences are truncated, keeping the end token.
    """

    pad_id = 0
    end_id = 1
    _special = ("<pad>", "<eos>", "<bos>", "<unk>")  # ids 0 to 3

    def __init__(self, model: bytes, max_length: int) -> None:
        super().__init__(model, max_length)
        with _no_panic(f"the tokenizer file is not a tokenizer.json ({len(model)} bytes)"):
            self._pieces = tokenizers.Tokenizer.from_buffer(model)
            vocabulary = self._pieces.get_vocab(with_added_tokens=True)
            steps = [
                json.loads(part.__getstate__())
                for part in (self._pieces.normalizer, self._pieces.pre_tokenizer)
                if part is not None
            ]
        if getattr(self._pieces.model, "dropout", None):
            raise ConfigError("the tokenizer file is not SigLIP 2's: it has a dropout, which gives random results")
        if not all(map(_plain_step, steps)):
            raise ConfigError("the tokenizer file is not SigLIP 2's: it replaces or splits more than short texts")
        if not vocabulary:
            raise ConfigError("the tokenizer file has no pieces")
        self._ids = max(vocabulary.values()) + 1
        for index, piece in enumerate(self._special[:2]):
            if self._pieces.token_to_id(piece) != index:
                actual = self._pieces.token_to_id(piece)
                raise ConfigError(f"the tokenizer file is not SigLIP 2's: {piece} has id {actual}, expected {index}")
        self._pieces.no_truncation()  # the file may have both; we truncate and pad ourselves
        self._pieces.no_padding()

    @classmethod
    def from_expressions(cls, expressions: Sequence[str], max_pieces: int, max_length: int) -> Self:
        """Learn at most ``max_pieces`` pieces of words from sentences, with SigLIP 2's special ids.

        Raises:
            ConfigError: there are no sentences.
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
        """Number of ids, including special ones and ids without a piece."""
        return self._ids

    def encode(self, expression: str) -> list[int]:
        """Return the ids of one sentence with its end token, at most ``max_length`` of them."""
        with _no_panic("the tokenizer file cannot be used"):
            ids = self._pieces.encode(expression, add_special_tokens=False).ids
        return [*ids[: self.max_length - 1], self.end_id]


class BEiT3Tokenizer(FileTokenizer):
    """BEiT-3's text convention: ``<s>`` pieces ``</s>``, case and punctuation kept, ids numbered like XLM-RoBERTa's.

    Ids 0 to 3 are ``<s>``, ``<pad>``, ``</s>``, ``<unk>``; a piece with id k > 0 in ``beit3.spm`` has id k + 1.
    RS2-SAM2 pads with the *unknown* id, so that unknown pieces inside a sentence are hidden like pads.

    Args:
        model: the sentencepiece model file's bytes.
        max_length: maximum number of tokens; longer sentences are truncated, keeping the end token.
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
            ConfigError: there are no sentences.
        """
        sentences = [clean for e in expressions if (clean := e.strip())]
        return cls(learn(sentences, max_pieces - 2, unk_id=0, bos_id=1, eos_id=2, pad_id=-1), max_length)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids: the pieces, shifted by one, followed by BEiT-3's ``<mask>``."""
        return self._pieces.get_piece_size() + 2

    def encode(self, expression: str) -> list[int]:
        """Return the ids of one sentence with begin and end token, at most ``max_length`` of them."""
        ids = [piece + 1 if piece else self.unknown_id for piece in self._pieces.encode(expression)]
        return [self.begin_id, *ids[: self.max_length - 2], self.end_id]


class PieceTokenizer(FileTokenizer):
    """EviSAM3's text convention: the unchanged ids of ``beit3.spm``, no marks, pads of id 0.

    See docs/methods/evisam3.md §3. Id 0 is also the unknown piece. Case and punctuation are kept. BEiT-3 itself has
    piece k in row k + 1 of its table.

    Args:
        model: the sentencepiece model file's bytes.
        max_length: maximum number of tokens; longer sentences are truncated.
    """

    pad_id = 0

    def __init__(self, model: bytes, max_length: int) -> None:
        super().__init__(model, max_length)
        self._pieces = read_pieces(model)

    @classmethod
    def from_expressions(cls, expressions: Sequence[str], max_pieces: int, max_length: int) -> Self:
        """Learn at most ``max_pieces`` pieces from sentences, with the special ids of ``beit3.spm``.

        Raises:
            ConfigError: there are no sentences.
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


class WordPieceTokenizer(FileTokenizer):
    """BERT's text convention (uncased): ``[CLS]`` pieces ``[SEP]``, lower case without accents, pads of id 0.

    The file is a ``vocab.txt``: one piece per line, whose number is its id. A sentence is cut *after* its marks are
    added, as LAVT does, so that a long one loses its ``[SEP]`` (docs/methods/lavt.md Q1). Pads are hidden from every
    reader: both text modes are one.

    Args:
        model: the bytes of a ``vocab.txt``.
        max_length: maximum number of tokens, marks included.
    """

    pad_id = 0
    _marks = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

    def __init__(self, model: bytes, max_length: int) -> None:
        super().__init__(model, max_length)
        try:
            pieces = model.decode("utf-8").replace("\r\n", "\n").removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise ConfigError(f"the tokenizer file is not BERT's vocab.txt: {error}") from error
        ids = {piece: i for i, piece in enumerate(pieces)}
        if missing := [mark for mark in self._marks[:4] if mark not in ids]:
            raise ConfigError(f"the tokenizer file is not BERT's vocab.txt: it has no piece {', '.join(missing)}")
        if ids["[PAD]"] != self.pad_id:
            raise ConfigError(f"the tokenizer file is not BERT's vocab.txt: [PAD] is in line {ids['[PAD]'] + 1}, not 1")
        self._ids = len(pieces)
        self._pieces = tokenizers.Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
        self._pieces.normalizer = normalizers.BertNormalizer()
        self._pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._pieces.add_special_tokens([mark for mark in self._marks if mark in ids])
        self._begin, self._end = ids["[CLS]"], ids["[SEP]"]

    @classmethod
    def from_expressions(cls, expressions: Sequence[str], max_pieces: int, max_length: int) -> Self:
        """Make a vocabulary of the letters and, as many as there is place for, the most frequent words of sentences.

        Raises:
            ConfigError: there are no sentences, or no place for a word.
        """
        splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        words = Counter(
            word
            for e in expressions
            for word, _ in splitter[1].pre_tokenize_str(splitter[0].normalize_str(readable(e)))
        )
        if not words:
            raise ConfigError("a vocabulary is learned from the training expressions, but there are none")
        letters = sorted({letter for word in words for letter in word})
        ranked = sorted(words, key=lambda word: (-words[word], word))
        pieces = dict.fromkeys([*cls._marks, *letters, *(f"##{letter}" for letter in letters), *ranked])
        return cls("\n".join([*pieces][: max(max_pieces, len(cls._marks))]).encode(), max_length)

    @property
    def vocabulary_size(self) -> int:
        """Number of pieces, marks included."""
        return self._ids

    def __call__(self, expressions: Sequence[str], text_mode: TextMode) -> Tokens:
        """Tokenise N sentences; ids int64 (N, L). Only a sentence's own tokens are read, in both text modes."""
        return super().__call__(expressions, "independent")

    def encode(self, expression: str) -> list[int]:
        """Return the ids of one sentence between its marks, cut to ``max_length``."""
        with _no_panic("the tokenizer file cannot be used"):
            ids = self._pieces.encode(expression, add_special_tokens=False).ids
        return [self._begin, *ids, self._end][: self.max_length]


class CLIPTokenizer(FileTokenizer):
    """CLIP's text convention as SAM 3 uses it: byte pairs of the cleaned, lower-case sentence between two marks.

    See docs/methods/sam3_zeroshot.md §2. A sentence that is too long keeps its end mark. Pads of id 0 are hidden
    from every reader: both text modes are one.

    Args:
        model: the bytes of a ``tokenizer.json``, of which only the pieces and their merges are used.
        max_length: maximum number of tokens, marks included.
    """

    pad_id = 0
    _marks = ("<|startoftext|>", "<|endoftext|>")
    _words = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"

    def __init__(self, model: bytes, max_length: int) -> None:
        super().__init__(model, max_length)
        fault = f"the tokenizer file is not CLIP's tokenizer.json ({len(model)} bytes)"
        try:
            content = json.loads(model)["model"]
            vocabulary: dict[str, int] = {str(piece): int(i) for piece, i in content["vocab"].items()}
            pairs = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in content["merges"]]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigError(f"{fault}: {error!r}") from error
        if missing := [mark for mark in self._marks if mark not in vocabulary]:
            raise ConfigError(f"{fault}: it has no {missing[0]}")
        self._begin, self._end = (vocabulary[mark] for mark in self._marks)
        self._ids = max(vocabulary.values()) + 1
        with _no_panic(fault):
            self._pieces = tokenizers.Tokenizer(
                models.BPE(
                    vocabulary,
                    [(a, b) for a, b in pairs],
                    unk_token=self._marks[1],
                    end_of_word_suffix="</w>",
                )
            )
        self._pieces.pre_tokenizer = self._splitter()

    @classmethod
    def _splitter(cls) -> pre_tokenizers.PreTokenizer:
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(tokenizers.Regex(cls._words), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )

    @classmethod
    def from_expressions(cls, expressions: Sequence[str], max_pieces: int, max_length: int) -> Self:
        """Learn at most ``max_pieces`` pieces from sentences; id 0 is a pad that no sentence has.

        Raises:
            ConfigError: there are no sentences.
        """
        sentences = [clean for e in expressions if (clean := clean_for_clip(readable(e)))]
        if not sentences:
            raise ConfigError("a vocabulary is learned from the training expressions, but there are none")
        pieces = tokenizers.Tokenizer(models.BPE(end_of_word_suffix="</w>"))
        pieces.pre_tokenizer = cls._splitter()
        trainer = trainers.BpeTrainer(
            vocab_size=max_pieces - len(cls._marks),
            special_tokens=["<|pad|>"],
            limit_alphabet=max(1, (max_pieces - 3) // 2),
            end_of_word_suffix="</w>",
            show_progress=False,
        )
        pieces.train_from_iterator(sentences, trainer)
        learned = json.loads(pieces.to_str())["model"]
        size = len(learned["vocab"])
        vocabulary = learned["vocab"] | {mark: size + i for i, mark in enumerate(cls._marks)}
        content = {"model": {"type": "BPE", "vocab": vocabulary, "merges": learned["merges"]}}
        return cls(json.dumps(content, ensure_ascii=False).encode(), max_length)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, marks included."""
        return self._ids

    def __call__(self, expressions: Sequence[str], text_mode: TextMode) -> Tokens:
        """Tokenise N sentences; ids int64 (N, L). Only a sentence's own tokens are read, in both text modes."""
        return super().__call__(expressions, "independent")

    def encode(self, expression: str) -> list[int]:
        """Return the ids of one sentence between its marks, at most ``max_length`` of them."""
        with _no_panic("the tokenizer file cannot be used"):
            ids = self._pieces.encode(clean_for_clip(expression), add_special_tokens=False).ids
        return [self._begin, *ids[: self.max_length - 2], self._end]


def clean_for_clip(expression: str) -> str:
    """Return a sentence with HTML entities resolved, composed letters, single blanks, in lower case."""
    text = unicodedata.normalize("NFC", html.unescape(html.unescape(expression)))
    return re.sub(r"\s+", " ", text).strip().lower()


class ByteTokenizer:
    """Sentences as they are: the id of a UTF-8 byte b is b + 1, 0 pads. For methods that read the text itself.

    Args:
        max_length: maximum number of bytes; a longer sentence is cut between two characters.
    """

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length

    @property
    def vocabulary_size(self) -> int:
        """257: 256 bytes and the pad."""
        return 257

    def __call__(self, expressions: Sequence[str], text_mode: TextMode) -> Tokens:
        """Return ids int64 (N, L) and every sentence's own number of bytes, in both text modes."""
        return pad([[b + 1 for b in self._bytes(e)] for e in expressions], 0, "independent")

    def _bytes(self, expression: str) -> bytes:
        return readable(expression).encode()[: self.max_length].decode(errors="ignore").encode()

    def texts(self, tokens: Tokens) -> list[str]:
        """Return the sentences of N rows of ids."""
        rows = zip(tokens.ids.tolist(), tokens.length.tolist(), strict=True)
        return [bytes(i - 1 for i in ids[:length]).decode() for ids, length in rows]

    def lengths(self, expressions: Sequence[str]) -> list[int]:
        """Return the number of bytes of each sentence without truncation."""
        return [len(readable(e).encode()) for e in expressions]

    @classmethod
    def from_expressions(cls, expressions: Sequence[str], max_pieces: int, max_length: int) -> Self:
        """Return the tokenizer: there is nothing to learn."""
        return cls(max_length)

    @classmethod
    def from_file(cls, path: Path, max_length: int) -> Self:
        """Refuse: there is no file.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{path}: sentences are read as they are, without a tokenizer's file")

    def state(self) -> dict[str, Any]:
        """Return the tokenizer as plain values."""
        return {"max_length": self.max_length}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the tokenizer from ``state()``.

        Raises:
            ConfigError: not such a state.
        """
        if type(length := state.get("max_length")) is not int:
            raise ConfigError(f"a tokenizer's max_length must be an integer, got {str(length)[:60]!r}")
        return cls(length)


_SHORT = 8  # characters of a replacement; parts of a sequence
_STEPS = ("Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Strip", "Metaspace", "Whitespace", "WhitespaceSplit", "ByteLevel")


def _plain_step(step: Any, inner: bool = False) -> bool:
    """Return whether a normaliser or splitter in a ``tokenizer.json`` is known and uses only short texts.

    A foreign regular expression may never end, and replacements by longer texts may fill the memory.
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
    """Return a sentence with ``?`` in place of every lone surrogate, which no tokenizer accepts."""
    return expression.encode("utf-8", errors="replace").decode("utf-8")


@contextmanager
def _no_panic(message: str) -> Iterator[None]:
    """Turn any error of the tokenizers library into ours; its panics are not an ``Exception``.

    Raises:
        ConfigError: for any such error.
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
        ConfigError: not a sentencepiece model.
    """
    try:
        pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        count = pieces.get_piece_size()
    except Exception as error:  # its reader can raise any error
        raise ConfigError(f"the tokenizer file is not a sentencepiece model ({len(model)} bytes)") from error
    if count < 3:  # unknown, begin and end
        raise ConfigError(f"the tokenizer file has {count} pieces: it is not a model of sentences")
    return pieces


def learn(sentences: Sequence[str], pieces: int, *, unk_id: int, bos_id: int, eos_id: int, pad_id: int) -> bytes:
    """Return a sentencepiece model with at most this many pieces; a special id of -1 leaves that piece out.

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
        hard_vocab_limit=False,  # few sentences give fewer pieces than the table has rows
        num_threads=1,  # the result must not depend on the machine
        unk_id=unk_id,
        bos_id=bos_id,
        eos_id=eos_id,
        pad_id=pad_id,
        minloglevel=2,
    )
    return written.getvalue()


def canonicalise(expression: str) -> str:
    """Convert to lower case, remove ASCII punctuation and extra spaces, as in SigLIP's training."""
    return re.sub(r"\s+", " ", expression.lower().translate(_PUNCTUATION)).strip()


def pad(rows: Sequence[Sequence[int]], pad_id: int, text_mode: TextMode) -> Tokens:
    """Pad rows of ids on the right to the longest one.

    Returns:
        ids int64 (N, L) and the number of positions that are read, int64 (N,): L in text mode ``published``, the row's
        own number in ``independent``.
    """
    length = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    ids: Tensor = torch.full((len(rows), int(length.max()) if len(rows) else 0), pad_id, dtype=torch.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
    if text_mode == "published":
        return Tokens(ids, torch.full_like(length, ids.shape[1]))
    return Tokens(ids, length, independent=True)
