#!/bin/bash
# soundfile 0.13.1 (libsndfile 1.2.2): a GSM 6.10 WAV file with an odd number of blocks is read with one block too many.
# Five blocks of 65 bytes hold 5 × 320 samples. The odd size is padded with a byte, as RIFF asks, and libsndfile counts
# that byte as a sixth block: 320 samples more, decoded from what is left in its buffer, as loud as the recording. It
# is so with files that libsndfile itself writes. Expected: 1600 samples; found: 1920. Four blocks are read as four.
set -e
D=$(mktemp -d); trap 'rm -rf -- "$D"' EXIT; cd "$D"
python3 -m venv venv
venv/bin/pip install -q soundfile==0.13.1 numpy==2.2.6
venv/bin/python - <<'P'
import io
import numpy as np, soundfile
wave = 0.1 * np.sin(np.arange(1600) / 20)
def read(blocks):
    file = io.BytesIO()
    soundfile.write(file, wave[: 320 * blocks], 8000, format="WAV", subtype="GSM610")
    file.seek(0)
    return soundfile.read(file)[0]
four, five = read(4), read(5)
print(soundfile.__libsndfile_version__, len(four), len(five), "peak", abs(five[:1600]).max().round(2), "then", abs(five[1600:]).max().round(2))
assert len(four) == 1280 and len(five) == 1920 and abs(five[1600:]).max() > 0.05
P
