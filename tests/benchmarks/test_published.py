"""A published figure has one owner, a row with its source; recipes and pages only quote it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from boxrl.benchmarks import BENCHMARKS
from boxrl.benchmarks.record import Published

ROOT = Path(__file__).parents[2]
ROWS = [(b.name, row) for b in BENCHMARKS.values() for row in b.published]
TOKENS = yaml.safe_load((ROOT / "recipes/experiments/tokens.yaml").read_text("utf-8"))["published"]
OWNED = {value for _, row in ROWS for value in row.figures.values()}
LENGTHS = {float(value) for row in TOKENS.values() for value in row.values()}
DETECTION = ("mAP", "precision@0.5", "recall@0.5")
TRIPLES = {tuple(map(row.figures.get, DETECTION)) for _, row in ROWS}
NUMBER = re.compile(r"(?<![\w.:])\d+\.\d+(?![\w.]*\d)")
SECTIONS = {3.1, 3.2, 4.1, 5.3, 6.1, 6.2, 7.1, 7.2, 7.3}
"""Of the blog of 2025-03-24."""
DIFFERENCES = {1.8, 1.9, 2.2, 0.3, 0.94, 0.19}
"""Between figures of one table, as docs/benchmarks.md tells them."""
SETTINGS = {0.5, 0.2, 0.04}
"""An IoU or a share, a step of RefGTA's accuracy, a KL weight."""


def numbers(text: str) -> set[float]:
    """Those with a decimal point."""
    return {float(found) for found in NUMBER.findall(text)}


def is_owned(value: float) -> bool:
    """A row's figure, whole or rounded to one digit."""
    return value in OWNED or value in {round(figure, 1) for figure in OWNED}


def citations() -> Iterator[tuple[str, str]]:
    """Paragraphs of recipes' comments that tell what was published."""
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        comment = "\n".join(line[1:].strip() for line in path.read_text("utf-8").splitlines()
                            if line.startswith("#"))  # fmt: skip
        for paragraph in comment.split("\n\n"):
            if re.search(r"blog|[Pp]ublished|VLM-R1's", paragraph):
                yield path.name, paragraph


CITATIONS = list(citations())


@pytest.mark.parametrize(("name", "text"), CITATIONS, ids=[name for name, _ in CITATIONS])
def test_recipes_quote_rows(name: str, text: str) -> None:
    strangers = {value for value in numbers(text) - SETTINGS - SECTIONS if not is_owned(value)}
    assert not strangers, f"{name}: no row of a benchmark has {sorted(strangers)}"


@pytest.mark.parametrize(("name", "text"), CITATIONS, ids=[name for name, _ in CITATIONS])
def test_three_figures_of_recipes_are_those_of_one_row(name: str, text: str) -> None:
    for found in re.findall(r"([\d.]+\d) / ([\d.]+\d) / ([\d.]+\d)", text):
        assert tuple(map(float, found)) in TRIPLES, f"{name}: {found}"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "recipes/experiments").glob("*.yaml")), ids=lambda path: path.stem
)
def test_experiments_quote_rows(path: Path) -> None:
    for arm, figures in (yaml.safe_load(path.read_text("utf-8")).get("published") or {}).items():
        told = [figures.get(key) for key in ("mAP", "precision", "recall")]
        assert told == [None] * 3 or tuple(told) in TRIPLES, f"{path.name}: {arm}"


def test_pages_quote_rows() -> None:
    page = (ROOT / "docs/benchmarks.md").read_text("utf-8")
    quoted = page[page.index("## The VLM-R1-OVD blog's tables") :]
    others = SECTIONS | DIFFERENCES | SETTINGS | LENGTHS
    strangers = {value for value in numbers(quoted) - others if not is_owned(value)}
    assert not strangers, f"no row of a benchmark has {sorted(strangers)}"
    tables = quoted.split("\n\n")
    triples = [
        tuple(map(float, re.findall(r"\| ([\d.]+)(?= \|)", line)[:3]))
        for table in tables
        if "mAP | precision @.5 | recall @.5 |" in table.splitlines()[0]
        for line in table.splitlines()[2:]
    ]
    assert len(triples) >= 14
    assert set(triples) <= TRIPLES


def test_other_pages_quote_rows() -> None:
    page = (ROOT / "docs/coming_from_vlm_r1.md").read_text("utf-8")
    told = [line for line in page.splitlines() if "blog" in line or "report" in line]
    strangers = {v for v in numbers("\n".join(told)) if not is_owned(v)} - SECTIONS - SETTINGS
    assert not strangers


def test_no_two_rows_of_one_source_disagree() -> None:
    """Of one model and one protocol, as far as the remark tells it."""
    found: dict[tuple[str, ...], list[Published]] = defaultdict(list)
    for benchmark, row in ROWS:
        found[benchmark, row.model, row.source, row.remark].append(row)
    for key, rows in found.items():
        names = [name for row in rows for name in row.figures]
        assert len(names) == len(set(names)), key
