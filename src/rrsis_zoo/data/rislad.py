"""RIS-LAD (SAARN, arXiv 2507.20920), read as RRSIS-HR is.

Nobody of this project has seen the files: the layout is that of a program by others, and unverified.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rrsis_zoo.data.cards import DatasetCard
from rrsis_zoo.data.rrsisd import ReferLayout, find_rrsisd, read_rrsisd
from rrsis_zoo.data.writing import RRSISDWriter

CARD = DatasetCard(
    name="ris-lad",
    title="RIS-LAD",
    paper="SAARN, arXiv 2507.20920",
    source="the Google Drive link in the README of the RIS-LAD repository of https://github.com/AHideoKuzeA",
    licence="research use only; the images come from CODrone",
    layout=(
        "(layout unverified) <root>/ris_lad/refs(unc).p, <root>/ris_lad/instances.json and "
        "<root>/images/ris_lad/JPEGImages/<file>"
    ),
    counts={},
    image_size=None,
    image_names={},
)

LAYOUT = ReferLayout(CARD, "ris_lad")

find_rislad = partial(find_rrsisd, layout=LAYOUT)
read_rislad = partial(read_rrsisd, layout=LAYOUT)


class RISLADWriter(RRSISDWriter):
    """RIS-LAD as it is read here: as RRSIS-D, with a class list of its own."""

    title, folders, named = "RIS-LAD", (Path("images/ris_lad/JPEGImages"), Path("ris_lad")), False
