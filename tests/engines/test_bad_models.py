"""Model folders that cannot be trained: one line before anything is read or written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM  # noqa: E402

from boxrl.cli import main  # noqa: E402
from boxrl.config import dump_recipe  # noqa: E402
from boxrl.engines import processors  # noqa: E402
from boxrl.engines.folders import model_folder  # noqa: E402
from boxrl.errors import UsageError  # noqa: E402

from .recipes import tiny_recipe  # noqa: E402


@pytest.fixture
def text_model(tmp_path: Path) -> Path:
    """A language model without vision, as transformers saves it."""
    config = Qwen2Config(
        vocab_size=600, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(tmp_path / "text")
    AutoTokenizer.from_pretrained(model_folder("tiny")).save_pretrained(tmp_path / "text")
    return tmp_path / "text"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "a model without vision (model_type 'qwen2', no vision_config in config.json)"),
        (["family=qwen2.5-vl"], "model_type 'qwen2' is no vision-language model"),
        (["family=plain", "--dry-run"], "model_type 'qwen2' is no vision-language model"),
    ],
)
def test_a_model_without_vision(
    more: list[str],
    words: str,
    text_model: Path,
    scene_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump_recipe(tiny_recipe(scene_folder, tmp_path / "run")))
    assert main(["train", str(recipe), f"model={text_model}", *more]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"boxrl: {text_model}: {words}")
    assert told.count("\n") == 1
    assert "such as Qwen2.5-VL" in told
    assert not (tmp_path / "run").exists()


def test_images_that_only_torchvision_prepares_are_refused_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "paligemma"}))
    monkeypatch.setattr(processors, "HAS_TORCHVISION", False)
    with pytest.raises(UsageError, match=r"'paligemma' are prepared with torchvision.*pip install"):
        processors.load_processor(tmp_path)
