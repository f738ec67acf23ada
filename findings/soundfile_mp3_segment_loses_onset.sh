#!/bin/bash
# soundfile 0.14.0 (libsndfile 1.2.2): a part of an MP3 file read by `start=` is not the same part of the whole file where
# sound follows on silence. libsndfile's own encoder (variable bit rate, the default) keeps bits of a loud frame in the
# quiet frames before it; after a seek the decoder has not read those, and says nothing to the caller. A part that begins
# in the pause 0.3 s before a tone lacks the tone's first 20 ms. At a constant bit rate, and in Ogg, parts are exact.
# Expected: read(file, start=n) equals read(file)[n:]. Found: off by the tone's full height.
set -e
D=$(mktemp -d); trap 'rm -rf -- "$D"' EXIT; cd "$D"
python3 -m venv venv
venv/bin/pip install -q soundfile==0.14.0 numpy==2.4.6
venv/bin/python - 2>/dev/null <<'P'
import sys

import numpy as np
import soundfile as sf

rate, start = 16_000, 11_655
time = np.arange(4 * rate) / rate
tone = 0.5 * np.sin(2 * np.pi * 440 * time) * (time % 2 > 1)  # a second of silence, a second of sound
off = {}
for name, options in {
    "variable.mp3": {},
    "constant.mp3": {"bitrate_mode": "CONSTANT", "compression_level": 0.5},
    "vorbis.ogg": {},
}.items():
    sf.write(name, tone, rate, **options)
    whole, part = sf.read(name)[0], sf.read(name, start=start)[0]
    wrong = np.flatnonzero(np.abs(part - whole[start:]) > 1e-3)
    off[name] = float(np.abs(part - whole[start:]).max())
    where = f"from {(start + wrong[0]) / rate:.3f} to {(start + wrong[-1]) / rate:.3f} s" if len(wrong) else "nowhere"
    print(f"{name}: read from {start / rate:.3f} s on, off by {off[name]:.3f}, {where}")
print("soundfile", sf.__version__, sf.__libsndfile_version__)
same = off["variable.mp3"] > 0.4 and max(off["constant.mp3"], off["vorbis.ogg"]) < 1e-3
sys.exit(0 if same else "this has changed")
P
