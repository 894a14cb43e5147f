"""Masks and probabilities as GeoTIFFs on the raster's grid, written a strip at a time."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window as Part

from rrsis_zoo.errors import OutputError
from rrsis_zoo.files import reason, writing
from rrsis_zoo.scenes.asking import probabilities
from rrsis_zoo.scenes.blend import Rows
from rrsis_zoo.scenes.outcome import Outcome
from rrsis_zoo.scenes.raster import Raster

UNKNOWN = 255
"""Value of a probability where nothing is known: outside the area of interest, or where the raster has no value."""

_BLOCK = 512

_CLOUD = {"compress": "DEFLATE", "predictor": "YES", "bigtiff": "IF_SAFER", "resampling": "AVERAGE", "num_threads": "1"}


def write_masks(outcome: Outcome, path: Path) -> None:
    """Write a band a sentence: 1 where one of its polygons is, 0 elsewhere.

    Raises:
        OutputError: it cannot be written.
    """
    raster = outcome.raster
    with _failing(path), writing(path) as temporary:
        with _created(temporary, raster, outcome.texts, nbits=1) as put:
            for top in range(0, raster.height, _BLOCK):
                shape = (min(_BLOCK, raster.height - top), raster.width)
                for n in range(len(outcome.texts)):
                    put(n, top, outcome.mask(n, top, 0, shape).astype(np.uint8))
        _check(temporary, raster)


@contextlib.contextmanager
def probability_file(path: Path, texts: Sequence[str], raster: Raster) -> Iterator[Callable[[Rows], None]]:
    """Write a cloud-optimised GeoTIFF with a band a sentence, in percent; the block gets a function that takes rows.

    Raises:
        OutputError: it cannot be written.
    """
    with _failing(path), writing(path) as temporary:
        plain = temporary.with_name(f".{path.stem[:100]}.{secrets.token_hex(8)}.part.tif")
        try:
            with _created(plain, raster, texts, nodata=UNKNOWN) as put:
                strips = [_Strips(lambda top, rows, n=n: put(n, top, rows), raster) for n in range(len(texts))]

                def take(rows: Rows) -> None:
                    for strip, logits in zip(strips, rows.logits, strict=True):
                        percent = np.rint(probabilities(logits) * 100).astype(np.uint8)
                        percent[~rows.known] = UNKNOWN
                        strip.add(percent)

                yield take
                for strip in strips:
                    strip.finish()
            _check(plain, raster)
            rasterio.shutil.copy(plain, temporary, driver="COG", blocksize=_BLOCK, **_CLOUD)
            _check(temporary, raster)
        finally:
            with contextlib.suppress(OSError):
                plain.unlink()


class _Strips:
    """Rows of any number as strips of whole blocks, so that no block is written twice."""

    def __init__(self, put: Callable[[int, NDArray[np.uint8]], None], raster: Raster) -> None:
        self._put, self._width = put, raster.width
        # a raster that is stored the other way round has its odd strip first
        self._next = raster.height % _BLOCK or _BLOCK if raster.mirrored[0] else _BLOCK
        self._top, self._waiting = 0, 0
        self._parts: list[NDArray[np.uint8]] = []

    def add(self, rows: NDArray[np.uint8]) -> None:
        while len(rows):
            part = rows[: self._next - self._waiting]
            self._parts.append(part.copy())
            self._waiting += len(part)
            rows = rows[len(part) :]
            if self._waiting == self._next:
                self.finish()

    def finish(self) -> None:
        if self._parts:
            self._put(self._top, np.concatenate(self._parts))
            self._top, self._waiting, self._next = self._top + self._waiting, 0, _BLOCK
            self._parts = []


@contextlib.contextmanager
def _created(
    path: Path, raster: Raster, texts: Sequence[str], **options: Any
) -> Iterator[Callable[[int, int, NDArray[np.uint8]], None]]:
    """Create a GeoTIFF on the grid of a raster's file; the block gets a function: band from 0, first row, rows."""
    stored = raster.transform
    if raster.mirrored[0]:
        stored = stored @ Affine(1, 0, 0, 0, -1, raster.height)
    if raster.mirrored[1]:
        stored = stored @ Affine(-1, 0, raster.width, 0, 1, 0)
    large = raster.height * raster.width * len(texts) > 2**31
    tiled = {"tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK} if min(raster.height, raster.width) > 16 else {}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=raster.height,
        width=raster.width,
        count=len(texts),
        dtype="uint8",
        crs=None if raster.crs is None else rasterio.CRS.from_wkt(raster.crs.to_wkt()),
        transform=stored,
        compress="DEFLATE",
        interleave="band",
        photometric="MINISBLACK",
        bigtiff="YES" if large else "NO",
        **tiled,
        **options,
    ) as file:
        for n, text in enumerate(texts, start=1):
            file.set_band_description(n, text)

        def put(n: int, top: int, rows: NDArray[np.uint8]) -> None:
            if raster.mirrored[0]:
                rows, top = rows[::-1], raster.height - top - len(rows)
            if raster.mirrored[1]:
                rows = rows[:, ::-1]
            part = Part(0, top, raster.width, len(rows))  # type: ignore[call-arg]
            file.write(rows, n + 1, window=part)

        yield put


def _check(path: Path, raster: Raster) -> None:
    """Read the end of a file again: GDAL says nothing where the disk was full when it closed the file."""
    with rasterio.open(path) as file:
        for top in (0, raster.height - 1):
            file.read(window=Part(0, top, raster.width, 1))  # type: ignore[call-arg]


@contextlib.contextmanager
def _failing(path: Path) -> Iterator[None]:
    try:
        yield
    except RasterioError as cause:
        first: BaseException = cause
        while first.__cause__ is not None:
            first = first.__cause__
        raise OutputError(f"{path} cannot be written ({reason(first)[:200]})") from cause
