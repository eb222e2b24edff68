"""One recipe, one run: load, train, save; interrupted runs go on where they stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint

from boxrl.config import Recipe
from boxrl.data.samples import read_samples, write_samples
from boxrl.data.synthetic import World, scenes
from boxrl.engines import grpo, sft
from boxrl.engines.models import load, model_folder, quiet, save
from boxrl.engines.training_log import MetricsLog, StopGracefully
from boxrl.errors import DataError
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
    checkpoints = run.path / "checkpoints"
    last = get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None
    done = int(last.rpartition("-")[2]) if last else 0
    with (
        progress_bar(description, recipe.train.max_steps, done) as bar,
        StopGracefully() as stop,
    ):
        log = MetricsLog(run.path / "metrics.jsonl", bar)
        log.resume_at(done)
        trainer.remove_callback(PrinterCallback)  # boxrl has its own log and bar
        trainer.add_callback(log)
        trainer.add_callback(stop)
        result = trainer.train(resume_from_checkpoint=last)
    if stop.stopped:
        raise KeyboardInterrupt
    if result.training_loss != result.training_loss:
        raise DataError(
            f"{run.path}: the loss is not a number; lower train.learning_rate and start again"
        )


def _merged(model: Any) -> Any:
    """The model with its adapters merged in."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
