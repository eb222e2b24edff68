"""Prefilling a prompt once per group generates the tokens that repeating it does."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from transformers import DynamicCache  # noqa: E402

from boxrl.engines.prefix import kv_cache  # noqa: E402
from boxrl.engines.prefix.images import BY_TOKEN  # noqa: E402
from boxrl.engines.prefix.prefill import generate_groups  # noqa: E402
from boxrl.engines.prefix.shared_prefix import enable  # noqa: E402
from tests.support.random_models import IMAGE, KINDS, VIDEO, build_batch, build_model  # noqa: E402

OTHERS = ("qwen3.5", "lfm2-vl", "gemma3, short window", "gemma4", "paligemma")


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_the_tokens_are_those_of_repeated_prompts(
    kind: str, sampled: bool, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_cache, "ROOM", 5)  # outgrown twice
    batch = build_batch(kind, groups=3, size=4, lengths=(1,))
    inputs = {
        name: x[:, :-1] if name in BY_TOKEN else x
        for name, x in {
            "input_ids": batch.input_ids, "attention_mask": batch.attention_mask, **batch.images
        }.items()
        if torch.is_tensor(x)
    }  # fmt: skip
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
