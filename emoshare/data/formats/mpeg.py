"""MP3 (MPEG audio, layer III): every frame is counted, and the tag in front of them says how many there are.

libsndfile guesses the length of a file without a Xing or Info tag from its first frame, and stops there. Of files that
were joined it reads the first. So where a tag is missing or wrong, the frames are put behind one that is right.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from functools import cache

RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version: 3 is MPEG-1
KBPS = {  # by whether it is MPEG-1
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
TAIL = 32  # bytes at the end that need not be a frame, as a line break
ROW = 4  # frames behind one another that no other bytes look like
SEARCHED = 65_536  # bytes in front of the first frame that may be something else; headers that are tried behind others
ZEROS, BEGIN = re.compile(rb"\0+"), re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")


@dataclass(frozen=True)
class Header:
    """The content of the four bytes at the beginning of a frame."""

    size: int  # bytes of the frame; 0: free format, which does not tell
    format: tuple[int, int, int]  # version, samples per second, channels
    tag: int  # place of a Xing tag in the frame


@cache
def header(word: bytes) -> Header | None:
    """The header in four bytes; None where they are none of layer III. ISO/IEC 11172-3, 2.4.1.3, and 13818-3."""
    if len(word) < 4 or word[0] != 0xFF or word[1] & 0xE6 != 0xE2:
        return None
    version, bitrate, rate = word[1] >> 3 & 3, word[2] >> 4, word[2] >> 2 & 3
    if version == 1 or bitrate == 15 or rate == 3:
        return None
    hertz, padding, channels = RATES[version][rate], word[2] >> 1 & 1, 1 if word[3] >> 6 == 3 else 2
    size = 0
    if bitrate:
        samples = 1152 if version == 3 else 576
        size = samples // 8 * 1000 * KBPS[version == 3][bitrate - 1] // hertz + padding
    side = (32 if channels == 2 else 17) if version == 3 else (17 if channels == 2 else 9)
    return Header(size, (version, hertz, channels), 4 + side)


@dataclass
class Part:
    """Frames of one format behind one another, and the tag in front of them."""

    like: Header
    tag: bytes = b""  # the frame that holds a Xing, Info or VBRI tag
    frames: list[bytes] = field(default_factory=list)

    @property
    def promised_frames(self) -> int | None:
        """Frames that the tag promises; None where there is no tag, or it does not say."""
        at = self.like.tag
        if self.tag[at : at + 4] in (b"Xing", b"Info"):
            flags, count = struct.unpack_from(">II", self.tag, at + 4)
            return int(count) if flags & 1 else None
        return int(struct.unpack_from(">I", self.tag, 36 + 14)[0]) if self.tag else None

    def file(self) -> bytes:
        """The frames behind a tag with their number: their own where it is right. ValueError where some are missing."""
        count, promised = len(self.frames), self.promised_frames
        if not count:
            raise ValueError("no samples in the file")
        if (promised or 0) > count:
            raise ValueError(f"truncated: its tag promises {promised} MPEG frames, there are {count}")
        right = promised == count and self.tag[self.like.tag :][:4] != b"VBRI"
        return (self.tag if right else own_tag(self.frames[0], self.like, count)) + b"".join(self.frames)


def own_tag(frame: bytes, like: Header, count: int) -> bytes:
    """An Info tag that promises `count` frames like this one."""
    words = (bytes([0xFF, frame[1] | 1, bitrate << 4 | frame[2] & 0x0C, frame[3]]) for bitrate in range(1, 15))
    word, size = next((word, head.size) for word in words if (head := header(word)) and head.size > like.tag + 120)
    return (word + bytes(like.tag - 4) + b"Info" + struct.pack(">II", 1, count)).ljust(size, b"\0")


def streams(data: bytes) -> list[bytes]:
    """The parts of a file, each as a file that libsndfile reads to its end; [data] where its own tag is right."""
    files = [part.file() for part in parts(data)]
    at = after_tags(data, 0)
    known = not at or data[:3] == b"ID3"  # libsndfile skips these tags alone
    return [data] if known and files == [data[at:][: len(files[0])]] else files


def begins(data: bytes) -> bool:
    """Whether a file is MPEG audio: it begins with a frame, with tags and a frame, or with the end of a cut one."""
    at = after_tags(data, 0)
    first = header(data[at : at + 4])
    if first is not None and (at > 0 or follows(data, at, first)):
        return True
    return any(in_a_row(data, match.start()) for match in BEGIN.finditer(data, at, at + SEARCHED))


def in_a_row(data: bytes, at: int) -> bool:
    """Whether ROW frames begin there, one after the other, which is no accident."""
    for _ in range(ROW):
        frame = header(data[at : at + 4])
        if frame is None or not frame.size or at + frame.size >= len(data) or not follows(data, at, frame):
            return False
        at += frame.size
    return True


def follows(data: bytes, at: int, frame: Header) -> bool:
    """Whether a frame is followed by another one, by a tag or by the end of the file."""
    end = at + frame.size
    after = header(data[end : end + 4])
    return end >= len(data) or (after is not None and after.format == frame.format) or after_tags(data, end) > end


def after_tags(data: bytes, at: int) -> int:
    """Where the tags (ID3, APE, Lyrics3) and zeros end that begin here."""
    while True:
        word = data[at : at + 10]
        if word[:3] == b"ID3" and len(word) == 10 and max(word[6:]) < 128:
            size = word[6] << 21 | word[7] << 14 | word[8] << 7 | word[9]
            at = min(at + 10 + size + 10 * (word[5] >> 4 & 1), len(data))
        elif word[:4] == b"TAG+":
            at = min(at + 227, len(data))
        elif word[:3] == b"TAG":
            at = min(at + 128, len(data))
        elif word[:8] == b"APETAGEX" and len(data) >= at + 32:
            at = min(at + 32 + int.from_bytes(data[at + 12 : at + 16], "little"), len(data))
        elif word == b"LYRICSBEGI" and (end := data.find(b"LYRICS200", at)) > 0:
            at = end + 9
        elif word[:1] == b"\0":
            at = ZEROS.match(data, at).end()  # type: ignore[union-attr]
        else:
            return at


def parts(data: bytes) -> list[Part]:
    """The parts of an MPEG file: each begins with a tag, or where the format of the frames changes.

    Raises:
        ValueError: a frame is cut, something else lies between frames, or the frames do not tell where they end.
    """
    pieces: list[Part] = []
    at = after_tags(data, 0)
    while at < len(data):
        here = header(data[at : at + 4])
        if here is None:
            at = after_junk(data, at, pieces[-1] if pieces else None)
            continue
        if not here.size:
            raise ValueError("MPEG audio in free format, whose frames do not tell where they end")
        frame = data[at : at + here.size]
        if len(frame) < here.size:
            raise ValueError("truncated: the last MPEG frame is cut")
        tagged = frame[here.tag :][:4] in (b"Xing", b"Info") or frame[36:40] == b"VBRI"
        if tagged or not pieces or pieces[-1].like.format != here.format:
            pieces.append(Part(here, frame if tagged else b""))
        if not tagged:
            pieces[-1].frames.append(frame)
        at = after_tags(data, at + here.size)
    return pieces


def after_junk(data: bytes, at: int, part: Part | None) -> int:
    """Where the next frame begins; the end of the file where there is none and nothing is lost.

    So it is where a tag tells how many frames there are, behind the items of an APE tag without a header, and where
    only a few bytes are left.
    """
    for count, match in enumerate(BEGIN.finditer(data, at)):
        frame = header(data[match.start() : match.start() + 4])
        if frame and frame.size and match.start() + frame.size < len(data) and follows(data, match.start(), frame):
            if part is None and match.start() <= at + SEARCHED and in_a_row(data, match.start()):
                return match.start()
            if part is not None:
                break
        if count == SEARCHED:
            break
    else:
        few = len(data) - at <= TAIL and data[at] != 0xFF
        if part is not None and (part.promised_frames or few or data.find(b"APETAGEX", at) > 0):
            return len(data)
    raise ValueError(f"damaged: no MPEG audio at byte {at}, where a frame or the end is due")
