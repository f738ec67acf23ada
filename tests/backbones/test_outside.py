"""A backbone of the user's own, from a module outside the package, through all that ours go through."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from emoshare.backbones.base import load_backbone
from emoshare.core.config import Config, WindowConfig
from emoshare.core.errors import EmoshareError, OutsideError
from emoshare.core.typed import fill

SOURCE = """
import numpy as np
import torch
from torch import nn


class Filters(nn.Module):
    '''Energies of learned filters, one frame every 20 ms.'''

    def __init__(self, bands: int = 6, path: str = "none"):
        super().__init__()
        self.filters = nn.Conv1d(1, bands, 400, stride=320)
        self.width = bands

    def frame_counts(self, samples):
        return 1 + (samples - 400) // 320

    def forward(self, waves, lengths):
        frames = (self.filters(waves[:, None]).square() + 1e-6).log().transpose(1, 2)
        return frames, 1 + torch.div(lengths - 400, 320, rounding_mode="floor")
"""
WRONG = {  # what of the module is changed, to what → what is said of it
    ("self.width = bands", "pass"): "needs an attribute width, the numbers of a frame, and it is None",
    ("self.width = bands", "self.width = 0"): "needs an attribute width, the numbers of a frame, and it is 0",
    ("def frame_counts", "def counts"): r"needs a method frame_counts\(samples \(N,\)\)",
    ("(nn.Module)", ""): "must be a class of torch.nn.Module",
    ("1 + (samples - 400) // 320", "5"): r"its frame_counts gives \(\) for 2 clips; it must give \(2,\)",
    ("1 + (samples - 400) // 320", "2 + (samples - 400) // 320"): r"gives \[49, 29\] frames, and .* says \[50, 30\]",
    ("return frames, 1 +", "return frames, 400 +"): r"its forward gives \[448, 428\] frames, and its frame_counts",
    ("transpose(1, 2)", "mean(2)"): r"its forward gives frames \(2, 6\) for 2 clips; they must be \(2, T, 6\)",
    ("return frames, 1 +", "return frames; 1 +"): "must give two tensors",
    ("+ 1e-6).log()", "- 1e9).log()"): "its frames of noise are NaN or infinite",
    ("waves[:, None]", "waves[:, None] - waves.mean()"): "change with the clips beside it; .* equal_lengths = True",
}  # fmt: skip


@pytest.fixture
def write(tmp_path, monkeypatch):
    """`write(source, name)`: a module on the Python path, as a user's; imported anew at its next use."""
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    written = []

    def make(source: str = SOURCE, name: str = "my_backbones") -> str:
        (folder / f"{name}.py").write_text(source)
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        sys.dont_write_bytecode = True
        written.append(name)
        return f"{name}.Filters"

    yield make
    for name in written:
        sys.modules.pop(name, None)


@pytest.fixture
def allowed(emoshare):
    """`allowed(verb, …)`: a command with --allow, which must succeed; what it says."""

    def run(*arguments):
        found = emoshare(*arguments, "--allow", "my_backbones")
        assert found.status == 0, found.err
        return found.out

    return run


def section(target: str, **options):
    values = {"_target_": target, **options}
    return fill(Config, {"backbone": values}, "test", asked=True).backbone


def overrides(small: list[str], target: str, svr: bool = False) -> list[str]:
    rest = [line for line in small if not line.startswith(("backbone=", "trainer.epochs" if svr else "backbone="))]
    return [*rest, *(["head=svr", "head.grid=[0.01]"] if svr else []), f"backbone._target_={target}"]


def run_folders(tmp_path: Path) -> list[Path]:
    return sorted(path.parent for path in (tmp_path / "outputs/default").glob("*/results.json"))


def shares(path: Path) -> np.ndarray:
    return np.loadtxt(path, delimiter=",", skiprows=1, usecols=range(3, 12))


def test_from_training_to_export(emoshare, small, write, allowed, tmp_path, corpus_root):
    mine = overrides(small, write())
    assert emoshare("train", *mine, "backbone.bands=5", "backbone.path=x").status == 0
    [run] = run_folders(tmp_path)
    assert run.name.startswith("Filters-1s-seed0-")
    results = json.loads((run / "results.json").read_text())
    assert results["backbone"]["dim"] == 5
    assert results["frames"]["source"] == "store"
    assert len(results["config"]["backbone"]["_source_"]) == 16
    assert results["config"]["backbone"]["path"] == "x"
    assert emoshare("train", *mine, "backbone.bands=5", "backbone.path=x").out.startswith("skipped")
    clips = str(corpus_root / "wav")
    allowed("predict", str(run), clips, "--out", "own.csv")
    allowed("embed", str(run), clips, "--out", "frames.npz")
    assert np.load("frames.npz")["embeddings"].shape == (48, 5)
    allowed("evaluate", str(run), "data=compare23", f"data.root={corpus_root}")
    allowed("explain", str(run), next(iter(sorted((corpus_root / "wav").iterdir()))).as_posix())
    assert emoshare("report", "outputs/default").status == 0
    allowed("export", str(run), "--to", "hub", "folder")
    assert (tmp_path / "folder/backbone/model.safetensors").is_file()
    allowed("predict", "folder", clips, "--out", "exported.csv")
    np.testing.assert_allclose(shares(tmp_path / "own.csv"), shares(tmp_path / "exported.csv"), atol=1e-6)
    allowed("export", str(run), "--to", "onnx", "model.onnx")


@pytest.mark.parametrize("more", [["backbone.frozen=false"], ["backbone.cache=false"], ["window=native"]])
def test_in_the_loop_trained_or_without_padding(emoshare, small, write, allowed, tmp_path, corpus_root, more):
    assert emoshare("train", *overrides(small, write()), *more).status == 0
    [run] = run_folders(tmp_path)
    allowed("predict", str(run), str(corpus_root / "wav"), "--out", "own.csv")
    allowed("export", str(run), "--to", "hub", "folder")
    allowed("predict", "folder", str(corpus_root / "wav"), "--out", "exported.csv")
    np.testing.assert_allclose(shares(tmp_path / "own.csv"), shares(tmp_path / "exported.csv"), atol=1e-6)


def test_a_vector_per_clip_of_clips_of_equal_length_alone(emoshare, small, write, allowed, tmp_path, corpus_root):
    source = SOURCE.replace("1 + (samples - 400) // 320", "np.ones_like(samples)").replace(
        'return frames, 1 + torch.div(lengths - 400, 320, rounding_mode="floor")',
        "return frames.mean(1, keepdim=True), torch.ones_like(lengths)",
    )
    target = write(source.replace("def __init__", "equal_lengths = True\n\n    def __init__"))
    assert emoshare("train", *overrides(small, target, svr=True), "window=native").status == 0
    [run] = run_folders(tmp_path)
    allowed("predict", str(run), str(corpus_root / "wav"), "--out", "own.csv")
    refused = emoshare("export", str(run), "--to", "onnx", "--allow", "my_backbones")
    assert refused.err.strip().endswith("takes clips of equal length alone, and an ONNX file takes any; use --to hub")


def test_a_yaml_of_the_users_own_gives_it_a_name(emoshare, small, write, tmp_path):
    file = tmp_path / "conf/backbone/bank.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"name: bank\n_target_: {write()}\nbands: 3\n")
    data = [line for line in small if line.startswith(("data", "window"))]
    assert emoshare("extract", "--config-dir", str(tmp_path / "conf"), *data, "backbone=bank").status == 0
    [recipe] = (tmp_path / "cache/frames").glob("*/recipe.json")
    found = json.loads(recipe.read_text())["backbone"]
    assert (found["name"], found["dim"], found["options"]["bands"]) == ("bank", 3, 3)


def test_another_source_is_another_run_with_frames_of_its_own(emoshare, small, write, tmp_path):
    target = write()
    assert emoshare("train", *overrides(small, target)).status == 0
    write(SOURCE.replace("+ 1e-6", "+ 1e-5"))
    assert emoshare("train", *overrides(small, target)).status == 0
    assert len(run_folders(tmp_path)) == 2
    stores = [path for path in (tmp_path / "cache/frames").iterdir() if path.is_dir()]
    assert len(stores) == 2


def test_the_seed_draws_its_weights_and_is_part_of_an_svrs_run(emoshare, small, write, tmp_path):
    backbone = section(write())
    first, again, other = (load_backbone(backbone, WindowConfig(), seed=seed).identity["weights"] for seed in (0, 0, 1))
    assert first == again != other
    mine = overrides(small, "my_backbones.Filters", svr=True)
    for seed in (0, 1):
        assert emoshare("train", *mine, f"seed={seed}").status == 0
    assert len(run_folders(tmp_path)) == 2


def test_a_file_that_an_option_names_counts_by_its_content(write, tmp_path):
    weights = tmp_path / "w.bin"
    weights.write_bytes(b"1")
    backbone = section(write(), path=str(weights))
    first = backbone.sources(tmp_path / "cache")
    weights.write_bytes(b"22")
    assert backbone.sources(tmp_path / "cache") != first
    assert section("my_backbones.Filters", path="relu").sources(tmp_path / "cache")["files"] == {}


def test_what_a_folder_names_is_not_imported_unless_it_is_allowed(emoshare, small, write, tmp_path, corpus_root):
    assert emoshare("train", *overrides(small, write())).status == 0
    [run] = run_folders(tmp_path)
    for name in [name for name in sys.modules if name == "my_backbones"]:
        del sys.modules[name]
    for asked in (
        ["predict", str(run), str(corpus_root / "wav"), "--out", "x.csv"],
        ["export", str(run), "--to", "onnx"],
    ):
        found = emoshare(*asked)
        assert found.status == 1
        assert found.err.strip().startswith(f"emoshare: {run}: my_backbones.Filters: is code from outside emoshare")
        assert "--allow my_backbones" in found.err
        assert "my_backbones" not in sys.modules


@pytest.mark.parametrize(("change", "said"), WRONG.items())
def test_a_class_that_does_not_fit_is_told_in_one_line(write, change, said):
    assert change[0] in SOURCE
    backbone = section(write(SOURCE.replace(*change)))
    with pytest.raises(EmoshareError, match=said) as error:
        backbone.check_loadable(WindowConfig(pad="none"))
    assert "my_backbones.Filters" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("self.width = bands", 'raise ValueError("no")'), "raise ValueError"),
        (("frames = (", "frames = waves @ ("), "frames = waves @"),
    ],
)
def test_a_crash_shows_the_users_frames_alone(write, change, line):
    with pytest.raises(OutsideError) as error:
        section(write(SOURCE.replace(*change))).check_loadable(WindowConfig())
    first, *frames = str(error.value).splitlines()
    assert first.startswith("my_backbones.Filters")
    assert any(line in frame for frame in frames)
    assert not any("emoshare" in frame for frame in frames if frame.startswith("  File"))


def test_nothing_to_train(write):
    source = SOURCE.replace("self.filters = nn.Conv1d(1, bands, 400, stride=320)", "").replace(
        "self.filters(waves[:, None])", "waves.unfold(1, 400, 320)[..., :6].transpose(1, 2)"
    )
    section(write(source)).check_loadable(WindowConfig())
    with pytest.raises(
        EmoshareError, match=r"^backbone\.frozen=false: my_backbones\.Filters has no parameters to train"
    ):
        section("my_backbones.Filters", frozen=False).check_loadable(WindowConfig())


def test_half_precision_where_the_class_allows_it(write):
    import torch

    backbone = load_backbone(section(write()), WindowConfig(), torch.bfloat16)
    assert next(backbone.parameters()).dtype == torch.float32
    write(SOURCE.replace("def __init__", "float32_only = False\n\n    def __init__"))
    backbone = load_backbone(section("my_backbones.Filters"), WindowConfig(), torch.bfloat16)
    assert backbone(torch.zeros(2, 16_000))[0].dtype == torch.bfloat16
