"""Folds: no speaker in two of them, the same clips in the same order, and one fingerprint for all."""

from __future__ import annotations

import csv
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
from composed import config

from emoshare.core.errors import EmoshareError
from emoshare.core.folds import balanced_folds
from emoshare.core.validate import find_mistakes
from emoshare.data import corpus
from emoshare.data.corpus import Corpus
from emoshare.runs.identity import identify, without_seed
from emoshare.runs.resolved import ResolvedRun


def load(root: Path, cache: Path, *overrides: str) -> Corpus:
    base = ["data=demo", f"data.root={root}", "data.clips=48"]
    return corpus.load(config(*base, *overrides).data, cache)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_speakers_are_in_one_fold_and_folds_are_of_equal_size() -> None:
    rng = np.random.default_rng(0)
    units = rng.permutation(np.repeat(np.arange(60), rng.integers(1, 15, 60)))
    found = balanced_folds(units, 5, seed=0)
    sizes = np.bincount(found)
    assert len(sizes) == 5
    assert np.ptp(sizes) <= 2
    for unit in range(60):
        assert len(set(found[units == unit].tolist())) == 1
    assert (balanced_folds(units, 5, seed=0) == found).all()
    assert (balanced_folds(units, 5, seed=1) != found).any()


def test_every_clip_of_train_and_devel_is_devel_once(corpus_root: Path, cache: Path) -> None:
    whole = load(corpus_root, cache)
    seen: list[str] = []
    for fold in range(3):
        split = load(corpus_root, cache, "data.folds=3", f"data.fold={fold}")
        train, devel = split.partitions["train"], split.partitions["devel"]
        assert split.folds is not None
        assert asdict(split.folds) == {"by": "3", "of": 3, "fold": fold, "undivided": whole.fingerprint}
        assert not set(train.files) & set(devel.files)
        assert sorted([*train.files, *devel.files]) == sorted(
            whole.partitions["train"].files + whole.partitions["devel"].files
        )
        speakers = split.groups_of("devel")["speaker"]
        assert not set(speakers.tolist()) & set(split.groups_of("train")["speaker"].tolist())
        assert split.partitions["test"].files == whole.partitions["test"].files
        seen += devel.files
    assert len(seen) == len(set(seen)) == 38


def test_what_is_stored_of_a_corpus_serves_all_folds(corpus_root: Path, cache: Path) -> None:
    whole = load(corpus_root, cache)
    first, second = (load(corpus_root, cache, "data.folds=speaker", f"data.fold={fold}") for fold in (0, 5))
    assert first.files == second.files == whole.files
    assert first.audio_fingerprint == second.audio_fingerprint == whole.audio_fingerprint
    np.testing.assert_array_equal(first.seconds, whole.seconds)
    shares = {f: s for part in whole.partitions.values() for f, s in zip(part.files, part.shares, strict=True)}
    for split in (first, second):
        for part in split.partitions.values():
            assert [split.files[row] for row in part.rows] == list(part.files)
            np.testing.assert_array_equal(part.shares, np.stack([shares[file] for file in part.files]))
            np.testing.assert_array_equal(part.seconds, whole.seconds[part.rows])


def test_one_fingerprint_for_all_folds_of_a_division(corpus_root: Path, cache: Path) -> None:
    def of(*overrides: str) -> str:
        return load(corpus_root, cache, *overrides).fingerprint

    five = of("data.folds=5", "data.fold=0")
    assert five == of("data.folds=5", "data.fold=4")
    others = [of(), of("data.folds=4", "data.fold=0"), of("data.folds=5", "data.fold=0", "data.split_seed=1")]
    others.append(of("data.folds=speaker", "data.fold=0"))
    assert len({five, *others}) == 5


def test_the_fold_is_in_the_hash_and_not_in_the_cell(corpus_root: Path, cache: Path) -> None:
    base = ["data=demo", f"data.root={corpus_root}", "data.clips=48", f"paths.cache={cache}", "data.folds=5"]
    first, second = (config(*base, f"data.fold={fold}") for fold in (0, 1))
    assert ResolvedRun(first).run.name != ResolvedRun(second).run.name
    assert "-fold1-" in ResolvedRun(second).run.name
    a, b = (without_seed(identify(made, "c", {})) for made in (first, second))
    assert a == b


def test_a_finished_run_is_found_when_the_corpus_is_gone(corpus_root: Path, cache: Path, tmp_path: Path) -> None:
    import shutil

    copied = tmp_path / "corpus"
    shutil.copytree(corpus_root, copied)
    made = config(
        "data=compare23", f"data.root={copied}", "data.metadata=demo.csv", "data.folds=speaker", "data.fold=2"
    )
    known = corpus.known_corpus(made.data, cache)[0]
    shutil.rmtree(copied)
    assert corpus.known_corpus(made.data, cache)[0] == known


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.folds=speaker", "data.fold=99"], "data.fold=99: data.folds=speaker has the folds 0 to"),
        (["data.folds=30", "data.fold=0"], "train and devel have 6 values of speaker; name at most 6 folds"),
        (["data.folds=spoker", "data.fold=0"], "no column 'spoker' of data.folds here or demo.csv; did you mean"),
    ],
)  # fmt: skip
def test_folds_that_there_are_not(corpus_root: Path, cache: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(EmoshareError, match=re.escape(message)):
        load(corpus_root, cache, *overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.fold=1"], "data.fold=1: of which folds"),
        (["data.folds=5"], "data.fold=null: with data.folds=5 one of 0 to 4"),
        (["data.folds=5", "data.fold=5"], "data.fold=5: with data.folds=5 one of 0 to 4"),
        (["data.folds=1", "data.fold=0"], "data.folds=1: must be a whole number of at least 2"),
        (["data.folds=2.5", "data.fold=0"], "data.folds=2.5: must be a whole number of at least 2"),
        (["data.folds=speaker"], "data.fold=null: with data.folds=speaker a number from 0"),
    ],
)
def test_rules_of_the_keys(overrides: list[str], message: str) -> None:
    (mistake,) = find_mistakes(config("data=demo", *overrides))
    assert message in mistake


def write_speakers(root: Path, source: Path, constant: dict[str, tuple[str, ...]]) -> list[str]:
    """A corpus of two targets by speaker; those of `constant` have one label throughout in the columns named."""
    (root / "lab").mkdir(parents=True)
    (root / "wav").symlink_to(source / "wav")
    with (source / "demo.csv").open() as handle:
        who = {row["filename"]: row["speaker"] for row in csv.DictReader(handle)}
    for part in ("train", "devel"):
        with (source / "lab" / f"{part}.csv").open() as handle, (root / f"lab/{part}.csv").open("w") as out:
            writer = csv.writer(out)
            writer.writerow(["filename", "speaker", "Anger", "Boredom"])
            for row in csv.DictReader(handle):
                name = who[row["filename"]]
                cells = ["0.2" if t in constant.get(name, ()) else row[t] for t in ("Anger", "Boredom")]
                writer.writerow([row["filename"], name, *cells])
    return ["data=csv", f"data.root={root}", "data.targets=[Anger,Boredom]", "data.train=lab/train.csv",
            "data.devel=lab/devel.csv", "data.folds=speaker", "data.groups=[speaker]"]  # fmt: skip


def test_targets_without_a_score_in_a_fold_are_told_and_a_fold_without_any_is_an_error(
    corpus_root: Path, tmp_path: Path, cache: Path
) -> None:
    whole = load(corpus_root, cache).groups["speaker"]
    first, second = np.unique(whole[:38])[:2].tolist()
    base = write_speakers(tmp_path / "c", corpus_root, {first: ("Anger",), second: ("Anger", "Boredom")})
    made = corpus.load(config(*base, "data.fold=0").data, cache)
    (warning,) = [text for text in made.warnings if "labels all equal" in text]
    assert f"data.fold=0 (speaker {first}): all Anger labels are 0.2: no correlation is defined" in warning
    assert f"data.fold=1 (speaker {second}): all Boredom labels are 0.2" in warning  # of other folds, too
    assert corpus.load(config(*base, "data.fold=0").data, cache).warnings == made.warnings
    with pytest.raises(
        EmoshareError, match=rf"data\.fold=1 \(speaker {second}\): all labels of every target are equal"
    ):
        corpus.load(config(*base, "data.fold=1").data, cache)


def test_votes_of_one_table_are_those_of_its_folds_and_what_two_folds_share_is_told(
    tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "wav").mkdir()
    rows = []
    for number in range(12):  # the last is the first once more, and the second a part of a recording of its own
        wave = np.random.default_rng(number % 11).normal(0, 0.1, 8000)
        soundfile.write(tmp_path / f"wav/{number:02}.wav", wave, 16_000)
        rows.append(f"{number:02},,,{number % 5 + 1},{number % 3},s{number % 4},{number // 4}")
    rows[1:3] = ["01,0,0.3,1,2,s1,0", "01,0.2,0.5,2,1,s2,1"]
    (tmp_path / "all.csv").write_text("\n".join(["filename,start,end,joy,fear,speaker,session", *rows]))
    base = ["data=table", f"data.root={tmp_path}", "data.table=all.csv", "data.targets=[joy,fear]", "data.fold=0"]
    base += ["data.normalize=votes", "data.columns={start: start, end: end}"]

    made = corpus.load(config(*base, "data.folds=session").data, cache)
    votes = {row.split(",")[0]: int(row.split(",")[3]) + int(row.split(",")[4]) for row in rows[3:]}
    devel = made.partitions["devel"]
    assert devel.votes is not None
    assert [v for f, v in zip(devel.files, devel.votes, strict=True) if f[:2] in votes] == [
        votes[f[:2]] for f in devel.files if f[:2] in votes
    ]
    told = "\n".join(made.leaks)
    assert "1 × clips of one audio in two folds: scores there are too good; leave one out" in told
    assert "× clips of one speaker in two folds: scores there are too good; data.groups=[speaker] data.folds=3" in told
    assert "1 × segments of two partitions that overlap: scores there are too good" in told
    assert "data.fold=1: 01.wav#t=0.2,0.5 and 01.wav#t=0,0.3 of data.fold=0" in "\n".join(made.warnings)

    apart = corpus.load(config(*base, "data.folds=3", "data.groups=[speaker]").data, cache)
    assert not any("speaker" in line for line in apart.leaks)
    named = corpus.load(config(*base, "data.folds=session", "data.groups=[speaker]").data, cache)
    assert any("clips of one speaker in two folds" in line and "data.folds=3 keeps" in line for line in named.leaks)
