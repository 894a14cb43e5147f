"""A raster file as a map is read: north up, with the bands that are red, green and blue, and where nothing is known.

The file's own grid may be stored south up or mirrored; here rows go south and columns east (as far as a rotated or
sheared grid does), because a mirrored picture would have left and right exchanged. Only this module opens rasters.
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyproj
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj.exceptions import CRSError as ProjError
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.env import set_gdal_config
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as Part

from rrsis_zoo.data.pixels import image_orientation
from rrsis_zoo.errors import ConfigError, DataFormatError
from rrsis_zoo.files import read_text, reason, regular_file

# a picture without georeference is nothing to warn about
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

_CACHE = 16 * 2**20  # bytes of decoded blocks that GDAL keeps at least; its own default is a twentieth of all memory
_LARGEST_CACHE = 512 * 2**20
_NETWORK = ("WMS", "WCS", "WMTS", "HTTP", "OGCAPI", "EEDAI", "PLMOSAIC", "STACTA", "STACIT")
_PRJ_LIMIT = 2**20  # bytes of a file with a CRS
_VRT_HEAD = 2**16  # bytes of a virtual raster in which its CRS is
_OVERSAMPLED = 4  # samples a pixel along an axis from which colours of a palette are averaged


@dataclass(frozen=True)
class Raster:
    """What a raster file is; no file is open.

    Attributes:
        path: of the file.
        height, width: in pixels.
        transform: from (column, row), as read here, to coordinates of the CRS; the identity without georeference.
        crs: None if it has none.
        gsd: metres on the ground of a step along the rows and of one along the columns, at the centre; None if it
            cannot be told.
        mirrored: whether the file stores the rows, and the columns, the other way round.
        bands: numbers of red, green and blue, or of the only one, which is grey.
        palette: uint8 (colours, 4), the colours with alpha that the values of the only band stand for; or None.
        deep: whether values are more than 8 bits.
        masked: whether some pixels may have no value.
        warped: whether the grid is GDAL's own, made from ground control points.
        notes: remarks for the user, each without the file's name.
    """

    path: Path
    height: int
    width: int
    transform: Affine
    crs: pyproj.CRS | None
    gsd: tuple[float, float] | None
    mirrored: tuple[bool, bool]
    bands: tuple[int, ...]
    palette: NDArray[np.uint8] | None
    deep: bool
    masked: bool
    warped: bool
    notes: tuple[str, ...] = ()

    @property
    def georeferenced(self) -> bool:
        """Whether pixels have coordinates besides their own."""
        return self.crs is not None or self.transform != Affine.identity()


def describe(path: Path, bands: Sequence[int] | None = None) -> Raster:
    """Return what a raster file is.

    Args:
        path: of the file.
        bands: numbers of red, green and blue, or of one that is grey; None for what the file says.

    Raises:
        MissingDataError: there is no such file.
        DataFormatError: it cannot be opened, or only has rational polynomials (RPC) to say where it is.
        ConfigError: it has no such band.
    """
    with _opened(path) as (dataset, warped):
        if not dataset.count:
            inside = f"; it contains {', '.join(dataset.subdatasets[:3])}" if dataset.subdatasets else ""
            raise DataFormatError(f"{path}: has no bands{inside}: export one raster with gdal_translate IN OUT.tif")
        chosen, notes = _colours(path, dataset, bands)
        kinds = {dataset.dtypes[band - 1] for band in chosen}
        if any("complex" in kind for kind in kinds):
            raise DataFormatError(f"{path}: has complex numbers, which cannot be shown: convert them to intensities")
        crs = _crs(path, dataset)
        if crs is None and dataset.transform == Affine.identity():
            _check_upright(path)
        elif crs is None or crs.geodetic_crs is None:
            notes.append(
                f"has coordinates, but no CRS of the Earth, so that areas in square metres are not known; {_MEND}"
            )
        transform, mirrored = _upright(dataset.transform, dataset.height, dataset.width)
        palette = None
        if len(chosen) == 1 and dataset.colorinterp[chosen[0] - 1] is ColorInterp.palette:
            table = dataset.colormap(chosen[0])
            palette = np.zeros((max(table) + 1, 4), np.uint8)
            for value, colour in table.items():
                palette[value] = colour
        masked = (
            any(MaskFlags.all_valid not in dataset.mask_flag_enums[band - 1] for band in chosen)
            or any(np.dtype(kind).kind == "f" for kind in kinds)
            or (palette is not None and not palette[:, 3].all())
        )
        return Raster(
            path=path,
            height=dataset.height,
            width=dataset.width,
            transform=transform,
            crs=crs,
            gsd=_ground(crs, transform, dataset.height, dataset.width),
            mirrored=mirrored,
            bands=chosen,
            palette=palette,
            deep=kinds != {"uint8"},
            masked=masked,
            warped=warped,
            notes=tuple(notes),
        )


class Source:
    """An open raster. GDAL's handles belong to one thread: each one that reads gets its own.

    Args:
        raster: of the file.
        rows: that are read together, for the size of GDAL's cache.
    """

    def __init__(self, raster: Raster, rows: int = 512) -> None:
        self.raster = raster
        self._rows = rows
        self._local, self._open = threading.local(), contextlib.ExitStack()
        self._locks: list[threading.Lock] = []  # one a thread: a dataset is not closed while it is read
        self._closed = False

    def __enter__(self) -> Self:
        set_gdal_config("GDAL_CACHEMAX", _CACHE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for lock in self._locks:
            lock.acquire()
        self._open.close()
        for lock in self._locks:
            lock.release()

    def values(
        self, top: float, left: float, height: float, width: float, shape: tuple[int, int]
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Return the values in a rectangle, at a number of pixels.

        Args:
            top, left, height, width: in pixels of the raster; whole numbers if the shape is of the same size.
            shape: (rows, columns) to be returned; fewer than there are: averages, more: bilinear.

        Returns:
            (1 or 3, rows, columns) of the file's numbers, or of a palette's colours, and bool (rows, columns), which
            pixels have a value; None if all do.

        Raises:
            DataFormatError: damaged.
        """
        raster = self.raster
        if raster.mirrored[0]:
            top = raster.height - top - height
        if raster.mirrored[1]:
            left = raster.width - left - width
        part = Part(left, top, width, height)  # type: ignore[call-arg]
        same = (height, width) == shape
        shrinking = not same and (height > shape[0] or width > shape[1])
        how = Resampling.nearest if same else Resampling.average if shrinking else Resampling.bilinear
        with self._dataset() as dataset, _damage(raster.path):
            if raster.palette is not None:
                result = self._painted(dataset, part, shape, shrinking)
            else:
                result = self._plain(dataset, part, shape, how)
        values, valid = result
        if raster.mirrored[0]:
            values, valid = values[:, ::-1], None if valid is None else valid[::-1]
        if raster.mirrored[1]:
            values, valid = values[:, :, ::-1], None if valid is None else valid[:, ::-1]
        return values, valid

    def valid(self, top: int, height: int, left: int = 0, width: int | None = None) -> NDArray[np.bool_] | None:
        """Return which pixels of some rows have a value, bool (rows, columns); None if all do."""
        if not self.raster.masked:
            return None
        width = self.raster.width if width is None else width
        return self.values(top, left, height, width, (height, width))[1]

    def sample(self, most: int) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Return at most so many pixels at equal distances (of an overview, if there is one); as `values`."""
        raster, step = self.raster, max(1.0, math.sqrt(self.raster.height * self.raster.width / most))
        shape = (max(1, int(raster.height / step)), max(1, int(raster.width / step)))
        part = Part(0, 0, raster.width, raster.height)  # type: ignore[call-arg]
        with self._dataset() as dataset, _damage(raster.path):
            if raster.palette is not None:
                return self._painted(dataset, part, shape, False)
            return self._plain(dataset, part, shape, Resampling.nearest)

    def _plain(
        self, dataset: Any, part: Part, shape: tuple[int, int], how: Resampling
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        bands = list(self.raster.bands)
        values = dataset.read(bands, window=part, out_shape=(len(bands), *shape), resampling=how)
        if not self.raster.masked:
            return values, None
        masks = dataset.read_masks(bands, window=part, out_shape=(len(bands), *shape), resampling=how)
        valid = (masks > 0).any(axis=0)
        if values.dtype.kind == "f":
            valid &= np.isfinite(values).any(axis=0)
        return values, valid

    def _painted(
        self, dataset: Any, part: Part, shape: tuple[int, int], shrinking: bool
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Read numbers of colours, which have no average, and return the colours."""
        palette = self.raster.palette
        assert palette is not None
        by = _OVERSAMPLED if shrinking else 1
        finer = (1, shape[0] * by, shape[1] * by)
        numbers = dataset.read(list(self.raster.bands), window=part, out_shape=finer)[0]
        colours = np.moveaxis(palette[np.minimum(numbers, len(palette) - 1)], -1, 0)
        valid = None
        if self.raster.masked:
            masks = dataset.read_masks(list(self.raster.bands), window=part, out_shape=finer)[0]
            valid = (masks > 0) & (colours[3] > 0)
        colours = colours[:3]
        if by > 1:
            cells = colours.reshape(3, shape[0], by, shape[1], by)
            colours = np.rint(cells.mean(axis=(2, 4))).astype(np.uint8)
            valid = None if valid is None else valid.reshape(shape[0], by, shape[1], by).any(axis=(1, 3))
        return colours, valid

    @contextlib.contextmanager
    def _dataset(self) -> Iterator[Any]:
        """Yield this thread's own dataset, which stays open within the block."""
        if not hasattr(self._local, "dataset"):
            dataset, _ = self._open.enter_context(_opened(self.raster.path))
            bytes_a_row = self.raster.width * sum(np.dtype(kind).itemsize for kind in dataset.dtypes)
            # a strip of blocks that lie across the raster is decoded once
            cache = min(max(_CACHE, 2 * bytes_a_row * self._rows), _LARGEST_CACHE)
            set_gdal_config("GDAL_CACHEMAX", cache)
            self._local.dataset, self._local.lock = dataset, threading.Lock()
            self._locks.append(self._local.lock)
        with self._local.lock:
            if self._closed:  # whoever wanted it has given up
                raise DataFormatError(f"{self.raster.path}: was closed while it was read")
            yield self._local.dataset


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, bool]]:
    """Open a raster; yield it, and whether it is seen through its ground control points, for want of better."""
    regular_file(path)
    try:
        path.open("rb").close()
    except OSError as cause:
        raise DataFormatError(f"{path}: cannot be read ({reason(cause)})") from cause
    with contextlib.ExitStack() as stack:
        with _damage(path, "is not a raster that GDAL reads, or it is damaged: gdalinfo says more"):
            # a virtual raster may name an address: nothing is fetched unasked
            set_gdal_config("CPL_VSIL_CURL_ALLOWED_FILENAME", "-")
            dataset = stack.enter_context(contextlib.closing(rasterio.open(path)))  # maybe in another thread
            if dataset.driver in _NETWORK:
                raise DataFormatError(
                    f"{path}: describes a service on a network: fetch the raster with gdal_translate first"
                )
            located = dataset.transform != Affine.identity()
            points, crs = dataset.gcps
            warped = not located and bool(points)
            if warped:
                if crs is None:
                    raise DataFormatError(f"{path}: has ground control points without a CRS; {_MEND}")
                alpha = all(MaskFlags.all_valid in flags for flags in dataset.mask_flag_enums)
                view = WarpedVRT(dataset, src_crs=crs, crs=crs, add_alpha=alpha, resampling=Resampling.bilinear)
                dataset = stack.enter_context(contextlib.closing(view))
            elif not located and dataset.rpcs is not None:
                raise DataFormatError(
                    f"{path}: only has rational polynomials (RPC) to say where it is; project it first: "
                    f"gdalwarp -rpc -t_srs EPSG:4326 {path.name} {path.stem}-projected.tif"
                )
        yield dataset, warped


_MEND = "gdal_edit.py -a_srs EPSG:CODE FILE says which it is"


@contextlib.contextmanager
def _damage(path: Path, what: str = "cannot be read: it is cut short or damaged; fetch it again") -> Iterator[None]:
    """Turn what GDAL raises in the block into one sentence about the file."""
    try:
        yield
    except MemoryError as cause:
        raise DataFormatError(f"{path}: a part of it is too large for the memory of this machine") from cause
    except CRSError as cause:
        raise DataFormatError(f"{path}: its CRS cannot be understood ({reason(cause)}); {_MEND}") from cause
    except RasterioError as cause:
        raise DataFormatError(f"{path}: {what} ({_gdal(cause)})") from cause


def _gdal(cause: BaseException) -> str:
    """Return what GDAL said first, without the file's name."""
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return reason(cause)[:200]


def _crs(path: Path, dataset: Any) -> pyproj.CRS | None:
    with _damage(path):
        found = dataset.crs
        if not found:
            if text := _crs_text(path, dataset):
                raise DataFormatError(f"{path}: its CRS cannot be understood ({text[:60]!r}); {_MEND}")
            return None
        try:
            code = found.to_epsg()
            return pyproj.CRS.from_epsg(code) if code else pyproj.CRS.from_wkt(found.to_wkt())
        except ProjError as cause:
            raise DataFormatError(f"{path}: its CRS cannot be understood ({reason(cause)[:120]}); {_MEND}") from cause


def _crs_text(path: Path, dataset: Any) -> str:
    """Return what a file says of its CRS in words; GDAL leaves out what it does not understand, and says nothing."""
    if dataset.driver == "VRT":
        with path.open("rb") as file:
            described = re.search(rb"<SRS[^>]*>(.*?)</SRS>", file.read(_VRT_HEAD), re.DOTALL)
        return described[1].decode("utf-8", errors="replace").strip() if described else ""
    beside = path.with_suffix(".prj")
    return read_text(beside, _PRJ_LIMIT).strip() if beside.is_file() else ""


def _check_upright(path: Path) -> None:
    """Refuse a photograph that viewers turn and GDAL does not: polygons would be of a picture that nobody sees."""
    try:
        orientation = image_orientation(path)
    except DataFormatError:  # no photograph
        return
    if orientation != 1:
        raise DataFormatError(
            f"{path}: is stored turned (EXIF orientation {orientation}), which is not undone for maps: save it "
            f"upright, for instance magick {path.name} -auto-orient {path.stem}-upright.png"
        )


def _upright(transform: Affine, height: int, width: int) -> tuple[Affine, tuple[bool, bool]]:
    """Return the transform with rows that go south and columns that go east, and which of both the file reverses."""
    if transform == Affine.identity():  # of a picture: its rows go down
        return transform, (False, False)
    rows, columns = transform.e > 0, transform.a < 0
    if rows:
        transform = transform @ Affine(1, 0, 0, 0, -1, height)
    if columns:
        transform = transform @ Affine(-1, 0, width, 0, 1, 0)
    return transform, (rows, columns)


def _ground(crs: pyproj.CRS | None, transform: Affine, height: int, width: int) -> tuple[float, float] | None:
    """Return metres on the ground of a step along the rows (down) and of one along the columns (right)."""
    if crs is None or crs.geodetic_crs is None or (geod := crs.get_geod()) is None:
        return None
    x, y = width / 2, height / 2
    corners = [transform @ corner for corner in ((x, y), (x, y + 1), (x + 1, y))]
    to_degrees = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    lon, lat = to_degrees.transform([x for x, _ in corners], [y for _, y in corners])
    down = geod.inv(lon[0], lat[0], lon[1], lat[1])[2]
    right = geod.inv(lon[0], lat[0], lon[2], lat[2])[2]
    return (down, right) if 0 < down < math.inf and 0 < right < math.inf else None


def _colours(path: Path, dataset: Any, given: Sequence[int] | None) -> tuple[tuple[int, ...], list[str]]:
    """Return the numbers of the bands that are shown, and remarks."""
    count, meanings = dataset.count, list(dataset.colorinterp)
    if given is not None:
        if max(given) > count:
            raise ConfigError(f"{path}: has {count} bands, and --bands {','.join(map(str, given))} asks for more")
        return tuple(given), []
    wanted = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if all(colour in meanings for colour in wanted):
        return tuple(meanings.index(colour) + 1 for colour in wanted), []
    if ColorInterp.cyan in meanings:
        raise DataFormatError(f"{path}: is in CMYK, the colours of print: convert it to RGB first")
    plain = [n for n, meaning in enumerate(meanings, start=1) if meaning is not ColorInterp.alpha]
    if not plain:
        raise DataFormatError(f"{path}: has only an alpha band")
    if len(plain) < 3:
        more = [f"band {plain[0]} of {len(plain)} is used; --bands changes that"] if len(plain) > 1 else []
        return (plain[0],), more
    chosen = tuple(plain[:3])
    if len(plain) == 3:
        return chosen, []
    return chosen, [f"bands {', '.join(map(str, chosen))} of {len(plain)} are red, green, blue; --bands changes that"]
