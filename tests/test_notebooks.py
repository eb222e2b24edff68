"""The notebooks of docs/notebooks run, and what they show is kept in them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbclient")
pytest.importorskip("torch")

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def cells(path: Path) -> list[dict[str, Any]]:
    found = json.loads(path.read_text("utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def kinds(path: Path) -> list[list[str]]:
    """Of each cell what it shows: kinds of data, or the name of a stream."""
    return [
        [kind for out in cell["outputs"] for kind in out.get("data", [out.get("name")])]
        for cell in cells(path)
    ]


@pytest.mark.slow  # make test-notebooks, which CI calls
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_shows_what_it_showed(name: str, tmp_path: Path) -> None:
    call = [sys.executable, str(FOLDER / "execute.py"), name, "--out", str(tmp_path)]
    found = subprocess.run(call, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-3000:]
    assert kinds(tmp_path / f"{name}.ipynb") == kinds(FOLDER / f"{name}.ipynb")


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_holds_its_outputs_and_no_path_of_a_machine(name: str) -> None:
    path = FOLDER / f"{name}.ipynb"
    assert any(kinds(path))
    shown = json.dumps([cell["outputs"] for cell in cells(path)])
    assert not re.search(r"/(?:home|work|tmp|root|Users)/", re.sub(r"base64,[^\"]*", "", shown))


def test_there_are_four_and_the_site_shows_them() -> None:
    site = (FOLDER.parents[1] / "mkdocs.yml").read_text("utf-8")
    assert len(NAMES) == 4
    assert all(f"notebooks/{name}.md" in site for name in NAMES)
