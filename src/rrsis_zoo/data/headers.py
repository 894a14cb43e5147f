"""Headers of image files, read before any pixel is decoded: format, size, channels and their depth. No torch here.

PIL opens a 16-bit colour PNG or TIFF as 8 bits per channel and silently keeps the high byte; the depth is only in the
file's own header. The size is needed before memory is allocated for it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Literal

Numbers = Literal["unsigned", "signed", "floating"]


@dataclass(frozen=True, slots=True)
class Header:
    """The contents of a header.

    Attributes:
        format: PIL's name for it: ``PNG``, ``JPEG`` …
        width: columns as stored; an EXIF orientation may rotate the displayed image.
        height: rows as stored.
        channels: their number, including alpha and further bands; 1 for a palette.
        bits: of the deepest channel.
        numbers: the kind of numbers in the channels.
        planar: whether the channels of a TIFF are stored one after the other.
        orientation: of a TIFF, 1 to 8; other formats have it elsewhere, and 1 here.
    """

    format: str
    width: int
    height: int
    channels: int
    bits: int
    numbers: Numbers = "unsigned"
    planar: bool = False
    orientation: int = 1

    @property
    def is_deep(self) -> bool:
        """Whether a channel has more than 8 bits, or numbers other than 0 to 255."""
        return self.bits > 8 or self.numbers != "unsigned"

    def __str__(self) -> str:
        kind = "" if self.numbers == "unsigned" else f" {self.numbers}"
        channels = "one channel" if self.channels == 1 else f"{self.channels} channels"
        return f"{self.format} with {channels} of {self.bits}{kind} bits"


class NotAnImage(ValueError):
    """The content is in no supported format, or its header is damaged; the message says which."""


def read_header(file: BinaryIO) -> Header:
    """Read the header of an image file.

    Args:
        file: open, seekable; its position afterwards is undefined.

    Raises:
        NotAnImage: an unsupported format, or a damaged header.
        OSError: the file cannot be read.
    """
    file.seek(0)
    start = file.read(64)
    for signature, read in _READERS:
        if re.match(signature, start, re.DOTALL):
            try:
                header = read(file, start)
            except (struct.error, IndexError, OverflowError, ValueError) as cause:
                why = str(cause) if isinstance(cause, NotAnImage) else "its header is cut short or damaged"
                raise NotAnImage(f"{why}; fetch the file again") from cause
            if header.width < 1 or header.height < 1:
                raise NotAnImage(f"its header says {header.width} x {header.height} pixels; fetch the file again")
            return header
    raise NotAnImage(_what_else(start))


FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")
"""Supported formats. PIL knows about forty more, of which EPS starts another program; none of them is opened."""


def _what_else(start: bytes) -> str:
    """Describe a file that is not an image, as far as its first bytes tell, and what to do about it."""
    if not start:
        return "the file is empty; fetch it again"
    if instead := placeholder(start, "the image"):
        return instead
    for signature, what in _OTHERS:
        if re.match(signature, start, re.DOTALL | re.IGNORECASE):
            return what
    return f"its content is in no supported format ({', '.join(FORMATS)}); save it as PNG, or fetch the file again"


def placeholder(start: bytes, what: str) -> str:
    """Describe the placeholder of a file that was not fetched, by its first bytes; an empty text for any other file.

    Args:
        start: the file's first 64 bytes.
        what: the expected content.
    """
    for signature, message in _PLACEHOLDERS:
        if re.match(signature, start, re.DOTALL | re.IGNORECASE):
            return message.format(what)
    return ""


_PLACEHOLDERS = (
    (rb"\xef?\xbb?\xbf?\s*<(!doctype|html|head)", "it is a web page, not {}; fetch the file again"),
    (rb"version https://git-lfs", "it is a Git LFS pointer, not {}; get it with: git lfs pull"),
    (rb"(\.\./)*(\.git|/?annex)/", "it is a git-annex pointer, not {}; get it with: git annex get"),
)
_CONVERT = "which is not supported; save it as PNG"
_OTHERS = (
    (rb"%!ps|\xc5\xd0\xd3\xc6", f"it is PostScript, {_CONVERT}"),
    (rb"%pdf", f"it is a PDF, {_CONVERT}"),
    (rb"....ftyp(avi|mif|hei|hev)", f"it is AVIF or HEIF, {_CONVERT}"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", f"it is JPEG XL, {_CONVERT}"),
    (rb"8BPS", f"it is a Photoshop file, {_CONVERT}"),
    (rb"\x93numpy", "it is a NumPy array, not an image; save it as PNG"),
    (rb"\x89hdf|cdf[\x01\x02\x05]", f"it is HDF5 or NetCDF, {_CONVERT}"),
    (rb"<\?xml|<svg", "it is XML (or an SVG drawing), not an image; save it as PNG"),
    (rb"pk\x03\x04|\x1f\x8b", "it is an archive; unpack it"),
)


# -- one function per format -------------------------------------------------------------------------------------------


def _exactly(file: BinaryIO, count: int) -> bytes:
    content = file.read(count)
    if len(content) < count:
        raise NotAnImage("its header is cut short")
    return content


_MOST_PARTS = 100_000  # of a header; no real one has a hundredth of these


def _png(file: BinaryIO, start: bytes) -> Header:
    if start[12:16] != b"IHDR":
        raise NotAnImage("its header is damaged")
    width, height, bits, colour = struct.unpack(">IIBB", start[16:26])
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour)
    if channels is None:
        raise NotAnImage("its header is damaged")
    return Header("PNG", width, height, channels, bits)


def png_has_text(file: BinaryIO) -> bool:
    """Return whether a PNG has a chunk that may hold an EXIF orientation; it may come after the pixels."""
    at = 8
    for _ in range(_MOST_PARTS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return False
        if head[4:] in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
            return True
        at += 12 + int.from_bytes(head[:4])
    return True


def _jpeg(file: BinaryIO, start: bytes) -> Header:
    file.seek(2)
    for _ in range(_MOST_PARTS):
        if _exactly(file, 1) != b"\xff":  # skip what is between the segments, as decoders do
            continue
        while (marker := _exactly(file, 1)[0]) == 0xFF:
            pass
        if marker in (0x00, 0x01, *range(0xD0, 0xD9)):  # no payload
            continue
        if marker in (0xD9, 0xDA):
            break
        length = int.from_bytes(_exactly(file, 2))
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width, channels = struct.unpack(">BHHB", _exactly(file, 6))
            return Header("JPEG", width, height, channels, bits)
        file.seek(max(0, length - 2), 1)
    raise NotAnImage("its header gives no size")


_MOST_TAGS, _MOST_VALUES = 4096, 1024
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # byte, short, long, long8


def _tiff(file: BinaryIO, start: bytes) -> Header:
    order = "<" if start[:2] == b"II" else ">"
    (version,) = struct.unpack(f"{order}H", start[2:4])
    big = version == 43
    (first,) = struct.unpack(f"{order}Q", start[8:16]) if big else struct.unpack(f"{order}I", start[4:8])
    file.seek(first)
    counter, entry, inline = ("Q", "HHQ8s", 8) if big else ("H", "HHI4s", 4)
    (count,) = struct.unpack(order + counter, _exactly(file, struct.calcsize(order + counter)))
    if count > _MOST_TAGS:
        raise NotAnImage("its header is damaged")
    size = struct.calcsize(order + entry)
    table = _exactly(file, count * size)
    values: dict[int, tuple[int, ...]] = {}
    for tag, kind, number, value in struct.iter_unpack(order + entry, table):
        if tag not in (256, 257, 258, 274, 277, 284, 339) or kind not in _TYPES or not number:
            continue
        if tag in values:  # programs differ in which one counts
            raise NotAnImage("its header is damaged: a tag occurs twice")
        form = f"{order}{min(number, _MOST_VALUES)}{_TYPES[kind]}"
        length = struct.calcsize(form)
        if length > inline:
            file.seek(struct.unpack(f"{order}{'Q' if big else 'I'}", value)[0])
            value = _exactly(file, length)
        values[tag] = struct.unpack(form, value[:length])
    if 256 not in values or 257 not in values:
        raise NotAnImage("its header gives no size")
    formats = set(values.get(339, (1,)))
    numbers: Numbers = "floating" if formats & {3, 6} else "signed" if formats & {2, 5} else "unsigned"
    (channels, *_), bits = values.get(277, (1,)), max(values.get(258, (1,)))
    planar = channels > 1 and values.get(284, (1,))[0] == 2
    orientation = values.get(274, (1,))[0]
    orientation = orientation if 1 <= orientation <= 8 else 1  # as viewers do
    return Header("TIFF", values[256][0], values[257][0], channels, bits, numbers, planar, orientation)


def _bmp(file: BinaryIO, start: bytes) -> Header:
    (size,) = struct.unpack("<I", start[14:18])
    form, at = ("<HHHH", 18) if size == 12 else ("<iiHH", 18)
    width, height, _, bits = struct.unpack_from(form, start, at)
    return Header("BMP", width, abs(height), 1 if bits <= 8 else 3, min(bits, 8))


def _gif(file: BinaryIO, start: bytes) -> Header:
    return Header("GIF", *struct.unpack("<HH", start[6:10]), channels=1, bits=8)


def _webp(file: BinaryIO, start: bytes) -> Header:
    kind = start[12:16]
    if kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", start[26:30]))
    elif kind == b"VP8L":
        sides = int.from_bytes(start[21:25], "little")
        width, height = (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1
    elif kind == b"VP8X":
        width, height = (int.from_bytes(start[at : at + 3], "little") + 1 for at in (24, 27))
    else:
        raise NotAnImage("its header is damaged")
    return Header("WEBP", width, height, 4, 8)


def _ppm(file: BinaryIO, start: bytes) -> Header:
    file.seek(0)
    words = re.sub(rb"#[^\r\n]*", b" ", file.read(4096)).split()
    kind, width, height = words[0], int(words[1]), int(words[2])
    channels = 3 if kind in (b"P3", b"P6", b"PF") else 1
    if kind in (b"PF", b"Pf"):
        return Header("PPM", width, height, channels, 32, "floating")
    bits = 1 if kind in (b"P1", b"P4") else int(words[3]).bit_length()
    return Header("PPM", width, height, channels, bits)


def _jpeg2000(file: BinaryIO, start: bytes) -> Header:
    at = 0
    if start[:2] != b"\xff\x4f":  # boxes around the code
        for _ in range(_MOST_PARTS):
            file.seek(at)
            length, kind = struct.unpack(">I4s", _exactly(file, 8))
            here = 8
            if length == 1:
                (length,), here = struct.unpack(">Q", _exactly(file, 8)), 16
            if kind == b"jp2c":
                at += here
                break
            if length < here:
                raise NotAnImage("its header is damaged")
            at += length
    file.seek(at)
    if _exactly(file, 4) != b"\xff\x4f\xff\x51":
        raise NotAnImage("its header is damaged")
    _, _, right, low, left, top, *_, channels = struct.unpack(">HHIIIIIIIIH", _exactly(file, 38))
    depths = _exactly(file, 3 * channels)[::3]
    bits, signed = max((depth & 0x7F) + 1 for depth in depths), any(depth & 0x80 for depth in depths)
    return Header("JPEG2000", right - left, low - top, channels, bits, "signed" if signed else "unsigned")


_READERS: tuple[tuple[bytes, Callable[[BinaryIO, bytes], Header]], ...] = (
    (rb"\x89PNG\r\n\x1a\n", _png),
    (rb"\xff\xd8\xff", _jpeg),
    (rb"II[\x2a\x2b]\x00|MM\x00[\x2a\x2b]", _tiff),
    (rb"BM", _bmp),
    (rb"GIF8[79]a", _gif),
    (rb"RIFF....WEBP", _webp),
    (rb"P[1-6fF][\s#]", _ppm),
    (rb"\xff\x4f\xff\x51|\x00\x00\x00\x0cjP  \r\n\x87\n", _jpeg2000),
)
