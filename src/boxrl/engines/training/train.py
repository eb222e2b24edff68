"""One recipe, one run: load, train, save; interrupted runs go on where they stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from transformers import PrinterCallback

from boxrl.config import Recipe, dump_recipe
from boxrl.data.predictions import Prediction
from boxrl.data.samples import read_samples
from boxrl.data.synthetic import draw_files
from boxrl.engines.build import find_family, find_thinking, recipe_options
from boxrl.engines.devices import take_gpu
from boxrl.engines.generate import Generator
from boxrl.engines.loading import copy_processor, load, quiet
from boxrl.engines.prefix.shared_prefix import unwrap
from boxrl.engines.requirements import check_options, check_requirements
from boxrl.engines.seam import require_names
from boxrl.engines.steps import check_steps
from boxrl.engines.training import grpo, sft
from boxrl.engines.training.average import AverageWeights, put_weights
from boxrl.engines.training.best_checkpoint import KeepBest
from boxrl.engines.training.callbacks import MetricsLog, StopGracefully
from boxrl.engines.training.checkpoints import cut_back, last_whole, require_same_recipe, step_of
from boxrl.engines.training.export import merge
from boxrl.engines.training.failures import build_errors, training_errors
from boxrl.engines.training.frozen_tower import run_frozen
from boxrl.engines.training.memory import visible_memory
from boxrl.engines.training.recompute import is_open, settle
from boxrl.engines.training.vllm_sync import require_vllm
from boxrl.errors import DataError, UsageError
from boxrl.families import Family
from boxrl.generation.model_folders import model_folder
from boxrl.generation.predict import Sampling
from boxrl.generation.questions import Questions
from boxrl.progress import progress_bar
from boxrl.prompts import build_prompt
from boxrl.runs import AVERAGE, Launch, Run
from boxrl.types import Sample

ScoreAnswers = Callable[[Sequence[Sample], dict[str, Prediction], Questions], dict[str, Any]]
"""Metrics of samples and their answers by a family to a prompt; `boxrl.evaluate`, in practice."""

SHARDING = ("FSDP", "DEEPSPEED")
"""What accelerate says of the processes it starts."""

PATIENCE_S = 120
"""How long a further process waits for the first one to begin drawing."""

BUILD_TRAINER: dict[str, Callable[..., Any]] = {
    "grpo": grpo.build_trainer,
    "sft": sft.build_trainer,
}


def train_run(
    recipe: Recipe,
    resume: bool = False,
    score: ScoreAnswers | None = None,
    begin: Callable[[Recipe], object] | None = None,
) -> Path:
    """What `boxrl train` does: open the run folder, train into it.

    Of several processes the first one keeps the folder.

    Args:
        recipe: what to do, and where.
        resume: go on with an interrupted run.
        score: see `train`.
        begin: called in the open folder before the training, by a process that is alone.

    Returns:
        The folder of the trained model.

    Raises:
        UsageError: the folder holds another run, or nothing to resume; see `check_requirements`.
        KeyboardInterrupt, DataError: see `train`.
    """
    check_requirements(recipe, model_folder(recipe.model))
    check_options(recipe)
    facts = {"name": recipe.name, "method": recipe.method, "model": recipe.model}
    process = Launch.read()
    keep = process.is_first
    with Run(recipe.out, dump_recipe(recipe), facts, resume) if keep else nullcontext():
        if begin is not None and process.world == 1:
            training_samples(recipe)  # synthetic ones are drawn
            begin(recipe)
        return train(recipe, f"{recipe.method} {recipe.name}", score)


def train(recipe: Recipe, description: str = "train", score: ScoreAnswers | None = None) -> Path:
    """Train as the recipe says, into its run folder, which is open.

    Args:
        recipe: what to do.
        description: shown beside the progress bar.
        score: metrics of answered samples, for `train.validate_samples`.

    Returns:
        The folder of the trained model.

    Raises:
        KeyboardInterrupt: the run was stopped; a checkpoint has been written.
        DataError: samples or images are bad, or the loss is NaN or infinite.
        UsageError: options that do not go together, too little memory, or no step was made.
    """
    quiet()
    source = model_folder(recipe.model)
    with build_errors(recipe):
        trainer = _build(recipe, source, score)
    with training_errors(recipe, lambda: trainer.state.global_step):
        average = _run_trainer(trainer, recipe, description)
        folder = _save(trainer, recipe, source)
        if average is not None:
            _save_average(trainer, average, recipe, source)
        return folder


def _build(recipe: Recipe, source: Path, score: ScoreAnswers | None) -> Any:
    """The trainer, with its model loaded and its data read."""
    require_names()
    if recipe.train.trl.get("use_vllm"):
        require_vllm(recipe.engine.device)
    family = find_family(recipe_options(recipe, recipe.model))
    samples, images = training_samples(recipe)
    check_steps(recipe, len(samples), Launch.read().world)
    engine, lora = recipe.engine, recipe.train.lora
    said = take_gpu() if engine.device != "cpu" else None
    model, processor = load(
        source, engine.dtype, engine.device, engine.threads,
        lora.quantize if lora else None, family,
    )  # fmt: skip
    if recipe.train.freeze_vision:
        run_frozen(model, family.vision_module)
    settled, told = _settle(recipe)
    trainer = BUILD_TRAINER[recipe.method](settled, model, processor, family, samples, images)
    # As it was given: on another GPU a resumed run may choose otherwise.
    trainer.recipe = dump_recipe(recipe)
    if told:
        trainer.notices["activations"] = told
    if said:
        trainer.notices["one_gpu"] = said
    if recipe.train.average_last and (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled):
        raise UsageError(
            "train.average_last works on one process and with --strategy ddp; leave it out where "
            "the weights are sharded"
        )
    if recipe.train.validate_samples and score is not None:
        trainer.add_callback(_validation(recipe, trainer, family, images, score))
    return trainer


def _settle(recipe: Recipe) -> tuple[Recipe, str]:
    """The recipe with what it leaves to the GPU's memory, and what was chosen, in words."""
    processes, available = Launch.read().world, visible_memory()
    shares = any(os.environ.get(f"ACCELERATE_USE_{name}") == "true" for name in SHARDING)
    if not is_open(recipe, available, processes, shares):
        return recipe, ""
    try:
        settled, _, said = settle(recipe, available, processes)
    except UsageError:  # a model whose steps cannot be counted
        return recipe, ""
    return settled, said


def _save(trainer: Any, recipe: Recipe, source: Path) -> Path:
    """Write the trained weights as a model folder, adapters merged."""
    folder, lora = recipe.out / "model", recipe.train.lora
    trainer.save_model(str(recipe.out / "adapter" if lora else folder))
    if trainer.accelerator.is_main_process:
        if lora:
            merge(source, recipe.out / "adapter", folder)
        else:
            copy_processor(trainer.processing_class, source, folder)
    return folder


def _save_average(trainer: Any, average: AverageWeights, recipe: Recipe, source: Path) -> None:
    """Write the mean of the last weights as a model folder beside the last ones."""
    put_weights(unwrap(trainer.model), average.mean)
    folder = recipe.out / AVERAGE
    trainer.save_model(str(folder))
    if trainer.accelerator.is_main_process:
        copy_processor(trainer.processing_class, source, folder)


def _validation(
    recipe: Recipe, trainer: Any, family: Family, images: Path, score: ScoreAnswers
) -> KeepBest:
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        raise UsageError(
            "train.validate_samples works on one process and with --strategy ddp; score the "
            "checkpoints of a sharded run with boxrl export, predict and evaluate"
        )
    prompt = build_prompt(recipe.prompt)
    file = recipe.data.test or recipe.out / "data" / "test.jsonl"
    held_out = read_samples(file)[: recipe.train.validate_samples]
    model = trainer.accelerator.unwrap_model(trainer.model)
    thinking = find_thinking(recipe_options(recipe, recipe.model))
    questions = Questions(family, prompt, images, thinking=thinking)
    return KeepBest(
        Generator(model, trainer.processing_class, questions),
        held_out,
        lambda answered, answers: score(answered, answers, questions),
        Sampling(max_new_tokens=recipe.train.max_completion_length),
        recipe.out / "validation.jsonl",
        _resumed_step(recipe),
    )


def _resumed_step(recipe: Recipe) -> int:
    last = last_whole(recipe.out / "checkpoints")
    return step_of(last) if last else 0


def training_samples(recipe: Recipe) -> tuple[list[Sample], Path]:
    """The recipe's training samples and their images folder; synthetic scenes are drawn once.

    Of several processes the first draws them, inside the run folder that it has opened.

    Raises:
        DataError: the samples are bad, or another process sees nothing of the first one's scenes.
    """
    data = recipe.data
    if data.train is not None and data.images is not None:
        return read_samples(data.train), data.images
    assert data.synthetic is not None
    folder = recipe.out / "data"
    if not Launch.read().is_first:
        _wait_for_scenes(folder)
    for split, count in (("train", data.synthetic.train), ("test", data.synthetic.test)):
        if not (folder / f"{split}.jsonl").is_file():
            scenes = data.synthetic
            draw_files(scenes.world, count, recipe.seed, split, folder, scenes.p_absent)
    return read_samples(folder / "train.jsonl"), folder / "images"


def _wait_for_scenes(folder: Path) -> None:
    """Until the first process has drawn them; the test scenes come last."""
    began = time.monotonic()
    while not (folder / "test.jsonl").is_file():
        if not folder.exists() and time.monotonic() - began > PATIENCE_S:
            raise DataError(
                f"{folder}: the first process draws its scenes there, and nothing of it is seen "
                "here; put the run folder on a disk that all machines share"
            )
        time.sleep(0.1)


def _run_trainer(trainer: Any, recipe: Recipe, description: str) -> AverageWeights | None:
    """Train what is left; returns the mean of the last weights, where the recipe asks for it."""
    last = last_whole(recipe.out / "checkpoints")
    done = step_of(last) if last else 0
    if last:
        require_same_recipe(last, dump_recipe(recipe))
    share = recipe.train.average_last
    average = AverageWeights(share, recipe.train.max_steps, last) if share else None
    if last and done >= recipe.train.max_steps:
        trainer._load_from_checkpoint(str(last))  # transformers would train one step more
        trainer.state.global_step = done
        return average
    if last:
        trainer.take_up(last)
    cut_back(recipe.out / "completions.jsonl", done)
    with (
        progress_bar(
            description, recipe.train.max_steps, done, shown=Launch.read().is_first
        ) as bar,
        StopGracefully() as stop,
    ):
        length = recipe.train.max_completion_length
        log = MetricsLog(recipe.out / "metrics.jsonl", bar, length, done, trainer.notices)
        trainer.args.logging_nan_inf_filter = False  # it would show a lost loss as 0
        trainer.remove_callback(PrinterCallback)  # boxrl has its own log and bar
        trainer.add_callback(log)
        trainer.add_callback(stop)
        if average is not None:  # behind those that ask for a checkpoint
            trainer.add_callback(average)
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    if trainer.state.global_step == done and not stop.stopped:
        raise UsageError(
            f"{recipe.out}: no step was made, so nothing was trained: TRL drops samples that do "
            "not fill a generation; lower train.prompts_per_step or what train.trl says of steps"
        )
    if stop.stopped:
        # Who leaves before the first process has written the checkpoint may take it along.
        trainer.accelerator.wait_for_everyone()
        raise KeyboardInterrupt
    return average
