"""Trained weights as a plain model folder that transformers and vLLM load."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from boxrl.config import TINY_MODEL, read_yaml
from boxrl.data.files import is_whole
from boxrl.data.synthetic import World, scenes
from boxrl.engines.loading import load, save
from boxrl.engines.training.checkpoints import last_whole, step_of
from boxrl.engines.training.lora import put_adapter
from boxrl.engines.training.model_card import showing_commands, write_card
from boxrl.errors import UsageError
from boxrl.families import read_family
from boxrl.families.folder import ADAPTER, limiting_size, read_processor, write_limits
from boxrl.generation.model_folders import model_folder
from boxrl.guard.files import read_json_object
from boxrl.prompts import PROMPTS, render_messages
from boxrl.runs import find_run


class Exported(NamedTuple):
    """What `export` has written.

    Attributes:
        weights: the folder that was exported.
        commands: those that show the model on a page and serve it.
    """

    weights: Path
    commands: tuple[str, str]


def export(source: Path, out: Path, which: str = "final", base: str | None = None) -> Exported:
    """Write `source` to `out`, adapters merged into their base model, with a README.md.

    Args:
        source: a run folder, one of its checkpoints, or an adapter folder.
        out: the new model folder; must not exist, or be empty.
        which: of a run folder: `final` (or the last checkpoint, where it has not ended), `best`
            (on the validation samples) or `last`.
        base: the base model; the run's recipe, or the adapter itself, names it otherwise.

    Raises:
        UsageError: `source` holds no weights, or `out` is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out}: is not empty; choose another folder")
    weights = _weights(source, which)
    source_model = model_folder(base or _base_of(weights))
    if (weights / ADAPTER).is_file():
        merge(source_model, weights, out)
    else:
        model, processor = load(str(weights), "auto", "cpu")
        save(model.to(_stored_dtype(model)), processor, source_model, out)
    run = _run_of(weights)
    recipe = read_yaml(run / "recipe.yaml") if run else {}
    family = read_family(out, str(recipe.get("family") or "") or None)
    step = step_of(weights) if run is not None and weights.parent != run else None
    write_card(out, family, base or _base_of(weights), run, step)
    return Exported(weights, showing_commands(out, family, recipe))


def merge(base: Path, adapter: Path, out: Path) -> None:
    """Merge an adapter into its base model, in float32, and write it as the base is stored.

    Logits of one sample are those of the adapter beside its base model, and still are when what
    was written is read again.

    Args:
        base: the folder of the base model.
        adapter: the folder of the adapter.
        out: the new model folder.

    Raises:
        UsageError: the adapter cannot be read, or merging it gives another model.
    """
    model, processor = load(str(base), "float32", "cpu")
    stored = _stored_dtype(model)
    found = put_adapter(model, adapter)
    inputs = _one_sample(processor)
    trained = _logits(found, inputs)
    merged = found.merge_and_unload()
    _require_same(_logits(merged, inputs), trained, 1e-3, adapter)
    cast_weights(merged, stored)
    expected = _logits(merged, inputs)
    save(merged, processor, base, out)
    write_limits(out, limiting_size(read_processor(adapter)[1]))
    del found, model, merged
    try:
        saved, _ = load(str(out), str(stored).removeprefix("torch."), "cpu")
        _require_same(_logits(saved, inputs), expected, 1e-2, adapter)
    except UsageError:
        shutil.rmtree(out)
        raise


def cast_weights(model: Any, dtype: torch.dtype) -> None:
    """Cast what is saved of a model; what it computes for itself, as for its rope, stays.

    Args:
        model: of transformers.
        dtype: of its floats.
    """
    saved = model.state_dict(keep_vars=True)
    for tensor in saved.values():
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)


def _one_sample(processor: Any) -> Any:
    """Inputs of a question about an image."""
    scene = next(iter(scenes(World(), 1, 0, "export")))
    messages = render_messages(scene.sample, PROMPTS["standard"])
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    return processor(text=[text], images=[[scene.image]], return_tensors="pt")


@torch.no_grad()
def _logits(model: Any, inputs: Any) -> Tensor:
    """Of the last token, Float "vocabulary"."""
    last: Tensor = model.eval()(**inputs).logits[0, -1].float()
    return last


def _require_same(logits: Tensor, expected: Tensor, share: float, adapter: Path) -> None:
    """Refuse a merged model unless the logits are the expected ones up to a share of their spread.

    Raises:
        UsageError: they are not.
    """
    difference = float((logits - expected).abs().max())
    if not difference <= share * float(expected.std()):
        raise UsageError(
            f"{adapter}: merged into its base model it is another model than was trained (logits "
            f"of one sample differ by {difference:.2g}); serve the adapter beside its base model, "
            "and train without embed_tokens and lm_head in train.lora.target_modules"
        )


def _stored_dtype(model: Any) -> torch.dtype:
    """The dtype that a model folder's config names, whatever it was loaded in."""
    path = Path(model.name_or_path) / "config.json"
    config = read_json_object(path)
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    dtype = getattr(torch, str(name), None)
    if not isinstance(dtype, torch.dtype):
        raise UsageError(
            f"{path}: dtype is {name!r:.40}; expected one of torch's, such as bfloat16"
        )
    return dtype


def _weights(source: Path, which: str) -> Path:
    """The folder with the weights that are meant."""
    if any((source / name).is_file() for name in (ADAPTER, "config.json")):
        return source
    try:
        find_run(source).check_trained("boxrl export")
    except UsageError as error:
        raise UsageError(f"{error}; this is neither a run folder nor a checkpoint") from error
    if which == "final" and (source / "model" / "config.json").is_file():
        return source / "model"
    last = last_whole(source / "checkpoints")
    if last is None:
        raise UsageError(f"{source}: holds no weights yet; train it, or --resume it")
    if which != "best":
        return last
    step = read_json_object(last / "trainer_state.json").get("best_global_step")
    if not is_whole(step):
        raise UsageError(f"{source}: has no best checkpoint; train with train.validate_samples")
    return source / "checkpoints" / f"checkpoint-{step}"


def _run_of(weights: Path) -> Path | None:
    """The run that weights lie in, where they lie in one."""
    folders = (weights.parent, weights.parent.parent)
    return next((folder for folder in folders if (folder / "run.json").is_file()), None)


def _base_of(weights: Path) -> str:
    """The model that a run started from."""
    if run := _run_of(weights):
        # Not `load_recipe`, which would import the rewards that the recipe names.
        return str(read_yaml(run / "recipe.yaml").get("model", TINY_MODEL))
    if (weights / ADAPTER).is_file():
        return str(read_json_object(weights / ADAPTER).get("base_model_name_or_path"))
    return str(weights)
