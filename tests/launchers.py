"""Hydra's launchers in tests: only those that are installed, and Ray only where it can start a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PACKAGES = {
    "gpus": "hydra_plugins.hydra_joblib_launcher",
    "submitit_local": "hydra_plugins.hydra_submitit_launcher",
    "cluster": "hydra_plugins.hydra_ray_launcher",
}
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@contextmanager
def working(launcher: str) -> Iterator[None]:
    """Skip the test where a launcher is not installed, or where what fails in it is that Ray starts no cluster."""
    pytest.importorskip(PACKAGES[launcher])
    try:
        yield
    except (AssertionError, subprocess.TimeoutExpired):
        if launcher == "cluster" and (problem := ray_problem()):
            pytest.skip(f"Ray starts no local cluster here: {problem}")
        raise


def ray_problem() -> str | None:
    """Why Ray starts no local cluster, as in a container without a network; None where it does."""
    command = [sys.executable, "-c", "import ray; ray.init(num_cpus=1); ray.get(ray.remote(lambda: 1).remote())"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    except subprocess.TimeoutExpired:
        return "no answer in 90 s"
    return done.stderr.strip().splitlines()[-1] if done.returncode else None
