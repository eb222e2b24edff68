"""How numbers came about, and what of it must be equal before two runs are compared."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from boxrl.data.files import is_number
from boxrl.evaluate.judging import Rules
from boxrl.evaluate.rows import Evaluation, Row
from boxrl.families import Family
from boxrl.types import Sample

COMPARED = (
    "mode", "setting", "split", "subset", "questions", "images", "prompt", "prompt_file",
    "sampling", "thinking", "min_pixels", "max_pixels", "confidence", "verify", "nms", "answer_tag",
    "reading", "errors", "crowds",
)  # fmt: skip
"""What must be equal before two runs may be compared."""

WHERE_STATED = frozenset(
    {"setting", "split", "prompt_file", "sampling", "thinking", "min_pixels", "max_pixels",
     "crowds"}
)  # fmt: skip
"""Keys that contradict each other only where both runs state them: answers that were made
elsewhere, or by an earlier version, leave them out."""

LIMITS = ("min_pixels", "max_pixels")

PATCH = 32
"""Largest patch to whose multiples families with pixel limits resize; limits hold of the result."""

NOT_COMPARED = frozenset({"seed", "logprobs"})
"""Of sampling: another seed draws under the same protocol, and log-probabilities change nothing."""

SENT_ALONG = frozenset({"stream", "stream_options", "skip_special_tokens"})
"""Of requests to servers: how answers come back, not how they are drawn."""

LENGTHS = ("max_tokens", "max_completion_tokens")
"""What servers call `max_new_tokens`."""


def build_protocol(
    samples: Sequence[Sample],
    settings: Mapping[str, Any],
    family: Family,
    rules: Rules,
    errors: str | None,
    crowds: str,
) -> dict[str, Any]:
    """Everything that changes a figure of these samples, by name.

    Args:
        samples: what was asked.
        settings: how the predictions were made (predictions.meta.json).
        family: the frame in which the model answered.
        rules: how answers are read and boxes ranked.
        errors: what becomes of predictions that ended in error.
        crowds: what becomes of boxes in crowd regions.
    """
    return {
        **how_asked(samples, settings, family),
        "confidence": rules.confidence,
        "verify": settings.get("verify") if rules.confidence == "verify" else None,
        "nms": rules.nms,
        "ties": "equal confidences rank by sample, then by emission",
        "answer_tag": rules.answer_tag,
        "reading": rules.reading,
        "opens_thought": rules.opened or None,
        "untagged": rules.untagged or None,
        "errors": errors,
        "matching": "precision and recall: one-to-one within the label, highest IoU first, "
        "IoU >= 0.5; crowd regions are no targets",
        "average_precision": "COCO, IoU .50:.05:.95, at most 100 boxes per image and label, "
        "original pixels, sizes by the source's areas where it has them, crowd ignored",
        "crowds": crowds,
    }


def how_resampled(resamples: int, seed: int | str) -> str | None:
    """Where intervals come from, in words; None without any.

    Args:
        resamples: how often the images were drawn.
        seed: of the draws.
    """
    if not resamples:
        return None
    return f"95 %, percentile bootstrap over images, {resamples:,} resamples, seed {seed}"


def how_asked(
    samples: Sequence[Sample], settings: Mapping[str, Any], family: Family
) -> dict[str, Any]:
    """The part of a protocol that says what was asked and how, whatever the answers are.

    Args:
        samples: what was asked.
        settings: how the predictions were made (predictions.meta.json).
        family: the frame in which the model answered.
    """
    limits = family.limits()
    return {
        **{key: _named(samples, key) for key in ("mode", "setting", "split", "subset")},
        "questions": digest(map(_question, samples)),
        "images": digest(map(_image, samples)),
        "model": settings.get("model"),
        "prompt": settings.get("prompt"),
        "prompt_file": settings.get("prompt_file"),
        "control": settings.get("control"),
        "sampling": _sampling(settings),
        "thinking": _thinking(settings),
        "family": family.name,
        "frame": family.frame,
        "min_pixels": limits["min_pixels"],
        "max_pixels": limits["max_pixels"],
    }


def protocol_difference(a: Evaluation, b: Evaluation) -> dict[str, list[Any]]:
    """Protocol keys that matter for comparing and differ: {key: [a's value, b's value]}.

    Questions and images are those of the rows, whatever metrics.json says of them. Pixel limits of
    two families, which have defaults of their own, matter where an image comes to one of them.
    """
    first, second = (_compared(run) for run in (a, b))
    pairs = {key: [first[key], second[key]] for key in COMPARED}
    if {row.image for row in a.rows} == {row.image for row in b.rows}:
        contents = [_contents(run) for run in (a, b)]
        pairs["images"] = pairs["images"] if None in contents else contents
    if a.metrics["protocol"].get("family") != b.metrics["protocol"].get("family"):
        low, high = (list(filter(is_number, pairs[key])) for key in LIMITS)
        if not any(
            _comes_to(row, max(low, default=0), min(high, default=math.inf)) for row in a.rows
        ):
            pairs = {key: pair for key, pair in pairs.items() if key not in LIMITS}
    return {
        key: pair
        for key, pair in pairs.items()
        if pair[0] != pair[1] and not (key in WHERE_STATED and None in pair)
    }


def compared_alike(a: Evaluation, b: Evaluation) -> dict[str, Any]:
    """What of `COMPARED` both runs have: nothing that one of them alone states."""
    first, second = (_compared(run) for run in (a, b))
    return {key: first[key] for key in COMPARED if first[key] == second[key]}


def describe_difference(key: str, pair: Sequence[Any], a: Evaluation, b: Evaluation) -> str:
    """One difference in words; of questions and images how many samples, and the first.

    Args:
        key: of `protocol_difference`.
        pair: what stands there.
        a: the first run.
        b: the second run.
    """
    kinds = {"questions": _question, "images": _image}
    if key not in kinds:
        return f"{key}: {pair[0]!r} and {pair[1]!r}"
    of_b = {row.id: kinds[key](row) for row in b.rows}
    other = [row.id for row in a.rows if kinds[key](row) != of_b.get(row.id)]
    if not other:
        return f"{key}: other files under the same names"
    what = {"questions": "ask something else", "images": "show another image"}[key]
    return f"{key}: {len(other)} samples {what}, the first is {other[0]!r}"


def shared_protocol(evaluations: Iterable[Evaluation]) -> dict[str, Any]:
    """What the protocols of several evaluations have in common, in the order of the first."""
    return common(run.metrics["protocol"] for run in evaluations)


def common(protocols: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What they have in common, in the order of the first."""
    first, *others = protocols
    return {
        key: value
        for key, value in first.items()
        if all(other.get(key) == value for other in others)
    }


def digest(lines: Iterable[Sequence[Any]]) -> str:
    """Twelve hexadecimal digits of SHA-256 over the lines, in whatever order they come."""
    texts = sorted(json.dumps(line) for line in lines)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def _compared(run: Evaluation) -> dict[str, Any]:
    """What `COMPARED` names, of one run."""
    stated = run.metrics["protocol"]
    found = {key: stated.get(key) for key in COMPARED}
    found["questions"] = digest(map(_question, run.rows))
    found["images"] = digest(map(_image, run.rows))
    if isinstance(found["sampling"], Mapping):
        kept = {k: v for k, v in found["sampling"].items() if k not in NOT_COMPARED}
        found["sampling"] = kept
    return found


def _comes_to(row: Row, low: float, high: float) -> bool:
    """Whether pixel limits change the size of the row's image, or by half a patch might."""
    least, most = (
        max(row.width + reach, 1) * max(row.height + reach, 1)
        for reach in (-PATCH // 2, PATCH // 2)
    )
    return least < low or most > high


def _contents(run: Evaluation) -> str | None:
    """What the image files held when the run was evaluated; None where that is not recorded."""
    recorded = run.metrics.get("files")
    images = recorded.get("images") if isinstance(recorded, Mapping) else None
    known = images.get("sha256") if isinstance(images, Mapping) else None
    return known[:12] if isinstance(known, str) else None


def _question(asked: Sample | Row) -> tuple[Any, ...]:
    """What a sample, or the row of one, asks."""
    return asked.id, asked.task, asked.labels, asked.question


def _image(asked: Sample | Row) -> tuple[Any, ...]:
    """Which image it asks about, wherever that lies."""
    return asked.id, PurePosixPath(asked.image).name, asked.width, asked.height


def _named(samples: Sequence[Sample], key: str) -> str | None:
    """What the samples' meta says under a key; several values are joined, none is None."""
    values = {str(sample.meta[key]) for sample in samples if sample.meta.get(key) is not None}
    return ", ".join(sorted(values)) or None


def _sampling(settings: Mapping[str, Any]) -> Any:
    """How completions were drawn: the sampling, changed as `--extra-body` changed the requests.

    None stands where a server was left to its own default.
    """
    stated, body = settings.get("sampling"), settings.get("extra_body")
    if not isinstance(stated, Mapping) or not isinstance(body, Mapping):
        return stated
    said = {key: value for key, value in body.items() if key not in SENT_ALONG}
    lengths = [said.pop(key) for key in LENGTHS if key in said]
    if lengths:
        said["max_new_tokens"] = next((n for n in lengths if n is not None), None)
    return {**stated, **said}


def _thinking(settings: Mapping[str, Any]) -> str | None:
    """How the template's switch stood; None where nobody says."""
    if settings.get("thinking") is not None:
        return "on" if settings["thinking"] else "off"
    return "as the template has it" if settings.get("sampling") else None
