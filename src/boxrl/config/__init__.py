"""Recipes: one typed YAML file per experiment.

recipe      what a recipe says: sections, keys, ranges
files       recipes found by name, read with dotted overrides, written
"""

from boxrl.config.files import (
    build_recipe,
    describe_mistakes,
    dump_recipe,
    find_recipe,
    find_shipped,
    load_recipe,
    read_yaml,
    recipes_folder,
    set_key,
)
from boxrl.config.recipe import (
    PACKAGED_MODELS,
    TINY_MODEL,
    Data,
    EngineSettings,
    Lora,
    Recipe,
    Section,
    Synthetic,
    Train,
    WeightedReward,
    WorldChoice,
    asking_options,
    default_out,
    is_hub_id,
)

__all__ = [
    "PACKAGED_MODELS",
    "TINY_MODEL",
    "Data",
    "EngineSettings",
    "Lora",
    "Recipe",
    "Section",
    "Synthetic",
    "Train",
    "WeightedReward",
    "WorldChoice",
    "asking_options",
    "build_recipe",
    "default_out",
    "describe_mistakes",
    "dump_recipe",
    "find_recipe",
    "find_shipped",
    "is_hub_id",
    "load_recipe",
    "read_yaml",
    "recipes_folder",
    "set_key",
]
