"""`boxrl demo`: a page on loopback that asks a model about an image."""

from __future__ import annotations

import argparse
import html
import importlib.util
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxrl.cli.options import MODEL_FAMILY, add_device, add_limits, add_thinking, integer
from boxrl.cli.parser import add_command
from boxrl.cli.predict import add_endpoint, engine_options
from boxrl.engines.build import build_engine
from boxrl.errors import BoxrlError, MissingExtra, UsageError
from boxrl.guard.pages import HOST, MAX_BODY_BYTES, OwnPage

if TYPE_CHECKING:
    from boxrl.api.answers import Answer
    from boxrl.demo import Kind
    from boxrl.generation.predict import Engine
    from boxrl.prompts import Prompt
    from boxrl.types import Sample

MOST_WAITING = 32
"""Questions that wait for the one that is being answered."""

KEPT_S = 3600
"""Seconds after which gradio deletes images that it was given."""

COLUMNS = ["label", "x1", "y1", "x2", "y2"]


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
    theme.set(block_info_text_color="*neutral_700", block_info_text_color_dark="*neutral_300")
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

    from boxrl.demo import ask
    from boxrl.generation.predict import Sampling

    def respond(image: Any, kind: Kind, text: str, prompt: str, how: str) -> tuple[Any, ...]:
        if image is None:
            raise gradio.Error("no image; drop one on the left", print_exception=False)
        drawn = how == "sampled"
        seed = random.randrange(2**32) if drawn else 0
        sampling = Sampling(float(drawn), max_new_tokens=max_new_tokens, seed=seed)
        try:
            answer = ask(engine, prompts[prompt], image, text, kind, sampling)
        except BoxrlError as error:
            # gradio shows a message as HTML, and servers' words stand in it.
            raise gradio.Error(html.escape(str(error)), print_exception=False) from error
        return answer.draw(), *_cells(answer)

    options = {"title": "boxrl demo", "analytics_enabled": False, "delete_cache": (KEPT_S, KEPT_S)}
    with gradio.Blocks(**options) as page:
        gradio.Markdown("# boxrl demo")
        gradio.Markdown(_introduction(model, engine))
        with gradio.Row():
            with gradio.Column():
                question = _question_fields(gradio, list(prompts))
                button = gradio.Button("Ask", variant="primary")
                _show_examples(gradio, question)
            with gradio.Column():
                answer = _answer_fields(gradio)
        button.click(respond, question, answer, api_name="ask")
        question[2].submit(respond, question, answer, api_name=False)  # by Enter
    return page


def _introduction(model: str, engine: Engine) -> str:
    """What to do here, with which model, and what it knows; Markdown."""
    from boxrl.config import PACKAGED_MODELS

    shown = "".join(char for char in model if char.isprintable() and char not in "`<>")
    knows = "any image and any words may be asked"
    if model in PACKAGED_MODELS:
        knows = "it knows coloured shapes on plain grounds, as in the examples, and no photographs"
    return (
        "Choose an image, write what to look for, press Enter or **Ask**. "
        f"Model `{shown}`, family `{engine.questions.family.name}`: {knows}."
    )


def _question_fields(gradio: Any, prompts: list[str]) -> list[Any]:
    """Image, kind, text, prompt, greedy or sampled; filled in so that one press shows an answer."""
    scene, sample = _examples()[0]
    return [
        gradio.Image(scene, type="pil", label="Image", sources=["upload", "clipboard"]),
        gradio.Radio(["labels", "sentence"], value="labels", label="Look for"),
        gradio.Textbox(
            ", ".join(sample.labels),
            label="Labels or sentence",
            info="labels are separated by commas or semicolons",
        ),
        gradio.Dropdown(prompts, value=prompts[0], label="Prompt"),
        gradio.Radio(
            ["greedy", "sampled"],
            value="greedy",
            label="Answer",
            info="sampled: temperature 1, another draw at every press",
        ),
    ]


def _show_examples(gradio: Any, fields: list[Any]) -> None:
    """Questions that fill the fields when they are pressed."""
    rows = [[image, "labels", ", ".join(asked.labels)] for image, asked in _examples()]
    gradio.Examples(rows, fields[:3], cache_examples=False, label="Examples")


def _answer_fields(gradio: Any) -> list[Any]:
    """The picture and, in the order of `_cells`, the texts: plain text fields, no HTML."""
    return [
        gradio.Image(
            label="Boxes", format="png", interactive=False, buttons=["download", "fullscreen"]
        ),
        gradio.Textbox(label="How it read"),
        gradio.Textbox(label="Thinking", lines=2),
        gradio.Dataframe(headers=COLUMNS, label="Boxes in pixels of the image"),
        gradio.Textbox(label="Raw answer", lines=4),
        gradio.Textbox(label="Exact question", lines=3),
    ]


def _cells(answer: Answer) -> tuple[Any, ...]:
    """Everything but the picture, as the page's fields take it; hostile characters visible."""
    from boxrl.report.text import visible

    detections = answer.detections
    rows = [
        [visible(label, 200), *(round(value, 1) for value in box)]
        for label, box in zip(detections.labels, detections.boxes.tolist(), strict=True)
    ]
    thinking = "(no <think> tag)" if answer.thinking is None else visible(answer.thinking)
    raw, asked = visible(answer.completion), visible(answer.question)
    return answer.summary, thinking, rows, raw, asked


def _examples() -> list[tuple[Any, Sample]]:
    """Scenes to begin with, of the world that the tiny VLM was trained on."""
    from boxrl.data.synthetic import World, scenes

    return [(scene.image, scene.sample) for scene in scenes(World(), 4, seed=3, split="demo")]
