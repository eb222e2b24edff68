"""Every recipe that ships can be read, says how to get its data, and never imports torch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from boxrl.benchmarks import BENCHMARKS
from boxrl.config import find_recipe, load_recipe
from boxrl.errors import UsageError

FIGURE = re.compile(r"(?<![\w.@-])\d{1,2}\.\d{1,3}(?![\w.])")
"""A figure in percent as prose and tables have it: 56.06."""

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))


def test_there_are_recipes() -> None:
    assert {"quickstart", "grpo_ovd_3b", "sft_coco_3b"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_reads_and_says_what_to_type(path: Path) -> None:
    recipe = load_recipe(path, check_files=False)
    header = path.read_text("utf-8").split("name:")[0]
    assert recipe.name == path.stem.replace("_", "-")
    assert f"boxrl train recipes/{path.name}" in header
    if recipe.data.train is not None:
        assert f"--out {recipe.data.train}" in header
        assert f"boxrl validate recipes/{path.name}" in header
        assert f"--local-dir {recipe.model}" in header


def test_reading_a_recipe_imports_no_torch() -> None:
    code = (
        "import sys; from pathlib import Path; from boxrl.config import load_recipe; "
        f"load_recipe(Path({str(RECIPES[0])!r}), check_files=False); "
        "raise SystemExit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_shipped_recipes_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_recipe(find_recipe("quickstart")).name == "quickstart"
    assert find_recipe("mine.yaml") == Path("mine.yaml")
    (tmp_path / "quickstart").write_text("a file of that name comes first")
    assert find_recipe("quickstart") == Path("quickstart")
    with pytest.raises(UsageError, match=r"unknown recipe 'quickstrat'; recipes: .*quickstart"):
        find_recipe("quickstrat")


def test_published_figures_are_the_same_in_recipes_and_docs() -> None:
    root = Path(__file__).parents[1]
    page = (root / "docs" / "benchmarks.md").read_text("utf-8")
    registry = [v for b in BENCHMARKS.values() for p in b.published for v in p.figures.values()]
    known = {float(text) for text in FIGURE.findall(page)} | set(registry)
    for path in RECIPES:
        header = path.read_text("utf-8").split("\nname:")[0]
        stated = header.partition("COCO_filtered")[2]
        figures = {float(text) for text in FIGURE.findall(stated)}
        assert figures <= known, (path.name, sorted(figures - known))
