"""Loose files through the frame store: what has been computed for them before, by whatever, is not computed again."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from emoshare.backbones import concat
from emoshare.core.errors import EmoshareError
from emoshare.core.parts import parts_of
from emoshare.core.prefetch import prefetch
from emoshare.data import audio
from emoshare.data.channels import mono
from emoshare.inference.embed import Embedder, Embeddings, batches
from emoshare.inference.model import Model
from emoshare.inference.part import Encoder
from emoshare.inference.predict import Predicted
from emoshare.inference.reading import Reading
from emoshare.inference.recording import MAX_MB, Speechless, about_channels
from emoshare.inference.shares import Shares
from emoshare.store.clips import Clips
from emoshare.store.extract import frames_of
from emoshare.store.tensors import JoinedStore, TensorStore

log = logging.getLogger("emoshare")

Facts = tuple[bytes, float, str, Speechless]  # sha256 of a file's bytes, seconds, a line where it is odd, and itself
Known = dict[str, tuple[bytes, float]]  # file → sha256 of its bytes and seconds


def with_features(model: Model, path: Path) -> Model:
    """The model with features of a file in place of those that it was trained on.

    Raises:
        EmoshareError: it reads no such features, or those of several files; or this one has others.
    """
    backbones = [
        backbone for part, _ in model.parts for backbone in parts_of(part.config.backbone) or [part.config.backbone]
    ]
    own = {backbone.path for backbone in backbones if backbone.from_file}
    if len(own) != 1:
        found = f"of {len(own)} files" if own else "no features of a file"
        raise EmoshareError(f"--features: {model.results.run} reads {found}; it takes a run on those of one")
    parts = [
        (replace(part, extractor=concat.with_features(part.extractor, str(path))), weight)
        for part, weight in model.parts
    ]
    return Model(model.bundle, model.device, model.cache, parts)


def predict_stored(
    model: Model, files: Sequence[Path], windows: float | None = None, scale: float | None = None
) -> Predicted:
    """Predict as `predict_files`, one window a file, with frames of the store.

    Raises:
        EmoshareError: frames of the backbone are not stored, or it cannot work on a file.
    """
    reading = Reading(model.results.run, len(files))
    known = inspect_all(files, reading, scale)
    total = np.zeros((len(known), len(model.targets)))
    starts, ends = np.full(len(known), np.inf), np.zeros(len(known))
    for part, weight in model.parts:
        sized = part.resize(windows)
        for rows, frames, counts in batches(store_of(known, sized, model.cache, scale)):
            total[rows] += weight * part.learned.score(frames.to(model.device).float(), counts.to(model.device))
        places = [sized.span(seconds) for _, seconds in known.values()]
        starts = np.minimum(starts, [start for start, _ in places])
        ends = np.maximum(ends, [end for _, end in places])
    table = Shares(tuple(known), starts, ends, model.in_range(total), model.targets)
    return Predicted(table, reading, {name: seconds for name, (_, seconds) in known.items()})


def embed_stored(
    embedder: Embedder, files: Sequence[Path], cache: Path, windows: float | None = None, scale: float | None = None
) -> tuple[Embeddings, dict[str, str]]:
    """Embed as `embed_files`, one window a file, with frames of the store. EmoshareError as `predict_stored`."""
    sized = Embedder(embedder.encoder.resize(windows), embedder.pooling)
    reading = Reading(embedder.encoder.config.backbone.name, len(files))
    known = inspect_all(files, reading, scale)
    store = store_of(known, sized.encoder, cache, scale)
    for line in reading.warnings:
        log.warning(line)
    return sized.gather(list(known), [seconds for _, seconds in known.values()], store), reading.failed


def store_of(known: Known, encoder: Encoder, cache: Path, scale: float | None) -> TensorStore | JoinedStore:
    """The frames of files, of which those are computed that are not stored."""
    if encoder.rounded is None:
        raise EmoshareError(
            f"{encoder.config.backbone.name}: its frames are not stored, as the run trained it or ran it in its loop; "
            "leave out --store"
        )
    digests, seconds = zip(*known.values(), strict=True) if known else ((), ())
    clips = Clips("files", [Path(name) for name in known], digests, seconds, encoder.window, scale=scale)
    return frames_of(clips, encoder.extractor, cache, encoder.config.backbone.name)


def inspect_all(files: Sequence[Path], reading: Reading, scale: float | None) -> Known:
    """Files by name, in their order; those that cannot be read are failed."""
    known: Known = {}
    with closing(prefetch(partial(inspect, scale=scale), map(str, files), ahead=8)) as inspected:
        for name, facts in inspected:
            if isinstance(facts, EmoshareError):
                reading.failed[name] = str(facts)
            else:
                known[name] = facts[:2]
                reading.seconds += facts[1]
                reading.odd += filter(None, [facts[2]])
                reading.speechless.add(facts[3])
    if not known:
        raise EmoshareError("\n".join(reading.failed.values()))
    reading.done = len(known)
    return known


def inspect(name: str, scale: float | None) -> tuple[str, Facts | EmoshareError]:
    """The facts about a file, or what is wrong with it."""
    try:
        with audio.name_errors(name):
            info, data, wave = audio.inspect(name, MAX_MB, scale)
            mono(wave)
    except EmoshareError as error:
        return name, error
    speechless = Speechless()
    speechless.note(name, info.seconds, wave)
    return name, (hashlib.sha256(data).digest(), info.seconds, about_channels(name, wave), speechless)
