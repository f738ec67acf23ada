"""`data=table`: tables of any layout, read by keys alone."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emoshare.command.compose import compose_one
from emoshare.core.errors import EmoshareError
from emoshare.data import corpus
from emoshare.data.partition import Corpus

ROWS = [  # as one table has them: folders of another machine, endings left out, another case
    ("clips/A1", "Train", "ann", 0.0, 0.5), ("clips/A2", "Train", "ann", 1.0, 0.25),
    ("clips/A3", "Train", "bob", 0.5, 0.0),
    ("clips/B1", "Development", "Unknown", 0.1, 0.9), ("clips/B2", "Development", "Unknown", 0.2, 0.8),
    ("clips/C1", "Test1", "cid", 0.3, 0.6), ("clips/C2", "Test2", "cid", 0.4, 0.7),
    ("clips/D1", "Test3", "dan", 0.4, 0.7),
]  # fmt: skip
HEADER = ("FileName", "Split_Set", "SpkrID", "joy_mean", "Fear")
KEYS = [
    "data.targets=[Joy,Fear]", "data.groups=[speaker]",
    "data.columns={file: FileName, split: Split_Set, speaker: SpkrID, Joy: joy_mean}",
    "data.splits={train: Train, devel: Development, test: [Test1,Test2]}",
]  # fmt: skip


def text(separator: str = ",", decimal: str = ".") -> str:
    lines = [HEADER, *ROWS]
    return "\n".join(separator.join(str(cell).replace(".", decimal) for cell in line) for line in lines) + "\n"


def write_csv(path: Path) -> None:
    path.write_text(text())


def write_german(path: Path) -> None:
    rows = text(";", ",").splitlines()
    path.write_text("\ufeff" + "\r\n".join([*rows[:3], ";;;;", *rows[3:]]), encoding="utf-8")


def write_tsv(path: Path) -> None:
    path.write_text(text("\t"))


def write_jsonl(path: Path) -> None:
    path.write_text("\n".join(json.dumps(dict(zip(HEADER, row, strict=True))) for row in ROWS) + "\n\n")


def write_parquet(path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({name: list(cells) for name, cells in zip(HEADER, zip(*ROWS), strict=True)}), path)  # noqa: B905


def write_excel(path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [HEADER, *ROWS[:3], (), *ROWS[3:]]:
        book.active.append(row)
    book.save(path)


FORMATS = {
    "csv": write_csv, "german.csv": write_german, "tsv": write_tsv, "jsonl": write_jsonl, "parquet": write_parquet,
    "xlsx": write_excel,
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data/wav").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for row in ROWS:
        path = tmp_path / "data/wav" / f"{row[0].removeprefix('clips/').lower()}.wav"
        soundfile.write(path, rng.normal(0, 0.1, 1600), 16_000)
    return tmp_path / "data"


def load(root: Path, table: str, *keys: str) -> Corpus:
    config = compose_one(["data=table", f"data.root={root}", f"data.table={table}", *(keys or KEYS)])
    return corpus.load(config.data, root.parent / "cache")


def report(root: Path, table: str, *keys: str) -> str:
    with pytest.raises(EmoshareError) as error:
        load(root, table, *keys)
    return str(error.value)


@pytest.mark.parametrize("form", FORMATS)
def test_one_table_of_every_format_is_the_same_corpus(root: Path, form: str) -> None:
    table = f"labels.{form}"
    FORMATS[form](root / table)
    for _ in range(2):  # read in full, and remembered
        loaded = load(root, table)
        parts = {name: part.files for name, part in loaded.partitions.items()}
        assert parts == {
            "train": ("a1.wav", "a2.wav", "a3.wav"),
            "devel": ("b1.wav", "b2.wav"),
            "test": ("c1.wav", "c2.wav"),
        }
        np.testing.assert_allclose(loaded.partitions["train"].shares, [[0, 0.5], [1, 0.25], [0.5, 0]])
        assert loaded.groups["speaker"].tolist() == ["ann", "ann", "bob", "", "", "cid", "cid"]
        assert loaded.clusters_of("devel").tolist() == [0, 1]  # each unknown speaker is one of their own
        assert any("1 × row of no partition, left out" in text and "'Test3'" in text for text in loaded.warnings)


def test_the_usual_words_of_a_split_column_need_no_key(root: Path) -> None:
    table = (
        text().replace("FileName,Split_Set", "filename,split").replace("Development", "dev").replace("Test1", "test")
    )
    (root / "labels.csv").write_text(table)
    loaded = load(root, "labels.csv", "data.targets=[joy_mean,Fear]")
    assert [len(part.files) for part in loaded.partitions.values()] == [3, 2, 1]


def test_without_a_split_column_there_are_folds(root: Path) -> None:
    write_csv(root / "labels.csv")
    keys = ["data.targets=[joy_mean,Fear]", "data.columns={file: FileName, speaker: SpkrID}", "data.groups=[speaker]"]
    assert "labels.csv:1: no column tells the partition" in report(root, "labels.csv", *keys)
    loaded = load(root, "labels.csv", *keys, "data.folds=3", "data.fold=0")
    assert sum(len(part.files) for part in loaded.partitions.values()) == len(ROWS)
    assert "test" not in loaded.partitions


def test_another_layout_of_the_same_table_is_another_corpus(root: Path) -> None:
    write_csv(root / "labels.csv")
    whole = load(root, "labels.csv")
    other = load(root, "labels.csv", *KEYS[:3], "data.splits={train: Train, devel: Development, test: Test3}")
    assert whole.fingerprint != other.fingerprint
    assert load(root, "labels.csv").fingerprint == whole.fingerprint


WRONG = {
    "no column 'SplitSet'; did you mean 'Split_Set'? (data.columns.split)": ("Split_Set", "SplitSet"),
    "no column 'Spkr'; did you mean 'SpkrID'? (data.columns.speaker)": ("speaker: SpkrID", "speaker: Spkr"),
    "no row of data.splits.devel: Split_Set='developing'; did you mean 'Development'?": (
        ": Development", ": Developing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_key_is_named_with_the_nearest(root: Path, line: str) -> None:
    write_csv(root / "labels.csv")
    assert line in report(root, "labels.csv", *(key.replace(*WRONG[line]) for key in KEYS))


@pytest.mark.parametrize(
    ("named", "missing"), [({"devel": "Entwicklung"}, "train"), ({"train": "Training"}, "devel"), ({}, "devel")]
)
def test_a_partition_without_a_row_is_told_with_splits_that_work(root: Path, named: dict, missing: str) -> None:
    german = {"Train,": "Training,", "Development,": "Entwicklung,", "Test1": "Prüfung", "Test2": "Prüfung"}
    table = text()
    for word, other in german.items():
        table = table.replace(word, other)
    (root / "labels.csv").write_text("".join(line for line in table.splitlines(True) if "Test3" not in line))
    splits = [f"data.splits={{{part}: {value}}}" for part, value in named.items()]
    found = report(root, "labels.csv", *KEYS[:3], *splits)
    told = f"no row for {missing}: Split_Set has Training, Entwicklung, Prüfung; map them by data.splits, as "
    remedy = """'data.splits={train: Training, devel: Entwicklung, test: "Prüfung"}'"""
    assert found.count(told + remedy) == 1
    loaded = load(root, "labels.csv", *KEYS[:3], *shlex.split(remedy))
    assert [len(part.files) for part in loaded.partitions.values()] == [3, 2, 2]


def test_too_few_values_for_all_partitions_lead_to_folds(root: Path) -> None:
    (root / "labels.csv").write_text("".join(line for line in text().splitlines(True) if "Dev" not in line))
    found = report(root, "labels.csv", *KEYS[:3], "data.splits={train: Train}")
    values = "Split_Set has Train, Test1, Test2, Test3"
    assert f"no row for devel: {values}; map them by data.splits, or set data.folds" in found


def test_all_mistakes_at_once(root: Path) -> None:
    table = text().replace("clips/A1", "clips/A9").replace("Train,bob,0.5", "Train,bob,?").replace("0.9", "9")
    (root / "labels.csv").write_text(table.replace("clips/B2", "clips/A2"))
    found = report(root, "labels.csv")
    for line in (
        "labels.csv:2: clips/A9: no such file in the wav folder",
        "labels.csv:4: Joy='?' must be a number from 0 to 1: fill it in, delete the row, or leave such rows out: ",
        "labels.csv:5: Fear='9' must be a number from 0 to 1",
        "1 × clip in two partitions\n    labels.csv:6: a2.wav is already in labels.csv:3",
    ):
        assert found.count(line) == 1


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
def test_records_without_any_value_are_blank_rows(root: Path, name: str) -> None:
    rows = [*ROWS[:3], (None,) * len(HEADER), *ROWS[3:]]
    if name.endswith("jsonl"):
        (root / name).write_text("\n".join(json.dumps(dict(zip(HEADER, row, strict=True))) for row in rows))
    else:
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(
            pa.table({title: list(cells) for title, cells in zip(HEADER, zip(*rows, strict=True), strict=True)}),
            root / name,
        )
    loaded = load(root, name, *KEYS)
    assert len(loaded.partitions["train"].files) == 3
    assert any("1 × blank row, left out" in text for text in loaded.warnings)


def test_a_line_of_json_ends_with_a_line_feed_alone(root: Path) -> None:
    rows = [dict(zip((*HEADER, "text"), (*row, "so\u2028what\x85"), strict=True)) for row in ROWS]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (root / "x.jsonl").write_text(text, encoding="utf-8", newline="")
    assert len(load(root, "x.jsonl", *KEYS).partitions["train"].files) == 3


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("x.jsonl", '{"a": 1}\nno', "x.jsonl: cannot be read: line 2 is no JSON"),
        ("x.jsonl", "[1]", "x.jsonl: cannot be read: line 1 is no JSON object"),
        ("x.json", '{\n"a.wav": {"joy": 1}}', "line 1 is no JSON (Expecting property name enclosed in double quotes: "),
        ("x.json", '[{"a": 1}]', "x.json: cannot be read: line 1 is no JSON object; save it as JSON lines, an object"),
        ("x.parquet", "no", "x.parquet: cannot be read: "),
        ("x.xlsx", "no", "x.xlsx: cannot be read: "),
    ],
)
def test_a_damaged_table_is_named(root: Path, name: str, content: str, line: str) -> None:
    (root / name).write_text(content)
    assert line in report(root, name)


def test_keys_are_checked_before_anything_is_read(root: Path) -> None:
    for key, line in {
        "data.splits={training: Train}": "data.splits.training: no such partition; name train, devel and test",
        "data.range=[7,1]": "data.range=[7,1]: must be the lowest and the highest label, as [1,7]",
        "data.range=[1]": "data.range=[1]: must be the lowest",
        "data.normalize=max": "data.normalize=max: must be one of sum, votes, none",
        "data.columns={file: [a]}": "data.columns.file=[a]: must be the name of a column",
        "data.classes={Joy: hap}": "data.classes.Joy: is no target",
        "data.classes={Joy: {a: b}}": "data.classes.Joy={'a': 'b'}: must be a value of the label column",
        "data.pattern='('": "data.pattern=(: is no regular expression (missing ), unterminated subpattern",
        "data.pattern='.*'": "data.pattern=.*: names no column, as (?P<speaker>\\d+) does",
        "data.rows={Mode: '['}": "data.rows.Mode=[: is no regular expression",
        "data.table=files": "data.table=files: needs data.pattern",
        "data.targets=[Joy] data.columns={Jyo: a}": "a target nor a group; did you mean 'Joy'? Else add it to data",
        "data.targets=[Joy] data.columns={Trauer: a}": "nor a group; add it to data.targets (now Joy) or data.groups",
        "data.columns={fiel: a}": "data.columns.fiel: is neither file, split, start, end, label, a target nor a group",
    }.items():
        with pytest.raises(EmoshareError, match="data") as error:
            load(root, "labels.csv", *key.split(" ", key.startswith("data.targets")))
        assert line in str(error.value)
    with pytest.raises(EmoshareError, match=r"data.range=\[1,7\]: data.normalize=sum divides"):
        load(root, "labels.csv", "data.range=[1,7]", "data.normalize=sum")


def test_what_check_prints_is_in_the_range_of_the_labels(root: Path) -> None:
    write_csv(root / "labels.csv")
    loaded = load(root, "labels.csv", *KEYS, "data.range=[-1,1]")
    np.testing.assert_allclose(loaded.partitions["train"].shares, [[0.5, 0.75], [1, 0.625], [0.75, 0.5]])
    [line] = [line for line in corpus.corpus_summary(loaded).splitlines() if line.startswith("mean label, Joy")]
    assert line.split()[3:] == ["0.500", "0.150", "0.350"]


def test_partitions_may_be_sheets_of_one_workbook(root: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for title, rows in {"Training": ROWS[:3], "Entwicklung": ROWS[3:5]}.items():
        page = book.create_sheet(title)
        for row in [HEADER, *rows]:
            page.append([str(cell).replace(".", ",") if isinstance(cell, float) else cell for cell in row])
    book.save(root / "book.xlsx")
    keys = ["data=csv", f"data.root={root}", "data.test=null", "data.targets=[Joy,Fear]"]
    keys += ["data.columns={file: FileName, Joy: joy_mean}", "data.train='book.xlsx#Training'"]
    loaded = corpus.load(compose_one([*keys, "data.devel='book.xlsx#Entwicklung'"]).data, root.parent / "cache")
    assert [len(part.files) for part in loaded.partitions.values()] == [3, 2]
    np.testing.assert_allclose(loaded.partitions["devel"].shares, [[0.1, 0.9], [0.2, 0.8]], atol=1e-6)
    wrong = [*keys[:4], "data.columns={file: Clip, Joy: Other}", *keys[5:]]
    with pytest.raises(EmoshareError, match=r"Training:1: no column 'Other'") as error:  # all columns at once
        corpus.load(compose_one([*wrong, "data.devel='book.xlsx#Entwicklung'"]).data, root.parent / "cache")
    there = "; there are FileName, Split_Set, SpkrID, joy_mean, Fear (data.columns.file)"
    others = "; other sheets, as book.xlsx#NAME, are Sheet, Entwicklung"
    assert f"book.xlsx#Training:1: no column 'Clip'{others}{there}" in str(error.value)
    with pytest.raises(EmoshareError, match=r"no sheet 'Devel'; there are Sheet, Training, Entwicklung"):
        corpus.load(compose_one([*keys, "data.devel='book.xlsx#Devel'"]).data, root.parent / "cache")


def test_letters_beyond_a_to_z_need_quotes_which_is_said() -> None:
    with pytest.raises(EmoshareError, match="letters beyond A to Z need quotes"):
        compose_one(["data=table", "data.splits={test: Prüfung}"])
    assert compose_one(
        ["data=table", "data.root=.", "data.table=a.csv", "data.targets=[a]", 'data.splits={test: "Prüfung"}']
    ).data.splits == {"test": "Prüfung"}


def test_a_sheet_needs_quotes_which_is_said() -> None:
    with pytest.raises(EmoshareError, match=r"data\.table='book\.xlsx#Training'"):
        compose_one(["data=table", "data.table=book.xlsx#Training"])
