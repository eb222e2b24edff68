"""Prefilling a prompt once per group generates the tokens that repeating it does."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from transformers import DynamicCache  # noqa: E402

from boxrl.engines.prefix import kv_cache, prefill  # noqa: E402
from boxrl.engines.prefix.images import BY_TOKEN, tiles_per_row  # noqa: E402
from boxrl.engines.prefix.prefill import generate_groups  # noqa: E402
from boxrl.engines.prefix.shared_prefix import enable  # noqa: E402
from tests.support.random_models import IMAGE, KINDS, VIDEO, build_batch, build_model  # noqa: E402

OTHERS = ("qwen3.5", "lfm2-vl", "gemma3, short window", "gemma4", "paligemma")


def build_inputs(kind: str, size: int, questions: int = 1) -> dict[str, Any]:
    """What `generate` takes for three prompts, `size` times each."""
    batch = build_batch(kind, groups=3, size=size, lengths=(1,), questions=questions)
    return {
        name: x[:, :-1] if name in BY_TOKEN else x
        for name, x in batch.inputs.items()
        if torch.is_tensor(x)
    }


@pytest.mark.parametrize(
    ("tokens", "shapes", "expected"),
    [
        ([16, 32, 48], None, [1, 2, 3]),
        # A small picture, four tiles with a smaller whole behind them, one and its whole.
        ([3, 19, 6], [[2, 6], *[[4, 4]] * 4, [2, 6], [2, 6], [2, 6]], [1, 5, 2]),
    ],
)
def test_rows_have_the_tiles_that_their_tokens_stand_for(
    tokens: list[int], shapes: list[list[int]] | None, expected: list[int]
) -> None:
    inputs = {
        "input_ids": torch.tensor([[IMAGE] * n + [0] * (60 - n) for n in tokens]),
        "pixel_values": torch.zeros(sum(expected), 3, 2, 2),
    }
    if shapes is not None:
        inputs["spatial_shapes"] = torch.tensor(shapes)
    assert tiles_per_row(inputs, IMAGE) == expected


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize(
    ("shared", "questions", "apart"),
    [(False, 1, True), (True, 1, True), (True, 1, False), (True, 2, True)],
)
def test_the_tokens_are_those_of_repeated_prompts(
    kind: str,
    sampled: bool,
    shared: bool,
    questions: int,
    apart: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kv_cache, "ROOM", 5)  # outgrown twice
    if not apart:  # as in half precision
        monkeypatch.setattr(kv_cache, "APART", ())
    inputs = build_inputs(kind, 4, questions)
    options = {
        "max_new_tokens": 12,
        "do_sample": sampled,
        "top_k": 0 if sampled else None,
        "eos_token_id": None,
        "pad_token_id": 0,
        "suppress_tokens": [IMAGE, VIDEO],
    }
    model = build_model(kind).eval()
    torch.manual_seed(3)
    repeated = model.generate(**inputs, **options)
    if shared:
        enable(model)
    torch.manual_seed(3)
    once = generate_groups(model, inputs, 4, **options)
    assert torch.equal(once, repeated)
    completions = {tuple(row) for row in repeated[:, inputs["input_ids"].shape[1] :].tolist()}
    assert len(completions) > (6 if sampled else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_of_one_image_run_it_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = build_model(kind).eval(), build_inputs(kind, 1, 3)
    expected = prefill._prefill(model, inputs)
    deltas = getattr(model.model, "rope_deltas", None)
    assert prefill._prefill_by_image(model, inputs) is None  # not enabled
    enable(model)
    shown = []
    tower = getattr(model.model, "visual", None) or model.model.vision_tower
    tower.register_forward_pre_hook(lambda _, args, __: shown.append(1), with_kwargs=True)
    got = prefill._prefill_by_image(model, inputs)
    assert got is not None and len(shown) == 1
    real = inputs["attention_mask"][:, :-1].bool()
    for own, other in zip(got.layers, expected.layers, strict=True):
        for x, y in ((own.keys, other.keys), (own.values, other.values)):
            assert (x - y).transpose(1, 2)[real].abs().max() < 1e-5
    if deltas is not None:
        assert torch.equal(model.model.rope_deltas, deltas)


def test_a_cache_with_room_holds_what_a_copying_one_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_cache, "ROOM", 3)
    generator = torch.Generator().manual_seed(0)

    def states(batch: int, n: int) -> torch.Tensor:
        return torch.randn(batch, 2, n, 4, generator=generator)

    first = states(2, 5), states(2, 5)
    copying, roomy = DynamicCache(), DynamicCache()
    for cache in (copying, roomy):
        cache.update(*first, 0)
    copying.batch_repeat_interleave(3)
    kv_cache.repeat_with_room(roomy, 3)
    for n in (1, 1, 2, 1, 4):  # past the room twice
        new = states(6, n), states(6, n)
        for got, expected in zip(roomy.update(*new, 0), copying.update(*new, 0), strict=True):
            assert torch.equal(got, expected)
    swapped = torch.tensor([1, 0, 2, 3, 5, 4])
    new = states(6, 1), states(6, 1)
    for cache in (copying, roomy):
        cache.reorder_cache(swapped)
        cache.crop(-2)
    for got, expected in zip(roomy.update(*new, 0), copying.update(*new, 0), strict=True):
        assert torch.equal(got, expected)
    assert roomy.get_seq_length() == copying.get_seq_length() == 13
