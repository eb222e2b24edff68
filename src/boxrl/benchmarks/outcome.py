"""A benchmark that was run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
        intervals: 95 % intervals of its means over several parts, by figure.
        protocol: what its parts' protocols have in common.
        n: how many questions were answered.
    """

    benchmark: Benchmark
    summary: dict[str, Any]
    parts: dict[str, Evaluation]
    missing: dict[str, str]
    variant: str | None = None
    intervals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    n: int = 0

    @property
    def table(self) -> list[tuple[str, str, Any]]:
        """Its own table as (where, figure, value); empty where the one evaluation is all."""
        whole = len(self.parts) == 1 and self.benchmark.name not in SUMMARIES and not self.variant
        return [] if whole else list(leaves(self.summary))
