"""Completions that begin alike share it, and log-probabilities and gradients stay TRL's."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

from boxrl.engines.prefix import attention as prefix_attention  # noqa: E402
from boxrl.engines.prefix import kernels, shared_prefix  # noqa: E402
from boxrl.engines.prefix.alike import WORTH, Part, keep_apart, split_alike  # noqa: E402
from boxrl.engines.prefix.layout import Siblings  # noqa: E402
from boxrl.engines.prefix.shared_prefix import enable, pack  # noqa: E402
from boxrl.engines.training.batches import split_rows  # noqa: E402
from tests.engines.prefix.test_shared_prefix import (  # noqa: E402
    assert_equal_to_trl,
    shared_log_probs,
    trl_log_probs,
)
from tests.engines.prefix.test_trees import LOOK_BACK  # noqa: E402
from tests.support.architectures import ARCHITECTURES  # noqa: E402
from tests.support.random_models import KINDS, Batch, adapt, build_batch, build_model  # noqa: E402
from tests.support.varlen import reference_varlen  # noqa: E402

SIZE = 6


def build(kind: str, questions: int = 1) -> Batch:
    """Two prompts with completions of which the first two begin alike, as do all; two are equal.

    One of those that begin alike ends where the other goes on, and one is masked altogether.
    """
    unit = 1 if kind in LOOK_BACK else 3  # states add up roundings, TRL's as ours
    lengths = (10 * unit, 8 * unit, 6 * unit, 6 * unit, 4 * unit, 0)
    batch = build_batch(kind, groups=2, size=SIZE, lengths=lengths, questions=questions)
    completions = batch.input_ids[:, -batch.n_completion :]
    for first in (0, SIZE):
        completions[first : first + 5, : 2 * unit] = completions[first, : 2 * unit]
        completions[first + 1, : 8 * unit] = completions[first, : 8 * unit]
        completions[first + 3] = completions[first + 2]
    return batch


def tokens_in_row(kind: str, batch: Batch, alike: bool, attention: str = "auto") -> int:
    """Those of completions."""
    rows = split_rows(batch.inputs, batch.n_completion)
    groups = [[*range(first, first + SIZE)] for first in range(0, len(batch.input_ids), SIZE)]
    model = build_model(kind)
    enable(model, attention)
    _, layout = pack(model, rows, groups, alike=alike)
    return len(layout.completions)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_log_probs_and_gradients_equal_trl(kind: str) -> None:
    once, apart = 6 + (18 + 6) + 12 + 6, 30 + 24 + 18 + 18 + 12
    if kind in LOOK_BACK:
        once, apart = 10 + 8 + 6 + 4, 10 + 8 + 6 + 6 + 4
    assert tokens_in_row(kind, build(kind), alike=True) == 2 * once
    assert tokens_in_row(kind, build(kind), alike=False) == 2 * apart
    assert_equal_to_trl(build_model(kind), build(kind), SIZE)


@pytest.mark.parametrize(
    ("kind", "attention", "why_not", "tokens"),
    [
        ("qwen2.5-vl", "auto", None, 6 + (18 + 6) + 12 + 6),
        ("qwen2.5-vl", "auto", "needs a newer torch", 30 + 24 + 18 + 12),
        ("qwen2.5-vl", "sdpa", None, 30 + 24 + 18 + 12),
        ("gemma3, short window", "auto", None, 30 + 24 + 18 + 12),
    ],
)
def test_a_gpu_that_attends_block_by_block_gets_no_more_blocks(
    kind: str, attention: str, why_not: str | None, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their kernels would take longer than the tokens; equal completions are one all the same."""
    monkeypatch.setattr(shared_prefix, "on_gpu", lambda _: True)
    monkeypatch.setattr(shared_prefix, "no_varlen", lambda _: why_not)
    assert tokens_in_row(kind, build(kind), alike=True, attention=attention) == 2 * tokens


@pytest.mark.parametrize("kind", [*KINDS, "gemma3, short window"])
def test_equal_for_prompts_of_one_image(kind: str) -> None:
    assert_equal_to_trl(build_model(kind), build(kind, questions=2), SIZE)


@pytest.mark.parametrize("kind", [*KINDS, "qwen3.5", "gemma3, short window"])
def test_equal_with_lora_and_gradient_checkpointing(kind: str) -> None:
    assert_equal_to_trl(adapt(build_model(kind)), build(kind), SIZE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_varlen_form_equals_trl(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_attention, "takes_varlen", lambda *_: True)
    monkeypatch.setattr(kernels, "varlen_attn", reference_varlen)
    assert_equal_to_trl(build_model(kind), build(kind), SIZE)


@pytest.mark.parametrize("kind", KINDS)
# On a CPU it is not compiled, and says so.
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_the_flex_form_equals_trl(kind: str) -> None:
    batch, model = build(kind), build_model(kind)
    expected, _ = trl_log_probs(model, batch)
    enable(model, "flex")
    with torch.no_grad():  # there is no backward on a CPU
        got, _ = shared_log_probs(model, batch, SIZE)
    assert (got - expected)[batch.completion_mask].abs().max() < 1e-5


@pytest.mark.parametrize("wrong", ["other tokens are alike", "a beginning is not seen"])
def test_a_wrong_beginning_is_seen_by_the_comparison(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the tests above."""
    batch, model = build("qwen2.5-vl"), build_model("qwen2.5-vl")
    expected, _ = trl_log_probs(model, batch)
    enable(model)

    def blind(completions: dict[int, list[int]], worth: float) -> list[Part]:
        return split_alike({row: [0] * len(tokens) for row, tokens in completions.items()}, worth)

    name, mistaken = {
        "other tokens are alike": ("split_alike", blind),
        "a beginning is not seen": (
            "Siblings", lambda spans, context, *rows: Siblings(spans, context[:1], *rows)
        ),
    }[wrong]  # fmt: skip
    monkeypatch.setattr(shared_prefix, name, mistaken)
    got, _ = shared_log_probs(model, batch, SIZE)
    assert (got - expected)[batch.completion_mask].abs().max() > 1e-2


def all_parts(parts: list[Part]) -> Iterator[Part]:
    todo = [*parts]
    while todo:
        yield (part := todo.pop(0))
        todo = part.onward + todo


def test_what_completions_have_in_common_is_one_part() -> None:
    answers = {0: "[12, 34]", 1: "[12, 56]", 2: "None", 3: "None", 4: "[12, 34]"}
    tokens = {row: list(map(ord, text)) for row, text in answers.items()}
    none, onward = Part([2, 3], 0, 4, []), [Part([0, 4], 5, 8, []), Part([1], 5, 8, [])]
    assert split_alike(tokens, worth=5) == [none, Part([0, 1, 4], 0, 5, onward)]
    # Equal ones are one in any case, so no more than five tokens are saved.
    assert split_alike(tokens, worth=6) == [none, Part([0, 4], 0, 8, []), Part([1], 0, 8, [])]
    assert split_alike({}) == []
    assert [part.rows for part in keep_apart(tokens)] == [[0], [1], [2], [3], [4]]


def test_a_completion_may_end_where_another_goes_on() -> None:
    tokens = {7: [1] * 20, 8: [1] * 24}
    assert split_alike(tokens) == [Part([7, 8], 0, 20, [Part([8], 20, 24, [])])]


def test_beginnings_may_stand_in_one_another_as_often_as_there_are_completions() -> None:
    """As of a policy that repeats itself: more often than Python may recurse."""
    found = split_alike({row: [1] * (row + 1) for row in range(1100)})
    assert sum(len(part.onward) > 0 for part in all_parts(found)) > 1000


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("worth", [1, 3, WORTH, float("inf")])
def test_parts_hold_every_token_of_every_completion_in_order(worth: float, seed: int) -> None:
    draw = random.Random(seed)
    lengths = [draw.randint(1, 12) for _ in range(draw.randint(1, 9))]
    completions = {row: draw.choices([0, 1], [4, 1], k=n) for row, n in enumerate(lengths)}
    parts = list(all_parts(split_alike(completions, worth)))
    held: dict[int, list[int]] = {row: [] for row in completions}
    for part in parts:
        assert part.start < part.end
        alike = {tuple(completions[row][: part.end]) for row in part.rows}
        assert len(alike) == 1
        for row in part.rows:
            assert part.start == len(held[row])
            held[row] = completions[row][: part.end]
        different = {tuple(completions[row]) for row in part.rows}
        assert not part.onward or (len(different) - 1) * (part.end - part.start) >= worth
    assert held == completions
    distinct = set(map(tuple, completions.values()))
    assert sum(part.end - part.start for part in parts) <= sum(map(len, distinct))
