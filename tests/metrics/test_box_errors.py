"""What becomes of every box: by hand, by law, and as hotcoco's TIDE counts it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxrl.boxes import iou
from boxrl.metrics.average_precision import Predictions, Targets, match_boxes
from boxrl.metrics.box_errors import ERRORS, HIT, KINDS, find_box_errors, lies_on
from boxrl.metrics.detection import count_boxes
from boxrl.types import Detections, Object, fold_label

Box = tuple[float, float, float, float]
Named = list[tuple[Box, str]]
CAT: Box = (0, 0, 10, 10)
DOG: Box = (50, 50, 60, 60)
CROWDS = Detections(np.array([[20.0, 20.0, 40.0, 40.0]]), ("dog",))
CATEGORIES = frozenset({"cat", "dog"})


def detections(items: Named) -> Detections:
    boxes = np.array([box for box, _ in items], dtype=np.float64).reshape(-1, 4)
    return Detections(boxes, tuple(label for _, label in items))


TARGETS = detections([(CAT, "cat"), (DOG, "dog")])


@pytest.mark.parametrize(
    ("items", "kinds", "missed"),
    [
        ([(CAT, "cat"), (DOG, "dog")], ["right", "right"], ()),
        ([(CAT, " CAT "), (DOG, "dog")], ["right", "right"], ()),  # labels are folded
        ([(CAT, "cat"), (CAT, "cat")], ["right", "duplicate"], (1,)),
        ([((0, 0, 10, 9), "cat"), (CAT, "cat")], ["duplicate", "right"], (1,)),  # best IoU wins
        ([(CAT, "cat"), ((0, 0, 10, 5), "cat")], ["right", "localization"], (1,)),  # at .5 TIDE's
        ([(CAT, "dog")], ["classification"], (1,)),  # the cat is accounted for
        ([(CAT, "dog"), (CAT, "cat")], ["classification", "right"], (1,)),
        ([((0, 0, 10, 3), "cat")], ["localization"], (1,)),  # IoU .3
        ([((0, 0, 10, 3), "dog")], ["both"], (0, 1)),
        ([((0, 0, 10, 0.5), "cat")], ["background"], (0, 1)),  # IoU .05
        ([((70, 0, 80, 10), "cat")], ["background"], (0, 1)),
        ([((25, 25, 30, 30), "dog")], ["crowd"], (0, 1)),
        ([((25, 25, 30, 30), "cat")], ["background"], (0, 1)),  # a crowd of another label
        ([(CAT, "bird")], ["no_category"], (0, 1)),  # AP does not know of birds
        ([], [], (0, 1)),
    ],
)
def test_kinds(items: Named, kinds: list[str], missed: tuple[int, ...]) -> None:
    found = find_box_errors(detections(items), TARGETS, CROWDS, CATEGORIES)
    assert list(found.kinds) == kinds
    assert found.missed == missed


def test_iou_is_that_with_the_object_judged_by() -> None:
    items: Named = [((0, 0, 10, 8), "cat"), ((50, 50, 60, 59), "cat"), ((0, 0, 10, 2), "dog")]
    found = find_box_errors(detections(items), TARGETS)
    assert found.kinds == ("right", "classification", "both")
    assert found.ious == (0.8, 0.9, 0.2)


def test_a_box_lies_on_what_it_hits_under_any_name() -> None:
    unasked = np.array([[80.0, 80.0, 90.0, 90.0]])
    said = detections([((80, 80, 90, 90), "cat"), ((80, 80, 90, 84), "bird"), (CAT, "cat")])
    assert lies_on(said, unasked) == [True, False, False]
    assert lies_on(said, np.zeros((0, 4))) == [False] * 3


sides = st.integers(0, 8)
boxes = st.tuples(sides, sides, sides, sides).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2] + 1), float(b[1] + b[3] + 1))
)
labels = st.sampled_from(["cat", "dog", "bird"])
items = st.lists(st.tuples(boxes, labels), max_size=6)
objects = st.lists(st.builds(Object, boxes, labels, st.booleans()), max_size=6)


@given(objects, items)
def test_counts_are_those_of_precision_and_recall(targets: list[Object], said: Named) -> None:
    preds = detections(said)
    wanted = Detections.from_objects([item for item in targets if not item.iscrowd])
    crowds = Detections.from_objects([item for item in targets if item.iscrowd])
    verdict = find_box_errors(preds, wanted, crowds)
    counts = count_boxes(preds, wanted)
    found = Counter(verdict.kinds)
    assert len(verdict.kinds) == len(verdict.ious) == len(said)
    assert set(found) <= set(KINDS)
    assert found["right"] == counts.tp
    assert len(said) - found["right"] == counts.fp
    stood_for = counts.fn - len(verdict.missed)
    assert 0 <= stood_for <= found["localization"] + found["classification"]
    assert all(0 <= overlap <= 1 for overlap in verdict.ious)


@settings(max_examples=25)
@given(objects, items)
def test_errors_count_as_tide_counts_them(objects: list[Object], said: Named) -> None:
    assert_counted_as_by_tide(objects, said)


@pytest.mark.slow
@given(objects, items)
def test_many_errors_count_as_tide_counts_them(objects: list[Object], said: Named) -> None:
    assert_counted_as_by_tide(objects, said)


def assert_counted_as_by_tide(objects: list[Object], said: Named) -> None:
    """Where no two targets of a label overlap, so that every way of matching gives the same."""
    wanted = apart(detections([(item.bbox, item.label) for item in objects]))
    preds = detections([(box, label) for box, label in said if label != "bird"])
    found = find_box_errors(preds, wanted)
    counts = Counter(found.kinds) + Counter({"missed": len(found.missed)})
    assert {kind: counts[kind] for kind in ERRORS} == tide_counts(preds, wanted)


def apart(targets: Detections) -> Detections:
    """Those of the targets that overlap no earlier one of their label."""
    kept: list[int] = []
    overlap = iou(targets.boxes, targets.boxes)
    for place, label in enumerate(targets.labels):
        if all(targets.labels[k] != label or overlap[place, k] == 0 for k in kept):
            kept.append(place)
    return Detections(targets.boxes[kept], tuple(targets.labels[k] for k in kept))


def tide_counts(preds: Detections, targets: Detections) -> dict[str, int]:
    """hotcoco's counts for one image; every target is missed where there is no prediction."""
    if not len(targets):
        return dict.fromkeys(ERRORS, 0) | {"background": len(preds)}
    names = {name: n for n, name in enumerate(sorted({*preds.labels, *targets.labels}))}
    n, m = len(targets), len(preds)
    columns = Targets(
        np.zeros(n, dtype=np.int64),
        np.array([names[fold_label(x)] for x in targets.labels], dtype=np.int64),
        targets.boxes,
        np.zeros(n, dtype=bool),
        np.full(n, 2000.0),
    )
    found = Predictions(
        np.zeros(m, dtype=np.int64),
        np.array([names[fold_label(x)] for x in preds.labels], dtype=np.int64),
        preds.boxes,
        np.ones(m),
    )
    counts = match_boxes(columns, found, 1, len(names)).tide_errors(HIT, 0.1)["counts"]
    return dict(zip(ERRORS, (counts[k] for k in ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")),
                    strict=True))  # fmt: skip
