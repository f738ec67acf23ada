"""The package built, and installed in an environment that has never seen the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def build(folder: Path) -> Path:
    """Put the wheel and the source distribution into a folder; built without a network."""
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        "--sdist",
        "--outdir",
        str(folder),
        str(ROOT),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def installed(folder: Path) -> Path:
    """An environment with the wheel in it, and the dependencies in sight (installing PyTorch takes minutes)."""
    [wheel] = build(folder / "dist").glob("*.whl")
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin/python"), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    [packages] = environment.glob("lib/python*/site-packages")
    seen = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    # A .pth file inside those folders is not read: an editable install of the checkout stays out of sight.
    (packages / "dependencies.pth").write_text("\n".join(seen) + "\n")
    return environment


def run(environment: Path, folder: Path, *command: str) -> str:
    """What a program of the environment prints, started in another folder without any of our variables."""
    process = start(environment, folder, *command, stderr=subprocess.STDOUT)
    said = process.communicate()[0]
    assert process.returncode == 0, said
    return said


def start(environment: Path, folder: Path, *command: str, **options: Any) -> subprocess.Popen[str]:
    """A program of the environment, as `run` starts it, with pipes to it."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "COV_"))}
    program = [str(environment / "bin" / command[0]), *command[1:]]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, **options}
    return subprocess.Popen(program, cwd=folder, env=clean, text=True, **pipes)
