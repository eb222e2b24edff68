"""Two runs over the same samples, paired sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from boxrl.data.files import no_cycle_search, number_or_none
from boxrl.errors import DataError, UsageError
from boxrl.evaluate.box_table import BoxTable
from boxrl.evaluate.protocol import (
    compared_alike,
    describe_difference,
    how_resampled,
    protocol_difference,
)
from boxrl.evaluate.rows import Evaluation, Row
from boxrl.evaluate.summary import (
    METRICS,
    SHARES,
    Share,
    box_table,
    image_groups,
    is_boxes,
    look_up,
    resample_metrics,
    share_value,
    with_old_names,
)
from boxrl.metrics.average_precision import statistics
from boxrl.metrics.intervals import RESAMPLES, Floats, interval
from boxrl.rewards.localization import ap, ap50
from boxrl.types import Completion, Detections, Parsed, Target

ROUNDING = 1e-9
"""By which a figure may differ from the same one: sums of floats in another order."""


@no_cycle_search()
def compare(
    a: Evaluation,
    b: Evaluation,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    force: bool = False,
) -> dict[str, Any]:
    """Differences b - a with paired 95 % intervals.

    Both runs are resampled with the same images, so what images have in common cancels out.

    Args:
        a: the run before, or the baseline.
        b: the run after.
        seed: of the bootstrap.
        resamples: how many sets of images to draw.
        force: compare although the protocols differ.

    Returns:
        `n`; `protocol` {key: value} that both share, and the bootstrap; `protocol_differs`
        {key: [a, b]}, empty unless forced; `metrics` {name: {a, b, difference, low, high, better,
        worse, p_sign}}, low and high None where there is no interval, with the number of images
        that move the figure to the better and to the worse (`share_changes`; of AP their own AP,
        where they have targets), several questions about one taken together, and the two-sided
        sign test's p, all None for tokens; `flipped` {gained, lost}: ids of samples that only b,
        or only a, answers without any fault.

    Raises:
        DataError: the runs are over different samples.
        UsageError: the protocols differ and `force` is not set.
    """
    rows_a, rows_b = _paired_rows(a, b)
    differs = protocol_difference(a, b)
    if differs and not force:
        what = "; ".join(describe_difference(key, pair, a, b) for key, pair in differs.items())
        raise UsageError(
            f"the runs' protocols differ ({what}), so their numbers do not compare; evaluate "
            "both alike, or pass --force to compare anyway"
        )
    tables = [(rows, box_table(rows)) for rows in (rows_a, rows_b)]
    values_a, values_b = (_values(rows, table) for rows, table in tables)
    drawn_a, drawn_b = (resample_metrics(rows, table, seed, resamples) for rows, table in tables)
    signs = _sign_tests(rows_a, rows_b)
    metrics = {}
    for name in drawn_a:
        value_a, value_b = values_a[name], values_b[name]
        if value_a is None or value_b is None:
            continue
        ends = interval(drawn_b[name] - drawn_a[name])
        metrics[name] = {
            "a": value_a,
            "b": value_b,
            "difference": value_b - value_a,
            "low": ends.low if ends else None,
            "high": ends.high if ends else None,
            **signs[name],
        }
    return {
        "n": len(rows_a),
        "protocol": {
            **{key: value for key, value in compared_alike(a, b).items() if key not in differs},
            "intervals": how_resampled(resamples, seed),
        },
        "protocol_differs": differs,
        "metrics": with_old_names(metrics),
        "flipped": _flipped(rows_a, rows_b),
    }


def is_comparison_of(
    difference: Mapping[str, Any], a: Mapping[str, Any], b: Mapping[str, Any]
) -> bool:
    """Whether a comparison that was kept is still one of these evaluations, by their figures.

    Args:
        difference: of `compare`, as a file has it.
        a: metrics of the first evaluation.
        b: metrics of the second.
    """
    rows = difference.get("metrics")
    items = rows.items() if isinstance(rows, Mapping) else ()
    known = {name: row for name, row in items if isinstance(row, Mapping)}
    return all(
        are_figures_of({name: row.get(side) for name, row in known.items()}, metrics)
        for side, metrics in (("a", a), ("b", b))
    )


def are_figures_of(kept: Mapping[str, Any], metrics: Mapping[str, Any]) -> bool:
    """Whether figures that were kept are those of an evaluation, as far as both have them.

    Args:
        kept: by their path in the metrics.
        metrics: of the evaluation.
    """
    pairs = [(number_or_none(value), look_up(metrics, name)) for name, value in kept.items()]
    return all(a is None or b is None or abs(a - b) <= ROUNDING for a, b in pairs)


def _paired_rows(a: Evaluation, b: Evaluation) -> tuple[list[Row], list[Row]]:
    """Rows of both runs in a's order."""
    of_b = {row.id: row for row in b.rows}
    ids = [row.id for row in a.rows]
    apart = set(ids) ^ set(of_b)
    if apart:
        raise DataError(
            f"the runs are over different samples: {len(apart)} ids stand in one of them only "
            f"(one is {min(apart)!r}); compare runs of one samples file"
        )
    for row in a.rows:
        if _targets(row) != _targets(of_b[row.id]):
            raise DataError(
                f"sample {row.id!r} has other targets in the second run; compare runs of one "
                "samples file"
            )
    return list(a.rows), [of_b[key] for key in ids]


def _targets(row: Row) -> Any:
    """What is right for a row's sample."""
    return row.gold_answer, [(item.bbox, item.label, item.iscrowd) for item in row.objects]


def _values(rows: Sequence[Row], table: BoxTable) -> dict[str, float | None]:
    """Every metric that can be resampled, over all rows."""
    shares = {name: share_value(share, rows) for name, share in SHARES.items()}
    found = statistics(table.by_label)
    return shares | {"mAP": found["mAP"], "AP50": found["AP50"]}


def _sign_tests(rows_a: Sequence[Row], rows_b: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Per metric on how many images b is better and worse, and how likely that is by chance."""
    groups, n_images = image_groups(rows_a)
    found: dict[str, dict[str, Any]] = {}
    better = {metric.key: metric.better for metric in METRICS}
    for name in (*SHARES, "mAP", "AP50"):
        if better[name] == "neither":
            found[name] = {"better": None, "worse": None, "p_sign": None}
            continue
        changes = (
            share_changes(SHARES[name], rows_a, rows_b)
            if name in SHARES
            else _precision_changes({"mAP": ap, "AP50": ap50}[name], rows_a, rows_b)
        )
        by_image = np.bincount(groups, changes, n_images)
        more, less = int((by_image > ROUNDING).sum()), int((by_image < -ROUNDING).sum())
        gained, lost = (more, less) if better[name] == "higher" else (less, more)
        found[name] = {"better": gained, "worse": lost, "p_sign": sign_test(gained, lost)}
    return found


def share_changes(share: Share, rows_a: Sequence[Row], rows_b: Sequence[Row]) -> Floats:
    """By how much each row moves a share between two runs, to first order.

    A row may say nothing in one run and something in the other: a false box where there was none
    lowers precision. Law: the sum has the sign of b's share minus a's.

    Args:
        share: the metric.
        rows_a: of the first run.
        rows_b: of the second, in the same order.

    Returns:
        Float "rows": how much more of the numerator a row has in b than in a, beyond what its
        denominator would hold of it at the share of both runs together.
    """
    (parts_a, wholes_a), (parts_b, wholes_b) = (share.columns(rows) for rows in (rows_a, rows_b))
    whole = wholes_a.sum() + wholes_b.sum()
    both = (parts_a.sum() + parts_b.sum()) / whole if whole else 0.0
    changes: Floats = (parts_b - parts_a) - both * (wholes_b - wholes_a)
    return changes


def _precision_changes(
    average_precision: Callable[..., float | None], rows_a: Sequence[Row], rows_b: Sequence[Row]
) -> Floats:
    """The change of each row's own AP, Float "rows"; 0 where it has no target, and so no AP."""
    values_a, values_b = (
        np.array([_image_ap(average_precision, row) or 0.0 for row in rows], dtype=np.float64)
        for rows in (rows_a, rows_b)
    )
    return values_b - values_a


def sign_test(better: int, worse: int) -> float:
    """Two-sided p of a split at least as uneven, were both sides equally likely.

    >>> sign_test(5, 0)
    0.0625
    """
    n, tail, ways = better + worse, 0, 1
    for k in range(min(better, worse) + 1):
        tail += ways
        ways = ways * (n - k) // (k + 1)  # n over k + 1; anew each time it takes minutes for 10,000
    return float(min(1.0, 2 * tail / 2**n))


def _image_ap(average_precision: Callable[..., float | None], row: Row) -> float | None:
    """AP of one sample as a data set of its own; None where it has no target."""
    target = Target.from_sample(row.sample)
    if not is_boxes(row) or not len(target.detections):
        return None
    order = np.argsort([-box.confidence for box in row.predictions], kind="stable")
    preds = row.detections
    ranked = Detections(preds.boxes[order], tuple(preds.labels[k] for k in order))
    return average_precision(Completion("", Parsed(ranked, "ok")), target)


def _flipped(rows_a: Sequence[Row], rows_b: Sequence[Row]) -> dict[str, list[str]]:
    pairs = list(zip(rows_a, rows_b, strict=True))
    return {
        "gained": [b.id for a, b in pairs if b.is_faultless and not a.is_faultless],
        "lost": [b.id for a, b in pairs if a.is_faultless and not b.is_faultless],
    }
