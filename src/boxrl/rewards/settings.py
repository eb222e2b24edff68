"""Numbers among a reward's settings that can mean what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

IOUS = ("iou_threshold", "near_iou")
WEIGHTS = ("alpha", "beta", "gamma")


def check_numbers(settings: Mapping[str, Any]) -> None:
    """Refuse what no answer can reach, or every answer does: percent for IoUs, steps for shares.

    Args:
        settings: of one of boxrl's rewards, by name; what is left out has its default.

    Raises:
        ValueError: an IoU, a share, a weight or a length is none, or a schedule does not ascend.
        TypeError: something else stands in a number's place.
    """
    _check_kinds(settings)
    schedule = [(start, iou) for start, iou in settings.get("schedule", ())]
    ious = [settings[key] for key in IOUS if settings.get(key) is not None]
    ious += [*settings.get("thresholds", ()), *(iou for _, iou in schedule)]
    for iou in ious:
        if not 0 < iou <= 1:
            raise ValueError(f"{iou!r:.40} is no IoU; expected a number above 0 and up to 1")
    starts = [start for start, _ in schedule]
    if starts != sorted(set(starts)) or not all(0 <= start <= 1 for start in starts):
        raise ValueError(
            f"its schedule starts at {', '.join(map(str, starts)):.80}; expected ascending shares "
            "of the training steps, from 0 to 1"
        )
    for key in WEIGHTS:
        if settings.get(key, 0) < 0:
            raise ValueError(f"{key} is {settings[key]!r:.40}; expected a weight of 0 or more")
    if not 0 <= settings.get("threshold", 0) <= 1:
        raise ValueError(f"threshold is {settings['threshold']!r:.40}; expected 0 to 1")
    if settings.get("max_length", 1) < 1:
        raise ValueError(f"max_length is {settings['max_length']!r:.40}; expected 1 token or more")


def _check_kinds(settings: Mapping[str, Any]) -> None:
    for key in (*IOUS, *WEIGHTS, "threshold", "max_length"):
        value = settings.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise TypeError(f"{key} is {value!r:.40}; expected a number")
    for key in ("thresholds", "schedule"):
        if not isinstance(settings.get(key, ()), list | tuple):
            raise TypeError(f"{key} is {settings[key]!r:.40}; expected a list")
