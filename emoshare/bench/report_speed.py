"""`emoshare bench report`: what a report of many runs takes, with the resampled scores that runs keep and without.

Some runs are made; the others are copies of these with other seeds, backbones and windows, whose kept scores are copied
along, as resampling all of them would take the better part of an hour.

Shapes: N clips of a partition, E emotions.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np

from emoshare.bench.svr_speed import time_block
from emoshare.core.config import Config
from emoshare.core.files import replacing, write_text
from emoshare.core.hashing import file_digests, write_sealed
from emoshare.core.kinds import values_of
from emoshare.data.partition import Corpus, Partition
from emoshare.metrics.registry import asked_metrics, principal
from emoshare.models import conformal
from emoshare.reporting import build, write
from emoshare.runs.folder import Run
from emoshare.runs.listing import ListedRun
from emoshare.runs.predictions import labels_of, score_and_write, tables_of
from emoshare.runs.resampled import Predictions, Resampling, scores_path
from emoshare.runs.results import BackboneRecord, Best, CorpusRecord, FramesRecord, Resolved, Results
from emoshare.runs.sweep import enlist

PARTS = {"devel": 9_925 / 51_813, "test": 10_143 / 51_813}  # of the paper's clips
BACKBONES, WINDOWS = 12, 14  # of the paper's grid; more runs are more seeds
MADE = 8  # runs that are made and resampled


def run(config: Config) -> None:
    """Print the seconds of a report of `bench.runs` runs, and how many times as long it takes without kept scores."""
    count, made = config.bench.runs, min(MADE, config.bench.runs)
    with tempfile.TemporaryDirectory(prefix="emoshare-bench-") as place:
        sweep = Path(place) / "bench"
        corpus, configs = random_corpus(config), list(islice(variants(config), count))
        originals = [make_run(sweep, run_config, corpus, seed) for seed, run_config in enumerate(configs[:made])]
        with time_block(f"scores of {made} runs, nothing kept") as first:
            build([sweep])
        with time_block(f"scores of {made} runs, kept") as second:
            build([sweep])
        copies = [
            copy_run(originals[at % made], run_config, corpus, at)
            for at, run_config in enumerate(configs[made:], start=made)
        ]
        pairs = zip([*originals, *copies], configs, strict=True)
        enlist(sweep, [ListedRun(run.name, "", [], values_of(run_config)) for run, run_config in pairs])
        with time_block(f"report of {count} runs, scores kept") as whole:
            write([sweep])
    without = whole[0] + (first[0] - second[0]) / made * count
    print(f"report: {count} runs {whole[0]:.1f} s, {without / whole[0]:.1f} × without kept scores")


def variants(config: Config) -> Iterator[Config]:
    """The config with every seed, and with each of that the backbones and windows of a grid."""
    seed = 0
    while True:
        for backbone in range(BACKBONES):
            for window in range(WINDOWS):
                named = replace(config.backbone, name=f"backbone_{backbone:02d}")
                cut = replace(config.window, seconds=0.5 * (window + 1))
                yield replace(config, backbone=named, window=cut, seed=seed)
        seed += 1


def random_corpus(config: Config) -> Corpus:
    """Devel and test with random shares in steps of a twentieth."""
    targets, start = tuple(config.data.targets), 0
    parts: dict[str, Partition] = {}
    for name, share in PARTS.items():
        clips, numbers = max(round(share * config.bench.corpus), 40), np.random.default_rng(len(parts))
        shares = np.round(20 * numbers.beta(1, 3, (clips, len(targets)))).astype(np.float32) / 20
        files = tuple(f"{name}_{clip:05d}.wav" for clip in range(clips))
        parts[name] = Partition(name, files, shares, np.full(clips, 2.9), start)
        start += clips
    return Corpus("bench", Path(), Path(), targets, parts, "bench", ())


def make_run(sweep: Path, config: Config, corpus: Corpus, seed: int) -> Run:
    """A finished run whose predictions are the labels and noise."""
    run = begin(sweep, config)
    numbers, true = np.random.default_rng(seed), labels_of(corpus, corpus.partitions)
    predicted = {
        name: (0.2 + 0.4 * shares + 0.1 * numbers.normal(size=shares.shape)).astype(np.float32)
        for name, shares in true.items()
    }
    metrics = asked_metrics(config)
    scores, main = cast(Any, score_and_write(run, corpus, predicted, metrics)), principal(metrics).name
    clips = {name: len(part.files) for name, part in corpus.partitions.items()}
    Results(
        run=run.name, sweep=sweep.name, seed=config.seed, system=config.head.system, config=values_of(config),
        targets=list(corpus.targets), corpus=CorpusRecord(corpus.name, corpus.fingerprint, clips),
        backbone=BackboneRecord(config.backbone.name), frames=FramesRecord("backbone"), resolved=Resolved(),
        versions={}, best=Best(0, scores["devel"][main]["mean"]), metrics=scores, epochs=1, timings={}, memory={},
        finished="", intervals=conformal.fit(predicted, true, corpus.targets),
        files=file_digests(run.folder, tables_of(run.folder)),
    ).write(run.results_path)  # fmt: skip
    return run


def begin(sweep: Path, config: Config) -> Run:
    """A run's folder as it is when it is started."""
    name = f"{config.backbone.name}-{config.window.seconds:g}s-seed{config.seed}"
    run = Run(sweep / name)
    run.folder.mkdir(parents=True)
    write_sealed(run.sources_path, {"corpus": "bench", "checkpoint": {"name": config.backbone.name}})
    return run


def copy_run(original: Run, config: Config, corpus: Corpus, number: int) -> Run:
    """A run of another config that predicts nearly the same: the last clip otherwise."""
    run, results, numbers = begin(original.folder.parent, config), original.results(), np.random.default_rng(number)
    assert results
    (run.folder / "reference").mkdir()
    for name, true in labels_of(corpus, corpus.partitions).items():
        reference, table = f"reference/{name}.csv", f"predictions/{name}.csv"
        os.link(original.folder / reference, run.folder / reference)
        *rows, last = (original.folder / table).read_text(encoding="utf-8").splitlines()
        shares = [last.partition(",")[0], *(f"{share:.9g}" for share in numbers.random(len(corpus.targets)))]
        write_text(run.folder / table, "\n".join([*rows, ",".join(shares), ""]))
        stored = Predictions.of(run.folder, name, np.empty(0))
        key = Resampling(true, None, results.scoring_metrics).key(stored)
        with np.load(scores_path(original.folder, name)) as arrays, replacing(stored.path) as path:
            np.savez(path, **{**arrays, "key": np.array(key)})
    change = 1 + 0.1 * numbers.normal()  # of the cell's scores, so that cells differ
    metrics = {
        part: {name: {what: score and score * change for what, score in row.items()} for name, row in table.items()}
        for part, table in results.metrics.items()
    }
    files = file_digests(run.folder, tables_of(run.folder))
    changed = replace(results, run=run.name, seed=config.seed, config=values_of(config), metrics=metrics, files=files)
    replace(changed, backbone=BackboneRecord(config.backbone.name)).write(run.results_path)
    return run
