"""How fast samples are answered, beside plain `generate` of transformers on the same model.

    python perf/generate.py [--rounds 3] [--tokens 256 576] [--threads 2] [--json]

From samples and image files to completions, greedy, 32 new tokens each, on the Qwen2.5-VL of
random weights of perf/grpo_step.py: 4 samples with one answer each, and one with eight.
`one by one` is the loop of the model cards; `batched` hands all rows to `generate` at once, a
prompt of eight answers eight times. The ways take turns in one process; `same` says that the
texts equal boxrl's.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from grpo_step import build_config
from timing import print_rows, summarize, take_turns
from transformers import Qwen2_5_VLForConditionalGeneration

from boxrl.data.synthetic import World, scenes
from boxrl.engines.generate import Generator
from boxrl.engines.loading import load, quiet
from boxrl.engines.patch_embedding import use_fast_patch_embedding
from boxrl.families import read_family
from boxrl.generation.model_folders import model_folder
from boxrl.generation.predict import Sampling, draws
from boxrl.generation.questions import Questions
from boxrl.prompts import build_prompt
from boxrl.types import Sample

NEW_TOKENS = 32


def build_generator(images: Path, tokens: int) -> Generator:
    """The engine of boxrl on the random model; every image becomes `tokens` image tokens."""
    tiny, processor = load("tiny", "float32", "cpu")
    pixels = tokens * 28**2
    processor.image_processor.size = {"shortest_edge": pixels, "longest_edge": pixels}
    config = build_config(tiny.config.text_config.vocab_size)
    for name in ("image_token_id", "video_token_id", "vision_start_token_id"):
        setattr(config, name, getattr(tiny.config, name))
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config).eval()
    model.generation_config = tiny.generation_config
    use_fast_patch_embedding(model)
    family = read_family(model_folder("tiny"))
    return Generator(model, processor, Questions(family, build_prompt("standard"), images))


def write_scenes(images: Path, count: int) -> list[Sample]:
    """Synthetic scenes; their images on disk."""
    drawn = list(scenes(World(), count, seed=0, split="benchmark"))
    for scene in drawn:
        scene.image.save(images / scene.sample.image)
    return [scene.sample for scene in drawn]


def answer_with_boxrl(generator: Generator, samples: list[Sample], n: int) -> list[str]:
    """Every draw, prompts run once."""
    sampling = Sampling(max_new_tokens=NEW_TOKENS, n=n)
    return [row.completion for row in generator.answer(samples, sampling)]


@torch.no_grad()
def answer_plainly(generator: Generator, samples: list[Sample], n: int, batch: int) -> list[str]:
    """What model cards show: chat template, `generate`, decode."""
    questions, processor, texts = generator.questions, generator.processor, []
    rows = [draw.sample for draw in draws(samples, n)]
    for start in range(0, len(rows), batch):
        conversations = [
            questions.messages(sample, {"type": "image", "image": questions.image(sample)})
            for sample in rows[start : start + batch]
        ]
        inputs = processor.apply_chat_template(
            conversations, add_generation_prompt=True, tokenize=True, return_dict=True,
            processor_kwargs={"padding": True, "return_tensors": "pt"},
        )  # fmt: skip
        output = generator.model.generate(
            **inputs, max_new_tokens=NEW_TOKENS, do_sample=False, suppress_tokens=generator.banned
        )
        tail = output[:, inputs["input_ids"].shape[1] :]
        texts += processor.batch_decode(tail, skip_special_tokens=True)
    return texts


def main() -> None:
    """Every way at every size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, nargs="+", default=[256, 576])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    quiet()
    torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        images = Path(temporary)
        samples = write_scenes(images, 4)
        for tokens in args.tokens:
            generator = build_generator(images, tokens)
            for count, n in ((4, 1), (1, 8)):
                asked = samples[:count]
                calls = {
                    "boxrl": partial(answer_with_boxrl, generator, asked, n),
                    "batched": partial(answer_plainly, generator, asked, n, count * n),
                    "one by one": partial(answer_plainly, generator, asked, n, 1),
                }
                said = {name: call() for name, call in calls.items()}
                sizes = {"image tokens": tokens, "samples": count, "answers each": n}
                rows += [
                    sizes | row | {"same": said[row["what"]] == said["boxrl"]}
                    for row in summarize(take_turns(calls, args.rounds), "boxrl")
                ]
    print_rows(rows, args.json)


if __name__ == "__main__":
    main()
