"""What is Think2Seg-RS's own: replies, frames, instances, writers."""

import json
from dataclasses import replace

import contract
import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from rrsis_zoo.errors import ConfigError, WeightsMismatchError
from rrsis_zoo.methods.think2seg.model import EMPTY, Think2Seg, framed
from rrsis_zoo.methods.think2seg.replies import Instance, Unreadable, instances_of, mended, read_objects, scaled, tidied
from rrsis_zoo.methods.think2seg.writers import DIALECTS, ChatWriter, ScriptedWriter
from rrsis_zoo.models.tokenizers import ByteTokenizer
from rrsis_zoo.models.types import Batch

BOX = {"bbox_2d": [10, 20, 60, 80], "positive_points": [[20, 30], [40, 50]]}


def tiny(**changes):
    return lambda: Think2Seg.from_preset("tiny", **changes)


def reply(*objects):
    return f"<think>…</think>\n<answer>```json{json.dumps(objects)}```</answer>"


def answered(*replies, **changes):
    """Prediction for one image of 96 × 150 pixels, an expression for each reply."""
    model = contract.build(tiny(**changes)).eval()
    model.writer = ScriptedWriter(replies)
    image = torch.randint(0, 256, (3, 96, 150), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return model, model(Batch([image], ["the ship"] * len(replies), torch.zeros(len(replies), dtype=torch.int64)))


# -- replies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ('<answer>[{"bbox_2d": [1, 2, 3, 4]}]</answer> <answer>[]</answer>', [[1, 2, 3, 4]]),
        ("[{'bbox_2d': [1, 2, 3, 4],}, ]", [[1, 2, 3, 4]]),
        ('[{"bbox_2d": ["1", " 2.5", 3, 4]}]', [[1, 2.5, 3, 4]]),
        ('[{"bbox_2d": [0, 0, 9, 9]}, {"bbox_2d": [0, 0, 9, 4]}]', [[0, 0, 9, 9], [0, 0, 9, 4]]),  # IoU below a half
        ('[{"bbox_2d": [0, 0, 9, 5]}, {"bbox_2d": [0, 0, 9, 9]}]', [[0, 0, 9, 9]]),
        ("[]", []),
        ('<answer>no brackets</answer> [{"bbox_2d": [1, 2, 3, 4]}]', None),
        ('{"bbox_2d": 1}', None),
        ('[{"bbox_2d": [1, 2, 3]}]', None),
        ('[{"bbox_2d": [1, 2, 3, "x"]}]', None),
        ('[{"bbox_2d": [1, 2, 3, null]}]', None),
        ('[{"bbox_2d": [1, 2, 3, NaN]}]', None),
        ('[{"positive_points": [[1, 2], ["a", 3]]}]', None),
        ('[{"positive_points": [1, 2]}]', None),
        ('[{"bbox_2d": [1, 2, 3, 4], "negative_points": []}]', None),
        ('[{"bbox_2d": [1, 2, 3, 4]}, {"label": "ship"}]', None),
        ("[" * 5000 + "]" * 5000, None),
        ("", None),
        ("][", None),
    ],
)
def test_reading(text, boxes):
    if boxes is None:
        with pytest.raises(Unreadable):
            instances_of(read_objects(text))
    else:
        assert [list(one.box) for one in instances_of(read_objects(text))] == boxes


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ('[{"a": "b', '[{"a": "b"}]'),
        ('[{"a": "\\"', '[{"a": "\\""}]'),
        ("[{'a': [1, 2", '[{"a": [1, 2]}]'),
        ('[{"it\'s": 1},]', '[{"it\'s": 1}]'),
    ],
)
def test_mending(text, closed):
    assert json.loads(mended(text)) == json.loads(closed)


def test_tidying():
    given = [
        Instance((90, 20, -5, 70)),
        Instance((10, 10, 10, 50), ((3, 200), (5, 6))),
        Instance((120, 0, 130, 9)),
    ]
    assert tidied(given, 100, 80) == [Instance((0, 20, 90, 70)), Instance(None, ((3, 80), (5, 6)))]
    assert scaled([Instance((1, 2, 3, 4), ((1, 1),))], 2, 10) == [Instance((2, 20, 6, 40), ((2, 10),))]


# -- the method --------------------------------------------------------------------------------------------------------


def test_what_is_handed_over_can_be_read():
    other = {"positive_points": [[56, 56], [100, 20]]}
    model, prediction = answered(reply(BOX, other), reply(), "I cannot see it.")
    p, side = prediction.prompts, model.config.frame
    assert p.replies == [reply(BOX, other), reply(), "I cannot see it."]
    assert p.aux["instances"].tolist() == [2, 0, 0]
    assert p.aux["failed"].tolist() == [0, 0, 1]
    assert p.presence.tolist() == [1, 0, 0]
    assert p.scores.tolist() == [[1, 1], [0, 0], [0, 0]]
    across, down = 150 / side, 96 / side
    torch.testing.assert_close(p.boxes[0, 0], torch.tensor([10 * across, 20 * down, 60 * across, 80 * down]))
    assert p.boxes[0, 1].isnan().all()
    torch.testing.assert_close(p.points[0, 1], torch.tensor([[56.0 * across, 56 * down], [100 * across, 20 * down]]))
    assert p.point_labels[0].tolist() == [[1, 1], [1, 1]]
    assert (p.point_labels[1:] == -1).all()
    assert (prediction.mask_logits[1:] == EMPTY).all()
    assert p.heatmap[0, 0, 2, 2] == 1  # the cell of the second instance's first point
    assert not p.heatmap[1:].any()


def test_the_answer_is_the_union():
    """The maximum of logits above 0 is the logical or; an instance is drawn as if it were alone."""
    other = {"bbox_2d": [60, 10, 110, 100]}
    _, both = answered(reply(BOX, other))
    _, each = answered(reply(BOX), reply(other))
    torch.testing.assert_close(both.mask_logits[0], each.mask_logits.amax(0), atol=1e-5, rtol=1e-4)
    _, mates = answered(reply(BOX, other, {"positive_points": [[9, 9], [5, 5]]}), reply(BOX))
    torch.testing.assert_close(mates.mask_logits[1], each.mask_logits[0], atol=1e-5, rtol=1e-4)


def test_an_instance_gets_no_more_padding_than_sams_own():
    """One "not a point" behind what there is: further ones would change SAM's answer."""
    model, prediction = answered(reply({"bbox_2d": [10, 20, 60, 80]}))
    tokens = model.encode_points(torch.tensor([[[10.0, 20], [60, 80], [0, 0]]]), torch.tensor([[2, 3, -1]]), (112, 112))
    torch.testing.assert_close(prediction.prompts.sparse[0, :3], tokens[0])
    low = model.draw(prediction.state, tokens, torch.tensor([0]))
    alone = torch.nn.functional.interpolate(low, size=(112, 112), mode="bilinear", align_corners=False)
    torch.testing.assert_close(prediction.mask_logits, alone)
    padding = prediction.prompts.sparse[0, 3:]
    assert torch.equal(padding, model.sam.sam_prompt_encoder.not_a_point_embed.weight.expand_as(padding))


def test_numbers_mean_what_the_dialect_says():
    asked = [{"bbox_2d": [100, 200, 500, 1000]}]
    model = Think2Seg.from_preset("tiny", dialect="qwen3_vl")
    assert model.read(json.dumps(asked))[0].box == pytest.approx((11.2, 22.4, 56, 112))
    model.config = replace(model.config, dialect="think2seg", frame=100)
    # 100 pixels are seen as 112, the nearest whole tiles
    assert model.read(json.dumps(asked))[0].box == pytest.approx((100 / 1.12, 200 / 1.12, 500 / 1.12, 1000 / 1.12))
    model.config = replace(model.config, repair="tidy")
    assert model.read('[{"bbox_2d": [90, 20, 10, 500]}]')[0].box == pytest.approx(
        (10 / 1.12, 20 / 1.12, 90 / 1.12, 100)
    )


def test_the_writer_gets_the_sentence_as_it_is():
    seen = []

    def script(frame, sentence):
        seen.append((tuple(frame.shape), frame.dtype, sentence))
        return "[]"

    model = contract.build(tiny()).eval()
    model.writer = ScriptedWriter(script)
    image = torch.zeros(3, 30, 40, dtype=torch.uint8)
    model(Batch([image], ["Das Schiff – 船 \ud800"], torch.tensor([0])))
    model.config = replace(model.config, full_stop=False)
    model(Batch([image], ["x" * 3000], torch.tensor([0])))
    assert seen == [((3, 112, 112), torch.uint8, "Das Schiff – 船 ?."), ((3, 112, 112), torch.uint8, "x" * 1024)]


def test_bytes_are_cut_between_characters():
    tokenizer = ByteTokenizer(4)
    tokens = tokenizer(["a船b", "", "ééé"], "published")
    assert tokenizer.texts(tokens) == ["a船", "", "éé"]
    assert tokens.length.tolist() == [4, 0, 4]
    assert tokenizer.lengths(["a船b"]) == [5]
    with pytest.raises(ConfigError, match="without a tokenizer's file"):
        ByteTokenizer.from_file("vocab.txt", 4)


def test_without_a_writer_it_says_what_is_missing():
    model = contract.build(tiny(writer="chat")).eval()
    with pytest.raises(ConfigError, match=r"no language model: load weights for `writer`, or set model\.writer"):
        model(contract.batch())
    model.writer = ScriptedWriter(["[]"])
    with pytest.raises(ConfigError, match="the script has 1 replies, asked for 5"):
        model(contract.batch())


def test_the_frame_is_pillows():
    image = torch.randint(0, 256, (3, 50, 77), dtype=torch.uint8)
    expected = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((40, 40), Image.Resampling.LANCZOS)
    assert np.array_equal(framed(image, 40).permute(1, 2, 0).numpy(), np.array(expected))


# -- a chat model ------------------------------------------------------------------------------------------------------


class FakeProcessor:
    """Says what it was asked, in the ids of letters."""

    def apply_chat_template(self, turns, tokenize, add_generation_prompt):
        assert add_generation_prompt
        assert not tokenize
        return json.dumps([[turn["role"], [p.get("text", "PICTURE") for p in turn["content"]]] for turn in turns])

    def __call__(self, text, images, return_tensors):
        assert images[0].size == (112, 112)
        return transformers.BatchFeature({"input_ids": torch.tensor([[ord(c) for c in text[0]]])})

    def batch_decode(self, ids, skip_special_tokens, clean_up_tokenization_spaces):
        assert skip_special_tokens
        assert not clean_up_tokenization_spaces
        return ["".join(chr(i) for i in row) for row in ids.tolist()]


class FakeModel(torch.nn.Module):
    """Repeats the question after itself, as a generation is returned."""

    def __init__(self):
        super().__init__()
        self.generation_config = transformers.GenerationConfig(repetition_penalty=1.05, eos_token_id=7, pad_token_id=8)
        self.device = torch.device("cpu")

    def generate(self, input_ids, generation_config):
        assert (generation_config.do_sample, generation_config.max_new_tokens) == (False, 2048)
        assert generation_config.eos_token_id == 7
        assert generation_config.repetition_penalty in (None, 1.0)
        return torch.cat([input_ids, input_ids], 1)


def test_a_chat_model_is_asked_word_for_word(monkeypatch, tmp_path):
    for name, made in (("AutoProcessor", FakeProcessor), ("AutoModelForImageTextToText", FakeModel)):
        load = staticmethod(lambda folder, made=made, **options: made())
        monkeypatch.setattr(getattr(transformers, name), "from_pretrained", load)
    model = contract.build(tiny(full_stop=True)).eval()
    model.writer = ChatWriter(tmp_path, DIALECTS["think2seg"], 2048)
    prediction = model(contract.batch())
    for sentence, said in zip(contract.EXPRESSIONS, prediction.prompts.replies, strict=True):
        (system, (told,)), (user, (picture, asked)) = json.loads(said)
        assert (system, user, picture) == ("system", "user", "PICTURE")
        assert told.startswith("You are a remote sensing analysis assistant.")
        assert asked.startswith(f'Please find "{sentence}.", identify the target.')
    assert "system" not in ChatWriter(tmp_path, DIALECTS["qwen3_vl"], 2048)._reply(
        torch.zeros(3, 112, 112, dtype=torch.uint8), "the ship"
    )


def test_a_folder_without_a_chat_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsMismatchError, match="has no chat model that transformers can load"):
        ChatWriter(tmp_path, DIALECTS["think2seg"], 16)
