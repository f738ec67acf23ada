"""WAV (RIFF, RIFX, RF64) and AIFF: samples end where the size of their chunk says, if it says."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from emoshare.data.formats import mpeg

MAGIC = (b"RIFF", b"RIFX", b"RF64", b"FORM")
FORMS = (b"WAVE", b"AIFF", b"AIFC")
GSM, MP3 = 0x31, 0x55  # codecs, as the header of a WAV file names them
GSM_BLOCK = 65  # bytes, 320 samples
JUNK = 1024  # bytes behind the samples that need not be a chunk
COUNTED = (b"", b"NONE", b"sowt", b"twos", b"fl32", b"FL32", b"fl64", b"FL64", b"ulaw", b"alaw", b"ULAW", b"ALAW")


def streams(data: bytes) -> list[bytes]:
    """The files that are joined in this one; [data] where it is one. ValueError where one is truncated."""
    parts: list[bytes] = []
    begin = 0
    while begin < len(data):
        files, begin = first_file(data, begin)
        parts += files
    return parts


def first_file(data: bytes, begin: int) -> tuple[list[bytes], int]:
    """The file that begins there (of MP3 in WAV its parts), and where the next one does.

    A writer that cannot go back, as into a pipe, leaves a size of 0 or of nearly 2³¹ or 2³²: the samples of such a file
    go to its end, and the size is put right.
    """
    magic, kind = data[begin : begin + 4], data[begin + 8 : begin + 12]
    order, wanted = (">" if magic in (b"RIFX", b"FORM") else "<"), (b"SSND" if magic == b"FORM" else b"data")
    form, wide = b"", 0
    for name, at, size in chunks(data, begin + 12, order):
        if name in (b"fmt ", b"COMM"):
            form = data[at : at + size]
        elif name == b"ds64":
            wide = int.from_bytes(data[at + 8 : at + 16], "little")
        elif name == wanted:
            break
    else:
        raise ValueError(f"truncated: no '{wanted.decode()}' chunk, which holds the samples")
    size, room = wide if wide and size == 2**32 - 1 else size, len(data) - at
    codec = struct.unpack_from(f"{order}H", form)[0] if magic != b"FORM" and len(form) > 1 else 0
    if is_placeholder(size) and (size > room or (not size and after_chunks(data, at, order)[1] < len(data))):
        end = next_file(data, at, kind)
        return mpeg.streams(data[at:end]) if codec == MP3 else [with_size(magic, form, data[at:end])], end
    if not size:
        raise ValueError("no samples in the file")
    if size > room:
        raise ValueError(f"truncated: the header promises {size} bytes of samples, there are {room}")
    check_frames(magic, form, size)
    end = end_of(data, at + size, order, wanted, kind)
    if codec == MP3:  # libsndfile guesses how many samples there are
        return mpeg.streams(data[at : at + size]), end
    if codec == GSM and size % GSM_BLOCK < 2 and size // GSM_BLOCK % 2:
        return [data[begin : at - 4] + even_gsm(size, order) + data[at:end]], end
    return [data if (begin, end) == (0, len(data)) else data[begin:end]], end


def even_gsm(size: int, order: str) -> bytes:
    """The size of an odd number of GSM blocks for libsndfile, which takes the byte that pads them for one more block.

    A byte less than their size is even, and is rounded up to their number.
    """
    return struct.pack(f"{order}I", size // GSM_BLOCK * GSM_BLOCK - 1)


def chunks(data: bytes, at: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Name, beginning and size of each chunk. They begin at even bytes, but for some writers."""
    while at + 8 <= len(data):
        name, size = struct.unpack_from(f"{order}4sI", data, at)
        yield name, at + 8, size
        at += 8 + size
        at += size % 2 and not (is_name(data[at : at + 4]) and not is_name(data[at + 1 : at + 5]))


def is_name(word: bytes) -> bool:
    return len(word) == 4 and all(32 <= letter < 127 for letter in word)


def is_placeholder(size: int) -> bool:
    """Whether a size stands for one that the writer did not know. sox writes 0x7F000000 and 0x7FFFF000."""
    return not size or 2**31 - 2**24 <= size <= 2**31 + 2**16 or 2**32 - 2**16 <= size < 2**32 or size >= 2**62


def next_file(data: bytes, at: int, kind: bytes) -> int:
    """Where the next joined file begins; the end where there is none."""
    while (at := data.find(kind, at + 1)) >= 0:
        if data[at - 8 : at - 4] in MAGIC:
            return at - 8
    return len(data)


def with_size(magic: bytes, form: bytes, samples: bytes) -> bytes:
    """A WAV file of these samples, whole blocks of them."""
    if magic == b"FORM" or len(form) < 16:
        raise ValueError("the header does not say how many samples there are; convert it to WAV")
    order = ">" if magic == b"RIFX" else "<"
    block = struct.unpack_from(f"{order}H", form, 12)[0] or 1
    samples = samples[: len(samples) // block * block]
    if not samples:
        raise ValueError("no samples in the file")
    body = struct.pack(f"{order}4s4sI", b"WAVE", b"fmt ", len(form)) + form + bytes(len(form) % 2)
    body += struct.pack(f"{order}4sI", b"data", len(samples)) + samples
    return struct.pack(f"{order}4sI", b"RIFX" if order == ">" else b"RIFF", len(body)) + body


def check_frames(magic: bytes, form: bytes, size: int) -> None:
    """Raise ValueError where an AIFF file, whose header counts the samples as well, has room for another number."""
    if magic != b"FORM" or len(form) < 18 or form[18:22] not in COUNTED:
        return
    channels, count, bits = struct.unpack_from(">HIH", form)
    coded = 8 if form[18:22].lower() in (b"ulaw", b"alaw") else bits
    room = (size - 8) // max(channels * -(-coded // 8), 1)
    if abs(room - count) > 1:  # a byte of padding
        raise ValueError(f"its header promises {count} samples, and has room for {room}; convert it to WAV")


def end_of(data: bytes, at: int, order: str, wanted: bytes, kind: bytes) -> int:
    """Where the next joined file begins after the samples of one, or the end. ValueError for sound in between."""
    for start in (at, at + 1):  # as an odd number of samples need not be padded
        if data[start : start + 4] in MAGIC and data[start + 8 : start + 12] == kind:
            return start
    names, end = after_chunks(data, at + at % 2, order)
    if names and names[-1] in MAGIC:
        return end
    if wanted in names:
        raise ValueError(f"several '{wanted.decode()}' chunks, of which one alone would be read")
    left = data[end:].lstrip(b"\0")
    if len(left) > JUNK and not is_name(left[:4]):
        raise ValueError(f"{len(left)} bytes behind the samples are no chunk, and may be sound; convert it to WAV")
    return len(data)


def after_chunks(data: bytes, at: int, order: str) -> tuple[list[bytes], int]:
    """The names of the chunks that begin there, up to that of the next joined file, and where they end."""
    names: list[bytes] = []
    end = at
    for name, begin, size in chunks(data, at, order):
        if name in MAGIC and data[begin : begin + 4] in FORMS:
            return [*names, name], begin - 8
        if not is_name(name) or begin + size > len(data) + 1:
            break
        names.append(name)
        end = min(begin + size + size % 2, len(data))
    return names, end
