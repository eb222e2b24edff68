import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from boxrl.config import Recipe, Train, asking_options, dump_recipe, load_recipe
from boxrl.errors import RecipeError, UsageError

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
MINIMAL = "name: x\nmethod: grpo\nout: runs/x\ndata: {synthetic: {}}\n"
WORLD = "name: x\nmethod: grpo\ndata: {{synthetic: {{world: {}}}}}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid(path: Path) -> None:
    assert isinstance(load_recipe(path, check_files=False), Recipe)


def test_a_resolved_recipe_loads_as_itself(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL), ["train.lora={r: 8}", "rewards=[format, ap]"])
    assert load_recipe(write(tmp_path, dump_recipe(recipe))) == recipe


def test_overrides_reach_nested_keys_and_read_yaml_values(tmp_path: Path) -> None:
    recipe = load_recipe(
        write(tmp_path, MINIMAL),
        [
            "train.learning_rate=2e-6",
            "train.trl.loss_type=dr_grpo",
            "method=sft",
            "train.beta=0.04",
        ],
    )
    assert recipe.train.learning_rate == 2e-6
    assert recipe.train.trl == {"loss_type": "dr_grpo"}
    assert recipe.method == "sft"
    assert recipe.train.beta == 0.04


def test_the_run_folder_is_named_after_recipe_and_method(tmp_path: Path) -> None:
    text = MINIMAL.replace("out: runs/x\n", "")
    assert load_recipe(write(tmp_path, text), ["method=sft"]).out == Path("runs/x-sft")


def test_a_float_without_a_point_is_a_number(tmp_path: Path) -> None:
    text = MINIMAL + "train: {learning_rate: 1e-6}\n"
    assert load_recipe(write(tmp_path, text)).train.learning_rate == 1e-6


def test_reward_weights_stand_beside_the_rewards(tmp_path: Path) -> None:
    text = MINIMAL + "rewards: [format, {name: weighted_sum, weight: 2, match_labels: before}]\n"
    recipe = load_recipe(write(tmp_path, text))
    assert [entry.weight for entry in recipe.rewards] == [1.0, 2.0]


NUMBERS = [
    "seed", "min_pixels", "max_pixels", "engine.threads", "data.synthetic.train",
    "data.synthetic.test", "data.synthetic.p_absent",
    *(f"train.lora.{key}" for key in ("r", "alpha", "dropout")),
    *(f"train.{key}" for key, field in Train.model_fields.items()
      if {int, float} & {field.annotation, *get_args(field.annotation)}),
]  # fmt: skip


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "-1", "true", "many"])
@pytest.mark.parametrize("key", NUMBERS)
def test_what_is_no_number_is_refused_for_every_number(key: str, value: str) -> None:
    quickstart = next(path for path in RECIPES if path.stem == "quickstart")
    with pytest.raises(RecipeError) as caught:
        load_recipe(quickstart, [f"{key}={value}"])
    assert caught.value.mistakes[0].startswith(f"{key}: ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.learning_rate", 3), ("train.vision_learning_rate", 3), ("train.beta", 1e4),
        ("train.temperature", 1e-9), ("train.temperature", 1e3), ("train.top_p", 1.5),
        ("train.lora.alpha", 10**7), ("engine.threads", 10**5), ("seed", 2**32),
    ],
)  # fmt: skip
def test_numbers_that_no_training_survives_are_refused(key: str, value: float) -> None:
    quickstart = next(path for path in RECIPES if path.stem == "quickstart")
    with pytest.raises(RecipeError, match=f"{key}: input should be"):
        load_recipe(quickstart, [f"{key}={value}"])


def test_three_mistakes_in_the_shipped_recipe_are_three_lines() -> None:
    path = next(path for path in RECIPES if path.stem == "quickstart")
    wrong = ["rewards=[fx]", "train.max_stepz=3", "prompt=zz"]
    with pytest.raises(RecipeError, match="3 mistakes in the recipe") as caught:
        load_recipe(path, wrong)
    assert len(caught.value.mistakes) == 3


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    text = MINIMAL + "rewards: [format, fa1]\ntrain: {learning_rat: 1e-6, num_generations: 1}\n"
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, text), ["model=no/such/folder"])
    message = str(caught.value)
    assert len(caught.value.mistakes) == 4
    assert "fa1" in message
    assert "train.learning_rat: unknown key; did you mean learning_rate?" in message
    assert "train.num_generations: input should be greater than or equal to 2, got 1" in message
    assert "model: no folder no/such/folder" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "name: y\n", "5: duplicate key 'name'"),
        ("- 1\n", "expected keys and values"),
        (MINIMAL + "prompt: shouting\n", "unknown prompt 'shouting'"),
        (MINIMAL + "family: gpt\n", "unknown family 'gpt'"),
        ("name: x\nmethod: grpo\nout: o\ndata: {}\n", "name either data.train or data.synthetic"),
        ("name: x\nout: o\ndata: {synthetic: {}}\n", "method: is missing"),
        (MINIMAL + "rewards: [{name: ap, thresold: 1}]\n", "has no argument 'thresold'"),
        (
            MINIMAL + "rewards: [{name: ap, weight: heavy}]\n",
            "weight must be a number, at most 1,000,000 either way, got 'heavy'",
        ),
        (
            MINIMAL + f"rewards: [{{name: ap, weight: {10**400}}}]\n",
            "either way, got 1000",
        ),
        (MINIMAL + "rewards: [{name: ap, weight: 1.0e+308}]\n", "at most 1,000,000 either way"),
        (MINIMAL + "rewards: [{name: ap, weight: 0}]\n", "all rewards have weight 0"),
        (MINIMAL + "rewards: [{name: ap, thresholds: [.nan]}]\n", "nan is no IoU"),
        (MINIMAL + "rewards: [f1, f1]\n", "duplicate reward 'f1'"),
        (MINIMAL + "train: {trl: {max_grad_norm: .nan}}\n", "trl.max_grad_norm is nan"),
        (
            WORLD.format("nowhere"),
            "data.synthetic.world: unknown world 'nowhere'; worlds: standard",
        ),
        (
            WORLD.format("{small: 1, large: 0}"),
            "world 'large': share 0; expected a positive number",
        ),
        (
            WORLD.format("{}"),
            "data.synthetic.world: expected the name of a world, or {name: share}",
        ),
        (WORLD.format("7"), "data.synthetic.world: expected the name of a world, or {name: share}"),
        (MINIMAL + "? [a]\n: 1\n", "5: ['a'] is not a valid key"),
        ("name: x\nmethod: grpo\nout: o\ndata: foo\n", "data: "),
        (
            MINIMAL + "train: {trl: {output_dir: elsewhere}}\n",
            "train.trl.output_dir would hide the checkpoints from --resume; use the recipe's key",
        ),
        (
            MINIMAL + "train: {prompts_per_image: 2, trl: {shuffle_dataset: false}}\n",
            "which train.trl.shuffle_dataset=false forbids; leave out one of them",
        ),
        (
            MINIMAL + "train: {average_last: 0.5, trl: {max_steps: 100}}\n",
            "train: trl.max_steps is a key of the recipe's own: train.max_steps",
        ),
        (
            MINIMAL.replace("grpo", "sft") + "train: {trl: {completion_only_loss: false}}\n",
            "completion_only_loss=false would teach the model to write prompts, with a placeholder",
        ),
        (
            MINIMAL + "train: {trl: {generation_kwargs: {temperature: 0.5}}}\n",
            "train: trl.generation_kwargs.temperature would hold for drawing completions and not",
        ),
        (
            MINIMAL + "train: {trl: {chat_template_path: mine.jinja}}\n",
            "train.trl.chat_template_path would hold for training alone, and the trained model be",
        ),
        (MINIMAL + "train: {trl: {num_train_epochs: 3}}\n", "would change nothing, for max_steps"),
        (
            MINIMAL + "train: {average_last: 0.5, trl: {save_strategy: epoch}}\n",
            "train: trl.save_strategy=epoch writes checkpoints that",
        ),
    ],
)
def test_one_mistake_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match="1 mistake in the recipe") as caught:
        load_recipe(write(tmp_path, text))
    assert message in str(caught.value)


def test_a_recipe_that_is_not_utf8_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"name: \xff\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_recipe(path)


def test_packaged_models_need_no_folder(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, MINIMAL), ["model=tiny-taught"]).model == "tiny-taught"


def test_loading_recipes_imports_no_torch() -> None:
    code = "import sys, boxrl.config, boxrl.rewards; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_recipe_says_how_its_model_is_asked() -> None:
    asked = {"prompt": "my `words`.yaml", "family": "qwen3-vl", "thinking": False}
    words = " --prompt 'my `words`.yaml' --family qwen3-vl --thinking off"
    assert asking_options(asked) == words
    assert asking_options({"prompt": "standard", "family": None, "thinking": None}) == ""


def test_samples_and_annotations_are_no_recipe_and_are_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"id": "1", "task": "detection", "labels": ["cat"]}\n{"id": "2"}\n')
    with pytest.raises(UsageError, match=r"a samples file of boxrl, .*\. boxrl init writes one"):
        load_recipe(path)
    path = tmp_path / "instances.json"
    path.write_text('{"images": [{"file_name": "a.png"}], "annotations": []}')
    with pytest.raises(UsageError, match="expected a recipe; it looks like a COCO file: boxrl"):
        load_recipe(path)
