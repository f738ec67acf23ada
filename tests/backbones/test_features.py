"""backbone=features: what another tool has computed, by file name, in the store as the file has it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from composed import on_cpu
from recipes import settings_of, table

from emoshare.command.compose import compose_one
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.data.corpus import load
from emoshare.inference.export.forms import export_model
from emoshare.models.joining import join
from emoshare.runs.resolved import ResolvedRun
from emoshare.store.tensors import JoinedStore, TensorStore
from emoshare.training import source
from emoshare.training.ready import check_ready
from emoshare.training.train import train

Written = dict[str, np.ndarray]  # name → (D,) or (T, D)
COLUMNS = ["a", "b", "c", "d"]


@pytest.fixture
def settings(corpus_root: Path, tmp_path: Path) -> list[str]:
    found = settings_of(corpus_root, tmp_path)
    return [line for line in found if not line.startswith(("backbone=", "window.", "trainer.epochs"))]


@pytest.fixture
def files(corpus_root: Path, tmp_path: Path, settings: list[str]) -> list[str]:
    config = compose_one([*settings, "backbone=logmel"])
    return list(load(config.data, Path(config.paths.cache)).files)


@pytest.fixture
def vectors(files: list[str]) -> Written:
    rng = np.random.default_rng(0)
    return {file: rng.normal(0, 1000, len(COLUMNS)) for file in files}


@pytest.fixture
def frames(files: list[str]) -> Written:
    rng = np.random.default_rng(1)
    return {file: rng.normal(size=(count, len(COLUMNS))) for count, file in enumerate(files, 1)}


def composed(settings: list[str], path: Path, *more: str) -> Config:
    return compose_one([*settings, "backbone=features", f"backbone.path={path}", *more])


def svr(settings: list[str]) -> list[str]:
    """The settings of a run with that head."""
    return [*(line for line in settings if not line.startswith("trainer.precision")), "head=svr"]


def stored(config: Config) -> TensorStore | JoinedStore:
    return source.open_store(on_cpu(config))


def clips_of(store: TensorStore | JoinedStore) -> list[np.ndarray]:
    """Frames of every clip, each gathered alone."""
    return [store.gather(np.array([row]))[0][0].numpy() for row in range(len(store.lengths))]


def rows(written: Written) -> list[tuple[str, np.ndarray]]:
    """A row for each frame of each clip."""
    return [(name, row) for name, array in written.items() for row in np.atleast_2d(array)]


def write_csv(
    path: Path, written: Written, header: list[str], more: tuple[str, ...] = (), separator: str = ","
) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow([*header, *COLUMNS])
        writer.writerows([name, *more, *map(repr, row.tolist())] for name, row in rows(written))
    return path


def npz_by_name(folder: Path, written: Written) -> Path:
    np.savez(folder / "made.npz", **{name.removesuffix(".wav"): array for name, array in written.items()})
    return folder / "made.npz"


def npz_of_rows(folder: Path, written: Written) -> Path:
    names, values = zip(*rows(written), strict=True)
    np.savez(folder / "made.npz", files=np.array(names), features=np.stack(values))
    return folder / "made.npz"


def npz_of_embed(folder: Path, written: Written) -> Path:
    names, values = zip(*rows(written), strict=True)
    zeros = np.zeros(len(names))
    np.savez(folder / "made.npz", files=np.array(names), start=zeros, end=zeros, embeddings=np.stack(values))
    return folder / "made.npz"


def folder_of_npy(folder: Path, written: Written) -> Path:
    made = folder / "made"
    for number, (name, array) in enumerate(written.items()):
        place = (made / "deeper" / name).with_suffix(".npy" if number % 2 else ".npz")
        place.parent.mkdir(parents=True, exist_ok=True)
        np.save(place, array) if number % 2 else np.savez(place, array)
    (made / "notes.txt").write_text("not a feature")
    return made


def csv_of_names(folder: Path, written: Written) -> Path:
    return write_csv(folder / "made.csv", written, ["filename"])


def csv_of_opensmile(folder: Path, written: Written) -> Path:
    """As its csvsink writes it."""
    quoted = {f"'{name}'": array for name, array in written.items()}
    return write_csv(folder / "made.csv", quoted, ["name", "frameTime"], ("0.000000",), ";")


def csv_of_audformat(folder: Path, written: Written) -> Path:
    elsewhere = {f"/data/corpus/wav/{name}": array for name, array in written.items()}
    times = ("0 days 00:00:00", "0 days 00:00:01.5")
    return write_csv(folder / "made.csv", elsewhere, ["file", "start", "end"], times)


def parquet_of_columns(folder: Path, written: Written) -> Path:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    names, values = zip(*rows(written), strict=True)
    columns = dict(zip(COLUMNS, np.stack(values).T, strict=True))
    parquet.write_table(pa.table({"file": names, "start": np.zeros(len(names)), **columns}), folder / "made.parquet")
    return folder / "made.parquet"


def csv_of_pandas(folder: Path, written: Written) -> Path:
    """With the numbers of the rows, in a column without a name."""
    names, values = zip(*rows(written), strict=True)
    frame = pandas.DataFrame(np.stack(values), columns=COLUMNS)
    frame.insert(0, "file", names)
    frame.to_csv(folder / "made.csv")
    return folder / "made.csv"


def parquet_of_pandas(folder: Path, written: Written) -> Path:
    pytest.importorskip("pyarrow")
    frame = pandas.read_csv(csv_of_pandas(folder, written), index_col=0)
    frame.set_index(frame.index**2).to_parquet(folder / "made.parquet")
    return folder / "made.parquet"


def parquet_of_lists(folder: Path, written: Written) -> Path:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    made = pa.table({"embedding": [array.tolist() for array in written.values()], "file": list(written)})
    parquet.write_table(made, folder / "made.parquet")
    return folder / "made.parquet"


FORMATS = [
    npz_by_name, npz_of_rows, npz_of_embed, folder_of_npy, csv_of_names, csv_of_opensmile, csv_of_audformat,
    parquet_of_columns, parquet_of_lists, csv_of_pandas, parquet_of_pandas,
]  # fmt: skip


@pytest.mark.parametrize("shape", ["vector", "frames"])
@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_stored_frames_are_the_numbers_of_the_file(
    write: Callable[[Path, Written], Path], shape: str, settings, vectors, frames, files, tmp_path
) -> None:
    written = vectors if shape == "vector" else frames
    backwards = dict(reversed(written.items()))  # found by name, not by place
    config = composed(settings, write(tmp_path, backwards))
    assert (config.backbone.dim, config.backbone.shape, config.backbone.name) == (4, shape, "made")
    store = stored(config)
    assert store.computed == len(files)
    for file, found in zip(files, clips_of(store), strict=True):
        np.testing.assert_array_equal(found, np.atleast_2d(written[file]).astype(np.float32))
    assert not stored(config).computed


def test_an_edited_file_is_another_run_and_a_moved_one_the_same(settings, vectors, tmp_path) -> None:
    path = npz_of_rows(tmp_path, vectors)
    config = composed(svr(settings), path)
    train(config)
    run = ResolvedRun(config)
    assert run.finished
    moved = path.rename(tmp_path / "moved.npz")
    again = ResolvedRun(composed(svr(settings), moved, "backbone.name=made", "window.seconds=0.3"))
    assert again.run.folder == run.run.folder  # no window applies
    vectors[next(iter(vectors))][0] += 1
    npz_of_rows(tmp_path, vectors)
    other = ResolvedRun(config)
    assert other.run.folder != run.run.folder
    assert not other.finished
    assert stored(config).computed


def test_a_finished_run_is_found_when_its_features_are_gone(settings, vectors, tmp_path) -> None:
    path = npz_of_rows(tmp_path, vectors)
    train(composed(svr(settings), path))
    path.unlink()
    assert ResolvedRun(composed(svr(settings), path)).finished


@pytest.mark.parametrize(("head", "shape"), [("mlp", "vector"), ("mlp", "frames"), ("svr", "frames")])
def test_joined_with_an_encoder(head: str, shape: str, settings, vectors, frames, files, tmp_path) -> None:
    """A vector stands beside every frame; frames are stretched to as many as there are of the fewest."""
    written = vectors if shape == "vector" else frames
    settings = svr(settings) if head == "svr" else [*settings, "trainer.epochs=2"]
    parts = f"backbone.parts=[logmel,{{type:features,path:{npz_by_name(tmp_path, written)}}}]"
    more = ["window=native", "window.seconds=2"]
    config = compose_one([*settings, "backbone=concat", parts, *more])
    assert config.backbone.name == "logmel+made"
    joined = stored(config)
    logmel = stored(compose_one([*settings, "backbone=logmel", *more]))
    for row, file in enumerate(files):
        given = torch.from_numpy(np.atleast_2d(written[file])[None].astype(np.float32))
        beside = [logmel.gather(np.array([row])), (given, torch.tensor([given.shape[1]]))]
        np.testing.assert_array_equal(joined.gather(np.array([row]))[0], join(beside, head == "mlp")[0])
    train(config)
    run = ResolvedRun(config).run
    assert json.loads(run.results_path.read_text())["frames"]["parts"][1]["bytes"]
    assert np.isfinite(table(run, "test")).all()


def spoil(problem: str, written: Written) -> Written:
    """The features with one mistake or two."""
    first, second, third, *_ = written
    names = {"extension": {name: name.replace(".wav", ".txt") for name in written}}.get(problem, {})
    found = {names.get(name, name): array.copy() for name, array in written.items()}
    if problem == "missing":
        del found[first], found[second]
    elif problem == "twice":
        found[first.removesuffix(".wav")] = found[first]
    elif problem == "nan":
        found[second][1], found[third][0] = np.nan, np.inf
    elif problem == "large":
        found[second][1] = 1e39
    elif problem == "widths":
        found[third] = found[third][:3]
    elif problem == "text":
        found[first] = np.array(["x"] * 4)
    elif problem == "shape":
        found[first] = np.zeros((2, 2, 4))
    return found


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ("missing", r"made.npz: no features of {0}, {1}; add them under the clips' names, or take these"),
        (
            "extension",
            r"no features of {0}, \S+, \S+ and 45 more \(\S+\.txt, \S+, \S+ and 45 more are no clips of the corpus\)",
        ),
        ("twice", r"made.npz: {0} and \S+ are both features of {0}; leave one"),
        ("nan", r"made.npz: NaN or infinite in single precision: the features of {1}, {2}; compute them again"),
        ("large", r"made.npz: NaN or infinite in single precision: the features of {1}; compute"),
        ("widths", r"made.npz: not the same number of features of every clip \(3 of {2}; 4 of {0}, "),
        ("text", r"made.npz: no numbers \(<U1\): the features of {0};"),
        ("shape", r"made.npz: neither a vector \(D,\) nor frames \(T, D\), but \(2, 2, 4\): the features of {0};"),
    ],
)
def test_features_that_cannot_be_used(problem: str, message: str, settings, vectors, files, tmp_path) -> None:
    path = tmp_path / "made.npz"
    np.savez(path, **spoil(problem, vectors))
    names = [name.replace(".", r"\.") for name in vectors]
    with pytest.raises(EmoshareError, match=message.format(*names)) as error:
        check_ready([on_cpu(composed(settings, path))])
    assert "\n" not in str(error.value)


def test_clips_of_no_corpus_are_left_out_and_named(settings, vectors, files, tmp_path) -> None:
    path = npz_by_name(tmp_path, vectors | {"other": np.zeros(4)})
    config = composed(settings, path)
    assert f"{path}: other is no clip of the corpus; they are left out" in check_ready([on_cpu(config)])
    assert stored(config).computed == len(files)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npz", "no zip", "cannot be read as features"),
        ("a.csv", "clip,x\na.wav,1\n", "no column file, filename or name"),
        ("a.csv", "file,x,mood\na.wav,1,joy\n", "column 'mood' holds other things than numbers"),
        ("a.csv", "file,start,end\na.wav,1,2\n", "no column of features"),
        ("a.csv", "file,x\n", "holds no features"),
        ("a.arff", "@relation", "features are read from an .npz, .csv or .parquet file, or a folder"),
        ("a/notes.txt", "", "holds no features"),
        (None, None, "no such file or folder"),
    ],
)
def test_files_that_are_no_features(name, content, message, settings, tmp_path) -> None:
    path = tmp_path / "a"
    if name:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
        path = tmp_path / name.split("/")[0]
    with pytest.raises(EmoshareError, match=message) as error:
        composed(settings, path)
    assert "\n" not in str(error.value)


def test_pickled_objects_are_not_loaded(settings, tmp_path) -> None:
    np.savez(tmp_path / "made.npz", a=np.array([{}], object))
    with pytest.raises(EmoshareError, match="Object arrays cannot be loaded"):
        composed(settings, tmp_path / "made.npz")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["backbone.frozen=false"], "the backbone is trained"),
        (["window.crop=random"], "every epoch sees other windows"),
        (["backbone.cache=false"], "backbone.cache=false: frames of a file are stored as they are"),
        (["augment=[noise20]"], "augment: made has features of the clips as they are, and none of their variants"),
        (["backbone.dim=3"], "backbone.dim=3: must be 4, as in .*; leave it out"),
        (["backbone.shape=frames"], "backbone.shape=frames: must be vector, as in .*; leave it out"),
    ],
)
def test_keys_that_say_something_else(keys, message, settings, vectors, tmp_path) -> None:
    with pytest.raises(EmoshareError, match=message):
        composed(settings, npz_of_rows(tmp_path, vectors), *keys)


def test_new_recordings_need_features_of_theirs(emoshare, small, corpus_root, files, vectors, tmp_path) -> None:
    small = [line for line in small if not line.startswith(("backbone=", "window.", "trainer.epochs"))]
    path = npz_of_rows(tmp_path, vectors)
    assert emoshare("train", *small, "backbone=features", f"backbone.path={path}", "head=svr").status == 0
    [run] = tmp_path.glob("outputs/default/*svr*")
    first, second = (str(corpus_root / "wav" / name) for name in files[:2])
    refused = emoshare("predict", str(run), first)
    assert refused.status == 1
    assert refused.err.count("\n") == 1
    assert "give those of these recordings with `emoshare predict --store --features FILE`" in refused.err
    known = emoshare("predict", str(run), second, "--store").out.splitlines()[1].split()
    np.savez(tmp_path / "new.npz", **{files[0]: vectors[files[1]]})
    new = emoshare("predict", str(run), first, "--store", "--features", str(tmp_path / "new.npz"))
    assert new.out.splitlines()[1].split()[3:] == known[3:]
    np.savez(tmp_path / "new.npz", **{files[0]: np.zeros(3)})
    other = emoshare("predict", str(run), first, "--store", "--features", str(tmp_path / "new.npz"))
    assert "new.npz: 3 features, and the run was trained on 4" in other.err
    for form, place in (("hub", tmp_path / "hub"), ("onnx", tmp_path / "model.onnx")):
        with pytest.raises(EmoshareError, match="a run on features of a file cannot be exported"):
            export_model(run, form, place)
