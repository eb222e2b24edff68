"""The glossary: every term of a page is explained, in the docs and on hover, by one owner."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from boxrl.evaluate.summary import METRICS, STATUSES
from boxrl.report import build_report
from boxrl.report.glossary import GLOSSARY, Terms, anchor, glossary_table
from boxrl.report.training import SINGLE
from tests.report.test_page import Page
from tests.support.report_runs import build_run

CONCEPTS = Path(__file__).parents[2] / "docs" / "concepts.md"


def test_the_docs_show_the_glossary_as_it_is() -> None:
    assert glossary_table() in CONCEPTS.read_text("utf-8"), "run python docs/glossary.py"


@pytest.mark.parametrize(
    "name",
    [m.name for m in METRICS if not m.detail] + list(STATUSES) + [title for title, *_ in SINGLE],
)
def test_every_term_of_a_page_is_explained_without_a_link(name: str) -> None:
    assert len(GLOSSARY[name]) > 10
    assert "](" not in GLOSSARY[name]


def test_terms_are_escaped_and_have_anchors_of_their_own() -> None:
    term = Terms()
    assert term("<script>") == "&lt;script&gt;"
    assert not term.used
    assert 'href="#term-map"' in term("mAP") and 'title="COCO' in term("mAP")
    assert len({anchor(name) for name in GLOSSARY}) == len(GLOSSARY)


def test_links_of_a_page_lead_to_its_own_glossary(tmp_path: Path) -> None:
    build_report(build_run(tmp_path / "run", samples=4), tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    linked = {a["href"] for t, a in page.elements if t == "a" and a.get("class") == "term"}
    assert len(linked) > 20
    assert {f"#{name}" for name in ids if str(name).startswith("term-")} == linked
    assert len(ids) == len(set(ids))
    titles = [a for _, a in page.elements if a.get("class") == "term"]
    assert all(re.search(r"\w", str(a["title"])) for a in titles)
