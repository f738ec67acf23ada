"""OGG (RFC 3533): a chain of streams, each a run of numbered pages with checksums, of which the last is marked."""

from __future__ import annotations

import struct
import zlib

CODECS = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC")  # how the first packet begins
MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
MISSING = "truncated: the last page of the OGG stream is missing"


def streams(data: bytes) -> list[bytes]:
    """The streams that follow one another; [data] where it is one.

    Raises:
        ValueError: a page is missing or damaged, or several streams run side by side.
    """
    begins: list[int] = []
    at, due, end = 0, (0, 0), len(data.rstrip(b"\0"))  # due: serial and number of the page that comes next
    ended = True
    while at < end:
        page, kind, serial, number = read_page(data, at)
        if kind & 2:
            if not ended:
                side = "several OGG streams side by side, as in a video; convert it to WAV"
                raise ValueError(side if due[1] == 1 else MISSING)
            check_codec(page)
            begins.append(at)
        elif ended or (serial, number) != due:
            raise ValueError(f"damaged: the OGG page at byte {at} does not follow the one before")
        ended, due = bool(kind & 4), (serial, number + 1 & 0xFFFFFFFF)
        at += len(page)
    if not ended:
        raise ValueError(MISSING)
    return [data] if len(begins) == 1 else [data[a:b] for a, b in zip(begins, [*begins[1:], at], strict=True)]


def read_page(data: bytes, at: int) -> tuple[bytes, int, int, int]:
    """A page, its flags (2: first of its stream, 4: last), the stream's serial number, and the page's own."""
    if data[at : at + 4] != b"OggS"[: len(data) - at]:
        raise ValueError(f"damaged: no OGG page at byte {at}, where one is due")
    head = data[at : at + 27]
    sizes = data[at + 27 : at + 27 + head[26]] if len(head) == 27 else b""
    page = data[at : at + 27 + len(sizes) + sum(sizes)]
    if len(head) < 27 or len(sizes) < head[26] or len(page) < 27 + len(sizes) + sum(sizes):
        raise ValueError(MISSING)
    kind, _, serial, number, checksum = struct.unpack_from("<BqIII", head, 5)
    if crc(page[:22] + bytes(4) + page[26:]) != checksum:
        raise ValueError(f"damaged: the checksum of the OGG page at byte {at} differs")
    return page, kind, serial, number


def crc(page: bytes) -> int:
    """The checksum of a page: polynomial 0x04C11DB7, begun with 0, bits in the order that zlib mirrors."""
    value = ~zlib.crc32(page.translate(MIRRORED), 0xFFFFFFFF) & 0xFFFFFFFF
    return int.from_bytes(value.to_bytes(4, "little").translate(MIRRORED), "big")


def check_codec(page: bytes) -> None:
    """Raise ValueError for a stream that libsndfile does not decode."""
    if not page[27 + page[26] :].startswith(CODECS):
        raise ValueError("OGG with an unknown codec is not read; convert it to WAV or FLAC")
