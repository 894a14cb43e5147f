"""Language models that look at a picture and write where a sentence points, and a script that stands in for one.

What differs between models is data (`Dialect`): the size of the picture, what its coordinates mean, the wording.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from rrsis_zoo.errors import ConfigError, WeightsMismatchError

Coordinates = Literal["pixels", "per_mille"]
"""What a model's numbers are: pixels of the picture that it saw, or thousandths of its sides. The commonest error in
such programs, so that every dialect states it."""

STEP = 28
"""Qwen2.5-VL sees whole tiles of 28 pixels: a picture of another side is resized to the nearest number of them."""


@dataclass(frozen=True)
class Dialect:
    """How a model is asked, and how its numbers are read.

    Attributes:
        coordinates: see `Coordinates`.
        system: what it is told first; empty for nothing.
        user: what it is asked; ``<EXPRESSION>`` stands for the sentence.
    """

    coordinates: Coordinates
    system: str
    user: str

    def asked(self, sentence: str) -> str:
        """Return the question about a sentence."""
        return self.user.replace("<EXPRESSION>", sentence)

    def unit(self, frame: int) -> float:
        """Return the number that stands for the far side of a square picture of ``frame`` pixels."""
        return 1000.0 if self.coordinates == "per_mille" else float(max(1, round(frame / STEP)) * STEP)


_BOXES = (
    'Find "<EXPRESSION>" in this aerial image. Answer with a JSON list that has one object for each target, with its '
    'tight bounding box: [{"bbox_2d": [x0, y0, x1, y1]}]. If there is no such target, answer with an empty list.'
)
DIALECTS: dict[str, Dialect] = {
    # word for word what the released weights were trained with
    "think2seg": Dialect(
        "pixels",
        "You are a remote sensing analysis assistant. Your task is to generate spatial prompts for the Segment "
        "Anything Model (SAM) based on a user's request.",
        'Please find "<EXPRESSION>", identify the target. For each target instance, provide:\n'
        "1.  `bbox_2d`: A tight bounding box.\n"
        "2.  `positive_points`: Exactly two points, placed inside the target.\n"
        "Output your thinking process in <think> </think> tags.\n"
        "Output the final answer in <answer> </answer> tags with the specified JSON format. If no targets are found, "
        "output an empty list.\n"
        "i.e. <think> thinking process here </think> \n"
        '<answer>```json[{"bbox_2d": [310,360,567,586], "positive_points": [[434, 474], [450, 460]]}, '
        '{"bbox_2d": [10,200,100,320], "positive_points": [[50, 250], [90, 300]]}]```</answer>',
    ),
    "qwen2_5_vl": Dialect("pixels", "", _BOXES),
    "qwen3_vl": Dialect("per_mille", "", _BOXES),
}
"""Dialects by name; the last two are this project's wording for models that were not trained for it."""


class Writer(Protocol):
    """Whatever writes replies."""

    def write(self, frames: Sequence[Tensor], sentences: Sequence[str]) -> list[str]:
        """Return a reply for each picture, uint8 (3, s, s), and its sentence."""
        ...


class ChatWriter:
    """A chat model of transformers that sees pictures: Qwen2.5-VL, Qwen3-VL, all of ``AutoModelForImageTextToText``.

    Args:
        folder: of ``save_pretrained``: configuration, weights, tokenizer, processor.
        dialect: how it is asked.
        max_new_tokens: most tokens of a reply; a longer one is cut there.

    Raises:
        WeightsMismatchError: no such model is in the folder.
    """

    def __init__(self, folder: Path, dialect: Dialect, max_new_tokens: int) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        try:
            self._processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
            self._model: Any = AutoModelForImageTextToText.from_pretrained(
                folder, local_files_only=True, dtype="auto", trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            why = " ".join(str(error).split())[:200]
            raise WeightsMismatchError(f"{folder} has no chat model that transformers can load: {why}") from error
        self._model.eval()
        self._dialect, self._limit = dialect, max_new_tokens

    @torch.no_grad()
    def write(self, frames: Sequence[Tensor], sentences: Sequence[str]) -> list[str]:
        """Return greedy replies, one at a time, so that none depends on another's padding."""
        self._model.to(frames[0].device)
        return [self._reply(frame, sentence) for frame, sentence in zip(frames, sentences, strict=True)]

    def _reply(self, frame: Tensor, sentence: str) -> str:
        from PIL import Image
        from transformers import GenerationConfig

        picture = Image.fromarray(frame.permute(1, 2, 0).cpu().numpy())
        question = [{"type": "image", "image": picture}, {"type": "text", "text": self._dialect.asked(sentence)}]
        turns: list[dict[str, Any]] = [{"role": "user", "content": question}]
        if self._dialect.system:
            turns.insert(0, {"role": "system", "content": [{"type": "text", "text": self._dialect.system}]})
        text = self._processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        given = self._processor(text=[text], images=[picture], return_tensors="pt").to(self._model.device)
        own = self._model.generation_config
        end = own.eos_token_id
        if end is None:  # without a generation_config.json; a reply would never end
            end = getattr(getattr(self._processor, "tokenizer", None), "eos_token_id", None)
        # a fresh configuration: the repetition penalty in the model's own file is not for lists of numbers
        greedy = GenerationConfig(
            do_sample=False,
            max_new_tokens=self._limit,
            eos_token_id=end,
            pad_token_id=own.pad_token_id,
            bos_token_id=own.bos_token_id,
        )
        written = self._model.generate(**given, generation_config=greedy)[:, given["input_ids"].shape[1] :]
        decoded = self._processor.batch_decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return decoded[0]


class ScriptedWriter:
    """Replies of a function, for tests and for a model whose text is known.

    Args:
        script: picture, uint8 (3, s, s), and sentence to a reply; or a list of replies, used one after the other.
    """

    def __init__(self, script: Callable[[Tensor, str], str] | Sequence[str]) -> None:
        self._script = script
        self._next = 0

    def write(self, frames: Sequence[Tensor], sentences: Sequence[str]) -> list[str]:
        """Return the replies.

        Raises:
            ConfigError: the list is used up.
        """
        if callable(self._script):
            return [self._script(frame, sentence) for frame, sentence in zip(frames, sentences, strict=True)]
        start, self._next = self._next, self._next + len(frames)
        if self._next > len(self._script):
            raise ConfigError(f"the script has {len(self._script)} replies, asked for {self._next}")
        return list(self._script[start : self._next])


def odd_one_out(frame: Tensor, sentence: str) -> str:
    """Return a reply about the pixels whose colour is farthest from the picture's median, whatever the sentence.

    Deterministic, reads no words: it stands in where there is no language model, and runs all that follows the text.
    """
    pixels = frame.float()
    away = (pixels - pixels.flatten(1).median(1).values[:, None, None]).abs().sum(0)
    y, x = (away >= 0.8 * away.max()).nonzero().T
    box = [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]
    places = [len(x) // 3, 2 * len(x) // 3]
    points = [[int(x[i]), int(y[i])] for i in places]
    listed = json.dumps([{"bbox_2d": box, "positive_points": points}])
    return f"<think>The colour that stands out most.</think>\n<answer>```json{listed}```</answer>"
