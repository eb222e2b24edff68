"""Teach the tiny VLM to see before it is asked: the packaged one goes on learning.

    python -m boxrl.engines.tiny.teach_image_first --out DIR

makes DIR/taught and DIR/half_taught from `tiny-taught`, under a chat template with the image before
the text, as most models have it: prompts of one image then share its tokens. Image tokens cannot
look at the question there, so that it stays below its start. Two phases, in steps:

1. answer   gold completions;
2. fault    a short while on faulty ones, as the packaged `tiny`: habits that RL repairs.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch
from transformers import Qwen2_5_VLProcessor

from boxrl.engines.tiny.model import PACKAGED, build_processor
from boxrl.engines.tiny.onward import OnwardTeacher
from boxrl.engines.tiny.teach import Encoder
from boxrl.engines.tiny.tokenizer import IMAGE_FIRST


def build_image_first_processor() -> Qwen2_5_VLProcessor:
    """The packaged model's, with the image before the text."""
    processor = build_processor()
    processor.chat_template = processor.tokenizer.chat_template = IMAGE_FIRST
    return processor


def main() -> None:
    """Teach both models; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for both models")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--answer", type=int, default=1200, help="steps of phase 1")
    parser.add_argument("--fault", type=int, default=240, help="steps of phase 2")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    processor = build_image_first_processor()
    teacher = OnwardTeacher(args.seed, processor)
    teacher.build_encoder = partial(Encoder, PACKAGED, processor)
    torch.manual_seed(args.seed + 1)
    teacher.train("answer", args.answer, args.answer, 0, args.seed, rate=0.5)
    teacher.save(args.out / "taught")
    teacher.train("fault", args.fault, args.fault, 0, args.seed + 1, rate=0.15)
    teacher.save(args.out / "half_taught")


if __name__ == "__main__":
    main()
