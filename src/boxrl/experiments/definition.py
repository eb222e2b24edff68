"""Experiment files: a base recipe, arms that change it, held-out sets, and the claims at stake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from boxrl.config import (
    Recipe,
    Section,
    WorldChoice,
    build_recipe,
    describe_mistakes,
    find_shipped,
    read_yaml,
    recipes_folder,
    set_key,
)
from boxrl.errors import RecipeError
from boxrl.experiments.teaching import check_teaching

Way = Literal["greedy", "sampled", "averaged", "written", "shuffled_labels", "drift"]
"""How a held-out set is answered: `averaged` is greedy by the mean of the last weights, `written`
greedy, boxes ranked by the scores that the model writes beside them, `shuffled_labels` greedy under
another scene's question; `drift` is the divergence, in thousandths of a nat per token, from the
model that the arm starts from, whose answers are drawn."""

TEXTS = ("name", "finding", "title", "question", "setting", "published_from", "reading")
"""Fields of an experiment that are for reading only."""

FULL_SCALE = "full_scale"
"""Folder of the grids on a published model and photographs, beside the miniatures."""

LEARNING = "learning"
"""Stands in place of a held-out set where a figure is read from the learning curve."""


class HeldOutTest(Section):
    """What every arm of a seed is tested on: synthetic scenes, or a samples file."""

    world: WorldChoice = "standard"
    scenes: int = Field(900, ge=1)
    seed: int = Field(0, ge=0, description="of the scenes, which are the same for all runs")
    p_absent: float | None = Field(None, ge=0, le=1, description="the world's own where not named")
    samples: Path | None = Field(None, description="samples JSONL instead of scenes")
    images: Path | None = Field(None, description="folder of its images")
    ways: list[Way] = Field(["greedy"], min_length=1)

    @model_validator(mode="after")
    def _samples_with_images(self) -> HeldOutTest:
        if (self.samples is None) != (self.images is None):
            raise ValueError("samples and images go together")
        return self


class Figure(Section):
    """One number of a cell: a metric of a held-out set, or of the learning curve."""

    figure: str = Field(description="path in the metrics, such as mAP or tokens.mean")
    test: str = Field(description=f"a name of `tests`, or {LEARNING}")
    way: Way = "greedy"


class Column(Figure):
    """A figure as a column of the table."""

    title: str
    percent: bool = Field(True, description="shown times 100, as the VLM-R1-OVD blog shows shares")


class Claim(Figure):
    """A sentence of the blog as a difference between two arms."""

    says: str
    higher: str | list[str] | None = Field(
        None, description="arm whose figure is to be higher; of several, the sum"
    )
    lower: str | list[str] | None = Field(
        None, description="arm whose figure is to be lower; of several, the sum"
    )
    same: tuple[str, str] | None = Field(None, description="arms whose figures are to be alike")
    within: float | None = Field(None, gt=0, description="how far alike arms may differ")
    published: float | None = Field(
        None, description="the blog's difference, where it is of another set than the column's"
    )

    @model_validator(mode="after")
    def _one_direction(self) -> Claim:
        ordered = self.higher is not None and self.lower is not None
        alike = self.same is not None and self.within is not None
        if ordered == alike:
            raise ValueError("name either `higher` and `lower`, or `same` and `within`")
        if len(self.sides[0]) != len(self.sides[1]):
            raise ValueError("`higher` and `lower` name as many arms each")
        return self

    @property
    def sides(self) -> tuple[list[str], list[str]]:
        """Arms (a, b) of the difference sum(a) - sum(b)."""
        a, b = self.same or (self.higher or [], self.lower or [])
        return ([a] if isinstance(a, str) else a), ([b] if isinstance(b, str) else b)


class Experiment(Section):
    """One experiment file.

    Its texts (`TEXTS`) may change at any time; no cell depends on them.
    """

    name: str
    finding: str = Field(description="section of the blog")
    title: str
    question: str
    setting: str = Field("", description="what the miniature keeps and what it leaves out")
    base: dict[str, Any] = Field(description="a whole recipe, or the file of one")
    arms: dict[str, dict[str, Any]] = Field(min_length=1)
    tests: dict[str, HeldOutTest] = Field(min_length=1)
    seeds: list[Annotated[int, Field(ge=0)]] = Field([0, 1, 2], min_length=1)
    starts: list[str] = Field(
        default_factory=list,
        description="models that runs start from in turn, seed by seed; else the base's own",
    )
    teaches: dict[str, Annotated[str, AfterValidator(check_teaching)]] = Field(
        default_factory=dict,
        description="model folder -> what teaches it where it is missing, such as teach --seed 1",
    )
    columns: list[Column] = Field(min_length=1)
    published: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="arm -> column -> the blog's number"
    )
    published_from: str = Field("", description="what the blog measured")
    claims: list[Claim] = Field(default_factory=list)
    reading: str = Field("", description="what the outcome means, without figures")

    @model_validator(mode="after")
    def _names_are_known(self) -> Experiment:
        titles = {column.title for column in self.columns}
        tests = {*self.tests, LEARNING}
        places: list[tuple[str, str, Any]] = []
        for item in (*self.columns, *self.claims):
            places.append(("test", item.test, tests))
            if item.test in self.tests:
                places.append(("way", item.way, self.tests[item.test].ways))
        sides = [side for claim in self.claims for side in claim.sides]
        places += [("arm", arm, self.arms) for side in sides for arm in side]
        places += [("arm", arm, self.arms) for arm in self.published]
        places += [("column", t, titles) for row in self.published.values() for t in row]
        places += [("arm", a["after"], self.arms) for a in self.arms.values() if "after" in a]
        for kind, name, known in places:
            if name not in known:
                raise ValueError(f"{kind} {name!r} is unknown; known: {', '.join(known)}")
        return self

    @model_validator(mode="after")
    def _one_start_per_run(self) -> Experiment:
        own = [arm for arm, changes in self.arms.items() if "model" in changes]
        if self.starts and own:
            raise ValueError(f"arm {own[0]!r} names a model, and so does `starts`")
        return self


def load_experiment(
    path: Path, overrides: Sequence[str] = (), check_files: bool = True
) -> Experiment:
    """Read an experiment file and check every recipe that it makes.

    Args:
        path: the YAML file; its stem is the experiment's name. `base` may name a recipe's file,
            and `extends` another experiment's, as seen from this one.
        overrides: `key=value`. A key that starts with `tests.` or `arms.` changes that part of
            the file, any other key the base recipe.
        check_files: also require that the files that the recipes name exist.

    Raises:
        RecipeError: every mistake, one line each.
    """
    content = _read(path)
    mistakes: list[str] = []
    for override in overrides:
        part = override.partition(".")[0]
        target = content if part in ("tests", "arms") else content["base"]
        mistakes += set_key(target, override)
    experiment: Experiment | None = None
    try:
        experiment = Experiment.model_validate({"name": path.stem, **content})
    except ValidationError as error:
        mistakes += describe_mistakes(error, Experiment)
    if mistakes or experiment is None:
        raise RecipeError(str(path), mistakes)
    averaged = any("averaged" in test.ways for test in experiment.tests.values())
    for arm in experiment.arms:
        for seed in range(len(experiment.starts) or 1):
            recipe = arm_recipe(experiment, arm, seed, check_files=check_files)
        if averaged and is_trained(experiment, arm) and not recipe.train.average_last:
            raise RecipeError(
                str(path),
                [f"arm {arm}: way averaged needs train.average_last, the share of the steps"],
            )
    return experiment


def _read(path: Path) -> dict[str, Any]:
    """An experiment's keys, files that it names found, laid over those that it extends."""
    content = read_yaml(path)
    if isinstance(content.get("base"), str):
        content["base"] = read_yaml(path.parent / content["base"])
    arms = content.get("arms")
    for part in [content.get("base"), *(arms.values() if isinstance(arms, dict) else [])]:
        _find_prompt(part, path.parent)
    if isinstance(content.get("extends"), str):
        content = _extend(_read(path.parent / content.pop("extends")), content)
    return {"base": {}, **content}


def _extend(content: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The keys of one file over those of another: arms one by one, all else as a whole.

    Columns and claims about what the held-out sets no longer ask are left out.
    """
    content = content | own | {"arms": content.get("arms", {}) | own.get("arms", {})}
    asked = [(name, way) for name, test in content.get("tests", {}).items()
             for way in test.get("ways", ["greedy"])]  # fmt: skip
    for key in ("columns", "claims"):
        content[key] = [
            item for item in content.get(key, ())
            if item["test"] == LEARNING or (item["test"], item.get("way", "greedy")) in asked
        ]  # fmt: skip
    titles = {column["title"] for column in content["columns"]}
    content["published"] = {
        arm: {title: value for title, value in row.items() if title in titles}
        for arm, row in content.get("published", {}).items()
        if arm in content["arms"]
    }
    return content


def _find_prompt(content: Any, folder: Path) -> None:
    """Let `prompt: my.yaml` name a file beside the experiment's."""
    prompt = content.get("prompt") if isinstance(content, dict) else None
    if isinstance(prompt, str) and prompt.endswith((".yaml", ".yml")):
        content["prompt"] = str(folder / prompt)


def is_trained(experiment: Experiment, arm: str) -> bool:
    """Whether the arm trains; `train: false` evaluates the model as it is."""
    return experiment.arms[arm].get("train") is not False


def arm_recipe(
    experiment: Experiment,
    arm: str,
    seed: int,
    share_of_steps: float = 1.0,
    check_files: bool = True,
) -> Recipe:
    """The recipe of one arm under one seed.

    Args:
        experiment: base and arms.
        arm: its changes are laid over the base; dotted and nested keys alike.
        seed: of the recipe; it also says which of the `starts` is taken.
        share_of_steps: of the recipe's own number, for budgets.
        check_files: also require that the files it names exist.

    Raises:
        RecipeError: the outcome is no recipe.
    """
    changes = {key: value for key, value in experiment.arms[arm].items() if key != "after"}
    if not is_trained(experiment, arm):
        del changes["train"]
    content = deepcopy(experiment.base)
    for path, value in _leaves(changes):
        section = content
        for part in path[:-1]:
            if not isinstance(section.get(part), dict):
                section[part] = {}
            section = section[part]
        section[path[-1]] = value
    content |= {"name": "cell", "seed": seed}
    if experiment.starts:
        content["model"] = experiment.starts[seed % len(experiment.starts)]
    recipe = build_recipe(content, f"experiment {experiment.name}, arm {arm}", (), check_files)
    steps = max(1, round(share_of_steps * recipe.train.max_steps))
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"max_steps": steps})})


def _leaves(changes: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[Any]:
    """(path, value) of every change; `train.beta: 0` and `train: {beta: 0}` are the same."""
    for key, value in changes.items():
        here = (*path, *key.split("."))
        if isinstance(value, dict) and value:
            yield from _leaves(value, here)
        else:
            yield here, value


def experiments_folder() -> Path:
    """The experiment files that ship with boxrl: inside the wheel, or in the checkout."""
    return recipes_folder() / "experiments"


def find_experiment(name: str) -> Path:
    """The file of a shipped experiment, also of one at full scale, or the YAML file `name`.

    Raises:
        UsageError: no such experiment; the message lists the known ones.
    """
    folder = experiments_folder()
    large = folder / FULL_SCALE
    return find_shipped(name, large if (large / f"{name}.yaml").is_file() else folder, "experiment")


def full_scale_of(name: str) -> Path | None:
    """The shipped experiment's file at full scale, where it has one."""
    path = experiments_folder() / FULL_SCALE / f"{name}_3b.yaml"
    return path if path.is_file() else None
