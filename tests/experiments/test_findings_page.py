"""docs/findings.md says what the outcomes beside it say, to the figure."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "perf" / "findings.py"


@pytest.fixture(scope="module")
def findings() -> ModuleType:
    spec = importlib.util.spec_from_file_location("findings", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_figure_of_the_page_is_typed_by_hand(findings: ModuleType) -> None:
    assert findings.PAGE.read_text("utf-8") == findings.render_page()


def test_every_picture_of_the_page_is_there(findings: ModuleType) -> None:
    outcomes, _ = findings.read_outcomes()
    links = [link for item in outcomes for link in findings.picture_links(item).values()]
    assert all((findings.PAGE.parent / link).is_file() for link in links)


def test_a_grid_at_full_scale_has_its_price(findings: ModuleType) -> None:
    # 500 steps of 25 s on 8 GPUs are 27.8 GPU hours; of 30 s, 33.3.
    assert findings.gpu_hours(3) == "83 to 100 GPU hours"
