"""Annotations and results in COCO's format to figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from boxrl.data.files import no_cycle_search
from boxrl.evaluate.coco_files import CocoData, read_annotations, read_coco_results
from boxrl.metrics.average_precision import Predictions, select, statistics, statistics_by_label
from boxrl.metrics.id_zero import statistics_with_id_zero
from boxrl.metrics.nms_ap import keep_one_per_target
from boxrl.metrics.order_free import order_free_precision


def evaluate_coco(annotations: Path, predictions: Path, *, nms_ap: bool = False) -> dict[str, Any]:
    """COCO's statistics of a results file.

    Args:
        annotations: COCO annotations file.
        predictions: COCO results file.
        nms_ap: add OVDEval's NMS-AP, and give AP and NMS-AP as its official script does: with
            the annotation of id 0, where there is one, lost.

    Returns:
        `mAP` ... `ARl` and `protocol`; with `nms_ap` also `mAP_order_free`, the same figures
        under `nms_ap`, and how many boxes of the `total` were `kept`. Without `nms_ap`, the ids
        of annotations make no difference.

    Raises:
        DataError: a file cannot be read or holds something that is no annotation or result.
    """
    with no_cycle_search():
        data = read_annotations(annotations)
        preds = read_coco_results(predictions, data)
    figures: dict[str, Any] = {"protocol": coco_protocol(data, nms_ap)}
    if not nms_ap:
        return coco_statistics(data, preds, None) | figures
    kept = keep_one_per_target(data.targets, preds)
    nearest = keep_one_per_target(data.targets, preds, ties="best_iou")
    thinned = coco_statistics(data, select(preds, kept), data.zero)
    return {
        **coco_statistics(data, preds, data.zero),
        "mAP_order_free": _order_free(data, preds),
        "nms_ap": thinned | {"mAP_order_free": _order_free(data, select(preds, nearest))},
        "kept": int(kept.sum()),
        "total": len(kept),
        **figures,
    }


def coco_statistics(data: CocoData, preds: Predictions, lost: int | None) -> dict[str, Any]:
    """The twelve statistics, with the target in row `lost` never found."""
    n_images, n_labels = len(data.image_ids), len(data.labels)
    if lost is None:
        return statistics(statistics_by_label(data.targets, preds, n_images, n_labels))
    return statistics_with_id_zero(data.targets, preds, n_images, n_labels, lost)


def _order_free(data: CocoData, preds: Predictions) -> float | None:
    return order_free_precision(data.targets, preds, len(data.labels))


def coco_protocol(data: CocoData, nms_ap: bool) -> dict[str, str]:
    """How the numbers came about, in words."""
    protocol = {
        "average_precision": "COCO, IoU .50:.05:.95, at most 100 boxes per image and category, "
        "crowd ignored",
        "ties": "equal scores rank by image id, then by their order in the file",
    }
    if nms_ap:
        protocol["nms_ap"] = (
            "OVDEval's official script; of equal scores on one target the last in the file is "
            "kept; mAP_order_free keeps the one nearest to the target"
        )
    if nms_ap and data.zero is not None:
        protocol["id_zero"] = (
            "the annotation with id 0 counts as never found, as in the official script; without "
            "--nms-ap it is scored like any other"
        )
    return protocol
