"""Prefilling a prompt once per group generates the tokens that repeating it does."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from boxrl.engines.prefill import generate_groups  # noqa: E402

from .random_models import IMAGE, KINDS, VIDEO, build_batch, build_model  # noqa: E402


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampled", [False, True])
def test_the_tokens_are_those_of_repeated_prompts(kind: str, sampled: bool) -> None:
    batch = build_batch(kind, groups=3, size=4, lengths=(1,))
    inputs = {
        "input_ids": batch.input_ids[:, :-1],
        "attention_mask": batch.attention_mask[:, :-1],
        "pixel_values": batch.images["pixel_values"],
    }
    if kind != "internvl":
        inputs["image_grid_thw"] = batch.images["image_grid_thw"]
        inputs["mm_token_type_ids"] = batch.images["mm_token_type_ids"][:, :-1]
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
    torch.manual_seed(3)
    once = generate_groups(model, inputs, 4, **options)
    assert torch.equal(once, repeated)
    completions = {tuple(row) for row in repeated[:, inputs["input_ids"].shape[1] :].tolist()}
    assert len(completions) > (6 if sampled else 1)
