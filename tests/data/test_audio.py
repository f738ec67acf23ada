"""Reading wavs against scipy and the equations; broken files; windows."""

import io
import os
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile
from scipy.io import wavfile

from emoshare.core.config import WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.data import audio
from emoshare.data import window as windows

GUID = bytes.fromhex("000000001000800000AA00389B71")  # the rest of the sub-format of WAVE_FORMAT_EXTENSIBLE


def riff(
    samples: bytes, tag: int = 1, channels: int = 1, rate: int = 16000, bits: int = 16, extra: bytes = b""
) -> bytes:
    """A wav file by hand; `extra` chunks stand before the samples."""
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits)
    if tag == 0xFFFE:
        form += struct.pack("<HHIH", 22, bits, 0, 1) + GUID
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(form)) + form + extra
    body += b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.fixture
def sine() -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(3200) / 16000)


def test_16_bit_is_scaled_by_32768_exactly(tmp_path):
    values = np.array([-32768, -1, 0, 1, 32767] * 100, np.int16)
    wavfile.write(tmp_path / "a.wav", 16000, values)
    wave = audio.read(tmp_path / "a.wav")
    assert wave.dtype == np.float32
    assert wave.flags.writeable
    np.testing.assert_array_equal(wave, values.astype(np.float64) / 32768)
    assert wave.min() == -1
    assert wave.max() < 1


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64])
def test_other_widths_hold_the_same_sound(tmp_path, sine, dtype):
    stored = {
        np.uint8: np.round(sine * 128 + 128),
        np.int32: np.round(sine * 2**31),
    }.get(dtype, sine)
    wavfile.write(tmp_path / "a.wav", 16000, stored.astype(dtype))
    tolerance = 0.5 / 128 if dtype == np.uint8 else 1e-7
    np.testing.assert_allclose(audio.read(tmp_path / "a.wav"), sine, atol=tolerance)


@pytest.mark.parametrize("tag", [1, 0xFFFE])
def test_24_bit_plain_and_extensible(tmp_path, tag):
    values = [-(2**23), -1, 0, 1, 2**23 - 1]
    packed = b"".join(value.to_bytes(3, "little", signed=True) for value in values)
    (tmp_path / "a.wav").write_bytes(riff(packed, tag, bits=24))
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav"), np.array(values) / 2**23)


def test_chunks_of_odd_length_before_the_samples_are_skipped(tmp_path):
    extra = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    (tmp_path / "a.wav").write_bytes(riff(struct.pack("<3h", 1, 2, 3), extra=extra) + b"trailing")
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav"), np.array([1, 2, 3]) / 32768)


def test_channels_are_averaged(tmp_path):
    wavfile.write(tmp_path / "a.wav", 16000, np.array([[100, 300], [-2, 2], [32767, 32767]], np.int16))
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav"), np.array([200, 0, 32767]) / 32768)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_resampling_keeps_the_tone_and_the_duration(tmp_path, rate):
    time = np.arange(rate // 2) / rate
    wavfile.write(tmp_path / "a.wav", rate, (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32))
    wave = audio.read(tmp_path / "a.wav")
    assert len(wave) == 8000 == windows.Window(9.0).length(0.5)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 16000)
    np.testing.assert_allclose(wave[200:-200], expected[200:-200], atol=0.01)


@pytest.mark.parametrize(("rate", "samples"), [(44100, 256_549), (11025, 1), (48000, 3_000_001), (22050, 9_999)])
def test_resampled_clips_have_the_length_that_the_check_reckons_with(tmp_path, rate, samples):
    wave = np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)
    wavfile.write(tmp_path / "a.wav", rate, wave)
    read = audio.read(tmp_path / "a.wav")
    assert len(read) == windows.Window(100.0).length(samples / rate) == -(-samples * 16000 // rate)
    assert len(windows.Window(100.0).cut(read)) == len(read)


SOUND = struct.pack("<100h", *range(100))
BROKEN = {
    "empty file": b"",
    "not a sound file": b"filename,Anger\nthis is text, not sound\n",
    "promises 200 bytes of samples, there are 150": riff(SOUND)[:-50],
    "truncated: no 'data' chunk": riff(SOUND)[:36],
    "no samples": riff(b""),
    "Channel count is zero": riff(SOUND, channels=0),
    "incomplete": riff(SOUND, rate=0),
    "Malformed 'fmt ' chunk": riff(SOUND, tag=0x50),
    "sample rate of 3999 Hz": riff(SOUND, rate=3999),
    "sample rate of 384001 Hz": riff(SOUND, rate=384001),
    "NaN": riff(struct.pack("<2f", 0.0, float("nan")), tag=3, bits=32),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_broken_files_are_refused_by_name(tmp_path, reason):
    path = tmp_path / "bad.wav"
    path.write_bytes(BROKEN[reason])
    with pytest.raises(EmoshareError, match=rf"bad\.wav: .*{reason}") as error:
        audio.read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("cut", range(1, 244))
def test_a_file_cut_anywhere_is_refused(cut):
    whole = riff(SOUND)
    assert len(whole) == 244
    with pytest.raises(ValueError, match=r"truncated|decoded|not a sound file|empty|no samples"):
        audio.inspect(io.BytesIO(whole[: len(whole) - cut]))


def sound(kind: str, subtype: str | None = None, samples: int = 32000) -> bytes:
    """Noise in a sound file of a format of libsndfile's."""
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).normal(0, 0.1, samples), 16000, format=kind, subtype=subtype)
    return file.getvalue()


KINDS = [("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None), ("AIFF", None), ("WAV", "ULAW")]


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_other_formats_are_read_from_paths_and_open_files(tmp_path, kind, subtype):
    data = sound(kind, subtype)
    (tmp_path / "a").write_bytes(data)
    wave = audio.read(tmp_path / "a")
    expected = np.random.default_rng(0).normal(0, 0.1, 32000)
    assert len(wave) == 32000
    assert np.corrcoef(wave, expected)[0, 1] > 0.8  # noise is hard on lossy formats
    with (tmp_path / "a").open("rb") as file:
        np.testing.assert_array_equal(audio.read(file), wave)
        assert not file.closed
    np.testing.assert_array_equal(audio.read(io.BytesIO(data)), wave)
    assert audio.info(tmp_path / "a") == audio.inspect(tmp_path / "a")[0] == audio.Info(16000, 1, 32000)
    assert audio.info(io.BytesIO(data)).seconds == 2


@pytest.mark.parametrize("cut", [1, 2, 50, 0.1, 0.5, 0.9])
@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_other_formats_cut_short_are_refused(tmp_path, kind, subtype, cut):
    data = sound(kind, subtype)
    path = tmp_path / "cut"
    path.write_bytes(data[: -cut if cut >= 1 else -int(cut * len(data))])
    with pytest.raises(EmoshareError, match=r"cut: (truncated|cannot be decoded)"):
        audio.read(path)
    with pytest.raises(ValueError, match=r"truncated|cannot be decoded"):
        audio.inspect(path)


@pytest.mark.parametrize("kind", ["AU", "W64"])
def test_formats_whose_end_cannot_be_checked_are_refused(tmp_path, kind):
    (tmp_path / "a").write_bytes(sound(kind))
    with pytest.raises(EmoshareError, match=f"{kind} is not read.*convert it"):
        audio.read(tmp_path / "a")


def test_pipes_and_devices_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "link.wav").symlink_to("/dev/zero")
    for name in ("pipe.wav", "link.wav"):
        with pytest.raises(EmoshareError, match=f"{name}: not a regular file"):
            audio.read(tmp_path / name)


def test_large_files_and_large_contents_are_refused(tmp_path):
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros(1_000_000), 16000, format="FLAC")
    for data in (riff(bytes(2_000_000)), silence.getvalue()):
        assert len(audio.read(io.BytesIO(data), max_mb=2.1)) == 1_000_000
        with pytest.raises(EmoshareError, match=r"more than 1\.9 MB.*data\.max_mb"):
            audio.read(io.BytesIO(data), max_mb=1.9)


@pytest.mark.parametrize("rate", [8_011, 11_127, 44_101, 383_999])
def test_odd_rates_keep_the_tone_in_bounded_memory(tmp_path, rate):
    """A filter with a weight for each of up × down phases would take 4.6 GB for 8,011 Hz."""
    time = np.arange(rate) / rate
    wavfile.write(tmp_path / "a.wav", rate, (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32))
    tracemalloc.start()
    wave = audio.read(tmp_path / "a.wav")
    peak = tracemalloc.get_traced_memory()[1]  # numpy's arrays count
    tracemalloc.stop()
    assert peak < 1e9
    assert wave.dtype == np.float32
    assert len(wave) == 16000
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(wave[200:-200], expected[200:-200], atol=0.005)


def tone(hertz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate).astype(np.float32)


def decibel(wave: np.ndarray) -> float:
    """Of a tone at full scale, without the ends."""
    return 10 * np.log10(2 * np.mean(np.square(wave[1000:-1000].astype(np.float64))) + 1e-30)


@pytest.mark.parametrize("rate", [22050, 24000, 44100, 48000, 96000, 44101, 50000])
def test_what_lies_above_8_khz_is_gone_and_below_is_kept(rate):
    """torchaudio's default filter leaves 8.1 kHz at -7 dB, which then is a tone of 7.9 kHz."""
    for hertz in (8100, 8500, 9000, 10_000, 12_000, 15_900, 16_100, 20_000):
        if hertz < rate / 2:
            assert decibel(audio.at_16k(tone(hertz, rate), rate)) < -100
    for hertz in (50, 1000, 4000, 7000):
        assert decibel(audio.at_16k(tone(hertz, rate), rate)) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("rate", [8000, 11025, 12000, 22050, 32000, 44100, 48000, 96000, 192000, 11127, 383999])
def test_a_tone_comes_out_at_its_time_in_as_many_samples(rate):
    wave = audio.at_16k(tone(1234, rate, 0.5), rate)
    assert wave.dtype == np.float32
    assert len(wave) == windows.sample_count(round(rate * 0.5) / rate)
    np.testing.assert_allclose(wave[400:-400], tone(1234, 16000, 0.6)[: len(wave)][400:-400], atol=2e-6)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "absent.wav", tmp_path):
        with pytest.raises(EmoshareError, match="cannot be read"):
            audio.read(path)


def test_window_comes_from_its_config():
    window = windows.Window.of(WindowConfig(seconds=0.032, crop="center", pad="none"))
    assert (window.samples, window.crop, window.pad) == (512, "center", "none")


@pytest.mark.parametrize(("crop", "start"), [("start", 0), ("center", 30), ("random", 30)])
def test_a_long_clip_is_cropped(crop, start):
    wave = np.arange(860, dtype=np.float32)
    cut = windows.Window(0.05, crop).cut(wave)
    np.testing.assert_array_equal(cut, wave[start : start + 800])


def test_random_crop_in_training_reaches_every_start():
    wave = np.arange(803, dtype=np.float32)
    window = windows.Window(0.05, "random")
    rng = np.random.default_rng(0)
    starts = {int(window.cut(wave, rng, training=True)[0]) for _ in range(100)}
    assert starts == {0, 1, 2, 3}


def test_zero_padding_leaves_a_short_clip_as_it_is():
    wave = np.ones(123, np.float32)
    np.testing.assert_array_equal(windows.Window(1.0).cut(wave), wave)
    assert windows.Window(1.0).length(123) == 123


@pytest.mark.parametrize(
    ("samples", "kept"), [(1, 400), (399, 400), (400, 400), (719, 400), (720, 720), (16000, 15760), (99999, 15760)]
)
def test_without_padding_clips_are_cut_to_whole_frames(samples, kept):
    window = windows.Window(1.0, pad="none")
    wave = np.ones(samples, np.float32)
    cut = window.cut(wave)
    assert len(cut) == kept == window.length(samples)
    assert cut.sum() == min(samples, kept)  # zeros fill a clip shorter than one frame
    assert (kept - 400) % 320 == 0


def test_length_takes_durations_as_well():
    window = windows.Window(5.5)
    for samples in (1, 400, 46123, 87999, 88000, 90000):
        assert window.length(samples / 16000) == window.length(samples)
