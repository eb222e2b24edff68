"""Attention of packed rows as a GPU takes it: every choice is the dense batch's, and cheaper."""

from __future__ import annotations

import sys
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import transformers  # noqa: E402
from torch.nn.attention.varlen import varlen_attn  # noqa: E402
from transformers import modeling_flash_attention_utils as flash_utils  # noqa: E402

from boxrl.engines.prefix import attention as prefix_attention  # noqa: E402
from boxrl.engines.prefix import kernels  # noqa: E402
from boxrl.engines.prefix.layout import Layout, Siblings, Span  # noqa: E402
from boxrl.engines.prefix.shared_prefix import enable  # noqa: E402
from boxrl.errors import UsageError  # noqa: E402
from tests.engines.prefix.test_shared_prefix import shared_log_probs  # noqa: E402
from tests.support.random_models import KINDS, build_batch, build_model  # noqa: E402

from .gpu import Gpu, phantom_gpu  # noqa: E402
from .runs import ran_on_phantom, recipe_of  # noqa: E402
from .test_equals_cpu import LENGTHS, SIZE, micro_batch, moved  # noqa: E402

CHOICES = ("auto", "sdpa", "varlen", "flex")
LOADED = (
    "_loaded_implementation", "_flash_fn", "_flash_varlen_fn", "_flash_with_kvcache_fn", "_pad_fn",
    "_unpad_fn", "_process_flash_kwargs_fn", "_process_with_kvcache_kwargs_fn",
)  # fmt: skip
"""What transformers keeps of the first kernel that it loads."""


@pytest.fixture
def flash_attn(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """As on a machine with flash-attn: its functions, computed by torch's own."""

    def varlen(
        q: Any, k: Any, v: Any, cu_seqlens_q: Any, cu_seqlens_k: Any, max_seqlen_q: int,
        max_seqlen_k: int, dropout_p: float = 0.0, softmax_scale: Any = None,
        causal: bool = False, **_: Any,
    ) -> Any:  # fmt: skip
        return varlen_attn(
            q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k,
            scale=softmax_scale, window_size=(-1, 0 if causal else -1), enable_gqa=True,
        )  # fmt: skip

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("no function of packed rows")

    module: Any = ModuleType("flash_attn")
    module.__version__ = "2.8.3"
    module.flash_attn_func = module.flash_attn_with_kvcache = refuse
    module.flash_attn_varlen_func = varlen
    for name in LOADED:  # and forgotten again afterwards
        monkeypatch.setattr(flash_utils, name, None)
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    for owner in (flash_utils, transformers.utils, prefix_attention):
        monkeypatch.setattr(owner, "is_flash_attn_2_available", lambda: True, raising=False)
    return module


def half_precision(kind: str, attention: str) -> tuple[dict[str, float], Gpu]:
    """Mean errors of bfloat16 micro-batches against float32 on the CPU: TRL's way's, and ours."""
    batch = build_batch(kind, 2, SIZE, LENGTHS)
    expected, gradients = micro_batch(build_model(kind), batch, False)
    found = {}
    for way in ("TRL", "boxrl"):
        with phantom_gpu() as gpu:
            model = build_model(kind).to("cuda").bfloat16()
            if way == "boxrl":
                enable(model, attention)
            on_cuda = moved(batch)
            gpu.reset()
            logps, own = micro_batch(model, on_cuda, way == "boxrl")
        found[f"{way} log_prob"] = float((logps.float() - expected).abs().mean())
        error = sum(float((own[n].float() - g).square().sum()) for n, g in gradients.items())
        total = sum(float(g.square().sum()) for g in gradients.values())
        found[f"{way} gradient"] = (error / total) ** 0.5
    return found, gpu


def assert_no_worse_than_trl(found: dict[str, float]) -> None:
    for what in ("log_prob", "gradient"):
        assert found[f"boxrl {what}"] <= 1.5 * found[f"TRL {what}"], found


EVERY_KIND = [
    pytest.param(kind, marks=() if kind == KINDS[0] else pytest.mark.phantom) for kind in KINDS
]


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("attention", CHOICES)
def test_every_choice_rounds_as_trls_own_path(attention: str, kind: str) -> None:
    found, gpu = half_precision(kind, attention)
    assert_no_worse_than_trl(found)
    if attention in ("flex", "varlen"):
        layers = 2
        assert gpu.attention[attention] >= layers
    if attention == "sdpa":
        assert not gpu.attention["varlen"]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_machines_with_flash_attn_train(kind: str, flash_attn: ModuleType) -> None:
    found, gpu = half_precision(kind, "auto")
    assert_no_worse_than_trl(found)
    assert gpu.attention["varlen"]


def test_float32_weights_under_autocast_take_the_varlen_kernel(flash_attn: ModuleType) -> None:
    with phantom_gpu(floats="hollow") as gpu:
        model = build_model("qwen2.5-vl").to("cuda")
        enable(model)
        with torch.autocast("cuda", torch.bfloat16):
            shared_log_probs(model, moved(build_batch("qwen2.5-vl", 1, SIZE, LENGTHS)), SIZE)
        assert gpu.attention["varlen"]


def attended(lengths: tuple[int, ...], kind: str = "qwen2.5-vl") -> Gpu:
    """What scoring one group of completions of these lengths costs."""
    batch = build_batch(kind, 1, len(lengths), lengths)
    with phantom_gpu(floats="hollow") as gpu, torch.no_grad():
        model = build_model(kind).to("cuda").bfloat16()
        enable(model)
        on_cuda = moved(batch)
        gpu.reset()
        shared_log_probs(model, on_cuda, len(lengths))
        return gpu


def test_short_completions_cost_less_attention_than_long_ones() -> None:
    even, uneven = attended((64,) * 8), attended((64, *[8] * 7))
    assert uneven.attention_flops < 0.5 * even.attention_flops


def test_more_completions_make_the_host_wait_no_more_often() -> None:
    few, many = attended((5,) * 2), attended((5,) * 8)
    assert sum(few.syncs.values()) == sum(many.syncs.values())


def test_the_vision_tower_waits_once_and_calls_one_kernel_a_layer() -> None:
    kernels, layers = attended((5, 5)), 2
    waits = sum(n for line, n in kernels.syncs.items() if "modeling_qwen2_5_vl.py:313" in line)
    assert waits == 0
    assert kernels.attention["varlen"] >= layers


def test_a_block_mask_takes_no_memory_by_pairs_of_tokens() -> None:
    with phantom_gpu() as gpu:
        prompt = Span(0, 1000)
        answers = [Span(start, 100) for start in range(1000, 1800, 100)]
        blocks = [Siblings([prompt], []), Siblings(answers, [prompt])]
        layout = Layout(blocks, torch.device("cuda"))
        before = gpu.bytes
        gpu.reset()
        assert layout.block_mask.shape == (1, 1, 1800, 1800)
        assert gpu.peak_bytes - before < 0.1 * 1800**2


def test_a_tower_whose_windows_are_wrong_stops_the_run(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL's path, which the first micro-batch is compared with, runs the tower by SDPA."""
    right = kernels.varlen_attn

    @wraps(right)
    def wrong(query: Any, key: Any, value: Any, *rest: Any, **options: Any) -> Any:
        windows = "window_size" not in options
        return right(query, key, value.flip(0) if windows else value, *rest, **options)

    monkeypatch.setattr(kernels, "varlen_attn", wrong)
    recipe = recipe_of(scene_folder, tmp_path / "run", "auto", engine={"dtype": "bfloat16"})
    with pytest.raises(UsageError, match="first micro-batch differ"):
        ran_on_phantom(recipe)
