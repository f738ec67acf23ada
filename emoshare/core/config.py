"""The typed schema of a run's config: every key, its type, its default's reason.

The YAML files of `conf/` fill these classes; Hydra merges them, so `window.seconds=3` and `3.0` are one
value and a misspelt key fails before anything runs. `check` holds what types cannot say.

Units stand in the names or the comments: seconds, samples (16 000 per second), frames (50 per second).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emoshare.core.errors import EmoshareError
from emoshare.core.text import near
from emoshare.core.typed import fill

MISSING: Any = "???"  # a value that must be given
EMOTIONS = (
    "Anger", "Boredom", "Calmness", "Concentration", "Determination",
    "Excitement", "Interest", "Sadness", "Tiredness",
)  # fmt: skip
RATE = 16_000  # samples per second that every backbone was trained with
SHORTEST = 400  # samples: the shortest input of the convolutional front end, 25 ms, one frame
HOP = 320  # samples between two frames: 20 ms


@dataclass
class DataConfig:
    name: str = MISSING  # demo | compare23 | csv: stands in results and reports
    root: str = MISSING  # folder of the corpus
    train: str = "lab/train.csv"  # label tables, relative to root
    devel: str = "lab/devel.csv"
    test: str | None = "lab/test.csv"  # null: no test partition
    unmasked: str | None = "lab/test.unmasked.csv"  # test labels, where they are known
    wav: str = "wav"  # folder of the clips, relative to root
    targets: list[str] = field(default_factory=lambda: list(EMOTIONS))
    batch_size: int = 8  # windows per training step
    workers: int = 0  # loader processes (waveforms only: stored frames need none)
    clips: int = 0  # demo only: how many clips to generate
    seed: int = 0  # demo only: of the generator
    max_mb: float = 500.0  # MB (10^6 bytes): a larger sound file is an error


@dataclass
class WindowConfig:
    seconds: float = 5.5
    crop: str = "start"  # start | center | random (random: in training alone, center otherwise)
    pad: str = "zeros"  # zeros | none
    normalize: str = "none"  # checkpoint (zero mean, unit variance, where its preprocessor says so) | none


@dataclass
class BackboneConfig:
    name: str = MISSING  # as in tables
    path: str = MISSING  # hub name or local folder; "tiny" and "logmel" are built in
    revision: str | None = None  # hub revision (branch, tag or commit)
    type: str = MISSING  # wav2vec2 | hubert | wavlm | unispeech-sat | the name of a module of emoshare.backbones
    dim: int = MISSING  # D, features per frame
    layers: int = MISSING
    parameters: int | None = None  # of the bare encoder, to hold the checkpoint against
    conv_norm: str | None = None  # group | layer: held against the checkpoint
    normalize: bool | None = None  # needed where the checkpoint has no preprocessor file
    mask: bool | None = None  # likewise
    pretrained: bool = True  # false: the random-encoder control
    frozen: bool = True  # false: fine-tuned with optimizer.backbone_lr
    layer: str = "last"  # last | index (0 = input of the first layer) | weighted
    cache: bool = True  # false: the backbone runs in the loop
    specaugment: bool = False  # in training with frozen=false: mask 5 % of frames and features, 10 at a time
    layerdrop: str | None = None  # likewise: share of layers left out at random; null: none | checkpoint | 0 to 1
    feature_set: str = "ComParE_2016"  # opensmile: ComParE_2016 | eGeMAPSv02
    level: str = "functionals"  # opensmile: functionals (a vector per clip) | lld (100 frames per second)


@dataclass
class HeadConfig:
    name: str = "mlp"  # mlp | svr: the system that learns from frames
    pooling: str = "attention"  # mlp: attention | mean | max; svr: auto | mean | std | mean_std | functionals
    hidden: int = 256
    norm: str = "batch"  # batch | layer | none
    activation: str = "gelu"  # gelu | relu | tanh
    dropout: float = 0.0
    output: str = "sigmoid"  # sigmoid | softmax | linear
    select: str = "avg"  # svr: avg | mae | scc on devel, chooses the setting of the grid
    grid: list[float] = field(default_factory=lambda: [1e-2, 1e-3, 1e-4, 1e-5, 1e-6])  # svr: values of C
    scalers: list[str] = field(default_factory=lambda: ["standard", "minmax"])  # svr: of features
    losses: list[str] = field(default_factory=lambda: ["epsilon_insensitive", "squared_epsilon_insensitive"])  # svr
    refit: bool = False  # svr: the setting chosen is fitted on train + devel to predict test


@dataclass
class LossConfig:
    ccc: float = 1.0  # weights of the mix
    mse: float = 0.0
    mae: float = 0.0
    released: bool = False  # CCC with the moments of the paper's released code in place of Lin's


@dataclass
class OptimizerConfig:
    name: str = "adamw"  # adamw | adam | sgd | rmsprop
    lr: float = 1e-3
    weight_decay: float = 1e-3
    momentum: float = 0.0  # sgd and rmsprop
    backbone_lr: float = 1e-5  # for backbone.frozen=false
    factor: float = 0.5  # ReduceLROnPlateau on devel Avg
    patience: int = 5  # epochs without a better devel Avg


@dataclass
class TrainerConfig:
    epochs: int = 30
    precision: str = "auto"  # auto | any of Lightning's
    accelerator: str = "auto"  # auto | cpu | gpu | mps
    device: int | None = 0  # which GPU; null: one that no other run has claimed
    progress: bool = True
    deterministic: bool = True
    options: dict[str, Any] = field(default_factory=dict)  # handed to lightning's Trainer as they are
    threads: int | None = None  # of the processor; null: all for extraction and the backbone, 1 for stored frames


@dataclass
class TrainConfig:
    select: str = "avg"  # avg | scc | ccc on devel: chooses the best epoch, and steers the learning rate


@dataclass
class LoggerConfig:
    name: str = "wandb"  # wandb | tensorboard | none; metrics.csv is written always
    mode: str | None = None  # offline | online | disabled; null: WANDB_MODE, else offline
    project: str = "emoshare"
    entity: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass
class ExtractConfig:
    engine: str = "auto"  # auto | torch | openvino
    precision: str = "float16"  # of the stored frames: float16 | bfloat16 | float32
    compute: str = "auto"  # of the backbone: auto | float32 | bfloat16 | float16
    max_batch_seconds: str = "auto"  # audio seconds in one batch
    compile: bool = False  # torch.compile the encoder


@dataclass
class CacheConfig:
    max_gb: float | None = None  # frame stores over this budget are pruned, least recently used first


@dataclass
class BenchConfig:
    repeats: int = 3  # of every measurement; medians are shown
    clips: int | None = None  # in a batch; null: as many as extraction takes
    corpus: int = 51_881  # clips of the corpus that the estimate is for
    clip_seconds: float = 2.9  # their mean duration, for window.pad=none
    gpu_gb: float | None = None  # memory of the GPU to stay within, as on a smaller one


@dataclass
class PathsConfig:
    outputs: str = "outputs"
    data: str = "data"  # generated corpora
    cache: str = "cache"  # frame stores, remembered corpus checks, converted models


@dataclass
class SweepConfig:
    name: str = "default"  # outputs/<name>
    isolate: bool = False  # every run in a process of its own


@dataclass
class Config:
    data: DataConfig = field(default_factory=DataConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    bench: BenchConfig = field(default_factory=BenchConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    seed: int = 0
    resume: bool = True  # go on from checkpoints/last.ckpt of the run's own folder
    force: bool = False  # train a finished run again

    @property
    def restart(self) -> bool:
        """Whether what is there of the run, finished or not, is done again from its start."""
        return self.force or not self.resume

    @classmethod
    def load(cls, path: Path) -> Config:
        """The typed config in a run's config.yaml.

        Raises:
            EmoshareError: the file cannot be read, or holds unknown keys or values of another type.
        """
        import yaml

        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise EmoshareError(f"{path}: not readable ({error}); remove it and train the run again") from None
        return fill(cls, values, str(path))


CHOICES = {
    "backbone.feature_set": ("ComParE_2016", "eGeMAPSv02"),
    "backbone.level": ("functionals", "lld"),
    "window.crop": ("start", "center", "random"),
    "window.pad": ("zeros", "none"),
    "window.normalize": ("checkpoint", "none"),
    "head.name": ("mlp", "svr"),
    "head.select": ("avg", "mae", "scc"),
    "head.norm": ("batch", "layer", "none"),
    "head.activation": ("gelu", "relu", "tanh"),
    "head.output": ("sigmoid", "softmax", "linear"),
    "optimizer.name": ("adamw", "adam", "sgd", "rmsprop"),
    "train.select": ("avg", "scc", "ccc"),
    "logger.name": ("wandb", "tensorboard", "none"),
    "logger.mode": ("offline", "online", "disabled", None),
    "trainer.precision": (
        "auto", "bf16-mixed", "16-mixed", "32-true", "bf16-true", "16-true", "64-true",
        "bf16", "16", "32", "64", "transformer-engine", "transformer-engine-float16",
    ),
    "trainer.accelerator": ("auto", "cpu", "gpu", "mps"),
    "extract.engine": ("auto", "torch", "openvino"),
    "extract.precision": ("float16", "bfloat16", "float32"),
    "extract.compute": ("auto", "float32", "bfloat16", "float16"),
}  # fmt: skip
POOLINGS = {  # head.name → head.pooling
    "mlp": ("attention", "mean", "max"),
    "svr": ("auto", "mean", "std", "mean_std", "functionals"),
}
GRID = {  # keys of the svr → what each item may be; None: a number greater than 0
    "head.grid": None,
    "head.scalers": ("standard", "minmax"),
    "head.losses": ("epsilon_insensitive", "squared_epsilon_insensitive"),
}
POSITIVE = (
    "data.batch_size", "head.hidden", "optimizer.lr", "trainer.epochs", "bench.repeats", "bench.clips", "bench.corpus",
    "bench.clip_seconds", "bench.gpu_gb", "optimizer.backbone_lr", "cache.max_gb", "data.max_mb", "trainer.threads",
)  # fmt: skip
ANY = float("inf")
RANGES = {  # key → the least value, and what it must be less than
    "head.dropout": (0, 1), "optimizer.factor": (0, 1), "optimizer.momentum": (0, 1),
    "optimizer.weight_decay": (0, ANY), "optimizer.patience": (0, ANY), "data.workers": (0, ANY),
    "loss.ccc": (0, ANY), "loss.mse": (0, ANY), "loss.mae": (0, ANY),
}  # fmt: skip


def hidden_states(layer: str, layers: int) -> int:
    """Hidden states in a frame: all of them for layer=weighted (the input of the first layer is one), else one."""
    return layers + 1 if layer == "weighted" else 1


def get(config: Config, key: str) -> Any:
    """The value at a dotted key."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _positive(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def check(config: Config) -> None:
    """Raise EmoshareError for the values that types let through."""
    for key, choices in CHOICES.items():
        value = get(config, key)
        if value not in choices:
            names = [str(c) for c in choices if c is not None]
            raise EmoshareError(f"{key}={value}: must be one of {', '.join(names)}{near(str(value), names)}")
    for key in POSITIVE:
        value = get(config, key)
        if value is not None and not value > 0:
            raise EmoshareError(f"{key}={value}: must be greater than 0")
    seconds = config.window.seconds
    if not SHORTEST / RATE <= seconds < float("inf"):  # so that NaN fails too
        raise EmoshareError(f"window.seconds={seconds:g}: a backbone needs at least 0.025 s (400 samples, one frame)")
    if not 0 <= config.seed < 2**32:  # what numpy takes
        raise EmoshareError(f"seed={config.seed}: must be from 0 to {2**32 - 1}")
    for key, (least, below) in RANGES.items():
        value = get(config, key)
        if not least <= value < below:
            limit = f" and less than {below:g}" if below < ANY else ""
            raise EmoshareError(f"{key}={value}: must be at least {least:g}{limit}")
    check_head(config.head)
    neural = config.head.name == "mlp"
    if neural and config.data.batch_size == 1 and (config.head.norm == "batch" or config.loss.ccc):
        raise EmoshareError("data.batch_size=1: batch norm and CCC need at least 2 clips; set 2 or more")
    size = config.extract.max_batch_seconds
    if size != "auto" and not _positive(size):
        raise EmoshareError(f"extract.max_batch_seconds={size}: must be auto or seconds of audio greater than 0")
    if not config.data.targets:
        raise EmoshareError("data.targets=[]: name at least one label column")
    if taken := set(config.data.targets) & {"filename", "seconds", "mean"}:
        raise EmoshareError(f"data.targets: {min(taken)} is a column of the run's own tables; rename the label column")
    if neural and not any((config.loss.ccc, config.loss.mse, config.loss.mae)):
        raise EmoshareError("loss: all weights are 0; set at least one of loss.ccc, loss.mse, loss.mae")
    layer = config.backbone.layer
    if layer not in ("last", "weighted") and not layer.isdigit():
        raise EmoshareError(f"backbone.layer={layer}: must be last, weighted or an index from 0 to backbone.layers")
    check_training_keys(config.backbone)
    if config.backbone.type == "logmel" and config.backbone.path != "logmel":
        raise EmoshareError(f"backbone.path={config.backbone.path}: logmel has no checkpoint; choose another backbone")


def check_head(head: HeadConfig) -> None:
    """Raise EmoshareError for what the system of `head.name` cannot do."""
    if head.pooling not in (choices := POOLINGS[head.name]):
        raise EmoshareError(f"head.pooling={head.pooling}: with head.name={head.name} one of {', '.join(choices)}")
    if head.refit and head.name == "mlp":
        raise EmoshareError("head.refit=true: only head.name=svr is fitted again on train + devel")
    for key, choices_of in GRID.items():
        items = getattr(head, key.removeprefix("head."))
        bad = [item for item in items if (not 0 < item < ANY if choices_of is None else item not in choices_of)]
        if bad or not items or len(set(items)) < len(items):
            wanted = "numbers greater than 0" if choices_of is None else " and ".join(choices_of)
            raise EmoshareError(f"{key}={items}: must hold at least one, each once, of {wanted}")


def check_training_keys(config: BackboneConfig) -> None:
    """Raise EmoshareError for backbone.specaugment and layerdrop where they do nothing or can't be."""
    drop = config.layerdrop
    if drop not in (None, "checkpoint") and not _share(drop):
        raise EmoshareError(f"backbone.layerdrop={drop}: must be null, checkpoint or a number from 0 to less than 1")
    for key, value in {"specaugment": config.specaugment or None, "layerdrop": drop}.items():
        if value is not None and config.frozen:
            raise EmoshareError(f"backbone.{key}={value}: changes a backbone in training; set backbone.frozen to false")
    if drop is not None and config.layer == "weighted":
        raise EmoshareError(f"backbone.layerdrop={drop}: a weighted sum needs all layers; set backbone.layer to last")


def _share(text: str) -> bool:
    try:
        return 0 <= float(text) < 1
    except ValueError:
        return False
