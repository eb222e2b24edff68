"""`ap` and `ap50` against pycocotools, one image at a time."""

import random

import pytest

from boxrl.rewards import score
from tests.support.coco_reference import coco_stats

LABELS = ("cat", "dog", "person", "car", "cup", "kite", "bird", "sofa")
Row = tuple[list[float], str]


def case(rng: random.Random) -> tuple[list[Row], list[Row]]:
    """Predictions and targets: many labels or one, few boxes or a crowd, ties of IoU."""
    labels = rng.sample(LABELS, rng.choice([1, 1, 2, 3, 8]))
    grid = rng.choice([1, 5, 40])  # coarse grids make equal and exactly-.5 IoUs
    digits = rng.choice([0, 0, 2])

    def box() -> list[float]:
        x, y = rng.uniform(0, 400), rng.uniform(0, 300)
        width, height = rng.uniform(grid, 150), rng.uniform(grid, 120)
        raw = [x, y, x + width, y + height]
        x1, y1, x2, y2 = (round(value / grid, digits) * grid for value in raw)
        return [x1, y1, max(x2, x1 + grid), max(y2, y1 + grid)]

    def near(old: list[float]) -> list[float]:
        x1, y1, x2, y2 = (value + grid * rng.choice([0, 0, 0, 1, -1]) for value in old)
        x1, y1 = max(0.0, x1), max(0.0, y1)
        return [x1, y1, max(x2, x1 + grid), max(y2, y1 + grid)]

    targets = [(box(), rng.choice(labels)) for _ in range(rng.choice([1, 2, 5, 12, 30]))]
    preds = [
        (near(old), label if rng.random() < 0.8 else rng.choice([*labels, "invented"]))
        for old, label in rng.choices(targets, k=rng.choice([1, 3, 8, 30]))
    ]
    preds += [(box(), rng.choice([*labels, "invented"])) for _ in range(rng.choice([0, 0, 2, 9]))]
    if rng.random() < 0.05:  # more than the 100 boxes of a label that count
        preds += [(box(), targets[0][1]) for _ in range(120)]
    rng.shuffle(preds)
    return preds, targets


def boxrl_stats(preds: list[Row], targets: list[Row]) -> tuple[float, float]:
    items = ", ".join(f'{{"bbox_2d": {box}, "label": "{label}"}}' for box, label in preds)
    objects = [{"bbox": box, "label": label} for box, label in targets]
    values = score([f"<answer>[{items}]</answer>"], [objects], ["ap", "ap50"])
    return values["ap"][0] or 0.0, values["ap50"][0] or 0.0


@pytest.mark.parametrize(
    ("seed", "cases"), [(1, 200), pytest.param(0, 2000, marks=pytest.mark.slow)]
)
def test_random_cases_equal_pycocotools(seed: int, cases: int) -> None:
    rng = random.Random(seed)
    for number in range(cases):
        preds, targets = case(rng)
        expected = coco_stats(preds, targets)
        assert boxrl_stats(preds, targets) == pytest.approx(expected, abs=1e-9), number


def test_boxes_after_the_last_true_positive_are_free() -> None:
    target: Row = ([10, 10, 50, 50], "cat")
    junk: list[Row] = [([200, 200, 220 + k, 220], "cat") for k in range(9)]
    assert boxrl_stats([target, *junk], [target])[0] == pytest.approx(1.0)
    assert boxrl_stats([*junk, target], [target])[0] == pytest.approx(0.1)
