"""The page of `boxrl data show` as people use it: filters, one sample large, desktop and phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from boxrl.cli import main
from boxrl.data.samples import write_samples
from boxrl.types import Object, Sample
from tests.browser.conftest import Opened
from tests.support.archives import write_image

pytestmark = pytest.mark.browser
Visit = Callable[..., Opened]
HOSTILE = "</script><script>alert(1)</script>"
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cat under a name of markup, a small dog in a crowd, a negative."""
    folder = tmp_path_factory.mktemp("show")
    write_image(folder / "images/a.png", (640, 480))
    cat = Object((100, 50, 400, 450), HOSTILE)
    dogs = (Object((10, 20, 30, 40), "dog"), Object((200, 100, 600, 400), "dog", iscrowd=True))
    found = {"cat": (cat,), "dogs": dogs, "nothing": ()}
    write_samples(
        folder / "train.jsonl",
        [
            Sample(name, "a.png", 640, 480, "detection", ("dog", HOSTILE), boxes)
            for name, boxes in found.items()
        ],
    )
    reason = '{"reason": "coco.json:7: annotations[3]: leaves the image", "row": {}}\n'
    (folder / "train.rejected.jsonl").write_text(reason)
    call = ["data", "show", f"{folder / 'train.jsonl'}", "--images", f"{folder / 'images'}"]
    assert main(call) == 0
    return folder / "train.html"


def shown(page: Any) -> list[str]:
    """The ids of the cards."""
    return page.locator(".card .caption b").all_inner_texts()  # type: ignore[no-any-return]


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desktop", "phone"])
def test_nothing_sticks_out_complains_or_is_asked_for(
    page: Path, visit: Visit, options: dict[str, Any]
) -> None:
    opened = visit(page, **options)
    opened.page.locator(".card").first.click()
    for place in ("document.documentElement", "document.querySelector('#detail')"):
        width, inner = opened.page.evaluate(f"[{place}.scrollWidth, {place}.clientWidth]")
        assert width <= inner
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [page.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_labels_pass_axe(page: Path, visit: Visit, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    opened = visit(page, color_scheme=scheme, reduced_motion="reduce").page
    for act in (lambda: None, opened.locator(".card").first.click):
        act()
        results = axe.run(opened)
        assert results.violations_count == 0, results.generate_report()


def test_a_card_opens_on_boxes_gold_answer_and_prompt(page: Path, visit: Visit) -> None:
    opened = visit(page)
    opened.page.get_by_role("button", name="Open dogs").click()
    detail = opened.page.locator("#detail-body").inner_text()
    assert "asked: dog; " + HOSTILE in detail
    assert "crowd region" in detail and "10, 20, 30, 40" in detail
    assert '"bbox_2d": [10, 20, 30, 40], "label": "dog"' in detail
    assert "200, 100" not in detail.split("Gold answer")[1]  # a crowd region is no target
    opened.page.keyboard.press("ArrowRight")
    assert "None" in opened.page.locator("#detail-body").inner_text()


@pytest.mark.parametrize(
    ("field", "value", "ids"),
    [
        ("kind", "negative", ["nothing"]),
        ("kind", "crowd", ["dogs"]),
        ("kind", "boxes", ["cat", "dogs"]),
        ("size", "small", ["dogs"]),
        ("sort", "small", ["dogs", "cat", "nothing"]),
        ("find", "cat", ["cat"]),
    ],
)
def test_filters_leave_the_samples_that_they_name(
    page: Path, visit: Visit, field: str, value: str, ids: list[str]
) -> None:
    opened = visit(page)
    control = opened.page.locator(f"[name={field}]")
    control.fill(value) if field == "find" else control.select_option(value)
    assert shown(opened.page) == ids
    assert opened.page.locator("#count").inner_text() == f"{len(ids)} of 3 samples"


def test_what_was_rejected_stands_below_the_figures(page: Path, visit: Visit) -> None:
    opened = visit(page)
    assert "coco.json:7: annotations[3]" in opened.page.locator("#rejected").inner_text()
    assert HOSTILE in opened.page.locator("#labels").inner_text()
