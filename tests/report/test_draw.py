"""The before/after picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from boxrl.errors import DataError
from boxrl.report.colours import COLOURS
from boxrl.report.draw import TILE, draw_answer, draw_before_after, most_gained
from boxrl.report.reading import read_run
from tests.support.report_runs import build_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("run"), samples=12)


def test_picture_holds_the_scenes_side_by_side(run: Path, tmp_path: Path) -> None:
    draw_before_after(run, tmp_path / "images" / "picture.png", count=3)
    with Image.open(tmp_path / "images" / "picture.png") as picture:
        assert picture.width > 3 * TILE
        assert picture.height > 2 * TILE


def test_chosen_scenes_gained_most_and_ask_different_things(run: Path) -> None:
    folder = read_run(run)
    before, after = (folder.evaluations[name] for name in ("before_sampled", "after_sampled"))
    chosen = most_gained(before, after, 4)
    gains = [b.score - a.score for a, b in chosen if a.objects]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] == max(
        b.score - a.score for a, b in zip(before.rows, after.rows, strict=True) if a.objects
    )
    assert len(gains) >= 3
    assert len({frozenset(a.labels) for a, _ in chosen}) == 4


def test_box_is_drawn_where_it_is(run: Path) -> None:
    rows = read_run(run).evaluations["after_greedy"].rows
    row = next(r for r in rows if [box.kind for box in r.predictions] == ["right"])
    grey = Image.new("RGB", row.sample.size_wh, "#808080")
    pixels = np.asarray(draw_answer(row, grey, side=row.width))
    green = np.array([int(COLOURS["right"][i : i + 2], 16) for i in (1, 3, 5)])
    x1, y1, x2, y2 = row.detections.boxes[0].round().astype(int)
    assert (pixels[(y1 + y2) // 2, x1] == green).all()
    assert (pixels[y2 - 1, (x1 + x2) // 2] == green).all()


def test_run_without_a_pair_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no evaluation 'nowhere'"):
        draw_before_after(run, tmp_path / "p.png", pair=("before_greedy", "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"run.json is missing"):
        draw_before_after(tmp_path / "empty", tmp_path / "p.png")
