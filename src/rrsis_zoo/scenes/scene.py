"""`segment_scene`: a raster of any size, some sentences, a layer of polygons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.files import expanded
from rrsis_zoo.imagery.stretch import Stretch
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.outputs.found import Source
from rrsis_zoo.scenes.extra import check_extra
from rrsis_zoo.scenes.settings import Find, Levels, Presence, Settings
from rrsis_zoo.weights.checkpoints import weights_hash

if TYPE_CHECKING:
    import geopandas


def segment_scene(
    model: ReferringSegmenter,
    path: str | Path,
    texts: str | Sequence[str],
    *,
    find: Find = "one",
    gsd: float | None = None,
    window: int | None = None,
    overlap: float = 0.25,
    aoi: str | Path | None = None,
    bands: Sequence[int] | None = None,
    stretch: str | Stretch | None = None,
    threshold: float = 0.5,
    min_area: float = 0.0,
    simplify: float = 0.0,
    presence: Presence | None = None,
    levels: Levels | None = None,
    batch: int | None = None,
    weights_sha256: str | None = None,
) -> geopandas.GeoDataFrame:
    """Find what each sentence refers to in a raster of any size, as polygons on the map.

    Args:
        model: from `rrsis_zoo.load_model`; it is left in evaluation mode.
        path: of a raster that GDAL opens.
        texts: one sentence or several.
        find: ``one``, the one referent of each sentence in the whole scene; ``all``, everything that fits.
        gsd: metres on the ground of a pixel as the model sees it; None for the raster's own.
        window: side of a window in pixels of that size; None for the side of the model's input.
        overlap: share of a window that it has in common with the next one, 0 to 0.9.
        aoi: file of polygons in any CRS: only windows that touch them are read, and nothing outside is found.
        bands: numbers of the bands that are red, green and blue, or of one that is grey; None for what the file says.
        stretch: how values become 8 bits, as `Stretch.parse` reads it; None for 2,98 of more than 8 bits.
        threshold: probability above which a pixel is foreground, between 0 and 1.
        min_area: smallest polygon in square metres.
        simplify: tolerance of the outlines in metres; 0 keeps the edges of the pixels.
        presence: what an answer needs, 0 to 1, or ``"off"``; None for the threshold of the model's calibration.
        levels: which pixel sizes are looked at: ``finest``, windows at ``gsd`` alone; ``overview``, the whole scene
            in one window alone; ``all``, both and every power of two between them. None for ``all`` with find
            ``one``, and ``finest`` with find ``all``.
        batch: windows that go through the model together; None chooses.
        weights_sha256: of the model if it is at hand; None computes it.

    Returns:
        One row a polygon, in the raster's CRS (in pixels, x right and y down, if it has none), with the columns
        ``text``; ``score``, the mean probability inside; ``presence``, NaN without a calibration; ``area_m2``, on the
        ellipsoid, NaN without a CRS; ``area_px``, in pixels of the raster; ``model``, ``weights_sha256``, ``gsd_m``
        (of the pixels that the model saw), ``window_px``, ``input``, ``version`` and ``geometry``. Sentences without
        a polygon are in ``attrs["rrsis_zoo"]["without"]`` with the reason.

    Raises:
        ConfigError: a value that cannot be used, also for this raster; an area of interest that misses it; or the
            extra ``scenes`` is not installed.
        MissingDataError, DataFormatError: a file that is not there, damaged, or without any pixel that has a value.
        WeightsMismatchError: weights or outputs that are not finite.
    """
    check_extra()
    settings = Settings(
        find=find,
        gsd=gsd,
        window=window,
        overlap=overlap,
        aoi=None if aoi is None else expanded(aoi),
        bands=None if bands is None else tuple(bands),
        stretch=Stretch.parse(stretch) if isinstance(stretch, str) else stretch,
        threshold=threshold,
        min_area=min_area,
        simplify=simplify,
        presence="calibrated" if presence is None else presence,
        levels=levels,
        batch=batch,
    )
    from rrsis_zoo.scenes.finding import find_in_scene

    source = Source(model.name, model.name, weights_sha256 or weights_hash(model))
    return find_in_scene(model, source, expanded(path), checked_texts(texts), settings).table()


def checked_texts(texts: str | Sequence[str]) -> tuple[str, ...]:
    """Return the sentences; one that is given twice is asked once.

    Raises:
        ConfigError: none, or one that is not a text.
    """
    sentences = (texts,) if isinstance(texts, str) else tuple(texts)
    if not sentences:
        raise ConfigError("texts is empty: give at least one sentence")
    if others := [type(text).__name__ for text in sentences if not isinstance(text, str)]:
        raise ConfigError(f"texts must be a sentence or a list of sentences, got a list with {others[0]}")
    return tuple(dict.fromkeys(sentences))
