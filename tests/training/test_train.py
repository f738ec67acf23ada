"""One run through the real command line: what it leaves, that it is repeatable, resumable and told apart."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from processes import Command
from scipy import stats

from emoshare.core.errors import EmoshareError
from emoshare.data.corpus import Corpus, Partition
from emoshare.runs.folder import Run
from emoshare.runs.predictions import score_and_write
from emoshare.training.checkpoints import AtomicCheckpoints
from emoshare.training.neural import predict
from emoshare.training.trainer import History

ENGINES = ["store", "loop"]


def only(folder: Path) -> Path:
    """The one run folder of a sweep."""
    [run] = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    return run


def results(folder: Path) -> dict:
    return json.loads((only(folder) / "results.json").read_text())


def shares(path: Path) -> np.ndarray:
    with path.open() as file:
        return np.array([[float(x) for x in list(row.values())[1:]] for row in csv.DictReader(file)])


def test_a_run_leaves_its_folder(emoshare, small, corpus_root, tmp_path, drawn) -> None:
    run = emoshare("train", *small)
    assert run.status == 0, run.err
    assert "Calmness" in run.out
    assert "devel SCC" in run.out
    folder = only(tmp_path / "outputs/default")
    assert folder.name.startswith("logmel-1s-seed0-")
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files >= {
        "config.yaml", "results.json", "metrics.csv", "predictions/devel.csv", "predictions/test.csv",
        "reference/devel.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "figures/learning_curve.png",
        "figures/shares.png",
    }  # fmt: skip
    assert (folder / "figures/learning_curve.png").stat().st_size > 5000
    assert yaml.safe_load((folder / "config.yaml").read_text())["window"]["seconds"] == 1.0
    found = results(tmp_path / "outputs/default")
    assert found["corpus"]["clips"].keys() == {"train", "devel", "test"}
    assert len(list(csv.DictReader((folder / "metrics.csv").open()))) == 2


def test_scores_are_those_of_the_predictions_written(emoshare, small, tmp_path) -> None:
    emoshare("train", *small)
    folder, found = only(tmp_path / "outputs/default"), results(tmp_path / "outputs/default")
    predicted, true = shares(folder / "predictions/devel.csv"), shares(folder / "reference/devel.csv")
    for e, name in enumerate(found["targets"]):
        rho = stats.spearmanr(predicted[:, e], true[:, e]).statistic
        assert found["metrics"]["devel"]["scc"][name] == pytest.approx(rho, abs=1e-9)
    epochs = [float(row["devel/avg"]) for row in csv.DictReader((folder / "metrics.csv").open())]
    assert found["best"]["score"] == pytest.approx(max(epochs), abs=1e-5)
    assert found["best"]["epoch"] == int(np.argmax(epochs))


def test_predictions_are_a_submission(emoshare, small, corpus_root, tmp_path) -> None:
    emoshare("train", *small)
    lines = (only(tmp_path / "outputs/default") / "predictions/test.csv").read_text().splitlines()
    asked = (corpus_root / "lab/test.csv").read_text().splitlines()
    emotions = "Anger,Boredom,Calmness,Concentration,Determination,Excitement,Interest,Sadness,Tiredness"
    assert lines[0] == f"filename,{emotions}"
    assert [line.split(",")[0] for line in lines] == [line.split(",")[0] for line in asked]
    assert all(0 <= float(x) <= 1 for line in lines[1:] for x in line.split(",")[1:])


@pytest.mark.parametrize("backbone", ["tiny", "logmel"])
@pytest.mark.parametrize("window", ["paper", "native"])
def test_stored_frames_and_the_loop_give_the_same_numbers(emoshare, small, tmp_path, backbone, window) -> None:
    """The stored frames come from packed weights, and differ by 1e-6; the optimizer makes more of that."""
    more = [f"backbone={backbone}", f"window={window}", "window.seconds=1", "trainer.precision=32-true"]
    exact = ["extract.precision=float32", "extract.compute=float32"]
    assert emoshare("train", *small, *more, *exact, "sweep.name=store").status == 0
    assert emoshare("train", *small, *more, "sweep.name=loop", "backbone.cache=false").status == 0
    for part in ("devel", "test"):
        a, b = (shares(only(tmp_path / "outputs" / s) / f"predictions/{part}.csv") for s in ("store", "loop"))
        np.testing.assert_allclose(a, b, atol=2e-3)
    losses = [[float(row["devel/loss"]) for row in history(tmp_path / "outputs" / s)] for s in ("store", "loop")]
    np.testing.assert_allclose(*losses, atol=2e-3)
    assert results(tmp_path / "outputs/store")["frames"]["source"] == "store"
    assert results(tmp_path / "outputs/loop")["frames"]["source"] == "backbone"


def test_the_same_command_gives_the_same_numbers_and_another_seed_does_not(emoshare, small, tmp_path) -> None:
    for sweep, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert emoshare("train", *small, f"sweep.name={sweep}", f"seed={seed}").status == 0
    a, b, c = (shares(only(tmp_path / "outputs" / s) / "predictions/devel.csv") for s in "abc")
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-3
    first, second, other = (Run(only(tmp_path / "outputs" / s)).cell() for s in "abc")
    assert first == second == other


def test_a_finished_run_is_skipped_and_a_forced_one_is_not(emoshare, small, tmp_path) -> None:
    emoshare("train", *small)
    path = only(tmp_path / "outputs/default") / "results.json"
    before = path.stat().st_mtime_ns
    again = emoshare("train", *small)
    assert again.status == 0
    assert "skipped" in again.out
    assert path.stat().st_mtime_ns == before
    assert emoshare("train", *small, "force=true").status == 0
    assert path.stat().st_mtime_ns > before


def test_a_killed_run_resumes_to_the_same_numbers(emoshare, small, tmp_path) -> None:
    """SIGKILL after some epoch, the same command again; the learning rate falls on the way, and dropout draws."""
    more = ["trainer.epochs=12", "optimizer.patience=0", "head.dropout=0.2", "backbone=tiny"]
    command = ["train", *small, *more]
    whole = emoshare(*command, "sweep.name=whole")
    assert whole.status == 0, whole.err
    process = Command(tmp_path, *command, "sweep.name=cut")
    metrics = only(tmp_path / "outputs/whole").name
    metrics = tmp_path / "outputs/cut" / metrics / "metrics.csv"
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 5):
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (metrics.parent / "results.json").exists()
    again = emoshare(*command, "sweep.name=cut")
    assert again.status == 0, again.err
    a, b = (only(tmp_path / "outputs" / s) for s in ("whole", "cut"))
    assert (a / "metrics.csv").read_text() == (b / "metrics.csv").read_text()
    assert (a / "predictions/devel.csv").read_text() == (b / "predictions/devel.csv").read_text()
    rates = {row["lr"] for row in csv.DictReader((a / "metrics.csv").open())}
    assert len(rates) > 1, "the learning rate never fell: the test shows less than it says"


def history(sweep: Path) -> list[dict[str, str]]:
    with (only(sweep) / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_ctrl_c_that_nobody_heard_ends_the_run_all_the_same(emoshare, small, tmp_path, monkeypatch) -> None:
    """What is raised in a finalizer is lost: here it is raised where somebody swallows it."""
    plain, before = History.on_train_epoch_end, signal.getsignal(signal.SIGINT)

    def deaf(self: History, *arguments: Any) -> None:
        plain(self, *arguments)
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(History, "on_train_epoch_end", deaf)
    run = emoshare("train", *small)
    assert run.status == 130, run.err
    assert "goes on from here" in run.err
    assert signal.getsignal(signal.SIGINT) is before
    assert len(history(tmp_path / "outputs/default")) == 1  # of two epochs


def test_a_checkpoint_is_written_without_a_second_copy_in_memory(tmp_path) -> None:
    weights = torch.ones(16 * 2**20 // 4)  # 16 MB
    tracemalloc.start()
    AtomicCheckpoints().save_checkpoint({"weights": weights}, tmp_path / "last.ckpt")
    peak = tracemalloc.get_traced_memory()[1]  # buffers of Python count
    tracemalloc.stop()
    assert peak < 4 * 2**20
    assert torch.equal(torch.load(tmp_path / "last.ckpt", weights_only=True)["weights"], weights)


@pytest.mark.parametrize("cache", ["true", "false"])
def test_checkpoints_hold_the_head_alone_and_what_it_belongs_to(emoshare, small, tmp_path, cache) -> None:
    emoshare("train", *small, "backbone=tiny", f"backbone.cache={cache}")
    checkpoint = torch.load(only(tmp_path / "outputs/default") / "checkpoints/best.ckpt", weights_only=True)
    assert {name.split(".")[0] for name in checkpoint["state_dict"]} == {"head"}
    found = results(tmp_path / "outputs/default")
    assert checkpoint["origin"]["backbone"].items() <= found["backbone"].items()
    assert checkpoint["origin"]["backbone"]["weights"] == found["backbone"]["weights"]
    assert checkpoint["origin"]["corpus"] == found["corpus"]["fingerprint"]


def test_another_corpus_is_another_run_wherever_it_lies(emoshare, small, tmp_path, corpus_root) -> None:
    root, moved = tmp_path / "corpus", tmp_path / "elsewhere"
    shutil.copytree(corpus_root, root)
    assert emoshare("train", *small, f"data.root={root}").status == 0
    first = only(tmp_path / "outputs/default")
    root.rename(moved)
    again = emoshare("train", *small, f"data.root={moved}", "data.name=mine")
    assert "skipped" in again.out
    assert only(tmp_path / "outputs/default") == first
    table = moved / "lab/train.csv"
    header, first_row, *rest = table.read_text().splitlines()
    name, label, *labels = first_row.split(",")
    table.write_text("\n".join([header, ",".join([name, str(float(label) / 2 + 0.01), *labels]), *rest]) + "\n")
    assert emoshare("train", *small, f"data.root={moved}").status == 0
    assert len(list((tmp_path / "outputs/default").glob("*/results.json"))) == 2


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("precision", "bf16-mixed", "precision bf16-mixed, and would go on with 32-true"),
        ("device", "cuda", "device cuda, and would go on with cpu"),
        ("corpus", "another", "another state of the corpus"),
        ("backbone", {}, "other weights of the backbone"),
    ],
)
def test_a_run_is_not_resumed_on_what_it_was_not_begun_with(emoshare, small, tmp_path, key, value, words) -> None:
    command = ["train", *small, "trainer.precision=32-true"]
    assert emoshare(*command).status == 0
    folder = only(tmp_path / "outputs/default")
    (folder / "results.json").unlink()  # as if it had been interrupted
    checkpoint = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    checkpoint["origin"][key] = value
    torch.save(checkpoint, folder / "checkpoints/last.ckpt")
    again = emoshare(*command)
    assert again.status == 1
    assert words in again.err
    assert "force=true" in again.err
    assert emoshare(*command, "force=true").status == 0


def test_a_frozen_backbone_stays_as_it_was_and_a_trained_one_does_not(emoshare, small, tmp_path) -> None:
    emoshare("train", *small, "backbone=tiny", "backbone.frozen=false", "optimizer.backbone_lr=1e-2")
    checkpoint = torch.load(only(tmp_path / "outputs/default") / "checkpoints/best.ckpt", weights_only=True)
    trained = {k.removeprefix("backbone."): v for k, v in checkpoint["state_dict"].items() if k.startswith("backbone.")}
    assert trained
    from composed import config

    from emoshare.backbones.base import load_backbone
    from emoshare.core.config import WindowConfig

    section = config("backbone=tiny", "backbone.frozen=false").backbone
    fresh = load_backbone(section, WindowConfig()).state_dict()
    assert any(not torch.equal(fresh[k], v) for k, v in trained.items())


@pytest.mark.parametrize("head", ["head.pooling=mean", "head.pooling=max", "head.output=softmax", "loss=mix"])
def test_variants_train(emoshare, small, tmp_path, head) -> None:
    assert emoshare("train", *small, head).status == 0


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_optimizers_train(emoshare, small, optimizer) -> None:
    assert emoshare("train", *small, f"optimizer={optimizer}").status == 0


def test_weighted_layers_and_a_layer_train_from_the_store(emoshare, small) -> None:
    for layer in ("weighted", "1"):
        assert emoshare("train", *small, "backbone=tiny", f"backbone.layer={layer}").status == 0


def test_random_crops_fall_back_to_the_loop_and_say_so(emoshare, small, tmp_path) -> None:
    run = emoshare("train", *small, "window.crop=random", "data.workers=2")
    assert run.status == 0, run.err
    assert "window.crop=random" in run.out
    assert results(tmp_path / "outputs/default")["frames"]["source"] == "backbone"


def test_the_second_seed_reuses_the_frames(emoshare, small, tmp_path) -> None:
    emoshare("train", *small, "sweep.name=a")
    emoshare("train", *small, "sweep.name=b", "seed=1")
    a, b = results(tmp_path / "outputs/a")["frames"], results(tmp_path / "outputs/b")["frames"]
    assert (a["reused"], b["reused"]) == (False, True)
    assert a["recipe"] == b["recipe"]


def test_one_emotion_trains_and_is_submitted(emoshare, small, tmp_path) -> None:
    run = emoshare("train", *small, "data.targets=[Anger]")
    assert run.status == 0, run.err
    folder = only(tmp_path / "outputs/default")
    lines = (folder / "predictions/test.csv").read_text().splitlines()
    assert lines[0] == "filename,Anger"
    found = Run(folder).results()
    assert found.targets == ["Anger"]
    assert found.score("devel", "scc", "Anger") == found.score("devel", "scc")
    assert emoshare("status", str(tmp_path / "outputs/default")).status == 0
    assert emoshare("report", str(tmp_path / "outputs/default")).status == 0


def test_clips_that_were_not_predicted_are_noticed() -> None:
    class Trainer:
        def predict(self, module: Any, loader: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
            return [(torch.tensor([0, 2]), torch.rand(2, 9))]

    class Data:
        corpus = SimpleNamespace(partitions={"devel": SimpleNamespace(files=tuple("abc"))}, targets=tuple("abcdefghi"))

        def loader(self, name: str) -> None: ...

    with pytest.raises(AssertionError, match="1 of 3 clips were not predicted"):
        predict(Trainer(), None, Data(), "devel")


def test_predictions_that_are_no_numbers_are_not_published(tmp_path) -> None:
    partition = Partition("devel", ("a.wav", "b.wav"), np.zeros((2, 1), np.float32), np.ones(2), 0)
    corpus = Corpus("mine", tmp_path, tmp_path, ("Joy",), {"devel": partition}, "", ())
    with pytest.raises(EmoshareError, match=r"devel: 1 of 2 clips .* the first b\.wav"):
        score_and_write(Run(tmp_path / "run"), corpus, {"devel": np.array([[0.5], [np.nan]])})
    assert not (tmp_path / "run").exists()


def test_results_say_what_was_resolved(emoshare, small, tmp_path) -> None:
    assert emoshare("train", *small, "trainer.accelerator=cpu", "trainer.precision=32-true").status == 0
    found = Run(only(tmp_path / "outputs/default")).results()
    assert found.system == "mlp"
    resolved = found.resolved
    assert (resolved.device, resolved.precision, resolved.compute) == ("cpu", "32-true", "float32")
    assert {"torch", "numpy", "scipy", "emoshare", "python"} <= found.versions.keys()


def test_an_oddity_of_the_corpus_says_which_command_tells_more(emoshare, small, corpus_root, tmp_path) -> None:
    root = shutil.copytree(corpus_root, tmp_path / "demo")
    for name in ("extra1.wav", "extra2.wav"):
        shutil.copy(next(root.glob("wav/*.wav")), root / "wav" / name)
    run = emoshare("train", *small, f"data.root={root}")
    assert run.status == 0, run.err
    assert "1 × unlisted sound file; `emoshare check` says which" in run.out + run.err
