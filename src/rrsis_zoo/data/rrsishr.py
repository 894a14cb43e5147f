"""RRSIS-HR (CADFormer, JSTARS 2025): RRSIS-D's layout and rules with other names; the class list is the file's own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rrsis_zoo.data.cards import DatasetCard
from rrsis_zoo.data.rrsisd import ReferLayout, find_rrsisd, read_rrsisd
from rrsis_zoo.data.writing import RRSISDWriter

CARD = DatasetCard(
    name="rrsis-hr",
    title="RRSIS-HR",
    paper="CADFormer, JSTARS 2025, 10.1109/JSTARS.2025.3576595",
    source="the links (Baidu with code wust, OneDrive, Google Drive) in the README of "
    "https://github.com/zxk688/CADFormer",
    licence="none stated; the images come from RSVG-HR",
    layout="<root>/rrsishr/refs(unc).p, <root>/rrsishr/instances.json and <root>/images/rrsishr/JPEGImages/<file>",
    counts={"train": 2118, "val": 268, "test": 264},
    image_size=(1024, 1024),
    image_names={},
)

LAYOUT = ReferLayout(CARD, "rrsishr")

find_rrsishr = partial(find_rrsisd, layout=LAYOUT)
read_rrsishr = partial(read_rrsisd, layout=LAYOUT)


class RRSISHRWriter(RRSISDWriter):
    """RRSIS-HR: as RRSIS-D, with a class list of its own."""

    title, folders, named = "RRSIS-HR", (Path("images/rrsishr/JPEGImages"), Path("rrsishr")), False
