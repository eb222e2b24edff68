"""Recipes as files: found by name, read with dotted overrides, all mistakes reported at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from boxrl.config.recipe import PACKAGED_MODELS, TINY_MODEL, Recipe, is_hub_id
from boxrl.data.kinds import way_out
from boxrl.errors import DataError, RecipeError, UsageError, did_you_mean
from boxrl.guard.files import MOST_YAML_BYTES, parse_yaml, read_text
from boxrl.rewards import look_for_modules


def recipes_folder() -> Path:
    """The recipes that ship with boxrl: inside the wheel, or in the checkout."""
    inside = Path(__file__).parents[1] / "recipes"
    return inside if inside.is_dir() else Path(__file__).parents[3] / "recipes"


def find_recipe(name: str) -> Path:
    """The file of a shipped recipe, or `name` itself where it is a file or ends as one.

    Raises:
        UsageError: no such recipe; the message lists the known ones.
    """
    return Path(name) if Path(name).is_file() else find_shipped(name, recipes_folder(), "recipe")


def find_shipped(name: str, folder: Path, what: str) -> Path:
    """The YAML file of that name in a folder that ships with boxrl; a YAML path is itself.

    Args:
        name: with `.yaml` or `.yml` a path, else one of the folder's files without its ending.
        folder: where to look.
        what: what a file of the folder is called.

    Raises:
        UsageError: there is none of that name; the message lists those there are.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        raise UsageError(
            f"unknown {what} {name!r}; {what}s: {', '.join(known)}, or a .yaml file"
            f"{did_you_mean(known, name)}"
        )
    return path


def load_recipe(
    path: Path,
    overrides: Sequence[str] = (),
    check_files: bool = True,
    modules: Path | None = None,
) -> Recipe:
    """Read a recipe, apply `key.key=value` overrides, check everything.

    Args:
        path: the YAML file.
        overrides: as on the command line; values are YAML.
        check_files: also require that the files it names exist.
        modules: folder in which rewards of the user's own, `my_module:function`, may lie; they
            are run. None: only where Python finds modules anyway.

    Raises:
        RecipeError: every mistake, one line each.
    """
    content = read_yaml(path)
    mistakes = [line for override in overrides for line in set_key(content, override)]
    rewards = content.get("rewards")
    if modules is not None and isinstance(rewards, list):
        look_for_modules(modules, rewards)
    return build_recipe(content, str(path), mistakes, check_files)


def build_recipe(
    content: dict[str, Any], where: str, mistakes: Sequence[str] = (), check_files: bool = True
) -> Recipe:
    """The recipe that nested keys describe.

    Args:
        content: keys and values as YAML gives them.
        where: starts the error message.
        mistakes: what is known to be wrong already.
        check_files: also require that the files it names exist.

    Raises:
        RecipeError: every mistake, one line each.
    """
    mistakes, recipe = list(mistakes), None
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        mistakes += describe_mistakes(error, Recipe)
    if check_files:
        mistakes += _missing_files(content)
    if mistakes or recipe is None:
        raise RecipeError(where, mistakes)
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML; `load_recipe` of it gives the recipe back."""
    return yaml.safe_dump(recipe.model_dump(mode="json", exclude_none=True), sort_keys=False)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, where 1e-6 is a number and no key is duplicate.

    Raises:
        UsageError: the file cannot be read, or holds samples or annotations.
        RecipeError: it is not YAML, or holds no mapping.
    """
    if path.suffix not in (".yaml", ".yml") and (kind := way_out(path, "recipe")):
        raise UsageError(f"{path}: expected a recipe{kind}. boxrl init writes one for samples")
    try:
        text = read_text(path, MOST_YAML_BYTES)
    except DataError as error:
        raise UsageError(str(error)) from error
    try:
        content = parse_yaml(text)
    except yaml.YAMLError as error:
        said = " ".join(str(error).split()).replace('"<unicode string>"', str(path))
        raise RecipeError(str(path), [said]) from error
    if not isinstance(content, dict):
        raise RecipeError(str(path), ["expected keys and values; see recipes/ for examples"])
    return content


def set_key(content: dict[str, Any], override: str) -> Iterator[str]:
    """Set one dotted key in place; yields what is wrong with it."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        yield f"override {override!r}: expected key=value, for example train.max_steps=3"
        return
    try:
        value = parse_yaml(text)
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        yield f"override {override!r}: the value is not YAML ({said})"
        return
    *parents, last = key.split(".")
    section = content
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            yield f"override {override!r}: {parent!r} is not a section"
            return
    section[last] = value


def _missing_files(content: dict[str, Any]) -> Iterator[str]:
    data = content.get("data")
    data = data if isinstance(data, dict) else {}
    files = [(f"data.{key}", data.get(key)) for key in ("train", "test")]
    folders = [("data.images", data.get("images"))]
    model = content.get("model", TINY_MODEL)
    folders += [("model", model)] if not _is_named(model) else []
    for key, name in files:
        if isinstance(name, str) and not Path(name).is_file():
            yield f"{key}: no file {name}"
    for key, name in folders:
        if isinstance(name, str) and not Path(name).is_dir():
            yield f"{key}: no folder {name}"


def _is_named(model: object) -> bool:
    return model in PACKAGED_MODELS or (isinstance(model, str) and is_hub_id(model))


def describe_mistakes(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    """Pydantic's findings about a `model` as `key: what is wrong`."""
    for item in error.errors():
        if item["type"] == "default_factory_not_called":
            continue  # follows from the mistake in another key
        loc = [str(part) for part in item["loc"] if part not in ("str", "dict[str,any]")]
        key = ".".join(loc) or "recipe"
        if item["type"] == "extra_forbidden":
            known = _keys_at(model, item["loc"][:-1])
            hint = did_you_mean(known, loc[-1]) or f"; keys: {', '.join(known)}"
            yield f"{key}: unknown key{hint}"
        elif item["type"] == "missing":
            yield f"{key}: is missing"
        else:
            message = item["msg"].removeprefix("Value error, ")
            got = "" if item["type"] == "value_error" else f", got {item['input']!r:.60}"
            yield f"{key}: {message[:1].lower()}{message[1:]}{got}"


def _keys_at(section: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """The keys that the part at `loc` knows."""
    for part in loc:
        field = section.model_fields.get(str(part))
        if field is None:
            continue  # an index or a name of the user's own
        options = getattr(field.annotation, "__args__", (field.annotation,))
        inner = (o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
        section = next(inner, section)
    return list(section.model_fields)
