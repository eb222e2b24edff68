"""docs/reliability.md says what the records beside it say, and stays short."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "perf" / "faults.py"


@pytest.fixture(scope="module")
def faults() -> ModuleType:
    spec = importlib.util.spec_from_file_location("faults", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_that_of_the_data(faults: ModuleType) -> None:
    assert faults.PAGE.read_text("utf-8") == faults.render_page()


def test_the_page_has_at_most_900_words(faults: ModuleType) -> None:
    assert len(faults.PAGE.read_text("utf-8").split()) <= 900


def test_records_of_one_fault_become_one_row(
    faults: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {
        "fault": "kill -9", "verb": "train", "how": "at a step", "times": 2, "saw": "x ━━ y | z",
        "lost": 0, "of": 3, "unit": "steps", "commit": "abc",
    }  # fmt: skip
    records = tmp_path / "records.jsonl"
    lines = (record, record | {"how": "at the end"}, record | {"lost": 1, "saw": "boxrl: z " * 50})
    records.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    monkeypatch.setattr(faults, "DATA", tmp_path / "reliability.csv")
    faults.write_data(faults.merge_records(records, "a machine"))
    first, second = faults.read_data()
    assert (first["how"], first["times"], first["lost"], first["of"]) == ("at a step", 4, 1, 6)
    assert (second["saw"], second["machine"]) == ("x y | z", "a machine")
    assert len(first["saw"]) <= faults.LONGEST
    table = faults.render_table([first, second])
    assert table.startswith("6 faults of 1 kinds were injected; 1 things were lost.")
    assert "| kill -9 | train | 6 | 1 | `boxrl: z boxrl: z" in table
    assert table.endswith("*a machine; commit abc.*")
