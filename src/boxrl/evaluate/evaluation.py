"""What an evaluation is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from boxrl.evaluate.rows import Row


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A judged run.

    Attributes:
        metrics: what metrics.json holds: figures, intervals, blind policy, protocol.
        rows: one per sample, in the samples' order.
    """

    metrics: dict[str, Any]
    rows: tuple[Row, ...]
