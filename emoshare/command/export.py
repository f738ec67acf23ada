"""`emoshare export`: a trained run as an ONNX file, for OpenVINO, or as a folder for the hub."""

from __future__ import annotations

import argparse
from pathlib import Path

from emoshare.command.options import RUN, cache_option, check_out

FORMS = ("onnx", "openvino", "hub", "transformers")


def export(arguments: list[str], verbose: bool) -> int:
    """Write the export that the command names, and print where it lies and how far its shares are from PyTorch's."""
    parser = argparse.ArgumentParser(
        "emoshare export",
        description="A trained run in another form. onnx, openvino: samples at 16 kHz → shares, without emoshare and "
        "PyTorch. hub: a folder with a model card, for emoshare.load and `hf upload`. transformers: a folder for its "
        "pipeline('audio-classification'), of a linear head on the mean of frames (experiment=linear). What is written "
        "has been compared with the run's own shares.",
    )
    parser.add_argument("run", help=RUN)
    parser.add_argument("--to", required=True, choices=FORMS, help="what to write")
    parser.add_argument("place", nargs="?", type=Path, help="file (.onnx, .xml) or folder to write; also as --out")
    parser.add_argument(
        "--out", type=Path, metavar="PLACE", help="default: <run>.onnx or <run>.xml here; a folder must be named"
    )
    parser.add_argument("--license", help="hub: of the trained head, as the hub abbreviates it (mit, cc-by-nc-4.0 …)")
    cache_option(parser)
    options = parser.parse_intermixed_args(arguments)
    if options.out and options.place:
        parser.error(f"two places to write: {options.place} and {options.out}")
    if options.license and options.to != "hub":
        parser.error("--license is for --to hub, whose model card names it")
    from emoshare.command.console import speak
    from emoshare.inference.export.forms import export_model

    speak(verbose)
    if place := options.out or options.place:
        check_out(place.absolute().parent)
    written = export_model(options.run, options.to, place, options.license, options.cache)
    print(written)
    return 0
