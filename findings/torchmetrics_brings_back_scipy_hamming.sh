#!/bin/bash
# torchmetrics 1.9.0 with scipy 1.17.1: `import torchmetrics` (and so `import pytorch_lightning`) writes a name into
# scipy.signal, `hamming`, which SciPy has removed. Code that still calls it works where Lightning was imported before,
# and fails alone, as in the script that serves what was trained. The other windows stay away: `hann` fails in both.
# Expected: AttributeError before and after. Found: scipy.signal.hamming is there after the import.
set -e
D=$(mktemp -d); trap 'rm -rf -- "$D"' EXIT; cd "$D"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0 torchmetrics==1.9.0 scipy==1.17.1 numpy==2.4.6
venv/bin/python - <<'P'
import sys

import scipy.signal

before = [hasattr(scipy.signal, name) for name in ("hamming", "hann")]
import torchmetrics

after = [hasattr(scipy.signal, name) for name in ("hamming", "hann")]
print(f"torchmetrics {torchmetrics.__version__}: scipy.signal.hamming, .hann before: {before}, after: {after}")
sys.exit(0 if (before, after) == ([False, False], [True, False]) else "this has changed")
P
