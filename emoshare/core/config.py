"""The typed schema of a run's config: every key with its default, meaning, unit and allowed values.

The YAML files of `conf/` fill these classes. Allowed values are declared beside each key (`schema.key`), rules over
several keys in `validate`. Samples are 16 000 per second, frames 50 per second.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoshare.core.backbones import BackboneOptions
from emoshare.core.bases import LossOptions, OptimizerOptions, TrackerOptions
from emoshare.core.errors import EmoshareError
from emoshare.core.kinds import HeadOptions, kind
from emoshare.core.schema import MANY, MISSING, key, section
from emoshare.core.typed import fill

EMOTIONS = (
    "Anger", "Boredom", "Calmness", "Concentration", "Determination",
    "Excitement", "Interest", "Sadness", "Tiredness",
)  # fmt: skip
RATE = 16_000  # samples per second that every backbone was trained with
SHORTEST = 400  # samples: the shortest input of the convolutional front end, 25 ms, one frame
HOP = 320  # samples between two frames: 20 ms
LARGEST_SEED = 2**32 - 1  # what numpy takes
AVERAGED = ("scc", "ccc")  # the metrics whose mean is Avg
PRECISIONS = (
    "auto", "bf16-mixed", "16-mixed", "32-true", "bf16-true", "16-true", "64-true",
    "bf16", "16", "32", "64", "transformer-engine", "transformer-engine-float16",
)  # fmt: skip

# With which values of other keys a key is read (`schema.Key.only`).
NETWORK = {"head.network": (True,)}  # a head that is trained in epochs
DEMO = {"data.name": ("demo",)}
STORED = {"backbone.frozen": (True,), "backbone.cache": (True,), "window.crop": ("start", "center")}


@dataclass
class DataConfig:
    name: str = key(MISSING, "demo, compare23, csv or a name of yours, for results and reports", file_name=True)
    root: str = key(MISSING, "folder of the corpus")
    train: str = key("lab/train.csv", "label table of the train partition, relative to root")
    devel: str = key("lab/devel.csv", "label table of the devel partition")
    test: str | None = key("lab/test.csv", "label table of the test partition; null: there is none")
    unmasked: str | None = key("lab/test.unmasked.csv", "the test labels, where they are known")
    wav: str = key("wav", "folder of the clips, relative to root")
    targets: list[str] = key(list(EMOTIONS), "label columns, in the order of the predictions")
    table: str | None = key(
        None, "one table of all partitions, relative to root (csv, tsv, xlsx, jsonl, parquet, audformat's db.yaml), "
        "several of its parts as part-*.parquet, or files: each sound file is a row; null: one table for each",
    )  # fmt: skip
    columns: dict[str, Any] = key(
        {}, "names of columns in the tables, where they are others: file, split, or any target or group → the "
        "column's name, as {file: FileName, split: Split_Set}, or file: dia{Dialogue_ID}_utt{Utterance_ID}; with start "
        "or end a row is a segment of its file, in seconds or as 0 days 00:00:01.5; label: a column of categories",
    )  # fmt: skip
    classes: dict[str, Any] = key(
        {}, "target → its values in the column of categories (data.columns.label), one or a list; {}: its own name",
    )  # fmt: skip
    pattern: str | None = key(
        None, "regular expression for file names, whose named groups are columns: (?P<speaker>\\d+)_(?P<label>[A-Z]+)",
    )  # fmt: skip
    rows: dict[str, Any] = key({}, "column → regular expression: only the rows whose whole cell it fits are read")
    splits: dict[str, Any] = key(
        {}, "train, devel and test → the values of the split column that they are, one or a list; {}: the usual words",
        unless={"data.table": (None,)},
    )  # fmt: skip
    range: list[float] = key(
        [0.0, 1.0], "lowest and highest label in the tables, as [1,7]: all is computed on labels scaled to 0 to 1, and "
        "predictions are scaled back", neutral=False,
    )  # fmt: skip
    normalize: str = key(
        "none", "sum: a clip's labels are divided by their sum, so that intensities become shares that add up to 1; "
        "votes: the same for numbers of votes, which are kept",
        choices=("sum", "votes", "none"),
    )  # fmt: skip
    batch_size: int = key(8, "windows per training step", at_least=1, at_most=MANY, only=NETWORK, neutral=False)
    workers: int = key(0, "loader processes, for waveforms only", at_least=0, at_most=1024)
    clips: int = key(0, "demo only: number of clips to generate", at_least=0, at_most=MANY, only=DEMO)
    seed: int = key(0, "demo only: seed of the generator", at_least=0, at_most=LARGEST_SEED, only=DEMO)
    habit: float = key(
        0.0, "demo only: strength of a speaker's habits in all its clips; 1: as much as a segment expresses",
        at_least=0, at_most=10, only=DEMO,
    )  # fmt: skip
    raters: int = key(
        0, "demo only: number of raters who name one emotion of each clip, so that labels are numbers of votes; 0: "
        "nine raters give each emotion a share", at_least=0, at_most=1000, only=DEMO,
    )  # fmt: skip
    max_mb: float = key(500.0, "the largest sound file (MB are 10^6 bytes)", unit="MB", more_than=0)
    scale: float | None = key(None, "full scale in files of floats, as 32768 for 16-bit; null: 1", more_than=0)
    groups: list[str] = key([], "columns that group clips, as speaker, country, sex: the report scores each value")
    metadata: str | None = key(
        None, "table of these columns, relative to root, the file name first; null: the label tables have them",
    )  # fmt: skip
    unknown: list[str] = key(
        ["unknown", "unk", "n/a", "n.a.", "#n/a", "<na>", "na", "nan", "none", "null", "-", "?"],
        "cells of these columns that tell nothing, as empty ones do; case does not count: a clip of an unknown speaker "
        "is on its own in intervals and folds",
    )  # fmt: skip
    cluster: str | None = key(
        None, "column whose clips belong together: intervals and folds keep them so; null: speaker, if it is in groups",
    )  # fmt: skip
    folds: str | None = key(
        None, "cross-validation on train + devel: their number, or a column whose values are folds", neutral=False
    )
    fold: int | None = key(
        None, "the fold that is devel, from 0; the others are train", at_least=0, at_most=MANY, neutral=False,
        within_cell=True,
    )  # fmt: skip
    split_seed: int = key(
        0, "seed of the division into folds", at_least=0, at_most=LARGEST_SEED, unless={"data.folds": (None,)},
        neutral=False,
    )  # fmt: skip


@dataclass
class WindowConfig:
    seconds: float = key(
        5.5, "length of the window", unit="s", at_least=SHORTEST / RATE, at_most=3600,
        note="the shortest is 400 samples, one frame",
    )  # fmt: skip
    crop: str = key(
        "start", "part of a longer clip that is used; random: another one in every epoch of training, center otherwise",
        choices=("start", "center", "random"),
    )  # fmt: skip
    pad: str = key("zeros", "padding of a shorter clip; none: it stays short", choices=("zeros", "none"))
    normalize: str = key(
        "none", "of samples; checkpoint: to zero mean and unit variance where its preprocessor says so",
        choices=("checkpoint", "none"),
    )  # fmt: skip


@dataclass
class TrainerConfig:
    epochs: int = key(30, "passes over the train partition", at_least=1, at_most=MANY, only=NETWORK)
    precision: str = key("auto", "precision of training, by Lightning's names", choices=PRECISIONS, only=NETWORK)
    accelerator: str = key("auto", "hardware to train on", choices=("auto", "cpu", "gpu", "mps"), neutral=True)
    device: int | None = key(
        0, "number of the GPU; null: one that no other run has claimed", at_least=0, at_most=1023, neutral=True,
    )  # fmt: skip
    threads: int | None = key(
        None, "processor threads; null: all for extraction and a backbone in the loop, 1 for stored frames",
        at_least=1, at_most=1024, neutral=True,
    )  # fmt: skip
    progress: bool = key(True, "show progress: a bar on a terminal, else a line now and then", neutral=True)
    deterministic: bool = key(True, "use deterministic algorithms alone", only=NETWORK)
    options: dict[str, Any] = key({}, "more options of Lightning's Trainer", only=NETWORK)


@dataclass
class TrainConfig:
    select: str = key("avg", "metric on devel that chooses the best epoch and steers the learning rate", only=NETWORK)
    average: int = key(
        1, "number of best epochs whose weights are averaged; 1: the best alone", at_least=1, at_most=1000,
        only=NETWORK,
    )  # fmt: skip
    patience: int | None = key(
        None, "number of epochs without a better devel score after which training ends; null: never early",
        at_least=1, at_most=MANY, only=NETWORK,
    )  # fmt: skip
    frame_mask: float = key(
        0.0, "share of a clip's frames that are left out in training, 10 at a time", at_least=0, less_than=1,
        only=NETWORK,
    )  # fmt: skip
    mixup: float = key(
        0.0, "pooled clips are mixed in training, with weights from Beta(mixup, mixup); 0: never", at_least=0,
        at_most=1000, only=NETWORK,
    )  # fmt: skip
    drop_votes: float = key(
        0.0, "chance that a vote is left out of a clip's labels, anew in every epoch, for data.normalize=votes; one "
        "stays", at_least=0, less_than=1, only=NETWORK,
    )  # fmt: skip
    refit: bool = key(False, "train again on train + devel, with what devel has chosen, to predict test and new clips")


@dataclass
class IntervalsConfig:
    level: float = key(
        0.9, "chance that the interval of a prediction holds the true share, on devel", more_than=0.5, at_most=0.99,
    )  # fmt: skip
    calibration: str = key(
        "linear", "map of predicted onto true shares, fitted on devel, that these intervals lie around",
        choices=("linear", "isotonic", "none"),
    )  # fmt: skip


@dataclass
class ExtractConfig:
    precision: str = key(
        "float16", "precision of the stored frames", choices=("float16", "bfloat16", "float32"), only=STORED
    )
    compute: str = key(
        "auto", "precision that the backbone computes in; auto: the device's fastest, measured on a CPU",
        choices=("auto", "float32", "bfloat16", "float16"), only=STORED,
    )  # fmt: skip
    max_batch_seconds: str = key(
        "auto", "audio in one batch; auto: what memory allows", unit="s", more_than=0, words=("auto",), neutral=True,
    )  # fmt: skip
    workers: int = key(
        1, "processes of this machine that share an extraction, each with a GPU or a part of the cores", at_least=1,
        at_most=1000, neutral=True,
    )  # fmt: skip


@dataclass
class CacheConfig:
    max_gb: float | None = key(
        None, "budget of all frame stores, least recently used ones go first; null: no limit", unit="GB", more_than=0,
    )  # fmt: skip


@dataclass
class BenchConfig:
    repeats: int = key(3, "repetitions of every measurement; medians are shown", at_least=1, at_most=1000)
    clips: int | None = key(None, "clips in a batch; null: as many as extraction takes", at_least=1, at_most=MANY)
    corpus: int = key(51_881, "clips of the corpus that the estimate is for", at_least=1, at_most=1e9)
    clip_seconds: float = key(2.9, "their mean duration, for window.pad=none", unit="s", more_than=0, at_most=3600)
    features: int = key(6373, "features of a clip, for `bench svr`", at_least=1, at_most=1e6)
    runs: int = key(840, "runs of the sweep, for `bench report`", at_least=1, at_most=100_000)
    reference: bool = key(True, "let scikit-learn solve the same problems in `bench svr`")
    gpu_gb: float | None = key(None, "memory of the GPU to stay within; null: all of it", unit="GB", more_than=0)


@dataclass
class PathsConfig:
    outputs: str = key("outputs", "folder of sweeps and runs")
    data: str = key("data", "folder of generated corpora")
    cache: str = key("cache", "folder of frame stores, and of facts about corpora and backbones")


@dataclass
class SweepConfig:
    name: str = key("default", "runs lie in outputs/<name>", file_name=True)
    isolate: bool = key(False, "every run of a sweep in a process of its own")
    parallel: str = key(
        "auto", "runs in parallel; auto: the most that cores, memory and GPUs allow; 1: one after the other",
        words=("auto",), at_least=1, at_most=1024, whole=True,
    )  # fmt: skip
    row: str | None = key(None, "the run's name in `sweep.fuse` and `sweep.reference`")
    fuse: dict[str, Any] = key(
        {}, "after the sweep: a fusion's name → rows whose runs it takes, or {rows, weights: mean|learned|greedy, "
        "seeds: each|all}",
    )  # fmt: skip
    reference: str | None = key(None, "row that the report compares the others with, to show the effect of each choice")
    skip_missing: bool = key(False, "a run whose checkpoint or package is not at hand does not fail the sweep")


@dataclass(frozen=True)
class FramesConfig:
    """The part of a run's config that its frames depend on."""

    backbone: BackboneOptions
    window: WindowConfig
    extract: ExtractConfig
    seed: int  # of a random encoder
    normalized: bool  # of several backbones each frame is, over the features of its own


@dataclass
class Config:
    data: DataConfig = section(DataConfig, neutral=True)  # its fingerprint counts
    window: WindowConfig = section(WindowConfig)
    backbone: BackboneOptions = kind("backbone")
    head: HeadOptions = kind("head")
    loss: LossOptions = kind("loss", only=NETWORK)
    optimizer: OptimizerOptions = kind("optimizer", only=NETWORK)
    trainer: TrainerConfig = section(TrainerConfig)
    logger: TrackerOptions = kind("logger", neutral=True)
    extract: ExtractConfig = section(ExtractConfig)
    cache: CacheConfig = section(CacheConfig, neutral=True)
    bench: BenchConfig = section(BenchConfig, neutral=True)
    paths: PathsConfig = section(PathsConfig, neutral=True)
    sweep: SweepConfig = section(SweepConfig, neutral=True)
    train: TrainConfig = section(TrainConfig)
    intervals: IntervalsConfig = section(IntervalsConfig)
    seed: int = key(
        0, "seed of the head's weights, the order of clips, random crops and random encoders",
        at_least=0, at_most=LARGEST_SEED, within_cell=True,
    )  # fmt: skip
    metrics: list[str] = key(
        list(AVERAGED), "what runs are scored by: scc, ccc, pcc, mae, mse, rmse, jsd, kld, cosine, macro_f1, micro_f1, "
        "top1, a class as torchmetrics.R2Score, or a function of yours as my_module.kendall; scc and ccc bring avg",
        neutral=True,
    )  # fmt: skip
    augment: list[str] = key(
        [], "variants of the clips that training sees beside them: speed0.9 (factor), noise20 (dB to it), gain-6 (dB)",
    )  # fmt: skip
    sampler: str = key(
        "shuffle", "which clips an epoch sees; balanced: as many as there are, drawn with replacement so that each of "
        "`balance` comes as often", choices=("shuffle", "balanced"), only=NETWORK,
    )  # fmt: skip
    balance: str = key(
        "targets", "what sampler=balanced balances: targets (one is drawn, then a clip in proportion to its share of "
        "it), or a column of data.groups", only={"sampler": ("balanced",)},
    )  # fmt: skip
    limit: int | None = key(
        None, "number of clips of each partition that a run uses, evenly spread over its table, for debugging; null: "
        "all", at_least=2, at_most=MANY,
    )  # fmt: skip
    resume: bool = key(True, "go on from the run's own last epoch; false: start over", neutral=True)
    force: bool = key(False, "train a finished run again", neutral=True)

    @property
    def restart(self) -> bool:
        """Whether the run starts anew, even if it is finished or has checkpoints."""
        return self.force or not self.resume

    @property
    def frames(self) -> FramesConfig:
        """The part of the config that its frames depend on."""
        return FramesConfig(self.backbone, self.window, self.extract, self.seed, self.head.network)

    @property
    def in_loop(self) -> bool:
        """Whether the backbone runs in the training loop: the config says so, or no store can hold its frames."""
        return not self.backbone.cache or self.unstorable is not None

    @property
    def unstorable(self) -> str | None:
        """The reason why no store can hold the frames; None where one can."""
        if not self.backbone.frozen:
            return "the backbone is trained (backbone.frozen=false)"
        if self.window.crop == "random":
            return "every epoch sees other windows (window.crop=random)"
        return None

    @classmethod
    def load(cls, path: Path) -> Config:
        """The typed config in a run's config.yaml.

        Raises:
            EmoshareError: the file cannot be read, or holds unknown keys or values of another type.
        """
        import yaml

        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise EmoshareError(
                f"{path}: not readable ({reason}); name a run's folder, or train the run again"
            ) from None
        return fill(cls, values, str(path))


def hidden_states(layer: str, layers: int) -> int:
    """Hidden states in a frame: all of them for layer=weighted (the input of the first layer is one), else one."""
    return layers + 1 if layer == "weighted" else 1
