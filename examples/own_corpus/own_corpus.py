"""Writes a corpus in the layout of `conf/data/own_corpus.yaml`: tones whose pitch and loudness are two feelings."""

import csv
import sys
from pathlib import Path

import numpy as np
from scipy.io import wavfile

root, draw = Path(sys.argv[1]), np.random.default_rng(0)
(root / "audio").mkdir(parents=True)
for part, clips, speakers in (("train", 40, "abcde"), ("dev", 20, "fgh")):
    with (root / f"{part}.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["filename", "Joy", "Calm", "speaker"])
        for number in range(clips):
            joy, calm = draw.uniform(size=2).round(3)
            tone = np.sin(np.arange(24_000) / 16_000 * 2 * np.pi * (120 + 200 * joy)) * (1 - 0.9 * calm)
            wavfile.write(root / "audio" / f"{part}{number}.wav", 16_000, (tone * 20_000).astype(np.int16))
            table.writerow([f"{part}{number}.wav", joy, calm, speakers[number % len(speakers)]])
