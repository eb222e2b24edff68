"""Pixel limits, one setting: from every door that takes them to everything that they move."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from boxrl.cli import main  # noqa: E402
from boxrl.config import Recipe, dump_recipe, load_recipe  # noqa: E402
from boxrl.data.predictions import meta_path, read_predictions  # noqa: E402
from boxrl.data.samples import read_samples, write_samples  # noqa: E402
from boxrl.engines.answers import score_answers  # noqa: E402
from boxrl.engines.build import EngineOptions, find_family, recipe_options  # noqa: E402
from boxrl.engines.loading import load_processor  # noqa: E402
from boxrl.engines.training.export import export  # noqa: E402
from boxrl.engines.training.memory import estimate  # noqa: E402
from boxrl.engines.training.train import train  # noqa: E402
from boxrl.errors import DataError, RecipeError, UsageError  # noqa: E402
from boxrl.families import read_family  # noqa: E402
from boxrl.generation.model_folders import model_folder  # noqa: E402
from tests.support.recipes import tiny_recipe  # noqa: E402

LIMITS = {"min_pixels": 12_544, "max_pixels": 28_224}
"""224 x 224 scenes become 168 x 168; by the tiny model's own limits, 112 x 112."""


def call(scene_folder: Path, out: Path, *more: str, model: str = "tiny-taught") -> list[str]:
    return [
        "predict",
        *("--samples", str(scene_folder / "samples.jsonl")),
        *("--images", str(scene_folder / "images")),
        *("--model", model, "--out", str(out), "--max-new-tokens", "48", *more),
    ]


def test_predict_shows_images_in_the_limits_and_says_so(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p.jsonl"
    assert main(call(scene_folder, out, "--limit", "3", "--max-pixels", "28224")) == 0
    assert {row.input_size_wh for row in read_predictions(out).values()} == {(168, 168)}
    meta = json.loads(meta_path(out).read_text())
    assert {key: meta[key] for key in LIMITS} == LIMITS
    samples = tmp_path / "three.jsonl"
    write_samples(samples, read_samples(scene_folder / "samples.jsonl")[:3])
    capsys.readouterr()
    assert main(["evaluate", "--samples", str(samples), "--predictions", str(out), "--json"]) == 0
    protocol = json.loads(capsys.readouterr().out)["protocol"]
    assert {key: protocol[key] for key in LIMITS} == LIMITS
    assert main(call(scene_folder, out, "--limit", "3")) == 2
    assert "max_pixels: 28224 there, 12740 now" in capsys.readouterr().err


@pytest.mark.parametrize("side", [64, 200, 350, 640])
def test_the_processor_shows_what_the_family_says(side: int) -> None:
    family = read_family(model_folder("tiny"), **LIMITS)
    processor = load_processor(model_folder("tiny"), family).image_processor
    for size in ((side, side), (side, 2 * side), (3 * side, side)):
        grid = processor(Image.new("RGB", size), return_tensors="pt")["image_grid_thw"][0]
        assert (int(grid[2]) * 14, int(grid[1]) * 14) == family.input_size_wh(size)


def test_a_processor_that_resizes_in_another_way_is_refused() -> None:
    family = replace(read_family(model_folder("tiny")), factor=32)
    with pytest.raises(UsageError, match="its image processor shows an image of 64 x 64 pixels as"):
        load_processor(model_folder("tiny"), family)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--max-pixels", "700"), "max_pixels 700 is below one patch"),
        (("--min-pixels", "500", "--max-pixels", "490"), "below one patch"),
        (("--min-pixels", "9000", "--max-pixels", "8000"), "min_pixels 9,000 is above max_pixels"),
        (("--min-pixels", "99999"), "is above max_pixels 12,740"),
    ],
)
@pytest.mark.parametrize("engine", ["transformers", "vllm", "openai"])
def test_limits_that_contradict_are_one_line(
    scene_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    engine: str,
    options: tuple[str, ...],
    said: str,
) -> None:
    server = ("--base-url", "http://127.0.0.1:9/v1") if engine == "openai" else ()
    more = ("--engine", engine, *server, *options)
    assert main(call(scene_folder, tmp_path / "p.jsonl", *more)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("engine", "option", "value", "said"),
    [
        ("openai", "--extra-body", '{"mm_processor_kwargs": {"max_pixels": 9}}', "'max_pixels'"),
        ("vllm", "--engine-arg", "mm_processor_kwargs={max_pixels: 9}", "'max_pixels'"),
        ("vllm", "--engine-arg", "mm_processor_kwargs={size: {longest_edge: 9}}", "'longest_edge'"),
    ],
)
def test_limits_by_another_door_are_one_line(
    scene_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    engine: str,
    option: str,
    value: str,
    said: str,
) -> None:
    more = ("--engine", engine, option, value)
    assert main(call(scene_folder, tmp_path / "p.jsonl", *more)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"boxrl: {option}: {said} would move the frame")
    assert error.count("\n") == 1


def test_a_family_without_limits_takes_none(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--engine", "openai", "--base-url", "http://127.0.0.1:9/v1", "--family", "internvl")
    arguments = call(scene_folder, tmp_path / "p", *options, "--max-pixels", "9999", model="served")
    assert main(arguments) == 2
    assert "family 'internvl' has no pixel limits" in capsys.readouterr().err


def write_recipe(folder: Path, **changes: object) -> Path:
    content = {"name": "a", "method": "grpo", "data": {"synthetic": {"train": 8}}, **changes}
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"min_pixels": 9, "max_pixels": 8}, "min_pixels 9 is above max_pixels 8"),
        ({"max_pixels": "many"}, "max_pixels: "),
        ({"max_pixels": 0}, "max_pixels: "),
        ({"family": "internvl", "max_pixels": 9999}, "'internvl' has no pixel limits"),
        ({"family": "qwen2.5-vl", "max_pixels": 99}, "below one patch"),
        ({"train": {"trl": {"max_pixels": 401_408}}}, "train.trl: 'max_pixels' would move"),
        ({"train": {"trl": {"generation_kwargs": {"mm_processor_kwargs": {"size": {
            "longest_edge": 9}}}}}}, "train.trl: 'longest_edge' would move"),
    ],
)  # fmt: skip
def test_mistakes_in_a_recipes_limits_are_told(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(RecipeError) as told:
        load_recipe(write_recipe(tmp_path, **changes))
    assert said in str(told.value)


def limited(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update=LIMITS)


def test_a_recipes_limits_reach_estimate_and_engine(scene_folder: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(scene_folder, tmp_path / "run")
    loads = [estimate(r).memory["images"] for r in (recipe, limited(recipe))]
    assert loads[1] == pytest.approx(loads[0] * (168 / 112) ** 2)
    assert find_family(recipe_options(limited(recipe), "tiny")).max_pixels == 28_224


@pytest.mark.parametrize("lora", [None, {"r": 2, "alpha": 4}], ids=["whole", "lora"])
@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_a_trained_model_keeps_the_limits_that_it_was_trained_with(
    scene_folder: Path, tmp_path: Path, method: str, lora: object
) -> None:
    recipe = limited(
        tiny_recipe(
            scene_folder, tmp_path / "run", method=method, max_steps=1, num_generations=2,
            max_completion_length=8, prompts_per_step=2, lora=lora, save_steps=1,
        )
    )  # fmt: skip
    folder = train(recipe, score=score_answers)
    assert read_family(folder).limits() == {**LIMITS, "factor": 28}
    export(tmp_path / "run/checkpoints/checkpoint-1", tmp_path / "exported", base="tiny")
    assert read_family(tmp_path / "exported").limits() == {**LIMITS, "factor": 28}
    size = load_processor(tmp_path / "exported").image_processor.size
    assert (size["shortest_edge"], size["longest_edge"]) == tuple(LIMITS.values())


def test_a_model_folder_without_other_limits_is_copied_byte_for_byte(
    scene_folder: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(
        scene_folder, tmp_path / "run", max_steps=1, num_generations=2, max_completion_length=8,
        prompts_per_step=2,
    )  # fmt: skip
    trained, source = train(recipe), model_folder("tiny")
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (source / name).is_file():
            assert (trained / name).read_bytes() == (source / name).read_bytes()


def with_a_thin_image(scene_folder: Path, folder: Path) -> Path:
    """The scenes, an image of 1093 x 5 pixels and a missing one among them."""
    shutil.copytree(scene_folder, folder, dirs_exist_ok=True)
    Image.new("RGB", (1093, 5)).save(folder / "images/thin.png")
    samples = read_samples(folder / "samples.jsonl")[:4]
    thin = replace(
        samples[0], id="thin", image="thin.png", width=1093, height=5, objects=(), meta={}
    )
    gone = replace(samples[0], id="gone", image="gone.png", objects=(), meta={})
    write_samples(folder / "samples.jsonl", [*samples[:2], thin, gone, *samples[2:]])
    return folder


@pytest.mark.parametrize("draws", [1, 2])
def test_an_image_that_cannot_be_shown_costs_its_own_row_alone(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], draws: int
) -> None:
    folder = with_a_thin_image(scene_folder, tmp_path / "data")
    out = tmp_path / "p.jsonl"
    options = ("--n", "2", "--temperature", "1") if draws == 2 else ()
    assert main(call(folder, out, *options)) == 1
    assert f"{2 * draws} completions ended in error" in capsys.readouterr().err
    rows = read_predictions(out)
    assert len(rows) == 6 * draws
    failed = {key: row.error for key, row in rows.items() if row.finish_reason == "error"}
    assert len(failed) == 2 * draws
    key = "thin" if draws == 1 else "thin#0"
    assert failed[key].startswith("sample 'thin': image of 1093 x 5 pixels: one side is more than")
    assert list(rows)[2 * draws] == key  # the file stands in the samples' order
    Image.new("RGB", (224, 224)).save(folder / "images/gone.png")
    assert main(call(folder, out, *options)) == 1
    assert len(read_predictions(out)) == 6 * draws
    assert sum(row.finish_reason == "error" for row in read_predictions(out).values()) == draws


def test_training_and_validate_name_an_image_that_cannot_be_shown(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = with_a_thin_image(scene_folder, tmp_path / "data")
    Image.new("RGB", (224, 224)).save(folder / "images/gone.png")
    recipe = tiny_recipe(folder, tmp_path / "run")
    with pytest.raises(DataError, match="sample 'thin': image of 1093 x 5 pixels: one side"):
        train(recipe)
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe))
    assert main(["validate", str(tmp_path / "r.yaml")]) == 1
    assert "processor refuses 1093 x 5 pixels" in capsys.readouterr().out


def test_a_wrong_images_folder_stops_after_a_few_rows(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = read_samples(scene_folder / "samples.jsonl")[0]
    write_samples(tmp_path / "s.jsonl", [replace(first, id=str(n)) for n in range(70)])
    (tmp_path / "none").mkdir()
    assert main([
        "predict", "--samples", str(tmp_path / "s.jsonl"), "--images", str(tmp_path / "none"),
        "--model", "tiny", "--out", str(tmp_path / "p.jsonl"),
    ]) == 1  # fmt: skip
    error = capsys.readouterr().err
    assert "completions all ended in error (sample '0': no image" in error


def test_engine_options_take_limits_in_python() -> None:
    assert find_family(EngineOptions("tiny", max_pixels=28_224)).max_pixels == 28_224
