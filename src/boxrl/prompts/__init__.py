"""Samples to prompts and gold completions.

named       the prompts there are: templates, and where their instruction stands
choosing    a prompt by its name, or from a YAML file
rendering   sample + prompt + family -> messages and gold completion

A prompt is rendered from the sample when it is used, never stored in it, so one samples file
serves every prompt, family and way of answering. `parsing.parse` is the inverse of
`render_target`.
"""

from boxrl.prompts.choosing import build_prompt, read_prompt
from boxrl.prompts.named import (
    DETECT,
    DIRECT,
    ENHANCED,
    GROUND,
    NATIVE,
    PROMPTS,
    REC,
    STANDARD,
    Prompt,
)
from boxrl.prompts.rendering import (
    OUTPUT,
    render_answer,
    render_completion,
    render_messages,
    render_output,
    render_problem,
    render_target,
    render_text,
    render_think,
)

__all__ = [
    "DETECT",
    "DIRECT",
    "ENHANCED",
    "GROUND",
    "NATIVE",
    "OUTPUT",
    "PROMPTS",
    "REC",
    "STANDARD",
    "Prompt",
    "build_prompt",
    "read_prompt",
    "render_answer",
    "render_completion",
    "render_messages",
    "render_output",
    "render_problem",
    "render_target",
    "render_text",
    "render_think",
]
