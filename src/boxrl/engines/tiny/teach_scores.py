"""Teach the tiny VLM to write a score beside each box: it learns from its own answers.

    python -m boxrl.engines.tiny.teach_scores --out DIR

makes DIR/taught from `tiny-taught`: it answers scenes at temperature 1, and SFT teaches it these
answers, each box with the share of right ones among the boxes that it was about as sure of
(`boxrl.evaluate.own_answers`). Asked by recipes/experiments/prompts/scored.yaml it then states
scores for a reward to change.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from boxrl.config import Recipe, recipes_folder
from boxrl.data.samples import read_samples, write_samples
from boxrl.data.synthetic import draw_files
from boxrl.engines.answers import AnswerOptions, answer_samples
from boxrl.engines.build import EngineOptions
from boxrl.engines.tiny.onward import START
from boxrl.engines.training.train import train_run
from boxrl.evaluate.calling import evaluate_files
from boxrl.evaluate.own_answers import scored_samples
from boxrl.generation.predict import Sampling

PROMPT = recipes_folder() / "experiments" / "prompts" / "scored.yaml"


def draw_answers(folder: Path, scenes: int, seed: int, threads: int) -> Path:
    """Samples whose boxes are the start's own and carry scores; FOLDER/scored.jsonl.

    Args:
        folder: of the scenes and what is made of them.
        scenes: how many are answered.
        seed: of scenes and draws.
        threads: of torch.
    """
    drawn = draw_files("standard", scenes, seed, "scores", folder)
    samples, answers = read_samples(drawn), folder / "predictions.jsonl"
    sampling = Sampling(temperature=1.0, max_new_tokens=96, seed=seed, batch_size=64, logprobs=True)
    engine = EngineOptions(START, device="cpu", dtype="float32", threads=threads)
    answer_samples(AnswerOptions(engine, sampling), samples, drawn, folder / "images", answers)
    judged = evaluate_files(samples, answers, confidence="logprob", resamples=0)
    scored = folder / "scored.jsonl"
    write_samples(scored, scored_samples(samples, judged))
    return scored


def build_recipe(folder: Path, scored: Path, steps: int, seed: int, threads: int) -> Recipe:
    """SFT of the start on its own answers; arguments as `draw_answers`."""
    return Recipe.model_validate(
        {
            "name": "teach-scores",
            "method": "sft",
            "model": START,
            "prompt": str(PROMPT),
            "seed": seed,
            "out": folder / "run",
            "data": {"train": scored, "images": folder / "images"},
            "train": {
                "max_steps": steps,
                "learning_rate": 3e-4,
                "prompts_per_step": 32,
                "save_steps": steps,
                "trl": {"warmup_steps": 3, "adam_beta2": 0.99},
            },
            "engine": {"device": "cpu", "dtype": "float32", "threads": threads},
        }
    )


def main() -> None:
    """Teach it; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=1500, help="that it answers")
    parser.add_argument("--steps", type=int, default=300, help="of SFT")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        scored = draw_answers(folder, args.scenes, args.seed, args.threads)
        model = train_run(build_recipe(folder, scored, args.steps, args.seed, args.threads))
        shutil.move(model, args.out / "taught")


if __name__ == "__main__":
    main()
