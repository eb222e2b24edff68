"""Whole optimizer steps of SFT: what packing changes is the time, not the weights nor the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from transformers import PrinterCallback  # noqa: E402

from boxrl.config import dump_recipe  # noqa: E402
from boxrl.engines.loading import load, quiet  # noqa: E402
from boxrl.engines.prefix import attention, shared_prefix  # noqa: E402
from boxrl.engines.training import sft  # noqa: E402
from boxrl.engines.training.sft import BoxSFTTrainer  # noqa: E402
from boxrl.engines.training.train import train, training_samples  # noqa: E402
from boxrl.errors import UsageError  # noqa: E402
from boxrl.families import read_family  # noqa: E402
from boxrl.generation.model_folders import model_folder  # noqa: E402
from boxrl.runs import Run  # noqa: E402
from tests.support.quick import quick_among  # noqa: E402
from tests.support.random_models import (  # noqa: E402
    IMAGE_FIRST,
    TOKENS,
    build_plain_model,
    build_processor,
)
from tests.support.recipes import tiny_recipe, write_questions  # noqa: E402

CHECKPOINTING = {
    "gradient_checkpointing": True,
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
}
EVERYTHING: dict[str, Any] = {
    "micro_batch_prompts": 3,
    "lora": {"r": 4, "alpha": 8},
    "trl": CHECKPOINTING,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "a step in one row": {},
    "two micro-batches": {"micro_batch_prompts": 3},
    "the text first": {"image_first": False},
    "LoRA, checkpointing": {"lora": {"r": 4, "alpha": 8}, "trl": CHECKPOINTING},
    "frozen vision": {"freeze_vision": True},
    "DFT": {"trl": {"loss_type": "dft"}},
    "Qwen3-VL with everything": {"kind": "qwen3-vl", **EVERYTHING},
    "Qwen3.5 with everything": {"kind": "qwen3.5", **EVERYTHING},
    "InternVL with everything": {"kind": "internvl", **EVERYTHING},
}
FIGURES = ("loss", "entropy", "mean_token_accuracy", "num_tokens")


def update(
    scenes: Path, out: Path, shared: bool | str, image_first: bool = True, **train: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Change of every trained parameter over two steps of gradient descent, and the log."""
    trl = {"optim": "sgd", "gradient_checkpointing": False, **train.pop("trl", {})}
    kind = train.pop("kind", None)
    options = {"prompts_per_step": 6, **train}
    recipe = tiny_recipe(
        scenes, out, method="sft", engine={"shared_prefix": shared}, trl=trl, **options
    )
    out.mkdir()
    asked = write_questions(scenes, out / "questions.jsonl", 3)
    data = recipe.data.model_copy(update={"train": asked})
    recipe = recipe.model_copy(update={"data": data})
    quiet()
    model, processor = load("tiny", "float32", "cpu", 1)
    family = read_family(model_folder("tiny"))
    if kind:
        tokens = {name: getattr(model.config, name) for name in TOKENS}
        model = build_plain_model(kind, 0, model.config.text_config.vocab_size, tokens)
        processor = build_processor(kind)
    if image_first:
        processor.chat_template = IMAGE_FIRST
    if recipe.train.freeze_vision:
        model.get_submodule(family.vision_module).requires_grad_(False)
    trainer = sft.build_trainer(recipe, model, processor, family, *training_samples(recipe))
    trainer.remove_callback(PrinterCallback)
    named = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in named.items()}
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    return {name: p.detach() - before[name] for name, p in named.items()}, rows


def relative_error(got: dict[str, Any], expected: dict[str, Any]) -> float:
    assert got.keys() == expected.keys()
    total = sum(change.square().sum() for change in expected.values()).sqrt()
    error = sum((got[n] - expected[n]).square().sum() for n in expected).sqrt()
    assert total > 1e-4
    return float(error / total)


@pytest.mark.parametrize(
    "setting",
    quick_among(
        SETTINGS, "two micro-batches", "the text first", "Qwen3.5 with everything",
    ),
)  # fmt: skip
def test_the_weights_after_two_steps_are_those_of_trl(
    setting: str, scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = []
    pack = sft.pack_answered

    def packed(model: Any, answered: Any) -> Any:
        groups.append(max(map(len, answered.groups)))
        return pack(model, answered)

    monkeypatch.setattr(sft, "pack_answered", packed)
    expected, figures = update(scene_folder, tmp_path / "trl", False, **SETTINGS[setting])
    assert not groups
    got, own_figures = update(scene_folder, tmp_path / "ours", True, **SETTINGS[setting])
    assert relative_error(got, expected) < 1e-4
    for row, own in zip(figures, own_figures, strict=True):
        assert {name: own[name] for name in FIGURES} == pytest.approx(
            {name: row[name] for name in FIGURES}, rel=1e-5
        )
    assert (max(groups) > 1) is SETTINGS[setting].get("image_first", True)


def flat(model: Any, prompt: Any, types: Any, grid: Any) -> Any:
    return torch.arange(len(prompt))[None].expand(3, -1)


def run(scenes: Path, out: Path, shared: bool | str = True, **options: Any) -> list[dict[str, Any]]:
    recipe = tiny_recipe(scenes, out, method="sft", engine={"shared_prefix": shared}, **options)
    with Run(recipe.out, dump_recipe(recipe), {"name": "tiny"}, False):
        train(recipe)
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_wrong_positions_stop_the_run_or_give_way_to_the_path_of_trl(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_prefix, "rope_positions", flat)
    with pytest.raises(UsageError, match=r"first micro-batch differ.*report this model"):
        run(scene_folder, tmp_path / "stopped")
    rows = run(scene_folder, tmp_path / "went_on", shared="if_exact")
    assert "takes TRL's path: log-probabilities" in rows[0]["warnings"]["trl_path"]
    monkeypatch.undo()
    for row, own in zip(run(scene_folder, tmp_path / "trl", shared=False), rows, strict=True):
        assert own["loss"] == row["loss"]


def test_where_it_gives_way_no_kernel_of_ours_is_left_in_the_tower(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = attention.attend_windows

    def wrong(*args: Any, **kwargs: Any) -> Any:
        output, weights = right(*args, **kwargs)
        return 1.5 * output, weights

    with monkeypatch.context() as patch:
        patch.setattr(attention, "attend_windows", wrong)
        patch.setattr(shared_prefix, "on_gpu", lambda _: True)
        rows = run(scene_folder, tmp_path / "went_on", shared="if_exact")
    attention.register()
    assert "takes TRL's path: log-probabilities" in rows[0]["warnings"]["trl_path"]
    for row, own in zip(run(scene_folder, tmp_path / "trl", shared=False), rows, strict=True):
        assert own["loss"] == row["loss"]


def test_samples_are_collated_without_the_model(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which may be on a GPU, and the collator in another process."""
    marked = []
    monkeypatch.setattr(sft, "mark_answers", lambda *_: marked.append(collating[-1]))
    collating = [False]
    collate = BoxSFTTrainer._collate_answers

    def noted(self: Any, rows: Any) -> Any:
        collating.append(True)
        batch = collate(self, rows)
        collating.append(False)
        return batch

    monkeypatch.setattr(BoxSFTTrainer, "_collate_answers", noted)
    run(scene_folder, tmp_path / "run")
    assert marked and not any(marked)


@pytest.mark.parametrize(
    ("trl", "why"),
    [
        ({"label_smoothing_factor": 0.1}, "logits"),
        ({"neftune_noise_alpha": 5}, "draws noise by the length of a row"),
    ],
)
def test_what_cannot_be_packed_is_said_once(
    trl: dict[str, Any], why: str, scene_folder: Path, tmp_path: Path
) -> None:
    first, second = run(scene_folder, tmp_path / "run", trl=trl)
    assert "pads samples to the longest" in first["warnings"]["trl_path"]
    assert why in first["warnings"]["trl_path"]
    assert "warnings" not in second


def test_both_paths_are_compared_once(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = BoxSFTTrainer._check_first

    def counted(self: Any, *args: Any) -> None:
        calls.append(original(self, *args))
        assert self._checked and not self._inexact and self.model.training

    monkeypatch.setattr(BoxSFTTrainer, "_check_first", counted)
    assert all("warnings" not in row for row in run(scene_folder, tmp_path / "run"))
    assert len(calls) == 1


ROLES = (
    "{% for m in messages %}<|{{ m.role }}|>{% for c in m.content %}{% if c.type == 'text' %}"
    "{{ c.text }}{% endif %}{% endfor %}{% endfor %}"
)
"""As GLM's template, whose answers end where the next role begins."""
AS_TEXT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{{ m.content }}"
    "{% else %}{% for c in m.content %}{% if c.type == 'image' %}<|vision_start|><|image_pad|>"
    "<|vision_end|>{% else %}{{ c.text }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As that of GLM-4.1V, which takes answers and system messages as text alone, too."""


@pytest.mark.parametrize(
    ("template", "ends", "expected"),
    [
        (None, ["<|im_end|>", "<|endoftext|>"], ""),
        (ROLES.replace("<|{{ m.role }}|>", "<|im_start|>"), ["<|im_end|>", "<|im_start|>"],
         "<|im_start|>"),
        (ROLES, ["<|endoftext|>", "<|im_end|>"], "<|im_end|>"),
    ],
)  # fmt: skip
def test_an_answer_that_the_template_does_not_end_gets_its_end(
    template: str | None, ends: list[str], expected: str
) -> None:
    processor = build_processor("qwen2.5-vl")
    processor.chat_template = template or processor.chat_template
    tokenizer = processor.tokenizer
    assert tokenizer.eos_token == "<|im_end|>"
    assert sft.find_ending(processor, tokenizer.convert_tokens_to_ids(ends)) == expected


def learned(scenes: Path, out: Path, template: str) -> str:
    """What SFT of the tiny model learns of the first sample under a chat template."""
    recipe = tiny_recipe(scenes, out, method="sft")
    model, processor = load("tiny", "float32", "cpu", 1)
    processor.chat_template = template
    family = read_family(model_folder("tiny"))
    trainer = sft.build_trainer(recipe, model, processor, family, *training_samples(recipe))
    labels = trainer.data_collator([trainer.train_dataset[0]])["labels"][0]
    text: str = processor.tokenizer.decode(labels[labels != -100])
    return text


def test_what_ends_an_answer_is_learned_and_answers_are_taken_as_text(
    scene_folder: Path, tmp_path: Path
) -> None:
    expected = learned(scene_folder, tmp_path / "a", IMAGE_FIRST)
    assert expected.endswith("</answer><|im_end|>\n")
    assert learned(scene_folder, tmp_path / "b", AS_TEXT) == expected.rstrip()


def test_a_template_that_drops_answers_teaches_nothing_and_is_refused() -> None:
    processor = build_processor("qwen2.5-vl")
    processor.chat_template = ROLES.replace("c.type == 'text'", "m.role == 'user'")
    with pytest.raises(UsageError, match="the chat template drops answers"):
        sft.find_ending(processor, [processor.tokenizer.eos_token_id])
