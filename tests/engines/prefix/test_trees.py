"""Prompts of one image share it, and log-probabilities and gradients stay TRL's."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")


from boxrl.engines.prefix import attention as prefix_attention  # noqa: E402
from boxrl.engines.prefix import kernels, shared_prefix, trees  # noqa: E402
from boxrl.engines.prefix.shared_prefix import enable, pack  # noqa: E402
from boxrl.engines.prefix.trees import Tree, find_trees  # noqa: E402
from boxrl.engines.training.batches import split_rows  # noqa: E402
from tests.engines.prefix.test_shared_prefix import (  # noqa: E402
    assert_equal_to_trl,
    shared_log_probs,
    trl_log_probs,
)
from tests.support.architectures import ARCHITECTURES, IMAGE  # noqa: E402
from tests.support.random_models import KINDS, Batch, adapt, build_batch, build_model  # noqa: E402
from tests.support.varlen import reference_varlen  # noqa: E402

UNEVEN = (9, 4, 1, 7, 9, 2)
LOOK_BACK = {kind for kind in ARCHITECTURES if kind.startswith(("qwen3.5", "lfm"))}
REFUSED = dict.fromkeys(LOOK_BACK, trees.LOOKS_BACK) | {"paligemma": trees.BOTH_WAYS}


def build(kind: str, lengths: tuple[int, ...] = UNEVEN) -> Batch:
    """Three prompts of one image and two of another, two completions each."""
    return build_batch(kind, groups=5, size=2, lengths=lengths, questions=3)


def found_in(kind: str, batch: Batch) -> list[int]:
    """Prompts of each tree."""
    rows = split_rows(batch.inputs, batch.n_completion)
    groups = [[row, row + 1] for row in range(0, len(batch.input_ids), 2)]
    return [len(tree.groups) for tree in find_trees(build_model(kind), rows, groups)]


@pytest.mark.parametrize("kind", sorted(set(ARCHITECTURES) - set(REFUSED)))
def test_log_probs_and_gradients_equal_trl(kind: str) -> None:
    assert found_in(kind, build(kind)) == [3, 2]
    assert_equal_to_trl(build_model(kind), build(kind), 2)


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_where_they_cannot_be_shared_each_has_its_image(kind: str) -> None:
    batch, model = build(kind), build_model(kind)
    rows = split_rows(batch.inputs, batch.n_completion)
    assert trees.find_shared(model, rows, [0, 2, 4]) == REFUSED[kind]
    assert found_in(kind, batch) == [1] * 5
    expected, _ = trl_log_probs(model, batch)
    enable(model)
    got, _ = shared_log_probs(model, batch, 2)
    assert (got - expected)[batch.completion_mask].abs().max() < 1e-5


@pytest.mark.parametrize("kind", [*KINDS, "gemma3, short window"])
def test_equal_with_lora_and_gradient_checkpointing(kind: str) -> None:
    model = adapt(build_model(kind))
    assert_equal_to_trl(model, build(kind), 2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_varlen_form_equals_trl(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_attention, "takes_varlen", lambda *_: True)
    monkeypatch.setattr(kernels, "varlen_attn", reference_varlen)
    assert_equal_to_trl(build_model(kind), build(kind), 2)


@pytest.mark.parametrize(
    "lengths", [(0, 0, 3, 5, 2, 0, 0, 0, 4, 1), (3, 1, 0, 0, 0, 0, 2, 2, 0, 0)]
)
def test_equal_where_completions_are_fully_masked(lengths: tuple[int, ...]) -> None:
    assert_equal_to_trl(build_model("qwen2.5-vl"), build("qwen2.5-vl", lengths), 2)


def test_the_image_stands_in_the_row_once() -> None:
    batch, model = build("qwen2.5-vl"), build_model("qwen2.5-vl")
    rows = split_rows(batch.inputs, batch.n_completion)
    inputs, _ = pack(model, rows, [[row, row + 1] for row in range(0, 10, 2)])
    images = [rows.images[row] for row in (0, 6)]
    assert all(image is not None for image in images)
    assert len(inputs["image_grid_thw"]) == 2
    tokens = sum(int(rows.prompt_ids[row].eq(IMAGE).sum()) for row in (0, 6))
    assert int(inputs["input_ids"].eq(IMAGE).sum()) == tokens


def test_prompts_of_equal_length_that_are_one_prompt_twice_are_a_tree() -> None:
    batch = build_batch("qwen2.5-vl", groups=1, size=4, lengths=UNEVEN)
    assert found_in("qwen2.5-vl", batch) == [2]
    assert_equal_to_trl(build_model("qwen2.5-vl"), batch, 2)


def test_text_before_the_image_that_differs_makes_no_tree() -> None:
    batch = build("qwen2.5-vl")
    first = batch.attention_mask[2].nonzero()[0]
    batch.input_ids[2:4, first] += 1  # of the second prompt
    assert found_in("qwen2.5-vl", batch) == [1, 1, 1, 2]
    assert_equal_to_trl(build_model("qwen2.5-vl"), batch, 2)


def test_equal_words_about_other_pixels_make_no_tree() -> None:
    batch = build("qwen2.5-vl")
    pixels, grid = batch.images["pixel_values"], batch.images["image_grid_thw"]
    per_row = grid.prod(-1).tolist()
    pixels[sum(per_row[:2])] += 1e-3  # of the second prompt's first row
    assert found_in("qwen2.5-vl", batch)[:2] == [1, 1]


# --- controls -----------------------------------------------------------------------------------


def difference(batch: Batch) -> float:
    model = build_model("qwen2.5-vl")
    expected, _ = trl_log_probs(model, batch)
    enable(model)
    got, _ = shared_log_probs(model, batch, 2)
    return float((got - expected)[batch.completion_mask].abs().max().detach())


def test_places_that_do_not_count_on_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def flat(model: Any, prompt: Any, types: Any, grid: Any) -> Any:
        return torch.arange(len(prompt))[None].expand(3, -1)

    monkeypatch.setattr(shared_prefix, "rope_positions", flat)
    assert difference(build("qwen2.5-vl")) > 0.1


@pytest.mark.parametrize("error", [-1, 1])
def test_a_shared_part_that_is_too_long_is_seen(
    error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token less is as right, only dearer; one more is another prompt's."""
    found = find_trees

    def wrong(*args: Any) -> list[Tree]:
        return [Tree(tree.groups, (tree.shared or 0) + error) for tree in found(*args)]

    monkeypatch.setattr(shared_prefix, "find_trees", wrong)
    seen = difference(build("qwen2.5-vl"))
    assert seen > 1e-2 if error > 0 else seen < 1e-5


def test_a_context_without_the_rest_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    add = shared_prefix._add_rests

    def forgetful(row: Any, prompts: Any, shared: int) -> None:
        add(row, prompts, shared)
        for prompt in prompts:
            del prompt.context[1:]

    monkeypatch.setattr(shared_prefix, "_add_rests", forgetful)
    assert difference(build("qwen2.5-vl")) > 1e-2
