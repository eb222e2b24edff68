"""An evaluation on disk; every other module reads and writes one through this one.

FOLDER/             RUN/evals/NAME, or that of `boxrl evaluate --out`
metrics.json        metrics, protocol, and under `files` what they were made from
rows.jsonl          one judged sample a line: `boxrl.evaluate.rows.Row`
predictions.jsonl   what was judged, with predictions.meta.json; may lie elsewhere

`files` names the samples, the predictions, the rows and the images, each with its SHA-256, so that
parts that no longer belong together are refused. It also tells whose they are: what lies outside of
the run is read for it only where the run knows its content, or a user's own command names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from boxrl.data.files import (
    dump_json,
    hash_file,
    is_whole,
    read_lines,
    write_atomic,
)
from boxrl.data.predictions import Prediction, meta_path, read_predictions
from boxrl.data.samples import hash_images, read_samples
from boxrl.errors import DataError, UsageError
from boxrl.evaluate import RULES, evaluate
from boxrl.evaluate.comparison import ROUNDING
from boxrl.evaluate.rows import Evaluation, Row, encode_row, read_rows
from boxrl.evaluate.summary import SHARES, look_up, share_value
from boxrl.families import Family, build_family
from boxrl.guard.files import inside, is_inside, read_json_object
from boxrl.runs import find_path, find_run, path_in_run, run_of

METRICS_FILE, ROWS_FILE, PREDICTIONS_FILE = "metrics.json", "rows.jsonl", "predictions.jsonl"


class DisagreementError(DataError):
    """Parts of an evaluation that are whole, each by itself, and do not belong together."""


def write_evaluation(
    folder: Path,
    evaluation: Evaluation,
    *,
    samples: Path | None = None,
    predictions: Path | None = None,
    images: Path | None = None,
) -> Evaluation:
    """Write rows.jsonl, then metrics.json; where the latter stands, the evaluation is whole.

    Args:
        folder: made where it is missing.
        evaluation: what `evaluate` gives.
        samples: the file that was evaluated; None records no files.
        predictions: the file that was judged; FOLDER/predictions.jsonl by default.
        images: their folder; that of the predictions' settings by default.

    Returns:
        The evaluation as it stands on disk, with `files` in its metrics.

    Raises:
        UsageError: another process is writing to the folder.
        DataError: the folder cannot be written to, or the disk is full.
    """
    metrics, digest = dict(evaluation.metrics), hashlib.sha256()
    with (
        write_atomic(folder / METRICS_FILE) as metrics_file,
        write_atomic(folder / ROWS_FILE) as rows_file,
    ):
        for row in evaluation.rows:
            line = encode_row(row) + b"\n"
            digest.update(line)
            rows_file.write(line.decode())
        if samples is not None:
            predictions = predictions or folder / PREDICTIONS_FILE
            settings = read_settings(predictions)
            images = images or locate(predictions.parent, {}, settings, "images")
            metrics["files"] = {
                "samples": _recorded(folder, samples),
                "predictions": _recorded(folder, predictions),
                "rows": {"path": ROWS_FILE, "sha256": digest.hexdigest()},
                "images": images
                and {
                    "path": path_in_run(folder, images),
                    "sha256": _hash_answered(settings, samples, evaluation)
                    or hash_images(images, [row.sample for row in evaluation.rows]),
                },
            }
        dump_json(metrics, metrics_file)
    return Evaluation(metrics, evaluation.rows)


def _hash_answered(
    settings: Mapping[str, Any], samples: Path, evaluation: Evaluation
) -> str | None:
    """What the images held when they were answered; None where nobody says it of these samples."""
    asked, shown = (recorded_file(samples.parent, settings, n)[1] for n in ("samples", "images"))
    whole = evaluation.metrics["failed"]["rule"] != "skip" and asked == hash_file(samples)
    return shown if whole else None


def _recorded(folder: Path, path: Path) -> dict[str, str]:
    """How metrics.json names a file."""
    return {"path": path_in_run(folder, path), "sha256": hash_file(path)}


def read_evaluation(folder: Path) -> Evaluation:
    """The evaluation of a folder, whole and in agreement with itself.

    Args:
        folder: of `boxrl evaluate --out`, or RUN/evals/NAME.

    Returns:
        What was written; without intervals where predictions stand there alone, or with the
        metrics of 0.1.0, and are judged now.

    Raises:
        UsageError: there is no such folder, or it holds no evaluation.
        DataError: what it holds is damaged, or does not belong together.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; expected one of boxrl evaluate --out")
    for name in (METRICS_FILE, ROWS_FILE, PREDICTIONS_FILE):
        inside(run_of(folder), folder / name)
    has_metrics, path = (folder / METRICS_FILE).is_file(), folder / METRICS_FILE
    metrics = read_metrics(path) if has_metrics else {}
    if not has_rows(folder):
        found = judge_predictions(folder, metrics)
    elif not has_metrics:
        raise UsageError(f"{folder}: holds rows without {METRICS_FILE}; {_redo(folder)}")
    elif not isinstance(metrics.get("protocol"), dict):
        raise DataError(f"{path}: no metrics of an evaluation (no protocol); evaluate again")
    else:
        found = Evaluation(metrics, read_rows(folder / ROWS_FILE))
    check_agreement(folder, metrics, found.rows)
    return found


def read_metrics(path: Path) -> dict[str, Any]:
    """metrics.json, as far as it is one.

    Raises:
        DataError: it is no JSON object, or its protocol names rules that there are not.
    """
    metrics = read_json_object(path)
    protocol = metrics.get("protocol")
    stated = protocol if isinstance(protocol, dict) else {}
    for key, known in RULES.items():
        value = stated.get(key)
        if value is not None and value not in get_args(known):
            names = ", ".join(get_args(known))
            raise DataError(f"{path}: protocol names {value!r:.40}; expected one of {names}")
    return metrics


def has_rows(folder: Path) -> bool:
    """Whether the folder's judged rows stand there; else its predictions are to be judged.

    Raises:
        DataError: it holds rows of 0.1.0, which lack what became of each box, and no predictions.
    """
    path = folder / ROWS_FILE
    if not path.is_file():
        return False
    first = next((line for _, line in read_lines(path)), b"")
    if isinstance(first, DataError) or b'"formatted"' not in first or b'"width"' in first:
        return True
    if (folder / PREDICTIONS_FILE).is_file():
        return False
    raise DataError(f"{path}: was written by boxrl 0.1.0; {_redo(folder)}")


def judge_predictions(
    folder: Path, metrics: Mapping[str, Any], unfinished: bool = False
) -> Evaluation:
    """Predictions that are judged now: of a run that is going on, or of 0.1.0 by its rules.

    Args:
        folder: with predictions.jsonl and predictions.meta.json.
        metrics: metrics.json; empty where there is none.
        unfinished: leave out samples without an answer instead of refusing them.

    Raises:
        UsageError: it holds no predictions, or they do not say what they are for.
        DisagreementError: they were judged, and the rows are gone.
        DataError: a file is damaged, or the predictions are not those of the samples.
    """
    if isinstance(metrics.get("files"), dict):
        raise DisagreementError(f"{folder / ROWS_FILE}: is missing; {_redo(folder, metrics)}")
    path = folder / PREDICTIONS_FILE
    if not path.is_file():
        raise UsageError(
            f"{folder}: holds no evaluation ({METRICS_FILE} and {ROWS_FILE}); "
            "make one with boxrl evaluate --out"
        )
    settings, protocol = read_settings(path), metrics.get("protocol")
    stated = protocol if isinstance(protocol, dict) else {}
    samples, answers = read_samples(_samples_file(folder, settings)), read_predictions(path)
    if unfinished:
        answers = {key: row for key, row in answers.items() if row.finish_reason != "error"}
        samples = [sample for sample in samples if sample.id in answers]
    named = settings.get("family") or stated.get("family")
    rules: dict[str, Any] = {key: stated[key] for key in RULES if stated.get(key)}
    if stated:  # by 0.1.0, where they do not say
        rules.setdefault("crowds", "wrong")
    family = settings_family(settings, named, str(path))
    try:
        return evaluate(samples, answers, family, settings=settings, resamples=0, **rules)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def check_agreement(folder: Path, metrics: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Refuse metrics and rows that are not of one evaluation, or not of the files as they are now.

    Args:
        folder: where they stand.
        metrics: metrics.json; what it does not hold is not checked.
        rows: its rows; none where they could not be read.

    Raises:
        DisagreementError: they do not belong together.
        DataError: a file that was evaluated has changed and cannot be read any more.
    """
    n = metrics.get("n")
    if rows and is_whole(n) and n != len(rows):
        raise DisagreementError(
            f"{folder}: {METRICS_FILE} counts {n} samples, its rows are {len(rows)}; "
            f"{_redo(folder, metrics)}"
        )
    if not isinstance(metrics.get("files"), dict):
        _check_metrics(folder, metrics, rows)
    for name in ("samples", "predictions", *(["rows"] if rows else [])):
        path, known = recorded_file(folder, metrics, name)
        if path is None or not path.is_file() or hash_file(path) == known:
            continue
        if name in _READ and is_inside(run_of(folder), path):
            _READ[name](path)  # a damaged file is told as such
        raise DisagreementError(
            f"{path}: has changed since {folder} was evaluated; {_redo(folder, metrics)}"
        )


_READ: dict[str, Callable[[Path], object]] = {
    "samples": read_samples,
    "predictions": read_predictions,
}


def _check_metrics(folder: Path, metrics: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Refuse metrics that record no files and are not those of the rows."""
    for key, share in SHARES.items() if rows else ():
        if key == "negatives.accuracy":  # which images are negatives has changed since
            continue
        stated, found = look_up(metrics, key), share_value(share, rows)
        if stated is not None and found is not None and abs(stated - found) > ROUNDING:
            raise DisagreementError(
                f"{folder}: {METRICS_FILE} says {key} {stated:.6g}, its answers give {found:.6g}; "
                f"{_redo(folder, metrics)}"
            )


def check_predictions(
    folder: Path, rows: Sequence[Row], predictions: Mapping[str, Prediction]
) -> None:
    """Refuse rows that judge other samples than the predictions answer.

    Args:
        folder: where the rows stand.
        rows: of rows.jsonl.
        predictions: by sample id.

    Raises:
        DisagreementError: a row has no prediction.
    """
    strange = next((row.id for row in rows if row.id not in predictions), None)
    if strange is not None:
        raise DisagreementError(
            f"{folder}: its rows judge sample {strange!r}, which its predictions do not answer; "
            f"{_redo(folder)}"
        )


def recorded_file(
    folder: Path, metrics: Mapping[str, Any], name: str
) -> tuple[Path | None, str | None]:
    """Where a file lies that metrics.json names, and its SHA-256; None where it names none.

    Args:
        folder: of the evaluation.
        metrics: metrics.json, or predictions.meta.json.
        name: `samples`, `predictions`, `rows` or `images`.
    """
    files = metrics.get("files")
    entry = files.get(name) if isinstance(files, dict) else None
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        return None, None
    return find_path(folder, entry["path"]), entry.get("sha256")


def is_readable(folder: Path, path: Path, known: str | None) -> bool:
    """Whether a file that an evaluation names may be read for it.

    Args:
        folder: of the evaluation.
        path: the file.
        known: its SHA-256 as the evaluation tells it, None where it does not: outside of the run,
            nobody can tell it who does not have the file.
    """
    if is_inside(run_of(folder), path):
        return True
    return known is not None and path.is_file() and hash_file(path) == known


def locate(
    folder: Path, metrics: Mapping[str, Any], settings: Mapping[str, Any], name: str
) -> Path | None:
    """Where the samples or images lie; None where neither file names them.

    Args:
        folder: of the evaluation.
        metrics: metrics.json, which records them.
        settings: predictions.meta.json, which names what was answered.
        name: `samples` or `images`.

    Returns:
        The first of the two places that is there, else the first.
    """
    recorded, named = recorded_file(folder, metrics, name)[0], settings.get(name)
    answered = find_path(folder, named, settings.get("cwd")) if isinstance(named, str) else None
    places = [place for place in (recorded, answered) if place]
    return next((place for place in places if place.exists()), next(iter(places), None))


def _samples_file(folder: Path, settings: Mapping[str, Any]) -> Path:
    """The samples file that predictions.meta.json names."""
    path = locate(folder, {}, settings, "samples")
    if path is None:
        meta = meta_path(folder / PREDICTIONS_FILE)
        raise UsageError(f"{folder}: {meta.name} names no samples file; {_redo(folder)}")
    if not path.is_file():
        raise UsageError(
            f"{folder}: its samples file {settings['samples']} is not there; {_redo(folder)}"
        )
    if not is_readable(folder, path, recorded_file(folder, settings, "samples")[1]):
        raise UsageError(
            f"{folder}: its samples file lies outside of the run and is not known to be the one "
            f"that was answered; name it: boxrl evaluate --samples {path} --predictions "
            f"{folder / PREDICTIONS_FILE} --out {folder}"
        )
    return path


def _redo(folder: Path, metrics: Mapping[str, Any] = MappingProxyType({})) -> str:
    """The next step: the command that makes the evaluation anew."""
    samples, _ = recorded_file(folder, metrics, "samples")
    predictions, _ = recorded_file(folder, metrics, "predictions")
    own = folder / PREDICTIONS_FILE
    predictions = predictions or (own if own.is_file() else None)
    return (
        f"redo it: boxrl evaluate --samples {samples or 'F'} --predictions {predictions or 'P'} "
        f"--out {folder}"
    )


def paired_folders(first: Path, second: Path) -> dict[str, tuple[Path, Path]]:
    """Folders of the evaluations that two runs share, by name.

    Two folders that are one evaluation each pair under the name "".

    Raises:
        UsageError: there is no such folder, they share no name, or one is a run and one is not.
    """
    runs = [find_run(path) for path in (first, second)]
    if all(run.is_evaluation for run in runs):
        return {"": (first, second)}
    names, others = (list(run.evaluations) for run in runs)
    shared = [name for name in names if name in others]
    if not shared or any(run.is_evaluation for run in runs):
        raise UsageError(
            f"{first} and {second} share no evaluation: "
            f"{', '.join(names) or 'none'} and {', '.join(others) or 'none'}; "
            "name two folders RUN/evals/NAME"
        )
    return {name: (runs[0].evaluations[name], runs[1].evaluations[name]) for name in shared}


def read_settings(predictions: Path) -> dict[str, Any]:
    """predictions.meta.json, empty where there is none.

    Raises:
        DataError: it is no JSON object.
    """
    path = meta_path(predictions)
    return read_json_object(path) if path.is_file() else {}


def settings_family(settings: Mapping[str, Any], named: str | None, where: str) -> Family:
    """The family that the predictions were made with, with its pixel limits.

    Args:
        settings: predictions.meta.json: `family` (its name), `min_pixels`, `max_pixels`.
        named: what the user says, or None.
        where: the predictions file, for messages.

    Raises:
        UsageError: nobody names the family, or the two names contradict each other.
    """
    known = settings.get("family")
    if named is not None and known is not None and named != known:
        raise UsageError(
            f"{where}: --family {named!r} contradicts the predictions' own settings, which say "
            f"{known!r}; leave --family out"
        )
    name = named or known
    if not name:
        raise UsageError(
            f"{where}: the family is unknown, and with it the frame of the boxes: "
            f"{meta_path(Path(where)).name} is missing or names none; name it with --family"
        )
    family = build_family(str(name))
    if settings.get("factor", family.factor) is None and family.has_limits:
        return replace(family, resizing="unknown")  # a hosted model, whose limits nobody named
    limits = {k: settings[k] for k in ("min_pixels", "max_pixels", "factor") if settings.get(k)}
    return replace(family, **limits)
