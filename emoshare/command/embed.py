"""`emoshare embed`: embeddings of files, folders or a corpus, by a run's backbone or one that overrides name."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from emoshare.command.options import check_file, check_sections, check_store, model_options, window_options
from emoshare.command.predict import report_failed
from emoshare.core.errors import EmoshareError, together

if TYPE_CHECKING:
    from emoshare.core.config import Config
    from emoshare.inference.embed import Embedder, Embeddings
    from emoshare.inference.part import Encoder

OVERRIDE = re.compile(r"[+~]*[a-z_]+(\.\w+)*=.*")
FOR_RUN = ("data", "paths", "cache")  # sections that are read
FOR_BACKBONE = (*FOR_RUN, "backbone", "window", "extract", "seed", "head", "experiment", "system")
FORMS = "embed: name a run, or a backbone (backbone=logmel), and files, folders or a corpus (data=demo)"


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options of the verb."""
    parser = argparse.ArgumentParser(
        "emoshare embed",
        description="Embeddings of recordings: the mean of a backbone's frames by default. A corpus is taken from the "
        "frame store, which is filled first if need be.",
    )
    parser.add_argument(
        "what", nargs="+", metavar="RUN | backbone=… | PATH | data=…",
        help="a run, or overrides that choose a backbone and window; then files and folders, or a corpus",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="an .npz, .parquet or .csv file")
    parser.add_argument(
        "--pooling", default="mean", choices=("mean", "std", "mean_std", "frames"),
        help="over the frames of a window (default: mean); frames: a row per frame",
    )  # fmt: skip
    window_options(parser)
    model_options(parser)
    return parser.parse_intermixed_args(arguments)


def embed(arguments: list[str], verbose: bool) -> int:
    """Exit status 1 where a file could not be used."""
    options = parse(arguments)
    from emoshare.command.compose import compose_one
    from emoshare.command.console import quiet, speak
    from emoshare.inference.embed import Embedder, check_path
    from emoshare.inference.recording import check_scale, check_windows

    speak(verbose)
    together(
        partial(check_path, options.out), partial(check_windows, options.windows, options.step),
        partial(check_scale, options.scale), partial(check_store, options),
    )  # fmt: skip
    overrides = [word for word in options.what if OVERRIDE.fullmatch(word)]
    others = [word for word in options.what if not OVERRIDE.fullmatch(word)]
    named = any(word.partition("=")[0].startswith("backbone") for word in overrides)
    run, paths = (None, others) if named else (others[0] if others else None, others[1:])
    of_corpus = any(word.partition("=")[0].partition(".")[0] == "data" for word in overrides)
    if (run is None and not named) or bool(paths) == of_corpus:
        raise EmoshareError(FORMS)
    check_sections(overrides, FOR_RUN if run else FOR_BACKBONE, "embed with a run" if run else "embed")
    check_options(options, overrides, run, of_corpus)
    if of_corpus and options.scale is not None:
        overrides.append(f"data.scale={options.scale}")
    config = compose_one(overrides if of_corpus else [*overrides, "data=demo"])  # which is not read then
    if of_corpus and run is None and not config.backbone.cache:
        raise EmoshareError("backbone.cache=false: embeddings of a corpus are made of stored frames; leave it out")
    check_file(options.out, [getattr(config.backbone, "path", None), *paths])
    embedder = Embedder(encoder_of(run, config, options), options.pooling)
    skipped: list[Path] = []
    table, failed = (
        corpus_table(embedder, config)
        if of_corpus
        else recordings_table(embedder, paths, options, Path(options.cache or config.paths.cache), skipped)
    )
    quiet()
    table.write(options.out)
    print(f"{options.out}: {len(table)} row{'s' * (len(table) != 1)} of {table.values.shape[1]} numbers")
    return report_failed(failed, len(set(table.files)), skipped)


def check_options(options: argparse.Namespace, overrides: Sequence[str], run: str | None, of_corpus: bool) -> None:
    """Raise EmoshareError for options that a corpus does not read, and for two lengths of a window."""
    given = [f"--{name}" for name in ("windows", "step", "recursive") if getattr(options, name) not in (None, False)]
    if of_corpus and given:
        theirs = f"those that {run} was trained with" if run else "those of window.seconds"
        text = f"for files and folders, and the windows of a corpus are {theirs}"
        raise EmoshareError(f"{' and '.join(given)}: {text}; leave {'it' if len(given) == 1 else 'them'} out")
    for word in overrides:
        if options.windows is not None and word.lstrip("+").startswith("window.seconds="):
            raise EmoshareError(f"--windows {options.windows:g}: {word} is another length of the window; leave one out")


def encoder_of(run: str | None, config: Config, options: argparse.Namespace) -> Encoder:
    """The backbone of a run, or that of a config."""
    from emoshare.inference.embed import check_mixed
    from emoshare.inference.model import device_of, load_model
    from emoshare.inference.part import make_encoder

    if run is None:
        return check_mixed(make_encoder(config, device_of(options.device)))
    model = load_model(run, options.device, options.cache, options.revision)
    return model.encoder()


def corpus_table(embedder: Embedder, config: Config) -> tuple[Embeddings, dict[str, str]]:
    """The clips of a corpus, by frames of the store."""
    from emoshare.data.corpus import load
    from emoshare.store.clips import Clips
    from emoshare.store.extract import frames_of

    encoder, cache = embedder.encoder, Path(config.paths.cache)
    corpus = load(config.data, cache)
    name = f"{encoder.config.backbone.name} {encoder.window.seconds:g} s"
    store = frames_of(Clips.of_corpus(corpus, encoder.window), encoder.extractor, cache, name, config.cache.max_gb)
    return embedder.gather(corpus.files, corpus.seconds.tolist(), store), {}


def recordings_table(
    embedder: Embedder, paths: Sequence[str], options: argparse.Namespace, cache: Path, skipped: list[Path]
) -> tuple[Embeddings, dict[str, str]]:
    """Files and what folders hold; and what is wrong with those that could not be used."""
    from emoshare.inference.embed import embed_files
    from emoshare.inference.recording import files_of

    files = files_of(paths, options.recursive, skipped)
    if check_store(options):
        from emoshare.inference.stored import embed_stored

        return embed_stored(embedder, files, cache, options.windows, options.scale)
    return embed_files(embedder, files, options.windows, options.step, options.scale)
