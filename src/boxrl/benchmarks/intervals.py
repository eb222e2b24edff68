"""95 % intervals of means over several sets: the images of each set are drawn by themselves."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from boxrl.benchmarks.ovdeval import thin
from boxrl.benchmarks.record import Benchmark
from boxrl.evaluate.box_table import resampled_ap
from boxrl.evaluate.rows import Evaluation
from boxrl.evaluate.summary import box_table, image_groups, is_boxes, resample_shares
from boxrl.metrics.average_precision import match_boxes
from boxrl.metrics.intervals import Floats, interval, resample

NMS_AP = "NMS-AP"

SET_SEED = "of each set: CRC-32 of its name"
"""How sets are drawn: equal seeds would pair those of equal size."""


def set_seed(name: str) -> int:
    """The seed of a set's resamples, as SET_SEED says."""
    return zlib.crc32(name.encode())


def mean_intervals(
    benchmark: Benchmark, parts: Mapping[str, Evaluation], resamples: int
) -> dict[str, list[float]]:
    """The interval of every mean that the benchmark reports and whose sets are all there.

    Args:
        benchmark: `means` says what is averaged.
        parts: an evaluation per set that is there.
        resamples: of the bootstrap; 0 leaves intervals out.

    Returns:
        Figure -> [low, high].
    """
    found: dict[str, list[float]] = {}
    drawn: dict[tuple[str, str], Floats] = {}
    for name, mean in benchmark.means.items():
        names = [part for group in mean.groups for part in group]
        if not resamples or any(part not in parts for part in names):
            continue
        for part in names:
            if (part, mean.figure) not in drawn:
                drawn[part, mean.figure] = _draw(parts[part], mean.figure, part, resamples)
        groups = [np.mean([drawn[part, mean.figure] for part in g], axis=0) for g in mean.groups]
        ends = interval(np.mean(groups, axis=0))
        if ends is not None:
            found[name] = list(ends)
    return found


def _draw(part: Evaluation, figure: str, name: str, resamples: int) -> Floats:
    """A figure of one set in every resample of its images, Float "resamples"."""
    seed = set_seed(name)
    if figure not in ("mAP", NMS_AP):
        return resample_shares(part.rows, seed, resamples, (figure,))[figure]
    table = box_table(part.rows)
    groups, n_images = image_groups(part.rows)
    draws = resample(n_images, resamples, seed)
    images = np.array([groups[k] for k, row in enumerate(part.rows) if is_boxes(row)], dtype=int)
    if figure == "mAP":
        return table.resampled_ap(draws, images)[0]
    n_rows, n_labels = len(table.rows), len(table.labels)
    return resampled_ap(match_boxes(table.targets, thin(table), n_rows, n_labels), draws, images)[0]
