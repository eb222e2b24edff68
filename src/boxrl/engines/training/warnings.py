"""What to watch in a GRPO run: figures of the answers, and warnings in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from boxrl.families import Family
from boxrl.families.image_paths import build_image_path
from boxrl.metrics.detection import ratio
from boxrl.metrics.frame_signs import Written, find_signs
from boxrl.parsing import AnswerTag
from boxrl.parsing.answers import as_read
from boxrl.rewards import RANGES
from boxrl.rewards.adapters import parse_once
from boxrl.types import Asked, Sample, Target, fold_label

WINDOW = 20
"""Steps that a figure is averaged over, then and now."""

SOON = 5
"""Steps after which other frames, unread answers and weights that stay are told of."""


def describe_answers(
    texts: Sequence[str],
    samples: Sequence[Sample],
    family: Family,
    opened: bool = False,
    answer_tag: AnswerTag = "required",
) -> dict[str, float]:
    """Signs of rewards that are won by other means than seeing.

    Args:
        texts: completions.
        samples: what each was asked.
        family: how they answer.
        opened: whether the prompt had opened the thought.
        answer_tag: as of `parse`.

    Returns:
        `boxes_per_target`: boxes written per box asked for; `invented_labels` and `duplicates`:
        the share of boxes whose label was not asked for, and that repeat a box and label of the
        same answer; `readable`: the share of answers that can be read, `partial`: in part only;
        `other_frame`: the share of boxes that points to another frame, see `Signs.astray`. A
        figure with nothing to divide by is left out.
    """
    path = build_image_path("trl", family)  # as the rewards read them, which read them first
    boxes = invented = duplicates = targets = readable = partial = 0
    written = []
    for text, sample in zip(texts, samples, strict=True):
        asked = Asked.from_sample(sample)
        parsed = parse_once(as_read(text, opened), path, sample.size_wh, asked, answer_tag)
        targets_of = Target.from_sample(sample).detections.boxes
        written.append(Written(parsed.written, sample.size_wh, None, targets_of))
        known = set(map(fold_label, sample.labels))
        boxes += len(parsed.items)
        invented += sum(label not in known for _, label in parsed.items)
        duplicates += len(parsed.items) - len(set(parsed.items))
        targets += sum(not item.iscrowd for item in sample.objects)
        readable += parsed.readable
        partial += parsed.status == "partial"
    signs = find_signs(written, family)
    figures = {
        "boxes_per_target": ratio(boxes, targets),
        "invented_labels": ratio(invented, boxes),
        "duplicates": ratio(duplicates, boxes),
        "readable": ratio(readable, len(texts)),
        "partial": ratio(partial, len(texts)),
        "other_frame": signs.astray if signs else None,
    }
    return {name: value for name, value in figures.items() if value is not None}


def warnings(rows: Sequence[dict[str, Any]], max_length: int) -> dict[str, str]:
    """What looks wrong at the last row of a log, in words; by kind, so that each is told once.

    The last 20 steps are compared with the first 20; shorter logs tell of what teaches nothing.

    Args:
        rows: of metrics.jsonl, in order.
        max_length: tokens at which completions are cut.
    """
    early = _other_frame(rows) | _nothing_read(rows, max_length) | _weights_stay(rows)
    early |= _rewards_stuck(rows)
    if len(rows) < 2 * WINDOW:
        return early

    def then(key: str) -> float | None:
        return _mean(rows[:WINDOW], key)

    def now(key: str) -> float | None:
        return _mean(rows[-WINDOW:], key)

    found = {name: check(then, now, max_length) for name, check in CHECKS.items()}
    if len(rows) >= 5 * WINDOW:
        found["reward_flat"] = _reward_flat(rows)
    return early | {name: text for name, text in found.items() if text}


def _other_frame(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Told after a few steps: every further one is lost."""
    share = _mean(rows[-SOON:], "other_frame") if len(rows) >= SOON else None
    if share is None or share < 0.2:
        return {}
    text = (
        f"{share:.0%} of the boxes look written in another frame than the one they are read in: "
        "are model, family, min_pixels and max_pixels right? boxrl evaluate says more"
    )
    return {"other_frame": text}


def _nothing_read(rows: Sequence[dict[str, Any]], max_length: int) -> dict[str, str]:
    """Told after a few steps too: where no answer is read, no box earns anything."""
    last = rows[-SOON:]
    if len(last) < SOON or _mean(last, "readable") != 0:
        return {}
    if (_mean(last, "clipped") or 0) > 0.5:
        why = f"most are cut at {max_length} tokens: raise train.max_completion_length"
    else:
        why = "completions.jsonl shows what is written instead of boxes in <answer> tags"
    return {"nothing_read": f"no answer of the last {SOON} steps can be read; {why}"}


def _rewards_stuck(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Rewards that every completion so far has earned in full, or not at all."""
    if len(rows) < WINDOW:
        return {}
    told = {}
    for name, ends in RANGES.items():
        means = {row["rewards"].get(name) for row in rows if row.get("rewards")}
        value = means.pop() if len(means) == 1 else None
        if value in ends and ends[1] > 0:  # a penalty that nobody incurs is none the worse
            told[f"stuck/{name}"] = (
                f"reward {name} has been {value:g} for every completion of {len(rows)} steps and "
                "teaches nothing"
            )
    return told


def _weights_stay(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Told after a few steps that had something to learn: loss and rewards do not show it."""
    learned = [row for row in rows if (row.get("grad_norm") or 0.0) > 0.0]
    share = _mean(learned[-SOON:], "weights_changed") if len(learned) >= SOON else None
    if share is None or share > 0.05:
        return {}
    text = (
        f"a step changes {share:.1%} of the trained weights: it is too small for the numbers that "
        "they are kept in; raise train.learning_rate"
    )
    return {"weights_stay": text}


def _mean(rows: Sequence[dict[str, Any]], key: str) -> float | None:
    values = [row[key] for row in rows if row.get(key) is not None]
    return fmean(values) if values else None


Mean = Callable[[str], float | None]


def _variance_gone(then: Mean, now: Mean, _: int) -> str | None:
    share = now("zero_variance")
    if share is None or share < 0.8:
        return None
    return (
        f"{share:.0%} of the groups earn one and the same reward and teach nothing: raise "
        "train.temperature or num_generations, take harder samples, or a reward with more steps"
    )


def _lengths_exploding(then: Mean, now: Mean, max_length: int) -> str | None:
    before, after, cut = then("completion_length"), now("completion_length"), now("clipped")
    if before is None or after is None:
        return None
    if (after > 2 * before and after > 0.5 * max_length) or (cut or 0) > 0.5:
        return (
            f"completions have {after:.0f} tokens (at first {before:.0f}), {cut or 0:.0%} are cut "
            f"at {max_length}: add the cosine or repetition reward, or mask truncated completions"
        )
    return None


def _kl_exploding(then: Mean, now: Mean, _: int) -> str | None:
    before, after = then("kl"), now("kl")
    if before is None or after is None or after < max(1.0, 10 * before):
        return None
    return f"KL to the reference is {after:.2f} (at first {before:.2f}): lower the learning rate"


def _boxes_multiplying(then: Mean, now: Mean, _: int) -> str | None:
    before, after = then("boxes_per_target"), now("boxes_per_target")
    if before is None or after is None or after < max(2.0, 1.5 * before):
        return None
    return (
        f"{after:.1f} boxes are written per box asked for (at first {before:.1f}): the reward does "
        "not charge for false boxes; f1, od_length or weighted_sum do"
    )


def _labels_invented(then: Mean, now: Mean, _: int) -> str | None:
    share = now("invented_labels")
    if share is None or share < 0.2:
        return None
    return f"{share:.0%} of the boxes carry a label that was not asked for: add absent_labels"


def _answers_breaking(then: Mean, now: Mean, _: int) -> str | None:
    """The form reward looks at tags, and boxes earn where their text breaks behind them."""
    before, after, cut = then("partial"), now("partial"), now("clipped")
    if before is None or after is None or after < max(0.2, 2 * before) or (cut or 0) > after / 2:
        return None
    return (
        f"{after:.0%} of the answers can be read in part only (at first {before:.0%}), for which "
        "format charges nothing: lower train.learning_rate, and see in completions.jsonl where "
        "they break; well_formed beside format stops the breaks alone"
    )


def _reward_flat(rows: Sequence[dict[str, Any]]) -> str | None:
    """No quarter of the run earned more than the one before, beyond one standard error."""
    values = [row["reward"] for row in rows if row.get("reward") is not None]
    quarter = len(values) // 4
    if not quarter:
        return None
    means = [fmean(values[k * quarter : (k + 1) * quarter]) for k in range(4)]
    spread = fmean(abs(a - b) for a, b in pairwise(values)) / quarter**0.5
    if max(means) - means[0] > spread:
        return None
    return (
        f"the reward has not risen in {len(values)} steps ({means[0]:.3f} at first, "
        f"{means[-1]:.3f} now): see what the completions earn, and the learning rate"
    )


CHECKS: dict[str, Callable[[Mean, Mean, int], str | None]] = {
    "variance_gone": _variance_gone,
    "lengths_exploding": _lengths_exploding,
    "kl_exploding": _kl_exploding,
    "boxes_multiplying": _boxes_multiplying,
    "labels_invented": _labels_invented,
    "answers_breaking": _answers_breaking,
}
"""Kind of warning -> its check of the figures then and now."""
