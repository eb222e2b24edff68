"""The figures of a dry run against what small models really need."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from boxrl.cli import main  # noqa: E402
from boxrl.config import Recipe, dump_recipe, load_recipe  # noqa: E402
from boxrl.config.recipe import Verifier  # noqa: E402
from boxrl.engines.prefix.kv_cache import cache_argument  # noqa: E402
from boxrl.engines.prefix.shared_prefix import enable, log_probs  # noqa: E402
from boxrl.engines.training import memory  # noqa: E402
from boxrl.engines.training.batches import split_rows  # noqa: E402
from boxrl.engines.training.grpo import build_lora  # noqa: E402
from boxrl.engines.training.hollow import hollow_gpu, run_backward  # noqa: E402
from boxrl.engines.training.launch import accelerate_config  # noqa: E402
from boxrl.engines.training.load import Load, build_load, count_image_tokens  # noqa: E402
from boxrl.engines.training.memory import (  # noqa: E402
    GIB,
    build_empty,
    cache_bytes,
    estimate,
)
from boxrl.engines.training.micro_batch import (  # noqa: E402
    Work,
    build_rows,
    count,
    measure,
    prepare,
)
from boxrl.errors import UsageError  # noqa: E402
from boxrl.families import FAMILIES  # noqa: E402
from boxrl.types import Sample  # noqa: E402
from tests.support.random_models import (  # noqa: E402
    IMAGE,
    KINDS,
    build_batch,
    build_model,
    build_plain_model,
)
from tests.support.recipes import tiny_recipe  # noqa: E402


def kept_bytes(call: Any) -> int:
    """Bytes that autograd keeps of what is no parameter."""
    kept: dict[int, int] = {}

    def pack(tensor: Any) -> Any:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = call()
    del result
    return sum(kept.values())


def test_a_verifier_beside_the_model_is_counted_and_one_on_a_server_is_not(
    scene_folder: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(scene_folder, tmp_path / "run")

    def kept(**verifier: Any) -> float:
        return estimate(recipe.model_copy(update={"verifier": Verifier(**verifier)})).kept

    alone = estimate(recipe).kept
    weights = sum(p.numel() for p in build_empty(recipe).parameters())
    assert kept(model="tiny-taught") == alone + 4 * weights
    assert kept(model="tiny", base_urls=["http://localhost:1/v1"]) == alone


@pytest.mark.parametrize("kind", [*KINDS, "qwen3.5", "gemma3", "lfm3-vl"])
def test_a_micro_batch_takes_what_autograd_keeps(
    kind: str, scene_folder: Path, tmp_path: Path
) -> None:
    """Of a model in real numbers; the head and the attention of a GPU keep about the same."""
    recipe = tiny_recipe(scene_folder, tmp_path / "run")
    batch = build_batch(kind, 2, 4, lengths=(40,))
    rows = split_rows(batch.inputs, 40)
    prompt, image = rows.prompt_ids.shape[1], int((rows.prompt_ids[0] == IMAGE).sum())
    grid = batch.inputs.get("image_grid_thw")
    patches = None if grid is None else tuple(grid[0, 1:].tolist())
    load = Load(prompt - image, image, patches, 40, 2, 4, shared=True)
    model = build_model(kind).train()
    enable(model)
    groups = [[0, 1, 2, 3], [4, 5, 6, 7]]
    kept = kept_bytes(lambda: log_probs(model, rows, groups)[0].sum())
    with torch.device("meta"):
        empty = type(model)(model.config)
    prepared = prepare(empty, recipe, FAMILIES["qwen2.5-vl"], shared=True)
    empty_rows = build_rows(model.config, load)
    peak, flops, kernels = measure(
        prepared, load, empty_rows, half=False, again=False, keep_gradients=False
    )
    tile = 2 * 4 * 40 * 32768 * 4  # of TRL's head, whatever the vocabulary is
    assert peak - count(prepared).weights - tile == pytest.approx(kept, rel=0.3)
    assert 200 < kernels < 3000
    assert flops > 6 * load.tokens * sum(p.numel() for p in model.model.language_model.parameters())


def test_parameters_and_adapters_are_counted_exactly(scene_folder: Path, tmp_path: Path) -> None:
    from peft import get_peft_model

    family = FAMILIES["qwen2.5-vl"]
    for freeze in (False, True):
        model = build_plain_model("qwen2.5-vl")
        total = sum(p.numel() for p in model.parameters())
        full = tiny_recipe(scene_folder, tmp_path / "run", freeze_vision=freeze)
        visual = sum(p.numel() for p in model.model.visual.parameters())
        counted = count(prepare(model, full, family, shared=False))
        assert (counted.parameters, counted.weights) == (total, 4 * total)
        assert counted.trained == {torch.float32: total - visual * freeze}
        assert counted.gradients == 4 * (total - visual * freeze)
        lora = tiny_recipe(
            scene_folder, tmp_path / "run", freeze_vision=freeze, lora={"r": 4, "alpha": 8}
        )
        adapted = get_peft_model(build_plain_model("qwen2.5-vl"), build_lora(lora, family))
        trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        counted = count(prepare(build_plain_model("qwen2.5-vl"), lora, family, shared=False))
        assert counted.trained == {torch.float32: trained}
        assert (counted.parameters, counted.weights) == (total, 4 * (total + trained))


@pytest.mark.parametrize("kind", ["qwen2.5-vl", "qwen3.5", "gemma3, short window"])
def test_the_cache_is_as_large_as_it_is(kind: str) -> None:
    from transformers import DynamicCache

    model = build_model(kind)
    text = model.config.get_text_config()
    cache = DynamicCache(config=text)
    with torch.no_grad():
        core = model.model.language_model
        held = {cache_argument(type(core).forward) or "past_key_values": cache}
        core(torch.arange(10, 40)[None], **held)
    real = 0
    for layer in cache.layers:
        kept = getattr(layer, "recurrent_states", None) or {"k": layer.keys, "v": layer.values}
        real += sum(x.nbytes for x in kept.values())
    load = Load(20, 0, None, 10, 1, 1, shared=True)
    assert cache_bytes(text, load, 1, 4) == pytest.approx(real, rel=0.05)


def test_a_shared_prompt_is_cached_once() -> None:
    text = build_plain_model("qwen2.5-vl").config.get_text_config()
    shared, apart = (Load(60, 40, None, 25, 1, 4, shared=x) for x in (True, False))
    assert cache_bytes(text, shared, 3, 2) / cache_bytes(text, apart, 3, 2) == (100 + 100) / 500


def test_memory_is_counted_while_it_is_held() -> None:
    layers = torch.nn.Sequential(*[torch.nn.Linear(256, 256, bias=False) for _ in range(4)])
    layers.to("meta")
    inputs = torch.empty(1024, 256, device="meta")
    mib, weights = 2**20, 4 * 256 * 256 * 4
    with hollow_gpu(half=False) as (gpu, _):
        gpu.hold_all([*layers.parameters(), inputs])
        assert gpu.bytes == weights + mib
        with torch.no_grad():
            layers(inputs)
        assert (gpu.bytes, gpu.peak) == (weights + mib, weights + 3 * mib)
        loss = layers(inputs).sum()
        assert gpu.bytes >= weights + 4 * mib  # the last one's output is not needed
        assert gpu.flops == 2 * 4 * 2 * 1024 * 256 * 256
        run_backward(loss)
        del loss
        assert gpu.bytes == 2 * weights + mib


def test_autocast_computes_in_half_and_keeps_its_weights_in_float32() -> None:
    layer, norm = torch.nn.Linear(64, 64), torch.nn.LayerNorm(64)
    layer.to("meta"), norm.to("meta")
    inputs = torch.empty(512, 64, device="meta")
    with hollow_gpu(half=True) as (gpu, autocast):
        out = norm(layer(inputs))
        kept = gpu.bytes
        assert (layer(inputs).dtype, out.dtype) == (torch.bfloat16, torch.float32)
        assert gpu.bytes <= kept + 512  # the weights that were cast before are taken again
        autocast.end_forward()
        run_backward(out.sum())
    assert layer.weight.grad.dtype == torch.float32


def test_lengths_and_masks_are_real_where_numbers_are_not() -> None:
    with hollow_gpu(half=False):
        values = torch.empty(3, 4, device="meta")
        mask = torch.ones(3, dtype=torch.bool, device="meta")
        lengths = torch.arange(3).to("meta")
        assert lengths.tolist() == [0, 1, 2] and mask.sum().item() == 3
        assert values[lengths > 0].shape == (2, 4)
        assert values.argmax(1).tolist() == [0, 0, 0] and values.sum().item() == 0.5


def test_what_makes_a_step_smaller_makes_the_estimate_smaller(
    scene_folder: Path, tmp_path: Path
) -> None:
    def peak(processes: int = 1, strategy: str = "ddp", **train: Any) -> float:
        recipe = tiny_recipe(scene_folder, tmp_path / "run", **train)
        return estimate(recipe, processes, strategy).training

    whole = peak()
    assert peak(micro_batch_prompts=1) < whole
    assert peak(lora={"r": 2, "alpha": 4}, freeze_vision=True) < whole
    assert peak(trl={"gradient_checkpointing": True}) < whole
    assert peak(trl={"activation_checkpointing": True}) < whole
    assert peak(beta=0.1) > whole
    assert peak(2, "zero3") < peak(2, "zero2") < peak(2, "ddp")


def load_of(scenes: Path, out: Path, method: str, **train: Any) -> Load:
    recipe = tiny_recipe(scenes, out, method=method, **train)
    model, family = build_empty(recipe), FAMILIES["qwen2.5-vl"]
    return build_load(recipe, family, model, None, 1)


def test_answers_that_sft_cuts_are_counted_as_cut_and_padded(
    scene_folder: Path, tmp_path: Path
) -> None:
    whole = load_of(scene_folder, tmp_path, "sft")
    length = whole.prompt + whole.completion - 5
    cut = load_of(scene_folder, tmp_path, "sft", trl={"max_length": length})
    assert (cut.prompt, cut.completion) == (whole.prompt, whole.completion - 5)
    assert whole.shared and not cut.shared


def test_smoothed_labels_take_the_logits_of_all_tokens(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = memory.find_config("tiny")
    config.text_config.vocab_size = 100_000
    monkeypatch.setattr(memory, "find_config", lambda _: config)

    def sft(**trl: Any) -> Recipe:
        return tiny_recipe(scene_folder, tmp_path, method="sft", trl=trl)

    plain = sft(max_length=9999)
    load = load_of(scene_folder, tmp_path, "sft", trl=plain.train.trl)
    logits = 4 * load.groups * (load.prompt + load.completion) * 100_000
    found = estimate(sft(label_smoothing_factor=0.1, optim="adamw_8bit"))
    assert found.memory["activations"] > 2 * logits > 2 * estimate(plain).memory["activations"]
    assert "adamw_8bit may keep less" in found.facts[-1]


def test_a_generation_of_several_steps_is_counted_whole(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "measure", lambda *_, **__: Work(0, 0.0, 0))
    recipe = tiny_recipe(scene_folder, tmp_path, micro_batch_prompts=2)
    longer = tiny_recipe(
        scene_folder, tmp_path, micro_batch_prompts=2, trl={"steps_per_generation": 8}
    )
    one, four = estimate(recipe), estimate(longer)
    assert four.memory["KV cache"] == 4 * one.memory["KV cache"]
    assert four.memory["images"] == 4 * one.memory["images"]
    assert four.facts == one.facts


def test_dry_run_says_whether_it_fits(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["init", "--samples", str(scene_folder / "samples.jsonl"), "--model", "tiny"]
    call += ["--images", str(scene_folder / "images"), "--gpu-memory", "8"]
    assert main(call) in (0, None)
    written = tmp_path / "first.yaml"
    written.write_text(capsys.readouterr().out)
    assert isinstance(load_recipe(written), Recipe)
    dry = ["train", str(written), f"out={tmp_path / 'run'}", "--dry-run", "--gpu-memory"]
    assert main([*dry, "8"]) == 0
    assert "\nfits:" in capsys.readouterr().out
    assert main([*dry, "0.05"]) == 1
    assert "does not fit" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    assert main([*dry, "-8"]) == 2
    assert main([word for word in dry if word != "--dry-run"] + ["8"]) == 2
    assert "--gpu-memory goes with --dry-run" in capsys.readouterr().err
    # Overrides may stand behind options.
    assert main(["train", str(written), "--dry-run", "--gpu-memory", "8", "train.beta=0.1"]) == 0
    with pytest.raises(SystemExit):
        main(["train", str(written), "--dry-run", "nonsense"])
    assert main([*call[:-1], "0.001"]) == 2
    assert "even QLoRA" in capsys.readouterr().err


def test_a_colocated_vllm_takes_its_share(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "recipe.yaml"
    written.write_text(dump_recipe(tiny_recipe(scene_folder, tmp_path / "run")))
    dry = ["train", str(written), "--dry-run", "--gpu-memory", "8"]
    assert main([*dry, "train.trl.use_vllm=true"]) == 0
    told = capsys.readouterr().out
    assert f"{0.3 * 8e9 / GIB:.1f} of them vLLM's" in told
    assert "KV cache" not in told
    asleep = "train.trl.vllm_enable_sleep_mode=true"
    assert main([*dry, "train.trl.use_vllm=true", asleep]) == 0
    told = capsys.readouterr().out
    assert f"vLLM's {0.3 * 8e9 / GIB:.1f} while it generates" in told
    whole = "train.trl.vllm_gpu_memory_utilization=0.95"
    assert main([*dry, "train.trl.use_vllm=true", whole]) == 1
    assert main([*dry, "train.trl.use_vllm=true", whole, "train.trl.vllm_mode=server"]) == 0
    assert "vLLM" not in capsys.readouterr().out.rpartition("fits")[2]


@pytest.mark.parametrize(
    "words",
    [["--num-processes", "2"], ["--strategy", "fsdp2"], ["--write-config", "accelerate.yaml"]],
)
def test_an_option_of_a_launch_without_one_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "quickstart", *words]) == 2
    told = capsys.readouterr().err.strip()
    assert told == f"boxrl: {words[0]} has no effect without --launch accelerate"


def test_launch_configs_name_what_runs(scene_folder: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(scene_folder, tmp_path / "run")
    assert "use_cpu: true" in accelerate_config(recipe, 2, "ddp")
    assert "use_cpu: false" in accelerate_config(recipe, 2, "zero2")
    with pytest.raises(UsageError, match="needs GPUs; on a CPU take ddp"):
        accelerate_config(recipe, 2, "fsdp2")
    with pytest.raises(UsageError, match="expected 2 or more"):
        accelerate_config(recipe, 1, "ddp")
    gpu = recipe.model_copy(update={"engine": recipe.engine.model_copy(update={"device": "cuda"})})
    assert "zero_stage: 3" in accelerate_config(gpu, 8, "zero3")
    assert "fsdp_version: 2" in accelerate_config(gpu, 8, "fsdp2")


def test_image_tokens_that_nobody_knows_are_not_assumed() -> None:
    sample = Sample("a", "a.png", 640, 480, "detection", ("cat",))
    config = SimpleNamespace(vision_config=SimpleNamespace())
    with pytest.raises(UsageError, match="family deepseek-vl2 makes of an image is not known"):
        count_image_tokens(sample, FAMILIES["deepseek-vl2"], config)
    assert count_image_tokens(sample, FAMILIES["lfm2-vl"], config) == 18 * 13
