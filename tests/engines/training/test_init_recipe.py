"""`boxrl init`: recipes that load whatever the files are called, wrong calls in one line."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.config import find_recipe, load_recipe
from boxrl.families import FAMILIES
from boxrl.generation.model_folders import PACKAGED


def init(folder: Path, **options: str) -> list[str]:
    given = {"samples": str(folder / "samples.jsonl"), "images": str(folder / "images")}
    given = {**given, "model": "tiny", **options}
    pairs = ((f"--{key.replace('_', '-')}", value) for key, value in given.items())
    return ["init", *(part for pair in pairs for part in pair)]


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("2017", "2017"),
        ("1e6", "1e6"),
        ("my train", "my-train"),
        ("null", "null"),
        ("é", "samples"),
    ],
)
def test_odd_file_names_give_a_recipe_that_loads(
    scene_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    stem: str,
    name: str,
) -> None:
    samples, images = tmp_path / f"{stem}.jsonl", tmp_path / "im #1: a"
    shutil.copy(scene_folder / "samples.jsonl", samples)
    images.mkdir()
    assert main(init(tmp_path, samples=str(samples), images=str(images), method="sft")) == 0
    text = capsys.readouterr().out
    assert "\n\n" not in text
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    loaded = load_recipe(recipe)
    assert (loaded.name, loaded.out) == (name, Path("runs") / f"{name}-sft")
    assert (loaded.data.train, loaded.data.images) == (samples, images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "nope"}, "--images: no folder nope"),
        ({"gpus": "0"}, "--gpus must be at least 1, got 0"),
        ({"gpu_memory": "0"}, "--gpu-memory must be a positive number of GB, got 0"),
        ({"gpu_memory": "-5"}, "--gpu-memory must be a positive number of GB, got -5"),
        ({"gpu_memory": "nan"}, "--gpu-memory must be a positive number of GB, got nan"),
    ],
)
def test_a_wrong_call_is_one_line(
    scene_folder: Path,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, str],
    message: str,
) -> None:
    assert main(init(scene_folder, **options)) == 2
    assert capsys.readouterr().err == f"boxrl: {message}\n"


def test_predictions_do_not_go_into_a_folder(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["predict", *init(scene_folder)[1:], "--out", str(tmp_path)]
    assert main(call) == 2
    assert f"--out: {tmp_path} is a folder; take {tmp_path}/pred" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["tiny", str(PACKAGED["tiny"])])
def test_a_narrow_model_gets_settings_that_teach_it(
    model: str, scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(init(scene_folder, model=model)) == 0
    text = capsys.readouterr().out
    assert "vllm" not in text
    (tmp_path / "recipe.yaml").write_text(text)
    train = load_recipe(tmp_path / "recipe.yaml").train
    quickstart = load_recipe(find_recipe("quickstart")).train
    assert train.learning_rate == quickstart.learning_rate
    assert train.max_completion_length == quickstart.max_completion_length
    answer = re.search(r"the longest right answer has (\d+ tokens)", text)
    assert main(["validate", str(tmp_path / "recipe.yaml")]) == 0
    assert answer is not None
    assert f"of 12 gold answers has {answer[1]} of 96" in capsys.readouterr().out
    assert main(init(scene_folder, model=model, method="sft")) == 0
    said = capsys.readouterr().out
    assert "learning_rate: 1.0e-03" in said and "30.0 times through 12 samples" in said


def test_held_out_samples_are_wired_in(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = scene_folder / "samples.jsonl"
    assert main(init(scene_folder, validation=str(held_out))) == 0
    (tmp_path / "recipe.yaml").write_text(capsys.readouterr().out)
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert (recipe.data.test, recipe.train.validate_samples) == (held_out, 12)
    assert (recipe.train.max_steps, recipe.train.prompts_per_step) == (15, 8)


def write_model(folder: Path, **text: int) -> Path:
    """A Qwen2.5-VL of the 3B's width and a ninth of its depth, without weights."""
    from transformers import Qwen2_5_VLConfig

    sizes = {
        "hidden_size": 2048, "intermediate_size": 11_008, "num_hidden_layers": 4,
        "num_attention_heads": 16, "num_key_value_heads": 2,
    }  # fmt: skip
    config = Qwen2_5_VLConfig(
        text_config=sizes | text, vision_config={"out_hidden_size": 2048, "depth": 4}
    )
    config.dtype = "bfloat16"
    config.save_pretrained(folder)
    processor = {"min_pixels": 3136, "max_pixels": 12_845_056, "patch_size": 14, "merge_size": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def photographs(folder: Path) -> Path:
    """Samples of 12 megapixels; `init` opens none of their images."""
    rows = [
        {"id": str(n), "image": f"{n}.jpg", "width": 4000, "height": 3000, "task": "detection",
         "labels": ["cat"], "objects": []}
        for n in range(3)
    ]  # fmt: skip
    (folder / "images").mkdir()
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.slow  # micro-batches of 3 billion weights are counted
def test_large_photographs_get_a_limit_with_its_price(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, model = photographs(tmp_path), str(write_model(tmp_path / "model"))
    assert main(init(folder, model=model, gpu_memory="24")) == 0
    text = capsys.readouterr().out
    assert (
        "max_pixels: 1003520 # 1,230 tokens an image, at most 1,230; "
        "at the model's own limit 15,301 tokens an image, at most 15,301\n" in text
    )
    assert "by LoRA" in text.partition("\n")[0]
    (tmp_path / "recipe.yaml").write_text(text)
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert (recipe.min_pixels, recipe.max_pixels) == (None, 1_003_520)


@pytest.mark.slow  # micro-batches of 3 billion weights are counted
def test_a_limit_that_fits_already_is_only_suggested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, model = photographs(tmp_path), str(write_model(tmp_path / "model"))
    assert main(init(folder, model=model, gpu_memory="400")) == 0
    text = capsys.readouterr().out
    assert "# max_pixels: 1003520 # 1,230 tokens an image" in text
    (tmp_path / "recipe.yaml").write_text(text)
    assert load_recipe(tmp_path / "recipe.yaml").max_pixels is None


def test_a_limit_that_saves_nothing_is_not_suggested() -> None:
    from boxrl.engines.training.init_recipe import _limit_line

    recipe, family = load_recipe(find_recipe("quickstart")), FAMILIES["qwen2.5-vl"]
    assert _limit_line(recipe, family, Counter({(320, 240): 6})) == ""
    assert _limit_line(recipe, family, Counter({(4000, 3000): 6})).startswith("# max_pixels: ")


def test_a_limit_that_is_named_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, model = photographs(tmp_path), str(write_model(tmp_path / "model"))
    named = {"min_pixels": "50176", "max_pixels": "401408"}
    assert main(init(folder, model=model, gpu_memory="24", **named)) == 0
    text = capsys.readouterr().out
    assert "min_pixels: 50176\nmax_pixels: 401408 # 494 tokens an image" in text
    proposed = "  # trl: {use_vllm: true, vllm_enable_sleep_mode: true} # vLLM draws"
    assert f"{proposed} the completions, in 6.7 GiB that sleep while it trains" in text
    assert main(init(folder, model=model, gpu_memory="2", **named)) == 2
    assert "at a time and images of 401,408 pixels needs" in capsys.readouterr().err
    assert main(init(folder, model=model, max_pixels="100")) == 2
    assert "max_pixels 100 is below one patch" in capsys.readouterr().err
