"""Published models by name are as large as they are, and plan a training before a download."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from boxrl.cli import main  # noqa: E402
from boxrl.config import Recipe, load_recipe  # noqa: E402
from boxrl.data.stats import describe  # noqa: E402
from boxrl.engines import known_models  # noqa: E402
from boxrl.engines.build import EngineOptions  # noqa: E402
from boxrl.engines.known_models import SIZES, find_config, find_known_family  # noqa: E402
from boxrl.engines.training.memory import build_empty  # noqa: E402
from boxrl.errors import UsageError  # noqa: E402
from boxrl.types import Object, Sample  # noqa: E402

BILLIONS = {
    "Qwen/Qwen2.5-VL-3B-Instruct": 3.755, "models/Qwen2.5-VL-7B-Instruct": 8.292,
    "Qwen2.5-VL-32B-Instruct": 33.453, "Qwen/Qwen2.5-VL-72B-Instruct": 73.411,
    "Qwen/Qwen3-VL-2B-Instruct": 2.128, "Qwen/Qwen3-VL-4B-Instruct": 4.438,
    "Qwen/Qwen3-VL-8B-Instruct": 8.767, "Qwen/Qwen3-VL-32B-Instruct": 33.357,
}  # fmt: skip
"""As the hub counts them."""


def plain_recipe(model: str) -> Recipe:
    data = {"train": "train.jsonl", "images": "images"}
    return Recipe.model_validate(
        {"name": "x", "method": "grpo", "model": model, "data": data, "rewards": ["f1"]}
    )


@pytest.mark.parametrize("model", BILLIONS)
def test_models_by_name_have_their_size(model: str) -> None:
    empty = build_empty(plain_recipe(model))
    total = sum(p.numel() for p in empty.parameters())
    assert round(total / 1e9, 3) == BILLIONS[model]
    family = find_known_family(EngineOptions(model)).name
    assert model.rpartition("/")[2].lower().startswith(f"{family}-")
    assert empty.dtype == torch.bfloat16


def test_a_folder_says_more_than_a_name(tmp_path: Path) -> None:
    config = known_models.build_config("Qwen3-VL-2B")
    config.text_config.num_hidden_layers = 3
    config.save_pretrained(tmp_path / "Qwen3-VL-2B-mine")
    assert find_config(str(tmp_path / "Qwen3-VL-2B-mine")).text_config.num_hidden_layers == 3
    assert find_config("Qwen3-VL-2B-mine").text_config.num_hidden_layers == 28
    with pytest.raises(UsageError):
        find_config("Qwen3-VL-22B")


def test_a_training_is_planned_before_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, tower = SIZES["Qwen2.5-VL-3B"]
    small = text._replace(num_hidden_layers=2, vocab_size=160_000), tower._replace(depth=2)
    monkeypatch.setitem(SIZES, "Qwen2.5-VL-3B", small)
    monkeypatch.chdir(tmp_path)
    samples = [
        Sample(
            id=str(n), image=f"{n}.jpg", width=1024, height=768, task="detection",
            labels=("cat", "dog"), objects=(Object((1, 1, 20, 20), "cat"),),
        )
        for n in range(40)
    ]  # fmt: skip
    Path("summary.json").write_text(json.dumps(describe(samples)))
    call = ["init", "--samples", "train.jsonl", "--images", "images", "--gpu-memory", "80",
            "--model", "Qwen/Qwen2.5-VL-3B-Instruct", "--summary", "summary.json"]  # fmt: skip
    assert main(call) in (0, None)
    Path("recipe.yaml").write_text(capsys.readouterr().out)
    recipe = load_recipe(Path("recipe.yaml"), check_files=False)
    assert (recipe.model, recipe.data.train) == (call[8], Path("train.jsonl"))
    dry = ["train", "recipe.yaml", "--dry-run", "--gpu-memory", "80"]
    assert main([*dry, "--summary", "summary.json"]) == 0
    told = capsys.readouterr().out
    assert "of them its image" in told and "\nfits:" in told
    assert main(dry) == 2  # there are no samples
    assert "train.jsonl" in capsys.readouterr().err
    assert main(["train", "recipe.yaml", "--summary", "summary.json"]) == 2
    assert "--summary has no effect without --dry-run" in capsys.readouterr().err
    Path("summary.json").write_text("{}")
    assert main([*dry, "--summary", "summary.json"]) == 1
    assert "expected what boxrl data stats --json prints" in capsys.readouterr().err
