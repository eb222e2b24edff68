"""`boxrl validate`: gold answers through prompt, parser and rewards, without a model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxrl.cli.options import add_json, add_overrides, print_json
from boxrl.cli.parser import add_command
from boxrl.errors import tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boxrl.config import Recipe
    from boxrl.engines.lengths import Lengths
    from boxrl.rewards.gold_check import Validation
    from boxrl.types import Sample

SHOWN = 20
"""Problems that the table shows; --json gives all."""

SYNTHETIC = 200
"""Scenes drawn for a recipe that trains on synthetic ones."""


def add_verb(verbs: Any) -> None:
    """Declare `boxrl validate`."""
    verb = add_command(
        verbs, "validate", "check that gold answers earn every reward's maximum",
        example="boxrl validate recipe.yaml",
    )  # fmt: skip
    verb.add_argument("recipe", metavar="RECIPE", help="a .yaml file, or a shipped recipe by name")
    add_overrides(verb)
    add_json(verb)
    verb.set_defaults(run=run_validate)


def run_validate(args: argparse.Namespace) -> int:
    """`boxrl validate`; 1 where a gold answer does not earn its maximum, or would be cut."""
    from boxrl.config import find_recipe, load_recipe
    from boxrl.engines.build import find_family, find_thinking, recipe_options
    from boxrl.engines.lengths import measure_lengths
    from boxrl.engines.requirements import check_requirements
    from boxrl.engines.steps import check_steps
    from boxrl.generation.model_folders import config_folder
    from boxrl.progress import progress_bar
    from boxrl.prompts import build_prompt
    from boxrl.rewards.gold_check import find_idle, validate

    recipe = load_recipe(find_recipe(args.recipe), args.overrides, modules=Path.cwd())
    options, prompt = recipe_options(recipe, recipe.model), build_prompt(recipe.prompt)
    family, folder = find_family(options), config_folder(recipe.model)
    thinking = find_thinking(options, prompt)  # which checks the model's chat template
    check_requirements(recipe, folder)
    samples = _samples(recipe)
    if recipe.data.train is not None:
        check_steps(recipe, len(samples))
    rewards = [entry.reward for entry in recipe.rewards]
    with progress_bar("validate", len(samples)) as bar:
        outcome = validate(samples, family, prompt, rewards, bar.advance)
    if recipe.method == "grpo":
        outcome.problems += find_idle(rewards, outcome)
    lengths = measure_lengths(recipe, samples, folder, family, prompt, thinking)
    missing = _missing_images(recipe, samples)
    valid = outcome.valid and not any(found.cut for found in lengths)
    if args.json:
        rows = [found._asdict() | {"share": found.cut / found.n} for found in lengths]
        told = {"valid": valid, "lengths": rows, "missing_images": len(missing)}
        print_json(_row(outcome, family.name) | told)
    else:
        _print(outcome, family.name, args.recipe)
        _print_lengths(lengths)
        if missing:
            images = len({sample.image for sample in samples})
            print(
                f"warning: {len(missing):,} of {tally(images, 'image')} cannot be opened, and "
                f"training would stop at the first: {missing[0]}"
            )
        count = len(outcome.problems) + sum(bool(found.cut) for found in lengths)
        held = "valid but for the images" if missing else "valid"
        print(held if valid else tally(count, "problem"))
    return 0 if valid else 1


def _samples(recipe: Recipe) -> Sequence[Sample]:
    from boxrl.data.samples import read_samples
    from boxrl.data.synthetic import mixed_scenes

    if recipe.data.train is not None:
        return read_samples(recipe.data.train)
    drawn = recipe.data.synthetic
    assert drawn is not None  # the recipe names one of the two
    count = min(SYNTHETIC, drawn.train)
    first = mixed_scenes(drawn.world, count, recipe.seed, "train", drawn.p_absent)
    return [scene.sample for scene in first]


def _missing_images(recipe: Recipe, samples: Sequence[Sample]) -> list[str]:
    """Why each image that is not there is not, in the order of the samples."""
    from boxrl.data.samples import image_path
    from boxrl.errors import DataError

    missing = []
    if recipe.data.train is not None and recipe.data.images is not None:
        for sample in {sample.image: sample for sample in samples}.values():
            try:
                image_path(recipe.data.images, sample)
            except DataError as error:
                missing.append(str(error))
    return missing


def _row(outcome: Validation, family: str) -> dict[str, Any]:
    return {
        "family": family,
        "samples": dict(outcome.samples),
        "rewards": {
            name: {"lowest": lowest, "ceiling": outcome.ceiling[name]}
            for name, lowest in outcome.lowest.items()
        },
        "problems": [problem._asdict() for problem in outcome.problems],
        "prompt": [defect._asdict() for defect in outcome.prompt_defects],
    }


def _print(outcome: Validation, family: str, recipe: str) -> None:
    from rich.console import Console
    from rich.table import Table

    tasks = ", ".join(f"{count:,} {task}" for task, count in outcome.samples.items())
    noun = "sample" if sum(outcome.samples.values()) == 1 else "samples"
    print(f"{recipe}: {tasks} {noun}, answers as family {family} writes them")
    table = Table("reward", "lowest of gold answers", "mean against exact boxes")
    for name, lowest in outcome.lowest.items():
        values = (lowest, outcome.ceiling[name])
        table.add_row(name, *("does not apply" if v is None else f"{v:.4f}" for v in values))
    Console().print(table)
    for problem in outcome.problems[:SHOWN]:
        whose = f"sample {problem.id!r}: " if problem.id else ""
        print(f"error: {whose}{problem.message}")
    if len(outcome.problems) > SHOWN:
        print(f"... and {len(outcome.problems) - SHOWN} more; --json lists all")
    for defect in outcome.prompt_defects:
        print(f"warning: prompt: {defect.message} [{defect.rule}]; {defect.fix}")


def _print_lengths(lengths: Sequence[Lengths]) -> None:
    for found in lengths:
        if found.cut:
            print(f"error: {found.words}; raise it, or ask for fewer objects at once")
        else:
            print(
                f"the longest of {found.n:,} {found.of} has {found.longest:,} tokens of "
                f"{found.limit:,} ({found.key})"
            )
    if not lengths:
        print("lengths in tokens are not known: the model's folder has no tokenizer.json")
