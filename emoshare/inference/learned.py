"""The clips of a corpus that a trained model has learned from: scores on them would say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.data.corpus import load
from emoshare.data.folds import FEWEST, split
from emoshare.data.groups import cluster_column
from emoshare.data.partition import Corpus, Partition
from emoshare.inference.bundle import Bundle
from emoshare.models.fusion import FITS
from emoshare.runs.subset import take_clips


def unseen(corpus: Corpus, bundle: Bundle) -> tuple[Corpus, dict[str, int]]:
    """The corpus without the clips that a model has learned from, and how many of each partition these are.

    Raises:
        EmoshareError: the model was trained on folds of this corpus by a column that was not read.
    """
    learned = learned_files(bundle, corpus)
    partitions: dict[str, Partition] = {}
    gone: dict[str, int] = {}
    for name, part in corpus.partitions.items():
        keep = np.array([file not in learned for file in part.files], bool)
        if keep.all():
            partitions[name] = part
            continue
        gone[name] = int((~keep).sum())
        if keep.sum() >= FEWEST:  # fewer have no correlation
            partitions[name] = subset(part, keep)
    return replace(corpus, partitions=partitions), gone


def subset(part: Partition, keep: np.ndarray) -> Partition:
    """A partition of the clips of another that are true in `keep` (N,)."""
    return replace(
        part,
        files=tuple(file for file, chosen in zip(part.files, keep, strict=True) if chosen),
        shares=None if part.shares is None else part.shares[keep],
        seconds=part.seconds[keep],
        places=part.rows[keep],
        votes=None if part.votes is None else part.votes[keep],
    )


def learned_files(bundle: Bundle, corpus: Corpus) -> set[str]:
    """The files of the corpus that a model, or a member of a fusion, has learned from.

    Of another corpus, or the same clips with other labels, these are the files with the bytes of a clip that it has
    learned from, if its own corpus is at hand.
    """
    results = bundle.results
    whole = corpus.undivided or corpus
    fingerprint = results.corpus.folds.undivided if results.corpus.folds else results.corpus.fingerprint
    fitted = results.resolved.refit or results.resolved.weights in FITS
    names = ("train", *(["devel"] if fitted else []))
    if fingerprint in (whole.fingerprint, corpus.fingerprint):
        parts = split_as_trained(whole, bundle).partitions
        files = {file for name in names for file in parts[name].files}
    else:
        digests = learned_digests(bundle, names)
        clips = zip(corpus.files, corpus.digests, strict=True) if digests else ()
        files = {file for file, digest in clips if digest in digests}
    if results.is_fusion:
        files = files.union(*(learned_files(member, corpus) for member, _ in bundle.members()))
    return files


def learned_digests(bundle: Bundle, names: Sequence[str]) -> set[bytes]:
    """The digests of the clips of some partitions of a model's own corpus; none where that is not at hand any more."""
    config = bundle.leaves()[0][0].config
    if not (Path(config.data.root).expanduser() / (config.data.table or config.data.train)).exists():
        return set()
    try:
        home = take_clips(load(config.data, Path(config.paths.cache)), config.limit)
    except EmoshareError:
        return set()
    if home.fingerprint != bundle.results.corpus.fingerprint:
        return set()
    return {home.digests[row] for name in names for row in home.partitions[name].rows}


def split_as_trained(corpus: Corpus, bundle: Bundle) -> Corpus:
    """The corpus in the folds, if any, that a model was trained on."""
    config = bundle.leaves()[0][0].config.data  # a fusion's own says nothing of its corpus
    if not config.folds:
        return corpus
    column = cluster_column(config) if config.folds.isdigit() else config.folds
    if column and column not in corpus.groups:
        raise EmoshareError(
            f"{corpus.root}: {bundle.results.run} was trained on folds of this corpus by {column}: name "
            f"that column in data.groups, so that the clips that it has learned from can be left out"
        )
    return split(corpus, config)
