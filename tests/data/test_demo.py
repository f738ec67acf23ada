"""The generated corpus: layout, determinism, and that a longer window tells more."""

import csv
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from composed import config
from scipy.io import wavfile
from scipy.stats import spearmanr

from emoshare.core import leftovers
from emoshare.core.config import EMOTIONS, DataConfig
from emoshare.core.errors import EmoshareError
from emoshare.data import corpus, demo

CLIPS = 30


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "corpus"
    demo.generate(folder, CLIPS, 3)
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_layout_is_compares(root):
    rows = {name: table(root / "lab" / f"{name}.csv") for name in ("train", "devel", "test", "test.unmasked")}
    assert {name: len(part) for name, part in rows.items()} == {"train": 18, "devel": 6, "test": 6, "test.unmasked": 6}
    assert all(tuple(row) == ("filename", *EMOTIONS) for part in rows.values() for row in part)
    assert {row[e] for row in rows["test"] for e in EMOTIONS} == {"?"}
    assert [row["filename"] for row in rows["test"]] == [row["filename"] for row in rows["test.unmasked"]]
    named = [row["filename"] for name in ("train", "devel", "test") for row in rows[name]]
    assert sorted(named) == sorted(path.name for path in (root / "wav").iterdir())
    shares = np.array([[float(row[e]) for e in EMOTIONS] for row in rows["train"] + rows["test.unmasked"]])
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert shares.std(axis=0).min() > 0.05


def test_clips_are_16_bit_mono_with_a_peak_of_minus_3_db(root):
    for path in (root / "wav").iterdir():
        rate, wave = wavfile.read(path)
        assert (rate, wave.dtype, wave.ndim) == (16000, np.int16, 1)
        assert 1.2 <= len(wave) / rate <= 7.98
        assert np.abs(wave.astype(int)).max() == pytest.approx(32767 * 10 ** (-3 / 20), abs=1)


def test_speakers_belong_to_one_partition(root):
    person = {row["filename"]: row["speaker"] for row in table(root / "demo.csv")}
    groups = [{person[row["filename"]] for row in table(root / "lab" / f"{p}.csv")} for p in ("train", "devel", "test")]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert {row["country"] for row in table(root / "demo.csv")} == set(demo.COUNTRIES)


def test_same_arguments_same_bytes(root, tmp_path):
    demo.generate(tmp_path / "again", CLIPS, 3)
    assert digest(tmp_path / "again") == digest(root)
    assert [path.name for path in tmp_path.iterdir()] == ["again"]  # nothing temporary is left


def test_another_seed_is_another_corpus():
    names = [{clip.file for clip in demo.plan(CLIPS, seed)} for seed in (0, 1)]
    assert len(names[0] & names[1]) == 0


def test_oracle_is_what_the_latents_explain(root):
    made = json.loads((root / "oracle.json").read_text())
    assert made["scc"] == pytest.approx(demo.oracle(CLIPS, 3))
    clips = demo.plan(CLIPS, 3)
    by_hand = [spearmanr([c.expected[e] for c in clips], [c.rated[e] for c in clips])[0] for e in range(9)]
    assert made["scc"]["mean"] == pytest.approx(np.mean(by_hand))


def test_oracle_of_the_default_corpus_is_good_and_not_perfect():
    assert 0.75 < demo.oracle(300, 0)["mean"] < 0.85


def spectrum(wave: np.ndarray) -> np.ndarray:
    """Mean and spread over time of the log energy in 24 bands, wider with frequency."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, 400)[::160] * np.hanning(400)
    power = np.abs(np.fft.rfft(frames, 512)) ** 2
    edges = np.concatenate([np.arange(2, 14), np.geomspace(14, 250, 13)[:12]]).astype(int)  # 31 Hz each
    energy = np.log(np.add.reduceat(power, edges, axis=1) + 1e-5)
    return np.concatenate([energy.mean(axis=0), energy.std(axis=0)])


def test_a_longer_window_tells_more():
    """Ridge regression on spectra, five-fold: Spearman with the rated shares for windows from the clip's start."""
    clips = demo.plan(200, 0)
    waves = [demo.synthesize(c, np.random.default_rng([demo.VERSION, 0, i])) / 32768 for i, c in enumerate(clips)]
    rated = np.array([c.rated for c in clips])

    def scc(seconds: float) -> float:
        x = np.array([spectrum(wave[: int(16000 * seconds)]) for wave in waves])
        x = (x - x.mean(axis=0)) / x.std(axis=0)
        guess = np.zeros_like(rated)
        for fold in range(5):
            held = np.arange(len(x)) % 5 == fold
            known, mean = x[~held], rated[~held].mean(axis=0)
            weights = np.linalg.solve(known.T @ known + 100 * np.eye(x.shape[1]), known.T @ (rated[~held] - mean))
            guess[held] = x[held] @ weights + mean
        return float(np.mean([spearmanr(guess[:, e], rated[:, e])[0] for e in range(9)]))

    half, one, two, five = scc(0.5), scc(1.0), scc(2.5), scc(5.5)
    assert half < 0.25
    assert one < two - 0.15
    assert two < five
    assert five > 0.4


def test_load_generates_once_and_refuses_other_parameters(tmp_path):
    wanted = DataConfig(name="demo", root=str(tmp_path / "demo"), clips=20, seed=0)
    first = corpus.load(wanted, tmp_path / "cache")
    before = digest(tmp_path / "demo")
    assert len(first.files) == 20
    assert first.partitions["test"].shares is not None
    assert corpus.load(wanted, tmp_path / "cache").fingerprint == first.fingerprint
    assert digest(tmp_path / "demo") == before
    for key, value in {"clips": 21, "seed": 1}.items():
        other = DataConfig(**{**vars(wanted), key: value})
        with pytest.raises(EmoshareError, match=f"'{key}': {value}.*remove it"):
            corpus.load(other, tmp_path / "cache")


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert corpus.load(DataConfig(name="demo", root="~/demo", clips=20), Path("cache")).root == tmp_path / "demo"
    assert [path.name for path in Path().iterdir()] == ["cache"]
    paths = config("paths.data='~/a'", "paths.cache='~/b'", "paths.outputs='~/c'").paths
    assert list(vars(paths).values()) == [str(tmp_path / name) for name in ("c", "a", "b")]


def test_a_folder_that_is_no_demo_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(EmoshareError, match="no demo corpus"):
        corpus.load(DataConfig(name="demo", root=str(tmp_path / "mine"), clips=20), tmp_path / "cache")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_too_few_clips(tmp_path):
    with pytest.raises(EmoshareError, match=r"data\.clips=19"):
        demo.generate(tmp_path / "small", 19, 0)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("scipy.io.wavfile.write", full)
    with pytest.raises(EmoshareError, match="No space left"):
        demo.generate(tmp_path / "demo", 20, 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [".demo-0123456789abcdef.part"])
def test_what_a_killed_process_left_is_swept(tmp_path, name):
    demo.generate(tmp_path / "demo", 20, 0)
    (tmp_path / name / "corpus").mkdir(parents=True)
    for folder in (tmp_path / name / "corpus", tmp_path / name):
        os.utime(folder, (1e9, 1e9))
    leftovers.sweep_once.cache_clear()  # as another process
    corpus.load(DataConfig(name="demo", root=str(tmp_path / "demo"), clips=20), tmp_path / "cache")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "demo"]


def test_two_processes_at_once_leave_one_corpus(tmp_path, monkeypatch):
    """The slower one finds the folder there, and its own copy goes."""
    write = demo.write

    def slow(folder: Path, *how: Any) -> None:
        write(folder, *how)
        (tmp_path / "demo").mkdir()
        (tmp_path / "demo" / "theirs").touch()

    monkeypatch.setattr(demo, "write", slow)
    demo.generate(tmp_path / "demo", 20, 0)
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["theirs"]
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_a_habit_is_shared_by_the_clips_of_a_speaker_and_changes_nothing_else() -> None:
    alone, habitual = demo.plan(400, 0), demo.plan(400, 0, 1.0)
    assert [(c.file, c.seconds, c.speaker.pitch) for c in alone] == [
        (c.file, c.seconds, c.speaker.pitch) for c in habitual
    ]

    def between(clips: list[demo.Clip]) -> float:
        """Share of the variance of the expected shares that lies between speakers."""
        names = np.array([c.speaker.name for c in clips])
        odds = np.array([np.log(c.expected / (1 - c.expected)) for c in clips])
        means = np.array([odds[names == name].mean(axis=0) for name in names])
        return float(means.var(axis=0).sum() / odds.var(axis=0).sum())

    assert between(alone) < 0.25  # eight clips each: an eighth by chance
    assert between(habitual) > 0.4


def test_a_corpus_of_another_habit_is_refused(tmp_path: Path) -> None:
    base = ["data=demo", f"data.root={tmp_path / 'demo'}", "data.clips=20"]
    demo.ensure(config(*base, "data.habit=1").data)
    demo.ensure(config(*base, "data.habit=1").data)
    with pytest.raises(EmoshareError, match=r"'habit': 1\.0"):
        demo.ensure(config(*base).data)
