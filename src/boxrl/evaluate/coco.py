"""Annotations and results in COCO's format to figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from boxrl.evaluate.coco_files import CocoData, read_annotations, read_results
from boxrl.metrics.average_precision import Predictions, evaluate_boxes, statistics
from boxrl.metrics.id_zero import statistics_with_id_zero
from boxrl.metrics.nms_ap import keep_one_per_target, select
from boxrl.metrics.order_free import order_free_precision


def evaluate_coco(annotations: Path, predictions: Path, *, nms_ap: bool = False) -> dict[str, Any]:
    """COCO's statistics of a results file.

    Args:
        annotations: COCO annotations file.
        predictions: COCO results file.
        nms_ap: add OVDEval's NMS-AP, and give AP and NMS-AP as its official script does: with
            the annotation of id 0, where there is one, lost.

    Returns:
        `mAP` ... `ARl`, `mAP_order_free`, with `nms_ap` the same and the counts `kept` and
        `total`, and `protocol`. Without `nms_ap`, ids make no difference.

    Raises:
        DataError: a file cannot be read or holds something that is no annotation or result.
    """
    data = read_annotations(annotations)
    preds = read_results(predictions, data)
    lost = data.zero if nms_ap else None
    figures: dict[str, Any] = coco_figures(data, preds, lost)
    if nms_ap:
        kept = keep_one_per_target(data.targets, preds)
        nearest = select(preds, keep_one_per_target(data.targets, preds, ties="best_iou"))
        figures["nms_ap"] = coco_figures(data, select(preds, kept), lost) | {
            "mAP_order_free": order_free_precision(data.targets, nearest, len(data.labels))
        }
        figures |= {"kept": int(kept.sum()), "total": len(kept)}
    return figures | {"protocol": coco_protocol(data, nms_ap)}


def coco_figures(data: CocoData, preds: Predictions, lost: int | None) -> dict[str, float | None]:
    """The twelve statistics and the order-free AP."""
    size = len(data.image_ids)
    if lost is None:
        found = statistics(evaluate_boxes(data.targets, preds, size, data.labels))
    else:
        found = statistics_with_id_zero(data.targets, preds, size, data.labels, lost)
    return found | {"mAP_order_free": order_free_precision(data.targets, preds, len(data.labels))}


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
