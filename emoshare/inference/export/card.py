"""The model card of an exported folder: README.md, with the YAML that the hub reads on top."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from emoshare.backbones.checkpoint import HUB_NAME
from emoshare.core.errors import EmoshareError
from emoshare.core.version import __version__
from emoshare.inference.bundle import Bundle
from emoshare.metrics.bootstrap import drawn_units
from emoshare.metrics.metric import Metric
from emoshare.models.classes import CEILING
from emoshare.runs.groups import clusters_of
from emoshare.runs.predictions import verified_shares
from emoshare.runs.resampled import Predictions, Resampling

LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")
LIMITS = """\
- A share says how much of an emotion listeners heard in a clip, on average over many of them. It is no probability, the
  shares of a clip need not add up to 1, and it does not say what the speaker felt.
- How emotion sounds, and how it is heard, differs with language, culture, age and occasion. Scores hold for recordings
  like those it was trained on; on others, measure first (`emoshare evaluate`).
- The error of a single clip is given above, by target. Means over many clips are more certain than any one of them.
- Not for decisions about a person, as in hiring, policing, schooling, insurance or diagnosis. In the European Union,
  inferring emotions at work and in education is forbidden, but for medical and safety reasons (Regulation 2024/1689,
  Article 5)."""


def check_license(license: str | None) -> None:
    """Raise EmoshareError unless it is written as the hub writes licences."""
    if license is not None and not LICENSE.fullmatch(license):
        raise EmoshareError(
            f"--license {license}: must be an abbreviation as on the hub: mit, apache-2.0, cc-by-nc-4.0 …"
        )


def card(bundle: Bundle, parts: Sequence[Bundle], license: str | None, name: str) -> str:
    """The text of README.md.

    Args:
        bundle: as it was written, in whose folder the tables of predictions may still lie.
        parts: the runs that it is made of: itself, or those of a fusion.
        license: of the trained head, as the hub abbreviates it.
        name: of the folder, for the examples.
    """
    results, config = bundle.results, bundle.config
    bounds = {part: intervals(bundle, part) for part in results.metrics}
    unbounded = UNBOUNDED.format(*results.range)
    bounded = all(part.bounded for part in parts) and all(member.weight >= 0 for member in results.members)
    sections = [
        front_matter(bundle, license),
        f"# {results.run}",
        f"How much of each of {len(results.targets)} emotions a voice carries: {', '.join(results.targets)}. "
        f"Each is a number from {results.range[0]:g} to {results.range[1]:g}, as the labels of its corpus. "
        f"Trained and exported with emoshare {__version__}.",
        "## How to load",
        f'```python\nimport emoshare\nmodel = emoshare.load("<user>/{name}")  # or this folder\n'
        'model.predict("clip.wav")  # target → share\n```',
        needs(parts),
        "## What it was trained on",
        training_lines(bundle, parts),
        "## Scores",
        score_table(bundle, bounds),
        "## By target",
        target_table(bundle),
        "## Limits",
        LIMITS
        + ("" if bounded else unbounded)
        + (SYNTHETIC if config.data.name == "demo" else "")
        + "".join(f"\n- Of its corpus: {line}." for line in results.corpus.warnings),
        "## Licence",
        licences(parts, license),
        "## Upload",
        f"```bash\nhf upload <user>/{name} .\n```",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


UNBOUNDED = """
- Its shares are not limited to the range from {:g} to {:g}: one may lie a little below or above."""
SYNTHETIC = """
- It was trained on the demo corpus, which a program generates: an artificial voice with made-up labels. Its
  shares of real recordings mean nothing."""


def shown_metrics(bundle: Bundle) -> list[Metric]:
    """The metrics of a run but for means of others."""
    return [metric for metric in bundle.results.scoring_metrics if not metric.parts]


def base_models(bundle: Bundle) -> list[str]:
    """Hub names of the backbones that a model uses."""
    if bundle.results.is_fusion:
        return sorted({name for entry in bundle.results.members for name in entry.base_model})
    if trained_from := bundle.results.resolved.base_model:
        return trained_from
    path = bundle.config.backbone.path
    return [path] if "/" in path and HUB_NAME.fullmatch(path) else []


def front_matter(bundle: Bundle, license: str | None) -> str:
    """The card's metadata for the hub: licence, library, base models, tags and scores."""
    import yaml

    results = bundle.results
    values: dict[str, Any] = {"license": license} if license else {}
    values |= {"library_name": "emoshare", "pipeline_tag": "audio-classification"}
    if models := base_models(bundle):
        values["base_model"] = models if len(models) > 1 else models[0]
    values["tags"] = ["audio", "speech", "speech-emotion-recognition", "emotion-share-regression", "emoshare"]
    values["metrics"] = [metric.hub or metric.meaning for metric in shown_metrics(bundle)]
    tables = [
        {
            "task": {"type": "audio-classification", "name": "Emotion-share regression"},
            "dataset": {"name": results.corpus.name, "type": results.corpus.name, "split": part},
            "metrics": [
                {
                    "type": metric.hub or metric.name,
                    "name": f"{metric.meaning}, mean over targets",
                    "value": round(value, 4),
                }
                for metric in shown_metrics(bundle)
                if math.isfinite(value := results.score(part, metric.name))
            ],
        }
        for part in results.metrics
    ]
    tables = [item for item in tables if item["metrics"]]
    if tables:
        values["model-index"] = [{"name": results.run, "results": tables}]
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---"


def needs(parts: Sequence[Bundle]) -> str:
    """A text about what loading fetches or needs beside the folder."""
    lines = ["Samples of any rate and any format that libsndfile reads; `pip install .` in a clone of emoshare."]
    lines += dict.fromkeys(leaf.config.backbone.needs for leaf in parts if leaf.config.backbone.needs)
    return " ".join(lines)


def training_lines(bundle: Bundle, parts: Sequence[Bundle]) -> str:
    """Corpus, backbone, window and head, a line for each."""
    corpus, results = bundle.results.corpus, bundle.results
    amounts = [f"{name} {n:,} clips ({corpus.hours[name]:.2f} h)" for name, n in corpus.clips.items()]
    lines = [f"- Corpus: {corpus.name} (fingerprint {corpus.fingerprint[:12]}): {', '.join(amounts)}."]
    for leaf in parts:
        config, window = leaf.config, leaf.config.window
        state = "frozen" if config.backbone.frozen else "trained with the head"
        learned = config.head.words
        epoch = leaf.results.best.epoch
        epochs = "" if epoch is None else f", best epoch {epoch + 1} of {leaf.results.epochs}"
        seed = "" if leaf.results.seed is None else f", seed {leaf.results.seed}"
        padded = "shorter clips are filled with zeros" if window.pad == "zeros" else "shorter clips stay short"
        lines.append(
            f"- Backbone {leaf.results.backbone.name} ({state}) on {window.seconds:g} s from the "
            f"{'start' if window.crop == 'start' else 'middle'} of a clip ({padded}); {learned}"
            f"{seed}{epochs}."
        )
    if results.is_fusion:
        weights = ", ".join(f"{entry.backbone} {entry.weight:.3f}" for entry in results.members)
        lines.append(f"- The shares are the weighted mean of these parts: {weights}.")
    return "\n".join(lines)


def intervals(bundle: Bundle, part: str) -> tuple[str, dict[str, tuple[float, float]]]:
    """The units that the bootstrap draws, and 95 % intervals of the mean scores; none where the tables are gone."""
    folder, results = bundle.folder, bundle.results
    tables = [f"{kind}/{part}.csv" for kind in ("predictions", "reference")]
    if not all((folder / table).is_file() for table in tables):
        return "", {}
    (files, predicted), (_, true) = (verified_shares(folder, table, results) for table in tables)
    column, clusters = clusters_of(folder, part, files, bundle.config.data)
    drawn = f"the {drawn_units(clusters, column)}"
    (scores,) = Resampling(true, clusters, results.scoring_metrics).scores([Predictions.of(folder, part, predicted)])
    return drawn, {metric.name: scores.interval(metric.name) for metric in shown_metrics(bundle)}


def score_table(bundle: Bundle, bounds: dict[str, tuple[str, dict[str, tuple[float, float]]]]) -> str:
    """A row for each partition that has labels, and what is to be known of them."""
    results = bundle.results
    metrics = shown_metrics(bundle)
    titles = " | ".join(metric.meaning for metric in metrics)
    rows = [f"| partition | {titles} |", "| --- " * (1 + len(metrics)) + "|"]
    for part in results.metrics:
        cells = []
        for metric in (metric.name for metric in metrics):
            cell = score_text(results.score(part, metric))
            if metric in bounds[part][1]:
                cell += " ({} to {})".format(*map(score_text, bounds[part][1][metric]))
            cells.append(cell)
        rows.append(f"| {part} | {' | '.join(cells)} |")
    drawn = {part: drawn for part, (drawn, ends) in bounds.items() if ends}
    same = len(set(drawn.values())) == 1
    over = dict.fromkeys(text if same else f"{text} ({part})" for part, text in drawn.items())
    said = f", with 95 % bootstrap intervals over {' and '.join(over)}" if drawn else ""
    lines = [f"Means over the targets{said}. The model was chosen on devel."]
    lines += [f"{line[0].upper()}{line[1:]}." for line in results.lines if line != CEILING]
    return "\n".join(rows) + "\n\n" + " ".join(lines)


def target_table(bundle: Bundle) -> str:
    """Mean absolute error on devel and the scores of each target."""
    metrics = [metric for metric in shown_metrics(bundle) if not metric.overall]
    columns = [(part, metric.name) for part in bundle.results.metrics for metric in metrics]
    labels = (f"{part} {metric.label}" for part in bundle.results.metrics for metric in metrics)
    titles = ["target", "devel error", *labels]
    rows = ["| " + " | ".join(titles) + " |", "| --- " * len(titles) + "|"]
    for target in bundle.results.targets:
        cells = [score_text(bundle.devel_error.get(target, math.nan))]
        cells += [score_text(bundle.results.score(*column, target)) for column in columns]
        rows.append(f"| {target} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n\nThe error is the mean absolute difference from the listeners' shares."


def licences(parts: Sequence[Bundle], license: str | None) -> str:
    """The licences of the head and of each backbone."""
    head = (
        f"The trained head: {license}." if license else "The trained head: none was named; ask its authors before use."
    )
    lines = [head]
    for leaf in parts:
        backbone = leaf.config.backbone
        licence = backbone.licence or backbone.terms
        lines.append(f"The backbone {backbone.name}: {licence or 'see its own page or authors'}.")
    return "\n".join(dict.fromkeys(f"- {line}" for line in lines))


def score_text(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"
