"""Public files that the methods start from: names, origin, size. No torch."""

from __future__ import annotations

from dataclasses import dataclass

TRANSFORMERS_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of weight files in a Hugging Face repository."""

SAM_FILES = (*TRANSFORMERS_FILES, "sam_vit_b_01ec64.pth", "sam_vit_l_0b3195.pth", "sam_vit_h_4b8939.pth")
"""SAM in transformers' form, or in its authors'."""

SAM2_FILES = tuple(f"sam2_hiera_{size}.pt" for size in ("large", "base_plus", "small", "tiny"))
"""SAM 2.0 in its authors' form."""

SAM21_FILES = tuple(f"sam2.1_hiera_{size}.pt" for size in ("large", "base_plus", "small", "tiny"))
"""SAM 2.1 in its authors' form."""

SAM3_FILES = ("model.safetensors", "sam3.pt")
"""SAM 3 in transformers' form, or in its authors'; our miniature is in the authors'."""

BEIT3_FILES = ("beit3_large_patch16_224.pth", "model.safetensors")
"""BEiT-3 in its authors' form, or our miniature of it."""
BEIT3_PAGE = "https://github.com/microsoft/unilm/tree/master/beit3"

SWIN_FILES = (*TRANSFORMERS_FILES, "swin_base_patch4_window12_384_22k.pth")
"""Swin in timm's form, or in its authors'."""

UNSTATED = "none stated that we know of"


@dataclass(frozen=True)
class Repository:
    """A repository of weights.

    Attributes:
        what: the model.
        licence: of its weights.
        bytes: size of one weight file: 4 bytes per parameter, accurate to a few kilobytes, or as stated on its page.
        gated: whether its page must be asked for access first.
    """

    what: str
    licence: str
    bytes: int
    gated: bool = False

    @property
    def terms(self) -> str:
        """Licence, and what has to be done before a download."""
        gate = "; gated: ask for access on its page, then log in with `hf auth login`" if self.gated else ""
        return f"licence: {self.licence}{gate}"


REPOSITORIES: dict[str, Repository] = {
    "facebook/sam-vit-base": Repository("SAM ViT-B", "Apache-2.0", 4 * 93_735_728),
    "facebook/sam-vit-large": Repository("SAM ViT-L", "Apache-2.0", 4 * 312_343_088),
    "google/siglip-so400m-patch14-384": Repository("SigLIP so400m, 384 px", "Apache-2.0", 4 * 877_960_498),
    "google/siglip2-so400m-patch16-512": Repository("SigLIP 2 so400m, 512 px", "Apache-2.0", 4 * 1_136_555_698),
    # including the parts for video, from the table in the sam2 repository's README
    "facebook/sam2-hiera-large": Repository("SAM 2 Hiera-L", "Apache-2.0", 4 * 224_400_000),
    "facebook/sam2.1-hiera-large": Repository("SAM 2.1 Hiera-L", "Apache-2.0", 4 * 224_400_000),
    "facebook/sam2.1-hiera-base-plus": Repository("SAM 2.1 Hiera-B+", "Apache-2.0", 4 * 80_800_000),
    "facebook/sam2.1-hiera-small": Repository("SAM 2.1 Hiera-S", "Apache-2.0", 4 * 46_000_000),
    "facebook/sam2.1-hiera-tiny": Repository("SAM 2.1 Hiera-T", "Apache-2.0", 4 * 38_900_000),
    "KyanChen/RSRefSeg2": Repository("RSRefSeg 2, a file for each data set", UNSTATED, 2_900_000_000),
    # parameters of transformers' Sam3VideoModel, which the repository is for
    "facebook/sam3": Repository("SAM 3", "SAM License", 4 * 859_922_360, gated=True),
    "openai/clip-vit-base-patch32": Repository("CLIP's vocabulary, tokenizer.json", "MIT", 2_224_003),
    # in bfloat16
    "RicardoString/Think2Seg-RS-3B": Repository("Think2Seg-RS 3B", UNSTATED, 2 * 3_754_622_976),
    "RicardoString/Think2Seg-RS-7B": Repository("Think2Seg-RS 7B", UNSTATED, 2 * 8_292_166_656),
    # with the heads of pretraining
    "google-bert/bert-base-uncased": Repository("BERT base uncased", "Apache-2.0", 440_449_768),
    "timm/swin_base_patch4_window12_384.ms_in22k": Repository("Swin-B, window 12, 384 px", "MIT", 4 * 109_265_609),
    "1e12Leon/RemoteSAM": Repository("RemoteSAM, a training checkpoint", UNSTATED, 2_570_000_000),
    "timm/resnet34.a1_in1k": Repository("ResNet-34", "Apache-2.0", 4 * 21_797_672),
}
"""The repositories that the cards name."""


def size_text(size: float) -> str:
    """Return a number of bytes as readable text: ``3.5 GB``, ``375 MB``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"
