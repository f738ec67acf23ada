"""A trained model in another form: one ONNX file, a model for OpenVINO, or a folder for the hub or for transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emoshare.core.errors import EmoshareError
from emoshare.inference.bundle import Bundle, open_bundle

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
FLOAT32 = "INFERENCE_PRECISION_HINT=f32"  # an OpenVINO model cannot hold it


@dataclass(frozen=True)
class Exported:
    """A written export."""

    place: Path
    error: float  # largest difference of a share from PyTorch's in float32
    own: str = ""  # why the run's own shares differ more, where they do

    def __str__(self) -> str:
        files = sorted(self.place.rglob("*")) if self.place.is_dir() else [self.place]
        files += [self.place.with_suffix(".bin")] if self.place.suffix == ".xml" else []
        size = sum(file.stat().st_size for file in files if file.is_file()) / 1e6
        more = f"; the run's own shares, {self.own}, differ more" if self.own else ""
        hint = f"; compile it with {FLOAT32}, as some processors round otherwise" if self.place.suffix == ".xml" else ""
        return f"{self.place}: {size:.1f} MB; largest difference of a share from PyTorch's {self.error:.1e}{more}{hint}"


def roundings(bundle: Bundle) -> str:
    """The roundings of a run's own shares that the files do not have; "" where nothing is."""
    resolved = [leaf.results.resolved for leaf, _ in bundle.leaves()]
    phrases = []
    for key, words in (("compute", "computed in"), ("stored", "from frames rounded to")):
        if kinds := sorted({getattr(one, key) or "float32" for one in resolved} - {"float32"}):
            phrases.append(f"{words} {' and '.join(kinds)}")
    return " ".join(phrases)


def export_model(
    source: str | Path, to: str, out: Path | None = None, license: str | None = None, cache: Path | None = None
) -> Exported:
    """Write a model in another form, checked against PyTorch, whole or not at all.

    Args:
        source: a run's folder, an exported folder, or the name of one on the hub.
        to: onnx, openvino, hub or transformers.
        out: file or folder to write; by default a file called as the run, in the working folder.
        license: of the trained head, for the model card (hub alone).
        cache: folder for what backbones compute; by default the run's.

    Raises:
        EmoshareError: there is no model, it cannot be written in that form, `out` is taken or has another suffix, or
            the shares differ too much.
    """
    bundle = open_bundle(source)
    if any(leaf.config.backbone.parts is not None for leaf, _ in bundle.leaves()):
        raise EmoshareError(f"{source}: a run on several backbones (concat) cannot be exported; use the run's folder")
    if any(leaf.config.backbone.from_file for leaf, _ in bundle.leaves()):
        raise EmoshareError(f"{source}: a run on features of a file cannot be exported, as nothing here computes them")
    if to in ("hub", "transformers"):
        from emoshare.inference.export import hub, native

        if out is None:
            raise EmoshareError(f"export: name the folder to write, as in --to {to} my-model")
        if to == "hub":
            return Exported(out, hub.export_hub(bundle, out, license, cache))
        return Exported(out, native.export_transformers(bundle, out, cache), roundings(bundle))
    from emoshare.inference.export.onnx import export_onnx
    from emoshare.inference.export.openvino import export_openvino

    suffix = SUFFIXES[to]
    path = Path(bundle.results.run + suffix) if out is None else out.expanduser()
    if path.suffix != suffix:
        raise EmoshareError(f"{path}: must end in {suffix}")
    error = {"onnx": export_onnx, "openvino": export_openvino}[to](bundle, path, cache)
    return Exported(path, error, roundings(bundle))
