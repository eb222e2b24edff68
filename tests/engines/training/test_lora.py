"""Adapters that somebody sent: their weights count, what their config names is not loaded."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file, save_file

from boxrl.cli import main
from boxrl.engines.loading import load
from boxrl.engines.training.lora import WEIGHTS, put_adapter, read_adapter, refuse_ends
from boxrl.engines.training.train import train
from boxrl.errors import UsageError
from boxrl.generation.model_folders import model_folder
from tests.support.random_models import build_plain_model
from tests.support.recipes import tiny_recipe


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the tiny VLM with weights that are not zero, as peft writes it."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapter")
    model, _ = load("tiny", device="cpu")
    config = LoraConfig(
        r=4, lora_alpha=6, target_modules=["q_proj", "k_proj"], rank_pattern={"q_proj": 3},
        alpha_pattern={"k_proj": 5}, use_rslora=True,
    )  # fmt: skip
    adapted = get_peft_model(model, config)
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    adapted.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "adapter")


def change(adapter: Path, **settings: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def export(adapter: Path) -> int:
    out = adapter.parent / "merged"
    return main(["export", str(adapter), "--base", "tiny", "--out", str(out)])


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load(str(folder), device="cpu")[0].state_dict()
    return state


def test_an_adapter_of_tied_embeddings_is_refused_before_training(
    scene_folder: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(
        scene_folder, tmp_path / "run", method="sft",
        lora={"r": 4, "target_modules": ["q_proj", "v_proj", "embed_tokens"]},
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"target_modules: .*embed_tokens is input embeddings and"):
        train(recipe)
    assert not (tmp_path / "run/model").exists()


@pytest.mark.parametrize("targets", [["q_proj", "lm_head"], r".*\.q_proj|lm_head"])
def test_an_adapter_of_the_output_layer_is_refused_by_name_and_by_pattern(targets: Any) -> None:
    """TRL's head gives it no gradient: it stayed what it was, to the last step."""
    from peft import LoraConfig

    model = build_plain_model("qwen2.5-vl")
    model.all_tied_weights_keys = {}
    refuse_ends(model, LoraConfig(target_modules=r".*\.q_proj"))
    with pytest.raises(UsageError, match=r"TRL reads the weights of lm_head past any adapter"):
        refuse_ends(model, LoraConfig(target_modules=targets))


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
def test_an_adapter_of_tied_embeddings_made_elsewhere_is_not_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from peft import LoraConfig, get_peft_model

    model, _ = load("tiny", device="cpu")
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"]))
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter)
    adapted.save_pretrained(tmp_path / "adapter")
    assert export(tmp_path / "adapter") == 2
    said = capsys.readouterr().err
    assert "is another model than was trained (logits of one sample differ by" in said
    assert said.count("\n") <= 1
    assert not (tmp_path / "merged").exists()


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
def test_a_merge_is_pefts_own(adapter: Path) -> None:
    from peft import PeftModel

    model, _ = load("tiny", device="cpu")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().state_dict()
    assert export(adapter) == 0
    merged = weights_of(adapter.parent / "merged")
    changed = [name for name in merged if not torch.equal(merged[name], before[name])]
    assert changed and all("q_proj" in name or "k_proj" in name for name in changed)
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, expected[name].to(tensor.dtype), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (".model.language_model.", ".language_model.", "lora_A.weight is of no module of"),
        (".model.language_model.layers.0.", ".model.layers.0.", "lora_A.weight is of no module of"),
        ("layers.0.self_attn.q_proj.lora_B", None, "lora_B.default.weight is not in it, so the"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning:peft")
def test_an_adapter_that_would_be_put_on_in_part_is_refused(
    old: str, new: str | None, words: str, adapter: Path
) -> None:
    """peft passed over what it found no place for: the merged model was the base model again."""
    weights = load_file(adapter / WEIGHTS)
    kept = {name: x for name, x in weights.items() if new is not None or old not in name}
    save_file({name.replace(old, new or ""): x for name, x in kept.items()}, adapter / WEIGHTS)
    with pytest.raises(UsageError, match=words):
        put_adapter(load("tiny", device="cpu")[0], adapter)


def test_what_the_config_of_an_adapter_names_is_not_loaded(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert export(adapter) == 0
    expected = weights_of(tmp_path / "merged")
    shutil.rmtree(tmp_path / "merged")
    (tmp_path / "evil_adapter.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    change(
        adapter,
        auto_mapping={"base_model_class": "x", "parent_library": "evil_adapter"},
        megatron_config={"a": 1},
        megatron_core="evil_adapter",
        target_modules="((a+)+)+$|.*",
        exclude_modules="(.*)*lora",
        layers_pattern="(a+)+$",
        layers_to_transform=[0],
        rank_pattern={"(.*)+x": 4},
        base_model_name_or_path="/etc",
        runtime_config={"ephemeral_gpu_offload": True},
    )
    began = time.monotonic()
    assert export(adapter) == 0
    assert time.monotonic() - began < 60
    assert not (tmp_path / "ran").exists()
    assert "evil_adapter" not in sys.modules
    merged = weights_of(tmp_path / "merged")
    assert all(torch.equal(merged[name], tensor) for name, tensor in expected.items())


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_hostile_pickle_of_an_adapter_is_one_line(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (adapter / WEIGHTS).unlink()
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps({"x": Trap(tmp_path / "ran")}))
    assert export(adapter) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "safe_serialization=True" in told[0]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"peft_type": "ADALORA"}, "expected LORA"),
        ({"peft_type": None}, "expected LORA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is set"),
        ({"layer_replication": [[0, 1]]}, "layer_replication is set"),
        ({"bias": "all"}, "bias is set"),
        ({"lora_alpha": "x"}, "must be numbers"),
        ({"lora_alpha": None}, "must be numbers"),
        ({"alpha_pattern": {"(a+)+$": 1}}, "must be numbers by module"),
        ({"alpha_pattern": [1]}, "must be numbers"),
        ({"alpha_pattern": {"q_proj": "x"}}, "must be numbers"),
    ],
)
def test_other_adapters_are_refused(adapter: Path, settings: dict[str, Any], said: str) -> None:
    change(adapter, **settings)
    with pytest.raises(UsageError, match=said):
        read_adapter(adapter)


@pytest.mark.parametrize("content", [b"", b"x" * 99, b"\xff" * 16 + b"{}"])
def test_damaged_weights_are_one_line(
    adapter: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (adapter / WEIGHTS).write_bytes(content)
    assert export(adapter) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_an_adapter_is_no_model_to_load(made: Path, tmp_path: Path) -> None:
    """transformers would load the model that its config names, from wherever."""
    for folder in (made, shutil.copytree(model_folder("tiny"), tmp_path / "both")):
        shutil.copy(made / "adapter_config.json", tmp_path / "adapter_config.json")
        if folder != made:
            shutil.copy(made / "adapter_config.json", folder)
        with pytest.raises(UsageError, match="boxrl export"):
            load(str(folder))
