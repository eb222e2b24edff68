"""Teach the tiny VLM to see before it is asked: the packaged one goes on learning.

    python -m boxrl.engines.tiny.teach_image_first --out DIR

makes DIR/taught from `tiny-taught`, on gold answers under a chat template with the image before the
text, as most models have it: prompts of one image then share its tokens. Image tokens cannot look
at the question there, so that it stays far below its start.
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
    """Teach it; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    processor = build_image_first_processor()
    teacher = OnwardTeacher(args.seed, processor)
    teacher.build_encoder = partial(Encoder, PACKAGED, processor)
    torch.manual_seed(args.seed + 1)
    teacher.train("answer", args.steps, args.steps, 0, args.seed, rate=0.5)
    teacher.save(args.out / "taught")


if __name__ == "__main__":
    main()
