"""`emoshare embed` against the backbone's own frames, and `emoshare evaluate` against scores computed here."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import config
from fakes import concordance, spearman
from scipy.io import wavfile

import emoshare as package
from emoshare.backbones.base import load_backbone
from emoshare.command.cli import main
from emoshare.data.audio import read
from emoshare.data.window import Window
from emoshare.inference.embed import Embeddings
from emoshare.metrics import bootstrap
from emoshare.metrics.scores import mean_score
from emoshare.runs.predictions import read_shares

EXACT = ["extract.precision=float32", "extract.compute=float32"]


@pytest.fixture(scope="module")
def run(corpus_root, tmp_path_factory) -> Path:
    """A run of `tiny` on windows of 1 s, its frames stored in float32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("embed"))
        results = package.train(
            "data=compare23", f"data.root={corpus_root}", "backbone=tiny", "window.seconds=1", "trainer.epochs=1",
            "logger=none", "trainer.progress=false", *EXACT,
        )  # fmt: skip
        return Path("outputs/default", results.run).absolute()


def own_frames(path: Path) -> np.ndarray:
    """(T, D) of a clip by the backbone itself."""
    made = config("backbone=tiny", "window.seconds=1")
    cut = Window.of(made.window).cut(read(path))
    wave = torch.zeros(1, 16_000)
    wave[0, : len(cut)] = torch.from_numpy(cut)
    frames, counts = load_backbone(made.backbone, made.window)(wave, torch.tensor([len(cut)]))
    return frames[0, : counts[0]].numpy()


def test_of_files_pooled_and_by_frame(emoshare, run, corpus_root, tmp_path) -> None:
    clips = sorted((corpus_root / "wav").iterdir())[:3]
    expected = [own_frames(clip) for clip in clips]
    for pooling, values in {
        "mean": np.stack([frames.mean(0) for frames in expected]),
        "mean_std": np.stack([np.concatenate([frames.mean(0), frames.std(0)]) for frames in expected]),
        "frames": np.concatenate(expected),
    }.items():
        result = emoshare("embed", str(run), *map(str, clips), "--pooling", pooling, "--out", "e.npz")
        assert result.status == 0, result.err
        found = np.load(tmp_path / "e.npz")
        np.testing.assert_allclose(found["embeddings"], values, atol=1e-5)
        assert found["files"][0] == str(clips[0])
        assert (found["end"] > found["start"]).all()


def test_a_corpus_comes_from_the_store(emoshare, run, corpus_root, tmp_path) -> None:
    arguments = ["data=compare23", f"data.root={corpus_root}", "--out", "c.csv"]
    of_run = emoshare("embed", str(run), *arguments)
    assert of_run.status == 0, of_run.err
    lines = list(csv.reader((tmp_path / "c.csv").open()))
    assert len(lines) == 49
    named = {line[0]: line[1:] for line in lines[1:]}
    file, values = next(iter(named.items()))
    np.testing.assert_allclose(np.array(values[2:], float), own_frames(corpus_root / "wav" / file).mean(0), atol=1e-5)
    backbone = [
        "backbone=tiny",
        "window.seconds=1",
        "extract.precision=float32",
        "extract.compute=float32",
    ]
    again = emoshare("embed", *backbone, *arguments[:-1], "d.csv")
    assert again.status == 0, again.err
    assert (tmp_path / "d.csv").read_text() == (tmp_path / "c.csv").read_text()


def test_options_that_a_corpus_does_not_read_are_refused(emoshare, run, corpus_root) -> None:
    corpus = ["data=compare23", f"data.root={corpus_root}", "--out", "e.npz"]
    result = emoshare("embed", str(run), *corpus, "--windows", "0.5", "--step", "0.5")
    assert result.err == (
        f"emoshare: --windows and --step: for files and folders, and the windows of a corpus are those that {run} was "
        "trained with; leave them out\n"
    )
    assert "--recursive: for files and folders" in emoshare("embed", "backbone=logmel", *corpus, "--recursive").err
    result = emoshare("embed", "backbone=logmel", *corpus, "backbone.cache=false")
    assert result.err.startswith("emoshare: backbone.cache=false: embeddings of a corpus are made of stored frames")
    clip = str(min((corpus_root / "wav").iterdir()))
    result = emoshare("embed", "backbone=logmel", "window.seconds=2", clip, "--windows", "1", "--out", "e.npz")
    assert result.err == "emoshare: --windows 1: window.seconds=2 is another length of the window; leave one out\n"


def test_in_python(run, corpus_root) -> None:
    clips = sorted((corpus_root / "wav").iterdir())[:2]
    table = package.load(run).embed(clips, pooling="std")
    np.testing.assert_allclose(table.values[1], own_frames(clips[1]).std(0), atol=1e-5)
    with pytest.raises(package.EmoshareError, match="pooling=median"):
        package.load(run).embed(clips, pooling="median")


@pytest.mark.parametrize("suffix", ["npz", "csv"])
def test_embeddings_are_written_to_a_name_as_to_a_path(suffix, tmp_path) -> None:
    table = Embeddings(("a",), np.zeros(1), np.ones(1), np.ones((1, 2), np.float32))
    for path in (f"{tmp_path}/name.{suffix}", tmp_path / f"path.{suffix}"):
        table.write(path)
    assert (tmp_path / f"name.{suffix}").read_bytes() == (tmp_path / f"path.{suffix}").read_bytes()


def test_frames_that_are_not_finite_are_left_out_and_named(emoshare, corpus_root, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("emoshare.data.audio.OVERSHOOT", np.inf)  # such samples are refused before
    wave = read(sorted((corpus_root / "wav").iterdir())[0])
    wavfile.write(tmp_path / "huge.wav", 16_000, wave * np.float32(1e20))
    wavfile.write(tmp_path / "good.wav", 16_000, wave)
    command = ["embed", "backbone=logmel", "window.seconds=1", "huge.wav", "good.wav"]
    for more in ([], ["--step", "0.5"], ["--pooling", "frames"]):
        result = emoshare(*command, *more, "--out", "e.csv")
        assert result.status == 1
        assert result.err.startswith("emoshare: huge.wav: its frames are NaN or infinite\nemoshare: 1 of 2 files")
        assert {line[0] for line in csv.reader((tmp_path / "e.csv").open())} == {"file", "good.wav"}
    stored = emoshare(*command, "--store", "--out", "stored.csv")
    assert stored.status == 1
    assert "huge.wav: the backbone gives NaN or infinite frames" in stored.err
    assert not (tmp_path / "stored.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.wav", "--out", "e.npz"], "name a run, or a backbone"),
        (["backbone=logmel", "--out", "e.npz"], "name a run, or a backbone"),
        (["backbone=logmel", "x.wav", "--out", "e.xls"], "embeddings are written as .npz"),
        (["backbone=nonsense", "x.wav", "--out", "e.npz"], "nonsense"),
        (["backbone=tiny", "backbone.layer=weighted", "x.wav", "--out", "e.npz"], "a learned sum needs a trained run"),
    ],
)
def test_mistakes_are_one_line(emoshare, arguments, message, tmp_path) -> None:
    (tmp_path / "x.wav").touch()
    result = emoshare("embed", *arguments)
    assert result.status == 1
    assert message in result.err


def test_another_corpus_is_scored_with_intervals(emoshare, run, tmp_path) -> None:
    result = emoshare("evaluate", str(run), "data=demo", "data.clips=40", "data.seed=5", "--out", "found")
    assert result.status == 0, result.err
    assert "devel, 8 clips" in result.out
    found = json.loads((tmp_path / "found/results.json").read_text())
    for part in ("train", "devel", "test"):
        tables = [
            np.array([row[1:10] for row in csv.reader((tmp_path / "found" / kind / f"{part}.csv").open())][1:], float)
            for kind in ("predictions", "reference")
        ]
        scores = {"scc": spearman, "ccc": concordance, "mae": lambda x, y: float(np.abs(x - y).mean())}
        for metric, function in scores.items():
            values = [function(p, t) for p, t in zip(tables[0].T, tables[1].T, strict=True)]
            assert found["metrics"][part][metric]["mean"] == pytest.approx(np.mean(values), abs=1e-5)
        low, high = found["intervals"][part]["scc"]["mean"]
        assert low < found["metrics"][part]["scc"]["mean"] < high


def test_one_run_is_scored_at_a_time(emoshare, run) -> None:
    result = emoshare("evaluate", str(run), str(run), "data=demo")
    assert result.err == f"emoshare: {run}: another run or folder; evaluate takes one run, and the corpus as data=…\n"


def test_its_own_corpus_without_what_it_learned_from(emoshare, run, corpus_root) -> None:
    result = emoshare("evaluate", str(run), "data=compare23", f"data.root={corpus_root}")
    assert result.status == 0, result.err
    assert "train" not in result.out.replace("trained", "")
    [folder] = (run / "evaluations").iterdir()
    ours = json.loads((run / "results.json").read_text())["metrics"]
    theirs = json.loads((folder / "results.json").read_text())["metrics"]
    for part in ("devel", "test"):
        assert theirs[part]["scc"]["mean"] == pytest.approx(ours[part]["scc"]["mean"], abs=1e-4)


@pytest.fixture(scope="module")
def sweep(corpus_root, tmp_path_factory) -> Path:
    """A run of a fold; a plain mean with a member that was trained again on devel, and weights fitted to devel."""
    data = ["data=compare23", f"data.root={corpus_root}", "window.seconds=1", "trainer.epochs=1", "logger=none"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("learned"))
        for name, more in {
            "fold": ["data.folds=3", "data.fold=0"], "refit": ["train.refit=true"], "a": ["seed=1"], "b": ["seed=2"],
        }.items():  # fmt: skip
            package.train(*data, "backbone=logmel", f"sweep.name={name}", "trainer.progress=false", *more)
        for weights, other in (("mean", "refit"), ("greedy", "b")):
            main(["fuse", "outputs/a", f"outputs/{other}", "--out", f"outputs/{weights}", "--weights", weights])
        return Path("outputs").absolute()


@pytest.mark.parametrize("asked", [[], ["data.folds=3", "data.fold=1"], ["data.folds=3", "data.fold=0"]])
def test_a_run_of_a_fold_is_scored_on_the_clips_that_it_left_out(emoshare, sweep, corpus_root, tmp_path, asked) -> None:
    [run] = (sweep / "fold").glob("logmel*")
    data = ["data=compare23", f"data.root={corpus_root}", *asked]
    result = emoshare("evaluate", str(run), *data, "--out", str(tmp_path / "found"))
    assert result.status == 0, result.err

    def clips(*paths: Path) -> set[str]:
        return {row["filename"] for path in paths for row in csv.DictReader(path.open())}

    tables = [path for path in (tmp_path / "found/predictions").iterdir() if path.stem != "test"]
    assert clips(*tables) == clips(run / "predictions/devel.csv")
    assert ("left out, as the model has learned from them" in result.out) is ("data.fold=0" not in asked)


@pytest.mark.parametrize("weights", ["mean", "greedy"])
def test_a_fusion_is_not_scored_on_what_it_or_a_member_learned_from(emoshare, sweep, corpus_root, weights) -> None:
    [run] = (sweep / weights).glob("fusion*")
    result = emoshare("evaluate", str(run), "data=compare23", f"data.root={corpus_root}", "--out", "found")
    assert result.status == 0, result.err
    assert [path.name for path in Path("found/predictions").iterdir()] == ["test.csv"]


@pytest.fixture
def own(corpus_root: Path) -> list[str]:
    """The corpus that the run was trained on, as tables of one's own."""
    return ["data=csv", f"data.root={corpus_root}", *(f"data.{part}=lab/{part}.csv" for part in ("train", "devel"))]


def test_only_shared_targets_are_scored(emoshare, run, own) -> None:
    result = emoshare("evaluate", str(run), *own, "data.targets=[Sadness,Anger]", "--out", "found")
    assert result.status == 0, result.err
    found = json.loads(Path("found/results.json").read_text())
    assert found["targets"] == ["Anger", "Sadness"]
    assert list(found["metrics"]) == ["devel"]  # the labels are fewer, the clips are those that it was trained on
    ours = json.loads((run / "results.json").read_text())["metrics"]["devel"]
    for target in found["targets"]:
        assert found["metrics"]["devel"]["scc"][target] == pytest.approx(ours["scc"][target], abs=1e-4)
    assert "not scored, as the other one has no such target: Boredom of " in result.out + result.err


def test_a_report_and_a_fusion_of_a_folder_pass_evaluations(emoshare, sweep, own, corpus_root, tmp_path) -> None:
    corpus = [*own, "data.targets=[Sadness,Anger]"]
    shutil.copytree(sweep / "a", tmp_path / "sweep")
    [run] = (path.parent for path in (tmp_path / "sweep").glob("*/results.json"))
    assert emoshare("evaluate", str(run), *corpus, "--out", "sweep/other").status == 0
    assert emoshare("export", str(run), "--to", "hub", "sweep/exported").status == 0
    assert emoshare("evaluate", "sweep/exported", *corpus).status == 0
    assert emoshare("report", "sweep").status == 0
    said = emoshare("report", "sweep/exported").err
    assert said == "emoshare: sweep/exported: an exported model, and its run is elsewhere; name outputs/<sweep>\n"
    assert "not results of format" not in emoshare("fuse", "sweep", "--out", "fused").err
    for words in (
        ["predict", "sweep/other", str(corpus_root / "wav")],
        ["fuse", "sweep/other", str(run), "--out", "x"],
    ):
        result = emoshare(*words)
        assert "results.json: of an evaluation on another corpus; name the folder of a run" in result.err
    said = emoshare("export", str(run), "--to", "hub", "sweep/exported").err
    assert said == (
        "emoshare: sweep/exported: holds more than the exported model, as evaluations, which would go with it; move "
        "that away, or name another folder\n"
    )
    assert (tmp_path / "sweep/exported/evaluations").is_dir()


def test_an_evaluation_takes_the_place_of_another_one_alone(emoshare, run, own, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").touch()
    for place in ("mine", str(run)):
        result = emoshare("evaluate", str(run), *own, "data.targets=[Anger]", "--out", place)
        assert result.status == 1
        assert "holds something that is not an evaluation, as " in result.err
    assert (tmp_path / "mine/notes.txt").exists()
    assert (run / "config.yaml").exists()


def test_targets_are_mapped(emoshare, run, own, corpus_root, tmp_path) -> None:
    for part in ("train", "devel"):
        text = (corpus_root / "lab" / f"{part}.csv").read_text()
        (tmp_path / f"{part}.csv").write_text(text.replace("Anger", "Angry").replace("Sadness", "Sad"))
        own.append(f"data.{part}={tmp_path}/{part}.csv")
    (tmp_path / "mine/data").mkdir(parents=True)
    yaml = f"defaults: [csv]\nname: mine\nroot: {corpus_root}\ntargets: [Angry, Sad]\n"
    (tmp_path / "mine/data/mine.yaml").write_text(yaml + f"train: {tmp_path}/train.csv\ndevel: {tmp_path}/devel.csv\n")
    arguments = [str(run), "--map", "Angry=Anger", "--config-dir", "mine", "data=mine", "--map", "Sadness=Sad"]
    result = emoshare("evaluate", *arguments, "--out", "found")  # in either order, and between options
    assert result.status == 0, result.err
    found = json.loads(Path("found/results.json").read_text())
    assert (found["targets"], found["corpus"]["name"]) == (["Anger", "Sadness"], "mine")
    pairs = {"Angry": "Anger", "Sad": "Sadness"}
    same = package.evaluate(run, "--config-dir=mine", "data=mine", names=pairs, out=tmp_path / "again")
    assert same.metrics == found["metrics"]
    ours = json.loads((run / "results.json").read_text())["metrics"]["devel"]
    assert found["metrics"]["devel"]["ccc"]["Sadness"] == pytest.approx(ours["ccc"]["Sadness"], abs=1e-4)


@pytest.mark.parametrize(
    ("targets", "pairs", "messages"),
    [
        ("Angry,Joy", [], ["share no target", "as --map Angry=Anger", "corpus has Angry, Joy; ", "predicts Anger, "]),
        ("Angry", ["Angri=Anger"], ["--map Angri=Anger: not a target of the corpus", "did you mean 'Angry'?"]),
        ("Angry", ["Angry=Angr", "x=y"], ["--map Angry=Angr: ", "--map x=y: not a target"]),
        ("Angry", ["Angry=Angry"], ["--map Angry=Angry: not a target of the corpus and one of the model"]),
        ("Angry,Anger", ["Angry=Anger"], ["--map: two targets of the corpus for Anger"]),
        ("Angry", ["Angry"], ["--map Angry: name a target of the corpus and one of the run"]),
        ("Angry", ["Angry=Anger", "Angry=Sadness"], ["--map Angry=Sadness: Angry is Anger already"]),
    ],
)  # fmt: skip
def test_targets_that_do_not_fit(emoshare, run, own, targets, pairs, messages) -> None:
    words = [word for pair in pairs for word in ("--map", pair)]
    result = emoshare("evaluate", str(run), *own, f"data.targets=[{targets}]", *words)
    assert result.status == 1
    for message in messages:
        assert message in result.err


def test_speakers_of_another_corpus_are_drawn_with_all_their_clips(
    emoshare, run, corpus_root, tmp_path, monkeypatch
) -> None:
    """Groups of the corpus that is scored, whatever the run knows of its own; and constant labels are told."""
    who: dict[str, str] = {}  # three clips each
    (tmp_path / "c/wav").mkdir(parents=True)
    for path in (corpus_root / "wav").iterdir():  # a little softer: clips that the run has not learned from
        rate, wave = wavfile.read(path)
        wavfile.write(tmp_path / "c/wav" / path.name, rate, (wave * 0.9).astype(wave.dtype))
    for part in ("train", "devel"):
        with (corpus_root / f"lab/{part}.csv").open() as handle, (tmp_path / f"c/{part}.csv").open("w") as out:
            rows = list(csv.DictReader(handle))
            who |= {row["filename"]: f"{part}{number // 3}" for number, row in enumerate(rows)}
            writer = csv.DictWriter(out, [*rows[0], "speaker"])
            writer.writeheader()
            writer.writerows(row | {"speaker": who[row["filename"]], "Anger": "0.125"} for row in rows)
    data = [
        "data=csv",
        f"data.root={tmp_path / 'c'}",
        f"data.targets=[{','.join(package.load(run).targets)}]",
        "data.test=null",
    ]
    found = {}
    for name, more in {"clips": [], "speakers": ["data.groups=[speaker]"]}.items():
        result = emoshare("evaluate", str(run), *data, *more, "--out", name)
        assert result.status == 0, result.err
        found[name] = json.loads((tmp_path / name / "results.json").read_text())
    clips, speakers = found["clips"], found["speakers"]
    assert clips["metrics"] == speakers["metrics"]
    files, predicted = read_shares(tmp_path / "clips/predictions/train.csv", clips["targets"])
    _, true = read_shares(tmp_path / "clips/reference/train.csv", clips["targets"])
    units = np.unique([who[file] for file in files], return_inverse=True)[1]
    for told, clusters in ((clips, None), (speakers, units)):
        drawn = bootstrap.replicates(true, [predicted], clusters=clusters)["scc"][0]  # (E, B)
        bounds = bootstrap.interval(mean_score(drawn, axis=0))
        assert told["intervals"]["train"]["scc"]["mean"] == pytest.approx(bounds, abs=1e-6)
    assert (clips["drawn"]["train"], speakers["drawn"]["train"]) == ("clips", "clips, drawn by speaker")
    assert "95 % intervals over clips, drawn by speaker (train)" in result.out
    monkeypatch.setattr(bootstrap, "replicates", None)  # what is predicted again, the same, is not drawn again
    assert emoshare("evaluate", str(run), *data, "--out", "clips").status == 0
    assert json.loads((tmp_path / "clips/results.json").read_text())["intervals"] == clips["intervals"]
    assert clips["metrics"]["train"]["scc"]["Anger"] is None
    assert clips["remarks"]["undefined"]["train"] == ["Anger"]
    assert "train: means are over 8 of 9 targets; undefined, as all labels are equal: Anger" in result.out


def test_thirds_by_entropy_are_rows_of_an_evaluation_that_says_what_is_drawn(emoshare, run) -> None:
    data = ["data=demo", "data.seed=9", "data.clips=100"]
    plain, clustered = (
        emoshare("evaluate", str(run), *data, f"data.groups={groups}", f"data.cluster={cluster}")
        for groups, cluster in (("[]", "null"), ("[speaker]", "speaker"))
    )
    assert (plain.status, clustered.status) == (0, 0), plain.err + clustered.err
    assert all(f"entropy {name}, " in plain.out for name in ("low", "middle", "high"))
    note = "; of a third by entropy over single clips, if it has fewer than"
    assert note in clustered.out
    assert note not in plain.out
