"""The shared-prefix forward is TRL's own, token by token and gradient by gradient."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from contextlib import nullcontext  # noqa: E402
from types import SimpleNamespace  # noqa: E402

from transformers.modeling_layers import GradientCheckpointingLayer  # noqa: E402
from trl import GRPOTrainer  # noqa: E402

from boxrl.engines.prefix import attention as prefix_attention  # noqa: E402
from boxrl.engines.prefix import kernels, shared_prefix  # noqa: E402
from boxrl.engines.prefix.kinds import answer_type, sight  # noqa: E402
from boxrl.engines.prefix.recurrent import recurrent_layers  # noqa: E402
from boxrl.engines.prefix.shared_prefix import enable, log_probs  # noqa: E402
from boxrl.engines.training.batches import (  # noqa: E402
    chunk_groups,
    mark_answers,
    shuffle_groups,
    split_rows,
)
from boxrl.errors import UsageError  # noqa: E402
from tests.support.architectures import ARCHITECTURES  # noqa: E402
from tests.support.random_models import KINDS, Batch, adapt, build_batch, build_model  # noqa: E402
from tests.support.varlen import reference_varlen  # noqa: E402

UNEVEN = (9, 4, 1, 7, 9, 2)
TRAINER = SimpleNamespace(accelerator=SimpleNamespace(autocast=nullcontext, is_main_process=True))


def trl_log_probs(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    logps, entropies, _ = GRPOTrainer._get_per_token_logps_and_entropies(
        TRAINER,
        model,
        batch.input_ids,
        batch.attention_mask,
        batch.n_completion,
        compute_entropy=True,
        **batch.images,
    )
    return logps, entropies


def shared_log_probs(model: Any, batch: Batch, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    rows = split_rows(batch.inputs, batch.n_completion)
    groups = [list(range(k, k + size)) for k in range(0, len(batch.input_ids), size)]
    return log_probs(model, rows, groups)


def gradients(
    model: Any, logps: torch.Tensor, entropies: torch.Tensor, batch: Batch
) -> dict[str, torch.Tensor]:
    """Of a loss that weights every completion token differently, as GRPO does."""
    weights = torch.randn(logps.shape, generator=torch.Generator().manual_seed(1)).to(logps.device)
    model.zero_grad()
    loss = ((logps.exp() * weights + 0.1 * entropies) * batch.completion_mask).sum()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_equal_to_trl(model: Any, batch: Batch, size: int) -> None:
    expected = trl_log_probs(model, batch)
    expected_gradients = gradients(model, *expected, batch)
    enable(model)
    got = shared_log_probs(model, batch, size)
    got_gradients = gradients(model, *got, batch)
    real = batch.completion_mask
    assert (got[0] - expected[0])[real].abs().max() < 1e-5
    assert (got[1] - expected[1])[real].abs().max() < 1e-4
    assert not got[0][~real].any()
    assert got_gradients.keys() == expected_gradients.keys()
    # Biases of keys have no gradient but rounding.
    least = 1e-3 * max(gradient.abs().max() for gradient in expected_gradients.values())
    for name, gradient in expected_gradients.items():
        scale = gradient.abs().max().clamp(min=least)
        assert ((got_gradients[name] - gradient).abs().max() / scale) < 1e-4, name


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_log_probs_and_gradients_equal_trl(kind: str) -> None:
    batch = build_batch(kind, groups=3, size=4, lengths=UNEVEN)
    assert_equal_to_trl(build_model(kind), batch, 4)


@pytest.mark.parametrize("kind", [*KINDS, "qwen3.5", "gemma3, short window"])
@pytest.mark.parametrize("reentrant", [False, True])
# Reentrant checkpointing cuts LoRA gradients of the vision tower, in TRL's path as in ours.
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_equal_with_lora_and_gradient_checkpointing(kind: str, reentrant: bool) -> None:
    model = adapt(build_model(kind), reentrant)
    assert_equal_to_trl(model, build_batch(kind, groups=2, size=3, lengths=UNEVEN), 3)


def test_equal_with_frozen_vision_and_a_single_group() -> None:
    model = build_model("qwen2.5-vl")
    model.model.visual.requires_grad_(False)
    assert_equal_to_trl(model, build_batch("qwen2.5-vl", groups=1, size=5, lengths=UNEVEN), 5)


@pytest.mark.parametrize("lengths", [(6, 0, 3), (0, 0, 0, 4, 2, 1)])
def test_equal_where_completions_are_fully_masked(lengths: tuple[int, ...]) -> None:
    batch = build_batch("qwen2.5-vl", 2, 3, lengths=lengths)
    assert_equal_to_trl(build_model("qwen2.5-vl"), batch, 3)


def on_gpu(batch: Batch) -> Batch:
    return Batch(
        batch.input_ids.cuda(), batch.attention_mask.cuda(), batch.n_completion,
        {k: v.cuda() if torch.is_tensor(v) else v for k, v in batch.images.items()},
    )  # fmt: skip


@pytest.mark.parametrize("kind", [*KINDS, "qwen3.5"])
def test_the_varlen_form_equals_trl(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_attention, "takes_varlen", lambda *_: True)
    monkeypatch.setattr(kernels, "varlen_attn", reference_varlen)
    assert_equal_to_trl(build_model(kind), build_batch(kind, 2, 3, lengths=UNEVEN), 3)


@pytest.mark.parametrize("kind", KINDS)
# On a CPU it is not compiled, and says so.
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_the_flex_form_equals_trl(kind: str) -> None:
    batch, model = build_batch(kind, 2, 3, lengths=UNEVEN), build_model(kind)
    expected, _ = trl_log_probs(model, batch)
    enable(model, "flex")
    with torch.no_grad():  # there is no backward on a CPU
        got, _ = shared_log_probs(model, batch, 3)
    real = batch.completion_mask
    assert (got - expected)[real].abs().max() < 1e-5


@pytest.mark.gpu
@pytest.mark.parametrize("attention", ["auto", "sdpa", "varlen", "flex"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_attention_of_a_gpu_rounds_as_trls_path(kind: str, attention: str) -> None:
    batch = on_gpu(build_batch(kind, groups=2, size=4, lengths=UNEVEN))
    model = build_model(kind).cuda()
    real = batch.completion_mask
    exact = trl_log_probs(model, batch)
    wanted = gradients(model, *exact, batch)
    model.bfloat16()
    found = {"TRL": trl_log_probs(model, batch)}
    slopes = {"TRL": gradients(model, *found["TRL"], batch)}
    enable(model, attention)
    found["boxrl"] = shared_log_probs(model, batch, 4)
    slopes["boxrl"] = gradients(model, *found["boxrl"], batch)
    total = sum(float(x.square().sum()) for x in wanted.values())
    log_prob, slope = {}, {}
    for way, own in slopes.items():
        log_prob[way] = float((found[way][0].float() - exact[0])[real].abs().mean())
        error = sum(float((own[n].float() - g).square().sum()) for n, g in wanted.items())
        slope[way] = (error / total) ** 0.5
    assert log_prob["boxrl"] < 1.5 * log_prob["TRL"], log_prob
    assert slope["boxrl"] < 1.5 * slope["TRL"], slope


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_flex_attention_gives_the_gradients_of_sdpa(kind: str) -> None:
    batch = on_gpu(build_batch(kind, groups=2, size=4, lengths=UNEVEN))
    model = build_model(kind).cuda()
    found = []
    for attention in ("sdpa", "flex"):
        enable(model, attention)
        found.append(gradients(model, *shared_log_probs(model, batch, 4), batch))
    for name, expected in found[0].items():
        scale = expected.abs().max().clamp(min=1e-6)
        assert ((found[1][name] - expected).abs().max() / scale) < 1e-3, name


def test_wrong_groups_are_seen_by_the_comparison() -> None:
    # The control of all tests above: merging two prompts must not go unnoticed.
    batch = build_batch("qwen2.5-vl", groups=2, size=2, lengths=(5,))
    model = build_model("qwen2.5-vl")
    expected, _ = trl_log_probs(model, batch)
    enable(model)
    merged, _ = shared_log_probs(model, batch, 4)
    assert (merged - expected).abs().max() > 1e-2


MASKED = ("gemma3", "gemma3, short window", "gemma4", "paligemma", "paligemma 2")


@pytest.mark.parametrize("kind", MASKED)
def test_what_tokens_see_is_seen_by_the_comparison(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, model = build_batch(kind, 2, 3, lengths=UNEVEN), build_model(kind)
    expected, _ = trl_log_probs(model, batch)
    enable(model)
    monkeypatch.setattr(shared_prefix, "sight", lambda *_: {})
    got, _ = shared_log_probs(model, batch, 3)
    assert (got - expected)[batch.completion_mask].abs().max() > 1e-2


def test_answers_that_see_themselves_both_ways_under_trl_get_their_own_type() -> None:
    batch, model = build_batch("paligemma", 2, 3, lengths=UNEVEN), build_model("paligemma")
    expected, _ = trl_log_probs(model, batch)
    n_prompt = batch.input_ids.shape[1] - batch.n_completion
    batch.images["token_type_ids"][:, n_prompt:] = 0  # as TRL's trainer has it
    leaking, _ = trl_log_probs(model, batch)
    assert (leaking - expected)[batch.completion_mask].abs().max() > 0.1
    mark_answers(model, batch.images, torch.arange(batch.input_ids.shape[1]) >= n_prompt)
    got, _ = trl_log_probs(model, batch)
    assert torch.equal(got, expected)


def test_masks_are_asked_for_on_the_device_of_the_model() -> None:
    """Where a processor's types of tokens stay: a model on a GPU takes none of the CPU's."""
    asked = []

    def create(*_: Any, token_type_ids: Any, mm_token_type_ids: Any, **__: Any) -> Any:
        asked.append({token_type_ids.device.type, mm_token_type_ids.device.type})
        return {}

    config = SimpleNamespace(layer_types=["full_attention"])
    config.get_text_config = lambda: config
    model = SimpleNamespace(
        config=config, device=torch.device("meta"), dtype=torch.float32,
        create_masks_for_generate=create,
    )  # fmt: skip
    types = torch.tensor([1, 1, 0])
    assert answer_type(model, types) == 0 and sight(model, 3, 2, types) == {}
    assert asked and all(devices == {"meta"} for devices in asked)


def test_completions_do_not_run_through_the_states_of_one_another() -> None:
    batch, model = build_batch("qwen3.5", 2, 3, lengths=UNEVEN), build_model("qwen3.5")
    expected, _ = trl_log_probs(model, batch)
    enable(model)
    for layer in recurrent_layers(model):
        del layer.forward  # the class's own, which knows nothing of a layout
    got, _ = shared_log_probs(model, batch, 3)
    assert (got - expected)[batch.completion_mask].abs().max() > 0.5


@pytest.mark.parametrize("lengths", [(1, 1, 1), (6, 0, 3), (0, 0, 0, 4, 2, 1)])
def test_states_go_on_into_the_shortest_completions(lengths: tuple[int, ...]) -> None:
    assert_equal_to_trl(build_model("qwen3.5"), build_batch("qwen3.5", 2, 3, lengths), 3)


def test_ordinary_batches_are_unchanged_by_the_registered_attention() -> None:
    batch = build_batch("qwen2.5-vl", groups=2, size=2, lengths=(5, 3))
    model = build_model("qwen2.5-vl")
    before, _ = trl_log_probs(model, batch)
    enable(model)
    after, _ = trl_log_probs(model, batch)
    torch.testing.assert_close(after, before)


def test_shuffling_keeps_groups_whole() -> None:
    torch.manual_seed(0)
    batch = {"prompt_ids": torch.arange(12)[:, None], "names": list("abcdefghijkl"), "n": None}
    shuffled = shuffle_groups(batch, 3)
    ids = shuffled["prompt_ids"][:, 0].tolist()
    assert sorted(ids) == list(range(12))
    assert ids != list(range(12))
    assert all(ids[k] % 3 == 0 and ids[k + 1] == ids[k] + 1 for k in range(0, 12, 3))
    assert shuffled["names"] == ["abcdefghijkl"[k] for k in ids]


def test_a_part_of_a_group_is_refused() -> None:
    with pytest.raises(UsageError, match="holds 6 completions, no whole groups of 4"):
        shuffle_groups({"prompt_ids": torch.zeros(6, 1)}, 4)


def test_chunks_hold_whole_groups_and_respect_the_limit_where_they_can() -> None:
    assert chunk_groups([0, 0, 1, 1, 2, 2], 4) == [[[0, 1], [2, 3]], [[4, 5]]]
    assert chunk_groups([0, 0, 0, 1], 2) == [[[0, 1, 2]], [[3]]]


@pytest.mark.parametrize("kind", [*KINDS, "qwen3-vl-moe", "lfm2-vl"])
def test_the_last_layer_feeds_completions_alone_forward(kind: str) -> None:
    batch, model = build_batch(kind, groups=2, size=3, lengths=UNEVEN), build_model(kind)
    enable(model)
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)][-2:]
    rows: list[int] = []
    for layer in layers:
        part = layer.mlp if hasattr(layer, "mlp") else layer.feed_forward
        part.register_forward_hook(lambda *made: rows.append(int(made[-1].any(-1).sum())))
    with torch.no_grad():
        shared_log_probs(model, batch, 3)
    before, last = rows
    assert last == int(batch.completion_mask.sum()) < before
