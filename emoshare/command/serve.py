"""`emoshare serve`: a page on this machine that shows what runs say of a recording."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from emoshare.command.options import RUN, model_options
from emoshare.core.errors import EmoshareError

if TYPE_CHECKING:
    from emoshare.inference.model import Model

NETWORK = "warning: anybody on the network can use this page; without --host only this machine can"


def serve(arguments: list[str], verbose: bool) -> int:
    parser = argparse.ArgumentParser(
        "emoshare serve",
        description="A page in the browser: record or drop a file, and see its shares, run beside run. Nothing that is "
        "recorded is kept. Ctrl-C ends it.",
    )
    parser.add_argument("runs", nargs="+", metavar="run", help=RUN)
    parser.add_argument("--port", type=int, default=8765, help="of the page (default: 8765); 0: any free one")
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, which this machine alone can reach")
    model_options(parser)
    options = parser.parse_intermixed_args(arguments)
    if not 0 <= options.port <= 65535:
        parser.error(f"--port={options.port}: must be from 0 to 65535")
    if missing := [package for package in ("starlette", "uvicorn") if find_spec(package) is None]:
        raise EmoshareError(f'{" and ".join(missing)} not installed; run `pip install "emoshare[serve]"`')
    try:
        return open_page(options, verbose)
    except KeyboardInterrupt:  # there is nothing to go on with
        return 130


def open_page(options: argparse.Namespace, verbose: bool) -> int:
    from emoshare.command.console import speak
    from emoshare.inference.page import server, turns

    speak(verbose)
    with server.bind(options.host, options.port) as bound:
        models = load_models(options)

        def ready() -> None:
            if not server.is_loopback(bound):
                print(f"emoshare: {NETWORK}", file=sys.stderr, flush=True)
            print(f"{server.address(bound)} (Ctrl-C ends it)", flush=True)

        with contextlib.suppress(KeyboardInterrupt):
            server.make_server(models, bound, ready).run(sockets=[bound])
    if turns.computing():
        sys.stdout.flush()
        os._exit(0)  # what PyTorch computes cannot be interrupted, and nobody waits for it
    return 0


def load_models(options: argparse.Namespace) -> list[Model]:
    """The models of the runs, each folder's once, however its path is spelled.

    EmoshareError: a line for each that cannot be had.
    """
    from emoshare.inference.model import load_model

    models: dict[Path, Model] = {}
    problems = []
    for run in options.runs:
        try:
            model = load_model(run, options.device, options.cache, options.revision)
            model = models.setdefault(model.folder.resolve(), model)
            _ = model.parts  # loads the backbone: its errors belong here
        except EmoshareError as error:
            problems.append(str(error))
    if problems:
        raise EmoshareError("\n".join(dict.fromkeys(problems)))
    return list(models.values())
