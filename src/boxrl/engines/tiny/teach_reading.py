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

import argparse
import random
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLProcessor

from boxrl.engines.tiny.faults import P_BROKEN_FORMAT, render_faulty_answer
from boxrl.engines.tiny.model import PACKAGED, build_processor
from boxrl.engines.tiny.onward import OnwardTeacher
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
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for both models")
    parser.add_argument("--system", type=float, default=0.02, help="share of system messages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--read", type=int, default=600, help="steps of phase 1")
    parser.add_argument("--fault", type=int, default=240, help="steps of phase 2")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    teacher = OnwardTeacher(args.seed, build_reading_processor())
    teacher.build_encoder = partial(ReadingEncoder, args.system)
    torch.manual_seed(args.seed + 1)
    teacher.train("read", args.read, args.read, 0, args.seed, rate=0.3)
    teacher.save(args.out / "taught")
    teacher.train("fault", args.fault, args.fault, 0, args.seed + 1, rate=0.15)
    teacher.save(args.out / "half_taught")


if __name__ == "__main__":
    main()
