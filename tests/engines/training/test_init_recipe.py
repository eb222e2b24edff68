"""`boxrl init`: recipes that load whatever the files are called, wrong calls in one line."""

import shutil
from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.config import find_recipe, load_recipe


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
    assert (loaded.name, loaded.out) == (name, Path("runs") / name)
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


def test_the_packaged_model_gets_settings_that_teach_it(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(init(scene_folder)) == 0
    (tmp_path / "recipe.yaml").write_text(capsys.readouterr().out)
    train = load_recipe(tmp_path / "recipe.yaml").train
    quickstart = load_recipe(find_recipe("quickstart")).train
    assert train.learning_rate == quickstart.learning_rate
    assert train.max_completion_length == quickstart.max_completion_length
