"""Options of Lightning's Trainer: every one is decided on; those that change what a run is are refused at once."""

from __future__ import annotations

import inspect

import pytest
import pytorch_lightning as pl

from emoshare.core.trainer_options import ALLOWED, CHANGE_THE_MEANING, SET_BY_EMOSHARE


def test_every_argument_of_the_trainer_is_decided_on() -> None:
    arguments = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    decided = [*ALLOWED, *CHANGE_THE_MEANING, *SET_BY_EMOSHARE]
    assert len(decided) == len(set(decided))
    assert set(decided) == arguments


@pytest.mark.parametrize("name", CHANGE_THE_MEANING)
def test_what_changes_a_run_is_refused_before_anything_runs(emoshare, small, tmp_path, name) -> None:
    result = emoshare("train", *small, f"+trainer.options.{name}=1")
    assert result.status == 1
    assert result.err.count("\n") == 1
    assert f"trainer.options.{name}: not possible here" in result.err
    assert not (tmp_path / "outputs").exists()


def test_the_mistakes_of_all_jobs_are_named_before_the_first_runs(emoshare, small, tmp_path) -> None:
    options = "+trainer.options={gradient_clip_val:1},{fast_dev_run:true},{max_stepz:1},{callbacks:1}"
    result = emoshare("train", "-m", *small, "trainer.epochs=-1", options)
    assert result.status == 1
    for words in (
        "trainer.epochs=-1",
        "fast_dev_run: not possible",
        "max_stepz: is no argument",
        "callbacks: is set",
    ):
        assert words in result.err
    assert "max_steps" not in result.err  # not proposed: it would be refused, too
    assert not (tmp_path / "outputs").exists()
