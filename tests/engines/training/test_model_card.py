"""An exported folder says where it comes from and how to ask it, and loads without boxrl."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from boxrl.cli import main

pytest.importorskip("torch")

from boxrl.engines.training.model_card import showing_commands, write_card
from boxrl.families import FAMILIES

PLAIN = """
import sys
from boxrl.engines.torchvision_repair import repair_torchvision
repair_torchvision()  # of this machine; nothing else of boxrl is used
from transformers import AutoModelForImageTextToText, AutoProcessor
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1])
processor = AutoProcessor.from_pretrained(sys.argv[1])
print(type(model).__name__, type(processor).__name__, "boxrl.engines.loading" in sys.modules)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, scene_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("card")
    samples = str(scene_folder / "samples.jsonl")
    recipe = {
        "name": "own", "method": "grpo", "model": "tiny", "out": str(folder / "run"),
        "max_pixels": 12740, "rewards": ["format", {"name": "f1", "weight": 2}],
        "data": {"train": samples, "test": samples, "images": str(scene_folder / "images")},
        "engine": {"device": "cpu", "threads": 1},
        "train": {"max_steps": 1, "max_completion_length": 32, "prompts_per_step": 2,
                  "num_generations": 2, "validate_samples": 4},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["train", str(folder / "recipe.yaml")]) in (0, None)
    return folder / "run"


def test_the_card_says_what_it_is_and_how_to_use_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "my_model"
    assert main(["export", str(run), "--out", str(out)]) in (0, None)
    assert f"vllm serve {out} --served-model-name my_model --gen" in capsys.readouterr().out
    card = (out / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["tags"] == ["boxrl", "object-detection", "grpo"]
    for said in (
        "trained by GRPO from `tiny`",
        "data: `samples.jsonl`",
        "rewards: `format`, `f1`",
        "targets: cat; dog.",
        "family `qwen2.5-vl`",
        "and 12,740 pixels",
        "| 4 samples | before | after | difference, 95 % interval |",
        "Protocol: prompt standard",
        "vllm serve my_model --served-model-name my_model --generation-config vllm",
        "lmms_eval --model vllm --model_args model=my_model ",
        '"max_pixels": 12740',
        'boxrl.load("my_model")',
    ):
        assert said in body
    assert str(tmp_path) not in card


def test_commands_ask_a_model_as_it_was_trained(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "name: own\nmethod: sft\nprompt: enhanced\nthinking: false\n"
    )
    (tmp_path / "my model").mkdir()
    keys = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    shown, served = showing_commands(tmp_path / "my model", FAMILIES["plain"], keys)
    assert shown == f"boxrl demo --model '{tmp_path}/my model' --prompt enhanced --thinking off"
    assert served.startswith(f"vllm serve '{tmp_path}/my model' --served-model-name 'my model' ")
    write_card(tmp_path / "my model", FAMILIES["lfm2-vl"], "tiny", tmp_path)
    card = (tmp_path / "my model" / "README.md").read_text()
    assert "as family `lfm2-vl` of boxrl has them: in shares of the image, from 0 to 1." in card
    assert card.count(" --model 'my model' --prompt enhanced --thinking off") == 3
    assert (
        'load("my model", thinking=False).ask("image.jpg", "cat, dog", prompt="enhanced")' in card
    )


def test_the_card_of_a_checkpoint_has_its_own_step_and_figures(run: Path, tmp_path: Path) -> None:
    left = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(left / "model")  # as if it had been interrupted
    recipe = (left / "recipe.yaml").read_text()
    (left / "recipe.yaml").write_text(recipe.replace("max_steps: 1", "max_steps: 9"))
    assert main(["export", str(left), "--out", str(tmp_path / "out")]) in (0, None)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "- steps: 1 of 9" in card
    assert "- mAP on the validation samples: 0." in card
    assert "before | after" not in card


def test_a_comparison_of_evaluations_made_anew_is_left_out(run: Path, tmp_path: Path) -> None:
    left = shutil.copytree(run, tmp_path / "run")
    metrics = left / "evals" / "after" / "metrics.json"
    content = json.loads(metrics.read_text())
    metrics.write_text(json.dumps(content | {"mAP": 0.123}))
    assert main(["export", str(left), "--out", str(tmp_path / "out")]) in (0, None)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "before | after" not in card
    assert "| mAP | 0.123 |" in card


def test_every_table_has_its_own_protocol(run: Path, tmp_path: Path) -> None:
    left = shutil.copytree(run, tmp_path / "run")
    (left / "compare.json").unlink()
    metrics = left / "evals" / "after" / "metrics.json"
    content = json.loads(metrics.read_text())
    sampling = {"temperature": 1.0, "n": 1}
    protocol = content["protocol"] | {"sampling": sampling}
    metrics.write_text(json.dumps(content | {"protocol": protocol}))
    assert main(["export", str(left), "--out", str(tmp_path / "out")]) in (0, None)
    card = (tmp_path / "out" / "README.md").read_text()
    first, second = (part for part in card.split("| after, ")[1:] + [card.split("| after, ")[0]])
    assert "sampling temperature 1.0" in first.partition("| before, ")[0]
    assert "sampling temperature 1.0" not in second


def test_its_classes_are_those_of_transformers(run: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    out = tmp_path / "my_model"
    assert main(["export", str(run), "--out", str(out)]) in (0, None)
    model = AutoModelForImageTextToText.from_pretrained(out)
    processor = AutoProcessor.from_pretrained(out)
    assert type(model).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert {type(x).__module__.partition(".")[0] for x in (model, processor)} == {"transformers"}


@pytest.mark.slow
def test_it_loads_in_plain_transformers(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "my_model"
    assert main(["export", str(run), "--out", str(out)]) in (0, None)
    call = [sys.executable, "-c", PLAIN, str(out)]
    found = subprocess.run(call, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split()[-1] == "False"
    assert "Qwen2_5_VL" in found.stdout


def test_what_files_say_ends_no_table_and_no_code(run: Path, tmp_path: Path) -> None:
    path = run / "recipe.yaml"
    kept = path.read_text()
    recipe = yaml.safe_load(kept)
    recipe["data"]["train"] = "a`b|c\n# d.jsonl"
    path.write_text(yaml.safe_dump(recipe))
    try:
        assert main(["export", str(run), "--out", str(tmp_path / "m")]) in (0, None)
    finally:
        path.write_text(kept)
    assert "- data: `a'b/c # d.jsonl`" in (tmp_path / "m/README.md").read_text()
