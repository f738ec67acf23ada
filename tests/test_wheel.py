"""The built package, in an environment that has never seen the checkout."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest
from wheel import ROOT, installed, run


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def built(environment: Path) -> Path:
    """A folder with the wheel and the source distribution."""
    return environment.parent / "dist"


def test_the_wheel_holds_what_runs_and_nothing_else(built) -> None:
    [wheel] = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {str(p.relative_to(ROOT)) for p in (ROOT / "emoshare").rglob("*") if p.is_file() and p.suffix != ".pyc"}
    configs = {f"emoshare/{p.relative_to(ROOT)}" for p in (ROOT / "conf").rglob("*.yaml")}
    assert {"emoshare/conf/train.yaml", "emoshare/conf/backbone/hubert_large.yaml"} <= configs
    assert {"emoshare/reporting/page.html.j2", "emoshare/reporting/paper.yaml"} <= package
    page = [file for suffix in ("html", "css", "js", "svg") for file in package if file.endswith(f".{suffix}")]
    assert {"index.html", "page.css", "page.js", "capture.js", "icon.svg"} <= {Path(file).name for file in page}
    assert {name for name in names if ".dist-info/" not in name} == package | configs
    assert [name for name in names if name.endswith("/licenses/LICENSE")]


def test_the_source_distribution_can_be_built_and_tested(built) -> None:
    [archive] = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert names >= {
        "pyproject.toml", "README.md", "LICENSE", "Makefile", "conf/train.yaml", "emoshare/command/cli.py",
        "emoshare/reporting/page.html.j2", "tests/conftest.py", "tests/test_wheel.py",
    }  # fmt: skip
    assert not {name for name in names if name.startswith((".venv", "outputs", "data", "cache"))}


def test_nothing_of_the_checkout_is_in_sight(environment, tmp_path) -> None:
    program = "import sys, emoshare, emoshare.reporting; print(emoshare.__file__, *sys.path, sep='\\n')"
    file, *path = run(environment, tmp_path, "python", "-I", "-c", program).splitlines()
    assert Path(file).is_relative_to(environment)
    assert str(ROOT) not in path


def test_conf_is_found_inside_the_package(environment, tmp_path) -> None:
    config = run(environment, tmp_path, "emoshare", "train", "--cfg", "job")
    assert "path: facebook/hubert-large-ll60k" in config
    assert "seconds: 5.5" in config
    where = run(environment, tmp_path, "emoshare", "train", "--info", "searchpath")
    assert str(environment) in where
    assert str(ROOT) + "/conf" not in where
    assert not list(tmp_path.iterdir())


def test_the_module_is_the_program(environment, tmp_path) -> None:
    assert run(environment, tmp_path, "python", "-m", "emoshare", "--version") == run(
        environment, tmp_path, "emoshare", "--version"
    )
