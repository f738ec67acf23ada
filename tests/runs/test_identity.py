"""A run is told apart by what changes its numbers, and by nothing else."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pytest
from composed import config

from emoshare.backbones.base import load_backbone
from emoshare.backbones.kinds.encoder import Options as Encoder
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.hashing import folder_fingerprint
from emoshare.core.kinds import class_of, classes
from emoshare.core.schema import declared_keys
from emoshare.data.window import Window
from emoshare.runs import identity
from emoshare.runs.identity import identify, seed_of, short_hash, without_seed
from emoshare.systems.kinds.mlp import Options as HeadConfig

CHECKPOINT = {"name": "facebook/hubert-large-ll60k", "revision": None}


def hash_of(*overrides: str, checkpoint: dict | None = None, corpus: str = "f") -> str:
    return short_hash(identify(config(*overrides), corpus, checkpoint or CHECKPOINT))


def test_equal_values_are_one_run_and_different_ones_are_not() -> None:
    assert hash_of("window.seconds=3") == hash_of("window.seconds=3.0")
    assert hash_of("optimizer.lr=0.001") == hash_of("optimizer.lr=1e-3")
    assert hash_of("seed=0") != hash_of("seed=1")
    cells = {short_hash(without_seed(identify(config(f"seed={n}"), "f", CHECKPOINT))) for n in (0, 1)}
    assert len(cells) == 1


def test_a_whole_number_in_place_of_a_fraction_is_the_same_run() -> None:
    """As a config made in Python may hold it."""
    one, two = config("window.seconds=3"), config("window.seconds=3")
    two.window.seconds = 3
    assert identify(one, "f", CHECKPOINT) == identify(two, "f", CHECKPOINT)
    assert short_hash(identify(one, "f", CHECKPOINT)) == short_hash(identify(two, "f", CHECKPOINT))


@pytest.mark.parametrize(
    "override",
    [
        "paths.outputs=/x", "paths.cache=/x", "logger=none", "trainer.device=1", "data.workers=2", "resume=false",
        "trainer.progress=false", "sweep.isolate=true", "cache.max_gb=1", "extract.max_batch_seconds=9", "force=true",
        "data.root=/other", "data.wav=clips", "data.name=mine", "data.train=a.csv", "backbone.name=mine",
        "backbone.licence=mine", "+backbone.architecture.a=1",  # of a checkpoint, which is held against it
        "backbone.path=/other", "trainer.accelerator=cpu", "sweep.name=mine",
    ],
)  # fmt: skip
def test_what_changes_no_number_is_not_identity(override: str) -> None:
    assert hash_of(override) == hash_of()


@pytest.mark.parametrize(
    "override",
    [
        "window.seconds=3", "window.pad=none", "backbone.layer=3", "backbone.frozen=false", "head.hidden=8", "loss=mse",
        "loss=ccc_released", "optimizer.lr=1", "data.batch_size=4", "trainer.precision=64-true", "train.select=ccc",
        "extract.precision=float32", "extract.compute=float32", "trainer.epochs=3",
        "train.refit=true", "train.average=2", "train.mixup=0.2", "optimizer.clip=1", "optimizer.schedule=cosine",
        "backbone.cache=false", "backbone.pretrained=false", "+trainer.options.gradient_clip_val=1",
    ],
)  # fmt: skip
def test_what_changes_a_number_is_identity(override: str) -> None:
    assert hash_of(override) != hash_of()


def test_the_corpus_and_the_checkpoint_count_by_what_they_are() -> None:
    assert hash_of(corpus="f") != hash_of(corpus="g")
    assert hash_of(checkpoint={"folder": "a"}) != hash_of(checkpoint={"folder": "b"})
    assert hash_of(checkpoint=CHECKPOINT | {"revision": "v2"}) != hash_of(checkpoint=CHECKPOINT)


@pytest.mark.parametrize(
    "override", ["loss=mse", "optimizer.lr=1", "trainer.epochs=3", "head.hidden=8", "train.average=2"]
)
def test_what_its_system_does_not_read_is_not_identity(override: str) -> None:
    plain, other = config("head=svr"), config("head=svr", override)
    assert identify(plain, "f", CHECKPOINT) == identify(other, "f", CHECKPOINT)
    assert hash_of(override) != hash_of()


def same(*overrides: str, of: tuple[str, ...] = (), longest: int | None = None) -> bool:
    """Whether overrides make no other run of the run that `of` makes."""
    one, other = (identify(config(*of, *more), "f", CHECKPOINT, longest) for more in ((), overrides))
    return one == other


SVR = ("backbone=prosody", "head=svr")
EIGHT = ("window.seconds=8",)
LONGEST = 7 * 16_000  # samples of the longest clip


@pytest.mark.parametrize(
    ("of", "override"),
    [
        (SVR, "seed=3"),
        (SVR, "window=native"),
        (("backbone=opensmile", "head=svr"), "window.pad=none"),
        (("backbone=prosody",), "window.pad=none"),
        (("backbone=tiny", "head=svr"), "seed=3"),
        (("backbone=tiny", "window.pad=none", *EIGHT), "window.seconds=9"),
        (("backbone=audeep", *EIGHT), "window.seconds=9"),
        (("backbone=prosody", *EIGHT), "window.crop=center"),
        (("backbone=tiny", *EIGHT), "window.crop=center"),
        (("backbone=tiny", "window.pad=none", *EIGHT, "augment=[speed0.9]"), "window.seconds=9"),
        (("backbone=tiny", "backbone.frozen=false"), "backbone.cache=false"),
        (("backbone=logmel",), "window.normalize=checkpoint"),
        (("backbone=logmel",), "backbone.layer=0"),
        (SVR, "head.pooling=functionals"),
        (("backbone=tiny", "head=svr"), "head.pooling=mean_std"),
        (("backbone=deepspectrum", "head=svr"), "head.pooling=mean"),
        (("optimizer=adamw",), "optimizer.momentum=0.5"),
        (("optimizer.schedule=cosine",), "optimizer.patience=2"),
        (("loss=mse",), "loss.released=true"),
        (("head.hidden=0",), "head.activation=relu"),
        ((), "backbone.units=3"),
    ],
)
def test_what_can_change_no_number_is_one_run(of: tuple[str, ...], override: str) -> None:
    assert same(override, of=of, longest=LONGEST)


@pytest.mark.parametrize(
    ("of", "override"),
    [
        (("backbone=prosody",), "seed=3"),  # of the head's weights
        (("backbone=tiny", "head=svr", "backbone.pretrained=false"), "seed=3"),  # a random encoder is the seed's
        (("backbone=tiny", "head=svr"), "window.pad=none"),
        (("backbone=logmel", "head=svr"), "window.pad=none"),
        (("backbone=deepspectrum", "head=svr"), "window.pad=none"),  # it cuts clips down to whole frames
        (SVR, "window.seconds=6"),
        (("backbone=tiny", *EIGHT), "window.seconds=9"),  # it sees the padding
        (("backbone=tiny", "window.pad=none", *EIGHT), "window.seconds=6.9"),
        (("backbone=tiny", "window.pad=none", "window.seconds=7.5", "augment=[speed0.9]"), "window.seconds=9"),
        (("backbone=tiny", "window.pad=none", *EIGHT), "window.crop=center"),  # what is cut off lies elsewhere
        (("backbone=tiny",), "window.crop=center"),
        (("backbone=tiny", "window.pad=none"), "window.seconds=8"),  # the default is no whole clip
        (SVR, "head.pooling=mean"),
        (("optimizer=sgd",), "optimizer.momentum=0.5"),
        (("backbone=tiny",), "+backbone.architecture.hidden_act=relu"),  # what it is built from
        (("backbone.pretrained=false",), "+backbone.architecture.hidden_act=relu"),
    ],
)
def test_what_may_change_a_number_is_another_run(of: tuple[str, ...], override: str) -> None:
    assert not same(override, of=of, longest=LONGEST)


def test_where_durations_are_not_known_every_window_counts() -> None:
    assert not same("window.seconds=9", of=("backbone=prosody", "window.seconds=8"))


def test_parts_that_read_a_key_count_by_it() -> None:
    def of(name: str) -> Any:
        made = config("backbone=concat", "backbone.name=two", "backbone.dim=9")
        made.backbone.parts = [{"name": name, "type": "prosody"}, {"name": "b", "type": "opensmile"}]
        return identify(made, "f", {}), seed_of(replace(made, head=class_of("head", {"name": "svr"})()))

    assert of("a") == of("c")
    assert of("a")[1] is None


@pytest.mark.parametrize("name", ["prosody", "logmel"])
def test_what_is_declared_of_backbones_is_what_they_do(name: str) -> None:
    made = config(f"backbone={name}")
    identity = load_backbone(made.backbone, made.window).identity
    assert classes("backbone")[name].own_samples == ("mask" not in identity)
    assert classes("backbone")[name].whole_clips == (identity.get("step") == 1)


def test_what_is_not_cut_to_whole_frames_is_the_same_with_padding_and_without() -> None:
    """Of backbones that never see the padding, and in a window that holds the whole clip wherever it is cropped."""
    for samples in range(400, 33_000, 37):
        windows = [Window(2.0, "start", pad, step=1) for pad in ("zeros", "none")]
        assert len({(window.length(samples), window.start(samples)) for window in windows}) == 1
        centre = Window(2.1, "center", "none", step=1)
        assert (centre.start(samples), centre.length(samples)) == (0, samples)


@dataclass
class LaterHead(HeadConfig):
    temperature: float = 1.0


@dataclass
class LaterConfig(Config):
    head: LaterHead = field(default_factory=LaterHead)
    mixup: bool = False


def test_a_key_added_later_leaves_the_hash_alone_at_its_default() -> None:
    now = config("head.hidden=8", "window.seconds=3")
    sections = {item.name: getattr(now, item.name) for item in fields(now)}
    later = LaterConfig(**sections | {"head": LaterHead(**asdict(now.head))})
    assert identify(later, "f", CHECKPOINT) == identify(now, "f", CHECKPOINT)
    changed = replace(later, mixup=True)
    assert identify(changed, "f", CHECKPOINT) != identify(now, "f", CHECKPOINT)
    later.head.temperature = 2.0
    assert identify(later, "f", CHECKPOINT) != identify(now, "f", CHECKPOINT)


DEFAULTS = {  # of identity.VERSION 2. A default that differs here belongs to a new version: old runs had the old one.
    "data.batch_size": 8, "window.seconds": 5.5, "window.crop": "start", "window.pad": "zeros",
    "window.normalize": "none", "backbone.conv_norm": None, "backbone.normalize": None,
    "backbone.pretrained": True, "backbone.frozen": True, "backbone.layer": "last", "backbone.cache": True,
    "head.name": "mlp", "head.pooling": "attention", "head.hidden": 256, "head.norm": "batch",
    "head.activation": "gelu", "head.dropout": 0.0, "head.output": "sigmoid", "loss.ccc": 1.0, "loss.mse": 0.0,
    "loss.mae": 0.0, "loss.released": False, "optimizer.name": "adamw", "optimizer.lr": 1e-3,
    "optimizer.weight_decay": 1e-3, "optimizer.momentum": 0.0, "optimizer.backbone_lr": 1e-5, "optimizer.factor": 0.5,
    "optimizer.patience": 5, "trainer.epochs": 30, "trainer.precision": "auto", "trainer.deterministic": True,
    "trainer.options": {}, "train.select": "avg", "extract.precision": "float16",
    "extract.compute": "auto", "seed": 0, "train.refit": False, "train.average": 1, "train.patience": None,
    "train.frame_mask": 0.0, "train.mixup": 0.0, "optimizer.schedule": "plateau", "optimizer.warmup": 0.0,
    "optimizer.clip": None,
}  # fmt: skip


def test_a_default_that_changes_raises_the_version() -> None:
    assert identity.VERSION == 2
    found = {name: declared.default for name, declared in declared_keys(Config).items()}
    assert DEFAULTS.items() <= found.items()


def test_the_hash_of_a_run_stays_what_it_was() -> None:
    made = Config(backbone=Encoder("a", "b", None, "hubert", 1024, 24), seed=3)
    assert short_hash(identify(made, "f" * 64, CHECKPOINT)) == "c04d24e2"
    made.head.hidden, made.optimizer.lr = 8, 0.01
    assert short_hash(identify(made, "f" * 64, CHECKPOINT)) == "38dd3ffd"


def test_a_checkpoints_folder_counts_by_its_files(tmp_path: Path) -> None:
    folder, moved, cache = tmp_path / "model", tmp_path / "elsewhere", tmp_path / "cache"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    section = config(f"backbone.path={folder}").backbone
    first = section.sources(cache)
    assert first.keys() == {"folder"}
    shutil.copytree(folder, moved)
    assert replace(section, path=str(moved)).sources(cache) == first
    (folder / "model.safetensors").write_bytes(b"WEIGHTS")
    assert section.sources(cache) != first
    second = section.sources(cache)
    shutil.rmtree(folder)
    assert section.sources(cache) == second, "the last one known"
    with pytest.raises(EmoshareError, match="no such folder"):
        replace(section, path=str(tmp_path / "never")).sources(cache)


def test_a_folder_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/a").write_text("a")
    first = folder_fingerprint(tmp_path / "model", tmp_path / "memory")
    monkeypatch.setattr("emoshare.core.hashing._hash_files", lambda paths: pytest.fail("read again"))
    assert folder_fingerprint(tmp_path / "model", tmp_path / "memory") == first
