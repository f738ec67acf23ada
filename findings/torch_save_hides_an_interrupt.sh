#!/bin/bash
# torch 2.13.0: what a file raises while torch.save writes to it comes out as RuntimeError "unexpected pos", as the end
# of the archive is written in any case and fails on its length. So Ctrl-C in torch.save is no KeyboardInterrupt:
# `except KeyboardInterrupt` around a training loop misses it, and `except Exception` takes it for a failure.
# Expected: KeyboardInterrupt. Found: RuntimeError, with the KeyboardInterrupt as its context.
set -e
D=$(mktemp -d); trap 'rm -rf -- "$D"' EXIT; cd "$D"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/python - <<'P'
import io, sys

import torch


class Interrupted(io.BytesIO):
    """A file in whose second write the user presses Ctrl-C."""

    writes = 0

    def write(self, content):
        self.writes += 1
        if self.writes == 2:
            raise KeyboardInterrupt
        return super().write(content)


try:
    torch.save({"weights": torch.zeros(10_000)}, Interrupted())
except BaseException as error:
    found = error
first = found
while first.__context__ is not None:
    first = first.__context__
print(f"torch {torch.__version__}: {type(found).__name__}, which began as {type(first).__name__}")
sys.exit(0 if (type(found), type(first)) == (RuntimeError, KeyboardInterrupt) else "this has changed")
P
