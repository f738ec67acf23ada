"""Columns of groups: where they stand, what is wrong with them, and what they do not change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from composed import config
from scipy.io import wavfile

from emoshare.core.config import DataConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.validate import find_mistakes
from emoshare.data import corpus, groups
from emoshare.data.partition import Corpus
from emoshare.runs.identity import identify

PEOPLE = ["ann", "ann", "bob", "cid", "cid", "dan", "eve"]  # of the clips a to g


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Seven clips, three of train, two of devel, two of test with hidden labels; people.csv beside them."""
    root = tmp_path / "corpus"
    (root / "wav").mkdir(parents=True)
    for number, letter in enumerate("abcdefg"):
        wave = np.random.default_rng(number).normal(0, 3000, 4000).astype(np.int16)
        wavfile.write(root / "wav" / f"{letter}.wav", 16_000, wave)
    write(root / "train.csv", "filename,Joy", "a.wav,.1", "b.wav,.2", "c.wav,.4")
    write(root / "devel.csv", "filename,Joy", "d.wav,.5", "e.wav,.3")
    write(root / "test.csv", "filename", "f.wav", "g.wav")
    rows = [f"{letter}.wav,{name},X" for letter, name in zip("gfedcba", reversed(PEOPLE), strict=True)]
    write(root / "people.csv", "clip,speaker,country", *rows)
    return DataConfig(
        "csv", str(root), "train.csv", "devel.csv", "test.csv", None, targets=["Joy"], metadata="people.csv"
    )


def write(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n")


def load(data: DataConfig) -> Corpus:
    return corpus.load(data, Path(data.root).parent / "cache")


def test_a_table_beside_the_labels_in_any_order(data: DataConfig) -> None:
    data.groups = ["speaker", "country"]
    for _ in range(2):  # read in full, and remembered
        loaded = load(data)
        assert loaded.groups["speaker"].tolist() == PEOPLE
        assert loaded.groups_of("devel")["speaker"].tolist() == ["cid", "cid"]
        assert loaded.cluster == "speaker"
        assert loaded.clusters_of("train").tolist() == [0, 0, 1]
        assert loaded.warnings == ()


def test_columns_of_the_label_tables(data: DataConfig) -> None:
    root = Path(data.root)
    write(root / "train.csv", "filename,Joy,room", "a.wav,.1,x", "b.wav,.2,y", "c.wav,.4,y")
    write(root / "devel.csv", "room,filename,Joy", "x,d.wav,.5", "z,e.wav,.3")
    data.groups, data.cluster = ["room", "speaker"], "room"
    loaded = load(data)
    assert loaded.groups["room"].tolist() == ["x", "y", "y", "x", "z", "", ""]
    assert loaded.cluster == "room"
    assert loaded.clusters_of("test").tolist() == [0, 1]  # unknown: each on its own
    assert "room x of train is also in devel (devel.csv:" in loaded.warnings[0]


def test_groups_change_no_fingerprint_and_no_identity(data: DataConfig) -> None:
    before = load(data).fingerprint
    data.groups = ["speaker"]
    assert load(data).fingerprint == before
    alone, grouped = (
        config("data=csv"),
        config("data=csv", "data.groups=[sex]", "data.metadata=m.csv", "data.cluster=x"),
    )
    assert identify(alone, "c", {}) == identify(grouped, "c", {})


def test_all_mistakes_at_once(data: DataConfig) -> None:
    root = Path(data.root)
    write(
        root / "people.csv", "clip,speaker,country", "a.wav,ann,X", "b.wav,,X", "d.wav,cid,X", "e.wav,cid", "a.wav,b,X"
    )
    data.groups = ["speaker", "contry"]
    with pytest.raises(EmoshareError) as error:
        load(data)
    text = str(error.value)
    assert "people.csv:5: 2 cells, the header has 3" in text
    assert "people.csv:6: a.wav has another row with other values" in text
    assert "train.csv:4: c.wav has no row in people.csv" in text
    assert "devel.csv:3: e.wav has no row in people.csv" in text
    assert "1 × clip of unknown speaker: it is on its own in intervals and folds" in text
    assert "train.csv:3: speaker is empty" in text
    assert "train.csv:1: no column 'contry' of data.groups here or people.csv; did you mean 'country'?" in text


def test_mistakes_in_a_corpus_that_was_checked_before(data: DataConfig) -> None:
    load(data)
    data.groups = ["sex"]
    with pytest.raises(EmoshareError, match=r"no column 'sex' of data\.groups"):
        load(data)


def test_a_missing_table_is_named_once(data: DataConfig) -> None:
    data.groups, data.metadata = ["speaker", "sex"], "persons.csv"
    with pytest.raises(EmoshareError) as error:
        load(data)
    assert str(error.value).count("persons.csv") == 1
    assert "persons.csv: cannot be read: No such file" in str(error.value)
    assert "as data.metadata, or set it to null" in str(error.value)
    data.metadata = None
    with pytest.raises(EmoshareError, match=r"name a table that has it as data\.metadata"):
        load(data)


def test_rules_of_the_keys() -> None:
    def mistakes(*overrides: str) -> list[str]:
        return find_mistakes(config("data=csv", "data.targets=[Joy]", *overrides))

    assert not mistakes("data.groups=[speaker]", "data.folds=5", "data.fold=4")
    assert any("Joy is the file name or a label" in line for line in mistakes("data.groups=[Joy]"))
    assert any("speaker is named twice" in line for line in mistakes("data.groups=[speaker,speaker]"))


def test_cluster_numbers() -> None:
    numbers = groups.cluster_numbers(np.array(["b", "", "a", "b", ""]))
    assert numbers[0] == numbers[3]
    assert len(set(numbers.tolist())) == 4
    assert sorted(set(numbers.tolist())) == [0, 1, 2, 3]


def test_a_value_in_several_spellings_is_one(data: DataConfig) -> None:
    """A spreadsheet makes 1 of 01, a data frame with an empty cell 1.0."""
    root = Path(data.root)
    data.groups, data.metadata, data.test = ["speaker"], None, None
    write(root / "train.csv", "filename,Joy,speaker", "a.wav,.1,01", "b.wav,.2,Ann", "c.wav,.4,10")
    write(root / "devel.csv", "filename,Joy,speaker", "d.wav,.5,1.0", "e.wav,.3,ann ")
    loaded = load(data)
    assert loaded.groups["speaker"].tolist() == ["01", "Ann", "10", "01", "Ann"]
    text = "\n".join(loaded.warnings)
    assert "2 × speaker in several spellings: taken for one" in text
    assert "devel.csv:2: '1.0' is 01" in text
    assert "speaker 01 of train is also in devel (devel.csv:" in text
    data.groups = []  # as the label tables have it
    assert "speaker in two partitions" in "\n".join(load(data).warnings)


def test_metadata_whose_column_names_no_clip(data: DataConfig) -> None:
    data.groups = ["speaker"]
    write(Path(data.root) / "people.csv", "id,file,speaker", "1,a.wav,ann", "2,d.wav,bob")
    with pytest.raises(EmoshareError) as error:
        load(data)
    assert "no cell of its column 'id' names a clip; call the column of file names 'filename'" in str(error.value)
    assert "errors: 1," in str(error.value)


def test_a_column_twice(data: DataConfig) -> None:
    data.groups, data.metadata, data.test = ["speaker"], None, None
    root = Path(data.root)
    write(root / "train.csv", "filename,Joy,speaker,speaker", "a.wav,.1,x,1", "b.wav,.2,y,1", "c.wav,.4,y,1")
    write(root / "devel.csv", "filename,Joy,speaker", "d.wav,.5,z", "e.wav,.3,z")
    loaded = load(data)
    assert loaded.groups["speaker"].tolist() == ["x", "y", "y", "z", "z"]
    assert "column twice, the first is taken" in "\n".join(loaded.warnings)
