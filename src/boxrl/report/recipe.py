"""A run's header, and section Recipe: what was trained, with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from boxrl.data.files import number_or_none
from boxrl.guard.files import parse_yaml
from boxrl.report.reading import RunFolder, mapping

Facts = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class About:
    """What a page says of one run.

    Attributes:
        name: the run's.
        facts: method, model, steps, ...
        recipe: YAML text, empty where there is none.
        versions: of packages.
    """

    name: str
    facts: Facts
    recipe: str
    versions: Facts


def recipe_keys(text: str) -> Mapping[str, Any]:
    """The keys of a recipe's YAML text, unchecked; none where it is empty or unreadable."""
    try:
        return mapping(parse_yaml(text))
    except yaml.YAMLError:
        return {}


def describe_run(run: RunFolder, name: str) -> About:
    """What a reader asks first about a run, under the name that the page gives it."""
    seconds, commit = number_or_none(run.facts.get("seconds")), run.environment.get("commit")
    found = {
        "Method": str(run.facts.get("method", "")).upper(),
        "Model": run.facts.get("model"),
        "Status": run.facts.get("status"),
        "Steps": run.steps[-1]["step"] if run.steps else None,
        "Time": None if seconds is None else f"{seconds / 60:.0f} min",
        "Commit": commit[:10] if isinstance(commit, str) else None,
    }
    versions = mapping(run.environment.get("versions"))
    return About(
        name=name,
        facts=[(key, str(value)) for key, value in found.items() if value not in (None, "")],
        recipe=run.recipe,
        versions=[(str(key), str(value)) for key, value in versions.items() if value],
    )
