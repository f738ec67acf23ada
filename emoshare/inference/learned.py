"""Which clips of a corpus a trained model has learned from: scores on them would say nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.data.corpus import Corpus, Partition
from emoshare.data.folds import FEWEST, split
from emoshare.data.groups import cluster_column
from emoshare.inference.bundle import Bundle
from emoshare.models.fusion import FITS


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
        files=tuple(file for file, kept in zip(part.files, keep, strict=True) if kept),
        shares=None if part.shares is None else part.shares[keep],
        seconds=part.seconds[keep],
        places=part.rows[keep],
    )


def learned_files(bundle: Bundle, corpus: Corpus) -> set[str]:
    """The files of the corpus that a model, or a member of a fusion, has learned from; none of another corpus."""
    results = bundle.results
    whole = corpus.undivided or corpus
    own = (results.corpus.get("folds") or {}).get("undivided", results.corpus["fingerprint"])
    if own not in (whole.fingerprint, corpus.fingerprint):
        return set()
    fitted = results.resolved.get("refit") or results.resolved.get("weights") in FITS
    parts = divided(whole, bundle).partitions
    found = {file for name in ("train", *(["devel"] if fitted else [])) for file in parts[name].files}
    if results.system == "fusion":
        found = found.union(*(learned_files(member, corpus) for member, _ in bundle.members()))
    return found


def divided(corpus: Corpus, bundle: Bundle) -> Corpus:
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
