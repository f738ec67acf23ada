"""Label tables and file names as spreadsheets and other programs leave them: read, or named in a line for each kind."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from emoshare.command.compose import compose_one
from emoshare.core.config import DataConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.folds import balanced_folds
from emoshare.data import corpus, tables
from emoshare.data.groups import cluster_numbers
from emoshare.data.labels import LabelTable, parse_labels
from emoshare.data.names import Files
from emoshare.data.partition import Corpus

TRAIN = ["filename,Joy,Fear", "a.wav,0,0.5", "b.wav,1,0.25", "c.wav,0.5,0.125"]
DEVEL = ["filename,Joy,Fear", "d.wav,0.1,0.9", "e.wav,0.2,0.8"]


class Folder:
    """Five clips of train and devel, and their tables, to be replaced by a test."""

    def __init__(self, root: Path) -> None:
        self.root, self.cache, self.places = (
            root / "data",
            root / "cache",
            {letter: f"{letter}.wav" for letter in "abcde"},
        )
        (self.root / "wav").mkdir(parents=True)
        for letter in self.places:
            wave = np.random.default_rng(ord(letter)).normal(0, 3000, 1600).astype(np.int16)
            wavfile.write(self.root / "wav" / f"{letter}.wav", 16_000, wave)
        self.table("train", "\n".join(TRAIN))
        self.table("devel", "\n".join(DEVEL))
        self.config = DataConfig("csv", str(self.root), "train.csv", "devel.csv", None, None, targets=["Joy", "Fear"])

    def table(self, name: str, text: str, encoding: str = "utf-8") -> None:
        (self.root / f"{name}.csv").write_bytes(text.encode(encoding))

    def move(self, letter: str, place: str) -> None:
        target = self.root / "wav" / place
        target.parent.mkdir(exist_ok=True)
        (self.root / "wav" / self.places[letter]).rename(target)
        self.places[letter] = place

    def names(self, spelled: dict[str, str]) -> None:
        """Tables that name clips otherwise."""
        for name, lines in {"train": TRAIN, "devel": DEVEL}.items():
            rows = [line.split(",", 1) for line in lines]
            cells = [
                f"{spelled.get(file[0], file) if number else file},{rest}" for number, (file, rest) in enumerate(rows)
            ]
            self.table(name, "\n".join(cells))

    def load(self) -> Corpus:
        return corpus.load(self.config, self.cache)

    def report(self) -> str:
        with pytest.raises(EmoshareError) as error:
            self.load()
        return str(error.value)


@pytest.fixture
def data(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


FORMS = {
    "semicolons and decimal commas": "\n".join(TRAIN).replace(",", ";").replace(".1", ",1").replace("0.", "0,"),
    "tabs": "\n".join(TRAIN).replace(",", "\t"),
    "tabs and decimal commas": "\n".join(TRAIN).replace(",", "\t").replace("0.", "0,"),
    "quoted decimal commas": 'filename,Joy,Fear\na.wav,0,"0,5"\nb.wav,1,",25"\nc.wav,"0,5","0,125"',
    "line ends of Windows": "\r\n".join(TRAIN) + "\r\n",
    "line ends of old Macs": "\r".join(TRAIN),
    "a byte order mark": "\ufeff" + "\n".join(TRAIN),
    "the separator told": "sep=;\r\n" + "\r\n".join(TRAIN).replace(",", ";"),
    "empty columns": "\n".join(f"{line},," for line in TRAIN),
    "empty columns of the rows alone": "\n".join([TRAIN[0], *(f"{line},," for line in TRAIN[1:])]),
    "empty columns of the header alone": "\n".join([TRAIN[0] + ",,", *TRAIN[1:]]),
    "a column of row numbers": "\n".join(f"{n - 1 if n else ''},{line}" for n, line in enumerate(TRAIN)),
    "unnamed columns": "\n".join(line + (",Unnamed: 3" if not n else ",") for n, line in enumerate(TRAIN)),
    "a header in capitals and with spaces": "\n".join([" FileName ,JOY, fear", *TRAIN[1:]]),
    "quotes": "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in TRAIN),
    "spaces around cells": "\n".join(line.replace(",", " , ") for line in TRAIN),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_table_is_read_in_every_form(data: Folder, form: str, encoding: str) -> None:
    data.table("train", FORMS[form].lstrip("\ufeff" if encoding == "utf-16" else ""), encoding)
    loaded = data.load()
    train = loaded.partitions["train"]
    assert train.files == ("a.wav", "b.wav", "c.wav")
    np.testing.assert_array_equal(train.shares, [[0, 0.5], [1, 0.25], [0.5, 0.125]])
    assert loaded.warnings == ()


@pytest.mark.parametrize("blank", ["", "  ", ",,", " , ,", '"","",""', ",,,,,", "\t", "\u00a0,,"])
def test_blank_rows_are_left_out_and_told_once(data: Folder, blank: str) -> None:
    data.table("train", "\n".join([blank, TRAIN[0], TRAIN[1], blank, blank, *TRAIN[2:], blank]))
    loaded = data.load()
    assert loaded.partitions["train"].files == ("a.wav", "b.wav", "c.wav")
    count, lines = (4, "1, 4, 5, 8") if blank else (3, "1, 4, 5")  # what ends a file is no row
    assert loaded.warnings == (
        f"{count} × blank row, left out\n  train.csv:1: no cell is filled ({count} times, lines {lines})",
    )


def test_a_row_without_a_label_keeps_its_remedy_beside_labels_of_another_scale(data: Folder) -> None:
    data.table("train", "\n".join([TRAIN[0], "a.wav,50,20", "b.wav,,", "c.wav,80,10"]))
    report = data.report()
    assert "labels up to 80 must lie from 0 to 1: name their scale" in report
    assert "errors: 2," in report
    assert "train.csv:3: no label; fill it in" in report


def test_labels_from_minus_1_to_1_are_one_line_with_their_range(data: Folder) -> None:
    data.table("train", "\n".join([TRAIN[0], "a.wav,-0.5,0.5", "b.wav,-0.98,0.1", "c.wav,0.3,?"]))
    report = data.report()
    assert (
        "train.csv: labels down to -0.98 must lie from 0 to 1: name their scale, as data.range=[-1,1] (Joy)" in report
    )
    assert "train.csv:4: Fear='?' must be a number from 0 to 1: fill it in" in report
    assert "errors: 2," in report
    data.table("train", "\n".join([*TRAIN[:3], "c.wav,0.5,-0.125"]))  # one of six is a mistake
    assert "train.csv:4: Fear='-0.125' must be a number from 0 to 1: it is out of range" in data.report()


@pytest.mark.parametrize("cell", ["nan", "NA", "?", "", "n/a", "-", "None", "abc"])
def test_labels_that_are_not_there_are_one_line(data: Folder, cell: str) -> None:
    data.table("train", "\n".join([TRAIN[0], TRAIN[1], f"b.wav,{cell},{cell}", f"c.wav,{cell},1", "f.wav,0.3,0.1"]))
    for letter in "fg":
        wavfile.write(data.root / f"wav/{letter}.wav", 16_000, np.arange(ord(letter), 2000, dtype=np.int16))
    report = data.report()
    if cell == "abc":
        assert "3 × label that is no number" in report
        assert "train.csv:3: Joy='abc' must be a number from 0 to 1 (3 times, lines 3, 4)" in report
        assert report.count("train.csv:") == 1
        assert "delete the row" not in report
        return
    remedy = """fill it in, delete the row, or leave such rows out: 'data.rows={Joy: ".*[0-9].*"}'"""
    assert f"1 × row without a label\n    train.csv:3: no label; {remedy}" in report
    assert (
        f"1 × label that is no number\n    train.csv:4: Joy='{cell}' must be a number from 0 to 1: {remedy}" in report
    )
    assert report.count("train.csv:") == 2
    [override] = shlex.split(remedy[remedy.index("'") :])  # as a shell takes what is printed
    data.config.rows = compose_one(["data=demo", override]).data.rows
    data.config.test = "test.csv"
    data.table("test", "filename\ng.wav")  # whose labels are hidden
    assert {name: part.files for name, part in data.load().partitions.items()} == {
        "train": ("a.wav", "f.wav"), "devel": ("d.wav", "e.wav"), "test": ("g.wav",),
    }  # fmt: skip


@pytest.mark.parametrize("cell", ["nan", "NA", "n/a", "-", " ? ", "None"])
def test_test_labels_may_be_hidden_by_any_of_these_words(data: Folder, cell: str) -> None:
    data.config.test = "test.csv"
    data.table("devel", "\n".join(DEVEL))
    data.table("train", "\n".join([*TRAIN[:3]]))
    data.table("test", f"{TRAIN[0]}\nc.wav,{cell},{cell}")
    assert data.load().partitions["test"].shares is None


def test_a_label_with_the_tables_own_decimal_sign_is_out_of_range(data: Folder) -> None:
    data.table("train", "filename;Joy;Fear\na.wav;0,5;0,5\nb.wav;9,5;0,25\nc.wav;0,1;0,2")
    report = data.report()
    assert "train.csv:3: Joy='9,5' must be a number from 0 to 1: it is out of range" in report
    assert "decimal sign" not in report


def test_one_decimal_sign_for_a_table(data: Folder) -> None:
    data.table("train", "\n".join([*TRAIN[:3], 'c.wav,"0,5",0.125']))
    assert (
        "train.csv:4: Joy='0,5' must be a number from 0 to 1: with the same decimal sign as the others" in data.report()
    )
    data.table("train", "\n".join([TRAIN[0], "a.wav,0,5,0,5", "b.wav,0,1,0,2", "c.wav,0,5,0,3"]))
    report = data.report()
    assert (
        "train.csv:2: 5 cells, the header has 3; a comma in a cell needs quotes around it (3 times, lines 2, 3, 4)"
        in report
    )


def test_thousands_are_no_decimals() -> None:
    table = LabelTable("t", ["a", "b"], [2, 3], [["1,000"], ["0.5"]])
    found: list = []
    parse_labels(table, DataConfig(targets=["Joy"]), False, found)
    assert "Joy='1,000'" in str(found[0])
    assert tables.decimal_points([["1,000"], ["0,5"], ["1"]]) == [["1.000"], ["0.5"], ["1"]]


@pytest.mark.parametrize("quoted", [(1, 3), (1, 2), (3,), (1,), (1, 2, 3)])
def test_quotes_that_are_letters_of_a_text_with_tabs_swallow_no_row(data: Folder, quoted: tuple[int, ...]) -> None:
    plain = data.load()
    rows = [line.split(",") for line in TRAIN]
    words = [("text", *(f'"Oh {row}' if row in quoted else f'"Oh" {row}' for row in (1, 2, 3)))]
    data.table("train", "\n".join("\t".join([file, word, *rest]) for (file, *rest), word in zip(rows, *words)))  # noqa: B905
    loaded = data.load()
    assert loaded.files == plain.files
    assert loaded.fingerprint == plain.fingerprint


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_a_cell_in_quotes_may_have_several_lines(data: Folder, separator: str) -> None:
    plain = data.load()
    rows = [line.split(",") for line in TRAIN]
    words = ['"text\n(of all)"', '"Oh, ""no""\nyou\n\nand; I"', "so", '"a\nb"']
    lines = [separator.join([file, word, *rest]) for (file, *rest), word in zip(rows, words, strict=True)]
    data.table("train", "\n".join(lines))
    assert data.load().fingerprint == plain.fingerprint


@pytest.mark.parametrize("lines", [(2,), (1, 2), (1, 3)])
def test_a_quote_that_is_not_closed_is_one_line(data: Folder, lines: tuple[int, ...]) -> None:
    rows = [f'{line},"so, what' if number in lines else f"{line},a" for number, line in enumerate(TRAIN)]
    data.table("train", "\n".join(rows))
    report = data.report()
    assert "train.csv: not a CSV table in UTF-8: a quote is not closed, or one inside of a quoted cell is not" in report
    assert f"so that rows become one; correct it near line {lines[0] + 1}" in report
    assert report.count("train.csv") == 1


def test_labels_may_be_true_and_false_or_percents(data: Folder) -> None:
    plain = data.load()
    words = {"0": "False", "1": "TRUE", "0.5": "50%", "0.25": "25 %", "0.125": "12.5%"}
    rows = [[words.get(cell, cell) for cell in line.split(",")] for line in TRAIN]
    for separator, sign in ((",", "."), (";", ",")):
        data.table("train", "\n".join(separator.join(cell.replace("2.5", f"2{sign}5") for cell in row) for row in rows))
        loaded = data.load()
        assert loaded.partitions["train"].shares.tolist() == plain.partitions["train"].shares.tolist()
    data.config.range = [0, 100]  # then 50 % is 50
    data.table("train", "\n".join([TRAIN[0], "a.wav,0,50", "b.wav,100 %,25%", "c.wav,50%,12.5"]))
    data.table("devel", "\n".join([DEVEL[0], "d.wav,10,90", "e.wav,20%,80%"]))
    loaded = data.load()
    np.testing.assert_allclose(loaded.partitions["train"].shares, plain.partitions["train"].shares)
    np.testing.assert_allclose(loaded.partitions["devel"].shares, [[0.1, 0.9], [0.2, 0.8]], atol=1e-7)


def test_the_remedy_for_a_row_without_a_label_beside_true_and_false_keeps_the_others(data: Folder) -> None:
    data.table("train", "\n".join([TRAIN[0], "a.wav,False,True", "b.wav,,", "c.wav,TRUE,false"]))
    remedy = re.search(r"data.rows={Joy: \"(.*?)\"}", data.report())
    assert remedy
    data.table("devel", "\n".join([DEVEL[0], "d.wav,true,false", "e.wav,False,True"]))
    data.config.rows = {"Joy": remedy[1]}
    (data.root / "wav/b.wav").unlink()
    assert data.load().partitions["train"].shares.tolist() == [[0, 1], [1, 0]]


def test_empty_cells_beside_votes_are_none(data: Folder) -> None:
    data.config.normalize = "votes"
    data.table("train", "\n".join([TRAIN[0], "a.wav,3,", "b.wav,nan,2", "c.wav,1,1"]))
    data.table("devel", "\n".join([DEVEL[0], "d.wav,3,1", "e.wav,0,1"]))
    loaded = data.load()
    assert loaded.partitions["train"].shares.tolist() == [[1, 0], [0, 1], [0.5, 0.5]]
    assert loaded.partitions["train"].counts.tolist() == [[3, 0], [0, 2], [1, 1]]
    told = "2 × empty cell beside votes, taken for 0\n  train.csv:2: a target has no number (2 times, lines 2, 3)"
    assert told in loaded.warnings
    data.table("train", "\n".join([TRAIN[0], "a.wav,3,?", "b.wav,,", "c.wav,1,1"]))
    report = data.report()
    assert "train.csv:2: Fear='?' must be a whole number of votes" in report
    assert "train.csv:3: no label; fill it in" in report


def test_a_table_in_another_encoding_is_named_by_its_line(data: Folder) -> None:
    data.table("train", "\n".join([*TRAIN, "m\u00fcde.wav,0,1"]), "latin-1")
    assert "train.csv:5: not a CSV table in UTF-8: byte 0xfc; save it as CSV UTF-8" in data.report()


SPELLED = {
    "without ending": {letter: letter for letter in "abcde"},
    "in capitals": {letter: f"{letter.upper()}.WAV" for letter in "abcde"},
    "with a folder in front": {letter: f"wav/{letter}.wav" for letter in "abcde"},
    "with a dot in front": {letter: f"./{letter}.wav" for letter in "abcde"},
    "by a path of Windows": {letter: f"C:\\data\\{letter}.wav" for letter in "abcde"},
    "by a path of Unix": {letter: f"/home/me/clips/{letter}" for letter in "abcde"},
    "from the table's folder": {letter: f"../data/wav/{letter}.wav" for letter in "abcde"},
    "in quotes": {letter: f"'{letter}.wav'" for letter in "abcde"},
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLED)
def test_the_only_file_that_fits_is_found(data: Folder, spelling: str) -> None:
    plain = data.load()
    data.names(SPELLED[spelling])
    loaded = data.load()
    assert loaded.files == plain.files
    assert loaded.fingerprint == plain.fingerprint
    kind = "file name spelled otherwise in the table: the only file that fits is taken"
    (warning,) = loaded.warnings
    assert warning.startswith(f"5 × {kind}\n  devel.csv:2: {SPELLED[spelling]['d']} is d.wav\n  train.csv:2: ")


def test_files_in_folders_with_spaces_capitals_and_accents(data: Folder) -> None:
    for letter, place in {"a": "Ses 1/A 1.WAV", "b": "Ses 1/e\u0301.wav", "c": "Ses.2/x.01.flac.wav"}.items():
        data.move(letter, place)
    data.names({"a": "ses 1\\a  1", "b": "\u00e9.wav", "c": "x.01.flac"})
    assert data.load().files == ("Ses 1/A 1.WAV", "Ses 1/e\u0301.wav", "Ses.2/x.01.flac.wav", "d.wav", "e.wav")


@pytest.mark.parametrize(
    ("other", "name"), [("A.wav", "a"), ("x/a.wav", "a"), ("a.flac", "a"), ("x/a.wav", "C:\\x\\a.wav")]
)
def test_between_two_files_nothing_is_guessed(data: Folder, other: str, name: str) -> None:
    (data.root / "wav/x").mkdir()
    (data.root / "wav" / other).write_bytes((data.root / "wav/a.wav").read_bytes())
    data.names({"a": name})
    first, second = sorted(["a.wav", other])
    assert f"1 × several files for a name\n    train.csv:2: {name}: {first} and {second} fit; name one" in data.report()
    data.names({"a": "a.wav"})
    assert data.load().files[0] == "a.wav"  # as it stands


def test_missing_files_are_named_with_the_nearest(data: Folder) -> None:
    data.names({"a": "a.mp3", "b": "bb.wav", "c": "../c.wav", "d": "", "e": "/nowhere/zzzzzzzzzzz"})
    report = data.report()
    for line in (
        "train.csv:2: a.mp3: no such file in the wav folder; did you mean 'a.wav'?",
        "train.csv:3: bb.wav: no such file in the wav folder; did you mean 'b.wav'?",
        "train.csv:4: '../c.wav' is no file inside the wav folder; did you mean 'c.wav'?",
        "devel.csv:2: '' is no file inside the wav folder",
        "devel.csv:3: '/nowhere/zzzzzzzzzzz' is no file inside the wav folder",
    ):
        assert report.count(line) == 1
    assert report.startswith(f"corpus csv in {data.root}: errors: 5,")


def printed(report: str, before: str) -> list[str]:
    """The override that a report gives after some words, as a shell takes it."""
    return [shlex.split(report[report.index(before) + len(before) :])[0]]


def test_rows_of_missing_files_are_left_out_as_printed(data: Folder) -> None:
    data.table("train", "\n".join([*TRAIN, "a (1).wav,0,0.5", "z/../d{2}+.wav,1,0"]))
    (data.root / "wav/e.wav").unlink()
    data.table("devel", "\n".join([*DEVEL, "b2,0.5,0.5"]))
    wavfile.write(data.root / "wav/b2x.wav", 16_000, np.arange(2000, dtype=np.int16))
    report = data.report()
    assert report.lower().count("add the files, or leave their rows out: ") == 2  # for each table, the same
    wavfile.write(data.root / "wav/b2.wav", 16_000, np.arange(1, 2000, dtype=np.int16))
    data.config.rows = compose_one(["data=demo", *printed(report, "leave their rows out: ")]).data.rows
    data.table("devel", "\n".join([*DEVEL, "b2.wav,0.5,0.25"]))  # a name that is longer than the one left out
    assert data.load().files == ("a.wav", "b.wav", "c.wav", "d.wav", "b2.wav")


def test_many_missing_files_are_no_regular_expression(data: Folder) -> None:
    data.table("train", "\n".join([*TRAIN, *(f"x{number}.wav,0,1" for number in range(30))]))
    report = data.report()
    assert report.lower().count("add the files, or delete the rows") == 1
    assert "data.rows" not in report


def test_names_with_the_ending_of_other_files_are_read_without_it_as_printed(data: Folder) -> None:
    plain = data.load()
    data.names({letter: f"{letter}.avi" for letter in "abcde"})
    report = data.report()
    assert "train.csv:2: a.avi: no such file in the wav folder; did you mean 'a.wav'? Leave the ending" in report
    data.config.pattern = compose_one(
        ["data=table", "data.root=.", "data.targets=[Joy]", *printed(report, "Leave the ending out: ")]
    ).data.pattern
    assert data.load().fingerprint == plain.fingerprint


def test_numbers_without_their_zeros_name_the_only_file_that_fits(data: Folder) -> None:
    for letter, place in {"a": "007.wav", "b": "x/00.wav", "c": "x/010.wav"}.items():
        data.move(letter, place)
    data.names({"a": "7", "b": "0.WAV", "c": "x/10"})
    assert data.load().files[:3] == ("007.wav", "x/00.wav", "x/010.wav")
    data.move("c", "07.wav")
    data.names({"a": "7", "b": "0", "c": "07"})
    assert "train.csv:2: 7: 007.wav and 07.wav fit; name one" in data.report()
    data.names({"a": "007", "b": "0", "c": "07"})
    assert data.load().files[:3] == ("007.wav", "x/00.wav", "07.wav")


def test_two_names_of_one_file_are_a_duplicate(data: Folder) -> None:
    data.table("train", "\n".join([*TRAIN, "A,0,0"]))
    data.table("devel", "\n".join([*DEVEL, "wav/b.wav,0,0"]))
    report = data.report()
    assert "train.csv:5: a.wav is already in train.csv:2; keep one (data.rows), or their mean, or name the" in report
    assert "devel.csv:4: b.wav is already in train.csv:3" in report


def test_a_link_to_a_folder_is_followed(data: Folder, tmp_path: Path) -> None:
    (data.root / "wav").rename(tmp_path / "elsewhere")
    (data.root / "wav").mkdir()
    (data.root / "wav/all").symlink_to(tmp_path / "elsewhere")
    data.names({letter: f"all/{letter}.wav" for letter in "abcde"})
    assert data.load().files[0] == "all/a.wav"


def test_labels_and_columns_beside_are_joined_by_files(data: Folder) -> None:
    data.config.test, data.config.unmasked, data.config.metadata = "test.csv", "unmasked.csv", "people.csv"
    data.config.groups = ["SPEAKER", "sex"]
    data.table("train", "\n".join(TRAIN[:3]))
    data.table("test", "Filename\nc")
    data.table("unmasked", "filename;Fear;Joy\nwav/c.wav;0,3;0,1")
    rows = [f"{number};wav\\{letter.upper()}.wav;{letter}{letter};f" for number, letter in enumerate("abcde")]
    data.table("people", "\n".join([";FileName;Speaker;Sex", *rows, "5;wav\\z.wav;zz;m", ";;;"]))
    for _ in range(2):  # read in full, and remembered
        loaded = data.load()
        np.testing.assert_allclose(loaded.partitions["test"].shares, [[0.1, 0.3]])
        assert loaded.groups["SPEAKER"].tolist() == ["aa", "bb", "dd", "ee", "cc"]


# Unknown speakers


def with_speakers(data: Folder, speakers: list[str]) -> None:
    data.config.groups = ["speaker"]
    rows = [line for lines in (TRAIN, DEVEL) for line in lines[1:]]
    cells = [f"{row},{speaker}" for row, speaker in zip(rows, speakers, strict=True)]
    data.table("train", "\n".join([TRAIN[0] + ",Speaker", *cells[:3]]))
    data.table("devel", "\n".join([TRAIN[0] + ",Speaker", *cells[3:]]))


@pytest.mark.parametrize("word", ["", "Unknown", "UNKNOWN", "n/a", "NA", "none", "-", "?", " nan "])
def test_a_clip_of_an_unknown_speaker_is_on_its_own(data: Folder, word: str) -> None:
    with_speakers(data, ["ann", word, word, word, word])
    loaded = data.load()
    assert loaded.groups["speaker"].tolist() == ["ann", "", "", "", ""]
    assert len(set(loaded.clusters_of("train").tolist())) == 3
    shown = f"'{word.strip()}'" if word else "empty"
    assert loaded.warnings == (
        f"4 × clip of unknown speaker: it is on its own in intervals and folds\n"
        f"  devel.csv:2: speaker is {shown} (2 times, lines 2, 3)\n"
        f"  train.csv:3: speaker is {shown} (2 times, lines 3, 4)",
    )
    data.config.folds, data.config.fold = "2", 0
    sizes = [len(part.files) for part in data.load().partitions.values()]
    assert sorted(sizes) == [2, 3]


def test_words_for_unknown_are_a_key(data: Folder) -> None:
    with_speakers(data, ["x", "x", "Unknown", "Unknown", "b"])
    assert data.load().groups["speaker"].tolist() == ["x", "x", "", "", "b"]
    data.config.unknown = ["X"]
    loaded = data.load()
    assert loaded.groups["speaker"].tolist() == ["", "", "Unknown", "Unknown", "b"]
    assert any("speaker Unknown of train is also in devel (devel.csv:" in warning for warning in loaded.warnings)


def test_folds_by_a_column_need_it_of_each_clip(data: Folder) -> None:
    with_speakers(data, ["ann", "ann", "", "bob", "bob"])
    data.config.folds, data.config.fold = "speaker", 0
    assert "data.folds=speaker: the speaker of 1 clips of train and devel is not known" in data.report()


def test_folds_of_known_speakers_are_what_they_were() -> None:
    speakers = np.random.default_rng(0).choice(["ann", "bob", "cid", "dan", "eve"], 40)
    np.testing.assert_array_equal(balanced_folds(speakers, 3, 0), balanced_folds(cluster_numbers(speakers), 3, 0))


def test_one_name_in_many_folders_is_found_at_once() -> None:
    files = Files(f"{number}/{name}.wav" for number in range(8000) for name in ("audio", "007"))
    begun = time.process_time()
    for number in range(8000):
        assert files.fitting(f"data/{number}/AUDIO") == [f"{number}/audio.wav"]
        assert files.fitting(f"{number}/7") == [f"{number}/007.wav"]
    assert time.process_time() - begun < 5  # each with each took minutes
    assert len(files.fitting("audio")) == 8000
    assert files.fitting("8000/audio.wav") == []
    assert Files(["audio.wav", "a/audio.wav"]).fitting("b/a/audio") == ["a/audio.wav", "audio.wav"]


def test_names_are_resolved_with_one_listing(data: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = itertools.count()
    real = os.walk
    monkeypatch.setattr(os, "walk", lambda *args: next(calls) is None or real(*args))
    data.names(SPELLED["in capitals"])
    data.load()
    assert next(calls) == 1


# Which columns there are


def test_the_columns_of_tables_are_suggested(data: Folder) -> None:
    for name, lines in {"train": TRAIN, "devel": DEVEL}.items():
        more = ["Speaker;sex;valence;Deep joy;note;age", *(f"ann;f;{n};0,{n};x;{n}" for n in range(1, len(lines)))]
        rows = [f"{line};{rest}" for line, rest in zip((line.replace(",", ";") for line in lines), more, strict=True)]
        data.table(name, "\n".join([*rows, ";;;;;;;"]).replace(".", ",").replace(",wav", ".wav"))
    keys = """'data.targets=[Joy,Fear,"Deep joy"]' 'data.groups=[speaker,sex]'"""
    scaled = "numbers outside 0 to 1 are labels by data.range or data.normalize: valence (1 to 3)"
    data.config.targets = []
    assert (
        data.report()
        == f"data.targets is empty: name the label columns; the tables have these columns: {keys}; {scaled}"
    )
    data.config.targets = ["Anger"]
    assert f"\n  the tables have these columns: {keys}\n  {scaled}" in data.report()
    with pytest.raises(EmoshareError, match=r"data.targets=\[\]: name at least one label column; the tables have"):
        compose_one(["data=csv", f"data.root={data.root}"])


def test_tables_of_other_names_are_named(data: Folder) -> None:
    (data.root / "lab").mkdir()
    (data.root / "train.csv").rename(data.root / "lab/labels.tsv")
    data.config.targets = []
    there = "there are the tables devel.csv, lab/labels.tsv"
    assert data.report().endswith(f"there is no table train.csv in {data.root}: set data.train and data.devel; {there}")


def test_utf_16_without_its_mark_is_named(data: Folder) -> None:
    data.table("train", "\n".join(TRAIN), "utf-16-le")
    with pytest.raises(EmoshareError, match="not a CSV table in UTF-8: it holds NUL bytes; save it as CSV UTF-8"):
        data.load()
