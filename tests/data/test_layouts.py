"""Corpora whose tables are not one row of numbers per file: categories, names that tell, sound in tables, databases."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emoshare.command.compose import compose_one
from emoshare.core.errors import EmoshareError
from emoshare.data import corpus
from emoshare.data.derived import words_of
from emoshare.data.partition import Corpus
from emoshare.data.sound_tables import clip_names


def load(root: Path, *keys: str) -> Corpus:
    """Read in full and remembered, which must be the same."""
    config = compose_one(["data=table", f"data.root={root}", *keys]).data
    first, again = (corpus.load(config, root.parent / "cache") for _ in range(2))
    assert first.fingerprint == again.fingerprint
    assert first.files == again.files
    return again


def report(root: Path, *keys: str) -> str:
    with pytest.raises(EmoshareError) as error:
        load(root, *keys)
    return str(error.value)


def wave(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(0, 0.1, 1600)


def write_clips(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, wave(number), 16_000)


def shares(loaded: Corpus, part: str) -> list[list[float]]:
    found = loaded.partitions[part].shares
    assert found is not None
    return found.tolist()


NAMES = [f"{speaker}_{emotion}_{take}.wav" for speaker in ("11", "12", "13") for emotion in "WF" for take in "ab"]
PATTERN = r"data.pattern='(?P<speaker>\d+)_(?P<label>[A-Z])_(?P<take>.)\.wav'"


def test_names_of_files_are_a_table(tmp_path: Path) -> None:
    write_clips(tmp_path / "data/wav", [*NAMES, "sub/14_W_a.wav", "sub/14_F_a.wav", "noise.wav", "sub/._15_W_a.wav"])
    (tmp_path / "data/wav/readme.txt").write_text("no sound")
    keys = [
        "data.table=files", PATTERN, "data.targets=[Anger,Joy]", "data.classes={Anger: W, Joy: [F, X]}",
        "data.groups=[speaker]", "data.folds=speaker", "data.fold=0",
    ]  # fmt: skip
    loaded = load(tmp_path / "data", *keys)
    assert loaded.groups["speaker"].tolist() == [*("11",) * 4, *("12",) * 4, *("13",) * 4, "14", "14"]
    assert loaded.partitions["devel"].files == ("11_F_a.wav", "11_F_b.wav", "11_W_a.wav", "11_W_b.wav")
    assert shares(loaded, "devel") == [[0, 1], [0, 1], [1, 0], [1, 0]]
    assert any("1 × file name that data.pattern does not fit, left out" in text for text in loaded.warnings)
    assert any("1 sound files that no table names, e.g. noise.wav" in text for text in loaded.warnings)
    write_clips(tmp_path / "data/wav", ["sub/14_F_b.wav"])  # a folder below, whose own time changes
    assert len(load(tmp_path / "data", *keys).files) == len(loaded.files) + 1


def test_categories_are_columns_of_0_and_1(tmp_path: Path) -> None:
    write_clips(tmp_path / "data/wav", NAMES)
    rows = [f"{name},{'train' if name < '13' else 'dev'},{'joy' if '_F_' in name else 'ANGER '}" for name in NAMES]
    table = tmp_path / "data/labels.csv"
    table.write_text("\n".join(["filename,split,Emotion", *rows, "12_F_a.wav,train,other"]))
    keys = ["data.targets=[anger,joy]", "data.columns={label: Emotion}"]
    loaded = load(tmp_path / "data", *keys)
    assert shares(loaded, "devel") == [[1, 0], [1, 0], [0, 1], [0, 1]]
    assert any("1 × row of no class in data.classes, left out" in text for text in loaded.warnings)
    table.write_text(table.read_text().replace("joy", "joy;joy;anger"))
    loaded = load(tmp_path / "data", *keys, "data.normalize=sum")
    np.testing.assert_allclose(shares(loaded, "devel")[-1], [1 / 3, 2 / 3], atol=1e-7)
    assert "no column 'label'; data.columns={label: its name}" in report(
        tmp_path / "data", keys[0], "data.classes={joy: 1}"
    )


LISTS = {
    "a word": ["joy", "Anger ", "anger"],
    "semicolons": ["joy;joy; anger", "anger;fear;anger"],
    "commas": ["joy, joy, anger", "anger,other,anger"],
    "colons": ["joy:joy:anger", "anger:fear:anger"],
    "bars": ["joy|joy|anger", "anger|fear|anger"],
    "JSON": ['["joy", "joy", "anger"]', '["fear", "anger", "\\u0061nger"]'],
    "Python": ["['joy', 'joy', 'anger']", "['anger', 'fear', 'anger']"],
    "numpy": ["['joy' 'joy' 'anger']", "['anger' 'fear' 'anger']"],
}


@pytest.mark.parametrize("form", LISTS)
def test_categories_in_lists_of_every_spelling(form: str) -> None:
    known = {"joy": "joy", "anger": "anger"}
    counts = [[words_of(cell, known).count(word) for word in known] for cell in LISTS[form]]
    assert counts == ([[1, 0], [0, 1], [0, 1]] if form == "a word" else [[2, 1], [0, 2]])


def test_a_category_with_a_sign_of_lists_is_one_and_numbers_beside_categories_are_not_left_out() -> None:
    known = {"joy/love": "joy", "no, none": "none", "1": "one"}
    assert words_of("Joy/Love", known) == ["joy/love"]
    assert words_of('["no, none", "joy/love"]', known) == ["no, none", "joy/love"]
    assert words_of("1;1;2", known | {"2": "two"}) == ["1", "1", "2"]
    assert words_of("joy: 3, anger: 2", {"joy": "joy", "anger": "anger"}) == ["joy: 3, anger: 2"]  # no class: told


def test_rows_and_names_by_columns(tmp_path: Path) -> None:
    write_clips(
        tmp_path / "data/wav", [f"{part}/dia{n}_utt1.mp3.wav" for part in ("train", "devel") for n in (0, 1, 2)]
    )
    for part in ("train", "devel"):
        lines = [f"{n},1,{n / 4},{mode}" for mode in ("face", "voice") for n in (0, 1, 2)]
        (tmp_path / f"data/{part}.csv").write_text("\n".join(["Dialogue,Utt,Joy,Mode", *lines]))
    keys = [
        "data.table=null", "data.train=train.csv", "data.devel=devel.csv", "data.targets=[Joy]",
        'data.columns={file: "{split}/dia{Dialogue}_utt{Utt}.mp3"}', "data.rows={Mode: 'voi.*'}",
    ]  # fmt: skip
    loaded = load(tmp_path / "data", *keys)
    assert loaded.partitions["devel"].files == tuple(f"devel/dia{n}_utt1.mp3.wav" for n in (0, 1, 2))
    assert shares(loaded, "train") == [[0.0], [0.25], [0.5]]
    wrong = keys[4].replace("{Utt}", "{Ut}")
    assert "train.csv:1: no column 'Ut'; did you mean 'Utt'? (data.columns.file)" in report(
        tmp_path / "data", *keys[:4], wrong
    )
    found = report(tmp_path / "data", *keys[:5], "data.rows={Utt: 'x'}")
    assert "train.csv:1: no row whose Utt fits data.rows: x; the first is '1'" in found
    found = report(tmp_path / "data", *keys[:5], "data.rows={Modes: 'x'}")
    assert "train.csv:1: no column 'Modes'; did you mean 'Mode'? (data.rows)" in found


def sound(number: int, form: str) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, wave(number), 16_000, format=form)
    return data.getvalue()


def write_shards(root: Path, named: bool) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (root / "data").mkdir(parents=True)
    for shard, numbers in enumerate((range(4), range(4, 10))):
        rows = [
            {"bytes": sound(n, ("WAV", "FLAC", "OGG")[n % 3]), "path": f"clips/c{n}.wav" if named else None}
            for n in numbers
        ]
        table = pa.table({
            "audio": pa.array(rows, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
            "split": ["train" if n < 6 else "validation" for n in numbers], "emotion": [n % 2 for n in numbers],
            "speaker": [f"s{n}" for n in numbers],
        })  # fmt: skip
        told = {"info": {"features": {"emotion": {"names": ["anger", "joy"], "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(told)})
        parquet.write_table(table, root / f"data/train-0000{shard}-of-00002.parquet")


@pytest.mark.parametrize("named", [True, False])
def test_tables_with_sound_of_the_hub(named: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_shards(tmp_path / "hub", named)
    keys = [
        "data.table='data/train-*.parquet'", "data.targets=[anger,joy]", "data.columns={label: emotion}",
        "data.groups=[speaker]",
    ]  # fmt: skip
    caplog.set_level(logging.INFO)
    loaded = load(tmp_path / "hub", *keys)
    assert caplog.text.count("writing the sound of 2 tables into") == 1
    assert len(loaded.partitions["train"].files) == 6
    assert loaded.partitions["devel"].files[0] == f"train-00001-of-00002/{'c6.wav' if named else '000002.wav'}"
    assert shares(loaded, "devel") == [[1, 0], [0, 1], [1, 0], [0, 1]]
    assert loaded.groups["speaker"].tolist() == [f"s{n}" for n in range(10)]
    from emoshare.data.audio import read

    np.testing.assert_allclose(read(loaded.path(loaded.files[7])), wave(7), atol=1e-4)  # FLAC
    endings = {Path(file).suffix for file in loaded.files}
    assert endings == ({".wav"} if named else {".wav", ".flac", ".ogg"})


def test_sound_of_a_table_that_comes_later_is_written_beside_the_others(tmp_path: Path) -> None:
    write_shards(tmp_path / "hub", True)
    shards = [f"data/train-0000{number}-of-00002.parquet" for number in (0, 1)]
    keys = ["data.targets=[anger,joy]", "data.columns={label: emotion}", "data.folds=2", "data.fold=0"]
    assert len(load(tmp_path / "hub", f"data.table={shards[0]}", *keys).files) == 4
    first = tmp_path / "hub/wav/train-00000-of-00002/c0.wav"
    assert (written := first.stat().st_mtime_ns)
    assert len(load(tmp_path / "hub", "data.table='data/train-*.parquet'", *keys).files) == 10
    assert first.stat().st_mtime_ns == written
    (tmp_path / "hub/more").mkdir()
    (tmp_path / "hub/more/train-00000-of-00002.parquet").write_bytes((tmp_path / "hub" / shards[1]).read_bytes())
    found = report(tmp_path / "hub", "data.table=more/train-00000-of-00002.parquet", *keys)
    assert found.startswith(f"{first.parent}: has the sound of another table than {tmp_path}/hub/more/train-00000-of")
    assert found.endswith("; name another data.wav")
    (tmp_path / "hub" / shards[0]).rename(tmp_path / "hub/more/train-00001-of-00002.parquet")
    found = report(tmp_path / "hub", "data.table='*/train-*.parquet'", "data.wav=other", *keys)
    assert found.endswith("two tables of one name, whose clips need a folder each; rename one")
    assert not (tmp_path / "hub/other").exists()


@pytest.mark.parametrize("kind", ["Sequence", "List"])
def test_lists_of_classes_of_the_hub_become_their_names(kind: str, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    write_clips(tmp_path / "hub/wav", ["a.wav", "b.wav", "c.wav", "d.wav"])
    table = pa.table(
        {"file": list("abcd"), "split": ["train"] * 2 + ["dev"] * 2, "tags": [[1, 1, 0], [0], [1], [0, 2]]}
    )
    features = {"tags": {"feature": {"names": ["anger", "joy", "none"], "_type": "ClassLabel"}, "_type": kind}}
    told = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(table.replace_schema_metadata(told), tmp_path / "hub/x.parquet")
    keys = ["data.table=x.parquet", "data.targets=[anger,joy]", "data.columns={label: tags}", "data.normalize=votes"]
    loaded = load(tmp_path / "hub", *keys)
    np.testing.assert_allclose(shares(loaded, "train"), [[1 / 3, 2 / 3], [1, 0]], atol=1e-7)
    assert shares(loaded, "devel") == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("header", "cells", "keys"),
    [
        ("who,Joy_1,fear", ["a,0,1", "b,1,0"], ["data.columns={Joy: Joy_1, speaker: who}", "data.groups=[speaker]"]),
        ("emotion", ["fear", "Joy"], ["data.columns={label: emotion}"]),
    ],
)
def test_a_test_table_of_names_alone_has_hidden_labels_whatever_columns_are_called(
    header: str, cells: list[str], keys: list[str], tmp_path: Path
) -> None:
    write_clips(tmp_path / "data/wav", [f"{n}.wav" for n in range(6)])
    for part, first in {"train": 0, "devel": 2}.items():
        lines = [f"filename,{header}", *(f"{first + n},{cell}" for n, cell in enumerate(cells))]
        (tmp_path / f"data/{part}.csv").write_text("\n".join(lines))
    (tmp_path / "data/test.csv").write_text("filename\n4\n5\n")
    parts = ["data.table=null", "data.train=train.csv", "data.devel=devel.csv", "data.test=test.csv"]
    loaded = load(tmp_path / "data", *parts, "data.targets=[Joy,fear]", *keys)
    assert loaded.partitions["test"].shares is None
    assert shares(loaded, "train") == [[0.0, 1.0], [1.0, 0.0]]


def test_a_column_without_a_name_may_hold_the_files(tmp_path: Path) -> None:
    write_clips(tmp_path / "data/wav", ["a.wav", "b.wav", "c.wav", "d.wav"])  # as pandas writes an index
    (tmp_path / "data/labels.csv").write_text(",joy,split\na,0,train\nb,1,train\nc,0.5,dev\nd,0.25,dev\n")
    loaded = load(tmp_path / "data", "data.targets=[joy]", "data.columns={file: '{}'}")
    assert loaded.files == ("a.wav", "b.wav", "c.wav", "d.wav")


def test_a_shard_with_other_columns_is_named(tmp_path: Path) -> None:
    (tmp_path / "data/wav").mkdir(parents=True)
    (tmp_path / "data/a1.csv").write_text("filename,split,joy\n")
    (tmp_path / "data/a2.csv").write_text("filename,joy,split\n")
    assert "a2.csv has other columns than a1.csv" in report(
        tmp_path / "data", "data.table='a*.csv'", "data.targets=[joy]"
    )
    found = report(tmp_path / "data", "data.table='b*.csv'", "data.targets=[joy]")
    assert "b*.csv: cannot be read: No such file or directory" in found


HEADER = """
name: mini
schemes:
  emotion: {dtype: str, labels: [anger, joy]}
  share: {dtype: float, minimum: 0, maximum: 1}
  speaker: {dtype: str, labels: {a: {gender: female}, b: {gender: male}}}
splits: {train: {type: train}, dev: {type: dev}}
tables:
  files: {type: filewise, columns: {speaker: {scheme_id: speaker}}}
  emotion.train: {type: segmented, split_id: train, columns: {emotion: {scheme_id: emotion}, share: {scheme_id: share}}}
  emotion.dev: {type: segmented, split_id: dev, columns: {emotion: {scheme_id: emotion}, share: {scheme_id: share}}}
"""
TIMES = [(0.0, 0.04), (0.04, 0.1)]
AUDFORMAT = ["data=audformat", "data.targets=[share]", "data.groups=[speaker,gender]"]


def write_database(root: Path) -> None:
    """As audformat writes it."""
    write_clips(root / "audio", ["1.wav", "2.wav"])
    (root / "db.yaml").write_text(HEADER)
    (root / "db.files.csv").write_text("file,speaker\naudio/1.wav,a\naudio/2.wav,b\n")
    for number, part in enumerate(("train", "dev"), 1):
        lines = [
            f"audio/{number}.wav,0 days 00:00:0{start:.2f},0 days 00:00:0{end:.2f},joy,{end}" for start, end in TIMES
        ]
        (root / f"db.emotion.{part}.csv").write_text("\n".join(["file,start,end,emotion,share", *lines]) + "\n")


def check_database(root: Path) -> None:
    loaded = load(root, *AUDFORMAT)
    assert loaded.partitions["train"].files == ("audio/1.wav#t=0,0.04", "audio/1.wav#t=0.04,0.1")
    np.testing.assert_allclose(shares(loaded, "devel"), [[0.04], [0.1]])
    assert loaded.groups["speaker"].tolist() == ["a", "a", "b", "b"]
    assert loaded.groups["gender"].tolist() == ["female", "female", "male", "male"]


def test_databases_of_audformat_as_written_by_hand(tmp_path: Path) -> None:
    write_database(tmp_path / "db")
    check_database(tmp_path / "db")
    table = "data.table=db.emotion.train.csv"  # one of its tables needs no key for its index
    with pytest.raises(EmoshareError, match="fold 0 has one clip alone"):  # all else is read
        load(tmp_path / "db", *AUDFORMAT[:2], table, "data.folds=2", "data.fold=0")
    (tmp_path / "db/db.emotion.dev.csv").write_text(
        "file,start,end,emotion,share\naudio/2.wav,0,,joy,0.3\naudio/2.wav,0.05,NaT,joy,0.4\n"
    )
    assert load(tmp_path / "db", *AUDFORMAT).partitions["devel"].files == ("audio/2.wav", "audio/2.wav#t=0.05")
    (tmp_path / "db/db.emotion.dev.csv").unlink()
    assert "its table db.emotion.dev is not there as .csv or .parquet" in report(tmp_path / "db", *AUDFORMAT)
    (tmp_path / "db/db.yaml").write_text("name: mini")
    assert "db.yaml: cannot be read: names no tables" in report(tmp_path / "db", *AUDFORMAT)


def test_what_is_beside_labels_of_audformat_may_be_a_table_of_its_own(tmp_path: Path) -> None:
    write_database(tmp_path / "db")
    header = HEADER.replace("{a: {gender: female}, b: {gender: male}}", "people")
    misc = "misc_tables:\n  people: {levels: {speaker: str}, columns: {gender: {}}}\n"
    (tmp_path / "db/db.yaml").write_text(header + misc)
    assert "its table db.people is not there as .csv or .parquet" in report(tmp_path / "db", *AUDFORMAT)
    (tmp_path / "db/db.people.csv").write_text("speaker,gender\nb,male\na,female\n")
    check_database(tmp_path / "db")


@pytest.mark.parametrize("beside", ["labels", "table"])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_databases_of_audformat_as_written_by_it(form: str, beside: str, tmp_path: Path) -> None:
    audformat = pytest.importorskip("audformat")
    import pandas as pd

    write_clips(tmp_path / "db/audio", ["1.wav", "2.wav"])
    db = audformat.Database("mini")
    db.schemes["share"] = audformat.Scheme("float", minimum=0, maximum=1)
    labels: object = {"a": {"gender": "female"}, "b": {"gender": "male"}}
    if beside == "table":
        labels = "people"
        db["people"] = audformat.MiscTable(pd.Index(["b", "a"], name="speaker", dtype="string"))
        db["people"]["gender"] = audformat.Column()
        db["people"]["gender"].set(["male", "female"])
    db.schemes["speaker"] = audformat.Scheme("str", labels=labels)
    db["files"] = audformat.Table(audformat.filewise_index(["audio/1.wav", "audio/2.wav"]))
    db["files"]["speaker"] = audformat.Column(scheme_id="speaker")
    db["files"]["speaker"].set(["a", "b"])
    for number, part in enumerate(("train", "dev"), 1):
        db.splits[part] = audformat.Split(part)
        starts, ends = ([pd.Timedelta(pair[place], unit="s") for pair in TIMES] for place in (0, 1))
        index = audformat.segmented_index([f"audio/{number}.wav"] * 2, starts, ends)
        db[part] = audformat.Table(index, split_id=part)
        db[part]["share"] = audformat.Column(scheme_id="share")
        db[part]["share"].set([end for _, end in TIMES])
    db.save(str(tmp_path / "db"), storage_format=form)
    check_database(tmp_path / "db")


@pytest.mark.parametrize("path", ["..", "a/..", None, "", "a\nb.wav", "b.wav"])
def test_a_clip_in_a_table_whose_name_is_none_of_a_file_is_called_by_its_row(path) -> None:
    names = clip_names(Path("data/train-0.parquet"), ["b.wav", path])
    assert names == ["train-0/000000", "train-0/000001"]
    assert clip_names(Path("train-0.parquet"), ["x/b.wav", "..\\c.wav"]) == ["train-0/b.wav", "train-0/c.wav"]
