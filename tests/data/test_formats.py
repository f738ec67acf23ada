"""Sound files that are not what libsndfile takes them for: all of it is read, or refused with the reason."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emoshare.core.errors import EmoshareError
from emoshare.data import audio
from emoshare.data.formats import flac, mpeg, name_of, ogg

RNG = np.random.default_rng(0)
VOICE = (0.2 * RNG.normal(size=24_000) * np.abs(np.sin(np.arange(24_000) / 3000))).astype(np.float32)
QUIET = (0.001 * RNG.normal(size=24_000)).astype(np.float32)


def sound(kind: str, subtype: str | None = None, wave: np.ndarray = VOICE, rate: int = 16_000, **options: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=kind, subtype=subtype, **options)
    return file.getvalue()


def read(data: bytes) -> np.ndarray:
    return audio.read(io.BytesIO(data))


def refused(data: bytes) -> str:
    """Why a file is refused, by reading and by the check alike."""
    with pytest.raises(ValueError, match=r"\w") as error:
        audio.inspect(io.BytesIO(data))
    with pytest.raises(EmoshareError):
        read(data)
    return str(error.value)


def wav(
    samples: bytes, size: int | None = None, whole: int | None = None, before: bytes = b"", order: str = "<"
) -> bytes:
    """A WAV file of 16-bit samples; `size` and `whole` stand in its chunks in place of what is there."""
    form = struct.pack(f"{order}HHIIHH", 1, 1, 16_000, 32_000, 2, 16)
    body = b"WAVEfmt " + struct.pack(f"{order}I", 16) + form + before + b"data"
    body += struct.pack(f"{order}I", len(samples) if size is None else size) + samples
    magic = b"RIFF" if order == "<" else b"RIFX"
    return magic + struct.pack(f"{order}I", len(body) if whole is None else whole) + body


VALUES = (1000 * RNG.normal(size=2000)).astype(np.int16)
PCM = VALUES.tobytes()
LIST = b"LIST" + struct.pack("<I", 4) + b"INFO"


# WAV and AIFF


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("before", [b"", LIST], ids=["plain", "LIST"])
@pytest.mark.parametrize(
    "size", [0, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFF000, 0x7F000000, 0x80000000, 0xFFFFFFDB, 0x7FFFFFFF - 36]
)
def test_wav_of_unknown_size_is_read_to_its_end(size: int, before: bytes, order: str) -> None:
    if order == ">":
        before = before[:4] + before[4:8][::-1] + before[8:]
    samples = VALUES.astype(f"{order}i2").tobytes()
    for tail in (b"", b"\x01"):  # half a sample, as a writer that was killed leaves it
        np.testing.assert_array_equal(read(wav(samples + tail, size, size, before, order)), VALUES / 32768)


def test_what_has_no_samples_or_too_few_is_refused() -> None:
    assert (
        refused(wav(b"", 0)) == refused(wav(b"", 0) + LIST) == refused(wav(b"", 0xFFFFFFFF)) == "no samples in the file"
    )
    assert "promises 4002 bytes of samples, there are 4000" in refused(wav(PCM, 4002))
    assert "promises 2013265920" in refused(wav(PCM, 0x78000000))


@pytest.mark.parametrize("kind", ["RIFX", "RF64", "AIFF"])
@pytest.mark.parametrize("cut", [1, 2, 1000, 3999])
def test_truncated_members_of_the_family(kind: str, cut: int) -> None:
    whole = wav(VALUES.byteswap().tobytes(), order=">") if kind == "RIFX" else sound(kind, "PCM_16", VALUES)
    np.testing.assert_array_equal(read(whole), VALUES / 32768)
    assert refused(whole[:-cut]).startswith("truncated")


def test_an_aiff_whose_header_counts_other_samples() -> None:
    data = bytearray(sound("AIFF", "PCM_16", VALUES))
    at = data.find(b"COMM") + 10
    data[at : at + 4] = struct.pack(">I", 3000)
    assert "promises 3000 samples, and has room for 2000" in refused(bytes(data))
    at = data.find(b"SSND") + 4
    data[at : at + 4] = bytes(4)
    assert "does not say how many samples" in refused(bytes(data))


def test_joined_wavs_are_read_one_after_the_other() -> None:
    twice = np.tile(VALUES, 2) / 32768
    np.testing.assert_array_equal(read(wav(PCM) + wav(PCM)), twice)
    np.testing.assert_array_equal(read(wav(PCM) + LIST + wav(PCM) + LIST), twice)
    np.testing.assert_array_equal(read(wav(PCM, 0xFFFFFFFF) + wav(PCM, 0)), twice)
    np.testing.assert_array_equal(read(sound("AIFF", "PCM_16", VALUES) * 2), twice)
    np.testing.assert_array_equal(read(wav(PCM[:-1], 3999) + wav(PCM))[-2000:], VALUES / 32768)  # not padded
    assert "joined of parts with different sample rates" in refused(wav(PCM) + sound("WAV", "PCM_16", VALUES, 8000))
    assert refused(wav(PCM) + wav(PCM)[:-7]).startswith("truncated")


def test_samples_that_no_chunk_tells_of_are_refused() -> None:
    assert "bytes behind the samples are no chunk" in refused(wav(PCM, 1000))
    assert "several 'data' chunks" in refused(wav(PCM) + b"data" + struct.pack("<I", 4000) + PCM)
    for harmless in (b"\0" * 5000, LIST, b"TAG".ljust(128), b"LIST" + struct.pack("<I", 9999) + bytes(50)):
        np.testing.assert_array_equal(read(wav(PCM) + harmless), VALUES / 32768)


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [(kind, subtype) for kind in ("WAV", "AIFF") for subtype in soundfile.available_subtypes(kind)
     if subtype not in ("DWVW_12", "DWVW_16", "DWVW_24", "MPEG_LAYER_III")],
)  # fmt: skip
def test_every_codec_of_libsndfile_is_read_whole(kind: str, subtype: str) -> None:
    """Of some, as GSM 6.10, it cannot seek."""
    data = sound(kind, subtype)
    wave = read(data)
    assert 0 <= len(wave) - len(VOICE) < 1000  # whole blocks
    smooth = np.ones(8) / 8  # some are made for telephones
    near = np.corrcoef(np.convolve(wave[: len(VOICE)], smooth), np.convolve(VOICE, smooth))[0, 1]
    assert near > 0.6
    assert "truncated" in refused(data[: len(data) // 2])


# OGG and FLAC


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_chained_ogg_is_read_link_by_link(subtype: str) -> None:
    one, other = sound("OGG", subtype), sound("OGG", subtype, QUIET)
    np.testing.assert_array_equal(read(one + other + one), np.concatenate([read(one), read(other), read(one)]))
    assert audio.info(io.BytesIO(one + other)).samples == 48_000
    assert refused((one + other)[:-1]).startswith("truncated")
    assert "damaged" in refused(one + b"no page")


def test_an_ogg_page_that_is_missing_damaged_or_of_another_stream() -> None:
    data = sound("OGG", "VORBIS", np.tile(VOICE, 4))
    pages, at = [], 0
    while at < len(data):
        pages.append(ogg.read_page(data, at)[0])
        at += len(pages[-1])
    assert len(pages) > 4
    assert "does not follow the one before" in refused(b"".join(pages[:3] + pages[4:]))
    flipped = bytearray(data)
    flipped[-len(pages[-1]) - 20] ^= 1
    assert "checksum" in refused(bytes(flipped))
    assert refused(b"".join(pages[:-1])).startswith("truncated")
    assert "side by side" in refused(pages[0] + data)
    assert refused(b"".join(pages[:3]) + data).startswith("truncated")
    speex = bytearray(pages[0].replace(b"\x01vorbis", b"Speex  "))
    speex[22:26] = struct.pack("<I", ogg.crc(bytes(speex[:22] + bytes(4) + speex[26:])))
    assert "OGG with Speex is not read; convert it: ffmpeg -i" in refused(bytes(speex) + b"".join(pages[1:]))


def without_total(data: bytes) -> bytes:
    """A FLAC file as an encoder leaves it that writes into a pipe."""
    return data[:21] + bytes([data[21] & 0xF0]) + bytes(4) + data[26:]


@pytest.mark.parametrize("samples", [4096, 5000, 24_000, 4096 * 150 + 7])
def test_flac_that_does_not_tell_its_length(samples: int) -> None:
    wave = np.resize(VOICE, samples)
    data = sound("FLAC", "PCM_16", wave)
    streamed = without_total(data)
    assert flac.last_sample(streamed, 0) == samples
    np.testing.assert_array_equal(read(streamed), read(data))
    np.testing.assert_array_equal(read(streamed * 2), np.tile(read(data), 2))
    assert refused(streamed[:-1]).startswith("truncated")


def test_flac_joined_or_with_another_length_than_it_says() -> None:
    data = sound("FLAC", "PCM_16")
    np.testing.assert_array_equal(read(data * 3), np.tile(read(data), 3))
    np.testing.assert_array_equal(read(b"ID3\x04\0\0\0\0\0\x05hello" + data), read(data))
    assert "the last frame ends with 24000" in refused(data[:22] + struct.pack(">I", 4096) + data[26:])
    assert refused(data[:22] + struct.pack(">I", 30_000) + data[26:]).startswith("truncated")
    assert refused(data + data[:-100]).startswith("truncated")


# MP3

LOUD_FIRST = np.concatenate([VOICE, QUIET, QUIET])


def frames_of(data: bytes) -> list[bytes]:
    (part,) = mpeg.parts(data)
    assert part.tag
    return part.frames


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100])  # MPEG-2.5, 2, 2, 1
@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_without_a_tag_is_read_to_its_end(rate: int, mode: str, channels: int) -> None:
    """Encoder and decoder delay are not taken off then, as nothing tells of them."""
    wave = np.repeat(LOUD_FIRST[:, None], channels, axis=1)
    data = sound("MP3", None, wave, rate, bitrate_mode=mode)
    frames = frames_of(data)
    plain = audio.inspect(io.BytesIO(b"".join(frames)))[2]
    whole = audio.inspect(io.BytesIO(data))[2]
    assert len(whole) == len(wave)
    assert len(plain) == len(frames) * (1152 if rate == 44_100 else 576) - 529  # the decoder's own delay
    delays = range(300, 1800)
    delay = delays[int(np.argmax([np.dot(plain[d : d + 4000].ravel(), whole[:4000].ravel()) for d in delays]))]
    shared = plain[delay : delay + len(whole) - 1200]
    np.testing.assert_allclose(shared[1200:], whole[1200 : len(shared)], atol=1e-4)


def test_joined_mp3s_are_read_one_after_the_other() -> None:
    one, other = sound("MP3"), sound("MP3", None, LOUD_FIRST, bitrate_mode="VARIABLE")
    parts = [read(one), read(other), read(one)]
    np.testing.assert_array_equal(read(one + other + one), np.concatenate(parts))
    tags = [
        b"TAG".ljust(128, b"x"),
        b"ID3\x03\0\0\0\0\0\x04abcd",
        b"APETAGEX" + struct.pack("<II", 2000, 32).ljust(56, b"\0"),
        b"\0" * 50,
    ]
    for tag in tags:
        np.testing.assert_array_equal(
            read(tag[: len(tag) * (tag[:3] == b"ID3")] + one + tag + other), np.concatenate(parts[:2])
        )
    plain = b"".join(frames_of(one))
    assert len(read(plain * 2)) == 2 * len(frames_of(one)) * 576 - 529
    assert len(read(one + plain)) == 2 * len(frames_of(one)) * 576 - 529  # which is more than its tag says
    assert "different sample rates" in refused(one + sound("MP3", rate=22_050))
    assert "truncated" in refused(one + other[:-1])


def test_a_tag_that_promises_other_frames() -> None:
    data = sound("MP3")
    (part,) = mpeg.parts(data)
    assert part.promised_frames == len(part.frames)
    at = part.like.tag + 8
    more, fewer = (part.tag[:at] + struct.pack(">I", len(part.frames) + by) + part.tag[at + 4 :] for by in (1, -20))
    frames = b"".join(part.frames)
    assert f"promises {len(part.frames) + 1} MPEG frames, there are" in refused(more + frames)
    assert len(read(fewer + frames)) == len(part.frames) * 576 - 529
    assert "promises" in refused(part.tag + b"".join(part.frames[:30]))
    assert "promises" in refused(part.tag + b"".join(part.frames[:10] + part.frames[12:]))


def test_what_is_no_mp3_frame() -> None:
    data = sound("MP3")
    frames = frames_of(data)
    np.testing.assert_array_equal(read(data + b"garbage" * 20), read(data))  # the tag says that nothing is missing
    assert "damaged" in refused(b"".join(frames) + b"garbage" * 20)
    assert "damaged" in refused(b"".join(frames[:9]) + b"garbage" * 20 + b"".join(frames[9:]))
    assert "last MPEG frame is cut" in refused(b"".join(frames)[:-1])
    free = bytes([*frames[0][:2], frames[0][2] & 0x0F])
    assert "free format" in refused(b"ID3\x03\0\0\0\0\0\0" + free + frames[0][3:] + b"".join(frames[1:]))


# Formats that are not read

OTHERS = {
    "MPEG-4": b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42",
    "3GPP": b"\0\0\0\x18ftyp3gp4\0\0\0\0",
    "QuickTime": b"\0\0\0\x14ftypqt  ",
    "Windows Media": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    "Matroska": b"\x1a\x45\xdf\xa3\x01\0\0\0",
    "AMR": b"#!AMR\n\x3c",
    "Core Audio": b"caff\0\x01\0\0desc",
    "AAC": b"\xff\xf1\x50\x80\x02\x1f\xfc",
    "layer II": b"\xff\xfd\x84\x04" + bytes(400),
    "AVI": b"RIFF\x10\0\0\0AVI LIST",
    "SILK": b"\x02#!SILK_V3",
    "Monkey": b"MAC \x96\x0f\0\0",
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_are_named_with_the_line_that_converts_them(tmp_path: Path, name: str) -> None:
    assert name in name_of(OTHERS[name][:16])
    assert name != "AAC" or name in name_of(b"ID3\x03\0\0\0\0\0\x01x" + OTHERS[name])
    for file, to in {"a memo.x": "a memo.wav", "b.wav": "b.flac"}.items():
        (tmp_path / file).write_bytes(OTHERS[name])
        with pytest.raises(EmoshareError, match=f"{name}.* is not read; convert it: ffmpeg -i") as error:
            audio.read(tmp_path / file)
        assert str(error.value).rstrip("'").endswith(f"{tmp_path}/{to}")


@pytest.mark.parametrize("text", ["MAC addresses", "caffeine", "FLVs", "", "TAGS", "ID3", "\0\0\0\0", "DSD x"])
def test_text_is_no_sound(text: str) -> None:
    assert name_of(text.encode()) == ""
    assert refused(text.encode() + b"\n" * 50) == "not a sound file"


# Scale


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("AIFF", "FLOAT"), ("WAVEX", "FLOAT"), ("RF64", "DOUBLE")],
)
@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_float_files_of_another_scale(kind: str, subtype: str, bits: int) -> None:
    scale = 2.0 ** (bits - 1)
    data = sound(kind, subtype, VOICE.astype(np.float64) * scale)
    assert f"is full scale; say what full scale is: --scale {scale:.0f} (data.scale" in refused(data)
    np.testing.assert_allclose(audio.read(io.BytesIO(data), scale=scale), VOICE, atol=1e-7)
    with pytest.raises(EmoshareError, match="where 3 is full scale"):
        audio.read(io.BytesIO(data), scale=3)


def test_overshoot_is_no_other_scale_and_integers_have_theirs() -> None:
    loud = VOICE / np.abs(VOICE).max()
    for peak in (1.0, 1.3, 1.9):
        np.testing.assert_allclose(read(sound("WAV", "FLOAT", peak * loud)), peak * loud, rtol=1e-6)
    assert "full scale" in refused(sound("WAV", "FLOAT", 2.1 * loud))
    np.testing.assert_array_equal(
        audio.read(io.BytesIO(sound("WAV", "PCM_16", loud)), scale=32768), read(sound("WAV", "PCM_16", loud))
    )


@pytest.mark.parametrize("blocks", [4, 5])
@pytest.mark.parametrize("order", ["FILE", "BIG"])
def test_gsm_in_wav_ends_with_its_last_block(blocks: int, order: str) -> None:
    """libsndfile takes the byte that pads an odd number of blocks for a block, and makes noise of it."""
    file = io.BytesIO()
    soundfile.write(file, VOICE[: 320 * blocks], 8000, format="WAV", subtype="GSM610", endian=order)
    data = file.getvalue()
    longer = io.BytesIO()  # whose blocks are even
    soundfile.write(longer, VOICE[: 320 * 6], 8000, format="WAV", subtype="GSM610", endian=order)
    found = audio.inspect(io.BytesIO(data))[2]
    np.testing.assert_array_equal(found, audio.inspect(io.BytesIO(longer.getvalue()))[2][: 320 * blocks])
    np.testing.assert_array_equal(audio.inspect(io.BytesIO(data * 2))[2], np.tile(found, 2))


@pytest.mark.parametrize("size", [None, 0xFFFFFFFF])
def test_mp3_in_wav_is_read_as_mp3(size: int | None) -> None:
    data = b"".join(frames_of(sound("MP3")))
    form = struct.pack("<HHIIHH", 0x55, 1, 16_000, 4000, 1, 0)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", size or len(data)) + data
    np.testing.assert_array_equal(read(b"RIFF" + struct.pack("<I", len(body)) + body), read(data))


def test_mp3_with_other_bytes_around_it() -> None:
    frames = frames_of(sound("MP3"))
    data = b"".join(frames)
    tag = b"\5\0\0\0\0\0\0\0Title\0hello" + b"x" * 900 + b"APETAGEX" + struct.pack("<IIII", 1000, 950, 1, 0) + bytes(8)
    for harmless in (b"\n", b"3DI\4\0\0\0\0\0\0", tag, b"TAG+".ljust(227) + b"TAG".ljust(128)):
        np.testing.assert_array_equal(read(data + harmless), read(data))
    np.testing.assert_array_equal(read(frames[0][100:] + b"".join(frames[1:])), read(b"".join(frames[1:])))
    head = b"APETAGEX" + struct.pack("<IIII", 2000, 50, 1, 0xA0000000) + bytes(8) + bytes(50)
    np.testing.assert_array_equal(read(head + sound("MP3")), read(sound("MP3")))
    assert "not a sound file" in refused(RNG.bytes(50_000))
    assert refused(data + frames[-1][:3])
    assert refused(data + RNG.bytes(900)).startswith("damaged")
