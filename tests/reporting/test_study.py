"""The whole study in small: a sweep over windows on the generated corpus, and the report's answer."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakes
import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from offline import inspect

from emoshare.core.errors import EmoshareError
from emoshare.reporting.dashboard import upload
from emoshare.reporting.page import WrittenReport
from emoshare.reporting.study import newest


@pytest.fixture(scope="module")
def corpus_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo corpus in its default size."""
    from emoshare.data import demo

    root = tmp_path_factory.mktemp("study") / "demo"
    demo.generate(root, 300, 0)
    return root


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_report_shows_that_a_longer_window_helps(emoshare, small, kernel, tmp_path) -> None:
    """The generator spreads what carries emotion over time: the curve must rise, and the best beat the shortest."""
    overrides = ["backbone=logmel", "window.seconds=0.5,2.5,5.5", "seed=0,1,2"]
    overrides += ["trainer.epochs=8", "data.batch_size=32", "optimizer.lr=4e-3"]  # as far as 12 epochs of 8 at 1e-3
    sweep = emoshare("train", "-m", "experiment=table4", *small, *overrides)
    assert sweep.status == 0, sweep.err
    result = emoshare("report", "outputs/table4", "--wandb", "offline")  # its figures are drawn in a notebook, below
    assert result.status == 0, result.err
    report = tmp_path / "outputs/table4/report"
    numbers = json.loads((report / "summary.json").read_text())
    curve = [numbers[f"avg/logmel, {seconds} s"] for seconds in ("0.5", "2.5", "5.5")]
    assert curve[0] < curve[1] < curve[2]
    assert curve[2] > 0.25
    assert numbers["best/test/scc"] > 0.2
    verdicts = {row["window.seconds"]: row["verdict"] for row in rows(report / "tables/windows.csv")}
    assert len(verdicts) == 3
    assert verdicts["5.5"] == "best"
    assert verdicts["0.5"] == "worse"
    assert {path.stem for path in (report / "figures").glob("*.svg")} >= {"windows", "emotions", "predicted"}
    assert "5.5" in numbers["best/cell"]
    check_dashboard(tmp_path / "outputs/table4", numbers)

    (tmp_path / "data").mkdir()
    (tmp_path / "data/demo-300-0").symlink_to(small[1].removeprefix("data.root="))
    for name in ("explore", "results", "own_head"):
        run_notebook(NOTEBOOKS / f"{name}.ipynb", tmp_path, kernel)


def check_dashboard(sweep: Path, numbers: dict[str, Any]) -> None:
    """W&B's own program finds one run of a fixed id, with numbers that are numbers."""
    (logged,) = inspect(sweep)
    (run,) = logged.of("run")
    assert (run["run_id"], run["run_group"]) == ("table4-report", "table4")
    for key in ("best/devel/avg", "best/test/scc", "avg/logmel, 0.5 s"):
        assert logged.summary[key] == pytest.approx(numbers[key])
    assert "figures/windows.path" in logged.summary
    table = json.loads((logged.folder / "files" / logged.summary["tables/windows.path"]).read_text())
    column, cell = (table["columns"].index(name) for name in ("avg_mean", "cell"))
    assert [row[column] for row in table["data"]] == pytest.approx(
        [numbers[f"avg/logmel, {seconds} s"] for seconds in ("0.5", "2.5", "5.5")]
    )
    assert all(isinstance(row[cell], str) for row in table["data"])


def test_online_without_a_key_is_an_error(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").touch()
    monkeypatch.setitem(sys.modules, "wandb", None)  # it is not even imported
    with pytest.raises(EmoshareError, match="W&B online: no key here"):
        upload(WrittenReport(tmp_path / "report/index.html", {}), "s", "p", "online")


def mixed(outputs: Path) -> Path:
    """Outputs of many kinds; the run that finished last."""
    fakes.sweep(outputs / "old", {"tiny": 0.5}, [1.0], clips=40)
    fakes.run(outputs / "new" / "other-corpus", fakes.config(), clips=40, fingerprint="e" * 64)
    fakes.failed(outputs / "new" / "failed", fakes.config())
    (outputs / "empty").mkdir()
    (outputs / "new" / "broken").mkdir()
    (outputs / "new" / "broken" / "results.json").write_text("{")
    return fakes.run(outputs / "new" / "last", fakes.config(), clips=40, finished="2026-02-01T00:00:00")


def test_the_newest_sweep_is_found_among_other_things(tmp_path: Path) -> None:
    last = mixed(tmp_path)
    assert newest(tmp_path) == [last]
    for name in ("other-corpus", "broken"):
        shutil.rmtree(tmp_path / "new" / name)
    assert newest(tmp_path) == [tmp_path / "new"]
    shutil.rmtree(tmp_path / "new")
    assert newest(tmp_path) == [tmp_path / "old"]


def test_the_notebook_of_results_works_whatever_lies_in_outputs(kernel: KernelManager, tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    with pytest.raises(EmoshareError, match="outputs: no finished run is there yet"):
        newest(tmp_path / "outputs")
    with pytest.raises(EmoshareError, match="no finished run"):
        newest(tmp_path / "nowhere")
    mixed(tmp_path / "outputs")
    run_notebook(NOTEBOOKS / "results.ipynb", tmp_path, kernel)


def test_a_notebook_shows_an_error_as_one_line() -> None:
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    with capture_output() as shown:
        InteractiveShell().run_cell(
            "from emoshare.core.errors import EmoshareError\nraise EmoshareError('no such run')"
        )
    assert "Traceback" not in shown.stdout
    assert "emoshare: no such run" in shown.stdout


NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
ANEW = """%reset -f
import os, sys
sys.path.append({tests!r})
import drawing
drawing.dots_in_files()
os.environ["EMOSHARE_ROOT"] = {root!r}
os.chdir({folder!r})
%reset -f"""


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelManager]:
    """A kernel for all notebooks, which take longer to import than to run."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    yield manager
    manager.shutdown_kernel(now=True)


def run_notebook(path: Path, root: Path, kernel: KernelManager) -> None:
    """Execute a notebook against a root, with no names of an earlier one and an epoch for each run.

    Raises what its cells raise.
    """
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), f"{path.name} is kept without outputs"
    for cell in notebook.cells:
        cell.source = re.sub(r"trainer\.epochs=\d+", "trainer.epochs=1", cell.source)
    anew = ANEW.format(tests=str(Path(__file__).parents[1]), root=str(root), folder=str(path.parent))
    notebook.cells.insert(0, nbformat.v4.new_code_cell(anew))
    NotebookClient(notebook, timeout=300, km=kernel).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
