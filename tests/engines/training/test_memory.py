"""The figures of a dry run against what small models really need."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from boxrl.cli import main  # noqa: E402
from boxrl.config import Recipe, dump_recipe, load_recipe  # noqa: E402
from boxrl.engines.prefix.shared_prefix import enable, log_probs  # noqa: E402
from boxrl.engines.training.batches import split_rows  # noqa: E402
from boxrl.engines.training.grpo import build_lora  # noqa: E402
from boxrl.engines.training.launch import accelerate_config  # noqa: E402
from boxrl.engines.training.memory import (  # noqa: E402
    GIB,
    Load,
    _image_tokens,
    cache_bytes,
    count_parameters,
    estimate,
    language_activations,
    vision_activations,
)
from boxrl.errors import UsageError  # noqa: E402
from boxrl.families import FAMILIES  # noqa: E402
from boxrl.types import Sample  # noqa: E402
from tests.support.random_models import build_batch, build_model  # noqa: E402
from tests.support.recipes import tiny_recipe  # noqa: E402

GROUPS, SIZE, COMPLETION = 2, 4, 40


def kept_bytes(model: Any, call: Any) -> int:
    """Bytes that autograd keeps for the backward pass, parameters aside."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = call()
    del result
    return sum(kept.values())


def shared_call(model: Any, kind: str) -> tuple[Any, Load]:
    batch = build_batch(kind, GROUPS, SIZE, lengths=(COMPLETION,))
    n = batch.n_completion
    rows = split_rows(batch.inputs, n)
    groups = [list(range(k, k + SIZE)) for k in range(0, GROUPS * SIZE, SIZE)]
    prompt = int(batch.attention_mask[:, :-n].sum(1).max())
    load = Load(prompt, 64, COMPLETION, GROUPS, SIZE, shared=True)
    return (lambda: log_probs(model, rows, groups)[0].sum()), load


@pytest.mark.parametrize("kind", ["qwen2.5-vl", "qwen3.5", "qwen3.5-linear"])
@pytest.mark.parametrize("frozen", [False, True])
def test_activations_are_what_autograd_keeps(frozen: bool, kind: str) -> None:
    model = build_model(kind).train()
    model.model.visual.requires_grad_(not frozen)
    enable(model)
    call, load = shared_call(model, kind)
    expected = language_activations(model.config.get_text_config(), load, 4, False)
    if not frozen:
        expected += vision_activations(model.config.vision_config, load, 4, False)
    assert expected == pytest.approx(kept_bytes(model, call), rel=0.35)


def test_parameters_and_adapters_are_counted_exactly(scene_folder: Path, tmp_path: Path) -> None:
    from peft import get_peft_model

    family = FAMILIES["qwen2.5-vl"]
    for freeze in (False, True):
        model = build_model("qwen2.5-vl")
        total = sum(p.numel() for p in model.parameters())
        full = tiny_recipe(scene_folder, tmp_path / "run", freeze_vision=freeze)
        visual = sum(p.numel() for p in model.model.visual.parameters())
        counted = count_parameters(model, full, family)
        assert counted["base"] == total
        assert counted["language"] == total - visual
        assert counted["trained"] == total - visual * freeze
        lora = tiny_recipe(
            scene_folder, tmp_path / "run", freeze_vision=freeze, lora={"r": 4, "alpha": 8}
        )
        counted = count_parameters(model, lora, family)
        adapted = get_peft_model(model, build_lora(lora, family))
        trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        assert counted["trained"] == counted["adapters"] == trained


@pytest.mark.parametrize("kind", ["qwen2.5-vl", "qwen3.5", "gemma3, short window"])
def test_the_cache_is_as_large_as_it_is(kind: str) -> None:
    from transformers import DynamicCache

    model = build_model(kind)
    text = model.config.get_text_config()
    cache = DynamicCache(config=text)
    with torch.no_grad():
        model.model.language_model(torch.arange(10, 40)[None], past_key_values=cache)
    real = 0
    for layer in cache.layers:
        kept = getattr(layer, "recurrent_states", None) or {"k": layer.keys, "v": layer.values}
        real += sum(x.nbytes for x in kept.values())
    assert cache_bytes(text, Load(20, 0, 10, 1, 1, True), 4) == pytest.approx(real, rel=0.05)


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
        _image_tokens(sample, FAMILIES["deepseek-vl2"], config)
    assert _image_tokens(sample, FAMILIES["lfm2-vl"], config)[0] == 18 * 13
