"""Replies of real chat models of transformers, small and random ones, made here."""

import json

import contract
import pytest
import torch
from chat_models import FAMILIES, constrained, write_chat_model

from rrsis_zoo.errors import MissingWeightsError
from rrsis_zoo.methods.think2seg.model import Think2Seg
from rrsis_zoo.methods.think2seg.writers import DIALECTS, ChatWriter, Dialect
from rrsis_zoo.models.types import Batch
from rrsis_zoo.pretrained.foundations import fill_foundations

SHORT = {
    "qwen2_5_vl": Dialect("pixels", "Be brief.", "<EXPRESSION>?"),
    "qwen3_vl": Dialect("per_mille", "", "<EXPRESSION>?"),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    return write_chat_model(tmp_path_factory.mktemp("chat") / family, family)


@pytest.fixture(scope="module")
def writer(folder, family):
    return ChatWriter(folder, SHORT[family], 24)


def frames(*seeds, side=112):
    return [
        torch.randint(0, 256, (3, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
        for seed in seeds
    ]


def test_replies_are_greedy_and_each_its_own(writer):
    """No reply depends on its neighbours, on the number of calls, or on a penalty in the model's own file."""
    assert writer._model.generation_config.repetition_penalty == 1.05
    given = frames(0, 1)
    said = writer.write(given, ["the ship", "the large storage tank on the left"])
    assert said == [
        writer.write([frame], [text])[0]
        for frame, text in zip(given, ["the ship", "the large storage tank on the left"], strict=True)
    ]
    assert all(isinstance(text, str) for text in said)
    other_picture, other_text = writer.write(given[1:], ["the ship"]), writer.write(given[:1], ["the tank"])
    assert len({said[0], *other_picture, *other_text}) == 3  # both are read


def test_the_model_sees_the_picture_and_the_question(writer, family, monkeypatch):
    seen = []
    generate = writer._model.generate
    monkeypatch.setattr(writer._model, "generate", lambda **given: seen.append(given) or generate(**given))
    writer.write(frames(2), ["the ship"])
    (given,) = seen
    tokens = [int(n) for n in (given["input_ids"] == writer._processor.image_token_id).sum(1)]
    patches = 112 // 28 if family == "qwen2_5_vl" else 128 // 32  # Qwen3-VL rounds 112 pixels to 128
    assert tokens == [patches**2]
    assert given["image_grid_thw"].tolist() == [[1, 2 * patches, 2 * patches]]
    text = writer._processor.tokenizer.decode(given["input_ids"][0], skip_special_tokens=True)
    system = "system\nBe brief.\n" if family == "qwen2_5_vl" else ""
    assert text == f"{system}user\nthe ship?\nassistant\n"


def test_a_reply_ends_at_its_limit_or_its_mark(writer, monkeypatch):
    generate, lengths = writer._model.generate, []

    def counted(**given):
        ids = generate(**given)
        lengths.append(ids.shape[1] - given["input_ids"].shape[1])
        return ids

    monkeypatch.setattr(writer._model, "generate", counted)
    writer.write(frames(3), ["a"])
    constrained(writer, "[]", monkeypatch)
    assert writer.write(frames(3), ["a"]) == ["[]"]
    assert lengths == [24, 3]  # the mark is not part of the text


def test_from_picture_and_sentence_to_a_mask(folder, family, monkeypatch):
    """The whole way: fetched files, a generated reply, boxes in native pixels, a mask."""
    model = contract.build(
        lambda: Think2Seg.from_preset("tiny", writer="chat", dialect=family, max_new_tokens=64)
    ).eval()
    fill_foundations(model, {"sam": "none", "writer": f"local:{folder}"})
    assert isinstance(model.writer, ChatWriter)
    model.writer._dialect = SHORT[family]  # fewer letters to read
    constrained(model.writer, '[{"bbox_2d": [1#, 1#, 9#, 8#]}]', monkeypatch)
    image = torch.zeros(3, 56, 224, dtype=torch.uint8)
    image[:, 10:30, 20:90] = 200
    with torch.no_grad():
        prediction = model(Batch([image], ["the ship", "the tank"], torch.tensor([0, 0])))
    prompts = prediction.prompts
    assert prompts.aux["failed"].tolist() == [0, 0]
    for n, reply in enumerate(prompts.replies):
        (written,) = json.loads(reply)
        unit = 112 if DIALECTS[family].coordinates == "pixels" else 1000
        expected = torch.tensor(written["bbox_2d"]) / unit * torch.tensor([224.0, 56, 224, 56])
        torch.testing.assert_close(prompts.boxes[n, 0], expected)
        assert prediction.mask_logits[n].isfinite().all()


def test_a_model_that_writes_no_list_is_counted(folder, family):
    model = contract.build(
        lambda: Think2Seg.from_preset("tiny", writer="chat", dialect=family, max_new_tokens=8)
    ).eval()
    fill_foundations(model, {"sam": "none", "writer": f"local:{folder}"})
    with torch.no_grad():
        prediction = model(Batch(frames(4), ["the ship"], torch.tensor([0])))
    assert prediction.prompts.aux["failed"].tolist() == [1]
    assert (prediction.mask_logits < 0).all()


def test_a_folder_without_one_of_its_files(folder, tmp_path):
    model = Think2Seg.from_preset("tiny", writer="chat")
    for gone in ("config.json", "tokenizer.json", "processor_config.json", "model.safetensors"):
        part = tmp_path / gone
        part.mkdir()
        for path in folder.iterdir():
            if path.name not in (gone, "preprocessor_config.json"):
                (part / path.name).symlink_to(path)
        with pytest.raises(MissingWeightsError, match=rf"weights\.writer\): the folder .* has no .*{gone}"):
            fill_foundations(model, {"sam": "none", "writer": f"local:{part}"})


def test_without_a_generation_file_it_still_ends(folder, family, tmp_path):
    """The tokenizer's end mark is taken, and not 2,048 further letters."""
    for path in folder.iterdir():
        if path.name != "generation_config.json":
            (tmp_path / path.name).symlink_to(path)
    writer = ChatWriter(tmp_path, SHORT[family], 24)
    seen = []
    writer._model.generate = lambda **given: seen.append(given["generation_config"].eos_token_id) or given["input_ids"]
    writer._model.generation_config.eos_token_id = None
    writer.write(frames(5), ["a"])
    assert seen == [writer._processor.tokenizer.eos_token_id]
