"""Which scenes are asked about, and what the data know about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.records import Record, Split
from rrsis_zoo.data.synthetic.contents import Contents, read_contents


def some_scenes(records: Sequence[Record], limit: int | None) -> list[Record]:
    """Return the records of ``limit`` scenes, spread evenly over the split; of all of them for None."""
    scenes = list(dict.fromkeys(record.scene_id for record in records))
    if limit is None or limit >= len(scenes):
        return list(records)
    kept = {scenes[i * len(scenes) // limit] for i in range(limit)}
    return [record for record in records if record.scene_id in kept]


def contents_of(data: RRSISDataModule, split: Split) -> Mapping[str, Contents] | None:
    """Return image file -> everything in it; None for data that do not list it."""
    return read_contents(data.root_folder) if data.dataset == "synthetic" else None
