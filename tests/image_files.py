"""Image files that no library here writes: deep colours in PNG and TIFF, byte by byte."""

from __future__ import annotations

import struct
import zlib


def png(values, depth=16):
    """Return a PNG of uint16 (H, W, channels)."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(values, order="<", big=False, planar=1, numbers=1, orientation=None):
    """Return an uncompressed TIFF of (H, W, channels) of any dtype, classic or BigTIFF."""
    height, width, channels = values.shape
    data = (values if planar == 1 else values.transpose(2, 0, 1)).astype(values.dtype.newbyteorder(order)).tobytes()
    strips = 1 if planar == 1 else channels
    tags = {
        256: [width],
        257: [height],
        258: [8 * values.itemsize] * channels,
        259: [1],
        262: [2 if channels in (3, 4) else 1],
        273: [0] * strips,
        277: [channels],
        278: [height],
        279: [len(data) // strips] * strips,
        284: [planar],
        339: [numbers] * channels,
    }
    if orientation is not None:
        tags[274] = [orientation]
    if channels > 3:
        tags[338] = [0] * (channels - 3)
    word, number, place = ("Q", "Q", 16) if big else ("I", "H", 8)
    inline = 8 if big else 4
    table = place + struct.calcsize(order + number) + len(tags) * (20 if big else 12) + inline
    outside = sum(4 * len(v) for v in tags.values() if 4 * len(v) > inline)
    tags[273] = [table + outside + i * len(data) // strips for i in range(strips)]
    entries, extra = b"", b""
    for tag, content in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(content)}I", *content)
        if len(packed) > inline:
            packed, extra = struct.pack(order + word, table + len(extra)), extra + packed
        entries += struct.pack(f"{order}HH{word}", tag, 4, len(content)) + packed.ljust(inline, b"\0")
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(f"{order}HHHQ", 43, 8, 0, 16) if big else struct.pack(f"{order}HI", 42, 8)
    return mark + head + struct.pack(order + number, len(tags)) + entries + bytes(inline) + extra + data
