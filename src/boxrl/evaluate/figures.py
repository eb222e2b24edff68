"""The figures of metrics.json that tables show, and how to find one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from boxrl.data.files import number_or_none

Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of metrics.json.

    Attributes:
        key: path in metrics.json, dotted.
        name: as people read it.
        better: which direction is an improvement.
        digits: decimals shown.
        detail: whether a report leaves it to its charts and to metrics.json.
    """

    key: str
    name: str
    better: Better = "higher"
    digits: int = 3
    detail: bool = False

    @property
    def is_rate(self) -> bool:
        """Whether it lies in [0, 1]; rates share one axis."""
        return self.digits == 3


FIGURES = (
    Figure("mAP", "mAP"),
    Figure("AP50", "AP50"),
    Figure("AP75", "AP75"),
    Figure("APs", "AP small", detail=True),
    Figure("APm", "AP medium", detail=True),
    Figure("APl", "AP large", detail=True),
    Figure("mAP_order_free", "mAP, order-free"),
    Figure("precision@0.5", "precision @0.5"),
    Figure("recall@0.5", "recall @0.5"),
    Figure("f1@0.5", "F1 @0.5"),
    Figure("f1", "mean F1"),
    Figure("looks", "first box asked for"),
    Figure("grounding_accuracy@0.5", "grounding @0.5"),
    Figure("accuracy", "accuracy"),
    Figure("negatives.accuracy", "None on negatives"),
    Figure("format_rate", "format rate"),
    Figure("truncated_rate", "truncated", "lower"),
    Figure("unknown_labels", "boxes of unasked labels", "lower", 0),
    Figure("tokens.mean", "tokens, mean", "neither", 1),
    Figure("tokens.max", "tokens, max", "neither", 0, detail=True),
    Figure("tokens.long", "3,000 tokens and more", "neither", 0, detail=True),
)
"""In the order of every table."""

_CHOSEN = (
    "format_rate", "mAP", "AP50", "f1", "precision@0.5", "recall@0.5", "negatives.accuracy",
    "looks", "tokens.mean",
)  # fmt: skip
HEADLINES = tuple(figure for key in _CHOSEN for figure in FIGURES if figure.key == key)
"""Those that tell at a glance what training changed: the quickstart's and the README's table."""


def look_up(metrics: Mapping[str, Any], key: str) -> float | None:
    """The number at a dotted path; keys such as `f1@0.5` hold dots themselves."""
    if key in metrics:
        value: Any = metrics[key]
    else:
        head, _, rest = key.partition(".")
        inner = metrics.get(head)
        return look_up(inner, rest) if rest and isinstance(inner, Mapping) else None
    return number_or_none(value)
