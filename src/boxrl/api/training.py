"""Recipes from Python: trained as `boxrl train` trains them, and what became of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxrl.api.live import live_curves
from boxrl.api.notebooks import paragraph
from boxrl.config import Recipe, build_recipe, find_recipe, load_recipe, set_key
from boxrl.data.files import read_jsonl
from boxrl.errors import RecipeError, require_train_extra, tally
from boxrl.evaluate.verdict import change_verdict
from boxrl.runs import clear_run, numbered_folder

if TYPE_CHECKING:
    from boxrl.engines.change import Change


@dataclass(frozen=True, slots=True, repr=False)
class TrainedRun:
    """A run folder; a notebook shows its curves.

    Attributes:
        folder: where everything of the run lies.
        recipe: what was trained, resolved.
        change: the model before and after, where the recipe names held-out samples (`data.test`).
    """

    folder: Path
    recipe: Recipe
    change: Change | None = None

    @property
    def model(self) -> Path:
        """Folder of the trained model, for `boxrl.load`."""
        return self.folder / "model"

    def metrics(self) -> list[dict[str, Any]]:
        """One row per logged step: step, time_s, loss, reward and more.

        Raises:
            DataError: metrics.jsonl is damaged.
        """
        path = self.folder / "metrics.jsonl"
        return [row for _, row in read_jsonl(path)] if path.is_file() else []

    def report(self) -> Path:
        """Write the run's page, and say where.

        Raises:
            DataError: a part of the run is damaged.
        """
        from boxrl.report import build_report

        page = self.folder / "report.html"
        build_report(self.folder, page)
        return page

    @property
    def summary(self) -> str:
        """What the run did, and whether its model is better; one line."""
        said = f"{self.folder}: {self.recipe.method}, {tally(len(self.metrics()), 'step')}"
        return f"{said}; {change_verdict(self.change.difference)}" if self.change else said

    def __repr__(self) -> str:
        return f"<TrainedRun {self.summary}>"

    def _repr_html_(self) -> str:
        from boxrl.api.live import curves

        return str(paragraph(self.summary) + curves(self.metrics()))


def train(
    recipe: str | Path | Mapping[str, Any],
    *,
    resume: bool = False,
    replace: bool = False,
    **overrides: Any,
) -> TrainedRun:
    """Train with SFT or GRPO, as a recipe says; curves grow below the cell in a notebook.

    Args:
        recipe: a .yaml file, a shipped recipe by name, or the keys themselves.
        resume: go on with an interrupted run.
        replace: delete the run that the folder holds, and begin.
        overrides: keys of the recipe, sections as dicts: `out="runs/a", train={"max_steps": 20}`,
            or by dotted keys, `**{"train.max_steps": 20}`.

    Returns:
        The run.

    Raises:
        RecipeError: every mistake of the recipe, one line each.
        UsageError: the run folder holds another run, or nothing to resume.
        MissingExtra: torch and its friends are not installed.
        KeyboardInterrupt: it was stopped; a checkpoint has been written, and `resume=True` goes on.
    """
    changes = [f"{key}={json.dumps(value, default=str)}" for key, value in _leaves(overrides)]
    read = _read_recipe(recipe, changes)
    if "out" not in read.model_fields_set and not replace:
        read = read.model_copy(update={"out": numbered_folder(read.out, resume)})
    require_train_extra("boxrl.train")
    from boxrl.engines.answers import score_answers
    from boxrl.engines.change import measure_change, measure_start
    from boxrl.engines.training.train import train_run

    if replace:
        clear_run(read.out)
    with live_curves(read.out / "metrics.jsonl"):
        train_run(read, resume, score_answers, measure_start)
    return TrainedRun(read.out, read, measure_change(read))


def _read_recipe(recipe: str | Path | Mapping[str, Any], changes: list[str]) -> Recipe:
    if not isinstance(recipe, Mapping):
        return load_recipe(find_recipe(str(recipe)), changes, modules=Path.cwd())
    content = json.loads(json.dumps(recipe, default=str))
    mistakes = [line for change in changes for line in set_key(content, change)]
    if mistakes:
        raise RecipeError("recipe", mistakes)
    return build_recipe(content, "recipe")


def _leaves(keys: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values; an empty dict is a value."""
    for key, value in keys.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
