"""A rehearsal at the paper's size: every command on a generated corpus of 51,813 clips, and what each of them takes.

    python docs/full_size.py /tmp/full_size

makes the corpus in the folder (4.8 GB) and prints a table for docs/reproducing.md: CPU seconds, wall seconds, peak
memory and new disk of each command. `--clips 1500` is a quick trial. Needs an installed emoshare, and Linux.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
import wave
from pathlib import Path

import numpy as np

from emoshare.core.config import RATE
from emoshare.data.demo import generate

PARTS = {"train": 31_745, "devel": 9_925, "test": 10_143}  # clips of the paper's corpus
SECONDS, SPREAD, LIMITS = 2.9, 1.2, (1.2, 8.0)  # mean and standard deviation of a clip's duration; shortest and longest
VOICES = 600  # clips of the demo corpus that the others are cut from
LOGMEL = ["backbone=logmel", "window.seconds=5.5", "trainer.epochs=2"]


def make_corpus(root: Path, clips: int) -> None:
    """Clips in ComParE's layout: stretches of the demo's voices, each with its own noise, so that no two are equal."""
    rng = np.random.default_rng(0)
    generate(root / "voices", VOICES, 0)
    voices = root / "voices"
    header, *rows = csv.reader((voices / "lab/train.csv").open())
    sounds = [read(voices / "wav" / row[0]) for row in rows]
    (root / "lab").mkdir()
    (root / "wav").mkdir()
    for part, count in PARTS.items():
        labels = [header]
        for number in range(round(count * clips / sum(PARTS.values()))):
            voice, file = int(rng.integers(len(rows))), f"{part}_{number:05}.wav"
            seconds = np.clip(rng.gamma((SECONDS / SPREAD) ** 2, SPREAD**2 / SECONDS), *LIMITS)
            samples = np.resize(sounds[voice], int(seconds * RATE)) + rng.normal(0, 30, int(seconds * RATE))
            with wave.open(str(root / "wav" / file), "wb") as sound:
                sound.setparams((1, 2, RATE, 0, "NONE", ""))
                sound.writeframes(np.clip(samples, -32768, 32767).astype("<i2").tobytes())
            labels.append([file, *rows[voice][1:]])
        with (root / f"lab/{part}.csv").open("w", newline="") as table:
            csv.writer(table).writerows(labels)


def read(path: Path) -> np.ndarray:
    """The samples of a 16-bit file."""
    with wave.open(str(path)) as sound:
        return np.frombuffer(sound.readframes(sound.getnframes()), "<i2").astype(np.float64)


def commands(root: Path) -> dict[str, list[str]]:
    """What is measured → its command, in the order in which a user comes to them."""
    data = ["data=compare23", f"data.root={root}", "logger=none", "trainer.progress=false"]
    mlp, svr = [*data, *LOGMEL, "sweep.name=mlp"], [*data, "backbone=prosody", "head=svr", "sweep.name=svr"]
    return {
        "check": ["check", *data],
        "check, the second time": ["check", *data],
        "extract log-mel spectra": ["extract", *data, *LOGMEL],
        "train the MLP on them, 2 epochs": ["train", *mlp],
        "the same again: it is finished": ["train", *mlp],
        "train the SVR on prosody, whole grid and refit": ["train", *svr],
        "sweep of four seeds of the MLP": ["train", "-m", *mlp, "seed=1,2,3,4"],
        "report of the five": ["report", "outputs/mlp"],
        "report, the second time": ["report", "outputs/mlp"],
        "predict all clips": ["predict", "RUN", f"{root}/wav", "--out", "all.csv"],
        "evaluate on the corpus": ["evaluate", "RUN", "data=compare23", f"data.root={root}"],
        "fuse, greedy weights": ["fuse", "outputs/mlp", "--weights", "greedy", "--out", "outputs/fused"],
    }


def measure(command: list[str]) -> tuple[float, float, float]:
    """CPU seconds with those of child processes, wall seconds and peak memory in GB of the largest process."""
    started = time.monotonic()
    with Path("commands.log").open("a") as log:
        log.write(f"$ emoshare {' '.join(command)}\n")
        log.flush()
        streams = [(os.POSIX_SPAWN_DUP2, log.fileno(), stream) for stream in (1, 2)]
        arguments = [sys.executable, "-m", "emoshare", *command]
        child = os.posix_spawn(sys.executable, arguments, os.environ, file_actions=streams)
        _, status, used = os.wait4(child, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"emoshare {' '.join(command)}: failed; see {Path('commands.log').resolve()}")
    return used.ru_utime + used.ru_stime, time.monotonic() - started, used.ru_maxrss * 1024 / 1e9


def size(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=sum(PARTS.values()))
    parser.add_argument("--skip", type=int, default=0, help="of the commands, those that an earlier call has run")
    given = parser.parse_args()
    root = given.folder.resolve() / "corpus"
    if not (root / "lab/test.csv").exists():
        make_corpus(root, given.clips)
    os.chdir(given.folder)
    print("| command | CPU s | wall s | peak GB | new disk GB |\n| --- | ---: | ---: | ---: | ---: |")
    for title, command in list(commands(root).items())[given.skip :]:
        before, runs = size(Path()), sorted(Path("outputs/mlp").glob("logmel*seed0*"))
        cpu, wall, memory = measure([str(runs[0]) if word == "RUN" else word for word in command])
        print(f"| {title} | {cpu:.0f} | {wall:.0f} | {memory:.1f} | {(size(Path()) - before) / 1e9:.2f} |", flush=True)


if __name__ == "__main__":
    main()
