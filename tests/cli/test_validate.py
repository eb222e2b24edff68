"""`boxrl validate` finds what needs no GPU: lengths, chat template, adapters, trackers."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from boxrl.cli import main
from boxrl.generation.model_folders import model_folder

pytest.importorskip("tokenizers")

SMALL = ("data.synthetic.train=20", "data.synthetic.test=2")


def validate(*overrides: str) -> int:
    return main(["validate", "quickstart", *SMALL, *overrides])


def lengths(capsys: pytest.CaptureFixture[str], *overrides: str) -> list[dict]:
    capsys.readouterr()
    validate(*overrides, "--json")
    found: list[dict] = json.loads(capsys.readouterr().out)["lengths"]
    return found


def test_gold_answers_that_would_be_cut_are_told_with_their_share(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert validate() == 0
    assert "the longest of 20 gold answers has" in capsys.readouterr().out
    assert validate("train.max_completion_length=30") == 1
    out = " ".join(capsys.readouterr().out.split())
    (found,) = lengths(capsys, "train.max_completion_length=30")
    assert 0 < found["cut"] < 20
    assert found["share"] == found["cut"] / 20
    assert (
        f"error: {found['cut']} of 20 gold answers ({found['share']:.1%}) are longer than "
        f"train.max_completion_length, 30 tokens, and would be cut (sample {found['sample']!r}: "
        f"{found['longest']} tokens)"
    ) in out
    assert lengths(capsys, f"train.max_completion_length={found['longest']}")[0]["cut"] == 0


def test_lengths_are_those_that_the_model_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """The longest gold answer fills the limit exactly, its end token included."""
    pytest.importorskip("torch")
    from boxrl.data.synthetic import mixed_scenes
    from boxrl.engines.loading import load_processor
    from boxrl.families import read_family
    from boxrl.prompts import PROMPTS, render_messages, render_target

    folder = model_folder("tiny")
    processor, family = load_processor(folder), read_family(folder)
    scenes = list(mixed_scenes("standard", 20, 0, "train", 0.3))
    answers = [render_target(scene.sample, family) for scene in scenes]
    counted = [len(processor.tokenizer(text)["input_ids"]) + 1 for text in answers]
    assert lengths(capsys)[0]["longest"] == max(counted)
    messages = [render_messages(scene.sample, PROMPTS["standard"], family) for scene in scenes]
    for one, scene in zip(messages, scenes, strict=True):
        one[-1]["content"][0]["image"] = scene.image
    prompts = [
        len(processor.apply_chat_template(
            one, add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"][0])
        for one in messages
    ]  # fmt: skip
    whole = max(map(sum, zip(prompts, counted, strict=True)))
    (found,) = lengths(capsys, "method=sft", "train.trl={max_length: 5}", "rewards=[f1]")
    assert (found["key"], found["longest"], found["cut"]) == ("train.trl.max_length", whole, 20)
    assert found["of"] == "prompts with their images and answers"


def test_a_model_without_chat_template_is_not_valid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(model_folder("tiny"), folder)
    (folder / "chat_template.jinja").unlink()
    assert validate(f"model={folder}") == 2
    assert "has no chat template" in capsys.readouterr().err


def test_unknown_lengths_are_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "m"
    shutil.copytree(model_folder("tiny"), folder)
    (folder / "tokenizer.json").rename(folder / "other.json")
    assert validate(f"model={folder}") == 0
    assert "lengths in tokens are not known" in capsys.readouterr().out
    (folder / "tokenizer.json").write_text("{}")
    assert validate(f"model={folder}") == 2
    assert "no tokenizer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "train.lora={r: 2, target_modules: [q_proj, lm_head]}",
            "TRL reads the weights of lm_head",
        ),
        ("train.lora={r: 2, target_modules: [q_prj]}", "has no module 'q_prj'; did you mean q_p"),
        ("train.trl={report_to: [wandb]}", "train.trl.report_to: wandb is not installed"),
        ("train.trl={report_to: wandb}", "run: pip install wandb"),
    ],
)
def test_what_the_model_or_the_machine_lacks_is_told(
    override: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "wandb" in override and importlib.util.find_spec("wandb"):
        pytest.skip("wandb is installed")
    assert validate(override) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.split("boxrl: ")) == 2


def test_rewards_that_apply_to_no_sample_are_a_problem_of_grpo(
    capsys: pytest.CaptureFixture[str],
) -> None:
    counting = "data.synthetic.world=counting"
    assert validate(counting) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "error: f1 applies to none of the counting samples" in out
    assert "a reward for them: count" in out
    assert validate(counting, "rewards=[format, f1, count]") == 0
    assert validate(counting, "rewards=[format]") == 0
    assert validate(counting, "method=sft") == 0
