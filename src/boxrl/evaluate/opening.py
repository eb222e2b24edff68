"""Folders to evaluations: what `evaluate --out` wrote, or predictions that are scored now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from boxrl.data.predictions import read_predictions
from boxrl.data.samples import read_samples
from boxrl.errors import DataError, UsageError
from boxrl.evaluate import evaluate
from boxrl.evaluate.evaluation import Evaluation
from boxrl.evaluate.files import (
    METRICS,
    ROWS,
    read_evaluation,
    read_settings,
    settings_family,
)
from boxrl.guard.files import read_json_object


def open_evaluation(folder: Path) -> Evaluation:
    """The evaluation of a folder, without intervals where it is scored now.

    Predictions that are scored now are read by the rules that their metrics.json states, where
    there is one, else by those that `evaluate` has by default.

    Args:
        folder: of `boxrl evaluate --out`, or with predictions.jsonl and predictions.meta.json,
            as in RUN/evals/NAME.

    Raises:
        UsageError: the folder holds neither.
        DataError: what it holds is damaged or does not belong together.
    """
    predictions = folder / "predictions.jsonl"
    if (folder / ROWS).is_file() or not predictions.is_file():
        return read_evaluation(folder)
    settings = read_settings(predictions)
    stated = _stated_protocol(folder)
    samples = read_samples(_samples_path(folder, settings))
    answers = read_predictions(predictions)
    family = settings_family(settings, None, str(predictions))
    rules = {key: stated[key] for key in ("confidence", "answer_tag") if stated.get(key)}
    try:
        return evaluate(samples, answers, family, settings=settings, resamples=0, **rules)
    except DataError as error:
        raise DataError(f"{predictions}: {error}") from error


def _stated_protocol(folder: Path) -> dict[str, Any]:
    """The protocol in metrics.json; empty where there is none."""
    path = folder / METRICS
    metrics = read_json_object(path) if path.is_file() else {}
    protocol = metrics.get("protocol")
    return protocol if isinstance(protocol, dict) else {}


def paired_folders(first: Path, second: Path) -> dict[str, tuple[Path, Path]]:
    """Folders of the evaluations that two runs share, by name.

    Two folders that hold no `evals/` are themselves one evaluation each, under the name "".

    Raises:
        UsageError: both are runs and share no name.
    """
    if not all((run / "evals").is_dir() for run in (first, second)):
        return {"": (first, second)}
    names, others = (
        [path.name for path in sorted((run / "evals").iterdir()) if path.is_dir()]
        for run in (first, second)
    )
    shared = [name for name in names if name in others]
    if not shared:
        raise UsageError(
            f"{first} and {second} share no evaluation: "
            f"{', '.join(names) or 'none'} and {', '.join(others) or 'none'}; "
            "name two folders RUN/evals/NAME"
        )
    return {name: (first / "evals" / name, second / "evals" / name) for name in shared}


def _samples_path(folder: Path, settings: dict[str, Any]) -> Path:
    """The samples file that the settings name: from here, the folder, or the run it lies in."""
    named = settings.get("samples")
    if not isinstance(named, str):
        raise UsageError(
            f"{folder}: predictions.meta.json names no samples file; "
            "score the predictions with boxrl evaluate --samples F --out DIR"
        )
    around = [folder.resolve().parent.parent, folder, Path()]
    found = [base / named for base in around if (base / named).is_file()]
    if not found:
        raise UsageError(
            f"{folder}: its samples file {named} is not there; "
            "score the predictions with boxrl evaluate --samples F --out DIR"
        )
    return found[0]
