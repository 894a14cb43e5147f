"""Image and text: SigLIP's sigmoid contrast, and matching for BEiT-3.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023. SigLIP 2 (Tschannen et al., 2025) adds captions
that are grounded in regions, without which patch features say little about places; both miniatures get the same in
their simplest form: a *phrase* ("red ship") or a *place* ("the ship at the top left") must light up on the cells of
what it names and nowhere else. Where things are to each other is for the methods to learn: no sentence that says so is
ever grounded here, it only counts for the image as a whole.

Both models draw a step's questions on the CPU (``draw``; in worker processes where there are some) and answer them on
their own device (``loss``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.data.synthetic import CATEGORIES
from rrsis_zoo.models.backbones import siglip
from rrsis_zoo.models.backbones.beit3 import BEIT3_MINI, BEiT3
from rrsis_zoo.models.backbones.siglip import SIGLIP_MINI, SigLIP
from rrsis_zoo.models.layers.geometry import normalise
from rrsis_zoo.models.tokenizers import BEiT3Tokenizer, SigLIPTokenizer
from rrsis_zoo.models.types import Tokenizer, Tokens
from scenes import MOST_OBJECTS, PretrainingScene

ARTICLES = ("the ", "a ", "")
CONTRAST_WEIGHT = 0.2  # its sum over a batch is the larger one, and phrases teach most of what captions do

Questions = Mapping[str, Tensor]
"""What a step asks: ``images`` uint8 (M, 3, 128, 128), ``ids`` (N, L) and ``length`` (N,) of texts, and the answers."""


class Contrastive(nn.Module):
    """SigLIP: images and texts of a batch, each pair a yes or no; phrases and places, each cell a yes or no.

    Both questions share the scale and the bias, so that what ships with the towers turns the similarity of a sentence
    with a patch into a belief. The table of positions begins with `place_codes`: from small random codes no place was
    learned in 3,000 steps of 128 images, from these they are from the first hundred on.

    Args:
        tokenizer: its text convention.
    """

    tokenizer_kind = SigLIPTokenizer
    text_limits = (SIGLIP_MINI.vocabulary, SIGLIP_MINI.max_length)
    phrases, places, nothing = 4, 6, 2  # an image, at most

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.model = SigLIP(SIGLIP_MINI)
        with torch.no_grad():
            codes = place_codes(SIGLIP_MINI.grid, SIGLIP_MINI.width)
            self.model.vision_model.embeddings.position_embedding.weight.copy_(codes)

    def exported(self) -> dict[str, Tensor]:
        """Return what is shipped, in the official names."""
        return {name: tensor for name, tensor in self.model.state_dict().items() if "position_ids" not in name}

    def draw(self, batch: Sequence[PretrainingScene], chance: np.random.Generator) -> dict[str, Tensor]:
        """Ask M images for M captions and N phrases.

        Returns:
            `Questions`, the texts being the captions; ``fits`` (M, M): 1 where a caption, read as words, is true of an
            image, else -1; and for the phrases ``phrase_ids``, ``phrase_length`` and what `_share` takes.
        """
        captions = [_caption(scene, chance) for scene in batch]
        known = [_claims(scene) for scene in batch]
        fits = [[1.0 if known[i].issuperset(names) else -1.0 for names, _ in captions] for i in range(len(batch))]
        asked = [_phrases(scene, self.phrases, self.places, self.nothing, chance) for scene in batch]
        phrases = tokenised(self.tokenizer, [text for one in asked for text, _ in one])
        return {
            "images": images_of(batch),
            **tokenised(self.tokenizer, [text for _, text in captions]),
            **{f"phrase_{name}": tensor for name, tensor in phrases.items()},  # apart, for they are much shorter
            "fits": torch.tensor(fits),
            **_asked(batch, asked),
        }

    def loss(self, asked: Questions) -> dict[str, Tensor]:
        """Return named terms and ``loss``, their sum."""
        patches, images = self.read_images(asked["images"])
        captions = self.read_texts(asked["ids"], asked["length"])
        phrases = self.read_texts(asked["phrase_ids"], asked["phrase_length"])
        scale, bias = self.model.logit_scale.exp(), self.model.logit_bias
        logits = images @ captions.T * scale + bias
        contrast = CONTRAST_WEIGHT * -F.logsigmoid(asked["fits"] * logits).sum(1).mean()

        cosine = torch.einsum("nc,nchw->nhw", phrases, F.normalize(patches, dim=1)[asked["index"]])
        share = _share(asked["labels"], asked["index"], asked["named"], SIGLIP_MINI.grid)
        ground = 20 * F.binary_cross_entropy_with_logits(cosine * scale + bias, share)
        right = (asked["fits"].gather(1, logits.argmax(1, keepdim=True)) > 0).float().mean()
        return {"contrast": contrast, "ground": ground, "loss": contrast + ground, "right": right}

    def read_images(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return patch features V (M, C, h, w) and unit image embeddings (M, C) of uint8 images."""
        patches = self.model.vision_features(normalise(images.float() / 255, siglip.PIXEL_MEAN, siglip.PIXEL_STD))
        pooled = self.model.vision_model.head(patches.flatten(2).transpose(1, 2))
        return patches, F.normalize(pooled, dim=1)

    def read_texts(self, ids: Tensor, length: Tensor) -> Tensor:
        """Return unit text embeddings (N, C), each text read as if alone; at once, as nobody attends to pads."""
        read = torch.arange(ids.shape[1], device=ids.device) < length[:, None]
        states = self.model.text_model(input_ids=ids, attention_mask=read.long()).last_hidden_state
        last = states[torch.arange(len(ids), device=ids.device), length - 1]
        return F.normalize(self.model.text_model.head(last), dim=1)

    def cells(self, scene: PretrainingScene, texts: Sequence[str]) -> Tensor:
        """Return the cosine of every cell of a scene with every text, (N, h, w)."""
        device = self.model.logit_bias.device
        asked = {name: t.to(device) for name, t in tokenised(self.tokenizer, texts).items()}
        patches = F.normalize(self.read_images(images_of([scene]).to(device))[0][0], dim=0)
        return torch.einsum("nc,chw->nhw", self.read_texts(asked["ids"], asked["length"]), patches)

    @torch.no_grad()
    def matches(self, scenes: Sequence[PretrainingScene], texts: Sequence[str]) -> Tensor:
        """Return the score of every image with every text, (M, N)."""
        device = self.model.logit_bias.device
        asked = {name: t.to(device) for name, t in tokenised(self.tokenizer, texts).items()}
        return self.read_images(images_of(scenes).to(device))[1] @ self.read_texts(asked["ids"], asked["length"]).T


class Matching(nn.Module):
    """BEiT-3: was the sentence said about the image, and which patches does a phrase name?

    The first is read from the class token and from the highest value that any patch has in each channel: what is meant
    lies somewhere. When all false sentences were such that fit nothing, the loss after 600 to 700 steps was 0.44 to
    0.46 so, and 0.52 to 0.54 from the class token alone. Both heads ship with the encoder, and no method reads them.

    Args:
        tokenizer: its text convention.
    """

    tokenizer_kind = BEiT3Tokenizer
    text_limits = (BEIT3_MINI.vocabulary, BEIT3_MINI.max_length)
    phrases, places, nothing = 1, 1, 1  # an image of the second half, at most

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.model = BEiT3(BEIT3_MINI)
        self.match_head, self.ground_head = nn.Linear(2 * BEIT3_MINI.width, 1), nn.Linear(BEIT3_MINI.width, 1)
        with torch.no_grad():
            codes = place_codes(BEIT3_MINI.grid, BEIT3_MINI.width)
            self.model.encoder.embed_positions.A.weight[-len(codes) :].copy_(codes)

    def exported(self) -> dict[str, Tensor]:
        """Return what is shipped, in the official names, and the heads that the scores need."""
        state = {f"beit3.{name}": tensor for name, tensor in self.model.state_dict().items()}
        return state | {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("model.")}

    def draw(self, batch: Sequence[PretrainingScene], chance: np.random.Generator) -> dict[str, Tensor]:
        """Ask the first half of M images about sentences, true and false ones, the second about phrases.

        False are, by equal chances, a sentence that fits nothing in the image, and one that was said about another
        image, whether it fits this one or not. The second kind teaches how much a sentence says: "the ship" was said
        of many images, "the ship left of the pier" of few.

        Returns:
            `Questions`; ``fits`` (K,) 1 or 0 for the first K texts, ``pair`` (K,) their images; and for the phrases
            what `_share` takes, the second half's scenes counted from 0.
        """
        half = len(batch) // 2
        pairs: list[tuple[int, str, float]] = []
        for i, scene in enumerate(batch[:half]):
            own = [text for text, _ in scene.sentences]
            others = [text for other in batch for text, _ in other.sentences if text not in own]
            false = scene.strangers if scene.strangers and chance.random() < 0.5 else others
            pairs += [(i, text, 1.0) for text in _some(own, 1, chance)]
            pairs += [(i, text, 0.0) for text in _some(false, 1, chance)]
        asked = [_phrases(scene, self.phrases, self.places, self.nothing, chance) for scene in batch[half:]]
        return {
            "images": images_of(batch),
            **tokenised(self.tokenizer, [*(text for _, text, _ in pairs), *(text for one in asked for text, _ in one)]),
            "fits": torch.tensor([fits for _, _, fits in pairs]),
            "pair": torch.tensor([i for i, _, _ in pairs]),
            **_asked(batch[half:], asked),
        }

    def loss(self, asked: Questions) -> dict[str, Tensor]:
        """Return named terms and ``loss``, their sum."""
        fits, count = asked["fits"], len(asked["fits"])
        index = torch.cat([asked["pair"], len(asked["images"]) // 2 + asked["index"]])
        cls, patches = self.read(asked["images"], index, asked["ids"], asked["length"])
        logits = self.match(cls[:count], patches[:count])
        match = F.binary_cross_entropy_with_logits(logits, fits)
        found = self.ground_head(patches[count:])[..., 0].unflatten(1, (BEIT3_MINI.grid, -1))
        share = _share(asked["labels"], asked["index"], asked["named"], BEIT3_MINI.grid)
        ground = 10 * F.binary_cross_entropy_with_logits(found, share)
        right = ((logits > 0) == (fits > 0)).float().mean()
        return {"match": match, "ground": ground, "loss": match + ground, "right": right}

    def match(self, cls: Tensor, patches: Tensor) -> Tensor:
        """Return the log-odds (N,) that texts were said about their images."""
        return self.match_head(torch.cat([cls, patches.amax(1)], 1))[:, 0]

    def read(self, images: Tensor, index: Tensor, ids: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class tokens (N, C) and patches (N, P, C) of N pairs; ``index`` (N,) names their uint8 images."""
        hidden = torch.arange(ids.shape[1], device=ids.device) >= length[:, None]
        side = BEIT3_MINI.image_size
        small = F.interpolate(images.float() / 255, (side, side), mode="bilinear", antialias=True, align_corners=False)
        out = self.model(normalise(small, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))[index], ids, hidden)
        return out.cls[:, 0], out.patches

    def cells(self, scene: PretrainingScene, texts: Sequence[str]) -> Tensor:
        """Return the log-odds of every cell of a scene for every text, (N, h, w)."""
        device = self.match_head.weight.device
        asked = {name: t.to(device) for name, t in tokenised(self.tokenizer, texts).items()}
        index = torch.zeros(len(texts), dtype=torch.int64, device=device)
        _, patches = self.read(images_of([scene]).to(device), index, asked["ids"], asked["length"])
        return self.ground_head(patches)[..., 0].unflatten(1, (BEIT3_MINI.grid, -1))

    @torch.no_grad()
    def matches(self, scenes: Sequence[PretrainingScene], texts: Sequence[str]) -> Tensor:
        """Return the score of every image with every text, (M, N)."""
        device = self.match_head.weight.device
        images = images_of(scenes).to(device)
        asked = {name: t.to(device) for name, t in tokenised(self.tokenizer, texts).items()}
        rows = []
        for i in range(len(scenes)):
            index = torch.full((len(texts),), i, device=device)
            rows.append(self.match(*self.read(images, index, asked["ids"], asked["length"])))
        return torch.stack(rows)


def place_codes(grid: int, width: int) -> Tensor:
    """Return sines and cosines of the columns and rows of a grid, (grid², width), row-major.

    Wavelengths go from 2π cells to 2π grids. Amplitude 1 is the order of a patch's own embedding.
    """
    count = width // 4
    frequencies = float(grid) ** -(torch.arange(count) / (count - 1))
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    angles = [cells.flatten()[:, None] * frequencies for cells in (columns, rows)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], 1)


@torch.no_grad()
def retrieval(model: Contrastive | Matching, unseen: Sequence[PretrainingScene], count: int = 64) -> dict[str, float]:
    """Return how many of ``count`` unseen scenes with distinct sentences are right first, both ways.

    The mean over as many sets of ``count`` as the scenes give: of a single one binomial noise is 3 to 4 scenes.

    Raises:
        ValueError: fewer than ``count`` distinct sentences.
    """
    model.eval()
    rest, found = list(unseen), []
    while True:
        chosen: dict[str, PretrainingScene] = {}
        for scene in rest:
            if len(chosen) < count:
                chosen.setdefault(scene.sentences[0][0], scene)
        if len(chosen) < count:
            break
        taken = {id(scene) for scene in chosen.values()}
        rest = [scene for scene in rest if id(scene) not in taken]
        scores = model.matches(list(chosen.values()), list(chosen)).cpu()
        own = torch.arange(count)
        found.append([float((scores.argmax(axis) == own).sum()) for axis in (1, 0)])
    if not found:
        raise ValueError(f"retrieval among {count} needs as many distinct sentences, got {len(chosen)}")
    to_text, to_image = np.mean(found, 0).tolist()
    return {"image_to_text": to_text, "text_to_image": to_image, "of": float(count), "sets": float(len(found))}


@torch.no_grad()
def grounding(model: Contrastive | Matching, unseen: Sequence[PretrainingScene]) -> dict[str, float]:
    """Return how many in 100 texts about unseen scenes have their highest cell on what they name.

    A cell counts if a fifth of it is theirs. Phrases and places are what is taught, places counting where the scene has
    other things of the category; the referents of sentences are what a method begins with, before it is trained.
    """
    model.eval()
    hits: dict[str, list[bool]] = {"phrases": [], "places": [], "referents": []}
    for scene in unseen:
        places = {text: things for text, things in scene.places.items() if len(things) < _peers(scene, text)}
        referents = {text: (thing,) for text, thing in scene.sentences}
        for name, said in (("phrases", scene.phrases), ("places", places), ("referents", referents)):
            if said:
                scores = model.cells(scene, list(said)).cpu()
                asked = _asked([scene], [list(said.items())])
                share = _share(asked["labels"], asked["index"], asked["named"], scores.shape[-1])
                best = scores.flatten(1).argmax(1, keepdim=True)
                hits[name] += (share.flatten(1).gather(1, best)[:, 0] >= 0.2).tolist()
    return {name: 100 * float(np.mean(found)) for name, found in hits.items()}


def _peers(scene: PretrainingScene, text: str) -> int:
    """How many things the scene has of the category that a text names; 0 where one of them is in doubt."""
    named = [category for category in CATEGORIES if category in text]
    return len(scene.phrases.get(max(named, key=len), ()))


def images_of(batch: Sequence[PretrainingScene]) -> Tensor:
    """Return uint8 (M, 3, 128, 128)."""
    return torch.from_numpy(np.stack([scene.image for scene in batch])).permute(0, 3, 1, 2).contiguous()


def tokenised(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, Tensor]:
    """Return ``ids`` (N, L) and ``length`` (N,)."""
    tokens: Tokens = tokenizer(texts, "independent")
    return {"ids": tokens.ids, "length": tokens.length}


def _claims(scene: PretrainingScene) -> set[str]:
    """Everything that is known to be true of a scene."""
    return {
        *scene.phrases,
        *(f"the {phrase}" for phrase in scene.phrases),
        *scene.places,
        *(text for text, _ in scene.sentences),
    }


def _caption(scene: PretrainingScene, chance: np.random.Generator) -> tuple[set[str], str]:
    """A sentence of the scene, or a list of things that are in it; the claims that it makes, and its text."""
    if not scene.phrases or chance.random() < 0.5:
        text = scene.sentences[chance.integers(len(scene.sentences))][0]
        return {text}, text
    names = list(scene.phrases)
    chance.shuffle(names)
    names = names[: chance.integers(1, 4)]
    return set(names), " and ".join(_with_article(name, chance) for name in names)


def _with_article(phrase: str, chance: np.random.Generator) -> str:
    article = ARTICLES[chance.integers(len(ARTICLES))]
    return f"an {phrase}" if article == "a " and phrase[0] in "aeiou" else article + phrase


def _phrases(
    scene: PretrainingScene, phrases: int, places: int, nothing: int, chance: np.random.Generator
) -> list[tuple[str, tuple[int, ...]]]:
    """Texts with the objects that they name: some of the scene's phrases and places, and some that name nothing.

    The latter speak of what is not there, or differ from what is there by its colour alone.
    """
    said = [(_with_article(name, chance), scene.phrases[name]) for name in _some(scene.phrases, phrases, chance)]
    said += [(text, scene.places[text]) for text in _some(scene.places, places, chance)]
    absent = [*_some(scene.absent, 1, chance), *_some(scene.wrong, 1, chance)]
    return said + [(_with_article(text, chance), ()) for text in _some(absent, nothing, chance)]


def _some(texts: Iterable[str], most: int, chance: np.random.Generator) -> list[str]:
    names = list(texts)
    chance.shuffle(names)
    return names[:most]


def _asked(
    batch: Sequence[PretrainingScene], asked: Sequence[Sequence[tuple[str, tuple[int, ...]]]]
) -> dict[str, Tensor]:
    """``labels`` uint8 (M, 128, 128); of each text ``index`` (N,), its scene, and ``named`` (N, most), its things."""
    index = [i for i, said in enumerate(asked) for _ in said]
    named = torch.zeros(len(index), MOST_OBJECTS)
    for row, things in enumerate(things for said in asked for _, things in said):
        named[row, list(things)] = 1
    labels = torch.from_numpy(np.stack([scene.labels for scene in batch]))
    return {"labels": labels, "index": torch.tensor(index), "named": named}


def _share(labels: Tensor, index: Tensor, named: Tensor, grid: int) -> Tensor:
    """What of every cell belongs to the things that a text names, (N, grid, grid); things do not overlap."""
    things = torch.arange(1, MOST_OBJECTS + 1, device=labels.device)[:, None, None]
    each = F.adaptive_avg_pool2d((labels[:, None] == things).float(), grid)
    return torch.einsum("nk,nkhw->nhw", named, each[index])
