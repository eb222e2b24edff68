"""Model families: in which frame and syntax a model answers. One frozen record each.

record      what a family is
frames      coordinates of a frame to original pixels and back
resizing    sizes of images as models see them; cutting: those that cut or pad them
syntaxes    how boxes are written; marked: between markers; signs: of one frame alone
folder      what a model folder says
own         families of one's own, from YAML files
qwen, ...   the records, one file per kind

Frames are never guessed from data: the family is named, or found from the model's own config.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import Any

from boxrl.errors import UsageError, did_you_mean
from boxrl.families.assistants import DEEPSEEK_VL2, KIMI_VL, LFM2_VL, MINICPM_V_4_5
from boxrl.families.folder import ADAPTER, read_config_json, read_resizing
from boxrl.families.frames import Axes, Frame
from boxrl.families.gemma import GEMINI_2, GEMINI_3_6, GEMMA, GEMMA_4, PALIGEMMA
from boxrl.families.glm import GLM_4_6V, GLM_4V
from boxrl.families.grounders import FLORENCE_2, LOCATE_ANYTHING, MOLMO_2, REX_OMNI
from boxrl.families.internvl import INTERNVL
from boxrl.families.own import is_own, read_own, read_stated
from boxrl.families.plain import PLAIN
from boxrl.families.qwen import QWEN2_5_VL, QWEN2_VL, QWEN3_5, QWEN3_VL
from boxrl.families.record import Family
from boxrl.families.resizing import smart_resize

__all__ = [
    "FAMILIES", "Axes", "Family", "Frame", "build_family", "read_family", "smart_resize",
]  # fmt: skip


def build_family(name: str, min_pixels: int | None = None, max_pixels: int | None = None) -> Family:
    """The family of that name or YAML file, with its own pixel limits or others.

    Args:
        name: key of FAMILIES, or the path of a .yaml file, see `own.read_own`.
        min_pixels: least area of an image as the model sees it, in pixels; its own where None.
        max_pixels: largest area.

    Raises:
        UsageError: unknown name; the message lists the known ones. Mistakes in the file. Limits
            that the family does not have, or that contradict each other.
    """
    if is_own(name):
        return read_own(Path(name), FAMILIES).with_limits(min_pixels, max_pixels)
    if name not in FAMILIES:
        raise UsageError(
            f"unknown family {name!r}; families: {', '.join(FAMILIES)}, or a .yaml file"
            f"{did_you_mean(FAMILIES, name)}"
        )
    return FAMILIES[name].with_limits(min_pixels, max_pixels)


def read_family(
    model_dir: str | Path,
    name: str | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
) -> Family:
    """The family of a model folder, with the pixel limits of its own image processor or others.

    Args:
        model_dir: folder with config.json and the processor's config.
        name: the family the user named, or None to find it from config.json's model_type.
        min_pixels: as of `build_family`; the folder's own where None.
        max_pixels: the same.

    Raises:
        UsageError: no config.json, an unknown model type, one that is not run, `name` contradicts
            the config or the image processor, or limits that the family does not have or that
            contradict each other.
    """
    model_dir = Path(model_dir)
    family = _find_family(model_dir, name)
    if not family.runs:
        raise UsageError(
            f"{model_dir}: boxrl reads answers of family {family.name!r} and does not run its "
            "models; generate with the makers' own code, then boxrl evaluate"
        )
    family = replace(family, **_stated_resizing(model_dir, family))
    if family.frame == "resized" and not family.has_limits:
        raise UsageError(
            f"{model_dir}: family {family.name!r} writes pixels of the image as the model sees it, "
            "and this model's image processor is of another kind; name another --family, or state "
            "its resizing in a .yaml file"
        )
    family = family.with_limits(min_pixels, max_pixels)
    if family.has_limits and family.min_pixels > family.max_pixels:
        raise UsageError(
            f"{model_dir}: min_pixels {family.min_pixels:,} is above max_pixels "
            f"{family.max_pixels:,}; name both: --min-pixels and --max-pixels"
        )
    return family


def _stated_resizing(model_dir: Path, family: Family) -> dict[str, Any]:
    """What the folder says of its resizing, but for what a family's own file says."""
    stated = read_resizing(model_dir, family)
    said = read_stated(Path(family.name)) if is_own(family.name) else {}
    return {name: value for name, value in stated.items() if name not in said}


def _find_family(model_dir: Path, name: str | None) -> Family:
    config = read_config_json(model_dir / "config.json")
    if config is None and (model_dir / ADAPTER).is_file():
        raise UsageError(
            f"{model_dir}: holds an adapter ({ADAPTER}); merge it into its base model first: "
            f"boxrl export {model_dir} --out DIR"
        )
    if config is None:
        raise UsageError(f"{model_dir}: no config.json; --model takes a model folder")
    model_type = config.get("model_type")
    found = next((f for f in FAMILIES.values() if model_type in f.model_types), None)
    if name is not None:
        family = build_family(name)
        if found is not None and not is_own(name) and model_type not in family.model_types:
            raise UsageError(
                f"{model_dir}: family {name!r} contradicts the model's config, whose model_type "
                f"{model_type!r} belongs to {found.name!r}; leave --family out, or describe a "
                "model trained on other coordinates in a .yaml file (docs/howto/add_model.md)"
            )
        return family
    if found is None and not any("vision" in key for key in config):
        raise UsageError(
            f"{model_dir}: a model without vision (model_type {model_type!r}, no vision_config in "
            "config.json); boxrl needs a vision-language model, such as Qwen2.5-VL; if this one "
            "does read images, name its --family"
        )
    if found is None:
        raise UsageError(
            f"{model_dir}: model_type {model_type!r} belongs to no known family; name one with "
            f"--family: {', '.join(FAMILIES)}, or describe it in a .yaml file "
            f"(docs/howto/add_model.md){_near(model_type)}"
        )
    return found


def _near(model_type: object) -> str:
    """Families whose models are called much alike, in words."""
    types = {kind: family.name for family in FAMILIES.values() for kind in family.model_types}
    near = difflib.get_close_matches(str(model_type), types, n=3, cutoff=0.6)
    named = dict.fromkeys(f"{types[kind]} ({kind})" for kind in near)
    return f"; near: {', '.join(named)}" if named else ""


_RECORDS = (
    PLAIN, QWEN2_VL, QWEN2_5_VL, QWEN3_VL, QWEN3_5, INTERNVL, GLM_4V, GLM_4_6V, PALIGEMMA, GEMMA,
    GEMMA_4, GEMINI_2, GEMINI_3_6, MINICPM_V_4_5, DEEPSEEK_VL2, LFM2_VL, KIMI_VL, REX_OMNI,
    LOCATE_ANYTHING, MOLMO_2, FLORENCE_2,
)  # fmt: skip

FAMILIES: dict[str, Family] = {family.name: family for family in _RECORDS}
"""Every known family by name."""
