"""Teach the tiny VLM to read its format instruction: the packaged one goes on learning.

    python -m boxrl.engines.tiny.teach_reading --out DIR [--system 0.02]

makes DIR/taught and DIR/half_taught from `tiny-taught`, under a tokenizer with more words. Two
phases, from one seed:

1. read     gold answers in one of four forms, whichever the instruction asks for, in wordings that
            lose words and gain others (`wordings`);
2. fault    a short while on faulty boxes and, in known doses, on another form than the asked one.

`--system` is the share of rows whose instruction stands in the system message: what is read there
depends on it.
"""

from __future__ import annotations

import random
from functools import partial

import torch
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLProcessor

from boxrl.engines.tiny.faults import P_BROKEN_FORMAT, render_faulty_answer
from boxrl.engines.tiny.model import PACKAGED, build_processor
from boxrl.engines.tiny.onward import OnwardTeacher, build_parser
from boxrl.engines.tiny.teach import Encoder
from boxrl.engines.tiny.tokenizer import NUMBERS, build_tokenizer
from boxrl.engines.tiny.wordings import (
    FORMS,
    SENTENCES,
    SHARES,
    WORDS,
    draw_prompt,
    render_form,
)
from boxrl.prompts import Prompt, render_answer, render_think
from boxrl.types import Detections, Sample


def build_reading_tokenizer() -> PreTrainedTokenizerFast:
    """The tiny VLM's, which reads instructions word by word."""
    return build_tokenizer(NUMBERS, SENTENCES, WORDS)


def build_reading_processor() -> Qwen2_5_VLProcessor:
    """The packaged model's, with that tokenizer."""
    return build_processor(PACKAGED, build_reading_tokenizer())


class ReadingEncoder(Encoder):
    """Scenes asked in a drawn wording, answered in the form that it asks for."""

    def __init__(self, p_system: float) -> None:
        super().__init__(PACKAGED, build_reading_processor())
        self.p_system = p_system

    def ask(self, sample: Sample, rng: random.Random, faulty: bool) -> tuple[Prompt, str]:
        """A wording, and the completion that it asks for, or a faulty one."""
        form = rng.choices(FORMS, SHARES)[0]
        prompt = draw_prompt(form, rng, self.p_system)
        if faulty:
            answer = render_faulty_answer(sample, self.family, rng)
            if rng.random() < P_BROKEN_FORMAT:
                form = rng.choice([other for other in FORMS if other != form])
        else:
            targets = Detections.from_objects(sample.targets)
            answer = render_answer(targets, self.family, sample.size_wh)
        return prompt, render_form(answer, render_think(sample), form)


def main() -> None:
    """Teach both models; see the module's docstring."""
    parser = build_parser(__doc__, "read", 600, 240)
    parser.add_argument("--system", type=float, default=0.02, help="share of system messages")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    teacher = OnwardTeacher(args.seed, build_reading_processor())
    teacher.build_encoder = partial(ReadingEncoder, args.system)
    teacher.teach("read", args.read, args.fault, args.seed, 0.3, args.out)


if __name__ == "__main__":
    main()
