"""The demo as people use it: by Enter, by an example, on a phone; without an axe finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

from boxrl.prompts import PROMPTS
from tests.browser.conftest import Opened
from tests.cli.test_demo import BOX, Parrot, close_loops

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]  # gradio's own
Visit = Callable[..., Opened]


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    pytest.importorskip("gradio")
    from boxrl.cli.demo import build_page, open_page

    kept = list(Image.ID)
    page = build_page(Parrot(BOX), "tiny-taught", PROMPTS, 64)
    yield open_page(page, None)
    page.close()
    Image.ID[:] = kept
    del page
    close_loops()


def ready(opened: Opened) -> Any:
    opened.page.get_by_role("button", name="Ask").wait_for(timeout=60_000)
    return opened.page


def answered(page: Any) -> Any:
    picture = page.locator("#answer img")
    picture.wait_for(timeout=60_000)
    return picture


def test_enter_asks_and_the_answer_comes_with_rewards_and_frame(demo: str, visit: Visit) -> None:
    page = ready(visit(demo))
    assert "coloured shapes" in page.content()
    field = page.get_by_label("Look for").first
    field.fill("cat")
    field.press("Enter")
    assert "1 box; parse status ok" in answered(page).get_attribute("alt")
    page.get_by_text("weighted_sum: position").first.wait_for()
    assert (
        "family plain has no pixel limits" in page.get_by_label("What the model sees").input_value()
    )


def test_an_example_is_asked_by_keyboard(demo: str, visit: Visit) -> None:
    page = ready(visit(demo))
    example = page.get_by_role("button", name="green square")
    example.focus()
    page.keyboard.press("Enter")
    answered(page)
    assert page.get_by_label("Look for").first.input_value() == "green square"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_passes_axe_and_shows_the_answer(
    demo: str, visit: Visit, scheme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    size = {"width": width, "height": 844}
    page = ready(visit(demo, color_scheme=scheme, viewport=size, reduced_motion="reduce"))
    page.get_by_role("button", name="Ask").click()
    picture = answered(page)
    page.get_by_label("Raw answer").wait_for()
    results = axe.run(page)
    assert results.violations_count == 0, results.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.wait_for_function(
        "() => document.querySelector('#answer').getBoundingClientRect().top < innerHeight - 100"
    )
    assert picture.bounding_box()["width"] <= width
