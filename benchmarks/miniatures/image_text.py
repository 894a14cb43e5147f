"""Image and text: SigLIP's sigmoid contrast, and matching for BEiT-3.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023. SigLIP 2 (Tschannen et al., 2025) adds captions
that are grounded in regions, without which patch features say little about places; both miniatures get the same in
their simplest form: a *phrase* ("red ship") must light up on the cells of what it names and nowhere else. SigLIP's
miniature also grounds places in the image ("the ship at the top left"), as SigLIP 2 learns boxes. Where things are to
each other is for the methods to learn: no sentence that says so is ever grounded here, it only counts for the image as
a whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scenes import SIZE, PretrainingScene, absent_phrases, wrong_colours
from torch import Tensor, nn

from rrsis_zoo.models.backbones import siglip
from rrsis_zoo.models.backbones.beit3 import BEIT3_MINI, BEiT3
from rrsis_zoo.models.backbones.siglip import SIGLIP_MINI, SigLIP
from rrsis_zoo.models.base import Tokenizer
from rrsis_zoo.models.layers.geometry import normalise
from rrsis_zoo.models.tokenizers import BEiT3Tokenizer, SigLIPTokenizer

ARTICLES = ("the ", "a ", "")


class Contrastive(nn.Module):
    """SigLIP: images and texts of a batch, each pair a yes or no.

    Args:
        tokenizer: its text convention.
    """

    images_a_step = 32
    phrases_an_image, places_an_image = 4, 2
    tokenizer_kind = SigLIPTokenizer
    text_limits = (SIGLIP_MINI.vocabulary, SIGLIP_MINI.max_length)

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.model = SigLIP(SIGLIP_MINI)
        self.ground_scale, self.ground_bias = nn.Parameter(torch.tensor(2.3)), nn.Parameter(torch.tensor(-4.0))

    def exported(self) -> dict[str, Tensor]:
        """Return what is shipped, in the official names."""
        return {name: tensor for name, tensor in self.model.state_dict().items() if "position_ids" not in name}

    def loss(self, batch: Sequence[PretrainingScene], chance: np.random.Generator) -> dict[str, Tensor]:
        """Return named terms and ``loss``, their sum."""
        phrases, index, share = _grounding(batch, self.phrases_an_image, SIGLIP_MINI.grid, chance, self.places_an_image)
        patches, images = self.read_images(batch)
        texts = self.read_texts([*(_caption(scene, chance) for scene in batch), *phrases])  # at once: fewer lengths
        logits = images @ texts[: len(batch)].T * self.model.logit_scale.exp() + self.model.logit_bias
        pairs = 2 * torch.eye(len(batch)) - 1
        contrast = -F.logsigmoid(pairs * logits).sum(1).mean()

        cosine = torch.einsum("nc,nchw->nhw", texts[len(batch) :], F.normalize(patches, dim=1)[index])
        found = cosine * self.ground_scale.exp() + self.ground_bias
        ground = 20 * F.binary_cross_entropy_with_logits(found, share)
        right = (logits.argmax(1) == torch.arange(len(batch))).float().mean()
        return {"contrast": contrast, "ground": ground, "loss": contrast + ground, "right": right}

    def read_images(self, batch: Sequence[PretrainingScene]) -> tuple[Tensor, Tensor]:
        """Return patch features V (M, C, h, w) and unit image embeddings (M, C)."""
        patches = self.model.vision_features(normalise(_images(batch), siglip.PIXEL_MEAN, siglip.PIXEL_STD))
        pooled = self.model.vision_model.head(patches.flatten(2).transpose(1, 2))
        return patches, F.normalize(pooled, dim=1)

    def read_texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit text embeddings (N, C), each text read as if alone."""
        return F.normalize(self.model.text_features(self.tokenizer(texts, "independent")).pooled, dim=1)

    @torch.no_grad()
    def matches(self, scenes: Sequence[PretrainingScene], texts: Sequence[str]) -> Tensor:
        """Return the score of every image with every text, (M, N)."""
        return self.read_images(scenes)[1] @ self.read_texts(texts).T


class Matching(nn.Module):
    """BEiT-3: does the sentence fit the image? Read from the class token of both.

    Args:
        tokenizer: its text convention.
    """

    images_a_step = 24
    tokenizer_kind = BEiT3Tokenizer
    text_limits = (BEIT3_MINI.vocabulary, BEIT3_MINI.max_length)

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.model = BEiT3(BEIT3_MINI)
        self.match_head, self.ground_head = nn.Linear(BEIT3_MINI.width, 1), nn.Linear(BEIT3_MINI.width, 1)

    def exported(self) -> dict[str, Tensor]:
        """Return what is shipped, in the official names, and the head that the match score needs."""
        state = {f"beit3.{name}": tensor for name, tensor in self.model.state_dict().items()}
        return state | {f"match_head.{name}": tensor for name, tensor in self.match_head.state_dict().items()}

    def loss(self, batch: Sequence[PretrainingScene], chance: np.random.Generator) -> dict[str, Tensor]:
        """Return named terms and ``loss``, their sum."""
        half = len(batch) // 2
        matched = batch[:half]
        texts = [scene.sentences[chance.integers(len(scene.sentences))][0] for scene in matched]
        pairs, fits = list(matched), [1.0] * half
        for scene in matched:
            if scene.strangers:
                texts.append(scene.strangers[chance.integers(len(scene.strangers))])
                pairs.append(scene)
                fits.append(0.0)
        phrases, index, share = _grounding(batch[half:], 1, BEIT3_MINI.grid, chance)
        pairs += [batch[half:][i] for i in index.tolist()]
        cls, patches = self.read(_images(pairs), [*texts, *phrases])
        n = len(texts)
        logits = self.match_head(cls[:n])[:, 0]
        match = F.binary_cross_entropy_with_logits(logits, torch.tensor(fits))
        found = self.ground_head(patches[n:])[..., 0].unflatten(1, (BEIT3_MINI.grid, -1))
        ground = 10 * F.binary_cross_entropy_with_logits(found, share)
        right = ((logits > 0) == (torch.tensor(fits) > 0)).float().mean()
        return {"match": match, "ground": ground, "loss": match + ground, "right": right}

    def read(self, images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the class tokens (N, C) and patches (N, P, C) of N pairs, images in [0, 1]."""
        tokens = self.tokenizer(texts, "independent")
        hidden = torch.arange(tokens.ids.shape[1]) >= tokens.length[:, None]
        side = BEIT3_MINI.image_size
        small = F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)
        out = self.model(normalise(small, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), tokens.ids, hidden)
        return out.cls[:, 0], out.patches

    @torch.no_grad()
    def matches(self, scenes: Sequence[PretrainingScene], texts: Sequence[str]) -> Tensor:
        """Return the score of every image with every text, (M, N)."""
        images = _images(scenes)
        rows = [self.match_head(self.read(image.expand(len(texts), -1, -1, -1), texts)[0])[:, 0] for image in images]
        return torch.stack(rows)


@torch.no_grad()
def retrieval(model: Contrastive | Matching, unseen: Sequence[PretrainingScene], count: int = 64) -> dict[str, float]:
    """Return how many of ``count`` unseen scenes with distinct sentences are right first, both ways."""
    model.eval()
    chosen: list[PretrainingScene] = []
    texts: list[str] = []
    for scene in unseen:
        text = scene.sentences[0][0]
        if text not in texts and len(texts) < count:
            chosen.append(scene)
            texts.append(text)
    scores = model.matches(chosen, texts)
    own = torch.arange(len(texts))
    return {
        "image_to_text": float((scores.argmax(1) == own).sum()),
        "text_to_image": float((scores.argmax(0) == own).sum()),
        "of": float(len(texts)),
    }


def _images(batch: Sequence[PretrainingScene]) -> Tensor:
    return torch.from_numpy(np.stack([scene.image for scene in batch])).permute(0, 3, 1, 2).float() / 255


def _caption(scene: PretrainingScene, chance: np.random.Generator) -> str:
    """A sentence of the scene, or a list of things that are in it."""
    if not scene.phrases or chance.random() < 0.5:
        return scene.sentences[chance.integers(len(scene.sentences))][0]
    names = list(scene.phrases)
    chance.shuffle(names)
    return " and ".join(_with_article(name, chance) for name in names[: chance.integers(1, 4)])


def _with_article(phrase: str, chance: np.random.Generator) -> str:
    article = ARTICLES[chance.integers(len(ARTICLES))]
    return f"an {phrase}" if article == "a " and phrase[0] in "aeiou" else article + phrase


def _grounding(
    batch: Sequence[PretrainingScene], each: int, grid: int, chance: np.random.Generator, places: int = 0
) -> tuple[list[str], Tensor, Tensor]:
    """Phrases, the image of each, and the share of every cell that it names, (N, grid, grid).

    One more phrase an image names nothing in it. With ``places``, so many of an image's places come too, and a second
    phrase that names nothing and differs from what is there by its colour alone.
    """
    texts, index, masks, whole = [], [], [], []
    for i, scene in enumerate(batch):
        names = list(scene.phrases)
        chance.shuffle(names)
        for name in names[:each]:
            texts.append(name)
            index.append(i)
            masks.append(np.isin(scene.labels, [k + 1 for k in scene.phrases[name]]))
        where = list(scene.places) if places else []
        chance.shuffle(where)
        for text in where[:places]:
            whole.append(len(texts))
            texts.append(text)
            index.append(i)
            masks.append(np.isin(scene.labels, [k + 1 for k in scene.places[text]]))
        nothing = absent_phrases(scene, chance, 1)
        wrong = wrong_colours(scene) if places else []
        if wrong:
            nothing.append(wrong[chance.integers(len(wrong))])
        texts += nothing
        index += [i] * len(nothing)
        masks += [np.zeros((SIZE, SIZE), bool)] * len(nothing)
    texts = [text if n in whole else _with_article(text, chance) for n, text in enumerate(texts)]
    share = F.adaptive_avg_pool2d(torch.from_numpy(np.stack(masks)).float(), grid)
    return texts, torch.tensor(index), share
