"""FLAC (RFC 9639): the header's number of samples is compared with the number in the last frame."""

from __future__ import annotations

import struct

BEGINS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")  # STREAMINFO comes first and takes 34 bytes
SEARCHED = 2**20  # bytes at the end, in which the last frame begins
TRIED = 1000  # places that look like its beginning: in a megabyte of other bytes there are 32
BLOCKS = {1: 192, **{n: 576 << n - 2 for n in range(2, 6)}, **{n: 256 << n - 8 for n in range(8, 16)}}


def streams(data: bytes) -> list[bytes]:
    """The files that are joined in this one; [data] where it is one and says how many samples it has.

    Raises:
        ValueError: the header promises another number of samples than the frames have.
    """
    begins, at = [0], 0
    while (at := min((n for begin in BEGINS if (n := data.find(begin, at + 1)) > 0), default=0)) > 0:
        begins.append(at)
    return [
        complete(data if len(begins) == 1 else data[a:b]) for a, b in zip(begins, [*begins[1:], len(data)], strict=True)
    ]


def complete(data: bytes) -> bytes:
    """A FLAC file whose header says how many samples it has: itself, if the header was right."""
    if len(data) < 42:
        raise ValueError("truncated: the header of FLAC is cut")
    promised = (data[21] & 0x0F) << 32 | int.from_bytes(data[22:26], "big")
    actual = last_sample(data, promised)
    if actual and actual == promised:
        return data
    if promised or not actual:
        ends = f"the last frame ends with {actual}" if actual else "the last frame is cut"
        raise ValueError(f"truncated: the header promises {promised or 'no number of'} samples, {ends}")
    return data[:21] + bytes([data[21] & 0xF0 | actual >> 32]) + (actual & 0xFFFFFFFF).to_bytes(4, "big") + data[26:]


def last_sample(data: bytes, promised: int) -> int:
    """The samples up to the end of the last frame: one that ends with the promised sample, or with the file.

    0 where none of the last four does.
    """
    at, left, tried, first = len(data), 4, 0, max(len(data) - SEARCHED, 42)
    while left and tried < TRIED and (at := data.rfind(b"\xff", first, at)) > 0:
        if data[at + 1 : at + 2] not in (b"\xf8", b"\xf9"):
            continue
        end, tried = end_of_frame(data[at : at + 16], data), tried + 1
        if end and (end == promised or crc(data[at:-2], 16) == int.from_bytes(data[-2:], "big")):
            return end
        left -= end > 0
    return 0


def end_of_frame(head: bytes, data: bytes) -> int:
    """The first sample after the frame whose header (16 bytes) this is; 0 where it is none."""
    if len(head) < 6 or head[2] >> 4 == 0 or head[3] >> 4 > 10 or head[3] & 1:
        return 0
    ones = 8 - (head[4] ^ 0xFF).bit_length()  # leading ones: how many bytes the number takes, as in UTF-8
    at = 4 + max(ones, 1)
    number = head[4] & (0x7F >> ones)
    for byte in head[5:at]:
        number = number << 6 | byte & 0x3F
    code = head[2] >> 4
    wide = {6: 1, 7: 2}.get(code, 0)
    block = int.from_bytes(head[at : at + wide], "big") + 1 if wide else BLOCKS[code]
    at += wide + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if at >= len(head) or crc(head[:at], 8) != head[at]:
        return 0
    fixed = struct.unpack_from(">H", data, 10)[0]  # the largest block: all but the last of a fixed size
    return number + block if head[1] & 1 else number * fixed + block


def crc(content: bytes, bits: int) -> int:
    """The checksum of a frame's header (8 bits, x⁸ + x² + x + 1) or of a frame (16 bits, x¹⁶ + x¹⁵ + x² + 1)."""
    top, polynomial, value = 1 << bits - 1, {8: 0x07, 16: 0x8005}[bits], 0
    for byte in content:
        value ^= byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & (1 << bits) - 1
    return value
