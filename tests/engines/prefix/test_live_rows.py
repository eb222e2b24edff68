"""Rows leave a batch as they end, and the tokens stay those of transformers."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from boxrl.engines.prefix import kv_cache, live_rows  # noqa: E402
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
    n_rows: list[int] = []
    embeddings = model.get_input_embeddings()
    embeddings.register_forward_hook(lambda _, __, output: n_rows.append(len(output)))
    if way == ROW_BY_ROW:
        got = sampled(model, partial(live_rows.generate, model), inputs)
    else:
        got = sampled(model, lambda **options: generate_groups(model, inputs, 4, **options), {})
    assert torch.equal(got, expected)
    lengths = (expected[:, inputs["input_ids"].shape[1] :] != 0).sum(1)
    assert len(lengths.unique()) > 3
    assert n_rows[-1] < len(lengths)


@pytest.mark.parametrize(
    "options", [{"eos_token_id": None}, {"num_beams": 2, "eos_token_id": ENDS}]
)
def test_every_row_stays_where_none_ends_alone(options: dict[str, Any]) -> None:
    inputs, model = build_inputs("qwen2.5-vl", 1), build_model("qwen2.5-vl").eval()
    options = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": 0, **options}
    expected = model.generate(**inputs, **options)
    assert torch.equal(live_rows.generate(model, **inputs, **options), expected)


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
