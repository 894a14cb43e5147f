"""The cascaded second-order prompter of RSRefSeg 2: from a sentence and an image to SAM's prompts.

    sentence ── two query sets q1, q2 ─┬─ decomposition: each reads the sentence and the other one
                                       ├─ first order:  the image reads q1
                                       └─ second order: the edited image reads q2; prompt tokens read q2 and the image

Section numbers (§) and quirks (Q) are those of docs/methods/rsrefseg2.md. Symbols: N expressions, L words, K queries of
a set, n prompt tokens, C SigLIP width, D prompt width, h × w SigLIP grid; T word features, g the sentence vector, V
patch features, I1 and I2 the image tokens after the first and the second order, P the prompt tokens, p1, p2, pI, pP
learned codes that are added to queries and keys and never to values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.deferred import deferred
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.models.backbones.siglip import TextFeatures
from rrsis_zoo.models.configuration import Count, Depth, check_choices
from rrsis_zoo.models.layers.correlation import correlate, correlate_enlarged
from rrsis_zoo.models.layers.precision import cast, fourier_code

with deferred("segment_anything"):
    from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom


@dataclass(frozen=True)
class PrompterConfig:
    """Configuration of the prompter; the defaults are the released ones.

    Attributes:
        queries: K, in each of the two sets.
        prompts: n, sparse prompts for SAM.
        heads, attention_width, mlp_width: of every attention and MLP inside.
        decomposition_depth, first_order_depth, second_order_depth: blocks of the three stages. Without decomposition
            both sets are the words themselves.
        query_start: start of both sets: the words averaged to K (``text_pool``), learned tables, or zero.
        query_code: whether the sets have codes p1, p2; with ``text_pool`` and zero only codes distinguish the sets.
        prompt_start, prompt_code: the same for the prompt tokens.
        image_code: pI: learned, SAM's random Fourier code, or none.
        image_code_cells: side of the learned code; it is resized to other grids.
        dense_from: the vector that is correlated with the map to give SAM's mask prompt: the sentence vector g, a
            prompt token of its own, set 2 after the decomposition or after the second order; ``none`` for no mask
            prompt.
        dense_projection: an MLP on that vector.
        dense_map: the map: I2 (``refined``) or V (``original``).
        dense_conv: two 3 × 3 convolutions on the map.
        dense_enlarge: whether the map is enlarged ``before`` the correlation, or the similarities ``after`` it.
    """

    queries: Count = 3
    prompts: Count = 9
    heads: Count = 8
    attention_width: Count = 512
    mlp_width: Count = 512
    decomposition_depth: Depth = 2
    first_order_depth: Depth = 2
    second_order_depth: Depth = 2
    query_start: Literal["text_pool", "learned", "zero"] = "text_pool"
    query_code: bool = True
    prompt_start: Literal["learned", "zero"] = "learned"
    prompt_code: bool = True
    image_code: Literal["learned", "fourier", "none"] = "learned"
    image_code_cells: Count = 32
    dense_from: Literal["sentence", "prompt", "queries", "refined_queries", "none"] = "sentence"
    dense_projection: bool = False
    dense_map: Literal["refined", "original"] = "refined"
    dense_conv: bool = True
    dense_enlarge: Literal["before", "after"] = "before"

    def __post_init__(self) -> None:
        """Refuse impossible settings.

        Raises:
            ConfigError: an unknown choice; tokens that start at zero without a code; pooling of queries that are words,
                whose number varies; no second order; a width that is not a multiple of the heads.
        """
        check_choices(self, "prompter")
        for kind in ("query", "prompt"):  # Q9
            if getattr(self, f"{kind}_start") == "zero" and not getattr(self, f"{kind}_code"):
                raise ConfigError(
                    f"prompter.{kind}_start zero needs prompter.{kind}_code, because equal tokens stay equal"
                )
        if self.dense_from in ("queries", "refined_queries") and not self.decomposition_depth:
            raise ConfigError(f"prompter.dense_from {self.dense_from} needs prompter.decomposition_depth of 1 or more")
        if self.second_order_depth < 1:
            raise ConfigError(
                "prompter.second_order_depth must be 1 or more: otherwise the prompt tokens contain no information"
            )
        if self.attention_width % self.heads:
            raise ConfigError(
                f"prompter.attention_width must be a multiple of prompter.heads ({self.heads}), got "
                f"{self.attention_width}"
            )


@dataclass
class Cascade:
    """The prompter's output for N expressions.

    Attributes:
        q1, q2: (N, K, C) the query sets after the decomposition, K = L without one.
        hidden: (N, K) bool, entries of the sets that are not words; None if all are.
        I2: (N, C, h, w) the image after the second order.
        sparse: (N, n, D) SAM's prompt tokens.
        u: (N, C) the vector that is correlated with the map; None without a mask prompt.
        W: (N, C, h, w) that map; None without a mask prompt.
    """

    q1: Tensor
    q2: Tensor
    hidden: Tensor | None
    I2: Tensor
    sparse: Tensor
    u: Tensor | None
    W: Tensor | None


class CascadedPrompter(nn.Module):
    """§5, step by step."""

    def __init__(self, config: PrompterConfig, C: int, D: int) -> None:
        super().__init__()
        self.config = config
        K, n = config.queries, config.prompts + (config.dense_from == "prompt")
        self.p1 = nn.Parameter(torch.randn(K, C)) if config.query_code else None
        self.p2 = nn.Parameter(torch.randn(K, C)) if config.query_code else None
        learned = config.query_start == "learned"
        self.q1 = nn.Parameter(torch.randn(K, C)) if learned else None
        self.q2 = nn.Parameter(torch.randn(K, C)) if learned else None
        self.pP = nn.Parameter(torch.randn(n, D)) if config.prompt_code else None
        self.P = nn.Parameter(torch.randn(n, D)) if config.prompt_start == "learned" else None
        self.image_code = ImageCode(config, C)
        self.shape = (n, D)

        self.decomposition = nn.ModuleList(Decomposition(config, C) for _ in range(config.decomposition_depth))
        self.first_order = nn.ModuleList(FirstOrder(config, C) for _ in range(config.first_order_depth))
        self.second_order = nn.ModuleList(SecondOrder(config, C, D) for _ in range(config.second_order_depth))
        self.sparse_mlp = MLP(D, config.mlp_width, D)
        self.dense = None if config.dense_from == "none" else DensePrompt(config, C, D)

    def forward(self, V: Tensor, text: TextFeatures) -> Cascade:
        """Run the cascade.

        Args:
            V: (N, C, h, w).
            text: of N expressions. Positions that are not read (text mode ``independent``) are hidden.
        """
        T, N, (h, w) = text.tokens, len(V), V.shape[-2:]
        no_words = text.unread()  # (N, L)

        # decomposition (steps 1 and 2): without it the words themselves are both sets, and have no code
        if self.config.decomposition_depth:
            q1, q2 = self.initial_queries(text)
            hidden, p1, p2 = None, self.p1, self.p2
            for block in self.decomposition:
                q1, q2 = block(q1, q2, T, p1, p2, no_words)
        else:
            q1, q2, hidden, p1, p2 = T, T, no_words, None, None

        # first order (steps 3 and 4): the image reads set 1
        pI = self.image_code(h, w)
        I1, edited1 = V.flatten(2).transpose(1, 2), q1
        for block in self.first_order:
            I1, edited1 = block(I1, edited1, pI, p1, hidden)

        # second order (step 5): the edited image reads set 2, the prompt tokens collect from both
        P = V.new_zeros(N, *self.shape) if self.P is None else self.P.expand(N, -1, -1)
        I2, refined2 = I1, q2
        for block in self.second_order:
            P, I2, refined2 = block(P, I2, refined2, self.pP, pI, p2, hidden)
        I2 = I2.transpose(1, 2).unflatten(2, (h, w))

        # prompts (steps 6 and 7)
        if self.dense is None:
            return Cascade(q1, q2, hidden, I2, self.sparse_mlp(P), None, None)
        if self.config.dense_from == "prompt":
            vector, P = P[:, 0], P[:, 1:]
        else:
            vector = {"sentence": text.pooled, "queries": q2, "refined_queries": refined2}[self.config.dense_from]
        u, W = self.dense(vector, I2 if self.config.dense_map == "refined" else V)
        return Cascade(q1, q2, hidden, I2, self.sparse_mlp(P), u, W)

    def initial_queries(self, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """Step 1: initial values of the two sets (N, K, C)."""
        N, K, C = len(text.tokens), self.config.queries, text.tokens.shape[-1]
        if self.config.query_start == "text_pool":
            pooled = adaptive_mean(text.tokens, text.length, K)
            return pooled, pooled
        if self.q1 is not None and self.q2 is not None:
            return self.q1.expand(N, -1, -1), self.q2.expand(N, -1, -1)
        zero = text.tokens.new_zeros(N, K, C)
        return zero, zero

    def belief(self, cascade: Cascade, sentence: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        """Return the similarity (N, 1, h, w) of every cell and the referent, as log-odds on SigLIP's own grid.

        Without a mask prompt it is the sentence (N, C) against the refined map.
        """
        u = sentence if cascade.u is None else cascade.u
        W = cascade.I2 if cascade.W is None else cascade.W
        return scale.exp() * correlate(u, W) + bias

    def dense_prompt(self, cascade: Cascade, side: int, scale: Tensor, bias: Tensor) -> Tensor | None:
        """Step 7: SAM's mask prompt (N, 1, side, side) as log-odds; None if it has none."""
        if cascade.u is None or cascade.W is None:
            return None
        if self.config.dense_enlarge == "before":
            return scale.exp() * correlate_enlarged(cascade.u, cascade.W, side) + bias
        small = scale.exp() * correlate(cascade.u, cascade.W) + bias
        return F.interpolate(small, size=(side, side), mode="bilinear", align_corners=True)


# -- §4 building blocks ------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Multi-head attention with a separate inner width; every projection has a bias."""

    def __init__(self, config: PrompterConfig, width: int, source_width: int) -> None:
        super().__init__()
        self.heads, inner = config.heads, config.attention_width
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(source_width, inner)
        self.v_proj = nn.Linear(source_width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None) -> Tensor:
        """Return (N, Q, width) for query (N, Q, width), key and value (N, S, source_width), hidden (N, S)."""
        q, k, v = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        seen = None if hidden is None else ~hidden[:, None, None, :]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, width_in: int, hidden: int, width_out: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width_in, hidden), nn.Linear(hidden, width_out)])

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (…, width_in)."""
        return self.layers[1](F.gelu(self.layers[0](x)))


class Read(nn.Module):
    """x reads from y, post-norm: x ← LN(x + attention), and with ``think`` x ← LN(x + MLP)."""

    def __init__(self, config: PrompterConfig, width: int, source_width: int, think: bool = False) -> None:
        super().__init__()
        self.attention = Attention(config, width, source_width)
        self.norm = nn.LayerNorm(width)
        self.mlp = MLP(width, config.mlp_width, width) if think else None
        self.mlp_norm = nn.LayerNorm(width) if think else None

    def forward(
        self, x: Tensor, x_code: Tensor | None, y: Tensor, y_code: Tensor | None, hidden: Tensor | None = None
    ) -> Tensor:
        """Return x (N, Q, width) after reading y (N, S, source_width) without its ``hidden`` (N, S) positions."""
        x = self.norm(x + self.attention(_coded(x, x_code), _coded(y, y_code), y, hidden))
        if self.mlp is not None and self.mlp_norm is not None:
            x = self.mlp_norm(x + self.mlp(x))
        return x


class Decomposition(nn.Module):
    """A block in which two query sets divide the meaning of a sentence."""

    def __init__(self, config: PrompterConfig, C: int) -> None:
        super().__init__()
        self.q1_self, self.q2_self = Read(config, C, C), Read(config, C, C)
        self.q1_text, self.q2_text = Read(config, C, C, think=True), Read(config, C, C, think=True)
        self.q1_q2, self.q2_q1 = Read(config, C, C, think=True), Read(config, C, C, think=True)

    def forward(
        self, q1: Tensor, q2: Tensor, T: Tensor, p1: Tensor | None, p2: Tensor | None, no_words: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return both sets (N, K, C) after reading themselves, the words T (N, L, C) and each other."""
        q1 = self.q1_self(q1, p1, q1, p1)
        q2 = self.q2_self(q2, p2, q2, p2)
        q1 = self.q1_text(q1, p1, T, None, no_words)
        q2 = self.q2_text(q2, p2, T, None, no_words)
        q1 = self.q1_q2(q1, p1, q2, p2)
        q2 = self.q2_q1(q2, p2, q1, p1)  # sees the set 1 that has just read set 2
        return q1, q2


class FirstOrder(nn.Module):
    """A block in which set 1 edits the image."""

    def __init__(self, config: PrompterConfig, C: int) -> None:
        super().__init__()
        self.q1_self = Read(config, C, C)
        self.image_q1 = Read(config, C, C, think=True)

    def forward(
        self, image: Tensor, q1: Tensor, pI: Tensor | None, p1: Tensor | None, hidden: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the image tokens (N, hw, C) after reading set 1, and set 1 (N, K, C) after reading itself."""
        q1 = self.q1_self(q1, p1, q1, p1, hidden)
        return self.image_q1(image, pI, q1, p1, hidden), q1


class SecondOrder(nn.Module):
    """A block in which set 2 edits the image again and prompt tokens collect from set 2 and from the image."""

    def __init__(self, config: PrompterConfig, C: int, D: int) -> None:
        super().__init__()
        self.q2_self = Read(config, C, C)
        self.image_q2 = Read(config, C, C, think=True)
        self.prompts_self = Read(config, D, D)
        self.prompts_q2 = Read(config, D, C, think=True)
        self.prompts_image = Read(config, D, C, think=True)

    def forward(
        self,
        P: Tensor,
        image: Tensor,
        q2: Tensor,
        pP: Tensor | None,
        pI: Tensor | None,
        p2: Tensor | None,
        hidden: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return prompt tokens (N, n, D), image tokens (N, hw, C) and set 2 (N, K, C)."""
        q2 = self.q2_self(q2, p2, q2, p2, hidden)
        image = self.image_q2(image, pI, q2, p2, hidden)
        P = self.prompts_self(P, pP, P, pP)
        P = self.prompts_q2(P, pP, q2, p2, hidden)
        P = self.prompts_image(P, pP, image, pI)
        return P, image, q2


class ImageCode(nn.Module):
    """§5.3: pI (1, hw, C), row-major, or None."""

    def __init__(self, config: PrompterConfig, C: int) -> None:
        super().__init__()
        cells = config.image_code_cells
        self.table = nn.Parameter(torch.randn(1, C, cells, cells)) if config.image_code == "learned" else None
        self.fourier = PositionEmbeddingRandom(C // 2, scale=C / 2) if config.image_code == "fourier" else None

    def forward(self, h: int, w: int) -> Tensor | None:
        """Return the code of an h × w grid."""
        if self.fourier is not None:
            return fourier_code(self.fourier, (h, w)).flatten(1).T.unsqueeze(0)
        if self.table is None:
            return None
        code = self.table
        if code.shape[-2:] != (h, w):
            code = cast(F.interpolate(code.float(), size=(h, w), mode="bicubic", align_corners=True), code)
        return code.flatten(2).transpose(1, 2)


class DensePrompt(nn.Module):
    """§5.7: the vector u and the map W whose correlation is SAM's mask prompt."""

    def __init__(self, config: PrompterConfig, C: int, D: int) -> None:
        super().__init__()
        self.pool = QueryPool(C, config.queries) if config.dense_from.endswith("queries") else None
        width = D if config.dense_from == "prompt" else C
        self.projection = MLP(width, config.mlp_width, C) if config.dense_projection else None
        if width != C and self.projection is None:
            raise ConfigError(
                f"prompter.dense_from prompt gives a vector of width {D}, but the map has {C}: set dense_projection"
            )
        self.conv = None
        if config.dense_conv:
            self.conv = nn.Sequential(
                nn.Conv2d(C, C // 2, 3, padding=1),
                nn.BatchNorm2d(C // 2),  # of each process alone (Q14)
                nn.GELU(),
                nn.Conv2d(C // 2, C, 3, padding=1),
            )

    def forward(self, vector: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return u (N, C) and W (N, C, h, w) from a vector (N, …) or queries (N, K, C), and a map (N, C, h, w)."""
        u = vector if self.pool is None else self.pool(vector)
        u = u if self.projection is None else self.projection(u)
        return u, image if self.conv is None else self.conv(image)


class QueryPool(nn.Module):
    """§5.7: K queries (N, K, C) to one vector (N, C)."""

    def __init__(self, C: int, K: int) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(C, C), nn.GELU())
        self.together = nn.Sequential(nn.Conv1d(C, C, K), nn.BatchNorm1d(C), nn.GELU(), nn.Conv1d(C, C, 1))

    def forward(self, queries: Tensor) -> Tensor:
        """Apply to (N, K, C)."""
        return self.together(self.each(queries).transpose(1, 2)).squeeze(-1)


def adaptive_mean(tokens: Tensor, length: Tensor, bins: int) -> Tensor:
    """Average each row's first ``length`` tokens to ``bins``, like ``adaptive_avg_pool1d`` for each row separately.

    Bin i holds the tokens from ⌊i · length / bins⌋ up to ⌈(i + 1) · length / bins⌉, so that few tokens are shared.

    Args:
        tokens: (N, L, C).
        length: (N,) int64 in 1 … L.
        bins: K.

    Returns:
        (N, K, C).
    """
    i = torch.arange(bins, device=tokens.device)
    start = (i * length[:, None]) // bins  # (N, K)
    end = ((i + 1) * length[:, None] + bins - 1) // bins
    t = torch.arange(tokens.shape[1], device=tokens.device)
    inside = (t >= start[..., None]) & (t < end[..., None])  # (N, K, L)
    return (inside.to(tokens.dtype) @ tokens) / (end - start)[..., None]


def _coded(x: Tensor, code: Tensor | None) -> Tensor:
    return x if code is None else x + code
