"""The door of this package: engines by name, each built from the same record of options.

Importing it loads nothing heavy, torch least of all: a builder brings what it needs. Add an
engine: a builder here and its entry in `ENGINES`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from boxrl.errors import BoxrlError, UsageError, require_train_extra

if TYPE_CHECKING:
    from boxrl.config import Recipe
    from boxrl.families import Family
    from boxrl.generation.chat_template import Thinking
    from boxrl.generation.predict import Engine
    from boxrl.generation.questions import Questions
    from boxrl.prompts import Prompt


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Which model answers and how it is run or reached; an engine reads what concerns it.

    What would ask another model, or ask it otherwise, is refused where the engine does not read it.

    Attributes:
        model: packaged name or folder; of servers, the name by which they know the model will do.
        engine: key of ENGINES.
        family: name of the model's family; None finds it in the model's config.
        min_pixels: least area of an image as the model sees it; None takes the model's own.
        max_pixels: largest area.
        thinking: what the template's switch is set to; None leaves it to the template.
        device: `auto`, `cpu` or `cuda`.
        dtype: `auto`, `float32` or `bfloat16`.
        threads: CPU threads of torch; None leaves its own choice.
        engine_args: `key=value` each, given to vLLM as they stand; values are YAML.
        base_urls: of the servers.
        served_model_name: where it is not `model`.
        api_key_env: environment variable that holds the servers' key.
        concurrency: requests at once per server.
        timeout_s: longest time of one request.
        extra_body: merged into every request; None removes a key.
        max_request_mb: a larger request is not sent; its row ends in error.
    """

    model: str
    engine: str = "transformers"
    family: str | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    thinking: bool | None = None
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
    engine_args: Sequence[str] = ()
    base_urls: Sequence[str] = ()
    served_model_name: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 16
    timeout_s: float = 600.0
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    max_request_mb: float = 20.0


def recipe_options(recipe: Recipe, model: str) -> EngineOptions:
    """A model run as the recipe says: its family, pixel limits, device, precision and threads.

    Args:
        recipe: what is trained or tested.
        model: the model before or after it.
    """
    engine = recipe.engine
    return EngineOptions(
        model,
        family=recipe.family,
        min_pixels=recipe.min_pixels,
        max_pixels=recipe.max_pixels,
        thinking=recipe.thinking,
        device=engine.device,
        dtype=engine.dtype,
        threads=engine.threads,
    )


def build_engine(
    options: EngineOptions, prompt: str, images: Path, control: str | None = None
) -> Engine:
    """The engine of these options, its model loaded or its servers named.

    Args:
        options: which engine and which model.
        prompt: name of a prompt or a .yaml file.
        images: folder that the samples' image paths start at.
        control: see `Questions`.

    Raises:
        UsageError: an unknown engine, family or prompt, an option that the engine does not read,
            or a model that cannot be loaded.
        MissingExtra: the engine's packages are not installed.
    """
    from boxrl.generation.questions import Questions
    from boxrl.prompts import build_prompt

    if options.engine not in ENGINES:
        raise UsageError(f"unknown engine {options.engine!r}; engines: {', '.join(ENGINES)}")
    _refuse_unread(options)
    family, asked = find_family(options), build_prompt(prompt)
    thinking = find_thinking(options, asked)
    questions = Questions(family, asked, images, control, thinking)
    return ENGINES[options.engine].build(options, questions)


def _refuse_unread(options: EngineOptions) -> None:
    """Refuse what another engine reads: a server's address, say, while a local model answers."""
    for name, (option, reader) in READ_BY_ONE.items():
        if options.engine in BUILT_IN - {reader} and getattr(options, name):
            raise UsageError(
                f"{option} is for engine {reader}, and engine {options.engine} does not read it; "
                f"take engine {reader} or leave it out"
            )


def find_family(options: EngineOptions) -> Family:
    """The family of the model folder; of a server whose model is no folder here, the named one.

    Args:
        options: engine, model, family and pixel limits.

    Raises:
        UsageError: nobody names the family, the name contradicts the model's config, or the pixel
            limits contradict each other or come in by another option.
    """
    from boxrl.families import build_family, read_family
    from boxrl.families.limits import refuse_limits

    refuse_limits(options.extra_body, "--extra-body")
    refuse_limits(dict(map(parse_engine_arg, options.engine_args)), "--engine-arg")
    limits = (options.min_pixels, options.max_pixels)
    folder = known_folder(options)
    if folder is not None:
        return read_family(folder, options.family, *limits)
    family = build_family(str(options.family), *limits)
    if family.frame == "grid" and limits == (None, None):
        return replace(family, resizing="unknown")  # a hosted model's limits are its host's
    return family


def known_folder(options: EngineOptions) -> Path | None:
    """The folder of the model's configs; None for a server's model whose family is named.

    A server may give its model by an id of the hub, whose configs, no weights, say the family.

    Args:
        options: engine, model and family.

    Raises:
        UsageError: there is none, and no family is named.
        DataError, MissingExtra: see `hub.hub_configs`.
    """
    from boxrl.config import is_hub_id
    from boxrl.generation.model_folders import PACKAGED, config_folder

    model = options.model
    if options.engine != "openai" or model in PACKAGED or Path(model).is_dir():
        return config_folder(model)
    if options.family is not None:
        return None
    why = "is not a folder here"
    if is_hub_id(model):
        try:
            return config_folder(model)
        except BoxrlError as error:
            why = f"is unknown here ({error})".replace(f"({model}: ", "(", 1)
    raise UsageError(
        f"--model {model} {why}, so its family, and with it the frame of its boxes, is unknown; "
        "name it with --family, or give the model's folder or its id of the hub as --model and "
        "the server's name for it as --served-model-name"
    )


def find_thinking(options: EngineOptions, prompt: Prompt | None = None) -> Thinking:
    """How the model's chat template treats the thought; nothing is known of a server's own.

    Args:
        options: model and switch.
        prompt: what is asked with; the template must not drop its system message.

    Raises:
        UsageError: the template has no switch, is broken or drops what is asked, or the switch
            comes in by another option.
    """
    from boxrl.generation.chat_template import SWITCH, read_thinking

    other = options.extra_body.get("chat_template_kwargs")
    if isinstance(other, dict) and SWITCH in other:
        raise UsageError(f"--extra-body: holds {SWITCH}; say it as --thinking on or off")
    folder, system = known_folder(options), prompt is not None and prompt.has_system
    return read_thinking(folder, options.thinking, system, rendered_here=options.engine != "openai")


def _transformers(options: EngineOptions, questions: Questions) -> Engine:
    require_train_extra("engine transformers")
    from boxrl.engines.generate import Generator
    from boxrl.engines.loading import load, quiet

    quiet()
    model, processor = load(
        options.model, options.dtype, options.device, options.threads, family=questions.family
    )
    return Generator(model, processor, questions)


def _vllm(options: EngineOptions, questions: Questions) -> Engine:
    from boxrl.generation.model_folders import model_folder
    from boxrl.generation.vllm_offline import OfflineVllm

    arguments = {"dtype": options.dtype} | dict(map(parse_engine_arg, options.engine_args))
    return OfflineVllm(model_folder(options.model), questions, arguments)


def _openai(options: EngineOptions, questions: Questions) -> Engine:
    from boxrl.generation.endpoint import Endpoint
    from boxrl.generation.marks import has_marks
    from boxrl.generation.model_folders import image_token_ids, neutral_sampling
    from boxrl.generation.servers import Servers

    for key in ("n", "seed"):  # would ask for answers that nobody reads, or the same one n times
        if options.extra_body.get(key) is not None:
            raise UsageError(f"--extra-body: holds {key}; say it as --{key}")
    if not options.base_urls:
        raise UsageError("--engine openai needs --base-url, for example http://127.0.0.1:8000/v1")
    folder = known_folder(options)
    defaults: dict[str, Any] = neutral_sampling(folder) if folder else {}
    if folder and has_marks(folder, questions.family):
        defaults["skip_special_tokens"] = False
    return Endpoint(
        questions,
        Servers(
            options.base_urls,
            api_key=os.environ.get(options.api_key_env),
            concurrency=options.concurrency,
            timeout_s=options.timeout_s,
        ),
        model=options.served_model_name or options.model,
        banned=image_token_ids(folder, questions.family) if folder else [],
        knows_size=folder is not None,
        defaults=defaults,
        extra_body=dict(options.extra_body),
        named_limits=(options.min_pixels, options.max_pixels) != (None, None),
        max_request_mb=options.max_request_mb,
    )


class EngineKind(NamedTuple):
    """An entry of ENGINES.

    Attributes:
        build: makes the engine.
        batch_size: completions that it is given at once where nobody says.
    """

    build: Callable[[EngineOptions, Questions], Engine]
    batch_size: int


ENGINES: dict[str, EngineKind] = {
    "transformers": EngineKind(_transformers, 32),
    "vllm": EngineKind(_vllm, 1024),
    "openai": EngineKind(_openai, 1),
}
"""Every engine by name."""

BUILT_IN = frozenset(ENGINES)
"""Those of boxrl; one that joins from outside reads what it likes."""

READ_BY_ONE = {
    "base_urls": ("--base-url", "openai"),
    "served_model_name": ("--served-model-name", "openai"),
    "extra_body": ("--extra-body", "openai"),
    "engine_args": ("--engine-arg", "vllm"),
}
"""Options that decide who answers or how, and that one engine alone reads: its name."""


def parse_engine_arg(text: str) -> tuple[str, Any]:
    """`key=value`, the value as a recipe's loader reads it.

    Args:
        text: as on the command line.

    Raises:
        UsageError: it has another form.
    """
    import yaml

    from boxrl.guard.files import parse_yaml

    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise UsageError(f"--engine-arg: expected key=value, got {text!r}")
    try:
        return key, parse_yaml(value)
    except yaml.YAMLError as error:
        raise UsageError(f"--engine-arg: {text!r:.80} has no valid YAML after the =") from error


def parse_extra_body(text: str | None) -> dict[str, Any]:
    """What every request carries besides; empty where nothing is given.

    Args:
        text: a JSON object.

    Raises:
        UsageError: it is none.
    """
    try:
        body = json.loads(text or "{}")
    except ValueError as error:
        raise UsageError(f"--extra-body: not JSON ({error})") from error
    if not isinstance(body, dict):
        raise UsageError(f"--extra-body: expected a JSON object, got {text:.80}")
    return body
