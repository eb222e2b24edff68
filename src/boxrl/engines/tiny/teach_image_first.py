"""Teach the tiny VLM to see before it is asked: the packaged one goes on learning.

    python -m boxrl.engines.tiny.teach_image_first --out DIR

makes DIR/taught and DIR/half_taught from `tiny-taught`, under a chat template with the image before
the text, as most models have it: prompts of one image then share its tokens. Two phases, from one
seed:

1. answer   gold answers;
2. fault    a short while on faulty ones, as `teach` has it.
"""

from __future__ import annotations

from functools import partial

import torch
from transformers import Qwen2_5_VLProcessor

from boxrl.engines.tiny.model import PACKAGED, build_processor
from boxrl.engines.tiny.onward import OnwardTeacher, build_parser
from boxrl.engines.tiny.teach import Encoder
from boxrl.engines.tiny.tokenizer import IMAGE_FIRST


def build_image_first_processor() -> Qwen2_5_VLProcessor:
    """The packaged model's, with the image before the text."""
    processor = build_processor()
    processor.chat_template = processor.tokenizer.chat_template = IMAGE_FIRST
    return processor


def main() -> None:
    """Teach both models; see the module's docstring."""
    args = build_parser(__doc__, "answer", 600, 240).parse_args()
    torch.set_num_threads(args.threads)
    processor = build_image_first_processor()
    teacher = OnwardTeacher(args.seed, processor)
    teacher.build_encoder = partial(Encoder, PACKAGED, processor)
    teacher.teach("answer", args.answer, args.fault, args.seed, 0.5, args.out)


if __name__ == "__main__":
    main()
