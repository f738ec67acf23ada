"""No garbage collection where libraries are imported."""

import gc
import subprocess
import sys

import pytest

from emoshare.core.garbage import importing


def test_nothing_is_collected_in_the_block_and_it_goes_on_after_it() -> None:
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_goes_on_where_an_import_fails() -> None:
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()


def test_what_training_imports_is_not_searched_again() -> None:
    code = (
        "import gc; from emoshare.command.verbs import load_libraries; load_libraries(); "
        "assert gc.isenabled(); print(gc.get_freeze_count(), len(gc.get_objects()))"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    kept, searched = map(int, said.split())
    assert kept > 100_000
    assert searched < kept / 10
