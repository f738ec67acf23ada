"""A generated corpus in the ComParE layout, to try and test everything without the real one.

Synthetic: it proves nothing about emotion. Each clip is a chain of segments of 0.4 to 0.8 s. Six latents per segment
change the voice (pitch, pitch range, syllable rate, energy dynamics, spectral tilt, pauses); they vary from segment
to segment, and the shares depend on their sum over the whole clip. Every clip begins neutrally and becomes expressive
later, so a longer window contains more of what the raters heard. The raters are noisy: even an oracle that knows the
latents does not reach a correlation of 1. `oracle.json` holds what it reaches.

The voice is a source-filter model: Rosenberg's glottal pulses (J. Acoust. Soc. Am. 49, 1971) with jitter and breath,
through four formant resonators (Klatt, J. Acoust. Soc. Am. 67, 1980), one vowel per syllable.

Legend: S segments of a clip, K latents, E emotions; control tracks have 100 values per second.
"""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from emoshare.core.config import EMOTIONS, RATE, DataConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.leftovers import sweep_once, temporary_folder

log = logging.getLogger(__name__)
VERSION = 1  # of the generator: raise it when the same arguments give other bytes
FEWEST = 20  # clips: below, a partition would be too small for a correlation
PARTS = {"train": 0.6, "devel": 0.2, "test": 0.2}
COUNTRIES = ("Avalon", "Brigadoon", "Cockaigne")  # invented, as the speakers are
PEOPLE, PERSON = "demo.csv", ("filename", "speaker", "country", "sex")  # who speaks in each clip: file and columns
LATENTS = ("pitch", "range", "rate", "dynamics", "tilt", "pauses")
WEIGHTS = np.array(
    [  # emotion by latent: how a share depends on the sum of the clip's latents
        [0.4, 0.2, 0.3, 0.7, 1.2, -0.3],  # Anger
        [-0.7, -0.6, -0.3, -0.4, -0.8, 0.4],  # Boredom
        [-0.5, -0.2, -0.3, -0.8, -1.1, 0.2],  # Calmness
        [-0.2, -0.2, -0.3, 0.4, 0.9, 0.9],  # Concentration
        [0.1, -0.1, 0.2, 0.8, 1.2, -0.4],  # Determination
        [1.1, 0.5, 0.4, 0.3, 0.9, -0.5],  # Excitement
        [1.0, 0.5, 0.2, -0.2, 0.6, 0.6],  # Interest
        [-0.5, -0.2, -0.3, -0.3, -1.1, 0.7],  # Sadness
        [-0.9, -0.3, -0.4, -0.3, -1.0, 0.5],  # Tiredness
    ]
)
WEIGHTS = WEIGHTS / np.linalg.norm(WEIGHTS, axis=1, keepdims=True)  # (E, K)
NEUTRAL = np.array([-1.6, -1.2, 0.2, -0.4, -0.6, -0.8, 0.1, -1.4, -1.0])  # log-odds of each share at neutral
RATERS = 9
MANY_RATERS = 1000  # whose votes stand for what is expected
DISAGREEMENT = 2.4  # standard deviation of a rater's log-odds around the expected ones
VOWELS = np.array(  # Hz, first four formants of an adult's a e i o u and schwa
    [
        [730, 1190, 2500, 3500],
        [530, 1840, 2480, 3500],
        [300, 2250, 2950, 3600],
        [480, 900, 2420, 3400],
        [320, 850, 2300, 3400],
        [500, 1450, 2450, 3500],
    ]
)
BANDWIDTHS = np.array([80.0, 100.0, 140.0, 200.0])  # Hz, formant bandwidths
CONTROL = 100  # values per second of a control track
PEAK = 10 ** (-3 / 20)  # −3 dB of full scale


@dataclass(frozen=True)
class Speaker:
    name: str
    country: int
    sex: str  # female: a higher voice and a shorter tract
    pitch: float  # Hz
    tract: float  # formants relative to VOWELS
    rate: float  # syllables per second
    tilt: float  # dB, a voice brighter or darker than others
    manner: np.ndarray  # (K,) latents that all clips of this person have in common


@dataclass(frozen=True)
class Clip:
    file: str
    partition: str
    speaker: Speaker
    seconds: float
    starts: np.ndarray  # (S,) seconds at which the segments begin
    latents: np.ndarray  # (S, K)
    expected: np.ndarray  # (E,) shares that follow from the latents
    rated: np.ndarray  # (E,) shares that the raters gave, or their votes


def plan(clips: int, seed: int, habit: float = 0.0, raters: int = 0) -> list[Clip]:
    """All clips without their samples, drawn from the seed; habit, raters: as of `data`."""
    rng = np.random.default_rng([VERSION, seed])
    ids = rng.choice(16**6, clips, replace=False)
    counts = {"devel": round(clips * PARTS["devel"]), "test": round(clips * PARTS["test"])}
    counts = {"train": clips - sum(counts.values()), **counts}
    planned: list[Clip] = []
    manners = np.random.default_rng([VERSION, seed, 0, 1])  # apart, so that all else is the same without habits
    for partition, count in counts.items():
        speakers = [
            draw_speaker(f"{partition}{i}", i, rng, habit * manners.normal(0, 1, len(LATENTS)))
            for i in range(max(3, count // 8))
        ]
        for i in range(count):
            planned.append(draw_clip(f"{ids[len(planned)]:06x}.wav", partition, speakers[i % len(speakers)], rng))
    if raters:
        return [vote(c, raters, np.random.default_rng([VERSION, seed, i, 2])) for i, c in enumerate(planned)]
    return planned


def draw_speaker(name: str, index: int, rng: np.random.Generator, manner: np.ndarray) -> Speaker:
    """The voice of a person. Countries alternate with `index`; within each, low and high voices do."""
    low = index // len(COUNTRIES) % 2 == 0
    pitch = (130.0 if low else 190.0) * 2 ** rng.normal(0, 0.1)
    tract = (1.0 if low else 1.08) * 2 ** rng.normal(0, 0.03)
    country, sex = index % len(COUNTRIES), "male" if low else "female"
    return Speaker(name, country, sex, pitch, tract, 4.5 * 2 ** rng.normal(0, 0.1), rng.normal(0, 0.5), manner)


def draw_clip(file: str, partition: str, person: Speaker, rng: np.random.Generator) -> Clip:
    """1.2 to 7.98 s, 2.9 on average; latents, and the shares that follow from their sum over the clip."""
    seconds = float(np.clip(2.65 * np.exp(rng.normal(0, 0.45)), 1.2, 7.98))
    edges = np.cumsum(np.append(0.3, rng.uniform(0.4, 0.8, 20)))
    starts = np.append(0.0, edges[edges < seconds - 0.2])  # the first segment, 0.3 s, is the neutral one
    ends = np.append(starts[1:], seconds)
    latents = rng.normal(0, 0.35, len(LATENTS)) + rng.normal(0, 1.0, (len(starts), len(LATENTS)))
    latents += person.manner
    latents *= 1.2 * np.clip(starts / (0.7 * seconds), 0, 1)[:, None]  # expression grows through the clip
    total = (ends - starts) @ latents / np.sqrt(seconds)  # (K,)
    taste = 0.2 * np.sin(person.country + np.arange(len(EMOTIONS)))  # the raters of each country judge differently
    odds = NEUTRAL + 2.0 * WEIGHTS @ total + taste
    votes = odds + DISAGREEMENT * rng.normal(0, 1, (RATERS, len(EMOTIONS)))  # (raters, E)
    return Clip(file, partition, person, seconds, starts, latents, sigmoid(odds), sigmoid(votes).mean(axis=0).round(4))


def vote(c: Clip, raters: int, rng: np.random.Generator) -> Clip:
    """The clip with the votes of raters who each name the emotion that they find most of; expected: by many raters."""
    odds = np.log(c.expected / (1 - c.expected))  # (E,)
    named = (odds + DISAGREEMENT * rng.normal(0, 1, (raters + MANY_RATERS, len(odds)))).argmax(axis=1)
    votes, many = (np.bincount(part, minlength=len(odds)) for part in (named[:raters], named[raters:]))
    return replace(c, expected=many / MANY_RATERS, rated=votes)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def oracle(clips: int, seed: int, habit: float = 0.0, raters: int = 0) -> dict[str, float]:
    """SCC between the expected and the rated shares over all clips: what a perfect model reaches."""
    from scipy.stats import spearmanr

    planned = plan(clips, seed, habit, raters)
    expected, rated = np.array([c.expected for c in planned]), np.array([c.rated for c in planned])  # (N, E)
    scc = {name: float(spearmanr(expected[:, e], rated[:, e])[0]) for e, name in enumerate(EMOTIONS)}
    return {"mean": float(np.mean(list(scc.values()))), **scc}


def synthesize(c: Clip, rng: np.random.Generator) -> np.ndarray:
    """The sound of a clip: (N,) int16, 16 kHz, peak −3 dB."""
    samples = round(c.seconds * RATE)
    time = np.arange(samples * CONTROL // RATE + 2) / CONTROL  # of the control tracks
    segment = np.searchsorted(c.starts, time, side="right") - 1
    pitch, spread, rate, dynamics, tilt, _ = smooth(c.latents[segment]).T

    phase = np.cumsum(c.speaker.rate * 2 ** (0.3 * rate)) / CONTROL  # in syllables
    syllable = phase.astype(int)
    onset = np.searchsorted(syllable, np.arange(syllable[-1] + 1))
    accents, stress = rng.normal(0, 1, (2, len(onset) + 1))
    melody = np.interp(phase, np.arange(len(accents)), accents)
    octaves = 0.4 * pitch + 0.12 * 2 ** (0.8 * spread) * melody - 0.04 * time + rng.normal(0, 0.01, len(time))
    depth = 2 ** (0.8 * dynamics)
    level = depth * 20 * np.log10(0.15 + 0.85 * np.sin(np.pi * (phase % 1))) + 2.0 * stress[syllable] + 4.0 * dynamics
    # The peak of the whole clip is fixed: without this the level of the first segment would tell of the later ones.
    level += np.where(segment == 0, rng.normal(-4, 4), 0)
    silent = pauses(c, time, segment)

    def track(values: np.ndarray) -> np.ndarray:
        return np.interp(np.arange(samples) / RATE, time, values)

    source = voice(track(c.speaker.pitch * 2**octaves), track(c.speaker.tilt + 8.0 * tilt), rng)
    source *= 10 ** (track(np.where(silent, -60.0, level)) / 20)
    source += 0.01 * track(silent * 1.0) * rng.normal(0, 1, samples)  # breath
    vowels = VOWELS[-1] + 0.7 * (VOWELS[rng.integers(len(VOWELS), size=len(onset))] - VOWELS[-1])  # (syllables, 4)
    raised = 2 ** (0.15 * pitch[onset])[:, None]  # a raised larynx shortens the tract
    tract = formants(c.speaker.tract * raised * vowels)
    sound = articulate(source, tract, syllable[np.arange(samples) * CONTROL // RATE])
    sound = sound / np.abs(sound).max() + 0.001 * rng.normal(0, 1, samples)  # the room
    return np.round(sound / np.abs(sound).max() * PEAK * 32767).astype(np.int16)


def smooth(values: np.ndarray) -> np.ndarray:
    """Control tracks (T, K) without jumps: a mean over 70 ms, edges held."""
    padded = np.pad(values, ((3, 3), (0, 0)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 7, axis=0).mean(axis=-1)


def pauses(c: Clip, time: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """(T,) where there is silence: up to 0.4 s at the start of a segment, the longer the higher its latent `pauses`."""
    seconds = np.clip(0.08 + 0.15 * c.latents[:, LATENTS.index("pauses")], 0, 0.4)
    seconds[0] = 0.0
    return time - c.starts[segment] < seconds[segment]


def voice(f0: np.ndarray, tilt: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Glottal source (N,) of the given pitch (Hz) and tilt (dB, positive is bright), with breath in the open phase."""
    from scipy.signal import lfilter

    cycle = np.cumsum(f0) / RATE % 1
    flow = np.where(cycle < 0.4, 0.5 - 0.5 * np.cos(np.pi * cycle / 0.4), np.cos(np.pi / 2 * (cycle - 0.4) / 0.2))
    flow[cycle > 0.6] = 0.0
    pulses = np.diff(flow, prepend=0.0) + (0.02 * flow + 0.002) * rng.normal(0, 1, len(flow))
    dark = lfilter([0.15], [1, -0.85], pulses)
    bright = pulses - dark
    return dark * 10 ** (-tilt / 20) + bright * 10 ** (tilt / 20)


def formants(hertz: np.ndarray) -> np.ndarray:
    """Resonators (syllables, 4, 6) as second-order sections, gain 1 at 0 Hz."""
    radius = np.exp(-np.pi * BANDWIDTHS / RATE)
    first = -2 * radius * np.cos(2 * np.pi * hertz / RATE)
    sections = np.zeros((*hertz.shape, 6))
    sections[..., 0] = 1 + first + radius**2
    sections[..., 3], sections[..., 4], sections[..., 5] = 1.0, first, radius**2
    return sections


def articulate(source: np.ndarray, tract: np.ndarray, syllable: np.ndarray) -> np.ndarray:
    """The source through one vowel per syllable; each starts from the filter state at the end of the one before."""
    from scipy.signal import sosfilt

    state = np.zeros((tract.shape[1], 2))
    edges = np.flatnonzero(np.diff(syllable, prepend=-1, append=-1))
    parts = []
    for start, end in pairwise(edges):
        part, state = sosfilt(tract[syllable[start]], source[start:end], zi=state)
        parts.append(part)
    return np.concatenate(parts)


def ensure(config: DataConfig) -> None:
    """Generate the corpus at first use. A folder made with other clips, seed or generator is refused."""
    root = Path(config.root).expanduser().absolute()
    sweep_once(root.parent)  # what a killed process left of another attempt
    wanted = {"clips": config.clips, "seed": config.seed, "habit": config.habit, "version": VERSION}
    wanted["raters"] = config.raters
    if not root.exists():
        log.info("generating the demo corpus of %d clips in %s", config.clips, root)
        generate(root, config.clips, config.seed, config.habit, config.raters)
    try:
        made = json.loads((root / "oracle.json").read_text())
        there = {key: made.get(key, 0) if key == "raters" else made[key] for key in wanted}
    except (OSError, ValueError, KeyError, TypeError):
        raise EmoshareError(f"data.root={root}: is there, but is no demo corpus; name another folder") from None
    if there != wanted:
        raise EmoshareError(
            f"data.root={root}: holds the demo corpus of {there}, not of {wanted}; remove it or name another"
        )


def generate(root: Path, clips: int, seed: int, habit: float = 0.0, raters: int = 0) -> None:
    """Write the corpus: lab/, wav/, demo.csv (who speaks), oracle.json. The same arguments give the same bytes.

    Made in a temporary folder beside `root` and renamed when complete.
    """
    if clips < FEWEST:
        raise EmoshareError(f"data.clips={clips}: the demo corpus needs at least {FEWEST}")
    try:
        with temporary_folder(root) as made:
            write(made, clips, seed, habit, raters)
            if not root.exists():  # another process may have been faster
                os.rename(made, root)
    except OSError as error:
        raise EmoshareError(
            f"{root}: the demo corpus cannot be written: {error.strerror}; set data.root to another folder"
        ) from None


def write(folder: Path, clips: int, seed: int, habit: float, raters: int = 0) -> None:
    """All files of the corpus."""
    from scipy.io import wavfile

    planned = plan(clips, seed, habit, raters)
    for name in ("lab", "wav"):
        (folder / name).mkdir(parents=True)
    for i, c in enumerate(planned):
        wavfile.write(folder / "wav" / c.file, RATE, synthesize(c, np.random.default_rng([VERSION, seed, i])))
    for partition in PARTS:
        rows = [(c.file, *map(str, c.rated.tolist())) for c in planned if c.partition == partition]
        if partition == "test" and not raters:  # masked as in the challenge
            write_csv(folder / "lab" / "test.unmasked.csv", ("filename", *EMOTIONS), rows)
            rows = [(row[0], *"?" * len(EMOTIONS)) for row in rows]
        write_csv(folder / "lab" / f"{partition}.csv", ("filename", *EMOTIONS), rows)
    write_csv(folder / PEOPLE, PERSON, people(planned))
    made: dict[str, object] = {"clips": clips, "seed": seed, "habit": habit, "version": VERSION}
    made |= {"raters": raters} if raters else {}
    made["scc"] = oracle(clips, seed, habit, raters)
    (folder / "oracle.json").write_text(json.dumps(made, indent=2) + "\n")


def people(planned: Iterable[Clip]) -> list[tuple[str, ...]]:
    """A row of PERSON for each clip."""
    return [(c.file, c.speaker.name, COUNTRIES[c.speaker.country], c.speaker.sex) for c in planned]


def write_csv(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
