"""The report as people use it: pointer, keyboard, dark mode, phone, hostile text."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from msgspec import structs

from boxrl.data.files import write_json
from boxrl.data.samples import read_samples, write_samples
from boxrl.evaluate.rows import Row
from boxrl.prompts import PROMPTS
from boxrl.report import build_comparison, build_report
from boxrl.report.live import serve
from boxrl.report.reading import read_run
from boxrl.report.samples import build_samples_page
from tests.browser.conftest import Opened
from tests.support.report_runs import (
    EVALS,
    FAMILY,
    faulty_answer,
    training_step,
    write_evaluation,
    write_jsonl,
)

pytestmark = pytest.mark.browser
Visit = Callable[..., Opened]


@pytest.fixture(scope="module")
def rows(run: Path) -> tuple[Row, ...]:
    """What the filters read: the right-hand evaluation of the first view."""
    return read_run(run).evaluations["after_greedy"].rows


def kinds(row: Row) -> set[str]:
    return {box.kind for box in row.predictions}


def shown(page: Any) -> int:
    return int(page.locator("#count").inner_text().split()[0].replace(",", ""))


def first_score(page: Any) -> float:
    page.locator("#cards .card").first.click()
    text = page.locator("#detail-body .pair > div").last.locator(".note").first.inner_text()
    page.keyboard.press("Escape")
    return float(text.split("mean F1 ")[1].split(" ")[0])


def test_page_is_silent_and_asks_for_nothing(report: Path, visit: Visit) -> None:
    opened = visit(report)
    opened.page.locator("#cards .card").first.click()
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [report.as_uri()]


@pytest.mark.parametrize(
    ("outcome", "holds"),
    [
        ("missed", lambda row: any(item.missed for item in row.objects)),
        ("duplicate", lambda row: "duplicate" in kinds(row)),
        ("classification", lambda row: "classification" in kinds(row)),
        ("background", lambda row: "background" in kinds(row)),
        ("unasked", lambda row: any(box.on_unasked for box in row.predictions)),
        ("malformed", lambda row: not row.parsed.readable),
        (
            "faultless",
            lambda row: (
                row.parsed.readable
                and not any(item.missed for item in row.objects)
                and kinds(row) <= {"right", "crowd"}
            ),
        ),
    ],
)
def test_outcome_filter_shows_exactly_those(
    report: Path, visit: Visit, rows: tuple[Row, ...], outcome: str, holds: Callable[[Row], bool]
) -> None:
    page = visit(report).page
    assert shown(page) == len(rows)
    page.locator("select[name=outcome]").select_option(outcome)
    assert shown(page) == sum(holds(row) for row in rows)


def test_label_size_score_and_search_filters(
    report: Path, visit: Visit, rows: tuple[Row, ...]
) -> None:
    page = visit(report).page
    label = rows[0].labels[0]
    page.locator("select[name=label]").select_option(label=label)
    assert shown(page) == sum(label in row.labels for row in rows)
    page.locator("select[name=label]").select_option("")
    page.locator("select[name=score]").select_option("1")
    assert shown(page) == sum(row.score == 1 for row in rows)
    page.locator("select[name=score]").select_option("")
    page.locator("select[name=size]").select_option("large")
    large = [any(o.bbox[2] - o.bbox[0] >= 96 for o in row.objects) for row in rows]
    assert shown(page) <= len(rows) and shown(page) < sum(large) + len(rows)
    page.locator("select[name=size]").select_option("")
    page.locator("input[name=find]").fill(rows[7].id)
    assert shown(page) == 1
    assert page.locator("#cards .card").count() == 1


@pytest.mark.parametrize(("order", "extreme"), [("worst", min), ("best", max)])
def test_sort_puts_the_extreme_first(
    report: Path, visit: Visit, rows: tuple[Row, ...], order: str, extreme: Callable[..., float]
) -> None:
    page = visit(report).page
    page.locator("select[name=sort]").select_option(order)
    assert first_score(page) == pytest.approx(extreme(row.score for row in rows), abs=1e-3)


def test_view_changes_what_stands_side_by_side(report: Path, visit: Visit) -> None:
    page = visit(report).page
    assert page.locator("#cards .card").first.locator(".pane").count() == 2
    page.locator("select[name=view]").select_option("1")
    assert "after, sampled" in page.locator("#count").inner_text()


def test_more_cards_come_on_demand(report: Path, visit: Visit) -> None:
    page = visit(report).page
    page.locator("select[name=sort]").select_option("file")
    cards, more = page.locator("#cards .card"), page.locator("#cards .more")
    assert cards.count() == 12
    more.click()
    assert cards.count() == 24
    more.click()
    more.click()
    assert cards.count() == 40
    assert not more.is_visible()


def test_pairs_open_with_gains_and_losses_apart(run: Path, report: Path, visit: Visit) -> None:
    page = visit(report).page
    found = read_run(run)
    flipped = found.comparisons["before_greedy|after_greedy"]["flipped"]
    titles = page.locator("#cards h3").all_inner_texts()
    counts = [int(title.split("(")[-1].rstrip(")")) for title in titles]
    kinds = [title.split(":")[0].split(" (")[0] for title in titles]
    expected = {"Gained": len(flipped["gained"]), "Lost": len(flipped["lost"])}
    told = dict(zip(kinds, counts, strict=True))
    assert {name: told.get(name, 0) for name in expected} == expected
    assert sum(counts) == 40
    first = page.locator("#cards .cards").first.locator(".card").first.get_attribute("aria-label")
    assert first.removeprefix("Open ") in flipped["gained"]


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_verdict_and_six_pictures_stand_above_the_fold(
    report: Path, visit: Visit, width: int, height: int
) -> None:
    page = visit(report, viewport={"width": width, "height": height}).page
    said = page.locator(".headline").first.inner_text()
    assert "mAP" in said and "95 %" in said and "gained" in said
    pictures = page.locator("#highlights .card")
    assert pictures.count() == 6
    assert all(p.locator(".pane").count() == 2 for p in pictures.all())
    last = pictures.last.bounding_box()
    assert last["y"] + last["height"] < height
    badges = page.locator("#highlights .badge").all_inner_texts()
    assert badges[0].startswith("▲ +") and badges[-1].startswith("▼")


def test_intervals_are_read_on_phones(report: Path, visit: Visit) -> None:
    page = visit(report, viewport={"width": 390, "height": 844}).page
    shown = page.locator("#metrics td small")
    assert shown.count() > 10
    assert all(small.is_visible() for small in shown.all())


def test_filters_that_leave_nothing_are_cleared_by_a_button(report: Path, visit: Visit) -> None:
    page = visit(report).page
    clear = page.locator("#clear")
    assert not clear.is_visible()
    page.locator("input[name=find]").fill("nothing bears this name")
    assert shown(page) == 0
    clear.click()
    assert shown(page) == 40
    assert not clear.is_visible()


def test_a_link_opens_one_sample_in_its_view(
    report: Path, visit: Visit, rows: tuple[Row, ...]
) -> None:
    page = visit(report).page
    page.locator("select[name=view]").select_option("1")
    page.locator("select[name=sort]").select_option("file")
    page.locator("#cards .card").nth(4).click()
    link = page.locator("#link").get_attribute("href")
    assert rows[4].id in link
    opened = visit(f"{report.as_uri()}{link}")
    assert opened.page.locator("#detail-title").inner_text().startswith(rows[4].id)
    assert opened.page.locator("#detail h3").last.inner_text() == "after, sampled"
    assert opened.complaints == []
    page.keyboard.press("Escape")
    page.wait_for_function("location.hash === '#gallery'")
    nothing = visit(f"{report.as_uri()}#sample=%3Cscript%3E&view=99")
    assert not nothing.page.locator("#detail").is_visible()
    assert nothing.complaints == []


def test_click_shows_prompt_thinking_answer_and_rewards(
    report: Path, visit: Visit, rows: tuple[Row, ...]
) -> None:
    page = visit(report).page
    page.locator("select[name=sort]").select_option("file")
    page.locator("#cards .card").first.click()
    text = page.locator("#detail").inner_text()
    row = rows[0]
    assert row.id in text
    assert "Please carefully observe the image" in text
    assert "Output the thinking process in <think> </think>" in text
    assert row.parse.answer.splitlines()[-1] in text
    for name in ("format", "f1", "weighted_sum", "position", "completeness"):
        assert name in text


def test_keyboard_opens_steps_and_closes(report: Path, visit: Visit) -> None:
    page = visit(report).page
    page.locator("select[name=sort]").select_option("file")
    page.locator("#cards .card").nth(1).focus()
    page.keyboard.press("Enter")
    title = page.locator("#detail-title")
    assert "2 of 40" in title.inner_text()
    page.keyboard.press("ArrowRight")
    assert "3 of 40" in title.inner_text()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert "1 of 40" in title.inner_text()
    page.keyboard.press("Escape")
    assert not page.locator("#detail").is_visible()
    assert page.evaluate("document.activeElement.className") == "card"


def test_picture_takes_the_full_width_by_click_and_by_key(report: Path, visit: Visit) -> None:
    page = visit(report).page
    page.locator("#cards .card").first.click()
    scene = page.locator("#detail .scene").first
    small = scene.bounding_box()["width"]
    scene.click()
    assert scene.bounding_box()["width"] > 1.9 * small
    assert page.locator("#wide").get_attribute("aria-pressed") == "true"
    page.keyboard.press("ArrowRight")
    assert page.locator("#detail .scene").first.bounding_box()["width"] > 1.9 * small
    page.keyboard.press("f")
    assert page.locator("#detail .scene").first.bounding_box()["width"] == small


def test_boxes_lie_on_the_pixels_that_they_name(
    report: Path, visit: Visit, rows: tuple[Row, ...]
) -> None:
    page = visit(report).page
    page.locator("select[name=sort]").select_option("file")
    place = next(
        i for i, row in enumerate(rows) if [box.kind for box in row.predictions] == ["right"]
    )
    for _ in range(place // 12):
        page.locator("#cards .more").click()
    scene = page.locator("#cards .card").nth(place).locator(".scene").last
    scene.scroll_into_view_if_needed()
    whole = scene.bounding_box()
    box = scene.locator(".box.k-right").bounding_box()
    scale = whole["width"] / rows[place].width
    x1, y1, x2, y2 = rows[place].predictions[0].bbox
    assert box["x"] - whole["x"] == pytest.approx(x1 * scale, abs=1)
    assert box["y"] - whole["y"] == pytest.approx(y1 * scale, abs=1)
    assert box["width"] == pytest.approx((x2 - x1) * scale, abs=1)
    assert box["height"] == pytest.approx((y2 - y1) * scale, abs=1)
    assert scene.locator("img").evaluate("image => image.naturalWidth") == 224


def test_labels_of_boxes_stay_inside_and_apart(report: Path, visit: Visit) -> None:
    page = visit(report).page
    overlaps = page.evaluate(
        """() => [...document.querySelectorAll(".scene")].flatMap((scene) => {
            const outer = scene.getBoundingClientRect();
            const chips = [...scene.querySelectorAll(".chip")].map((chip) =>
              chip.getBoundingClientRect());
            return chips.filter((a, i) => a.left < outer.left - 1 || a.right > outer.right + 1
              || a.top < outer.top - 1 || a.bottom > outer.bottom + 1
              || chips.some((b, j) => j < i && a.left < b.right - 1 && b.left < a.right - 1
                && a.top < b.bottom - 1 && b.top < a.bottom - 1)).map(String);
        })"""
    )
    assert overlaps == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_labels_pass_axe(report: Path, visit: Visit, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit(report, color_scheme=scheme, reduced_motion="reduce").page
    assert page.locator("#cards .card").count() > 0
    assert axe.run(page).generate_report().splitlines()[0] == "Found 0 accessibility violations:"
    page.locator("#cards .card").first.click()
    results = axe.run(page)
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("width", [390, 1280])
def test_comparisons_and_data_pass_axe(run: Path, tmp_path: Path, visit: Visit, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    build_comparison([run, shutil.copytree(run, tmp_path / "second")], tmp_path / "compare.html")
    data = run / "data"
    shown = (data / "test.jsonl", data / "images", tmp_path / "data.html")
    build_samples_page(*shown, PROMPTS["standard"], FAMILY, limit=100)
    for name in ("compare.html", "data.html"):
        scheme = "dark" if width < 400 else "light"
        size = {"width": width, "height": 844}
        page = visit(tmp_path / name, color_scheme=scheme, viewport=size).page
        for summary in page.locator("summary").all():
            summary.click()
        assert axe.run(page).violations_count == 0, axe.run(page).generate_report()
        page.locator("#cards .card").first.click()
        assert axe.run(page).violations_count == 0, axe.run(page).generate_report()


def test_dark_mode_is_dark(report: Path, visit: Visit) -> None:
    grounds = [
        visit(report, color_scheme=scheme).page.evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    ]
    light, dark = (sum(map(int, ground[4:-1].split(","))) for ground in grounds)
    assert light > 3 * 220 and dark < 3 * 40


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_is_cut_on_a_small_screen(report: Path, visit: Visit, width: int) -> None:
    page = visit(report, viewport={"width": width, "height": 800}).page
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator("#cards .card").first.click()
    assert page.locator("#detail").bounding_box()["width"] <= width


HOSTILE = (
    "<think></script><script>document.title='run'</script><img src=x onerror=alert(1)></think>"
    '<answer>[{"bbox_2d": [0, 0, 50, 50], "label": "</textarea><svg onload=alert(2)>"},'
    '{"bbox_2d": [0, 60, 50, 99], "label": "javascript:alert(3)"}]</answer>'
    "\x00\u202e\u200f{{ constructor }}"
)
HOSTILE_LABEL = "\u202e</title><script>alert(7)</script>\u200f javascript:alert(8)"


def test_hostile_text_is_shown_and_does_nothing(run: Path, tmp_path: Path, visit: Visit) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    samples = read_samples(copy / "data" / "test.jsonl")
    hostile = [
        replace(
            s,
            labels=("<script>alert(4)</script>", HOSTILE_LABEL),
            objects=tuple(structs.replace(item, label=HOSTILE_LABEL) for item in s.objects),
            question="<b onclick=alert(5)>x</b>",
        )
        for s in samples
    ]
    write_samples(copy / "data" / "test.jsonl", hostile)
    for name in set(EVALS) - {"after_greedy"}:
        shutil.rmtree(copy / "evals" / name)
    write_evaluation(copy, "after_greedy", samples, lambda s: HOSTILE + "y" * 1_000_000)
    write_json(copy / "run.json", {"name": "<script>alert(6)</script>", "evals": ["after_greedy"]})
    build_report(copy, copy / "report.html")
    opened = visit(copy / "report.html")
    page = opened.page
    page.locator("select[name=view]").select_option(label="after, greedy")
    page.locator("#cards .card").first.click()
    assert opened.complaints == []
    assert page.title() == "<script>alert(6)</script> \u2013 boxrl report"
    text = page.locator("#detail").inner_text()
    assert "<script>document.title='run'</script>" in text
    assert "\u27e8U+202E\u27e9" in text
    assert "20,000 of 1,000," in text
    assert "\u27e8U+200F\u27e9" in text and "\u27e8U+0000\u27e9" in text
    assert page.locator("#detail script, #detail img[src=x], #detail svg").count() == 0
    labels = page.locator("#labels").inner_text()
    assert "</title><script>alert(7)</script>" in labels
    assert "\u202e" not in page.content() and "\u200f" not in page.content()
    assert page.locator("#labels script, a[href^=javascript]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 1280


def test_pictures_beside_the_page_are_loaded(
    run: Path, tmp_path: Path, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxrl.report.images.MAX_EMBEDDED_BYTES", 1000)
    build_report(run, tmp_path / "with space.html")
    opened = visit(tmp_path / "with space.html")
    picture = opened.page.locator(".scene img").first
    picture.scroll_into_view_if_needed()
    width = 0
    for _ in range(50):
        width = picture.evaluate("image => image.naturalWidth")
        if width:
            break
        opened.page.wait_for_timeout(50)
    assert width == 224
    assert opened.complaints == []


@pytest.mark.parametrize("lost", ["data/images", "evals", "metrics.jsonl"])
def test_incomplete_run_still_makes_a_quiet_page(
    run: Path, tmp_path: Path, visit: Visit, lost: str
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    gone = copy / lost
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    build_report(copy, copy / "report.html")
    opened = visit(copy / "report.html")
    assert opened.complaints == []
    assert opened.page.locator(".missing").is_visible()


def test_live_page_follows_the_run_and_keeps_its_filters(
    run: Path, tmp_path: Path, visit: Visit
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    with serve(copy) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        opened = visit(f"http://127.0.0.1:{server.server_port}/")
        page = opened.page
        page.locator("select[name=outcome]").select_option("missed")
        before = page.locator("dd").all_inner_texts()
        assert "60" in before
        page.wait_for_event(
            "requestfinished", lambda request: request.url.endswith("/version"), timeout=60_000
        )
        write_jsonl(copy / "metrics.jsonl", [training_step(step) for step in range(1, 78)])
        page.get_by_text("77", exact=True).first.wait_for(timeout=60_000)
        page.wait_for_function("document.forms.filters.outcome.value === 'missed'")
        server.shutdown()
    assert opened.complaints == []
    origin = f"http://127.0.0.1:{server.server_port}/"
    assert all(url.startswith((origin, "data:")) for url in opened.requests)


def busy_s(page: Any, do: Callable[[], object]) -> float:
    """CPU seconds of the page's main thread for it: a busy machine changes nothing."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def total() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(m["value"] for m in metrics if m["name"] == "TaskDuration")

    before = total()
    do()
    return total() - before


def test_five_thousand_predictions_build_in_thirty_seconds_and_open_in_two(
    run: Path, tmp_path: Path, visit: Visit
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    drawn = read_samples(copy / "data" / "test.jsonl")
    samples = [replace(drawn[n % len(drawn)], id=f"sample-{n}") for n in range(5000)]
    write_samples(copy / "data" / "test.jsonl", samples)
    shutil.rmtree(copy / "evals")
    write_evaluation(copy, "after_greedy", samples, faulty_answer(0.3))
    began = time.process_time()
    build_report(copy, copy / "report.html")
    assert time.process_time() - began < 30
    assert (copy / "report.html").stat().st_size < 5 * 2**20
    page = visit("about:blank").page

    def show() -> None:
        page.goto((copy / "report.html").as_uri())
        page.locator("#cards .card").first.wait_for(timeout=60_000)

    assert busy_s(page, show) < 2
    assert busy_s(page, lambda: page.locator("select[name=outcome]").select_option("missed")) < 1
    assert 0 < shown(page) < 5000
