"""Contact sheets: many synthetic expressions on one page, to look at."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rrsis_zoo.data.folders import plain_name
from rrsis_zoo.data.layouts import LAYOUTS
from rrsis_zoo.data.masks import RunLengths
from rrsis_zoo.data.pixels import open_image
from rrsis_zoo.data.synthetic.chance import RandomStream
from rrsis_zoo.data.synthetic.language import KINDS
from rrsis_zoo.data.synthetic.sidecar import Drawn, Picture, Said, part, read_sidecar
from rrsis_zoo.data.synthetic.write import SIDECAR, SPLITS
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError, unknown_name
from rrsis_zoo.files import expanded, writing

_CAPTION = 34


def contact_sheet(
    root: str | Path,
    out_png: str | Path,
    n: int = 24,
    seed: int = 0,
    *,
    split: str | None = None,
    kind: str | None = None,
    columns: int = 6,
    zoom: int = 2,
    blind: bool = False,
) -> list[int]:
    """Draw random expressions of a synthetic dataset with their images and the outlines of their masks.

    Args:
        root: a folder that `make_synthetic` has written.
        out_png: the image to write.
        n: number of expressions; all of them if there are fewer.
        seed: selects the expressions.
        split: ``train``, ``val`` or ``test``; None for all.
        kind: one of `KINDS`; None for all.
        columns: expressions in a row.
        zoom: how many times the images are enlarged.
        blind: number all objects instead of outlining the referent, so that a person can check the sentences.

    Returns:
        The ``ref_id`` of the expressions, in reading order.

    Raises:
        MissingDataError: ``root`` is not a synthetic dataset.
        DataFormatError: its sidecar is damaged.
        ConfigError: unknown split or kind, nothing to draw, or a suffix of an unknown format.
        OutputError: the image cannot be written.
    """
    if split is not None and split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    if kind is not None and kind not in KINDS:
        raise unknown_name("kind of expression", kind, KINDS)
    if min(n, columns, zoom) < 1:
        raise ConfigError(f"n, columns and zoom must be positive, got {n}, {columns} and {zoom}")
    root, out_png = expanded(root), expanded(out_png)
    path = root / SIDECAR
    if not os.path.exists(path):
        raise MissingDataError(f"no {SIDECAR} in {root}: contact sheets need a folder written by make_synthetic")
    sidecar = part(Drawn, read_sidecar(path), path)
    if sidecar.layout not in LAYOUTS:
        raise DataFormatError(f"{path}: layout {sidecar.layout[:40]!r} is not one of {', '.join(LAYOUTS)}")
    layout = LAYOUTS[sidecar.layout]
    images = {image.id: image for image in sidecar.images}
    for entry in sidecar.expressions:
        if entry.image_id not in images or entry.referent >= len(images[entry.image_id].objects):
            raise DataFormatError(f"{path}: the image or the referent of ref {entry.ref_id} is not in it")
    entries = [
        entry
        for entry in sidecar.expressions
        if split in (None, images[entry.image_id].split) and kind in (None, entry.kind)
    ]
    if not entries:
        raise ConfigError(f"{root} has no expression of kind {kind} in split {split}; leave one of the two out")
    entries = RandomStream(seed).shuffled(entries)[:n]
    side = sidecar.size * zoom
    rows = -(-len(entries) // columns)
    sheet = Image.new("RGB", (columns * (side + 6), rows * (side + _CAPTION + 6)), (255, 255, 255))
    for k, entry in enumerate(entries):
        image = images[entry.image_id]
        folder = root / layout.image_folder(image.split)
        tile = _tile(folder / plain_name(image.file_name, f"{path}: image {image.id}"), image, entry, zoom, blind)
        x, y = k % columns * (side + 6) + 3, k // columns * (side + _CAPTION + 6) + 3
        sheet.paste(tile, (x, y))
        _caption(sheet, f"{k + 1}. {entry.text}", x, y + side + 2, side)
    with writing(out_png) as temporary:
        try:
            sheet.save(temporary)
        except ValueError as cause:  # PIL goes by the suffix
            raise ConfigError(f"{out_png}: PIL cannot write this format; name it .png") from cause
    return [entry.ref_id for entry in entries]


def _tile(path: Path, image: Picture, entry: Said, zoom: int, blind: bool) -> Image.Image:
    tile = open_image(path).convert("RGB")
    tile = tile.resize((tile.width * zoom, tile.height * zoom), Image.Resampling.BICUBIC)
    if blind:
        draw = ImageDraw.Draw(tile)
        for number, thing in enumerate(image.objects, start=1):
            x0, y0, x1, y1 = thing.bbox
            x, y = (x0 + x1 + 1) * zoom / 2, (y0 + y1 + 1) * zoom / 2
            draw.text((x, y), str(number), (255, 255, 0), _font(15), "mm", stroke_width=2, stroke_fill=(0, 0, 0))
        return tile
    code = image.objects[entry.referent].segmentation
    try:
        height, width = code.size
        mask = RunLengths((code.counts.encode("ascii"),), height, width).decode()
        if mask.shape != (tile.height // zoom, tile.width // zoom):
            raise ValueError(f"it is of {mask.shape[0]} x {mask.shape[1]}, the image is not")
    except ValueError as cause:
        raise DataFormatError(f"{path}: the mask of ref {entry.ref_id} cannot be read: {cause}") from cause
    mask = np.kron(mask, np.ones((zoom, zoom), bool))
    outside = np.zeros_like(mask)
    for shift in (-1, 1):
        for axis in (0, 1):
            outside |= np.roll(mask, shift, axis)
    pixels = np.array(tile)
    pixels[outside & ~mask] = (255, 0, 255)
    return Image.fromarray(pixels)


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _caption(sheet: Image.Image, text: str, x: int, y: int, width: int) -> None:
    """Write the text in at most three lines of the width."""
    draw, font = ImageDraw.Draw(sheet), _font(11)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    for i, line in enumerate(lines[:3]):
        draw.text((x, y + 11 * i), line, (0, 0, 0), font)
