"""One recipe, one run: load, train, save; interrupted runs go on where they stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PrinterCallback

from boxrl.config import Recipe
from boxrl.data.samples import read_samples, write_samples
from boxrl.data.synthetic import World, scenes
from boxrl.engines import grpo, sft
from boxrl.engines.checkpoints import cut_back, last_whole, step_of
from boxrl.engines.folders import model_folder
from boxrl.engines.models import load, quiet, save
from boxrl.engines.training_log import MetricsLog, StopGracefully
from boxrl.errors import DataError, UsageError
from boxrl.families import read_family
from boxrl.progress import progress_bar
from boxrl.runs import Run
from boxrl.types import Sample

BUILD_TRAINER = {"grpo": grpo.build_trainer, "sft": sft.build_trainer}


def train(recipe: Recipe, run: Run, description: str = "train") -> Path:
    """Train as the recipe says, into an open run folder.

    Returns:
        The folder of the trained model.

    Raises:
        KeyboardInterrupt: the run was stopped; a checkpoint has been written.
        DataError: samples or images are bad, or the loss is no longer a number.
    """
    quiet()
    source = model_folder(recipe.model)
    family = read_family(source, recipe.family)
    samples, images = training_samples(recipe)
    model, processor = load(
        recipe.model, recipe.engine.dtype, recipe.engine.device, recipe.engine.threads
    )
    if recipe.train.freeze_vision:
        freeze(model, family.vision_module)
    trainer = BUILD_TRAINER[recipe.method](recipe, model, processor, family, samples, images)
    _run_trainer(trainer, recipe, run, description)
    folder = run.path / "model"
    save(_merged(trainer.model), processor, source, folder)
    return folder


def training_samples(recipe: Recipe) -> tuple[list[Sample], Path]:
    """The recipe's training samples and their images folder; synthetic scenes are drawn once."""
    data = recipe.data
    if data.train is not None and data.images is not None:
        return read_samples(data.train), data.images
    assert data.synthetic is not None
    folder = recipe.out / "data"
    for split, count in (("train", data.synthetic.train), ("test", data.synthetic.test)):
        if not (folder / f"{split}.jsonl").is_file():
            draw(World(p_absent=data.synthetic.p_absent), count, recipe.seed, split, folder)
    return read_samples(folder / "train.jsonl"), folder / "images"


def draw(world: World, count: int, seed: int, split: str, folder: Path) -> None:
    """Draw synthetic scenes to FOLDER/SPLIT.jsonl and FOLDER/images."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    samples: list[Sample] = []
    with progress_bar(f"draw {split} scenes", count) as bar:
        for scene in scenes(world, count, seed, split):
            scene.image.save(images / scene.sample.image)
            samples.append(scene.sample)
            bar.advance()
    write_samples(folder / f"{split}.jsonl", samples)


def freeze(model: Any, prefix: str) -> None:
    """Stop training of every parameter whose name starts with `prefix`."""
    for name, parameter in model.named_parameters():
        if name.startswith(prefix):
            parameter.requires_grad_(False)


def _run_trainer(trainer: Any, recipe: Recipe, run: Run, description: str) -> None:
    last = last_whole(run.path / "checkpoints")
    done = step_of(last) if last else 0
    cut_back(run.path / "completions.jsonl", done - 1)
    with (
        progress_bar(description, recipe.train.max_steps, done) as bar,
        StopGracefully() as stop,
    ):
        length = recipe.train.max_completion_length
        log = MetricsLog(run.path / "metrics.jsonl", bar, length, done)
        trainer.remove_callback(PrinterCallback)  # boxrl has its own log and bar
        trainer.add_callback(log)
        trainer.add_callback(stop)
        with _errors_in_words(trainer, run):
            result = trainer.train(resume_from_checkpoint=str(last) if last else None)
    if stop.stopped:
        raise KeyboardInterrupt
    if result.training_loss != result.training_loss:
        raise DataError(
            f"{run.path}: the loss is not a number; lower train.learning_rate and start again"
        )


@contextmanager
def _errors_in_words(trainer: Any, run: Run) -> Iterator[None]:
    """What can go wrong outside boxrl while it trains: disks, images, memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"{run.path}: out of GPU memory at step {trainer.state.global_step}; lower "
            "train.micro_batch_prompts or num_generations, train with LoRA, or see what needs "
            "it: boxrl train RECIPE --dry-run"
        ) from error
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):
            raise  # of torch.save only those of a full disk are expected
        last = last_whole(run.path / "checkpoints")
        rest = f"go on from {last.name} with --resume" if last else "start again"
        reason = " ".join(str(error).split())
        raise DataError(
            f"{run.path}: stopped at step {trainer.state.global_step} ({reason}); put it right, "
            f"then {rest}"
        ) from error


def _merged(model: Any) -> Any:
    """The model with its adapters merged in."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
