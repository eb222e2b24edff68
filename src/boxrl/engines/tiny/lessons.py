"""What teachers share that make lessons of drawn answers, and teach them by SFT."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from boxrl.config import Recipe
from boxrl.data.samples import read_samples
from boxrl.engines.answers import AnswerOptions, answer_samples
from boxrl.engines.build import EngineOptions
from boxrl.engines.tiny.onward import START
from boxrl.engines.training.train import train_run
from boxrl.generation.predict import Sampling


def draw_answers(model: str, drawn: Path, seed: int, threads: int, logprobs: bool = False) -> Path:
    """A packaged model's answers to drawn scenes at temperature 1, beside them: MODEL.jsonl.

    Args:
        model: name of it.
        drawn: samples file of the scenes, their images in `images` beside it.
        seed: of the draws.
        threads: of torch.
        logprobs: whether each box gets the log-probability of its coordinates.
    """
    answers = drawn.with_name(f"{model}.jsonl")
    sampling = Sampling(
        temperature=1.0, max_new_tokens=96, seed=seed, batch_size=64, logprobs=logprobs
    )
    engine = EngineOptions(model, device="cpu", dtype="float32", threads=threads)
    samples, images = read_samples(drawn), drawn.parent / "images"
    answer_samples(AnswerOptions(engine, sampling), samples, drawn, images, answers)
    return answers


def build_recipe(
    name: str, prompt: Path, lessons: Path, steps: int, seed: int, threads: int
) -> Recipe:
    """SFT of the packaged model on lessons.

    Args:
        name: of the recipe.
        prompt: how they are asked.
        lessons: samples file, images in `images` beside it; the run stands there, too.
        steps: of the optimizer.
        seed: of the order.
        threads: of torch.
    """
    folder = lessons.parent
    return Recipe.model_validate(
        {
            "name": name,
            "method": "sft",
            "model": START,
            "prompt": str(prompt),
            "seed": seed,
            "out": folder / "run",
            "data": {"train": lessons, "images": folder / "images"},
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


def teach(
    about: str | None,
    scenes: str,
    draw: Callable[[Path, int, int, int], Path],
    recipe: Callable[[Path, Path, int, int, int], Recipe],
) -> None:
    """Teach one model from the command line.

    Args:
        about: the teacher's docstring.
        scenes: what they are for, in words.
        draw: folder, scenes, seed and threads -> samples file of the lessons.
        recipe: folder, lessons, steps, seed and threads -> how they are taught.
    """
    parser = argparse.ArgumentParser(description=(about or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=1500, help=scenes)
    parser.add_argument("--steps", type=int, default=300, help="of SFT")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        lessons = draw(folder, args.scenes, args.seed, args.threads)
        model = train_run(recipe(folder, lessons, args.steps, args.seed, args.threads))
        shutil.move(model, args.out / "taught")
