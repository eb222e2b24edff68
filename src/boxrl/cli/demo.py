"""`boxrl demo`: a page on loopback that asks a model about an image."""

from __future__ import annotations

import argparse
import html
import importlib.util
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from boxrl.cli.options import MODEL_FAMILY, add_device, add_limits, add_thinking, integer
from boxrl.cli.parser import add_command
from boxrl.cli.predict import add_endpoint, engine_options
from boxrl.engines.build import build_engine
from boxrl.errors import BoxrlError, MissingExtra, UsageError
from boxrl.guard.pages import HOST, MAX_BODY_BYTES, OwnPage

if TYPE_CHECKING:
    from boxrl.demo import Kind
    from boxrl.generation.predict import Engine, Sampling
    from boxrl.prompts import Prompt
    from boxrl.types import Object

MOST_WAITING = 32
"""Questions that wait for the one that is being answered."""

KEPT_S = 3600
"""Seconds after which gradio deletes images that it was given."""

COLUMNS = ["label", "x1", "y1", "x2", "y2"]

PICTURE_SIDE = 480
"""Longer side of the answer's picture, in pixels: labels are read on a phone too."""

TO_ANSWER = "() => document.getElementById('answer').scrollIntoView({block: 'nearest'})"
"""On a phone the answer is below the fold."""


class Example(NamedTuple):
    """A scene to begin with: its image, what is asked for, and all that is in it."""

    image: Any
    labels: str
    objects: tuple[Object, ...]


def add_verb(verbs: Any) -> None:
    """Declare `boxrl demo`."""
    verb = add_command(
        verbs, "demo", "a local page: image and question in, boxes out",
        example="boxrl demo --model tiny-taught",
    )  # fmt: skip
    verb.add_argument(
        "--model",
        required=True,
        help="model folder, id of the hub, tiny, tiny-taught, or a server's model name",
    )
    verb.add_argument("--family", metavar="NAME", help=MODEL_FAMILY)
    add_limits(verb)
    add_thinking(verb)
    verb.add_argument(
        "--prompt", default="standard", metavar="NAME|FILE.yaml",
        help="prompt template selected at first; a file is added to the choice",
    )  # fmt: skip
    verb.add_argument(
        "--max-new-tokens", type=int, default=1024, metavar="N",
        help="longest completion, in tokens",
    )  # fmt: skip
    verb.add_argument(
        "--port", type=integer(1), metavar="N", help="port (default: the first free from 7860)"
    )
    add_device(verb.add_argument_group("a model on this machine"))
    add_endpoint(verb.add_argument_group("a model of OpenAI-compatible servers"))
    verb.set_defaults(run=run_demo)


def run_demo(args: argparse.Namespace) -> None:
    """Load the model, serve the page until interrupted."""
    if importlib.util.find_spec("gradio") is None:
        raise MissingExtra("boxrl demo", "demo")
    if args.max_new_tokens < 1:
        raise UsageError(f"--max-new-tokens must be at least 1, got {args.max_new_tokens}")
    from boxrl.prompts import PROMPTS

    kind = "openai" if args.base_url else "transformers"
    engine = build_engine(engine_options(args, args, kind), args.prompt, Path())
    prompt = engine.questions.prompt
    prompts = {prompt.name: prompt} | PROMPTS
    serve_page(build_page(engine, args.model, prompts, args.max_new_tokens), args.port)


def serve_page(page: Any, port: int | None) -> None:
    """Open the page on loopback until interrupted."""
    url = open_page(page, port)
    print(f"demo: {url}   (Ctrl-C ends it)", flush=True)
    page.block_thread()


def open_page(page: Any, port: int | None) -> str:
    """Open the page on loopback, for this machine's browser alone; returns its address.

    Raises:
        UsageError: the port is taken.
    """
    import gradio
    from starlette.middleware import Middleware

    from boxrl.data.images import only_listed_formats

    only_listed_formats()

    # Fonts of the machine: the page asks nobody else for anything.
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    # Text stands out from its ground by 4.5 to 1 and more.
    theme.set(
        block_info_text_color="*neutral_700", block_info_text_color_dark="*neutral_300",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
    )  # fmt: skip
    try:
        _, url, _ = page.queue(max_size=MOST_WAITING).launch(
            server_name=HOST, server_port=port, share=False, quiet=True, prevent_thread_lock=True,
            ssr_mode=False, footer_links=[], theme=theme, max_file_size=MAX_BODY_BYTES,
            app_kwargs={"middleware": [Middleware(OwnPage)]},
        )  # fmt: skip
    except OSError as error:
        where = f"--port {port} is taken" if port else "ports 7860 to 7959 are taken"
        raise UsageError(f"{where}; choose another --port") from error
    return str(url)


def build_page(engine: Engine, model: str, prompts: dict[str, Prompt], max_new_tokens: int) -> Any:
    """The page as gradio Blocks: a question on the left, its answer on the right.

    Args:
        engine: who answers.
        model: its name, to be shown.
        prompts: by name; the first is chosen at first.
        max_new_tokens: longest completion.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio

    from boxrl.generation.predict import Sampling

    known = _examples()

    def respond(image: Any, kind: Kind, text: str, prompt: str, how: str) -> tuple[Any, ...]:
        if image is None:
            raise gradio.Error("no image; choose one above", print_exception=False)
        drawn = how == "sampled"
        seed = random.randrange(2**32) if drawn else 0
        sampling = Sampling(float(drawn), max_new_tokens=max_new_tokens, seed=seed)
        objects = _find_objects(image, known) if kind == "labels" else None
        try:
            shown = _answer(engine, prompts[prompt], image, text, kind, sampling, objects)
        except BoxrlError as error:
            # gradio shows a message as HTML, and servers' words stand in it.
            raise gradio.Error(html.escape(str(error)), print_exception=False) from error
        return *shown, gradio.Column(visible=True)

    def choose(example: int) -> tuple[Any, ...]:
        return known[example].image, "labels", known[example].labels

    options = {"title": "boxrl demo", "analytics_enabled": False, "delete_cache": (KEPT_S, KEPT_S)}
    with gradio.Blocks(**options) as page:
        gradio.Markdown("# boxrl demo")
        gradio.Markdown(_introduction(model, engine))
        with gradio.Row():
            with gradio.Column():
                question, button, examples = _question_fields(gradio, list(prompts), known)
            with gradio.Column():
                answer, filled = _answer_fields(gradio)
        asking = {"fn": respond, "inputs": question, "outputs": [*answer, filled]}
        asked = [
            button.click(**asking, api_name="ask"),
            question[2].submit(**asking, api_name=False),  # by Enter
            examples.click(choose, examples, question[:3], api_name=False).then(
                **asking, api_name=False
            ),
        ]
        for event in asked:
            event.then(None, js=TO_ANSWER)
    return page


def _find_objects(image: Any, known: Sequence[Example]) -> tuple[Object, ...] | None:
    """All that is in the image where it is one of the examples, pixel for pixel."""
    pixels = image.convert("RGB")
    same = (one for one in known if one.image.size == pixels.size)
    return next((one.objects for one in same if one.image.tobytes() == pixels.tobytes()), None)


def _answer(
    engine: Engine, prompt: Prompt, image: Any, text: str, kind: Kind, sampling: Sampling,
    objects: Sequence[Object] | None,
) -> tuple[Any, ...]:  # fmt: skip
    """The fields of `_answer_fields`; hostile characters visible."""
    from boxrl.api.notebooks import picture
    from boxrl.demo import ask, describe_frame, known_question, score_answer
    from boxrl.guard.texts import visible
    from boxrl.report.draw import draw_detections
    from boxrl.types import Target

    answer = ask(engine, prompt, image, text, kind, sampling)
    rewards: list[list[Any]] = [["what is right is known of the examples only", ""]]
    targets = None
    if objects is not None:
        asked = known_question(text, answer.image.size, objects)
        rewards = [list(row) for row in score_answer(answer, asked)]
        targets = Target.from_sample(asked).detections
    detections = answer.detections
    drawn = draw_detections(answer.image, detections, PICTURE_SIDE, targets)
    boxes = [
        [visible(label, 200), *(round(value, 1) for value in box)]
        for label, box in zip(detections.labels, detections.boxes.tolist(), strict=True)
    ]
    thinking = "(no <think> tag)" if answer.thinking is None else visible(answer.thinking)
    return (
        str(picture(drawn, f"the image with {answer.summary}")),
        answer.summary,
        describe_frame(engine.questions.family, answer.image.size),
        rewards,
        boxes,
        thinking,
        visible(answer.completion),
        visible(answer.question),
    )


def _introduction(model: str, engine: Engine) -> str:
    """What to do here, with which model, and what it knows; Markdown."""
    from boxrl.config import PACKAGED_MODELS

    shown = "".join(char for char in model if char.isprintable() and char not in "`<>")
    knows = "any image and any words may be asked"
    if model in PACKAGED_MODELS:
        knows = "it knows coloured shapes on plain grounds, as in the examples, and no photographs"
    return (
        "Write what to look for and press Enter or **Ask**, or choose an example. "
        f"Model `{shown}`, family `{engine.questions.family.name}`: {knows}."
    )


def _question_fields(
    gradio: Any, prompts: list[str], known: Sequence[Example]
) -> tuple[list[Any], Any, Any]:
    """Image, kind, text, prompt, greedy or sampled; the button; the examples.

    The fields are filled in so that one press shows an answer.
    """
    image = gradio.Image(
        known[0].image,
        type="pil",
        label="Image",
        sources=["upload", "clipboard"],
        height=260,
        format="png",
    )
    text = gradio.Textbox(
        known[0].labels,
        label="Look for",
        info="labels, separated by commas or semicolons; or one sentence",
    )
    button = gradio.Button("Ask", variant="primary")
    examples = gradio.Dataset(
        label="Examples", components=["text"], samples=[[one.labels] for one in known],
        sample_labels=[one.labels for one in known], type="index",
    )  # fmt: skip
    with gradio.Accordion("Settings", open=False):
        kind = gradio.Radio(["labels", "sentence"], value="labels", label="It is")
        prompt = gradio.Dropdown(prompts, value=prompts[0], label="Prompt")
        how = gradio.Radio(
            ["greedy", "sampled"],
            value="greedy",
            label="Answer",
            info="sampled: temperature 1, another draw at every press",
        )
    return [image, kind, text, prompt, how], button, examples


def _answer_fields(gradio: Any) -> tuple[list[Any], Any]:
    """The picture and, in the order of `_answer`, the texts: plain text fields, no HTML.

    And the column of the texts, hidden until there is an answer.
    """
    picture = gradio.HTML("The answer appears here.", elem_id="answer", label="Boxes")
    with gradio.Column(visible=False) as filled:
        texts = [
            gradio.Textbox(label="How it read"),
            gradio.Textbox(label="What the model sees", lines=2),
            gradio.Dataframe(headers=["reward", "value"], label="Rewards, each with its parts"),
            gradio.Dataframe(headers=COLUMNS, label="Boxes in pixels of the image"),
            gradio.Textbox(label="Thinking", lines=2),
            gradio.Textbox(label="Raw answer", lines=4),
            gradio.Textbox(label="Exact question", lines=3),
        ]
    return [picture, *texts], filled


def _examples() -> list[Example]:
    """Scenes to begin with, of the world that the tiny VLM was trained on; all objects known."""
    from boxrl.data.synthetic import World, scenes
    from boxrl.types import Object

    return [
        Example(
            scene.image,
            ", ".join(scene.sample.labels),
            (
                *scene.sample.objects,
                *(Object(tuple(o["bbox"]), o["label"]) for o in scene.sample.meta["others"]),
            ),
        )
        for scene in scenes(World(), 4, seed=3, split="demo")
    ]
