"""The Python of docs/start_in_python.md runs as it stands, block by block."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "start_in_python.md"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.M)
    assert len(blocks) == 7
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "answer.png").is_file()
    assert (tmp_path / "out" / "metrics.json").is_file()
    assert len(names["run"].metrics()) == 3  # type: ignore[attr-defined]
