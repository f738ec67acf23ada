"""`sweep.fuse`: rows alone or with weights and seeds, and a line for what cannot be one."""

from __future__ import annotations

from emoshare.core.ensembles import FusionRequest, problems_of, requested_fusions


def test_rows_alone_are_a_mean_by_seed() -> None:
    asked = requested_fusions({"a": ["x", "y"], "b": {"rows": ["x"], "weights": "greedy", "seeds": "all"}})
    assert asked == {"a": FusionRequest(("x", "y"), "mean", "each"), "b": FusionRequest(("x",), "greedy", "all")}


def test_every_mistake_has_a_line() -> None:
    fuse = {"a": "x", "b": {"weights": "median", "seed": "all"}, "c": {"rows": ["x"], "seeds": "some"}, "d": ["x"]}
    lines = list(problems_of(fuse))
    assert len(lines) == 5
    for line, words in zip(
        lines,
        ("sweep.fuse.a=x: must be a list of rows", "must be a list of rows", "sweep.fuse.b.seed: no such key",
         "sweep.fuse.b.weights=median: must be one of mean, learned, greedy", "must be one of each, all"),
        strict=True,
    ):  # fmt: skip
        assert words in line
