"""What TRL, peft, transformers and processors refuse is one line with the key or the sample."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from boxrl.cli import main  # noqa: E402
from boxrl.data.predictions import read_predictions  # noqa: E402
from boxrl.data.samples import read_samples  # noqa: E402
from boxrl.engines.loading import load_processor  # noqa: E402
from boxrl.engines.training.preprocessing import _flat  # noqa: E402
from boxrl.engines.training.train import train, train_run  # noqa: E402
from boxrl.errors import DataError, UsageError  # noqa: E402
from boxrl.generation.model_folders import model_folder  # noqa: E402
from boxrl.types import Sample  # noqa: E402
from tests.support.recipes import tiny_recipe  # noqa: E402

NO_WANDB = pytest.mark.skipif(
    importlib.util.find_spec("wandb") is not None, reason="wandb is installed"
)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "output layer": (
        {"lora": {"r": 2, "target_modules": ["q_proj", "lm_head"]}},
        "train.lora.target_modules: TRL reads the weights of lm_head past any adapter",
    ),
    "no such layer": (
        {"lora": {"r": 2, "target_modules": ["q_prj"]}},
        r"train.lora.target_modules: .* has no module 'q_prj'; did you mean q_proj",
    ),
    "no layer of a pattern": (
        {"lora": {"r": 2, "target_modules": r".*\\.nothing"}},
        "train.lora.target_modules: peft refuses the recipe: .*not found in the base model",
    ),
    "a pattern that is none": (
        {"lora": {"r": 2, "target_modules": "["}},
        "train.lora: peft refuses the recipe: unterminated character set",
    ),
    "no such option": (
        {"trl": {"los_type": "dapo"}},
        "train.trl.los_type: GRPOConfig has no such option; did you mean loss_type",
    ),
    "a seed that is none": (
        {"trl": {"seed": -1}},
        "train.trl.seed: accelerate refuses the recipe: Seed must be between 0 and",
    ),
    "a layer of a kind without adapters": (
        {"lora": {"r": 2, "target_modules": ["input_layernorm"]}},
        "train.lora.target_modules: peft refuses the recipe: .*is not supported",
    ),
    "a cut image": (
        {"method": "sft", "trl": {"max_length": 9}},
        "train.trl.max_length: trl refuses the recipe: The current `max_length` .9. is too short",
    ),
    "an unknown tracker": (
        {"trl": {"report_to": ["tensorbord"]}},
        "train.trl.report_to: transformers refuses the recipe: tensorbord is not supported",
    ),
}


@pytest.mark.parametrize(("options", "said"), REFUSED.values(), ids=REFUSED)
def test_what_a_library_refuses_names_the_key(
    options: dict[str, Any], said: str, scene_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said) as told:
        train_run(tiny_recipe(scene_folder, tmp_path / "run", max_steps=1, **options))
    assert "\n" not in str(told.value)


@NO_WANDB
def test_a_tracker_that_is_not_installed_is_named(scene_folder: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(scene_folder, tmp_path / "run", trl={"report_to": ["wandb"]})
    with pytest.raises(UsageError, match=r"train.trl.report_to: wandb is not installed; run: pip"):
        train_run(recipe, begin=lambda recipe: pytest.fail("the model has answered before"))
    assert not recipe.out.exists()


def test_a_mistake_of_boxrl_itself_keeps_its_traceback(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise KeyError("mine")

    monkeypatch.setattr("boxrl.engines.training.grpo.build_dataset", broken)
    with pytest.raises(KeyError, match="mine"):
        train(tiny_recipe(scene_folder, tmp_path / "run"))


@pytest.fixture
def without_template(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(model_folder("tiny-taught"), folder)
    (folder / "chat_template.jinja").unlink()
    return folder


def test_a_model_without_chat_template_is_refused(
    without_template: Path, scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p.jsonl"
    call = [
        "predict", "--samples", f"{scene_folder / 'samples.jsonl'}", "--images",
        f"{scene_folder / 'images'}", "--model", f"{without_template}", "--out", f"{out}",
    ]  # fmt: skip
    assert main(call) == 2
    assert "has no chat template (chat_template.jinja" in capsys.readouterr().err
    for method in ("grpo", "sft"):
        recipe = tiny_recipe(
            scene_folder, tmp_path / method, method=method, model=f"{without_template}"
        )
        with pytest.raises(UsageError, match="has no chat template"):
            train(recipe)


def test_a_template_that_the_tokenizer_alone_has_is_taken(
    without_template: Path, scene_folder: Path, tmp_path: Path
) -> None:
    config = without_template / "tokenizer_config.json"
    template = (model_folder("tiny-taught") / "chat_template.jinja").read_text()
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": template}))
    recipe = tiny_recipe(
        scene_folder, tmp_path / "run", method="sft", max_steps=1, model=f"{without_template}"
    )
    assert train(recipe).is_dir()


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, scene_folder: Path, samples: list[Sample]) -> str:
    """The id of a sample whose image the processor refuses."""
    processor = type(load_processor(model_folder("tiny")).image_processor)
    original = processor.preprocess
    pixels = Image.open(scene_folder / "images" / samples[2].image).convert("RGB").tobytes()

    def preprocess(self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        if any(isinstance(i, Image.Image) and i.tobytes() == pixels for i in _flat(images)):
            raise ValueError("height and width must be\nlarger than factor")
        return original(self, images, *args, **kwargs)

    monkeypatch.setattr(processor, "preprocess", preprocess)
    return samples[2].id


@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_an_image_that_the_processor_refuses_names_its_sample_in_training(
    method: str, refused: str, scene_folder: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(scene_folder, tmp_path / "run", method=method, max_steps=3)
    said = rf"sample '{refused}': the image processor refuses its image .height and width"
    with pytest.raises(DataError, match=said) as told:
        train(recipe)
    assert "\n" not in str(told.value)


def test_an_image_that_the_processor_refuses_costs_its_own_row(
    refused: str, scene_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "p.jsonl"
    call = [
        "predict", "--samples", f"{scene_folder / 'samples.jsonl'}", "--images",
        f"{scene_folder / 'images'}", "--model", "tiny-taught", "--out", f"{out}",
        "--max-new-tokens", "8",
    ]  # fmt: skip
    assert main(call) == 1
    rows = read_predictions(out)
    failed = {row.id for row in rows.values() if row.finish_reason == "error"}
    assert failed == {refused}
    assert "the image processor refuses its image" in (rows[refused].error or "")
    assert len(rows) == len(read_samples(scene_folder / "samples.jsonl"))
