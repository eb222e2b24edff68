"""`import boxrl` costs nothing, and has the names that people expect."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import boxrl
from boxrl.evaluate.calling import evaluate_files

LIGHT = """
import sys, time
began = time.process_time()  # of this process, however busy the machine is
import boxrl
took = time.process_time() - began
heavy = {"torch", "numpy", "PIL", "pydantic", "rich", "transformers"} & set(sys.modules)
assert not heavy, heavy
assert took < 0.1, took
print(sorted(dir(boxrl)))
"""


def test_importing_is_quick_and_loads_nothing_heavy() -> None:
    found = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert all(name in found.stdout for name in boxrl.__all__)


@pytest.mark.parametrize("name", boxrl.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    assert getattr(boxrl, name).__doc__


def test_an_unknown_name_is_an_ordinary_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'detect'"):
        boxrl.detect  # type: ignore[attr-defined]  # noqa: B018


def test_evaluate_is_a_package_and_a_function() -> None:
    from boxrl.evaluate.files import read_evaluation  # noqa: F401

    assert callable(boxrl.evaluate)
    assert inspect.signature(boxrl.evaluate) == inspect.signature(evaluate_files)
