"""The documentation site is built without a warning, and its links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
needs_sphinx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("sphinx", "myst_parser", "furo"))), reason="pip install -e '.[docs]'"
)


@pytest.mark.slow
@needs_sphinx
def test_the_site_has_no_warning_and_no_broken_link(tmp_path) -> None:
    site = tmp_path / "site"
    build = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-d",
        str(tmp_path / "trees"),
        "docs",
        str(site),
    ]
    built = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    links = [sys.executable, "docs/links.py", str(site)]
    checked = subprocess.run(links, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert (site / "searchindex.js").stat().st_size > 10_000
    page = (site / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|<link[^>]*href)="https?:', page)  # readable without a network
    (site / "index.html").write_text(page.replace("install.html", "instal.html"), encoding="utf-8")
    again = subprocess.run(links, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "index.html: instal.html" in again.stderr


@pytest.mark.parametrize("keys", [("backbone=logmel",), ("backbone=prosody", "head=svr")])
def test_the_table_of_files_names_all_that_a_run_writes(emoshare, tmp_path, keys) -> None:
    epochs = () if "head=svr" in keys else ("trainer.epochs=1",)
    done = emoshare("train", "data=demo", "data.clips=40", "window.seconds=1", "logger=none", *keys, *epochs)
    assert done.status == 0, done.err
    [folder] = (path.parent for path in tmp_path.glob("outputs/default/*/results.json"))
    table = (ROOT / "docs/run-files.md").read_text(encoding="utf-8")
    for path in folder.iterdir():
        if not path.name.startswith("."):
            assert f"`{path.name}" in table, path.name


def test_readme_counts_the_encoders_with_a_name_of_their_own() -> None:
    table = (ROOT / "docs/encoders.md").read_text(encoding="utf-8").partition("## By name")[2]
    named = re.findall(r"^\| `(\w+)`", table, re.M)
    assert set(named) <= {path.stem for path in (ROOT / "conf/backbone").glob("*.yaml")}
    assert f"{len(named)} encoders of the hub have a name" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_pictures_are_small_and_that_of_the_flow_is_as_it_is_drawn(monkeypatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    import pictures

    files = [*ROOT.glob("docs/*.png"), *ROOT.glob("docs/*.svg")]
    assert {path.name for path in files} >= {"explain.png", "flow.svg", "report.png", "serve.png"}
    assert all(path.stat().st_size < 150_000 for path in files)
    assert (ROOT / "docs/flow.svg").read_text(encoding="utf-8") == pictures.flow()
