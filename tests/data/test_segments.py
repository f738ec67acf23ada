"""Clips that are segments of recordings: their names, their samples, what is wrong with them, and a run on them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emoshare.command.compose import compose_one
from emoshare.core.errors import EmoshareError
from emoshare.data import audio, corpus
from emoshare.data.partition import Corpus
from emoshare.data.spans import Span, seconds_of, segment_name, span_of, split_name

SECONDS = {"a": 4.0, "b": 5.0, "c": 3.0}
RATES = {"a": 16_000, "b": 44_100, "c": 16_000}
CHANNELS = {"a": 1, "b": 2, "c": 1}
ROWS = [  # file, split, start, end
    ("a", "train", 0, 0.5), ("a", "train", 0.5, 1.125), ("a", "train", 1.5, 2.1), ("a", "train", 3.3337, 4.0),
    ("b", "train", 0.1, 1), ("b", "train", 1, 1.7501), ("b", "train", 2.5, 3), ("b", "train", 4.2, 5),
    ("c", "dev", 0, 0.5), ("c", "dev", 0.6, 1.3), ("c", "dev", 1.4, 2), ("c", "dev", 2.2, 3),
]  # fmt: skip
KEYS = ["data.targets=[Joy,Fear]", "data.columns={file: Recording, start: from, end: to}"]


def table_of(rows: list[tuple], labels: np.ndarray) -> str:
    lines = [
        f"{file}.wav,{split},{start},{end},{joy:.3f},{fear:.3f}"
        for (file, split, start, end), (joy, fear) in zip(rows, labels, strict=True)
    ]
    return "\n".join(["Recording,split,from,to,Joy,Fear", *lines]) + "\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three recordings with a table of segments, and each segment as a file of its own with a table of these."""
    rng = np.random.default_rng(0)
    waves, labels = {}, rng.uniform(size=(len(ROWS), 2))
    for folder in ("data/wav", "cut/wav"):
        (tmp_path / folder).mkdir(parents=True)
    for name, seconds in SECONDS.items():
        shape = (round(seconds * RATES[name]), CHANNELS[name])
        waves[name] = rng.integers(-9999, 9999, shape).astype(np.int16)
        soundfile.write(tmp_path / f"data/wav/{name}.wav", waves[name], RATES[name])
    for number, (name, _, start, end) in enumerate(ROWS):
        first, last = (round(time * RATES[name]) for time in (start, end))
        soundfile.write(tmp_path / f"cut/wav/{number:02}.wav", waves[name][first:last], RATES[name])
    (tmp_path / "data/labels.csv").write_text(table_of(ROWS, labels))
    cut = [(f"{number:02}", split, "", "") for number, (_, split, _, _) in enumerate(ROWS)]
    (tmp_path / "cut/labels.csv").write_text(table_of(cut, labels))
    return tmp_path / "data"


def load(root: Path, *keys: str) -> Corpus:
    return corpus.load(compose_one(["data=table", f"data.root={root}", *KEYS, *keys]).data, root.parent / "cache")


def report(root: Path, *keys: str) -> str:
    with pytest.raises(EmoshareError) as error:
        load(root, *keys)
    return str(error.value)


def test_a_segment_is_what_a_file_of_its_samples_would_be(root: Path) -> None:
    cut = load(root.parent / "cut")  # no times: the files themselves
    assert cut.files[:2] == ("00.wav", "01.wav")
    for _ in range(2):  # read in full, and remembered
        loaded = load(root)
        assert loaded.files[:5] == (
            "a.wav#t=0,0.5", "a.wav#t=0.5,1.125", "a.wav#t=1.5,2.1", "a.wav#t=3.3337,4", "b.wav#t=0.1,1",
        )  # fmt: skip
        np.testing.assert_array_equal(loaded.seconds, cut.seconds)
        for own, other, digest in zip(loaded.files, cut.files, loaded.digests, strict=True):
            wave = audio.read(loaded.path(own), sha256=digest)
            np.testing.assert_array_equal(wave, audio.read(cut.path(other)))
    assert len(set(loaded.digests)) == len(ROWS)
    assert not any("no table names" in text or "overlap" in text for text in loaded.warnings)


def test_a_segment_of_an_mp3_has_the_onset_after_a_pause(tmp_path: Path) -> None:
    """libsndfile 1.2.2 loses it where it seeks: quiet frames of a variable bit rate keep bits of the loud one after."""
    seconds = np.arange(64_000) / 16_000
    soundfile.write(tmp_path / "a.mp3", 0.5 * np.sin(2 * np.pi * 440 * seconds) * (seconds % 2 > 1), 16_000)
    whole, part = audio.read(tmp_path / "a.mp3"), audio.read(tmp_path / "a.mp3#t=0.73,1.5")
    np.testing.assert_array_equal(part, whole[11_680:24_000])


def test_a_recording_that_has_changed_is_noticed(root: Path) -> None:
    loaded = load(root)
    soundfile.write(root / "wav/a.wav", np.zeros(64_000), 16_000)
    with pytest.raises(EmoshareError, match=r"a.wav#t=0,0.5: has changed since it was checked"):
        audio.read(loaded.path("a.wav#t=0,0.5"), sha256=loaded.digests[0])
    assert load(root).fingerprint != loaded.fingerprint


FORMS = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"), ("FLAC", "PCM_16"),
    ("AIFF", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "kind"), FORMS)
def test_segments_in_any_order_decode_a_recording_once(form, kind, tmp_path, monkeypatch) -> None:
    files = [tmp_path / f"{n}.{form.lower()}" for n in range(6)]
    for number, file in enumerate(files):
        wave = np.random.default_rng(number).normal(0, 0.1, 2 * 16_000)
        soundfile.write(file, wave, 16_000, format=form, subtype=kind)
    whole = [audio.read(file) for file in files]
    opened: list[str] = []
    open_audio = audio.open_audio
    monkeypatch.setattr(audio, "open_audio", lambda file, *rest: opened.append(file) or open_audio(file, *rest))
    for start in (1.2, 0.3, 0.75):
        for file, wave in zip(files, whole, strict=True):
            part = audio.read(f"{file}#t={start},{start + 0.4}")
            np.testing.assert_array_equal(part, wave[round(start * 16_000) : round((start + 0.4) * 16_000)])
    if kind not in ("IMA_ADPCM", "VORBIS", "MPEG_LAYER_III"):  # of which a part by itself has other samples
        assert len(opened) == len(files)


@pytest.mark.parametrize("form", ["{:g}", "0 days 00:00:0{:.9f}", "00:00:0{:.4f}", "decimal comma", "parquet"])
def test_times_in_any_form(root: Path, form: str) -> None:
    plain = load(root)
    text = (root / "labels.csv").read_text().splitlines()
    rows = [line.split(",") for line in text[1:]]
    if form == "parquet":
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        columns = dict(zip(text[0].split(","), map(list, zip(*rows, strict=True)), strict=True))
        for word in ("from", "to"):
            columns[word] = pa.array([round(float(cell) * 1e9) for cell in columns[word]], pa.duration("ns"))
        parquet.write_table(pa.table(columns), root / "labels.parquet")
        assert load(root, "data.table=labels.parquet").fingerprint == plain.fingerprint
        return
    for row in rows:
        if form == "decimal comma":
            row[2:] = [cell.replace(".", ",") for cell in row[2:]]
        else:
            row[2:4] = [form.format(float(cell)) for cell in row[2:4]]
    (root / "labels.csv").write_text("\n".join(";".join(row) for row in (text[0].split(","), *rows)))
    assert load(root).fingerprint == plain.fingerprint


def test_an_open_end_is_that_of_the_recording(root: Path) -> None:
    text = (root / "labels.csv").read_text().replace("a.wav,train,3.3337,4.0", "a.wav,train,3.3337,NaT")
    (root / "labels.csv").write_text(text.replace("c.wav,dev,2.2,3", "c.wav,dev,2.2,3.009"))  # rounded up
    loaded = load(root)
    assert loaded.files[3] == "a.wav#t=3.3337"
    assert loaded.seconds[[3, 11]].tolist() == pytest.approx([0.6663, 0.8], abs=1e-4)


WRONG = {
    "labels.csv:3: a.wav: start 0.5 is not before end 0.25": ("0.5,1.125", "0.5,0.25"),
    "labels.csv:4: a.wav: start='later': must be seconds, or a time as 0 days 00:00:01.5": ("1.5,2.1", "later,2.1"),
    "labels.csv:4: a.wav: start='-1': must be seconds, or a time as": ("1.5,2.1", "-1,2.1"),
    "labels.csv:13: c.wav#t=2.2,3.2: the recording ends at 3 s; correct the segment's times": ("2.2,3", "2.2,3.2"),
    "a.wav#t=7,8: the recording ends at 4 s; correct the segment's times, or leave start and end": ("1.5,2.1", "7,8"),
    "labels.csv:4: a.wav#t=1.5,1.50001: the segment holds no sample; correct its times": ("1.5,2.1", "1.5,1.50001"),
    "labels.csv:3: a.wav#t=0,0.5 is already in labels.csv:2": ("0.5,1.125", "0,0.5"),
    "no column 'from'; did you mean 'fram'? (data.columns.start)": ("from", "fram"),
}  # fmt: skip


@pytest.mark.parametrize("line", WRONG)
def test_what_is_wrong_with_a_segment_is_one_line(root: Path, line: str) -> None:
    text = (root / "labels.csv").read_text()
    assert WRONG[line][0] in text
    (root / "labels.csv").write_text(text.replace(*WRONG[line]))
    found = report(root)
    assert found.count(line) == 1
    assert "errors: 1, " in found


def test_all_wrong_times_are_one_mistake_each(root: Path) -> None:
    text = (root / "labels.csv").read_text()
    (root / "labels.csv").write_text(text.replace("a.wav,train,", "a.wav,train,x"))
    found = report(root)
    assert "errors: 4, " in found
    assert "start='x0'" in found


def test_segments_that_overlap_are_named(root: Path) -> None:
    text = (root / "labels.csv").read_text()
    (root / "labels.csv").write_text(
        text.replace("a.wav,train,1.5", "a.wav,train,1.1").replace("c.wav,dev,0,", "a.wav,dev,1.2,2.1,")
    )
    (root / "labels.csv").write_text((root / "labels.csv").read_text().replace("2.1,0.5,", "2.1,"))
    found = "\n".join(load(root).warnings)
    assert "1 × segments that overlap: what they share counts twice\n" in found
    assert "a.wav#t=1.1,2.1 and a.wav#t=0.5,1.125 of labels.csv:3" in found
    assert "1 × segments of two partitions that overlap: scores there are too good; leave one out\n" in found
    assert "a.wav#t=1.2,2.1 and a.wav#t=1.1,2.1 of labels.csv:4" in found


def test_a_recording_tells_of_all_its_segments(root: Path) -> None:
    (root / "people.csv").write_text("filename,speaker\na,ann\nb,bob\nc,cid\n")
    loaded = load(root, "data.metadata=people.csv", "data.groups=[speaker]")
    assert loaded.groups["speaker"].tolist() == ["ann"] * 4 + ["bob"] * 4 + ["cid"] * 4
    assert not any("unknown" in text for text in loaded.warnings)
    assert load(root, "data.metadata=people.csv", "data.groups=[speaker]").groups.keys() == {"speaker"}  # remembered


def test_names_and_times() -> None:
    for span in (Span(0, 1), Span(0.25, 3600.123456), Span(2, float("inf"))):
        assert split_name(segment_name("some, file#1.wav", span)) == ("some, file#1.wav", span)
    assert segment_name("a.wav", Span(0, float("inf"))) == "a.wav"
    assert split_name("a#t=1,2.wav") == ("a#t=1,2.wav", None)
    assert seconds_of("1 days 01:01:01,5", 0) == 90061.5
    assert [seconds_of(cell, 7) for cell in ("", "NaT", "nan", "1e1", "x", "-1")] == [7, 7, 7, 10, None, None]
    assert span_of({"end": "2"}) == Span(0, 2)
    assert span_of({"end": "0"}) == "start 0 is not before end 0"


@pytest.mark.parametrize("cache", [True, False])
def test_a_run_has_the_numbers_of_the_cut_files_and_the_names_of_segments(emoshare, root: Path, cache: bool) -> None:
    keys = [
        *KEYS, "backbone=logmel", f"backbone.cache={cache}", "window.seconds=0.6", "trainer.epochs=1", "logger=none",
        "trainer.progress=false", "trainer.precision=32-true",
    ]  # fmt: skip
    found = []
    for place in (root, root.parent / "cut"):
        result = emoshare("train", "data=table", f"data.root={place}", f"sweep.name={place.name}", *keys)
        assert result.status == 0, result.err
        (path,) = Path(f"outputs/{place.name}").glob("*/predictions/devel.csv")
        with path.open() as file:
            found.append(list(csv.DictReader(file)))
    assert [row.pop("filename") for row in found[0]] == [
        "c.wav#t=0,0.5",
        "c.wav#t=0.6,1.3",
        "c.wav#t=1.4,2",
        "c.wav#t=2.2,3",
    ]
    assert [row.pop("filename") for row in found[1]] == ["08.wav", "09.wav", "10.wav", "11.wav"]
    assert found[0] == found[1]
    assert emoshare("report", "outputs/data").status == 0
