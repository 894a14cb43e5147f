"""Chat models of transformers that see pictures, small and random: real classes, real processors, no download."""

import torch
import transformers
from tokenizers import pre_tokenizers

MARKS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FAMILIES = ("qwen2_5_vl", "qwen3_vl")


def write_chat_model(folder, family, seed=0):
    """Write what `rrsis models fetch` would bring, of a model of some 200,000 parameters that knows letters alone."""
    pieces = {piece: i for i, piece in enumerate([*MARKS, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = transformers.Qwen2Tokenizer(
        vocab=pieces, merges=[], eos_token="<|im_end|>", extra_special_tokens=list(MARKS[1:])
    )
    new = family == "qwen3_vl"
    patch = 16 if new else 14
    sizes = {"patch_size": patch, "merge_size": 2, "temporal_patch_size": 2}
    area = {"shortest_edge": (2 * patch) ** 2, "longest_edge": (60 * patch) ** 2}
    video = transformers.Qwen3VLVideoProcessor if new else transformers.Qwen2VLVideoProcessor
    processor = (transformers.Qwen3VLProcessor if new else transformers.Qwen2_5_VLProcessor)(
        transformers.Qwen2VLImageProcessor(**sizes, size=area), tokenizer, video(**sizes), chat_template=TEMPLATE
    )
    processor.save_pretrained(folder)
    torch.manual_seed(seed)
    model = _qwen3(pieces, patch) if new else _qwen2_5(pieces, patch)
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=pieces["<|im_end|>"], pad_token_id=pieces["<|endoftext|>"], repetition_penalty=1.05
    )
    model.save_pretrained(folder)
    return folder


def _text(pieces, **more):
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    return {
        "vocab_size": len(pieces), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048, "rope_parameters": rope,
        "bos_token_id": None, "eos_token_id": pieces["<|im_end|>"], "initializer_range": 0.2, **more,
    }  # fmt: skip


def _ids(pieces):
    names = {"image_token_id": "image_pad", "video_token_id": "video_pad", "vision_start_token_id": "vision_start"}
    ids = {name: pieces[f"<|{mark}|>"] for name, mark in names.items()}
    return {**ids, "vision_end_token_id": pieces["<|vision_end|>"]}


def _vision(patch):
    return {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": patch,
            "out_hidden_size": 64}  # fmt: skip


def _qwen2_5(pieces, patch):
    vision = {**_vision(patch), "window_size": 4 * patch, "fullatt_block_indexes": [1]}
    config = transformers.Qwen2_5_VLConfig(text_config=_text(pieces), vision_config=vision, **_ids(pieces))
    return transformers.Qwen2_5_VLForConditionalGeneration(config)


def _qwen3(pieces, patch):
    vision = {**_vision(patch), "num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    config = transformers.Qwen3VLConfig(text_config=_text(pieces, head_dim=16), vision_config=vision, **_ids(pieces))
    return transformers.Qwen3VLForConditionalGeneration(config)


def constrained(writer, skeleton, monkeypatch):
    """Let a writer's model choose only the digits of a reply: a random one would never write JSON.

    Args:
        writer: a `ChatWriter`.
        skeleton: the reply, with ``#`` for a digit.
    """
    tokenizer = writer._processor.tokenizer
    digits = [tokenizer.convert_tokens_to_ids(d) for d in "0123456789"]
    steps = [digits if c == "#" else tokenizer.encode(c) for c in skeleton]
    steps.append([writer._model.generation_config.eos_token_id])
    generate = writer._model.generate

    def generated(**options):
        given = options["input_ids"].shape[1]
        return generate(**options, prefix_allowed_tokens_fn=lambda _, ids: steps[len(ids) - given])

    monkeypatch.setattr(writer._model, "generate", generated)
