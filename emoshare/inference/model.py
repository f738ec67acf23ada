"""A trained model: shares of recordings, by one backbone and head or by the members of a fusion.

Shapes: N samples, M windows, E targets.
"""

from __future__ import annotations

import logging
import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from emoshare.core.config import Config, TrainerConfig
from emoshare.core.errors import EmoshareError, UnusableClips, together
from emoshare.core.ranges import to_range
from emoshare.inference.bundle import Bundle, open_bundle
from emoshare.inference.intervals import intervals_of, with_intervals
from emoshare.inference.part import Part, make_part
from emoshare.inference.recording import check_scale, check_windows, cuts, files_of, from_array, read_file, warnings_of
from emoshare.inference.shares import Shares
from emoshare.runs.predictions import verified_shares

if TYPE_CHECKING:
    from emoshare.inference.embed import Embeddings
    from emoshare.inference.explanation import Explanation

log = logging.getLogger("emoshare")


class Model:
    """A finished run, or one that was exported: what it found, and what it says of new recordings.

    The backbone is loaded when it is first needed.

    Attributes:
        folder: where it lies.
        config: what it was trained with.
        results: its scores, and what they come from.
        targets: names of the shares.
        devel_error: mean absolute error on devel of each target, in the unit of its shares; empty where its labels are
            not there.
        device: what it computes on.
    """

    def __init__(
        self, bundle: Bundle, device: torch.device, cache: Path, parts: list[tuple[Part, float]] | None = None
    ) -> None:
        """parts: where they are made already."""
        self._parts = parts
        self.bundle, self.device, self.cache = bundle, device, cache
        self.folder, self.config, self.results = bundle.folder, bundle.config, bundle.results
        self.targets = tuple(bundle.results.targets)

    def __repr__(self) -> str:
        return f"Model({self.results.run}: {self.results.system}, {len(self.targets)} targets)"

    @property
    def devel_error(self) -> Mapping[str, float]:
        return self.bundle.devel_error

    @property
    def parts(self) -> list[tuple[Part, float]]:
        """The backbones with their heads, each with its weight; the weights add up to 1.

        EmoshareError: a backbone cannot be had, or is another than the run was trained with.
        """
        if self._parts is None:
            self._parts = parts_of(self.bundle, self.device, self.cache)
        return self._parts

    def in_range(self, shares: np.ndarray) -> np.ndarray:
        """Shares (…, E) from 0 to 1, as heads give them → float32 in the range of the corpus's labels."""
        return np.asarray(to_range(shares, self.results.range), np.float32)

    def predict(
        self, source: Any, rate: int | None = None, windows: float | None = None, step: float | None = None,
        recursive: bool = False, intervals: bool = False, scale: float | None = None,
    ) -> dict[str, float] | Shares:  # fmt: skip
        """Shares of one recording, or a table of those of several.

        Args:
            source: a file; samples (N,) or (N, channels) with their `rate`; a folder; a list of such.
            rate: samples per second of arrays.
            windows: seconds of a window; by default those that the run was trained with.
            step: seconds from one window to the next: a row for each window of a recording. By default a recording has
                one window, cut as in training.
            recursive: look into the folders of a folder.
            intervals: of each target `<target>_calibrated`, `<target>_low` and `<target>_high` beside its share: the
                best guess of the true one, and the interval around it that the run has fitted on devel.
            scale: the value of full scale in arrays and in files of floats; by default 1 for floats, and
                for int16, int32 and uint8 what it is in WAV files.

        Returns:
            target → share for a file or an array without `step`; else a table with a row per window. Shares are in
            [0, 1] (or the range of the corpus's labels, `data.range`), but for those of an SVR or a linear output, need
            not add up to 1, and are no probabilities.

        Raises:
            EmoshareError: a recording cannot be read or used; all such recordings are named; or the
                run has no intervals.
        """
        check_windows(windows, step)
        if intervals:
            intervals_of(self.results)
        names, waves = read_all(source, rate, recursive, scale)
        try:
            table = self.table(names, waves, windows, step)
        except UnusableClips as error:
            raise EmoshareError(unusable(error, names)) from None
        if intervals:
            table = with_intervals(table, self.results)
        if step is None and not is_several(source):
            return dict(zip(table.targets, map(float, table.values[0]), strict=True))
        return table

    def table(
        self, names: Sequence[str], waves: Sequence[np.ndarray], windows: float | None = None, step: float | None = None
    ) -> Shares:
        """Predict recordings (N,) at 16 kHz that have names, as `predict` does.

        Raises:
            UnusableClips: a backbone cannot work on some of the recordings, whose places it names.
        """
        start, end, counts, values = self.windows_of(waves, windows, step)
        files = tuple(name for name, count in zip(names, counts, strict=True) for _ in range(count))
        return Shares(files, start, end, values, self.targets)

    def windows_of(
        self, waves: Sequence[np.ndarray], windows: float | None = None, step: float | None = None
    ) -> tuple[np.ndarray, np.ndarray, list[int], np.ndarray]:
        """Recordings (N,) at 16 kHz → start and end in seconds (M,), windows of each recording, shares (M, E) float32.

        Raises:
            UnusableClips: a backbone cannot work on some of the recordings, whose places it names.
        """
        if not waves:
            return np.zeros(0), np.zeros(0), [], np.zeros((0, len(self.targets)), np.float32)
        windows = self.window_seconds(windows, step)
        total: np.ndarray | None = None
        starts, ends = [], []
        for part, weight in self.parts:
            sized = part.resize(windows)
            by_recording = [cuts(wave, sized.window, step) for wave in waves]
            owner = [row for row, several in enumerate(by_recording) for _ in several]
            try:
                values = sized.predict([cut.samples for several in by_recording for cut in several]).astype(np.float64)
            except UnusableClips as error:
                raise UnusableClips(sorted({owner[row] for row in error.rows}), error.reason) from None
            starts.append([cut.start for several in by_recording for cut in several])
            ends.append([cut.end for several in by_recording for cut in several])
            total = weight * values if total is None else total + weight * values
            counts = [len(several) for several in by_recording]
        assert total is not None
        bad = sorted({owner[row] for row in np.flatnonzero(~np.isfinite(total).all(1))})
        if bad:
            raise UnusableClips(bad, "its shares are NaN or infinite")
        return np.min(starts, axis=0), np.max(ends, axis=0), counts, self.in_range(total)

    def window_seconds(self, windows: float | None, step: float | None) -> float | None:
        """Seconds of a window where there is one every `step` seconds; None: those that each part was trained with.

        Raises:
            EmoshareError: they are no such, or the step leaves gaps between windows.
        """
        if step is not None and windows is None:
            windows = max(part.window.seconds for part, _ in self.parts)
        check_windows(windows, step)
        return windows

    def embed(
        self, source: Any, rate: int | None = None, windows: float | None = None, step: float | None = None,
        pooling: str = "mean", recursive: bool = False, scale: float | None = None,
    ) -> Embeddings:  # fmt: skip
        """Embeddings of recordings by the run's backbone; a row per window, or per frame.

        Args:
            source: as for `predict`, with `rate`, `windows`, `step`, `recursive` and `scale`.
            pooling: over the frames of a window: mean, std, mean_std, or frames for none.

        Raises:
            EmoshareError: a recording cannot be read or used, or the model is a fusion.
        """
        from emoshare.inference.embed import POOLINGS, Embedder

        check_windows(windows, step)
        if pooling not in POOLINGS:
            raise EmoshareError(f"pooling={pooling}: must be {', '.join(POOLINGS)}")
        names, waves = read_all(source, rate, recursive, scale)
        try:
            encoder = self.encoder()
            return Embedder(encoder, pooling).recordings(names, waves, self.window_seconds(windows, step), step)
        except UnusableClips as error:
            raise EmoshareError(unusable(error, names)) from None

    def encoder(self) -> Part:
        """The backbone of the run with its head. EmoshareError for a fusion, which has several."""
        if len(self.parts) > 1:
            names = ", ".join(member.run for member in self.results.members)
            raise EmoshareError(f"{self.folder}: a fusion has several backbones; name one of its members: {names}")
        return self.parts[0][0]

    def explain(
        self, source: Any, rate: int | None = None, start: float | None = None, windows: float | None = None,
        stretch: float = 0.25, scale: float | None = None,
    ) -> Explanation:  # fmt: skip
        """Explain the shares of a recording; `.figure("clip.png")` draws the result, `.write("clip.json")` saves it.

        Args:
            source: a file; or samples (N,) or (N, channels) with their `rate`.
            rate: samples per second of an array.
            start: seconds at which the window begins that is explained; by default it is cut as in training.
            windows: seconds of the window; by default those that the run was trained with.
            stretch: seconds that are silenced at once, every half of it.
            scale: as for `predict`.

        Raises:
            EmoshareError: the recording cannot be read or used, or a value is out of range.
        """
        from emoshare.inference.explanation import explain

        if is_several(source):
            kind = "a list" if isinstance(source, list | tuple) else f"{source}: a folder"
            raise EmoshareError(f"{kind}; explain takes one recording at a time")
        _, read = together(lambda: check_windows(windows, None), lambda: read_all(source, rate, False, scale))
        [name], [wave] = read
        about = {"run": self.results.run, "targets": self.targets, "devel_error": dict(self.devel_error)}
        return explain(self.parts, about, name, wave, start, windows, stretch).in_range(self.results.range)

    def predictions(self, partition: str = "devel") -> tuple[tuple[str, ...], np.ndarray]:
        """File names and predicted shares (N, E) of a partition, devel or test, in the order of `results.targets`.

        Raises:
            EmoshareError: it is an exported folder, which has none; or there is no such table, or it cannot be read.
        """
        if self.bundle.exported:
            raise EmoshareError(
                f"{self.folder}: an exported folder has no predictions of the clips of its corpus; load the folder of "
                f"the run {self.results.run}"
            )
        partitions = sorted(path.stem for path in (self.folder / "predictions").glob("*.csv"))
        if partitions and partition not in partitions:
            raise EmoshareError(
                f"partition={partition}: {self.folder} has predictions of {' and '.join(partitions)}; name one of these"
            )
        files, shares = verified_shares(self.folder, f"predictions/{partition}.csv", self.results)
        return files, to_range(shares, self.results.range)

    def head(self) -> nn.Module:
        """The trained head, on the CPU in evaluation mode: frames (B, T, width) and counts (B,) → shares (B, E).

        Raises:
            EmoshareError: the run has no head of PyTorch, or its checkpoint cannot be read.
        """
        module = self.bundle.head().module
        if module is None:
            raise EmoshareError(f"{self.folder}: a run of {self.results.system} has no head of PyTorch")
        return module


def load_model(
    source: str | Path, device: str = "auto", cache: str | Path | None = None, revision: str | None = None
) -> Model:
    """The model of a run's folder, an exported folder, or an exported folder on the hub.

    Args:
        source: its path or hub name.
        device: auto (a GPU where there is one), cpu, cuda, cuda:1, mps.
        cache: folder for what backbones compute; by default that of the run, else `cache`.
        revision: of a hub name: branch, tag or commit.

    Raises:
        EmoshareError: there is no model, a file of it cannot be read, or there is no such device.
    """
    bundle = open_bundle(source, revision)
    run_cache = bundle.cache
    place = Path(cache) if cache is not None else run_cache if run_cache.is_dir() else Path("cache")
    return Model(bundle, device_of(device), place)


def parts_of(bundle: Bundle, device: torch.device, cache: Path) -> list[tuple[Part, float]]:
    return [(part_of(leaf, leaf.place_config(cache), device, cache), weight) for leaf, weight in bundle.leaves()]


def part_of(bundle: Bundle, config: Config, device: torch.device, cache: Path) -> Part:
    """The part of a bundle that is no fusion. EmoshareError as `make_part`."""
    return make_part(config, bundle.results, bundle.head(), bundle.backbone_weights(), device, cache, bundle.folder)


def device_of(name: str) -> torch.device:
    """The device of a name. EmoshareError where there is none."""
    from emoshare.core.hardware import choose_device

    if name == "auto":
        return choose_device(TrainerConfig())
    try:
        device = torch.device(name)
    except RuntimeError:
        raise EmoshareError(f"device={name}: must be auto, cpu, cuda, cuda:<number> or mps") from None
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= counts.get(device.type, 0):
        raise EmoshareError(f"device={name}: PyTorch sees no such device here; use auto or cpu")
    return device


def unusable(error: UnusableClips, names: Sequence[str]) -> str:
    """A line for each recording that a backbone cannot work on."""
    return "\n".join(f"{names[row]}: {error.reason}" for row in error.rows)


def is_several(source: Any) -> bool:
    """Whether it is a list of recordings, or a folder. A list of numbers is the samples of one recording."""
    if isinstance(source, list | tuple):
        return not source or not all(isinstance(item, numbers.Real) for item in source)
    return isinstance(source, str | Path) and Path(source).expanduser().is_dir()


def read_all(
    source: Any, rate: int | None, recursive: bool, scale: float | None = None
) -> tuple[list[str], list[np.ndarray]]:
    """Names and samples (N,) at 16 kHz of a file, an array, what a folder holds, or a list of such."""
    check_scale(scale)
    items = source if isinstance(source, list | tuple) and is_several(source) else [source]
    read: list[tuple[str, np.ndarray, str]] = []
    problems: list[str] = []
    for number, item in enumerate(items):
        try:
            if isinstance(item, str | Path):
                for path in files_of([item], recursive):
                    try:
                        read.append((str(path), *read_file(str(path), scale)))
                    except EmoshareError as error:
                        problems.append(str(error))
            else:
                name = f"array {number}"
                read.append((name, *from_array(item, rate, scale, name)))
        except EmoshareError as error:
            problems.append(str(error))
    if not items:
        problems.append("no recordings; name a file or a folder")
    if problems:
        raise EmoshareError("\n".join(problems))
    for line in warnings_of(read):
        log.warning(line)
    return [name for name, _, _ in read], [wave for _, wave, _ in read]
