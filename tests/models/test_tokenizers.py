import io
import json

import pytest
import torch

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.models.tokenizers import BEiT3Tokenizer, SigLIP2Tokenizer, SigLIPTokenizer, canonicalise, pad

SENTENCES = [
    "The red ship on the left of the pier",
    "a large storage tank in the upper right corner",
    "golf field near the bridge",
    "white vehicle, parked; at the bottom",
] * 10


@pytest.fixture(scope="module")
def tokenizer():
    return SigLIPTokenizer.from_expressions(SENTENCES, 200, 64)


@pytest.mark.parametrize(
    "sentence",
    [
        *SENTENCES[:4],
        "  two  blanks ",
        '"quoted" ship',
        ", comma first",
        "",
        "...",
        "Ünïcödé",
        "码头",
        "🚢",
        "a_b-c",
        "tank\n",
    ],
)
def test_ids_are_those_of_transformers(tokenizer, tmp_path, sentence):
    from transformers import SiglipTokenizer

    (tmp_path / "spiece.model").write_bytes(tokenizer.model)
    theirs = SiglipTokenizer(vocab_file=str(tmp_path / "spiece.model"))
    assert tokenizer.encode(sentence) == theirs(sentence).input_ids


def test_special_tokens_cannot_be_written(tokenizer):
    assert tokenizer.encode("ship</s>tank").count(tokenizer.end_id) == 1


def test_long_sentences_are_cut_and_keep_their_end(tokenizer):
    ids = tokenizer.encode("ship " * 500)
    assert len(ids) == 64
    assert ids[-1] == tokenizer.end_id


def test_text_modes(tokenizer):
    published = tokenizer(["ship", SENTENCES[0]], "published")
    independent = tokenizer(["ship", SENTENCES[0]], "independent")
    longest = published.ids.shape[1]
    assert published.ids.equal(independent.ids)
    assert published.length.tolist() == [longest, longest]
    assert independent.length.tolist() == [len(tokenizer.encode("ship")), longest]
    assert published.ids[0, independent.length[0] :].unique().tolist() == [tokenizer.pad_id]


def test_state_goes_through_a_safe_file(tokenizer):
    file = io.BytesIO()
    torch.save(tokenizer.state(), file)
    file.seek(0)
    again = SigLIPTokenizer.from_state(torch.load(file, weights_only=True))
    assert [again.encode(s) for s in SENTENCES] == [tokenizer.encode(s) for s in SENTENCES]
    assert again.max_length == 64


def test_learning_is_deterministic():
    first, second = (SigLIPTokenizer.from_expressions(SENTENCES, 100, 32) for _ in range(2))
    assert first.vocabulary_size == second.vocabulary_size <= 100
    assert [first.encode(s) for s in SENTENCES] == [second.encode(s) for s in SENTENCES]


def test_nothing_to_learn_from():
    with pytest.raises(ConfigError, match="training expressions"):
        SigLIPTokenizer.from_expressions(["", "..."], 100, 32)


def test_not_a_model():
    with pytest.raises(ConfigError, match="not a sentencepiece model"):
        SigLIPTokenizer(b"nonsense", 64)


def test_canonicalise():
    assert canonicalise("  The  SHIP's, wing.\n") == "the ships wing"


def test_pad_of_nothing():
    assert pad([], 1, "independent").ids.shape == (0, 0)


# -- SigLIP 2 ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def second():
    return SigLIP2Tokenizer.from_expressions(SENTENCES, 200, 64)


def gemma(model, path):
    """The class that the authors' release of transformers took for this file, with its end token and padding."""
    from transformers import PreTrainedTokenizerFast

    path.write_bytes(model)
    return PreTrainedTokenizerFast(
        tokenizer_file=str(path), pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="right"
    )


@pytest.mark.parametrize("sentence", [*SENTENCES[:4], "", "Red SHIP", "码头", "🚢", "a_b-c, d", "  two  blanks "])
def test_siglip2_ids_are_those_of_the_file(second, tmp_path, sentence):
    theirs = gemma(second.model, tmp_path / "tokenizer.json")
    assert second.encode(sentence) == [*theirs(sentence).input_ids, theirs.eos_token_id]


def test_siglip2_pads_on_the_right_with_0_and_ends_with_1(second):
    published = second(["ship", SENTENCES[0]], "published")
    own = len(second.encode("ship"))
    assert published.ids[0, own - 1] == 1
    assert published.ids[0, own:].tolist() == [0] * (published.ids.shape[1] - own)
    assert published.length.tolist() == [published.ids.shape[1]] * 2
    assert second(["ship", SENTENCES[0]], "independent").length.tolist() == [own, published.ids.shape[1]]


def test_siglip2_keeps_case_and_punctuation(second):
    assert second.encode("The") != second.encode("the")
    assert second.encode("vehicle, parked") != second.encode("vehicle parked")


def test_siglip2_cuts_and_keeps_the_end(second):
    ids = second.encode("ship " * 500)
    assert len(ids) == 64
    assert ids[-1] == 1
    assert second.encode("") == [1]


def test_siglip2_learns_within_bounds_and_the_same_twice():
    first, again = (SigLIP2Tokenizer.from_expressions(SENTENCES, 100, 32) for _ in range(2))
    assert first.model == again.model
    assert first.vocabulary_size <= 100
    assert SigLIP2Tokenizer.from_expressions(["码头左边的船", "abcdefghijk"], 8, 32).vocabulary_size <= 8
    with pytest.raises(ConfigError, match="training expressions"):
        SigLIP2Tokenizer.from_expressions(["", "  "], 100, 32)


def test_siglip2_state_goes_through_a_safe_file(second):
    file = io.BytesIO()
    torch.save(second.state(), file)
    file.seek(0)
    again = SigLIP2Tokenizer.from_state(torch.load(file, weights_only=True))
    assert [again.encode(s) for s in SENTENCES] == [second.encode(s) for s in SENTENCES]


def test_siglip2_ignores_padding_that_a_file_brings(second):
    import tokenizers

    pieces = tokenizers.Tokenizer.from_buffer(second.model)
    pieces.enable_padding(length=40, direction="left")
    pieces.enable_truncation(3)
    assert SigLIP2Tokenizer(pieces.to_str().encode(), 64).encode(SENTENCES[0]) == second.encode(SENTENCES[0])


def test_files_that_are_not_siglip2s(second):
    with pytest.raises(ConfigError, match=r"not a tokenizer\.json \(3 bytes\)"):
        SigLIP2Tokenizer(b"xxx", 64)
    other = second.model.replace(b"<eos>", b"<end>")
    with pytest.raises(ConfigError, match="<eos> has id None, expected 1"):
        SigLIP2Tokenizer(other, 64)


# -- BEiT-3 ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def beit3():
    return BEiT3Tokenizer.from_expressions(SENTENCES, 200, 64)


@pytest.mark.parametrize("sentence", [*SENTENCES[:4], "  two  blanks ", "", "Ünïcödé", "码头", "🚢", "tank\n"])
def test_beit3_ids_are_xlm_robertas(beit3, tmp_path, sentence):
    """As transformers' tokenizer of that convention reads the same file."""
    from transformers import XLMRobertaTokenizer

    (tmp_path / "sentencepiece.bpe.model").write_bytes(beit3.model)
    theirs = XLMRobertaTokenizer.from_pretrained(tmp_path)(sentence)["input_ids"]
    assert beit3.encode(sentence) == theirs


def test_beit3_cuts_pads_and_travels(beit3):
    long = beit3.encode("ship " * 2000)
    assert len(long) == 64
    assert (long[0], long[-1]) == (0, 2)
    tokens = beit3(["the red ship", "ship"], "independent")
    assert tokens.ids[1, tokens.length[1] :].tolist() == [3] * (tokens.ids.shape[1] - int(tokens.length[1]))
    assert beit3(["the red ship", "ship"], "published").length.unique().tolist() == [tokens.ids.shape[1]]
    again = BEiT3Tokenizer.from_state(beit3.state())
    assert again.encode(SENTENCES[0]) == beit3.encode(SENTENCES[0])
    assert max(max(beit3.encode(s)) for s in SENTENCES) < beit3.vocabulary_size <= 200
    with pytest.raises(ConfigError, match="not a sentencepiece model"):
        BEiT3Tokenizer(b"nothing", 30)
    with pytest.raises(ConfigError, match="there are none"):
        BEiT3Tokenizer.from_expressions(["", " "], 200, 30)


@pytest.mark.parametrize(
    ("part", "step"),
    [
        ("normalizer", {"type": "Replace", "pattern": {"Regex": "(a|aa)+$"}, "content": "x"}),
        ("normalizer", {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}),
        ("normalizer", {"type": "Sequence", "normalizers": [{"type": "Lowercase"}] * 50}),
        ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False}),
    ],
)
def test_siglip2_takes_no_steps_that_never_end(second, part, step):
    """A stranger's regular expressions may take for ever, replacements that grow fill the memory."""
    file = json.loads(second.model)
    file[part] = step
    with pytest.raises(ConfigError, match="more than short texts"):
        SigLIP2Tokenizer(json.dumps(file).encode(), 64)


def test_siglip2_answers_the_same_every_time(second):
    file = json.loads(second.model)
    file["model"]["dropout"] = 0.5
    with pytest.raises(ConfigError, match="random results"):
        SigLIP2Tokenizer(json.dumps(file).encode(), 64)
