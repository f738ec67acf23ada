#!/bin/bash
# torchmetrics 1.9.0: ConcordanceCorrCoef is documented by Lin's equation, whose moments are over n, but takes covariance
# and variances over n - 1 beside the squared difference of the means, which has no such factor. So it is neither Lin's
# coefficient nor the unbiased form throughout, and depends on n: the same pairs said twice score differently.
# Expected: a definition in population moments gives one number, however often the sample is repeated. Found: two.
set -e
D=$(mktemp -d); trap 'rm -rf -- "$D"' EXIT; cd "$D"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0 torchmetrics==1.9.0 numpy==2.4.6
venv/bin/python - <<'P'
import sys

import torch
from torchmetrics import ConcordanceCorrCoef


def theirs(true, predicted):
    metric = ConcordanceCorrCoef().set_dtype(torch.float64)
    metric.update(predicted, true)
    return float(metric.compute())


def lin(true, predicted, less):
    """less: what is taken off n in the moments."""
    n = len(true) - less
    t, p = true - true.mean(), predicted - predicted.mean()
    return float(2 * (t @ p) / n / ((t @ t) / n + (p @ p) / n + (true.mean() - predicted.mean()) ** 2))


true = torch.tensor([0.1, 0.4, 0.3, 0.9], dtype=torch.float64)
predicted = true + torch.tensor([0.5, 0.4, 0.6, 0.3], dtype=torch.float64)
once, twice = theirs(true, predicted), theirs(true.repeat(2), predicted.repeat(2))
print(f"torchmetrics: {once:.4f}, with every pair twice {twice:.4f}")
print(f"over n: {lin(true, predicted, 0):.4f}, with every pair twice {lin(true.repeat(2), predicted.repeat(2), 0):.4f}")
print(f"over n - 1: {lin(true, predicted, 1):.4f}")
same = abs(once - lin(true, predicted, 1)) < 1e-9 and abs(once - lin(true, predicted, 0)) > 0.01
sys.exit(0 if same and abs(once - twice) > 0.01 else "this has changed")
P
