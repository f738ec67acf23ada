"""A linear head on the mean of a speech encoder's frames as transformers' own `…ForSequenceClassification`.

Its folder is read by `pipeline("audio-classification")`, without emoshare. What it predicts is compared with the run's
shares before anything is kept; a clip is cut to the run's window for that, which transformers does not do.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from emoshare.backbones import architecture, checkpoint, ssl
from emoshare.backbones.writing import place_weights, without_progress
from emoshare.core.errors import EmoshareError
from emoshare.core.files import check_nothing_else, read_json, replacing_folder, write_text
from emoshare.core.ranges import width
from emoshare.core.version import __version__
from emoshare.data.window import Window
from emoshare.inference.bundle import CONFIG, Bundle
from emoshare.inference.export.card import LIMITS
from emoshare.inference.export.check import Engine, float32_model, largest_error
from emoshare.inference.part import Part
from emoshare.systems.kinds import mlp

SAME = 1e-6  # largest difference of a share from the run's
PROBLEMS = {  # output of the head → what transformers' pipeline applies the same function for
    "sigmoid": "multi_label_classification", "softmax": "single_label_classification", "linear": "regression",
}  # fmt: skip
MARK = "emoshare_version"  # in config.json, by which an earlier export is known


def export_transformers(bundle: Bundle, folder: Path, cache: Path | None = None) -> float:
    """Write the folder, whole or not at all. Returns the largest difference of a share from the run's.

    Raises:
        EmoshareError: the folder holds something else, transformers has no such model, or its shares are not the run's.
    """
    folder = folder.expanduser()
    check_place(folder)
    if reason := obstacle(bundle):
        raise EmoshareError(f"{bundle.results.run}: {reason}; use --to onnx or --to hub")
    model = float32_model(bundle, cache)
    part, _ = model.parts[0]
    with replacing_folder(folder) as unfinished:
        write_native(bundle, part, unfinished)
        write_text(unfinished / "README.md", card(bundle, folder.resolve().name))
        engine = run_pipeline(unfinished, part.window, list(model.targets))
        return largest_error(model, engine, bundle.results.run, "folder of transformers", SAME)


def check_place(folder: Path) -> None:
    """Raise EmoshareError where the folder would take the place of something else than an earlier export."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / CONFIG).is_file() or MARK not in read_json(folder / CONFIG, "name another folder"):
        raise EmoshareError(f"{folder}: holds something else than a model that emoshare exported; name another folder")
    check_nothing_else(folder, ("README.md", "*.json", "*.safetensors"), "the exported model")


def obstacle(bundle: Bundle) -> str:
    """The reason why transformers has no model for a run; empty where it has."""
    if bundle.results.is_fusion:
        return "a fusion has several heads"
    config = bundle.config
    head, backbone = config.head, config.backbone
    linear = {"hidden": 0, "pooling": "mean", "norm": "none"}
    if not isinstance(head, mlp.Options) or any(getattr(head, name) != value for name, value in linear.items()):
        return "its head is no single linear layer on the mean of frames (experiment=linear trains one)"
    if getattr(backbone, "module", None) is not ssl:
        return f"transformers has no class of it with a head on the mean of frames of backbone={backbone.name}"
    if config.window.pad == "zeros":
        return "its clips are filled with zeros, which transformers does not do (window=native trains without)"
    if bundle.results.range != [0, 1] and head.output != "linear":
        return "its shares are scaled to data.range, which transformers does not do (head.output=linear is)"
    return ""


def write_native(bundle: Bundle, part: Part, folder: Path) -> None:
    """Write the model and its feature extractor. EmoshareError where transformers has no such class."""
    from transformers import Wav2Vec2FeatureExtractor
    from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING as CLASSES

    config: Any = part.config.backbone
    source = checkpoint.locate(config)
    settings = architecture.describe(config, source, checkpoint.preprocessing(source))
    if type(settings) not in CLASSES:
        raise EmoshareError(f"{bundle.results.run}: transformers has no {settings.model_type} with such a head")
    if (
        config.layer.isdigit()
        and int(config.layer) < config.layers
        and getattr(settings, "do_stable_layer_norm", False)
    ):
        raise EmoshareError(
            f"{bundle.results.run}: transformers' head takes no layer before the final norm of {config.name}; use "
            "backbone.layer=last or weighted, or --to onnx"
        )
    encoder = checkpoint.build(config, settings, source, bundle.config.seed)
    place_weights(config, encoder, bundle.backbone_weights())
    settings = copy.deepcopy(settings)
    if config.layer.isdigit():  # the encoder ends there
        settings.num_hidden_layers = int(config.layer)
        encoder.encoder.layers = encoder.encoder.layers[: int(config.layer)]
    targets = bundle.results.targets
    settings.id2label = dict(enumerate(targets))
    settings.label2id = {name: number for number, name in enumerate(targets)}
    settings.problem_type = PROBLEMS[bundle.config.head.output]  # type: ignore[attr-defined]
    settings.classifier_proj_size, settings.use_weighted_layer_sum = settings.hidden_size, config.layer == "weighted"
    setattr(settings, MARK, __version__)
    kind: Any = CLASSES[type(settings)]
    native = kind(settings).eval()
    setattr(native, native.base_model_prefix, encoder)
    fill_head(native, bundle)
    with without_progress():
        native.save_pretrained(folder)
    normal, masked = part.extractor.identity["normalize"], architecture.norm_of(config.type, settings) == "layer"
    Wav2Vec2FeatureExtractor(do_normalize=normal, return_attention_mask=masked).save_pretrained(folder)


@torch.no_grad()
def fill_head(native: Any, bundle: Bundle) -> None:
    """Put the weights of the run's head into a model: nothing between frames and their mean, then its linear layer."""
    head: Any = bundle.head().module
    linear = next(layer for layer in head.mlp if isinstance(layer, nn.Linear))
    low = bundle.results.range[0]
    native.projector.weight.copy_(torch.eye(len(native.projector.weight)))
    native.projector.bias.zero_()
    native.classifier.weight.copy_(linear.weight * width(bundle.results.range))
    native.classifier.bias.copy_(linear.bias * width(bundle.results.range) + low)
    if native.config.use_weighted_layer_sum:
        native.layer_weights.copy_(head.mix.weight)


def run_pipeline(folder: Path, window: Window, targets: list[str]) -> Engine:
    """A folder in transformers' own pipeline, on the CPU, one clip at a time."""
    from transformers import pipeline

    with without_progress():
        classify = pipeline("audio-classification", model=str(folder), device="cpu", top_k=None, dtype=torch.float32)

    def engine(samples: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        rows = []
        for clip, length in zip(samples, lengths.tolist(), strict=True):
            told = {each["label"]: each["score"] for each in classify(window.cut(clip[:length]), top_k=None)}
            rows.append([told[target] for target in targets])
        return np.array(rows)

    return engine


def card(bundle: Bundle, name: str) -> str:
    """The text of README.md."""
    results, window, metrics = bundle.results, bundle.config.window, bundle.results.scoring_metrics
    scores = ", ".join(f"{metric.label} {results.score('devel', metric.name):.3f}" for metric in metrics)
    return (
        "---\nlibrary_name: transformers\npipeline_tag: audio-classification\n---\n\n"
        f"# {results.run}\n\nHow much of each emotion a voice carries: {', '.join(results.targets)}. A linear layer on "
        f"the mean of the frames of {results.backbone.name}, trained on {results.corpus.name}, emoshare {__version__}. "
        f"Devel: {scores}.\n\n```python\nfrom transformers import pipeline\n"
        f'pipeline("audio-classification", model="{name}", top_k=None)("clip.wav")\n```\n\n'
        f"The run saw clips of {window.seconds:g} s at most: cut longer ones.\n\n{LIMITS}\n"
    )
