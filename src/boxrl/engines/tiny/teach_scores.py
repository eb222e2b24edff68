"""Teach the tiny VLM to write a score beside each box: it learns from its own answers.

    python -m boxrl.engines.tiny.teach_scores --out DIR

makes DIR/taught from `tiny-taught`: it answers scenes at temperature 1, and SFT teaches it these
answers, each box with the share of right ones among the boxes that it was about as sure of
(`boxrl.evaluate.own_answers`). Asked by recipes/experiments/prompts/scored.yaml it then states
scores for a reward to change.
"""

from __future__ import annotations

from pathlib import Path

from boxrl.config import Recipe, recipes_folder
from boxrl.data.samples import read_samples, write_samples
from boxrl.data.synthetic import draw_files
from boxrl.engines.tiny import lessons
from boxrl.engines.tiny.onward import START
from boxrl.evaluate.calling import evaluate_files
from boxrl.evaluate.own_answers import scored_samples

PROMPT = recipes_folder() / "experiments" / "prompts" / "scored.yaml"


def draw_scored(folder: Path, scenes: int, seed: int, threads: int) -> Path:
    """Samples whose boxes are the start's own and carry scores; FOLDER/scored.jsonl.

    Args:
        folder: of the scenes and what is made of them.
        scenes: how many are answered.
        seed: of scenes and draws.
        threads: of torch.
    """
    drawn = draw_files("standard", scenes, seed, "scores", folder)
    samples = read_samples(drawn)
    answers = lessons.draw_answers(START, drawn, seed, threads, logprobs=True)
    judged = evaluate_files(samples, answers, confidence="logprob", resamples=0)
    scored = folder / "scored.jsonl"
    write_samples(scored, scored_samples(samples, judged))
    return scored


def build_recipe(folder: Path, scored: Path, steps: int, seed: int, threads: int) -> Recipe:
    """SFT of the start on its own answers; arguments as of `lessons.teach`."""
    return lessons.build_recipe("teach-scores", PROMPT, scored, steps, seed, threads)


def main() -> None:
    """Teach it; see the module's docstring."""
    lessons.teach(__doc__, "that it answers", draw_scored, build_recipe)


if __name__ == "__main__":
    main()
