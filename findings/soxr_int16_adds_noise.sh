#!/bin/bash
# soxr 1.1.0: resample() of int16 samples dithers: digital silence comes back as noise of -1, 0 and 1, two equal channels
# come back different, and the error is 1.7 times that of rounding. float32 and int32 samples are not dithered. Neither the
# docstring of resample() nor its arguments say so; there is no argument to leave it out.
# Expected: silence stays silence, as for floats, and equal channels stay equal. Found: neither.
set -e
D=$(mktemp -d); trap 'rm -rf -- "$D"' EXIT; cd "$D"
python3 -m venv venv
venv/bin/pip install -q soxr==1.1.0 numpy==2.4.6
venv/bin/python - <<'P'
import sys

import numpy as np
import soxr

silence = {dtype: soxr.resample(np.zeros(16_000, dtype), 16_000, 8_000) for dtype in ("int16", "int32", "float32")}
values = {dtype: np.unique(samples).tolist() for dtype, samples in silence.items()}
speech = np.random.default_rng(0).normal(0, 8_000, 16_000).clip(-32_768, 32_767).astype(np.int16)
stereo = soxr.resample(np.stack([speech, speech], 1), 16_000, 8_000)
apart = int((stereo[:, 0] != stereo[:, 1]).sum())
exact = soxr.resample(speech.astype(np.float64), 16_000, 8_000)
error, rounding = (np.sqrt(np.mean((made - exact)[500:-500] ** 2)) for made in (stereo[:, 0], np.rint(exact)))
print(f"soxr {soxr.__version__}: silence becomes {values}")
print(f"two equal channels differ in {apart} of {len(stereo)} samples; error {error:.2f}, of rounding {rounding:.2f}")
same = values == {"int16": [-1, 0, 1], "int32": [0], "float32": [0.0]} and apart > 1_000
sys.exit(0 if same and error > 1.5 * rounding else "this has changed")
P
