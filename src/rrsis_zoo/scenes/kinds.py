"""The kinds of file that a scene's outcome becomes, each with its ending; a new kind is a new entry here.

No heavy imports: the command decides by this table whether an input is a scene.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rrsis_zoo.scenes.outcome import Outcome


@dataclass(frozen=True)
class SceneKind:
    """A kind of output.

    Attributes:
        name: as in ``--kind``.
        what: it is, for the help.
        suffix: of a file that the user names, and what follows an input's name in a folder.
        map: whether only scenes have it, and not pictures.
    """

    name: str
    what: str
    suffix: str
    map: bool

    @property
    def ending(self) -> str:
        """What follows an input's name in a folder."""
        return f".mask{self.suffix}" if self.name == "tif" else self.suffix

    def numbered(self, path: Path, sentences: int) -> tuple[Path, ...]:
        """Return the files for a path: one for all sentences."""
        return (path,)


SCENE_KINDS: Mapping[str, SceneKind] = {
    kind.name: kind
    for kind in (
        SceneKind("gpkg", "a layer of polygons, GeoPackage", ".gpkg", True),
        SceneKind("geojson", "a layer of polygons in degrees, GeoJSON", ".geojson", True),
        SceneKind("parquet", "a layer of polygons, GeoParquet", ".parquet", True),
        SceneKind("tif", "masks on the raster's grid, a band for each sentence", ".tif", True),
        SceneKind("png", "the scene with masks, sentences and scores", ".png", False),
        SceneKind("json", "COCO run lengths with sentences and scores", ".json", False),
    )
}
"""By name; the first with a suffix is what ``--out FILE`` means by it."""


def write(kind: SceneKind, outcome: Outcome, path: Path) -> None:
    """Write an outcome.

    Raises:
        ConfigError: a CRS that the kind cannot have.
        OutputError: it cannot be written.
    """
    from rrsis_zoo.scenes import pictures, rasters, vectors

    writers = {
        "gpkg": vectors.write_geopackage,
        "geojson": vectors.write_geojson,
        "parquet": vectors.write_geoparquet,
        "tif": rasters.write_masks,
        "png": pictures.write_drawing,
        "json": pictures.write_record,
    }
    writers[kind.name](outcome, path)
