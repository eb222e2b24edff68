"""The pictures of the report and the demo in this folder, from a quickstart's run folder.

    python docs/images/shoot.py runs/quickstart

It needs Chromium and boxrl[browser,demo].
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from boxrl.cli import main as boxrl
from boxrl.cli.demo import build_page, open_page
from boxrl.engines.build import EngineOptions, build_engine
from boxrl.prompts import PROMPTS
from boxrl.report import build_report

FOLDER = Path(__file__).parent


def shoot(page: Page, name: str, **options: Any) -> None:
    """Keep a picture in 256 colours, a third of the size."""
    path = FOLDER / name
    page.screenshot(path=path, **options)
    Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
        path, optimize=True
    )


def shoot_report(page: Page, run: Path, folder: Path) -> None:
    """The page's first screen, one sample, and the labels with confidences by order."""
    build_report(run, folder / "report.html")
    page.goto((folder / "report.html").as_uri())
    shoot(page, "report.png", clip={"x": 0, "y": 0, "width": 1200, "height": 1400}, full_page=True)
    page.set_viewport_size({"width": 1200, "height": 1600})
    page.locator("#cards .card").nth(5).click()  # the last of the first losses
    shoot(page, "report_sample.png", clip={"x": 0, "y": 40, "width": 1200, "height": 1340})
    ranked = folder / "ranked"
    data = run / "data"
    for when in ("before", "after"):
        name = f"{when}_greedy"
        answers = run / "evals" / name / "predictions.jsonl"
        shutil.copytree(run / "evals" / name, ranked / "evals" / name)
        files = ["--samples", f"{data / 'test.jsonl'}", "--predictions", f"{answers}"]
        boxrl(["evaluate", *files, "--confidence", "order", "--out", f"{ranked / 'evals' / name}"])
    shutil.copytree(data, ranked / "data")
    shutil.copy(run / "run.json", ranked)
    build_report(ranked, folder / "labels.html")
    page.goto((folder / "labels.html").as_uri())
    page.locator("#labels .table").first.screenshot(path=FOLDER / "report_labels.png")


def shoot_demo(page: Page) -> None:
    """The demo after one press of Ask."""
    engine = build_engine(EngineOptions("tiny-taught", "transformers"), "standard", Path())
    demo = build_page(engine, "tiny-taught", PROMPTS, 256)
    page.goto(open_page(demo, None))
    page.get_by_role("button", name="Ask").click()
    page.locator("#answer img").wait_for()
    page.wait_for_timeout(1000)
    shoot(page, "demo.png", full_page=True)
    demo.close()


def main() -> None:
    """All of them."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as started, tempfile.TemporaryDirectory() as folder:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 1060})
        shoot_report(page, Path(sys.argv[1]), Path(folder))
        shoot_demo(page)
        browser.close()


if __name__ == "__main__":
    main()
