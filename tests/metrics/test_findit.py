"""FindIt's figures against its own code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boxrl.metrics.findit import QueryScore, findit_figures, score_query
from boxrl.types import NOTHING, Detections

GOLDEN = Path(__file__).parents[1] / "golden" / "findit"
ROWS = json.loads((GOLDEN / "rows.json").read_text())
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
GROUPS = {
    "json xyxy": lambda row: row["what"] == "json xyxy",
    "text xyxy": lambda row: row["what"] == "text xyxy",
    "all single-label": lambda row: not row["setting"]["multi_label"],
    "all multi-label": lambda row: row["setting"]["multi_label"],
}


def side(items: list[Any]) -> Detections:
    """Boxes, alone or with a label: `[label, box]` or `{label, bbox}`."""
    pairs = []
    for item in items:
        if isinstance(item, dict):
            pairs.append((item["bbox"], item["label"]))
        elif isinstance(item[0], str):
            pairs.append((item[1], item[0]))
        else:
            pairs.append((item, ""))
    boxes = np.array([box for box, _ in pairs], dtype=float).reshape(-1, 4)
    return Detections(boxes, tuple(label for _, label in pairs))


def scored(row: dict[str, Any]) -> QueryScore:
    with_labels = row["setting"]["multi_label"]
    return score_query(side(row["expected"]["boxes"]), side(row["gt"]), with_labels)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["what"])
def test_each_query_is_matched_as_findit_does(row: dict[str, Any]) -> None:
    expected, found = row["expected"], scored(row)
    known = (expected["tp"], expected["n_pred"], expected["n_gt"])
    assert (found.tp, found.n_preds, found.n_targets) == known
    assert sum(found.ious) == pytest.approx(sum(expected["ious"]), abs=1e-5)


@pytest.mark.parametrize("group", EXPECTED)
def test_totals_are_findit_s(group: str) -> None:
    rows = [row for row in ROWS if GROUPS[group](row)]
    assert len(rows) == EXPECTED[group]["n"]
    exact = map(scored, rows)
    # the totals are means of IoUs of six digits
    found = findit_figures(s._replace(ious=tuple(round(v, 6) for v in s.ious)) for s in exact)
    for name in ("precision", "recall", "f1", "mean_iou"):
        value = found[name]
        assert value is not None
        assert value * 100 == pytest.approx(EXPECTED[group][name], abs=1e-9), name


def test_nothing_has_no_figures() -> None:
    assert findit_figures([score_query(NOTHING, NOTHING)])["f1"] is None
