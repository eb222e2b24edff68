"""Predictions as JSON lines: append-only, one row per sample, made resumable by rereading.

A row that ended in error is generated again on the next run; the later row counts. A finished
file is put into the samples' order, one row per sample. Beside the file, FILE's stem +
`.meta.json` holds the settings, so that a changed setting is refused instead of mixed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from boxrl.data.files import (
    is_number,
    is_whole,
    no_cycle_search,
    number_or_none,
    write_atomic,
    write_json,
)
from boxrl.data.samples import hash_question
from boxrl.errors import DataError, UsageError
from boxrl.guard.files import parse_json_object, read_json_object
from boxrl.guard.outputs import refuse_link
from boxrl.guard.secrets import redact
from boxrl.types import Sample

NOT_COMPARED = frozenset({"versions", "cwd", "files", "timing"})
"""Settings that a resumed file may have others of: they are there for the record, and `cwd` to
find relative paths by; `timing` says how long how many answers took."""

FinishReason = Literal["stop", "length", "error"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model wrote for one sample.

    Attributes:
        id: the sample's id.
        completion: the text after the prompt.
        n_tokens: completion tokens, the end token included; None where a server does not say.
        finish_reason: `stop`, `length` (cut at the limit) or `error`.
        input_size_wh: size of the image that the model saw, for frames of resized pixels.
        box_logprobs: mean log-probability of each box's coordinate tokens, in emission order.
        error: what went wrong, where finish_reason is `error`.
        first_tokens: the likeliest first tokens and their probabilities.
        box_verify: how sure a second look is of each box, in [0, 1], in emission order.
        n_prompt_tokens: tokens of the prompt, those of the image included; None where a server
            does not say.
        n_hidden_tokens: tokens that a server's total counts beyond prompt and completion, as some
            count thoughts, which cost what completion tokens cost; None where there are none.
        asked: hash of the question, so that a resumed file answers no other; None where not told.
    """

    id: str
    completion: str
    n_tokens: int | None
    finish_reason: FinishReason
    input_size_wh: tuple[int, int] | None = None
    box_logprobs: tuple[float, ...] | None = None
    error: str | None = None
    first_tokens: Mapping[str, float] | None = None
    box_verify: tuple[float, ...] | None = None
    n_prompt_tokens: int | None = None
    n_hidden_tokens: int | None = None
    asked: str | None = None


def render_prediction(prediction: Prediction) -> str:
    """One line of a predictions file."""
    row: dict[str, Any] = {
        "id": prediction.id,
        "completion": prediction.completion,
        "n_tokens": prediction.n_tokens,
        "finish_reason": prediction.finish_reason,
    }
    if prediction.n_prompt_tokens is not None:
        row["n_prompt_tokens"] = prediction.n_prompt_tokens
    if prediction.n_hidden_tokens is not None:
        row["n_hidden_tokens"] = prediction.n_hidden_tokens
    if prediction.input_size_wh is not None:
        row["input_size_wh"] = list(prediction.input_size_wh)
    if prediction.box_logprobs is not None:
        row["box_logprobs"] = list(prediction.box_logprobs)
    if prediction.first_tokens is not None:
        row["first_tokens"] = dict(prediction.first_tokens)
    if prediction.box_verify is not None:
        row["box_verify"] = list(prediction.box_verify)
    if prediction.asked is not None:
        row["asked"] = prediction.asked
    if prediction.error is not None:
        row["error"] = prediction.error
    return json.dumps(row, ensure_ascii=False)


def parse_prediction(row: dict[str, Any], where: str) -> Prediction:
    """A prediction from its JSON object.

    Raises:
        DataError: a field is missing or of the wrong type.
    """
    logprobs = row.get("box_logprobs")
    if not isinstance(row.get("id"), str) or not isinstance(row.get("completion"), str):
        raise DataError(f"{where}: a prediction needs an id and a completion, both strings")
    for key in ("n_tokens", "n_prompt_tokens", "n_hidden_tokens"):
        count = row.get(key)
        if count is not None and not is_whole(count):
            raise DataError(f"{where}: {key} must be an integer >= 0 or null, got {count!r:.80}")
    if row.get("finish_reason", "stop") not in ("stop", "length", "error"):
        raise DataError(
            f"{where}: finish_reason {row['finish_reason']!r:.80}; expected stop, length or error"
        )
    if logprobs is not None and not (
        # NaN and infinity are told of where they are ranked by.
        isinstance(logprobs, list) and all(type(v) is float or is_number(v) for v in logprobs)
    ):
        raise DataError(f"{where}: box_logprobs must be a list of numbers, got {logprobs!r:.80}")
    verified, first = row.get("box_verify"), row.get("first_tokens")
    _check_probabilities("box_verify", verified, list, where)
    _check_probabilities("first_tokens", first, dict, where)
    return Prediction(
        id=row["id"],
        completion=row["completion"],
        n_tokens=row.get("n_tokens"),
        finish_reason=cast(FinishReason, row.get("finish_reason", "stop")),
        input_size_wh=checked_input_size(row, where),
        box_logprobs=tuple(float(v) for v in logprobs) if logprobs is not None else None,
        error=row.get("error"),
        first_tokens=first,
        box_verify=tuple(map(float, verified)) if verified is not None else None,
        n_prompt_tokens=row.get("n_prompt_tokens"),
        n_hidden_tokens=row.get("n_hidden_tokens"),
        asked=row.get("asked"),
    )


def checked_prediction(prediction: Prediction, where: str) -> Prediction:
    """A prediction made in Python, as the line of a file that says the same would be read.

    Args:
        prediction: unchecked: a server's own word for how it ended, a count that is NaN.
        where: start of every error message.

    Raises:
        DataError: the first thing that is wrong, as of `parse_prediction`.
    """
    values = ((field.name, getattr(prediction, field.name)) for field in fields(prediction))
    return parse_prediction({name: _as_read(value) for name, value in values}, where)


def _as_read(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _check_probabilities(name: str, values: Any, kind: type, where: str) -> None:
    """Refuse what is neither missing nor probabilities.

    Raises:
        DataError: so it is.
    """
    if values is None:
        return
    numbers = values.values() if isinstance(values, dict) else values
    if not isinstance(values, kind) or not all(is_number(v) and 0 <= v <= 1 for v in numbers):
        raise DataError(f"{where}: {name} must hold probabilities, got {values!r:.80}")


def checked_input_size(row: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    """A row's `input_size_wh`, (width, height) in pixels; None where it is left out.

    Raises:
        DataError: it is something else than two integers from 1.
    """
    size = row.get("input_size_wh")
    if size is None:
        return None
    if not isinstance(size, list) or len(size) != 2 or not all(is_whole(v, 1) for v in size):
        raise DataError(f"{where}: input_size_wh must be [width, height], got {size!r:.80}")
    return size[0], size[1]


@no_cycle_search()
def read_predictions(path: Path) -> dict[str, Prediction]:
    """Predictions by sample id; of a sample that ended in error, the last row counts.

    A last line without its newline that is no whole row was cut by a crash and is left out; it
    is generated again.

    Raises:
        DataError: no such file, a bad line, or two different answers to one sample.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    *lines, last = content.split(b"\n")
    if _is_json(last):
        lines.append(last)
    predictions: dict[str, Prediction] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{path}:{number}"
            prediction = parse_prediction(parse_json_object(line, where), where)
            earlier = predictions.get(prediction.id, prediction)
            if earlier.finish_reason != "error" and earlier != prediction:
                raise DataError(
                    f"{where}: duplicate id {prediction.id!r}; a file holds one run, "
                    "so keep the runs apart"
                )
            predictions[prediction.id] = prediction
    return predictions


def answering_others(predictions: Mapping[str, Prediction], asked: Mapping[str, str]) -> list[str]:
    """Ids of predictions that say that another question was asked; who says none is trusted.

    Args:
        predictions: by id, at least those that are asked.
        asked: by id, `hash_question` of what is asked now.
    """
    return [key for key, now in asked.items() if predictions[key].asked not in (None, now)]


def check_asked(samples: Mapping[str, Sample], predictions: Mapping[str, Prediction]) -> None:
    """Refuse answers to other questions than the samples ask, as far as they say what was asked.

    Args:
        samples: by the predictions' ids.
        predictions: by id.

    Raises:
        DataError: some are; the samples have been changed since, or others were asked.
    """
    told = (key for key in samples if predictions[key].asked is not None)
    if others := answering_others(predictions, {key: hash_question(samples[key]) for key in told}):
        raise DataError(
            f"{len(others):,} of {len(samples):,} predictions answer other questions than the "
            f"samples ask (first: {others[0]!r}); name those that were asked, or predict again"
        )


class PredictionsFile:
    """A predictions file being written: knows what is done, appends the rest."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Open for resuming.

        Args:
            path: the .jsonl file; created when missing, a cut last line is removed. One without
                rows, as a run leaves that failed at its start, is begun anew, and so is one whose
                rows all ended in error where the settings have changed.
            settings: what the predictions depend on; must equal those of an existing file.

        Raises:
            UsageError: the file was made with other settings, or stands without its settings.
            DataError: a line of it, or its settings, are damaged; or it is a link.
        """
        refuse_link(path)
        self.path = path
        self.done: dict[str, Prediction] = {}
        begun = path.is_file() and path.stat().st_size > 0
        changed = self._changed_settings(settings) if begun else []
        if begun:
            _cut_partial_line(path)
            self.done = {
                key: row
                for key, row in read_predictions(path).items()
                if row.finish_reason != "error"
            }
        if changed and self.done:
            raise UsageError(
                f"{path}: was made with other settings ({'; '.join(changed)}); "
                "choose another --out or repeat the settings"
            )
        if changed or not begun:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(meta_path(path), settings | {"cwd": str(Path.cwd())})
            path.write_bytes(b"")

    def _changed_settings(self, settings: dict[str, Any]) -> list[str]:
        """What is not as it was when the file was begun, in words."""
        meta = meta_path(self.path)
        if not meta.is_file():
            raise UsageError(
                f"{self.path}: exists without {meta.name}, so its settings are unknown; "
                "choose another --out"
            )
        made_with = _flat(read_json_object(meta))
        wanted = _flat(json.loads(redact(json.dumps(settings))))
        return [
            f"{key}: {made_with.get(key)!r} there, {wanted.get(key)!r} now"
            for key in sorted({*made_with, *wanted})
            if made_with.get(key) != wanted.get(key)
        ]

    def append(self, predictions: Iterable[Prediction]) -> None:
        """Add rows and bring them to disk.

        Raises:
            DataError: the disk is full, or cannot be written to any more.
        """
        rows = list(predictions)
        try:
            with self.path.open("a", encoding="utf-8") as handle:
                handle.writelines(redact(render_prediction(row)) + "\n" for row in rows)
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be written ({error.strerror}); fix this and rerun the "
                "same command; finished rows are kept"
            ) from error
        self.done.update({row.id: row for row in rows if row.finish_reason != "error"})

    def add_timing(self, seconds: float, answers: int) -> None:
        """Add to how long how many answers took; a call that was stopped is not counted."""
        facts = read_json_object(meta_path(self.path))
        earlier = facts.get("timing")
        if isinstance(earlier, dict):
            seconds += number_or_none(earlier.get("seconds")) or 0.0
            answers += int(number_or_none(earlier.get("answers")) or 0)
        timing = {"seconds": round(seconds, 3), "answers": answers}
        write_json(meta_path(self.path), facts | {"timing": timing})

    def arrange(self, ids: Sequence[str]) -> None:
        """Put the rows into the order of `ids`, one row per id; rows of other ids come last.

        The file is replaced as a whole, and only where that changes anything.
        """
        rows = read_predictions(self.path)
        order = [key for key in ids if key in rows]
        known = set(ids)
        order += [key for key in rows if key not in known]
        content = "".join(render_prediction(rows[key]) + "\n" for key in order)
        if content != self.path.read_text(encoding="utf-8"):
            with write_atomic(self.path) as handle:
                handle.write(content)


def meta_path(path: Path) -> Path:
    """Where the settings of a predictions file stand."""
    return path.with_name(f"{path.stem}.meta.json")


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Those that are compared, the keys of inner objects behind a dot."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in NOT_COMPARED:
            inner = value if isinstance(value, dict) else {}
            flat |= {f"{key}.{name}": item for name, item in inner.items()} or {key: value}
    return flat


def _is_json(line: bytes) -> bool:
    """Whether a line is whole; a cut JSON object never is."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _cut_partial_line(path: Path) -> None:
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as handle:
            handle.truncate(whole)
