"""A benchmark that was run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from boxrl.benchmarks.record import Benchmark
from boxrl.benchmarks.summary import SUMMARIES, leaves
from boxrl.evaluate.rows import Evaluation


@dataclass(frozen=True, slots=True)
class Outcome:
    """A benchmark that was run.

    Attributes:
        benchmark: which one.
        summary: its own table, see `summarize_benchmark`.
        parts: an evaluation per part.
        missing: part -> why its files are not there.
        variant: the protocol by which it was scored, where that is not boxrl's.
    """

    benchmark: Benchmark
    summary: dict[str, Any]
    parts: dict[str, Evaluation]
    missing: dict[str, str]
    variant: str | None = None

    @property
    def table(self) -> list[tuple[str, str, Any]]:
        """Its own table as (where, figure, value); empty where the one evaluation is all."""
        whole = len(self.parts) == 1 and self.benchmark.name not in SUMMARIES and not self.variant
        return [] if whole else list(leaves(self.summary))
