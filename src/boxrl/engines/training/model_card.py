"""README.md of an exported model: where it comes from, how it is asked, what it is worth."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from boxrl import __version__
from boxrl.config import asking_options, read_yaml
from boxrl.data.files import is_number, read_jsonl, write_atomic
from boxrl.errors import BoxrlError, tally
from boxrl.evaluate.comparison import is_comparison_of
from boxrl.evaluate.files import METRICS_FILE, read_metrics
from boxrl.evaluate.summary import HEADLINE_METRICS, look_up
from boxrl.families import Family
from boxrl.guard.files import read_json_object
from boxrl.prompts import build_prompt, render_messages
from boxrl.types import Sample

EXAMPLE = Sample("example", "example.jpg", 640, 480, "detection", ("cat", "dog"))
PROTOCOL = ("mode", "subset", "prompt", "confidence", "answer_tag", "reading", "sampling")
FRAMES = {
    "original": "pixels of the image",
    "resized": "pixels of the image as the model sees it",
    "shares": "shares of the image, from 0 to 1",
}


def write_card(
    out: Path, family: Family, base: str, run: Path | None, step: int | None = None
) -> None:
    """Write README.md into a model folder.

    Args:
        out: the model folder.
        family: of the model, with its pixel limits.
        base: the model that it was trained from, as its run names it.
        run: the run folder; None where nothing but weights is known.
        step: of the run's checkpoint that was exported; None for the model at its end.
    """
    recipe = read_yaml(run / "recipe.yaml") if run else {}
    with write_atomic(out / "README.md") as handle:
        handle.write("\n".join(_lines(out, family, base, recipe, run, step)) + "\n")


def _lines(
    out: Path, family: Family, base: str, recipe: Mapping[str, Any], run: Path | None,
    step: int | None,
) -> Iterator[str]:  # fmt: skip
    method = str(recipe.get("method", "")).upper()
    yield "---"
    if _is_public(base):
        yield f"base_model: {base}"
    yield from ("library_name: transformers", "pipeline_tag: image-text-to-text")
    yield f"tags: [boxrl, object-detection{', ' + method.lower() if method else ''}]"
    yield from ("---", "", f"# {_word(recipe.get('name') or out.name)}", "")
    start = f"`{_word(base if _is_public(base) else _last_name(base))}`"
    yield (
        f"A vision-language model that answers with bounding boxes, trained by {method or 'boxrl'} "
        f"from {start} with boxrl {__version__}."
    )
    yield from _data(recipe, step)
    yield from _asking(family, str(recipe.get("prompt", "standard")))
    yield from _serving(out, family, recipe)
    if run and step is None:
        yield from _figures(run)
    elif run:
        yield from _figures_at(run, step)


def _last_name(folder: str) -> str:
    """What tells a folder from others: its name, or its run's, of which it is the model."""
    path = Path(folder)
    return f"{path.parent.name}/{path.name}" if path.name == "model" else path.name


def _is_public(base: str) -> bool:
    """Whether it is an id of the hub and no path of this machine."""
    return base.count("/") == 1 and not Path(base).exists() and base[:1] not in "./~"


def _data(recipe: Mapping[str, Any], step: int | None) -> Iterator[str]:
    data, train = recipe.get("data") or {}, recipe.get("train") or {}
    if not recipe:
        return
    if data.get("train"):
        trained = f"`{_word(Path(str(data['train'])).name)}`"
    else:
        trained = "synthetic scenes"
    rewards = ", ".join(
        f"`{_word(entry.get('name') if isinstance(entry, dict) else entry)}`"
        for entry in recipe.get("rewards") or ()
    )
    yield from ("", "## Training", "", f"- data: {trained}")
    done = "" if step is None else f"{step} of "
    rate = train.get("learning_rate")
    yield f"- steps: {done}{_word(train.get('max_steps'))}, learning rate {rate}"
    if rewards and recipe.get("method") == "grpo":
        yield f"- rewards: {rewards}"
    if train.get("lora"):
        yield "- LoRA adapters, merged into these weights"


def _asking(family: Family, prompt: str) -> Iterator[str]:
    yield from ("", "## How it is asked", "")
    yield "One image, then this text, for the labels `cat` and `dog`:"
    yield ""
    try:
        messages = render_messages(EXAMPLE, build_prompt(prompt), family)
    except BoxrlError:
        yield f"(prompt `{_word(prompt)}`, which is not here any more)"
    else:
        for message in messages:
            text = message["content"][-1]["text"]
            yield from ("~~~~text", f"{message['role']}: {text}", "~~~~")  # which may hold fences
    frame = FRAMES.get(family.frame, f"a grid of {family.grid}")
    yield ""
    yield f"Boxes are written as family `{family.name}` of boxrl has them: in {frame}."
    if family.has_limits:
        yield (
            f"Images are resized to between {family.min_pixels:,} and {family.max_pixels:,} "
            "pixels; boxes are wrong under other limits."
        )


def _serving(out: Path, family: Family, recipe: Mapping[str, Any]) -> Iterator[str]:
    name, asked = shlex.quote(_word(out.name)), _asked(recipe)
    yield from ("", "## Use it", "", "```bash")
    files = "--samples val.jsonl --images images/ --out out.jsonl"
    shown, served = showing_commands(Path(_word(out.name)), family, recipe)
    yield shown
    yield f"boxrl predict --model {name}{asked} {files}"
    yield served
    yield (
        f"boxrl predict --engine openai --model {name}{asked} "
        f"--base-url http://127.0.0.1:8000/v1 {files}"
    )
    yield "# what training left of the rest, by lmms-eval:"
    yield (
        f"python -m lmms_eval --model vllm --model_args model={name} --tasks gqa,ai2d,chartqa "
        "--batch_size 16"
    )
    yield from ("```", "", "```python", "import boxrl", "")
    prompt = str(recipe.get("prompt", "standard"))
    asked = "" if prompt == "standard" else f", prompt={json.dumps(_word(prompt))}"
    loaded = json.dumps(_word(out.name))
    if recipe.get("family") is not None:
        loaded += f", family={json.dumps(_word(recipe['family']))}"
    if recipe.get("thinking") is not None:
        loaded += f", thinking={recipe['thinking'] is True}"
    yield f'boxrl.load({loaded}).ask("image.jpg", "cat, dog"{asked})'
    yield "```"


def showing_commands(folder: Path, family: Family, recipe: Mapping[str, Any]) -> tuple[str, str]:
    """The commands that show a model on a page, and that serve it with vLLM.

    Args:
        folder: of the model.
        family: with its pixel limits.
        recipe: keys of the recipe that trained it; empty where it is unknown.
    """
    limits = ""
    if family.has_limits:
        sizes = f'{{"min_pixels": {family.min_pixels}, "max_pixels": {family.max_pixels}}}'
        limits = f" --mm-processor-kwargs '{sizes}'"
    path, name = shlex.quote(str(folder)), shlex.quote(folder.name)
    return (
        f"boxrl demo --model {path}{_asked(recipe)}",
        f"vllm serve {path} --served-model-name {name} --generation-config vllm "
        f"--limit-mm-per-prompt '{{\"image\": 1}}'{limits}",
    )


def _asked(recipe: Mapping[str, Any]) -> str:
    """`asking_options` on one line, whatever the names in them hold."""
    return "".join(f" {word}" for word in asking_options(recipe).split())


def _figures(run: Path) -> Iterator[str]:
    """The paired comparison where there is one, else every evaluation; with their protocols."""
    found = {
        path.parent.name: read_metrics(path) for path in sorted(run.glob(f"evals/*/{METRICS_FILE}"))
    }
    if not found:
        return
    yield from ("", "## Figures", "")
    path = run / "compare.json"
    paired = read_json_object(path) if path.is_file() else {}
    if paired and all(_is_current(*item, found) for item in paired.items()):
        for names, difference in paired.items():
            yield from _change(names, difference)
            yield from _protocol(found[names.rpartition("|")[2]])
    else:
        for name, metrics in found.items():
            yield from _evaluation(name, metrics)
            yield from _protocol(metrics)


def _protocol(metrics: Mapping[str, Any]) -> Iterator[str]:
    """How the figures of the table above came about; other tables may have other ways."""
    protocol = metrics["protocol"]
    stated = [f"{key} {_word(protocol[key])}" for key in PROTOCOL if protocol.get(key) is not None]
    yield from (f"Protocol: {'; '.join(stated)}.", "")


def _is_current(
    names: str, difference: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]
) -> bool:
    """Whether the two evaluations were not made anew since they were compared."""
    before, _, after = names.partition("|")
    return is_comparison_of(difference, found.get(before, {}), found.get(after, {}))


def _figures_at(run: Path, step: int | None) -> Iterator[str]:
    """What the run's validation found at a checkpoint; its evaluations are of the last model."""
    log = run / "validation.jsonl"
    rows = [row for _, row in read_jsonl(log) if row.get("step") == step] if log.is_file() else []
    found = {key: value for row in rows for key, value in row.items() if key != "step"}
    if numbers := {key: value for key, value in found.items() if is_number(value)}:
        yield from ("", "## Figures", "")
        yield from (f"- {_word(k)} on the validation samples: {v:.3f}" for k, v in numbers.items())


def _change(names: str, difference: Mapping[str, Any]) -> Iterator[str]:
    before, _, after = names.partition("|")
    sides = f"{_word(before)} | {_word(after)}"
    yield f"| {tally(difference['n'], 'sample')} | {sides} | difference, 95 % interval |"
    yield "|---|---|---|---|"
    for metric in HEADLINE_METRICS:
        row = difference["metrics"].get(metric.key)
        if row is not None:
            a, b = (metric.format(row[key]) for key in ("a", "b"))
            d, low, high = (metric.format(row[k], "+") for k in ("difference", "low", "high"))
            span = f" [{low}, {high}]" if low else ""
            yield f"| {metric.name} | {a} | {b} | {d}{span} |"
    yield ""


def _evaluation(name: str, metrics: Mapping[str, Any]) -> Iterator[str]:
    yield from (
        f"| {_word(name)}, {tally(metrics['n'], 'sample')} | value | 95 % interval |",
        "|---|---|---|",
    )
    for metric in HEADLINE_METRICS:
        value = look_up(metrics, metric.key)
        if value is not None:
            span = metric.format_ends((metrics.get("intervals") or {}).get(metric.key))
            yield f"| {metric.name} | {metric.format(value)} | {span} |"
    yield ""


def _word(value: object) -> str:
    """A value of a file as one short piece of text that ends no table and no code span."""
    if isinstance(value, Mapping):
        value = ", ".join(f"{key} {item}" for key, item in value.items())
    return " ".join(str(value).split())[:120].translate({ord("`"): "'", ord("|"): "/"})
