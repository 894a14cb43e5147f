"""What is known about each published dataset before any of its files is read. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class DatasetCard:
    """A published dataset.

    Attributes:
        name: public name, as in configs and sample ids.
        title: the authors' spelling.
        paper: where it was published.
        source: where its files are available from.
        licence: as stated.
        layout: the expected files, in words, with ``<root>``; says so where it is unverified.
        counts: published number of expressions in each split; empty if not known.
        image_size: (height, width) of its images in pixels, apart from known exceptions; None if they differ.
        known: number of known defects in the complete published copy, by the name of the check (see
            `rrsis_zoo.data.verify`); these do not mean that a download is damaged.
        image_names: regular expression that the names of each split's image files match.
        empty_masks: how many masks of each split are empty, if known.
        reading: how it is read where published programs differ, in words, with the names of reading options in braces;
            it belongs to every number. Empty if they agree.
        annotations_sha256: hash of each split's samples (`rrsis_zoo.data.annotations.annotations_hash`), if known.
    """

    name: str
    title: str
    paper: str
    source: str
    licence: str
    layout: str
    counts: dict[Split, int]
    image_size: tuple[int, int] | None
    image_names: dict[Split, str]
    known: dict[str, int] = field(default_factory=dict)
    empty_masks: dict[Split, int] = field(default_factory=dict)
    annotations_sha256: dict[Split, str] = field(default_factory=dict)
    reading: str = ""

    @property
    def how_to_get(self) -> str:
        """Advice to someone who does not have it: layout, source, licence, next step; one line."""
        return (
            f"expected files: {self.layout}; available from {self.source}; licence: {self.licence}; details in "
            f"docs/datasets/{self.name}.md; then run: rrsis data verify --dataset {self.name} --root ROOT"
        )


REFSEGRS = DatasetCard(
    name="refsegrs",
    title="RefSegRS",
    paper="Yuan et al., RRSIS: Referring Remote Sensing Image Segmentation, TGRS 2024, arXiv 2306.08625",
    source=(
        "RefSegRS.zip on https://huggingface.co/datasets/JessicaYuan/RefSegRS (the zip itself: the page's viewer and "
        "load_dataset show no phrases), about 3 GB"
    ),
    licence="CC-BY-4.0",
    layout=(
        "<root>/images/<id>.tif, <root>/masks/<id>.tif, <root>/output_phrase_train.txt, _val.txt and _test.txt with "
        "lines '<id> <phrase>'"
    ),
    counts={"train": 2172, "val": 431, "test": 1817},
    image_size=(512, 512),
    image_names=dict.fromkeys(SPLITS, r"\d+\.tif"),
)

RRSIS_D = DatasetCard(
    name="rrsis-d",
    title="RRSIS-D",
    paper="Liu et al., Rotated Multi-Scale Interaction Network, CVPR 2024, arXiv 2312.12470",
    source=(
        "the links (Google Drive; Baidu with code sjoe) in the README of https://github.com/Lsan2401/RMSIN, about 5 GB"
    ),
    licence="none stated; the images come from DIOR",
    layout=(
        "<root>/rrsisd/refs(unc).p, <root>/rrsisd/instances.json and <root>/images/rrsisd/JPEGImages/<5 digits>.jpg"
    ),
    counts={"train": 12181, "val": 1740, "test": 3481},
    image_size=(800, 800),
    image_names=dict.fromkeys(SPLITS, r"\d{5}\.jpg"),
    known={"empty masks": 3, "masks that differ from their image in size": 14},
    empty_masks={"train": 2, "val": 0, "test": 1},
)

RISBENCH = DatasetCard(
    name="risbench",
    title="RISBench",
    paper="Dong et al., Cross-Modal Bidirectional Interaction Model, arXiv 2410.08613",
    source="the Baidu link (code wnxg) in the README of https://github.com/HIT-SIRS/CroBIM",
    licence=(
        "stated as CC-BY-4.0 with a link to CC-BY-NC-4.0; the images come from DOTA-v2 (academic use) and DIOR: for "
        "research only"
    ),
    layout=(
        "<root>/img_rgb/<name>.png, <root>/mask/<name>.png (images/ and masks/ work too), "
        "<root>/output_phrase_train.txt, _val.txt and _test.txt with lines '<name>.png <phrase>'"
    ),
    counts={"train": 26300, "val": 10013, "test": 16159},
    image_size=(512, 512),
    # names in the validation split begin with train, too
    image_names={"train": r"train_\d+_\d+\.png", "val": r"train_\d+_\d+\.png", "test": r"test_\d+_\d+\.png"},
)
