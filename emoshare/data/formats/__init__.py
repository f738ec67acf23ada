"""The length that the bytes of a sound file promise.

libsndfile reads a truncated file as a shorter one without an error, and of joined files the first.

So a file is taken apart into streams, each of which is a file that libsndfile reads to its end. Most files are one
stream, as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from emoshare.data.formats import flac, mpeg, ogg, riff

HEAD = 40  # bytes by which a format is known
NAMES = {  # how files begin that are not read → what they are
    rb"....ftypqt|....(moov|mdat|wide)": "QuickTime (mov)",
    rb"....ftyp3g": "3GPP (3gp)",
    rb"....ftyp": "MPEG-4 (m4a, mp4)",
    rb"\x30\x26\xb2\x75": "Windows Media (wma, asf)",
    rb"\x1a\x45\xdf\xa3": "Matroska (webm, mkv)",
    rb"#!AMR": "AMR",
    rb".?#!SILK": "SILK",
    rb"caff\x00\x01": "Core Audio (caf)",
    rb"RIFF....AVI ": "AVI",
    rb"FLV\x01": "Flash video (flv)",
    rb"wvpk": "WavPack",
    rb"MAC .[\x0c-\x10]": "Monkey's Audio (ape)",
    rb"TTA[12]": "True Audio (tta)",
    rb"MPCK|MP\+[\x07\x17]": "Musepack",
    rb"\.RMF|\.ra\xfd": "RealAudio",
    rb"DSD \x1c|FRM8": "DSD",
    rb"\.snd\x00": "AU",
    rb"OggS.{24}Speex": "OGG with Speex",
    rb"OggS.{24}\x80theora": "OGG with Theora (a video)",
    rb"OggS.{24}fishead": "OGG with a skeleton of several streams",
    rb"NIST_1A": "NIST SPHERE (sph)",
    rb"Creative Voice": "Creative Voice (voc)",
    rb"riff\x2e\x91\xcf\x11": "W64",
    rb"\x0b\x77": "AC-3",
    rb"\xff[\xf4\xf5\xfc\xfd]": "MPEG audio, layer II (mp2)",
    rb"\xff[\xf0\xf1\xf8\xf9]|ADIF": "AAC",
    rb"\x00\x00\x01[\xb3\xba]": "MPEG video (mpg)",
}
BEGINS = {re.compile(begin, re.DOTALL): name for begin, name in NAMES.items()}


def streams(data: bytes) -> list[bytes]:
    """The streams of a file in order, each as a file of its own; [data] where it is one; none of another format.

    Raises:
        ValueError: the file ends before what its headers promise, or holds what they do not tell of.
    """
    data = strip_tags(data)
    if name_of(data):
        return []
    if split := reader(data):
        return split(data)
    return mpeg.streams(data) if mpeg.begins(data) else []


def reader(data: bytes) -> Callable[[bytes], list[bytes]] | None:
    """The function that takes apart a file that begins so, but for MPEG audio."""
    if data[:4] in riff.MAGIC and data[8:12] in riff.FORMS:
        return riff.streams
    return {b"OggS": ogg.streams, b"fLaC": flac.streams}.get(data[:4])


def strip_tags(data: bytes) -> bytes:
    """A file without ID3 tags in front of another format than MPEG audio."""
    after = data[mpeg.after_tags(data, 0) :] if data[:3] == b"ID3" else data
    return data if mpeg.header(after[:4]) else after


def name_of(data: bytes) -> str:
    """The name of a file that begins so and is not read: a format of sound or video; "" where it is neither."""
    head = strip_tags(data)[:HEAD]
    return next((name for begin, name in BEGINS.items() if begin.match(head)), "")
