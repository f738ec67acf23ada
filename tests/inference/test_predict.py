"""`emoshare predict`: tables of files and folders, bad files, kills; `embed` and `evaluate` beside it."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from processes import Command

import emoshare as package
from emoshare.core.hashing import write_sealed
from emoshare.inference.shares import Journal, Shares, join

TARGETS = ("Anger", "Joy")
VOICE = 0.1 * np.random.default_rng(0).normal(size=16_000)


@pytest.fixture(scope="module")
def run(corpus_root, tmp_path_factory) -> Path:
    """A run of logmel on windows of 1 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("predict"))
        results = package.train(
            "data=compare23", f"data.root={corpus_root}", "backbone=logmel", "window.seconds=1", "trainer.epochs=1",
            "logger=none", "trainer.progress=false",
        )  # fmt: skip
        return Path("outputs/default", results.run).absolute()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def table(files: list[str], value: float = 0.5) -> Shares:
    count = len(files)
    return Shares(tuple(files), np.zeros(count), np.ones(count), np.full((count, 2), value, np.float32), TARGETS)


def test_a_file_is_printed_with_the_error_on_devel(emoshare, run, corpus_root) -> None:
    clip = sorted((corpus_root / "wav").iterdir())[0]
    result = emoshare("predict", str(run), str(clip))
    assert result.status == 0, result.err
    lines = result.out.splitlines()
    assert lines[0].split()[:4] == ["file", "start", "end", "Anger"]
    assert lines[1].startswith(str(clip))
    assert lines[2].startswith("mean error on devel") and lines[2].count("±") == 9  # noqa: PT018
    assert len(lines) == 3


def test_a_folder_becomes_a_table(emoshare, run, corpus_root, tmp_path) -> None:
    result = emoshare("predict", str(run), str(corpus_root / "wav"), "--out", "shares.csv")
    assert result.status == 0, result.err
    found = rows(tmp_path / "shares.csv")
    assert [row["file"] for row in found] == [str(path) for path in sorted((corpus_root / "wav").iterdir())]
    by_file = {Path(row["file"]).name: row for row in found}
    for row in rows(run / "predictions/test.csv"):
        for target in package.load(run).targets:
            assert abs(float(by_file[row["filename"]][target]) - float(row[target])) < 2e-5
    assert sorted(path.name for path in tmp_path.iterdir() if "shares" in path.name) == ["shares.csv"]


def test_a_recording_given_twice_is_one_row(emoshare, run, corpus_root, tmp_path, monkeypatch) -> None:
    (tmp_path / "link").symlink_to(corpus_root / "wav")
    (tmp_path / "two").mkdir()
    clip = min((corpus_root / "wav").iterdir())
    for name in ("a.wav", "b.wav"):  # two names of one file are two recordings
        (tmp_path / "two" / name).symlink_to(clip)
    spelled = [clip.name, str(clip), f"../wav/{clip.name}", str(tmp_path / "link" / clip.name), str(tmp_path / "two")]
    paths = [tmp_path / name for name in ("one.csv", "two/a.wav", "two/b.wav")]
    monkeypatch.chdir(clip.parent)
    assert emoshare("predict", str(run), *spelled, "--out", str(paths[0])).status == 0
    assert [row["file"] for row in rows(paths[0])] == [clip.name, *map(str, paths[1:])]
    assert emoshare("embed", str(run), *spelled, "--out", str(paths[0])).status == 0
    assert [row["file"] for row in rows(paths[0])] == [clip.name, *map(str, paths[1:])]


def test_windows_and_subfolders(emoshare, run, corpus_root, tmp_path) -> None:
    (tmp_path / "talk/day").mkdir(parents=True)
    clip = max((corpus_root / "wav").iterdir(), key=lambda path: path.stat().st_size)
    shutil.copy(clip, tmp_path / "talk/day/a.wav")
    empty = emoshare("predict", str(run), "talk")
    assert empty.status == 1
    assert "no audio files in this folder; --recursive" in empty.err
    result = emoshare("predict", str(run), "talk", "--recursive", "--step", "0.25", "--out", "x.csv")
    assert result.status == 0, result.err
    found = rows(tmp_path / "x.csv")
    assert len(found) > 2
    assert float(found[1]["start"]) == 0.25
    assert float(found[0]["end"]) == 1.0


def test_parquet_holds_the_same(emoshare, run, corpus_root, tmp_path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    clip = str(sorted((corpus_root / "wav").iterdir())[0])
    for name in ("a.csv", "a.parquet"):
        assert emoshare("predict", str(run), clip, "--out", name).status == 0
    content = parquet.read_table(tmp_path / "a.parquet").to_pydict()
    [row] = rows(tmp_path / "a.csv")
    assert list(content) == list(row)
    assert content["Anger"][0] == pytest.approx(float(row["Anger"]), abs=1e-8)


def tiers(text: str) -> dict[str, list[tuple[float, float, str]]]:
    """The intervals of each tier of a TextGrid, read by Praat's rule: numbers and quoted texts in order count."""
    words = iter(re.findall(r'(?<=[\s=])(?:-?[\d.]+(?:e-?\d+)?(?=\s)|"(?:[^"]|"")*"|<exists>)', text))
    assert [next(words) for _ in range(2)] == ['"ooTextFile"', '"TextGrid"']
    span = [float(next(words)) for _ in range(2)]
    assert next(words) == "<exists>"
    found = {}
    for _ in range(int(next(words))):
        assert next(words) == '"IntervalTier"'
        name = next(words)[1:-1].replace('""', '"')
        assert [float(next(words)) for _ in range(2)] == span
        found[name] = [(float(next(words)), float(next(words)), next(words)[1:-1]) for _ in range(int(next(words)))]
    assert not [*words]
    return found


def test_a_text_grid_has_the_shares_of_the_nearest_window(emoshare, run, corpus_root, tmp_path) -> None:
    clip = sorted((corpus_root / "wav").iterdir())[0]
    sliding = ("predict", str(run), str(clip), "--windows", "0.5", "--step", "0.25", "--out")
    for name in ("a.csv", "a.TextGrid"):
        assert emoshare(*sliding, str(tmp_path / name)).status == 0
    table = rows(tmp_path / "a.csv")
    assert len(table) > 3
    text = (tmp_path / "a.TextGrid").read_text(encoding="utf-8")
    grid = tiers(text)
    assert list(grid) == list(table[0])[3:]
    for target, intervals in grid.items():
        assert [float(label) for _, _, label in intervals] == pytest.approx([float(r[target]) for r in table], abs=1e-5)
        assert intervals[0][0] == 0
        assert intervals[-1][1] == pytest.approx(float(table[-1]["end"]))
        assert all(first[1] == second[0] for first, second in itertools.pairwise(intervals))
        middle = (float(table[1]["start"]) + float(table[1]["end"])) / 2
        assert intervals[1][0] < middle < intervals[1][1]
    told = emoshare("predict", str(run), str(clip.parent), "--out", str(tmp_path / "b.TextGrid"))
    assert "b.TextGrid: a TextGrid is of one recording, not of" in told.err
    later = Shares(
        ("a", "a"), np.array([0.5, 1.0]), np.array([1.5, 2.0]), np.array([[0.1], [0.2]], np.float32), ('say "Joy"',)
    )
    later.write(tmp_path / "c.TextGrid")
    assert tiers((tmp_path / "c.TextGrid").read_text()) == {
        'say "Joy"': [(0, 0.5, ""), (0.5, 1.25, "0.1"), (1.25, 2, "0.2")]
    }
    praatio = pytest.importorskip("praatio.textgrid")
    opened = praatio.openTextgrid(str(tmp_path / "a.TextGrid"), includeEmptyIntervals=True)
    for target in grid:
        assert [tuple(entry) for entry in opened.getTier(target).entries] == grid[target]


def test_the_table_is_one_of_audformat(emoshare, run, corpus_root, tmp_path) -> None:
    audformat = pytest.importorskip("audformat")
    clip = sorted((corpus_root / "wav").iterdir())[0]
    assert emoshare("predict", str(run), str(clip), "--step", "0.5", "--out", str(tmp_path / "a.csv")).status == 0
    table = audformat.utils.read_csv(str(tmp_path / "a.csv"))
    assert audformat.is_segmented_index(table.index)
    assert set(table.index.get_level_values("file")) == {str(clip)}
    ends = [end.total_seconds() for end in table.index.get_level_values("end")]
    assert ends == pytest.approx([float(row["end"]) for row in rows(tmp_path / "a.csv")], abs=1e-6)


def test_bad_files_stop_nothing_and_are_named(emoshare, run, corpus_root, tmp_path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for clip in sorted((corpus_root / "wav").iterdir())[:5]:
        shutil.copy(clip, folder)
    good = sorted(path.name for path in folder.iterdir())
    (folder / "empty.wav").touch()
    (folder / "text.flac").write_text("hello")
    (folder / "cut.wav").write_bytes(clip.read_bytes()[:1000])
    os.mkfifo(folder / "pipe.wav")
    result = emoshare("predict", str(run), "in", "--out", "x.csv")
    assert result.status == 1
    assert [Path(row["file"]).name for row in rows(tmp_path / "x.csv")] == good
    named = [line for line in result.err.splitlines() if line.startswith("emoshare: ")]
    assert [line.split(":")[1].strip() for line in named[:-1]] == [
        "in/cut.wav",
        "in/empty.wav",
        "in/text.flac",
    ]
    assert "3 of 8 files" in result.err


def test_what_the_shares_do_not_cover_is_said_beside_the_table(emoshare, run, tmp_path) -> None:
    soundfile.write(tmp_path / "memo.wav", np.tile(VOICE, 83), 16_000)
    soundfile.write(tmp_path / "short.wav", VOICE[:9000], 16_000)
    soundfile.write(tmp_path / "rest.wav", np.tile(VOICE, 2)[:20_800], 16_000)  # less than half a step after the first
    line = "memo.wav: shares of its first 1 s of 1:23 minutes; --step 1 for the rest\n"
    assert line in emoshare("predict", str(run), "memo.wav", "short.wav").err
    kept = emoshare("predict", str(run), "memo.wav", "--store", "--out", "x.csv")
    assert kept.err.endswith(line)
    assert "minutes" not in (tmp_path / "x.csv").read_text()
    for arguments in (["memo.wav", "--step", "1"], ["rest.wav", "--step", "1"], ["short.wav"]):
        assert "shares of" not in emoshare("predict", str(run), *arguments).err
    soundfile.write(tmp_path / "other.wav", np.tile(VOICE, 3), 16_000)
    assert "of 1:23 minutes; 2 recordings are longer" in emoshare("predict", str(run), "memo.wav", "other.wav").err


@pytest.mark.parametrize("store", [[], ["--store"]])
def test_recordings_that_nothing_can_be_told_from_are_named_once(emoshare, run, tmp_path, store) -> None:
    for name, wave in {"a": VOICE[:160], "b": VOICE[:300], "c": np.zeros(9000), "d": VOICE[:9000]}.items():
        soundfile.write(tmp_path / f"{name}.wav", wave, 16_000)
    names = [f"{name}.wav" for name in "dcba"]
    result = emoshare("predict", str(run), *names, "--out", "x.csv", *store)
    assert result.status == 0
    short = (
        "a.wav: lasts 10 ms, less than a frame of speech (25 ms): nothing can be told from it; 2 recordings are that "
        "short"
    )
    assert [line for line in result.err.splitlines() if "told from" in line] == [
        short, "c.wav: silent: nothing can be told from it",
    ]  # fmt: skip
    assert short in emoshare("embed", str(run), *names, "--out", "x.npz", *store).out
    assert "told from" not in emoshare("predict", str(run), "d.wav", "--step", "0.3").err


def test_float_files_of_another_scale(emoshare, run, tmp_path) -> None:
    soundfile.write(tmp_path / "known.wav", VOICE, 16_000)
    values, _ = soundfile.read(tmp_path / "known.wav", dtype="int16")
    soundfile.write(tmp_path / "float.wav", values, 16_000, subtype="FLOAT")
    refused = emoshare("predict", str(run), "float.wav")
    assert refused.status == 1
    assert "float.wav: float samples up to" in refused.err
    assert "--scale 32768" in refused.err
    files = ["float.wav", "known.wav"]
    for options in (["--out", "a.csv"], ["--out", "b.csv", "--store"], ["--out", "c.csv", "--step", "0.5"]):
        assert emoshare("predict", str(run), *files, "--scale", "32768", *options).status == 0
        found = rows(tmp_path / options[1])
        half = len(found) // 2
        for one, other in zip(found[:half], found[half:], strict=True):
            assert float(one["Anger"]) == pytest.approx(float(other["Anger"]), abs=1e-6)
    for out in ("a.npz", "b.npz --store"):
        command = ["embed", str(run), *files, "--scale", "32768", "--out", *out.split()]
        assert emoshare(*command).status == 0
        first, second = np.load(tmp_path / out.split()[0])["embeddings"]
        np.testing.assert_array_equal(first, second)
    assert emoshare("explain", str(run), "float.wav", "--scale", "32768").status == 0
    assert "scale=-1.0: must be a positive number" in emoshare("predict", str(run), "float.wav", "--scale", "-1").err


def test_channels_that_cancel_are_told_or_an_error(emoshare, run, tmp_path) -> None:
    soundfile.write(tmp_path / "near.wav", np.stack([VOICE, -0.9 * VOICE], 1), 16_000)
    soundfile.write(tmp_path / "silent.wav", np.stack([VOICE, -VOICE], 1), 16_000)
    for options in ([], ["--store"]):
        result = emoshare("predict", str(run), "near.wav", "silent.wav", *options)
        assert result.status == 1
        assert "near.wav: its channels cancel: their mean is 26 dB softer than they are; keep one" in result.err
        assert "silent.wav: its channels cancel" in result.err
        assert "near.wav" in result.out
        assert "silent.wav" not in result.out


def test_sound_in_other_formats_in_a_folder_is_named_at_the_end(emoshare, run, tmp_path) -> None:
    folder = tmp_path / "phone"
    folder.mkdir()
    for name in ("memo.m4a", "b.m4a", "c.3gp"):
        (folder / name).write_bytes(b"\0\0\0\x18ftyp" + (b"3gp4" if name == "c.3gp" else b"M4A ") + bytes(9))
    (folder / "notes.txt").write_text("hello")
    lines = [
        "phone/b.m4a and 1 more: MPEG-4 (m4a, mp4) is not read; convert it: "
        'for f in phone/*.m4a; do ffmpeg -i "$f" "${f%.*}.wav"; done',
        "phone/c.3gp: 3GPP (3gp) is not read; convert it: ffmpeg -i phone/c.3gp phone/c.wav",
    ]
    empty = emoshare("predict", str(run), "phone")
    assert empty.status == 1
    assert [line.removeprefix("emoshare: ") for line in empty.err.splitlines()[1:]] == lines
    soundfile.write(folder / "a.wav", VOICE, 16_000)
    found = emoshare("predict", str(run), "phone")
    assert found.status == 0
    assert found.err.splitlines()[-2:] == lines
    assert "convert it: ffmpeg -i phone/c.3gp" in emoshare("predict", str(run), "phone/c.3gp").err
    assert emoshare("embed", str(run), "phone", "--out", "x.npz").err.splitlines()[-2:] == lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.wav", "--out", "x.xls"], "x.xls: a table of shares is written as .csv, .parquet or .TextGrid"),
        (["nosuch.wav"], "nosuch.wav: no such file or folder"),
        (["--step", "0", "."], "step=0: must be from 0.025 to 3600 s"),
        (["--windows", "1", "--step", "2", "."], "leaves gaps"),
        (["--device", "cuda:9", "a.wav"], "device=cuda:9"),
    ],
)
def test_mistakes_are_one_line(emoshare, run, tmp_path, arguments, message) -> None:
    (tmp_path / "a.wav").touch()
    result = emoshare("predict", str(run), *arguments)
    assert result.status == 1
    assert message in result.err
    assert "Traceback" not in result.err


def test_a_killed_prediction_goes_on(emoshare, run, corpus_root, tmp_path) -> None:
    """Kill it again and again: at the end every file has its row, once, and the table is that of a run undisturbed."""
    folder = tmp_path / "in"
    folder.mkdir()
    clips = sorted((corpus_root / "wav").iterdir())
    for number in range(400):
        os.link(clips[number % len(clips)], folder / f"{number:03d}.wav")
    whole = emoshare("predict", str(run), "in", "--out", "whole.csv")
    assert whole.status == 0, whole.err
    kept, kills = tmp_path / "x.csv.partial", 0
    for _ in range(3):
        size = kept.stat().st_size if kept.exists() else 0
        process = Command(tmp_path, "predict", str(run), "in", "--out", "x.csv")
        while process.poll() is None:
            if kept.exists() and kept.stat().st_size > size + 100:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.002)
        kills += process.returncode == -signal.SIGKILL
        if process.returncode == 0:
            break
    assert kills >= 2
    assert emoshare("predict", str(run), "in", "--out", "x.csv").status == 0
    expected, found = rows(tmp_path / "whole.csv"), rows(tmp_path / "x.csv")
    assert [row["file"] for row in found] == [row["file"] for row in expected]
    for ours, theirs in zip(found, expected, strict=True):
        for name in ours.keys() - {"file"}:
            assert abs(float(ours[name]) - float(theirs[name])) < 1e-6
    assert not list(tmp_path.glob("*.partial*"))


def test_a_torn_journal_loses_the_torn_recording_alone(tmp_path) -> None:
    path = tmp_path / "kept"
    journal = Journal(path, {"run": "a"}, TARGETS)
    files = ["a", "b\nc", "b\nc", 'd"', 'e\r",\nf', "é\udcff"]
    journal.add(table(files))
    journal.close()
    whole = path.read_bytes()
    for cut in range(whole.index(b"b\nc"), len(whole) + 1):
        path.write_bytes(whole[:cut])
        again = Journal(path, {"run": "a"}, TARGETS)
        again.add(table([name for name in files if name not in again.done]))
        assert sorted(again.table().files) == sorted(files)
        again.close()
    with pytest.raises(package.EmoshareError, match="another prediction"):
        Journal(path, {"run": "b"}, TARGETS)


def test_a_journal_with_a_changed_bit_gives_the_same_table_or_an_error(tmp_path, caplog) -> None:
    path, files = tmp_path / "kept", ["a", "b\nc", "b\nc", "d", 'e"', "e", "f"]
    journal = Journal(path, {"run": "a"}, TARGETS)
    journal.add(table(files, 0.25))
    journal.close()
    whole, named, refused = path.read_bytes(), 0, 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 7]) + whole[at + 1 :])
        caplog.clear()
        try:
            again = Journal(path, {"run": "a"}, TARGETS)
        except package.EmoshareError:  # of another prediction
            refused += 1
            continue
        again.add(table([name for name in files if name not in again.done], 0.25))
        found = again.table()
        again.close()
        assert sorted(found.files) == sorted(files)
        assert (found.values == 0.25).all()
        named += bool(re.search(r"kept: line \d+ is damaged.*; what follows is computed again", caplog.text))
    assert named > 100
    assert refused == len('# {"run": "a"}\n')  # its first line says of which prediction it is


def test_what_is_kept_of_another_run_is_not_mixed_in(emoshare, run, corpus_root, tmp_path) -> None:
    Journal(tmp_path / "x.csv.partial", {"run": "other"}, TARGETS).close()
    clip = str(sorted((corpus_root / "wav").iterdir())[0])
    result = emoshare("predict", str(run), clip, "--out", "x.csv")
    assert result.status == 1
    assert "x.csv.partial: holds what is done of another prediction" in result.err


def test_a_file_that_is_gone_since_is_left_out_of_the_table(emoshare, run, corpus_root, tmp_path) -> None:
    """The prediction was killed, and the folder has changed until the same call came again."""
    (tmp_path / "in").mkdir()
    for clip in sorted((corpus_root / "wav").iterdir())[:3]:
        shutil.copy(clip, tmp_path / "in")
    first, *others = sorted((tmp_path / "in").iterdir())
    model = package.load(run)
    asked = {"run": model.results.run, "finished": model.results.finished, "windows": None, "step": None}
    journal = Journal(tmp_path / "x.csv.partial", asked, model.targets)
    for path in (first, others[0]):
        journal.add(model.predict([Path("in", path.name)]))
    journal.close()
    first.unlink()
    others[1] = others[1].rename(tmp_path / "in/line\rend.wav")
    result = emoshare("predict", str(run), "in", "--out", "x.csv")
    assert result.status == 0, result.err
    assert [Path(row["file"]).name for row in rows(tmp_path / "x.csv")] == sorted(path.name for path in others)


def test_tables_in_order() -> None:
    both = join([table(["b", "b"]), table(["a"], 1.0)], TARGETS)
    assert both.order(["a", "b"]).files == ("a", "b", "b")
    assert both.order(["a", "b"]).values[0].tolist() == [1.0, 1.0]
    assert "Anger" in repr(both)
    assert next(both.rows())["Joy"] == 0.5


def test_a_table_is_written_to_a_name_as_to_a_path(tmp_path) -> None:
    table(["a"]).write(f"{tmp_path}/x.csv")
    assert [row["file"] for row in rows(tmp_path / "x.csv")] == ["a"]
    with pytest.raises(package.EmoshareError, match=r"x\.xls: a table of shares is written as"):
        table(["a"]).write(f"{tmp_path}/x.xls")


def test_predicting_imports_nothing_that_only_training_needs(run, corpus_root) -> None:
    program = (
        "import sys\nfrom emoshare.command.cli import main\nstatus = main(sys.argv[1:])\n"
        "heavy = {'pytorch_lightning', 'torchmetrics', 'sklearn', 'matplotlib', 'transformers', 'wandb'}\n"
        "sys.exit(status or ', '.join(sorted(heavy & set(sys.modules))) or None)"
    )
    clip = sorted((corpus_root / "wav").iterdir())[0]
    command = [sys.executable, "-c", program, "predict", str(run), str(clip), "--step", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "RUN", "CLIP", "--out", "/proc/x.csv"],
        ["embed", "RUN", "CLIP", "--out", "/proc/x.npz"],
        ["evaluate", "RUN", "data=demo", "--out", "/proc/x"],
        ["explain", "RUN", "CLIP", "--out", "/proc/x"],
        ["export", "RUN", "--to", "onnx", "/proc/x.onnx"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_place_that_cannot_be_written_is_said_before_anything_is_computed(
    emoshare, run, corpus_root, arguments, monkeypatch
) -> None:
    def read(*given):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("emoshare.inference.model.load_model", read)
    monkeypatch.setattr("emoshare.inference.export.forms.open_bundle", read)
    clip = sorted((corpus_root / "wav").iterdir())[0]
    result = emoshare(*({"RUN": str(run), "CLIP": str(clip)}.get(word, word) for word in arguments))
    assert result.status == 1
    assert result.err.startswith("emoshare: /proc")
    assert result.err.endswith("name another place with --out\n")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("verb", ["predict", "embed"])
def test_a_step_longer_than_the_trained_window_leaves_gaps(emoshare, run, corpus_root, tmp_path, verb) -> None:
    clip = sorted((corpus_root / "wav").iterdir())[0]
    result = emoshare(verb, str(run), str(clip), "--step", "1.5", "--out", "x.csv")
    assert result.err == "emoshare: step=1.5: leaves gaps between windows of 1 s; take a smaller one\n"
    assert not list(tmp_path.glob("x.csv*"))


def test_what_a_run_stands_on_is_named_where_it_is_gone(emoshare, run, corpus_root, tmp_path) -> None:
    clip = str(sorted((corpus_root / "wav").iterdir())[0])
    shutil.copytree(run, tmp_path / "lost")
    results = json.loads((tmp_path / "lost/results.json").read_text())
    results["config"]["backbone"] |= {"type": "hubert", "path": "gone/hubert"}
    write_sealed(tmp_path / "lost/results.json", results)
    result = emoshare("predict", "lost", clip, "--out", "x.csv")
    assert result.err.startswith("emoshare: lost: the backbone that it was trained with is not at hand: ")
    assert not list(tmp_path.glob("x.csv*"))
    results = json.loads((tmp_path / "lost/results.json").read_text())
    results |= {"system": "fusion", "members": [{"run": "other", "folder": "/gone/other", "weight": 1.0}]}
    write_sealed(tmp_path / "lost/results.json", results)
    result = emoshare("predict", "lost", clip)
    assert result.err == "emoshare: lost: its member other is gone; bring it back beside it, or to /gone/other\n"


def test_long_names_of_files_cut_no_share_off(emoshare, run, corpus_root, tmp_path) -> None:
    folder = tmp_path / ("long" * 30) / ("name" * 30)
    folder.mkdir(parents=True)
    clip = shutil.copy(sorted((corpus_root / "wav").iterdir())[0], folder)
    result = emoshare("predict", str(run), str(clip))
    assert result.status == 0, result.err
    assert result.out.splitlines()[1].startswith(f"{clip} ")
    assert "…" not in result.out


def test_frames_go_through_the_store(emoshare, run, corpus_root, tmp_path) -> None:
    """The same shares and embeddings; a second run with them computes nothing, and a file that came later alone."""
    clips = sorted((corpus_root / "wav").iterdir())[:6]
    first, more = [str(path) for path in clips[:4]], [str(path) for path in clips]
    (tmp_path / "bad.wav").write_text("no sound")
    plain = emoshare("predict", str(run), *more, "--out", "plain.csv")
    assert plain.status == 0, plain.err
    for files in (first, more):
        result = emoshare("predict", str(run), *files, "bad.wav", "--store", "--cache", "kept", "--out", "x.csv")
        assert result.status == 1
        assert "bad.wav: not a sound file" in result.err
    for ours, theirs in zip(rows(tmp_path / "x.csv"), rows(tmp_path / "plain.csv"), strict=True):
        assert ours["file"] == theirs["file"]
        for name in ours.keys() - {"file"}:
            assert abs(float(ours[name]) - float(theirs[name])) < 2e-5
    segments = sorted((tmp_path / "kept/frames").glob("*/segments/*"))
    assert segments
    again = emoshare("embed", str(run), *more, "--store", "--cache", "kept", "--out", "e.npz")
    assert again.status == 0, again.err
    assert sorted((tmp_path / "kept/frames").glob("*/segments/*")) == segments
    plain = emoshare("embed", str(run), *more, "--out", "plain.npz")
    expected, found = np.load(tmp_path / "plain.npz"), np.load(tmp_path / "e.npz")
    np.testing.assert_allclose(found["embeddings"], expected["embeddings"], atol=1e-3)
    np.testing.assert_allclose(found["end"], expected["end"])
    result = emoshare("predict", str(run), *first, "--store", "--step", "1")
    assert result.status == 1
    assert "--store: keeps one window of each file" in result.err


def test_intervals_are_those_of_the_runs_results(emoshare, corpus_root, tmp_path) -> None:
    """Worked out here from results.json: the line through both knots, and the quantiles of the errors around it."""
    results = package.train(
        "data=demo", "data.clips=120", "data.groups=[]", "backbone=logmel", "window.seconds=1", "trainer.epochs=1",
        "logger=none", "trainer.progress=false",
    )  # fmt: skip
    run = tmp_path / "outputs/default" / results.run
    wav = str(corpus_root / "wav")
    assert emoshare("predict", str(run), wav, "--out", "plain.csv").status == 0
    result = emoshare("predict", str(run), wav, "--out", "shares.csv", "--intervals")
    assert result.status == 0, result.err
    plain, found = rows(tmp_path / "plain.csv"), rows(tmp_path / "shares.csv")
    intervals = json.loads((run / "results.json").read_text())["intervals"]
    for name, told in intervals["targets"].items():
        raw = np.array([float(row[name]) for row in plain])
        shares, calibrated, low, high = (
            np.array([float(row[f"{name}{end}"]) for row in found]) for end in ("", "_calibrated", "_low", "_high")
        )
        np.testing.assert_array_equal(shares, raw)
        assert told["x"] == [0, 1]
        middle = told["y"][0] + raw * (told["y"][1] - told["y"][0])
        np.testing.assert_allclose(calibrated, middle, atol=1e-6)
        np.testing.assert_allclose(low, np.clip(middle + told["low"], 0, 1), atol=1e-6)
        np.testing.assert_allclose(high, np.clip(middle + told["high"], 0, 1), atol=1e-6)
    clip = Path(found[0]["file"])
    printed = emoshare("predict", str(run), str(clip), "--intervals")
    first = found[0]
    shown = [f"{float(first[f'Anger{end}']):.2f}" for end in ("_calibrated", "_low", "_high")]
    assert "{} [{}, {}]".format(*shown) in printed.out
    assert "90 % of clips" in printed.out
    stored = emoshare("predict", str(run), wav, "--out", "stored.csv", "--intervals", "--store")
    assert stored.status == 0, stored.err
    assert [row.keys() for row in rows(tmp_path / "stored.csv")] == [row.keys() for row in found]
    told = package.load(run).predict(clip, intervals=True)
    assert told["Anger_low"] == pytest.approx(float(first["Anger_low"]), abs=1e-6)
    assert len(told) == 4 * len(intervals["targets"])


def test_a_table_that_a_terminal_is_too_narrow_for_has_a_line_for_each_target(run, corpus_root) -> None:
    from emoshare.command.predict import shares_text
    from emoshare.inference.predict import predict_files

    model = package.load(run, device="cpu")
    predicted = predict_files(model, sorted((corpus_root / "wav").glob("*.wav"))[:2])
    wide, narrow = (shares_text(predicted, model, width) for width in (200, 80))
    assert wide == shares_text(predicted, model)
    assert len(wide.splitlines()) == 4
    assert len(narrow.splitlines()) == 2 * (2 + len(model.targets))
    assert max(map(len, narrow.splitlines())) <= 80 + len(str(corpus_root))
    assert f"{predicted.table.values[0, 0]:.3f}" in narrow.splitlines()[2]


def test_a_run_without_intervals_says_so_before_it_reads_anything(emoshare, run, corpus_root, tmp_path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    results = json.loads((copy / "results.json").read_text())
    write_sealed(copy / "results.json", results | {"intervals": None})
    for more in ([], ["--out", "shares.csv"]):
        result = emoshare("predict", str(copy), str(corpus_root / "wav"), "--intervals", *more)
        assert result.status == 1
        assert "has no intervals" in result.err
        why = r"they need (19 clips, and devel has \d+|5 speakers \(data.cluster\) in devel, and it has fewer);"
        assert re.search(why, result.err)
        assert len(result.err.splitlines()) == 1
    assert not (tmp_path / "shares.csv").exists()
