"""Shape-only stand-ins for the data flows of the two other methods, so that the contract fits more than one.

They compute nothing sensible, but every arrow of the real methods is there: what is made when, from what, and who
reads it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from rrsis_zoo.models.base import ReferringSegmenter, check_images
from rrsis_zoo.models.layers.geometry import normalise, resize, stretch, stretch_mask
from rrsis_zoo.models.losses import binary_cross_entropy
from rrsis_zoo.models.tokenizers import SigLIPTokenizer
from rrsis_zoo.models.types import ImageState, Prompts, unread_positions


@dataclass(frozen=True)
class StandInConfig:
    side: int = 64
    width: int = 16


class _WithTokenizer(ReferringSegmenter):
    presets = {"tiny": StandInConfig()}  # noqa: RUF012

    def __init__(self, config):
        super().__init__()
        self.config = config

    tokenizer_kind = SigLIPTokenizer
    text_limits = (200, 64)

    @property
    def sides(self):
        return self.config.side, self.config.side // 4

    def target(self, masks):
        return torch.stack([stretch_mask(m, self.config.side)[None] for m in masks])


class TextInTrunk(_WithTokenizer):
    """RS2-SAM2's flow: two sizes made from the native image, an encoder that reads image and text together, a
    pseudo-mask that is a probability, text inside the image trunk (nothing of it is free of text), log-odds 2p - 1,
    and a loss term on a per-sample scalar. Pads are seen by the fusion unless a key mask hides them.
    """

    name = "standin-text-in-trunk"

    def __init__(self, config):
        super().__init__(config)
        c = config.width
        self.words = nn.Embedding(200, c)
        self.patch = nn.Conv2d(3, c, 8, 8)
        self.union = nn.MultiheadAttention(c, 2, batch_first=True)
        self.cls = nn.Linear(c, c)
        self.product = nn.Linear(c, 1)
        self.weight = nn.Linear(c, 1)
        self.trunk = nn.Conv2d(3, c, 4, 4)
        self.fusion = nn.MultiheadAttention(c, 2, batch_first=True)
        self.decoder = nn.Linear(c, 1)
        self.dead = nn.Linear(c, 2)
        self.freeze_inert_parameters()

    def prepare(self, images):
        check_images(images)
        return {
            "sam": torch.stack([stretch(i, self.config.side) for i in images]),
            "union": torch.stack([stretch(i, self.config.side // 2) for i in images]),
        }

    def encode(self, views, sizes):
        views = {name: normalise(v, (0.5,) * 3, (0.2,) * 3) for name, v in views.items()}
        return ImageState(views, sizes, torch.full_like(sizes, self.config.side))

    def localise(self, state, tokens, image_index):
        patches = self.patch(state.features["union"][image_index])
        side, visual = patches.shape[-1], patches.flatten(2).transpose(1, 2)
        hidden = unread_positions(tokens.length, tokens.ids.shape[1])
        text = self.words(tokens.ids)
        both = torch.cat([visual, text], 1)
        mask = torch.cat([torch.zeros(len(text), visual.shape[1], dtype=torch.bool), hidden], 1)
        both = both + self.union(both, both, both, key_padding_mask=mask, need_weights=False)[0]
        visual, text = both[:, : visual.shape[1]], both[:, visual.shape[1] :]
        cls = self.cls(text[:, :1])
        pseudo = self.product(visual * cls).sigmoid().transpose(1, 2).unflatten(2, (side, side))
        aux = {"hidden": hidden, "w": self.weight(text[:, 0])}
        return Prompts(cls, resize(pseudo, (self.config.side // 4,) * 2), pseudo, words=text, aux=aux)

    def segment(self, state, prompts, image_index):
        x = self.trunk(state.features["sam"][image_index])
        side, x = x.shape[-1], x.flatten(2).transpose(1, 2)
        words, hidden = prompts.words, prompts.aux["hidden"]
        x = x + self.fusion(x, words, words, key_padding_mask=hidden, need_weights=False)[0]
        x = x + prompts.dense.flatten(2).transpose(1, 2) + prompts.sparse
        p = self.decoder(x).transpose(1, 2).unflatten(2, (side, side))
        return 2 * p - 1

    def restore(self, prediction):
        out = []
        for row, i in zip(prediction.mask_logits.split(1), prediction.image_index.tolist(), strict=True):
            h, w = prediction.state.sizes[i].tolist()
            out.append(resize(resize(row, (self.config.side,) * 2), (h, w))[0, 0])
        return out

    def loss_terms(self, prediction, target):
        w = prediction.prompts.aux["w"]
        return {
            "loss_ce": binary_cross_entropy(prediction.mask_logits, target),
            "loss_tbl": 0.2 * (w[:, :, None, None] ** 2 * (target == 1)).mean(),
        }

    def parameter_groups(self):
        new = [*self.fusion.parameters(), *self.product.parameters()]
        rest = [p for p in self.parameters() if p.requires_grad and not any(p is q for q in new)]
        return {"new": new, "rest": rest}

    def inert_prefixes(self):
        return {"dead.": "never used by the published program"}


class TwoQuerySets(_WithTokenizer):
    """RSRefSeg 2's flow: keep-aspect input, text-free features, two query sets that a loss reads, a contrastive loss
    between masked *original* image features (from the state) and the second set, mask prompt as logits.
    """

    name = "standin-two-query-sets"

    def __init__(self, config):
        super().__init__(config)
        c = config.width
        self.words = nn.Embedding(200, c)
        self.clip = nn.Conv2d(3, c, 8, 8)
        self.sam = nn.Conv2d(3, c, 4, 4)
        self.code1, self.code2 = nn.Parameter(torch.randn(3, c)), nn.Parameter(torch.randn(3, c))
        self.second = nn.Linear(c, c)
        self.scale = nn.Parameter(torch.tensor(0.0))
        self.decoder = nn.Conv2d(c, 1, 1)

    def prepare(self, images):
        check_images(images)
        side, out = self.config.side, []
        for image in images:
            h, w = self._fit(*image.shape[-2:])
            small = resize(image[None].float() / 255, (h, w))[0]
            out.append(F.pad(small, (0, side - w, 0, side - h)))
        return {"image": torch.stack(out)}

    def _fit(self, h, w):
        scale = self.config.side / max(h, w)
        return max(1, round(h * scale)), max(1, round(w * scale))

    def encode(self, views, sizes):
        fitted = torch.tensor([self._fit(*s) for s in sizes.tolist()])
        image = views["image"]
        return ImageState({"clip": self.clip(image), "sam": self.sam(image)}, sizes, fitted)

    def localise(self, state, tokens, image_index):
        text = self.words(tokens.ids)
        read = (torch.arange(tokens.ids.shape[1]) < tokens.length[:, None])[..., None]
        pooled = (text * read).sum(1) / tokens.length[:, None]
        q1, q2 = pooled[:, None] + self.code1, self.second(pooled[:, None] + self.code2)
        refined = state.features["clip"][image_index] * q1.mean(1)[..., None, None].sigmoid()
        dense = torch.einsum("nc,nchw->nhw", pooled, refined)[:, None] * self.scale.exp()
        aux = {"q1": q1, "q2": q2, "refined": refined, "dense": dense}
        return Prompts(q2, dense, dense.sigmoid(), aux=aux)

    def segment(self, state, prompts, image_index):
        x = state.features["sam"][image_index]
        x = x + resize(prompts.dense, (x.shape[-2], x.shape[-1])) + prompts.sparse.mean(1)[..., None, None]
        return self.decoder(x)

    def restore(self, prediction):
        out, side = [], self.config.side
        for row, i in zip(prediction.mask_logits.split(1), prediction.image_index.tolist(), strict=True):
            (h, w), (fh, fw) = prediction.state.sizes[i].tolist(), prediction.state.fitted[i].tolist()
            out.append(resize(resize(row, (side, side))[..., :fh, :fw], (h, w))[0, 0])
        return out

    def loss_terms(self, prediction, target):
        aux = prediction.prompts.aux
        original = prediction.state.features["clip"][prediction.image_index]  # no copies were kept for it
        inside = F.adaptive_avg_pool2d((target == 1).float(), original.shape[-2:])
        v = F.normalize((original * inside).mean((2, 3)), dim=-1)
        t = F.normalize(aux["q2"].mean(1), dim=-1)
        cosine = F.cosine_similarity(aux["q1"].mean(1), aux["q2"].mean(1))
        return {
            "loss_ce": 5 * binary_cross_entropy(prediction.mask_logits, target),
            "loss_orthogonal": 0.5 * (cosine**2).mean(),
            "loss_contrastive": 0.5 * F.cross_entropy(v @ t.T, torch.arange(len(v))),
        }

    def parameter_groups(self):
        return {"all": list(self.parameters())}
