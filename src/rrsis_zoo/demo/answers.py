"""The models behind the page, with what they have worked out already. No gradio."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rrsis_zoo.data.dataset import as_tensor
from rrsis_zoo.demo.kept import Kept
from rrsis_zoo.demo.pictures import Shown
from rrsis_zoo.errors import ConfigError, DataFormatError, unknown_name
from rrsis_zoo.inference import check_threshold, segment
from rrsis_zoo.loading import load_model
from rrsis_zoo.methods.registry import methods
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.types import ImageState
from rrsis_zoo.outputs.found import Findings, Source, found
from rrsis_zoo.segmentation import Segmentation
from rrsis_zoo.weights.checkpoints import weights_hash

MOST_SENTENCES = 16
_ANSWER_PIXELS = 2**26
"""Pixels times sentences of one answer; each takes 5 bytes."""
_STATES, _ANSWERS = 2**29, 2**30
"""Bytes of encoded pictures and of answers that are kept."""


@dataclass(frozen=True)
class Ready:
    """A model that can be asked.

    Attributes:
        model: on its device, in evaluation mode.
        source: what it is.
        notes: warnings from loading it.
    """

    model: ReferringSegmenter
    source: Source
    notes: tuple[str, ...]


class Desk:
    """Answers about pictures by any of some models. One question is worked on at a time, whatever the thread.

    A picture is encoded once for all sentences, and a question that was asked before is not worked on again, as long as
    there is room to keep that.

    Args:
        names: sources of models, as `load_model` takes them; each is loaded when it is first needed.
        device: where the models work.
    """

    def __init__(self, names: Sequence[str], device: str = "cpu") -> None:
        self.names = tuple(dict.fromkeys(names))
        self._device = device
        self._ready: dict[str, Ready] = {}
        self._states: Kept[tuple[str, str], ImageState] = Kept(_STATES, _state_bytes)
        self._answers: Kept[tuple[str, str, tuple[str, ...]], Segmentation] = Kept(_ANSWERS, _answer_bytes)
        self._work = threading.RLock()

    def ready(self, name: str) -> Ready:
        """Return a model, loaded if it was not yet.

        Raises:
            ConfigError: none of the names, or a method without weights or vocabulary.
            MissingWeightsError, WeightsMismatchError: as `load_model`.
        """
        if name not in self.names:
            raise unknown_name("method on this page", name, self.names)
        with self._work:
            if name not in self._ready:
                self._ready[name] = self._loaded(name)
            return self._ready[name]

    def ask(self, name: str, picture: Shown, texts: Sequence[str]) -> Segmentation:
        """Return a model's answer to some sentences about a picture.

        Raises:
            ConfigError: see `ready`; no sentence, or too many for the picture.
            DataFormatError: the picture is too large for the memory.
            WeightsMismatchError: the model's outputs are not finite.
        """
        _check_texts(texts, picture)
        key = (name, picture.key, tuple(texts))
        if (known := self._answers.get(key)) is not None:
            return known
        with self._work:
            if (known := self._answers.get(key)) is None:  # another thread may have asked the same meanwhile
                known = self._worked_out(name, picture, texts)
                self._answers.put(key, known)
        return known

    def cut(self, name: str, texts: Sequence[str]) -> str:
        """Return a remark on sentences that a model does not read to their end; empty if there are none."""
        return self.ready(name).model.cut(texts)

    def findings(self, name: str, picture: Shown, texts: Sequence[str], threshold: float) -> Findings:
        """Return what `rrsis segment --presence off` would record of the answer.

        Args:
            name, picture, texts: as in `ask`.
            threshold: the probability above which a pixel is in a mask.

        Raises:
            ConfigError: a threshold outside its range; and as `ask`.
        """
        check_threshold(threshold)
        answer = self.ask(name, picture, texts)
        height, width = picture.pixels.shape[:2]
        ready = self.ready(name)
        presence = [None] * len(texts) if answer.presence is None else answer.presence.tolist()
        results = tuple(
            found(text, answer.masks[n] if threshold == 0.5 else p > threshold, p, there)
            for n, (text, p, there) in enumerate(zip(texts, answer.probabilities, presence, strict=True))
        )
        return Findings(Path(picture.name), height, width, results, threshold, ready.source, picture.limits)

    @torch.inference_mode()
    def _worked_out(self, name: str, picture: Shown, texts: Sequence[str]) -> Segmentation:
        model, key = self.ready(name).model, (name, picture.key)
        pixels = as_tensor(picture.pixels)
        try:
            state = self._states.get(key)
            if state is None:
                state = model.encode_image([pixels])
                self._states.put(key, state)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="sentences longer than")  # the page shows `cut`
                return segment(model, pixels, texts, state=state)
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            raise DataFormatError(
                f"{picture.name} is too large for this machine's memory with {len(texts)} sentences: ask fewer at "
                "once, or cut it into tiles"
            ) from error

    def _loaded(self, name: str) -> Ready:
        if name in methods():
            raise ConfigError(
                f"{name} is a method without weights, so its masks would be noise: give mini:{name}, a checkpoint of "
                "rrsis fit, or a folder of rrsis convert"
            )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            model = load_model(name)
        if not model.tokenizer_ready:
            raise ConfigError(f"{name} has no tokenizer: it was saved before it had learned its vocabulary")
        notes = tuple(str(w.message) for w in caught if issubclass(w.category, UserWarning))
        return Ready(model.to(self._device).eval(), Source(model.name, name, weights_hash(model)), notes)


def sentences(text: str) -> list[str]:
    """Return the sentences of a text field, one a line; empty lines are none."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _check_texts(texts: Sequence[str], picture: Shown) -> None:
    if not texts:
        raise ConfigError("there is no sentence: write one, for instance “the ship left of the pier”")
    height, width = picture.pixels.shape[:2]
    most = max(1, min(MOST_SENTENCES, _ANSWER_PIXELS // (height * width)))
    if len(texts) > most:
        raise ConfigError(
            f"{len(texts)} sentences are too many for a picture of {width:,} x {height:,} pixels: ask up to {most} at "
            "once"
        )


def _state_bytes(state: ImageState) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in state.features.values())


def _answer_bytes(answer: Segmentation) -> int:
    return answer.masks.nbytes + answer.probabilities.nbytes + answer.heatmaps.nbytes + answer.image.nbytes
