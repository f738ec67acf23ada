"""What `emoshare bench` measures beside a sweep: `bench predict` and `bench workers`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def predict(overrides: list[str], verbose: bool) -> int:
    """`emoshare bench predict`: latency and throughput against transformers' own pipeline."""
    from emoshare.command.compose import compose_one
    from emoshare.command.console import speak
    from emoshare.core.files import write_json
    from emoshare.core.hardware import choose_device
    from emoshare.inference.speed import prediction_speed, speed_text

    config = compose_one([*overrides, "data=demo"])  # which is not read
    device = choose_device(config)
    speak(verbose)
    found = prediction_speed(config, device)
    write_json(Path(config.paths.outputs) / "bench" / f"predict-{found['backbone']}-{found['window']:g}s.json", found)
    sys.stdout.write(speed_text(found))
    return 0


def workers(arguments: list[str], verbose: bool) -> int:
    """`emoshare bench workers`: what sharing an extraction costs, with a backbone that takes no core."""
    parser = argparse.ArgumentParser(
        "emoshare bench workers",
        description="How much sooner an extraction ends with more processes, if the backbone takes no core of this "
        "machine: what is missing to the ideal is what sharing costs.",
    )
    parser.add_argument(
        "--pause", type=float, default=0.5, metavar="SECONDS",
        help="that 128 clips take, as on a fast GPU (default: 0.5)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if not 0 < options.pause < float("inf"):
        parser.error(f"--pause={options.pause:g}: must be more than 0")
    from emoshare.bench.sharing import sharing_speed, sharing_text
    from emoshare.command.console import speak

    speak(verbose)
    sys.stdout.write(sharing_text(sharing_speed(options.pause), options.pause))
    return 0
