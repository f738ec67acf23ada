"""A run made of runs: the predictions of finished runs, fused by a mean, by given weights or by fitted ones.

A fusion is a run like any other: its folder `fusion-<members>-<8 hex>` holds config.yaml, predictions, reference,
figures and, written last, results.json, which names the members with their weights and scores. Its identity follows
from those of its members and their weights.

Fitted weights (learned, greedy) never see the clips that they are scored on: the fusion's devel predictions are
out-of-fold, its test predictions use the weights that were fitted on all of devel.

Shapes: R members, N clips, E emotions.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import astuple, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from emoshare.core.bases import TrackerOptions
from emoshare.core.config import Config, DataConfig, IntervalsConfig, PathsConfig, SweepConfig
from emoshare.core.errors import EmoshareError, together
from emoshare.core.files import write_json, write_text
from emoshare.core.folds import random_folds
from emoshare.core.hashing import file_digests
from emoshare.core.kinds import class_of, values_of
from emoshare.core.leftovers import sweep_tree
from emoshare.core.text import console_table
from emoshare.core.typed import fill
from emoshare.core.version import __version__
from emoshare.data.groups import Groups, known_cluster
from emoshare.data.partition import Corpus, Partition
from emoshare.metrics.metric import Metric
from emoshare.metrics.outside import source_hash
from emoshare.metrics.registry import AVG, asked_metrics, own_metrics, principal
from emoshare.models import conformal
from emoshare.models.fusion import FITS, FOLDS, ROUNDS, cross_fit, fit_of, weighted_mean
from emoshare.runs.folder import Run, lock
from emoshare.runs.groups import read_groups
from emoshare.runs.identity import short_hash
from emoshare.runs.logger import log_results, logging_to
from emoshare.runs.predictions import VOTES, Scores, describe_scores, score_and_write, tables_of, verified_shares
from emoshare.runs.resampled import Predictions, Resampling
from emoshare.runs.resolved import ResolvedRun
from emoshare.runs.results import FUSION, BackboneRecord, Best, FramesRecord, Gain, MemberRecord, Resolved, Results
from emoshare.runs.trackers.none import Options as Nowhere
from emoshare.training.members import Member, Weights, check_arguments, read_members, score_of, usable_metrics

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

log = logging.getLogger("emoshare")

LONGEST_LABEL = 60  # characters of the members' names in a folder's name


def fuse(
    folders: Sequence[Path], out: Path, weights: Weights = "mean", name: str | None = None,
    logger: TrackerOptions | None = None,
) -> Results:  # fmt: skip
    """Fuse finished runs, and write the fusion as a run below `out`; a finished fusion of the same is not made again.

    Args:
        folders: of two runs or more, of one corpus and one set of targets. Runs that differ in the seed alone, too.
        out: the folder that gets the fusion's folder.
        weights: "mean"; "learned" or "greedy" (fitted on devel, by cross-fitting); or a number per folder, divided by
            their sum.
        name: of the fusion, a row of the report; it changes nothing else.
        logger: where it is logged; None: as the members were.

    Raises:
        EmoshareError: one line for each mistake in the folders or the weights.
    """
    started = time.monotonic()
    given = None if isinstance(weights, str) else [float(weight) for weight in weights]
    *_, members = together(
        partial(check_arguments, folders, weights, given), partial(check_place, out),
        partial(read_members, folders) if folders else list,
    )  # fmt: skip
    order = sorted(range(len(members)), key=lambda r: members[r].identity)  # the order of the arguments says nothing
    members = [members[r] for r in order]
    given = given and [given[r] / sum(given) for r in order]
    rule = weights if isinstance(weights, str) else "given"
    config = config_of(members, out, name, usable(logger or logger_of(members[0])))
    resolved = ResolvedRun(config)
    resolved.sources = sources_of(members, rule, given, principal(asked_metrics(config)))
    resolved.run = run = Run(out / f"fusion-{label(members)}-{short_hash(resolved.identity)}")
    with lock(run.folder):
        sweep_tree(run.folder, alone=True)
        if (results := run.results()) and same_predictions(results, members):
            log.info("skipped, finished before: %s", run.folder)
            return results
        with logging_to(resolved) as loggers:
            results = make(resolved, members, rule, given, started, loggers)
    log.info("%s\nrun: %s", summary(results), run.folder)
    return results


def check_place(out: Path) -> None:
    """Raise EmoshareError for the folder of a run, in which no report would find the fusion."""
    if Run(out).config_path.exists() or Run(out).is_finished():
        raise EmoshareError(f"{out}: the folder of a run; name that of a sweep, or a new one, with --out")


def label(members: Sequence[Member]) -> str:
    """The members' backbones for the folder's name, each once; their number where that is long."""
    names = "+".join(sorted({member.results.backbone.name for member in members}))
    return names if len(names) <= LONGEST_LABEL and "/" not in names else f"{len(members)}_runs"


def config_of(members: Sequence[Member], out: Path, name: str | None, logger: TrackerOptions) -> Config:
    """The config of a fusion: of the members' corpus and intervals, with the members in the backbone's place."""
    known, place = members[0].results.config, str(members[0].run.results_path)
    data = fill(DataConfig, known["data"], place)
    head: Any = class_of("head", {"name": FUSION})()
    backbone: Any = class_of("backbone", {"type": FUSION})(label(members))
    return Config(
        data=data,
        backbone=backbone,
        head=head,
        logger=logger,
        paths=PathsConfig(outputs=str(out.parent)),
        sweep=SweepConfig(name=out.name, row=name),
        metrics=usable_metrics(members),
        intervals=fill(IntervalsConfig, known.get("intervals", {}), place),
    )


def logger_of(member: Member) -> TrackerOptions:
    """The tracker of a member."""
    return fill(Config, {"logger": member.results.config["logger"]}, str(member.run.results_path)).logger


def usable(logger: TrackerOptions) -> TrackerOptions:
    """The tracker, or none if it cannot be used here."""
    try:
        logger.check(Config(logger=logger))
    except EmoshareError as error:
        log.warning("%s; the fusion is not logged", error)
        return Nowhere()
    return logger


def sources_of(members: Sequence[Member], rule: str, given: list[float] | None, select: Metric) -> dict[str, Any]:
    """The rest of a fusion's identity beside its config: the corpus, and its members with their weights.

    select: the metric of a greedy selection.
    """
    checkpoint: dict[str, Any] = {"members": [member.identity for member in members], "weights": given or rule}
    checkpoint |= settings_of(rule, select)
    return {"corpus": members[0].results.corpus.fingerprint, "checkpoint": checkpoint}


def settings_of(rule: str, select: Metric) -> dict[str, Any]:
    """The settings that fitted weights depend on beside the members."""
    settings = {"folds": FOLDS} if rule in FITS else {}
    selected = {} if select is AVG else {"select": select.name + source_hash(select.name)}
    return settings | ({"rounds": ROUNDS} | selected if rule == "greedy" else {})


def same_predictions(results: Results, members: Sequence[Member]) -> bool:
    """Whether the members still predict as when a finished fusion was made: they may have been trained again."""
    return [member.predictions for member in results.members] == [member.fingerprint for member in members]


def make(
    resolved: ResolvedRun, members: Sequence[Member], rule: str, given: list[float] | None, started: float,
    loggers: list[Logger],
) -> Results:  # fmt: skip
    """Fuse, write the tables and figures, and results.json last."""
    run, config, corpus = resolved.run, resolved.config, corpus_of(members)
    true = corpus.partitions["devel"].shares
    assert true is not None
    main = principal(used := asked_metrics(config))
    fused, values = join_shares(members, true, rule, given, main)
    write_text(run.config_path, yaml.safe_dump(values_of(config), sort_keys=False))
    write_json(run.sources_path, resolved.sources)
    metrics = score_and_write(run, corpus, fused, used)
    from emoshare.runs import run_plots

    predicted, reference = (run.folder / part / "devel.csv" for part in ("predictions", "reference"))
    run_plots.share_scatter(predicted, reference, run.folder / "figures" / "shares.png", corpus.range)
    gained = gain_over_best_member(run, members, corpus, fused, metrics, used)
    known = {name: part.shares for name, part in corpus.partitions.items() if part.shares is not None}
    rule_of = config.intervals.level, config.intervals.calibration
    remarks, classes = describe_scores(corpus, fused)
    seconds = time.monotonic() - started
    results = Results(
        run=run.name,
        sweep=config.sweep.name,
        seed=None if all(member.results.seed is None for member in members) else 0,
        system=config.head.name,
        config=values_of(config),
        targets=list(corpus.targets),
        corpus=members[0].results.corpus,
        backbone=BackboneRecord(config.backbone.name),
        frames=FramesRecord("members"),
        resolved=Resolved(weights=rule, rest=settings_of(rule, main)),
        versions={"emoshare": __version__, **{name: version(name) for name in ("numpy", "scipy")}},
        best=replace(gained, score=metrics["devel"][main.name]["mean"]),
        metrics=metrics,  # type: ignore[arg-type]
        epochs=None,
        timings={"extract_seconds": 0.0, "fit_seconds": seconds, "total_seconds": seconds},
        memory={"host_peak_gb": None, "gpu_peak_gb": None},
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        members=[member_record(member, value, run) for member, value in zip(members, values, strict=True)],
        intervals=conformal.fit(fused, known, corpus.targets, corpus.clusters_of("devel"), *rule_of),
        files=file_digests(run.folder, tables_of(run.folder)),
        remarks=remarks,
        own_metrics=own_metrics(used),
        classes=classes,
    )
    results.write(run.results_path)
    log_results(resolved, loggers, results, fused, corpus, [run.folder / "figures" / "shares.png"])
    return results


def join_shares(
    members: Sequence[Member], true: np.ndarray, rule: str, given: list[float] | None, select: Metric
) -> tuple[dict[str, np.ndarray], list[float]]:
    """Partition → the weighted mean (N, E) of the members' shares, and the weights.

    Args:
        members: of the fusion.
        true: (N, E) labels of devel, which fitted weights are cross-fitted on.
        rule: mean, given, or one of FITS.
        given: a weight for each member; None: equal ones.
        select: the metric of a greedy selection.
    """
    stacked = {name: np.stack([member.shares[name] for member in members]) for name in members[0].shares}  # (R, N, E)
    values = given or [1 / len(members)] * len(members)
    if rule in FITS:
        values = fit_of(rule, select)(stacked["devel"], true).tolist()
    fused = {name: weighted_mean(shares, values) for name, shares in stacked.items()}
    if rule in FITS:
        folds = random_folds(np.arange(len(true)), FOLDS)
        fused["devel"] = cross_fit(stacked["devel"], true, folds, fit_of(rule, select))
    return fused, values


def member_record(member: Member, weight: float, fusion: Run) -> MemberRecord:
    """The record of a member in results.json of its fusion."""
    return MemberRecord(
        run=member.results.run,
        weight=weight,
        folder=str(member.run.folder),
        from_fusion=os.path.relpath(member.run.folder, fusion.folder.resolve()),
        identity=member.identity,
        predictions=member.fingerprint,
        backbone=member.results.backbone.name,
        system=member.results.system,
        seed=member.results.seed,
        metrics=member.results.metrics,
        seconds=member.results.timings.get("total_seconds"),
    )


def corpus_of(members: Sequence[Member]) -> Corpus:
    """Devel and test from the members' folders: clips, and where they are known labels and durations."""
    first, partitions, start = members[0], {}, 0
    for name, files in first.files.items():
        reference = first.run.folder / "reference" / f"{name}.csv"
        shares, seconds, votes = None, np.zeros(len(files)), None
        if reference.exists():
            kept = [VOTES] if first.results.config["data"]["normalize"] == "votes" else []
            columns = [*first.results.targets, "seconds", *kept]
            clips, values = verified_shares(first.run.folder, f"reference/{name}.csv", first.results, columns)
            if clips != files:
                raise EmoshareError(f"{reference}: not the clips of the predictions; train the run again")
            targets = len(first.results.targets)
            shares, seconds = values[:, :targets].astype(np.float32), values[:, targets]
            votes = values[:, -1].astype(np.float32) if kept else None
        elif name in first.results.metrics:
            raise EmoshareError(f"{reference}: it is missing; train the run again")
        partitions[name] = Partition(name, files, shares, seconds, start, votes=votes)
        start += len(files)
    place, record, groups = first.run.folder, first.results.corpus, groups_of(first)
    names = record.name, place, place, tuple(first.results.targets)
    data = fill(DataConfig, first.results.config["data"], str(first.run.results_path))
    cluster = known_cluster(data, groups)
    return Corpus(*names, partitions, record.fingerprint, (), (), groups, cluster, record.folds, range=data.range)


def groups_of(first: Member) -> Groups:
    """Column → (N,) the groups of all clips of a member, one partition after the other; empty where it has none."""
    read = [read_groups(first.run.folder, name) for name in first.files]
    tables = [item[1] for item, files in zip(read, first.files.values(), strict=True) if item and item[0] == files]
    columns = set.intersection(*map(set, tables)) if len(tables) == len(read) else set()
    return {column: np.concatenate([table[column] for table in tables]) for column in sorted(columns)}


def gain_over_best_member(
    run: Run, members: Sequence[Member], corpus: Corpus, fused: dict[str, np.ndarray], scores: dict[str, Scores],
    metrics: Sequence[Metric],
) -> Best:  # fmt: skip
    """The best member on devel, and the fusion's score minus its, each with its paired 95 % interval.

    Fusion and member are scored on the same 1,000 resamples of the clips. The member is chosen by its devel score, so
    that the differences on devel are a little in its favour.
    """
    main = principal(metrics)
    best = members[main.best([score_of(member, corpus, "devel", main) for member in members])]
    gains: dict[str, dict[str, Gain]] = {}
    for name, table in scores.items():
        true = corpus.partitions[name].shares
        assert true is not None
        pair = (run.folder, fused[name]), (best.run.folder, best.shares[name])
        stored = [Predictions.of(folder, name, shares) for folder, shares in pair]
        mine, theirs = Resampling(true, corpus.clusters_of(name), metrics).scores(stored)
        gains[name] = {}
        for metric in metrics:
            difference = table[metric.name]["mean"] - score_of(best, corpus, name, metric)
            gains[name][metric.name] = Gain(difference, *mine.gain(theirs, metric.name))
    return Best(member=best.results.run, gain=gains)


def summary(results: Results) -> str:
    """The table at the end of a fusion: members and fusion with their scores, and the gain over the best member."""
    shown = [(part, m) for part in results.metrics for m in results.scoring_metrics[: None if part == "devel" else 1]]
    columns = [(part, metric.name) for part, metric in shown]
    titles = ("run", "weight", *(f"{part} {metric.label}" for part, metric in shown))
    main = results.main
    rows = [
        (member.run, f"{member.weight:.3f}", *(decimal(member.score(*column)) for column in columns))
        for member in results.members
    ]
    rows.append((FUSION, "", *(decimal(results.score(*column)) for column in columns)))
    lines = results.lines
    for part, gains in results.best.gain.items():
        difference, low, high = (decimal(value, "+") for value in astuple(gains[main.name]))
        bounds = f"(95 % interval {low} to {high})"
        lines.append(f"{part} {main.label} against {results.best.member}: {difference} {bounds}")
    return f"\n{results.run}\n{console_table(titles, rows)}" + "\n".join(lines)


def decimal(value: float | None, sign: str = "") -> str:
    return "–" if value is None or math.isnan(value) else f"{value:{sign}.4f}"
