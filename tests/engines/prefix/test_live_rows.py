"""Rows leave a batch as they end, and the tokens stay those of transformers."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from transformers import (  # noqa: E402
    BartConfig,
    BartForConditionalGeneration,
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    MllamaConfig,
    MllamaForConditionalGeneration,
)

from boxrl.engines.prefix import kv_cache, live_rows  # noqa: E402
from boxrl.engines.prefix.kinds import unshared  # noqa: E402
from boxrl.engines.prefix.prefill import generate_groups  # noqa: E402
from boxrl.engines.prefix.shared_prefix import enable  # noqa: E402
from tests.engines.prefix.test_prefill import OTHERS, build_inputs  # noqa: E402
from tests.support.random_models import IMAGE, KINDS, VIDEO, build_model  # noqa: E402

ENDS = list(range(20, 36))


ROW_BY_ROW, REPEATED, APART, ONE_COPY = "row by row", "repeated", "apart", "one copy"
CASES = [(kind, way) for kind in (*KINDS, *OTHERS) for way in (ROW_BY_ROW, APART)]
CASES += [(kind, way) for kind in ("qwen2.5-vl", "qwen3.5") for way in (REPEATED, ONE_COPY)]


@pytest.mark.parametrize(("kind", "way"), CASES)
def test_the_tokens_are_those_of_transformers(
    kind: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_cache, "ROOM", 5)
    monkeypatch.setattr(live_rows, "EVERY", 2)
    if way == ONE_COPY:  # as in half precision
        monkeypatch.setattr(kv_cache, "APART", ())
    inputs, model = build_inputs(kind, 4), build_model(kind).eval()
    expected = sampled(model, model.generate, inputs)
    if way in (APART, ONE_COPY):
        enable(model)
    n_rows = watch_rows(model)
    if way == ROW_BY_ROW:
        got = sampled(model, partial(live_rows.generate, model), inputs)
    else:
        got = sampled(model, lambda **options: generate_groups(model, inputs, 4, **options), {})
    assert torch.equal(got, expected)
    lengths = (expected[:, inputs["input_ids"].shape[1] :] != 0).sum(1)
    assert len(lengths.unique()) > 3
    assert n_rows[-1] < len(lengths)


@pytest.mark.parametrize(
    "options",
    [
        {"eos_token_id": None},
        {"num_beams": 2, "eos_token_id": ENDS},
        {"cache_implementation": "static", "eos_token_id": ENDS},
    ],
)
def test_every_row_stays_where_none_can_leave(options: dict[str, Any]) -> None:
    inputs, model = build_inputs("qwen2.5-vl", 1), build_model("qwen2.5-vl").eval()
    options = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": 0, **options}
    expected = model.generate(**inputs, **options)
    assert torch.equal(live_rows.generate(model, **inputs, **options), expected)


@pytest.mark.parametrize("size", [1, 3])
def test_an_end_inside_a_prompt_that_is_read_in_parts_ends_nothing(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_rows, "EVERY", 2)
    inputs, model = build_inputs("qwen2.5-vl", 2), build_model("qwen2.5-vl").eval()
    text = inputs["input_ids"] >= 10  # none of the markers of an image
    inputs["input_ids"][text] = ENDS[0]
    options = {**inputs, "prefill_chunk_size": size}
    expected = sampled(model, model.generate, options)
    assert torch.equal(sampled(model, partial(live_rows.generate, model), options), expected)


def test_ends_that_only_the_model_names_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_rows, "EVERY", 2)
    inputs, model = build_inputs("qwen2.5-vl", 4), build_model("qwen2.5-vl").eval()
    model.generation_config.eos_token_id = ENDS
    config = GenerationConfig(
        max_new_tokens=24, do_sample=True, top_k=0, pad_token_id=0, suppress_tokens=[IMAGE, VIDEO]
    )
    found = []
    for generate in (model.generate, partial(live_rows.generate, model)):
        torch.manual_seed(5)
        n_rows = watch_rows(model)
        found.append(generate(**inputs, generation_config=config))
    assert torch.equal(*found)
    assert n_rows[-1] < len(inputs["input_ids"])


class AskAgain(LogitsProcessor):  # type: ignore[misc]
    """Calls the model itself, as guidance does."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        text = torch.where(input_ids == IMAGE, 9, input_ids)
        return scores - 0.3 * self.model(text, use_cache=False).logits[:, -1].float()


def test_a_processor_that_asks_the_model_sees_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_rows, "EVERY", 2)
    inputs, model = build_inputs("internvl", 4), build_model("internvl").eval()
    options = {**inputs, "logits_processor": LogitsProcessorList([AskAgain(model)])}
    expected = sampled(model, model.generate, options)
    assert torch.equal(sampled(model, partial(live_rows.generate, model), options), expected)


def test_rows_stay_where_an_input_of_theirs_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_rows, "EVERY", 2)
    model, inputs = build_mllama()
    assert unshared(model) == "its tokens look at images in layers of their own"
    expected = sampled(model, model.generate, inputs)
    n_rows = watch_rows(model)
    assert torch.equal(sampled(model, partial(live_rows.generate, model), inputs), expected)
    assert n_rows[-1] == len(inputs["input_ids"])


def test_an_encoder_has_no_rows_that_leave() -> None:
    torch.manual_seed(0)
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 32, "vocab_size": 256}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    wide = {"encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 128}
    model = BartForConditionalGeneration(BartConfig(**sizes, **heads, **wide)).eval()
    ids = torch.randint(40, 250, (6, 10))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    expected = sampled(model, model.generate, inputs)
    assert torch.equal(sampled(model, partial(live_rows.generate, model), inputs), expected)


def test_rows_leave_a_roomy_cache_with_their_room_and_without_a_second_copy() -> None:
    cache = DynamicCache()
    cache.update(torch.randn(4, 2, 3, 8), torch.randn(4, 2, 3, 8), 0)
    kv_cache.give_room(cache)
    cache.update(torch.randn(4, 2, 1, 8), torch.randn(4, 2, 1, 8), 0)
    keys = cache.layers[0].keys.clone()
    kv_cache.select_rows(cache, torch.tensor([[3], [1]]))
    assert torch.equal(cache.layers[0].keys, keys[[3, 1]])
    storage = cache.layers[0].keys.untyped_storage()
    assert storage.nbytes() == 4 * 2 * 2 * (4 + kv_cache.ROOM) * 8
    cache.update(torch.randn(2, 2, 1, 8), torch.randn(2, 2, 1, 8), 0)
    assert cache.layers[0].keys.untyped_storage().data_ptr() == storage.data_ptr()


def build_mllama() -> tuple[Any, dict[str, Any]]:
    """A small Mllama and six prompts that see one tile of four of their image."""
    torch.manual_seed(0)
    text = {
        "vocab_size": 256, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 96, "cross_attention_layers": [1],
        "pad_token_id": 0, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_global_layers": 1, "attention_heads": 2,
        "intermediate_size": 32, "image_size": 56, "patch_size": 14, "max_num_tiles": 4,
        "vision_output_dim": 32, "intermediate_layers_indices": [1],
        "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1], [2, 2]],
    }  # fmt: skip
    config = MllamaConfig(text_config=text, vision_config=vision, image_token_index=5)
    model = MllamaForConditionalGeneration(config).eval()
    ids = torch.randint(40, 250, (6, 8))
    ids[:, 1] = 5
    tiles = torch.tensor([1, 0, 0, 0]).expand(6, 8, 1, 4).clone()
    tiles[:, 0] = 0
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(6, 1, 4, 3, 56, 56),
        "aspect_ratio_ids": torch.ones(6, 1, dtype=torch.long),
        "aspect_ratio_mask": torch.tensor([[[1, 0, 0, 0]]] * 6),
        "cross_attention_mask": tiles,
    }
    return model, inputs


def watch_rows(model: Any) -> list[int]:
    """Rows of every forward pass from now on."""
    n_rows: list[int] = []
    model.get_input_embeddings().register_forward_hook(
        lambda _, __, output: n_rows.append(len(output))
    )
    return n_rows


def sampled(model: Any, generate: Any, inputs: dict[str, Any]) -> Any:
    """Up to 24 tokens a row, of which one in six ends it."""
    torch.manual_seed(5)
    return generate(
        **inputs,
        max_new_tokens=24,
        do_sample=True,
        top_k=0,
        eos_token_id=ENDS,
        pad_token_id=0,
        suppress_tokens=[IMAGE, VIDEO],
    )
