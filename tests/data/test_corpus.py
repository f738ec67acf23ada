"""Everything that can be wrong with a corpus, one finding at a time and all at once; remembering; reports."""

import os
import re
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.io import wavfile

from emoshare.core.config import DataConfig
from emoshare.core.errors import EmoshareError
from emoshare.data import audio, corpus
from emoshare.data.corpus_plot import corpus_figure
from emoshare.data.partition import Corpus
from emoshare.data.window import Window
from emoshare.store.clips import Clips

HEADER = "filename,Joy,Fear"
TABLES = {
    "lab/train.csv": [HEADER, "a.wav,0,0.5", "b.wav,1,0.25", "c.wav,0.5,0.125"],
    "lab/devel.csv": [HEADER, "d.wav,0.1,0.9", "e.wav,0.2,0.8"],
    "lab/test.csv": [HEADER, "f.wav,?,?", "g.wav,?,?"],
}
UNMASKED = [HEADER, "g.wav,0.7,0.1", "f.wav,0.6,0.2"]


def wav(path: Path, samples: int = 1600, rate: int = 16000, channels: int = 1) -> None:
    noise = np.random.default_rng(list(path.name.encode())).integers(-999, 999, (samples, channels))
    wavfile.write(path, rate, noise.astype(np.int16))


class Folder:
    """A small good corpus on disk, to be damaged by a test."""

    def __init__(self, root: Path) -> None:
        self.root = root / "data"
        self.cache = root / "cache"
        self.config = DataConfig(name="csv", root=str(self.root), targets=["Joy", "Fear"])
        for name in ("lab", "wav"):
            (self.root / name).mkdir(parents=True)
        for name, lines in TABLES.items():
            self.table(name, lines)
        for i, letter in enumerate("abcdefg"):
            wav(self.wav(letter), 1600 + 160 * i)

    def wav(self, letter: str) -> Path:
        return self.root / "wav" / f"{letter}.wav"

    def table(self, name: str, lines: list[str]) -> None:
        (self.root / name).write_text("\n".join(lines) + "\n")

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert old in text
        (self.root / name).write_text(text.replace(old, new, 1))

    def load(self) -> Corpus:
        return corpus.load(self.config, self.cache)

    def report(self) -> str:
        with pytest.raises(EmoshareError) as error:
            self.load()
        return str(error.value)


@pytest.fixture
def data(tmp_path) -> Folder:
    return Folder(tmp_path)


def test_a_good_corpus(data):
    loaded = data.load()
    assert list(loaded.partitions) == ["train", "devel", "test"]
    assert loaded.files == tuple(f"{letter}.wav" for letter in "abcdefg")
    assert [part.start for part in loaded.partitions.values()] == [0, 3, 5]
    np.testing.assert_allclose(loaded.seconds, 0.1 + 0.01 * np.arange(7))
    np.testing.assert_array_equal(loaded.partitions["devel"].seconds, loaded.seconds[3:5])
    train = loaded.partitions["train"].shares
    assert train.dtype == np.float32
    np.testing.assert_array_equal(train, [[0, 0.5], [1, 0.25], [0.5, 0.125]])
    assert loaded.partitions["test"].shares is None
    assert loaded.warnings == ()
    assert loaded.path("a.wav") == data.wav("a")
    assert loaded.targets == ("Joy", "Fear")


@pytest.mark.parametrize(
    "lines",
    [[HEADER, "f.wav,,", "g.wav,?,"], ["filename", "f.wav", "g.wav"], ["filename,speaker", "f.wav,x", "g.wav,y"]],
)
def test_hidden_labels_in_every_form(data, lines):
    data.table("lab/test.csv", lines)
    assert data.load().partitions["test"].shares is None


def test_numeric_test_labels_are_used(data):
    data.table("lab/test.csv", [HEADER, "f.wav,0.6,0.2", "g.wav,0.7,0.1"])
    np.testing.assert_allclose(data.load().partitions["test"].shares, [[0.6, 0.2], [0.7, 0.1]])


def test_unmasked_labels_come_in_the_order_of_the_masked_table(data):
    data.table("lab/test.unmasked.csv", UNMASKED)
    np.testing.assert_allclose(data.load().partitions["test"].shares, [[0.6, 0.2], [0.7, 0.1]])


def test_no_test_partition(data):
    data.config.test = None
    (data.root / "lab/test.csv").unlink()
    loaded = data.load()
    assert list(loaded.partitions) == ["train", "devel"]
    assert "2 sound files that no table names, e.g. f.wav" in loaded.warnings[0]


def test_bom_crlf_spaces_quotes_blank_lines_and_other_columns(data):
    text = '\ufefffilename, Fear ,speaker,Joy\r\n"a.wav",0.5,x,0\r\n\r\n b.wav , 0.25 ,"x,y",1\r\nc.wav,0.125,z,0.5\r\n'
    (data.root / "lab/train.csv").write_bytes(text.encode())
    part = data.load().partitions["train"]
    assert part.files == ("a.wav", "b.wav", "c.wav")
    np.testing.assert_array_equal(part.shares, [[0, 0.5], [1, 0.25], [0.5, 0.125]])


def test_clips_in_subfolders(data):
    (data.root / "wav/deep").mkdir()
    data.wav("a").rename(data.root / "wav/deep/a.wav")
    data.replace("lab/train.csv", "a.wav", "deep/a.wav")
    loaded = data.load()
    assert loaded.path(loaded.files[0]).is_file()
    assert loaded.warnings == ()


LINES = {  # what is done to train.csv, and the line of the report
    "lab/train.csv:3: b.wav is already in lab/train.csv:2": ("a.wav", "b.wav"),
    "lab/train.csv:2: '../d.wav' is no file inside the wav folder": ("a.wav", "../d.wav"),
    "lab/train.csv:2: '/etc/passwd' is no file inside the wav folder": ("a.wav", "/etc/passwd"),
    "lab/train.csv:2: 'x/../../a.wav' is no file": ("a.wav", "x/../../a.wav"),
    "lab/train.csv:2: '' is no file": ("a.wav", ""),
    "lab/train.csv:2: zz.wav: no such file in the wav folder": ("a.wav", "zz.wav"),
    "lab/train.csv:2: a\\x00.wav: no such file": ("a.wav", "a\0.wav"),
    "lab/train.csv:2: a\\x1b[2J.wav: no such file": ("a.wav", "a\x1b[2J.wav"),
    "lab/train.csv:3: Joy='high' must be a number from 0 to 1": ("b.wav,1", "b.wav,high"),
    "lab/train.csv:3: Joy='' must be a number": ("b.wav,1", "b.wav,"),
    "lab/train.csv:3: Joy='?' must be a number": ("b.wav,1", "b.wav,?"),
    "lab/train.csv:3: Joy='nan' must be a number": ("b.wav,1", "b.wav,nan"),
    "lab/train.csv:3: Joy='inf' must be a number": ("b.wav,1", "b.wav,inf"),
    "lab/train.csv:3: Joy='1.01' must be a number": ("b.wav,1", "b.wav,1.01"),
    "lab/train.csv:3: Joy='-0.01' must be a number": ("b.wav,1", "b.wav,-0.01"),
    "lab/train.csv:3: 2 cells, the header has 3": ("b.wav,1", "b.wav"),
    "lab/train.csv:1: no column 'Fear'; did you mean 'Feer'?": ("Fear", "Feer"),
    "lab/train.csv:1: no column 'filename'; did you mean 'file_name'?": ("filename", "file_name"),
    "lab/train.csv:1: two columns 'Joy'": ("Fear", "Fear,Joy"),
    "lab/devel.csv:2: d.wav is already in lab/train.csv:2": ("a.wav", "d.wav"),
}


@pytest.mark.parametrize("line", LINES)
def test_a_bad_line_is_named(data, line):
    data.replace("lab/train.csv", *LINES[line])
    report = data.report()
    assert line in report
    assert f"corpus csv in {data.root}: errors: " in report.splitlines()[0]
    assert not data.cache.exists()


def test_duplicate_is_reported_on_its_second_line(data):
    data.replace("lab/train.csv", "b.wav", "a.wav")
    assert "  1 × duplicate row\n    lab/train.csv:3: a.wav is already in lab/train.csv:2" in data.report()


def test_partly_hidden_test_labels_are_errors(data):
    data.replace("lab/test.csv", "f.wav,?,?", "f.wav,0.5,?")
    report = data.report()
    assert "1 × label that is no number" in report
    assert "lab/test.csv:2: Fear='?'" in report
    assert "1 × row without a label\n    lab/test.csv:3: no label" in report


@pytest.mark.parametrize("name", ["train", "devel", "test"])
def test_missing_table(data, name):
    (data.root / f"lab/{name}.csv").unlink()
    assert f"lab/{name}.csv: cannot be read: No such file" in data.report()


def test_a_table_that_is_a_pipe_or_a_device_is_refused_without_waiting(data):
    for name in ("train", "devel"):
        (data.root / f"lab/{name}.csv").unlink()
    os.mkfifo(data.root / "lab/train.csv")
    (data.root / "lab/devel.csv").symlink_to("/dev/zero")
    report = data.report()
    for name in ("train", "devel"):
        assert f"lab/{name}.csv: not a CSV table in UTF-8: not a regular file (a pipe or a device)" in report


@pytest.mark.parametrize("content", [b"", b"\n", b"filename,Joy,Fear\n", b"\xff\xfe\x00garbage", b"\0\0\0"])
def test_empty_table_or_no_table_at_all(data, content):
    (data.root / "lab/devel.csv").write_bytes(content)
    assert "  lab/devel.csv" in data.report()


@pytest.mark.parametrize("name", ["train", "devel"])
def test_all_labels_of_an_emotion_equal(data, name):
    rows = [line.rsplit(",", 1)[0] + ",0.3" for line in TABLES[f"lab/{name}.csv"][1:]]
    data.table(f"lab/{name}.csv", [HEADER, *rows])
    (warning,) = data.load().warnings
    assert f"lab/{name}.csv: all Fear labels are 0.3: no correlation is defined, and means leave it out" in warning
    assert data.load().warnings == (warning,)  # from memory
    data.table(f"lab/{name}.csv", [HEADER, *(f"{row.split(',')[0]},0.5,0.3" for row in rows)])
    assert f"lab/{name}.csv: all labels of every target are equal" in data.report()


def test_equal_test_labels_only_warn(data):
    data.table("lab/test.csv", [HEADER, "f.wav,0.6,0.2", "g.wav,0.7,0.2"])
    assert "all Fear labels are 0.2" in data.load().warnings[0]


@pytest.mark.parametrize("name", ["train", "devel"])
def test_a_partition_of_one_clip(data, name):
    data.table(f"lab/{name}.csv", TABLES[f"lab/{name}.csv"][:2])
    report = data.report()
    assert f"lab/{name}.csv: one clip alone" in report
    assert "labels all equal" not in report


def test_unmasked_table_of_other_clips(data):
    data.table("lab/test.unmasked.csv", [HEADER, "f.wav,0.1,0.2", "h.wav,0.3,0.4"])
    report = data.report()
    assert "lab/test.unmasked.csv:3: h.wav is not in lab/test.csv" in report
    assert "lab/test.csv:3: g.wav is not in lab/test.unmasked.csv" in report


def test_unmasked_table_still_masked_or_doubled(data):
    data.table("lab/test.unmasked.csv", [HEADER, "f.wav,?,?", "g.wav,1,1", "g.wav,0,0"])
    report = data.report()
    assert "lab/test.unmasked.csv:2: no label; fill it in, or set data.unmasked to null" in report
    assert "lab/test.unmasked.csv:4: g.wav is already in lab/test.unmasked.csv:3" in report


WAVS = {
    "no such file": lambda path: path.unlink(),
    "empty file": lambda path: path.write_bytes(b""),
    "not a sound file": lambda path: path.write_text("I am a text"),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-2]),
    "no samples": lambda path: wavfile.write(path, 16000, np.zeros(0, np.int16)),
    "Is a directory": lambda path: (path.unlink(), path.mkdir()),
    "NaN": lambda path: wavfile.write(path, 16000, np.full(500, np.nan, np.float32)),
}


@pytest.mark.parametrize("reason", WAVS)
def test_a_bad_wav_is_named_by_table_line(data, reason):
    WAVS[reason](data.wav("e"))
    report = data.report()
    assert "lab/devel.csv:3: e.wav: " in report
    assert reason in report


ODD = {
    "other sample rate, resampled to 16000 Hz\n  lab/devel.csv:3: e.wav: 8000 Hz": {"rate": 8000},
    "more than one channel, averaged\n  lab/devel.csv:3: e.wav: 2 channels": {"channels": 2},
    "duration outside 0.025 to 30 s\n  lab/devel.csv:3: e.wav: 0.02494 s": {"samples": 399},
    "duration outside 0.025 to 30 s\n  lab/devel.csv:3: e.wav: 30 s": {"samples": 480001},
}


@pytest.mark.parametrize("text", ODD)
def test_oddities_warn(data, text):
    wav(data.wav("e"), **ODD[text])
    assert data.load().warnings == (f"1 × {text}",)
    assert data.load().warnings == (f"1 × {text}",)  # remembered too


def test_clips_of_other_formats(data):
    rate, samples = wavfile.read(data.wav("a"))
    soundfile.write(data.root / "wav/a.flac", samples, rate)
    data.wav("a").unlink()
    data.replace("lab/train.csv", "a.wav", "a.flac")
    loaded = data.load()
    assert loaded.seconds[0] == len(samples) / 16000
    np.testing.assert_array_equal(audio.read(loaded.path("a.flac")), samples.ravel() / 32768)
    soundfile.write(data.root / "wav/extra.flac", samples, rate)
    assert "1 sound files that no table names, e.g. extra.flac" in data.load().warnings[0]


@pytest.mark.parametrize("samples", [400, 480000])
def test_durations_at_the_limits_do_not_warn(data, samples):
    wav(data.wav("e"), samples)
    assert data.load().warnings == ()


def test_duration_of_another_rate_and_more_channels(data):
    wav(data.wav("a"), 22050, rate=44100, channels=2)
    assert data.load().seconds[0] == 0.5


def test_everything_at_once_counts_first(data):
    data.wav("a").unlink()
    data.wav("d").write_text("text")
    wav(data.wav("e"), rate=8000)
    data.replace("lab/train.csv", "b.wav,1", "b.wav,2")
    (data.root / "lab/test.csv").unlink()
    lines = data.report().splitlines()
    assert lines[0].endswith("errors: 4, warnings: 2")
    counts = [line for line in lines if " × " in line]
    assert [line.split(" × ")[1].split(",")[0] for line in counts] == [
        "bad wav", "label out of range", "missing wav", "table", "other sample rate", "unlisted sound file",
    ]  # fmt: skip


def test_many_findings_of_a_kind_are_cut_short(data):
    for i in range(50):
        (data.root / "lab/train.csv").open("a").write(f"missing{i:02}.wav,0.5,0.5\n")
    report = data.report()
    assert "50 × missing wav" in report
    assert report.count("no such file") == 20
    assert "… and 30 more" in report


@pytest.mark.parametrize("root", ["???", "", "/nowhere/at/all"])
def test_no_root(data, root):
    data.config.root = root
    assert "data.root" in data.report()
    assert "\n" not in data.report()


def test_no_targets_and_no_wav_folder(data):
    targets, data.config.targets = data.config.targets, []
    assert "data.targets is empty" in data.report()
    data.config.targets = targets
    data.config.wav = "wave"
    assert str(data.root / "wave") in data.report()


def test_the_second_load_reads_no_wav(data, monkeypatch):
    data.table("lab/test.unmasked.csv", UNMASKED)
    first = data.load()
    monkeypatch.setattr(corpus, "check_corpus", None)
    second = data.load()
    assert (second.fingerprint, second.audio_fingerprint) == (first.fingerprint, first.audio_fingerprint)
    assert second.files == first.files
    np.testing.assert_array_equal(second.seconds, first.seconds)
    for name, part in first.partitions.items():
        np.testing.assert_array_equal(second.partitions[name].shares, part.shares)
        assert second.partitions[name].start == part.start
    assert (second.root, second.wav, second.targets) == (first.root, first.wav, first.targets)


def test_a_changed_wav_is_seen(data):
    first = data.load()
    status = data.wav("a").stat()
    whole = bytearray(data.wav("a").read_bytes())
    whole[-1] ^= 1  # same size
    data.wav("a").write_bytes(whole)
    os.utime(data.wav("a"), ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert data.load().audio_fingerprint != first.audio_fingerprint
    data.wav("a").write_bytes(whole[:-2])
    assert "truncated" in data.report()
    data.wav("a").unlink()
    assert "missing wav" in data.report()


def test_a_label_changes_the_fingerprint_and_not_that_of_the_audio(data):
    first = data.load()
    data.replace("lab/train.csv", "0.125", "0.126")
    second = data.load()
    assert second.fingerprint != first.fingerprint
    assert second.audio_fingerprint == first.audio_fingerprint


def test_unmasking_is_seen(data):
    assert data.load().partitions["test"].shares is None
    data.table("lab/test.unmasked.csv", UNMASKED)
    assert data.load().partitions["test"].shares is not None


def test_the_order_of_rows_is_part_of_both_fingerprints(data):
    first = data.load()
    head, *rows = TABLES["lab/train.csv"]
    data.table("lab/train.csv", [head, *rows[::-1]])
    second = data.load()
    assert second.audio_fingerprint != first.audio_fingerprint
    assert second.fingerprint != first.fingerprint


def test_fingerprints_do_not_hang_on_the_place(tmp_path):
    one, two = Folder(tmp_path / "one"), Folder(tmp_path / "two")
    assert one.load().fingerprint == two.load().fingerprint


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 half a zip", b"nonsense"])
def test_a_damaged_memory_is_no_memory(data, damage):
    first = data.load()
    (memory,) = (data.cache / "corpora").iterdir()
    whole = memory.read_bytes()
    for content in (damage, whole[: len(whole) // 2]):
        memory.write_bytes(content)
        assert data.load().fingerprint == first.fingerprint
        assert memory.stat().st_size == len(whole)


def test_a_cache_that_cannot_be_written_is_said_once(data, caplog):
    data.cache.write_text("a file stands in the way")
    assert data.load().fingerprint == data.load().fingerprint == corpus.known_corpus(data.config, data.cache)[0]
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "cannot be written" in warning
    assert "set paths.cache" in warning


def test_one_table_for_two_partitions_is_an_error(data):
    data.config.devel = "lab/../lab/train.csv"
    report = data.report()
    assert "1 × one table for two partitions" in report
    assert "data.devel names the table of data.train" in report


def test_the_same_audio_in_two_partitions_is_counted(data):
    data.wav("d").write_bytes(data.wav("b").read_bytes())
    data.wav("f").write_bytes(data.wav("b").read_bytes())
    data.wav("c").write_bytes(data.wav("a").read_bytes())  # within a partition
    warnings = data.load().warnings
    assert [line for warning in warnings for line in warning.splitlines()] == [
        "2 × same audio in two partitions: scores there are too good; leave it out of one",
        "  lab/devel.csv:2: d.wav: the same audio as b.wav in lab/train.csv:3",
        "  lab/test.csv:2: f.wav: the same audio as b.wav in lab/train.csv:3",
        "1 × same audio twice in a partition: it counts twice",
        "  lab/train.csv:4: c.wav: the same audio as a.wav in lab/train.csv:2",
    ]
    assert data.load().warnings == warnings


def test_speakers_in_two_partitions_are_counted(data):
    data.table("lab/train.csv", [HEADER + ",speaker", "a.wav,0,0.5,ann", "b.wav,1,0.25,bob", "c.wav,0.5,0.125,"])
    data.table("lab/devel.csv", [HEADER + ",Speaker", "d.wav,0.1,0.9, bob", "e.wav,0.2,0.8,ann"])
    data.table("lab/test.csv", ["filename,speaker", "f.wav,ann", "g.wav,cid"])
    assert data.load().warnings == (
        "2 × speaker in two partitions: scores there are too good; data.folds can keep them apart\n"
        "  lab/train.csv:2: speaker ann of train is also in devel (lab/devel.csv:3), test (lab/test.csv:2)\n"
        "  lab/train.csv:3: speaker bob of train is also in devel (lab/devel.csv:2)",
    )


def test_percent_suggest_the_range(data):
    data.table("lab/train.csv", [HEADER, "a.wav,0,50", "b.wav,100,25", "c.wav,?,1"])
    report = data.report()
    assert "lab/train.csv: labels up to 100 must lie from 0 to 1: name their scale" in report
    assert "lab/train.csv:4: Joy='?'" in report
    assert report.count("must be a number") == 1


@pytest.mark.parametrize(("span", "low", "high"), [([1, 7], 1, 7), ([-1, 1], -1, 1), ([0, 100], 0, 100)])
def test_labels_of_another_range_are_scaled(data, span, low, high):
    plain = data.load()
    for name in ("train", "devel"):
        rows = [line.split(",") for line in TABLES[f"lab/{name}.csv"][1:]]
        lines = [[file, *(low + float(cell) * (high - low) for cell in cells)] for file, *cells in rows]
        data.table(f"lab/{name}.csv", [HEADER, *(",".join(map(str, line)) for line in lines)])
    data.table("lab/test.unmasked.csv", [HEADER, f"g.wav,{low},{high}", f"f.wav,{high},{low}"])
    data.config.range = span
    for _ in range(2):  # read in full, and remembered
        loaded = data.load()
        for name in ("train", "devel"):
            np.testing.assert_allclose(loaded.partitions[name].shares, plain.partitions[name].shares, atol=1e-7)
        np.testing.assert_array_equal(loaded.partitions["test"].shares, [[1, 0], [0, 1]])
    data.replace("lab/train.csv", f"a.wav,{float(low)}", f"a.wav,{low - 0.5}")
    assert f"lab/train.csv:2: Joy='{low - 0.5}' must be a number from {low} to {high}" in data.report()


def test_votes_become_shares(data):
    data.table("lab/train.csv", [HEADER, "a.wav,0,5", "b.wav,3,1", "c.wav,2,2"])
    assert "or data.normalize=sum for votes" in data.report()
    plain = Folder(data.root.parent / "plain")
    plain.table("lab/train.csv", [HEADER, "a.wav,0,1", "b.wav,0.75,0.25", "c.wav,0.5,0.5"])
    plain.table("lab/devel.csv", [HEADER, "d.wav,0.1,0.9", "e.wav,0.2,0.8"])
    data.config.normalize = "sum"
    for _ in range(2):
        loaded = data.load()
        np.testing.assert_array_equal(loaded.partitions["train"].shares, [[0, 1], [0.75, 0.25], [0.5, 0.5]])
        assert loaded.fingerprint == plain.load().fingerprint  # the labels count, whatever they were made of


def test_clips_without_votes_are_named(data):
    data.table("lab/train.csv", [HEADER, "a.wav,0,0", "b.wav,3,-1", "c.wav,inf,2"])
    data.config.normalize = "sum"
    report = data.report()
    assert "1 × clip without a vote\n    lab/train.csv:2: a.wav: all labels are 0, which are no shares" in report
    assert "lab/train.csv:3: Fear='-1' must be a number of at least 0" in report
    assert "lab/train.csv:4: Joy='inf' must be a number of at least 0" in report


def test_sounds_that_are_too_large_or_no_files(data):
    data.config.max_mb = 0.005
    wav(data.wav("a"), 3000)
    data.wav("b").unlink()
    os.mkfifo(data.wav("b"))
    report = data.report()
    assert "lab/train.csv:2: a.wav: more than 0.005 MB" in report
    assert "lab/train.csv:3: b.wav: not a regular file" in report


def test_floats_of_another_scale_are_an_error_until_it_is_named(data):
    known = data.load()
    for name in ("a", "b"):
        values, rate = soundfile.read(data.wav(name), dtype="int16")
        soundfile.write(data.wav(name), np.append(values, 30_000).astype(np.int16), rate, subtype="FLOAT")
    assert (
        "a.wav: float samples up to 30000, where 1 is full scale; say what full scale is: --scale 32768"
        in data.report()
    )
    data.config.scale = 32768
    found = data.load()
    assert found.scale == 32768
    assert found.fingerprint != known.fingerprint
    assert data.load().scale == 32768  # as it is remembered
    assert Clips.of_corpus(found, Window(1.0)).scale == 32768
    data.config.scale = 40_000
    other = data.load()
    assert other.fingerprint != found.fingerprint
    assert other.audio_fingerprint != found.audio_fingerprint


def test_a_sample_rate_that_no_recorder_makes(data):
    wav(data.wav("a"), 3000, rate=3999)
    assert "a.wav: sample rate of 3999 Hz: must be from 4000 to 384000 Hz" in data.report()


def test_the_fingerprint_outlives_the_corpus(data):
    known = data.load().fingerprint
    assert corpus.known_corpus(data.config, data.cache)[0] == known
    data.root.rename(data.root.with_name("unmounted"))
    assert corpus.known_corpus(data.config, data.cache)[0] == known
    data.root.mkdir()  # the empty mount point
    assert corpus.known_corpus(data.config, data.cache)[0] == known
    data.config.targets = ["Fear"]
    with pytest.raises(EmoshareError, match=r"data\.wav: there is no folder"):
        corpus.known_corpus(data.config, data.cache)[0]
    data.root.rmdir()
    data.root.with_name("unmounted").rename(data.root)
    other = corpus.known_corpus(data.config, data.cache)[0]
    assert other == data.load().fingerprint != known


def test_a_sweep_looks_at_the_clips_once_a_minute(data, monkeypatch):
    calls, stats, now = [], corpus.file_stats, time.monotonic()
    monkeypatch.setattr(corpus, "file_stats", lambda *args: calls.append(1) or stats(*args))
    monkeypatch.setattr(corpus.time, "monotonic", lambda: now)
    data.load()
    calls.clear()
    for _ in range(30):
        known = corpus.known_corpus(data.config, data.cache)[0]
    assert len(calls) == 1
    wav(data.wav("a"), 1234)
    assert corpus.known_corpus(data.config, data.cache)[0] == known
    now += 61
    assert corpus.known_corpus(data.config, data.cache)[0] == data.load().fingerprint != known


def test_the_fingerprint_is_that_of_the_corpus_as_it_is_now(data):
    data.load()
    data.replace("lab/train.csv", "0.125", "0.126")
    assert corpus.known_corpus(data.config, data.cache)[0] == data.load().fingerprint
    assert len(list((data.cache / "corpora").iterdir())) == 1  # one file for each place
    data.replace("lab/train.csv", "0.126", "1.26")
    with pytest.raises(EmoshareError, match="label out of range"):
        corpus.known_corpus(data.config, data.cache)[0]


def test_summary(data):
    data.table("lab/test.unmasked.csv", UNMASKED)
    wav(data.wav("e"), rate=8000)
    text = corpus.corpus_summary(data.load())
    cells = [re.split(r" {2,}", line.strip()) for line in text.splitlines()]
    rows = {name: values for name, *values in cells}
    assert text.startswith("1 × other sample rate")
    assert rows["clips"] == ["3", "2", "2"]
    assert rows["seconds, shortest"][0] == "0.10"
    assert rows["mean share, Joy"] == ["0.500", "0.150", "0.650"]
    assert rows["mean share, Fear"] == ["0.292", "0.850", "0.150"]


@pytest.mark.parametrize("targets", [["Joy"], ["Joy", "Fear"]])
def test_figure(data, tmp_path, targets, drawn):
    data.config.targets = targets
    corpus_figure(data.load(), tmp_path / "figures" / "corpus.png")
    (png,) = (tmp_path / "figures").iterdir()
    head = png.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert min(struct.unpack(">II", head[16:])) > 300
