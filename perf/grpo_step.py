"""How fast a GRPO step is beside TRL's own path: same model, batch and rewards, interleaved.

    python perf/grpo_step.py [--parts train trees bundle alike idle growth memory generate images
                                   step] [--rounds 3] [--threads 2] [--json]

The model is a Qwen2.5-VL of random weights: 6 layers of width 384, a vision tower of 4 layers of
width 256, prompts of 150 text tokens and one image. Each path has it as its own loader prepares it,
with the same weights. TRL's column is GRPOTrainer's method itself, its fused head scoring
completion positions only, as it does on a GPU; on a CPU it would score all positions, which is
slower still. The paths take turns in one process; peaks of memory are taken in a process of their
own each, above the loaded model. `fewer FLOPs` is TRL's over boxrl's, in all but attention.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import boxrl.engines.training  # noqa: F401  # first: readies torchvision, which trl imports

# isort: split
import torch
import trl.trainer.utils
from PIL import Image
from timing import compare, print_tables
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import PrinterCallback, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from trl import GRPOTrainer

from boxrl.config import Recipe
from boxrl.data.synthetic import WORLDS, scenes
from boxrl.engines.drift import until_end
from boxrl.engines.generate import Generator
from boxrl.engines.loading import load, load_processor, quiet
from boxrl.engines.patch_embedding import use_fast_patch_embedding
from boxrl.engines.prefix import shared_prefix
from boxrl.engines.prefix.alike import keep_apart
from boxrl.engines.prefix.prefill import generate_groups
from boxrl.engines.prefix.shared_prefix import enable, log_probs, pack
from boxrl.engines.training import grpo
from boxrl.engines.training.batches import split_rows
from boxrl.engines.training.idle_groups import log_probs_of_learning
from boxrl.engines.training.preprocessing import once_per_image
from boxrl.engines.training.train import training_samples
from boxrl.families import read_family
from boxrl.generation.model_folders import model_folder
from boxrl.generation.predict import Sampling
from boxrl.generation.questions import Questions
from boxrl.prompts import build_prompt

IMAGE, VIDEO, START, END, VOCABULARY = 4, 5, 6, 7, 2048
TEXT_TOKENS = 150
G = 8
TRAIN = [(tokens, completion, 1) for completion in (100, 200) for tokens in (256, 576, 1024)] + [
    (256, 100, 3)
]
"""Image tokens, completion tokens, groups in the micro-batch."""
GROWTH = list(product((64, 256, 576), (4, 8, 16), (50, 100, 200)))
"""Image tokens, completions per prompt, completion tokens: one prompt each."""
TREES = list(product((256, 576, 1024), (2, 4)))
"""Image tokens, prompts of the image."""
IDLE = (256, 576)
TRAINER = SimpleNamespace(accelerator=SimpleNamespace(autocast=nullcontext, is_main_process=True))


def build_config(vocabulary: int = VOCABULARY) -> Qwen2_5_VLConfig:
    """The benchmark's sizes."""
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": vocabulary, "hidden_size": 384, "intermediate_size": 1024,
            "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 2,
            "max_position_embeddings": 8192, "initializer_range": 0.03,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 12, 12],
            },
            "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        },
        vision_config={
            "depth": 4, "hidden_size": 256, "intermediate_size": 512, "num_heads": 4,
            "out_hidden_size": 384, "fullatt_block_indexes": [1, 3], "window_size": 112,
            "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
            "initializer_range": 0.03,
        },
        image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=START,
        vision_end_token_id=END, tie_word_embeddings=True,
    )  # fmt: skip


def build_model(path: str) -> Any:
    """The benchmark's Qwen2.5-VL with TRL's fused head, as a path prepares it."""
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(build_config()).train()
    trl.trainer.utils.add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    if path == "boxrl":
        enable(model)
        use_fast_patch_embedding(model)
    return model


def build_models() -> dict[str, Any]:
    """A model for each path of training."""
    return {path: build_model(path) for path in PATHS}


def build_batch(
    tokens: int, completion: int, groups: int, group: int = G, patch: int = 14, one: bool = False
) -> dict[str, Any]:
    """A batch as TRL holds it: `groups` prompts, each `group` times, with as many completions.

    With `one`, all prompts are about one image, and begin alike up to its end.
    """
    generator = torch.Generator().manual_seed(0)
    side = int(tokens**0.5)

    def words(n: int) -> Tensor:
        return torch.randint(10, VOCABULARY, (n,), generator=generator)

    image = torch.tensor([START, *[IMAGE] * side**2, END])
    heads = [torch.cat([words(30), image]) for _ in range(groups)]
    pixels = [torch.randn(4 * side**2, 6 * patch**2, generator=generator) for _ in range(groups)]
    if one:
        heads, pixels = heads[:1] * groups, pixels[:1] * groups
    prompts = [torch.cat([head, words(TEXT_TOKENS - 30)]) for head in heads]
    rows = [torch.cat([p, words(completion)]) for p in prompts for _ in range(group)]
    ids = torch.stack(rows)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.cat([p for p in pixels for _ in range(group)]),
        "image_grid_thw": torch.tensor([[1, 2 * side, 2 * side]] * len(rows)),
        "num_images": [1] * len(rows),
        "group": group,
        "mm_token_type_ids": (ids == IMAGE).long(),
    }


def trl_log_probs(model: Any, batch: dict[str, Any], completion: int) -> Tensor:
    """TRL's own method."""
    inputs = dict(batch)
    ids, mask, _ = (inputs.pop(key) for key in ("input_ids", "attention_mask", "group"))
    logps, _, _ = GRPOTrainer._get_per_token_logps_and_entropies(
        TRAINER, model, ids, mask, completion, compute_entropy=True, **inputs
    )
    return logps


def our_log_probs(model: Any, batch: dict[str, Any], completion: int) -> Tensor:
    """boxrl's, from the same tensors."""
    ids = batch["input_ids"]
    rows = split_rows(batch, completion)
    group = batch["group"]
    groups = [list(range(start, start + group)) for start in range(0, len(ids), group)]
    return log_probs(model, rows, groups)[0]


PATHS = {"trl": trl_log_probs, "boxrl": our_log_probs}


def train_step(model: Any, batch: dict[str, Any], completion: int, path: str) -> Tensor:
    """Forward and backward of a weighted sum of log-probabilities."""
    model.zero_grad(set_to_none=True)
    logps = PATHS[path](model, batch, completion)
    weights = torch.randn(logps.shape, generator=torch.Generator().manual_seed(1))
    (logps * weights).mean().backward()
    return logps.detach()


def count_flops(call: Callable[[], Any]) -> float:
    """FLOPs of matrix products and convolutions; a CPU's attention is not counted."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def bench_train(rounds: int) -> list[dict[str, Any]]:
    """Forward + backward."""
    rows = []
    models = build_models()
    for tokens, completion, groups in TRAIN:
        batch = build_batch(tokens, completion, groups)
        calls = {path: partial(train_step, models[path], batch, completion, path) for path in PATHS}
        kept = {path: call() for path, call in calls.items()}
        difference = float((kept["trl"] - kept["boxrl"]).abs().max())
        row = {"image tokens": tokens, "completion": completion, "groups": groups}
        fewer = count_flops(calls["trl"]) / count_flops(calls["boxrl"])
        counted = {"fewer FLOPs": round(fewer, 2), "largest difference": difference}
        rows.append(row | compare(calls, rounds) | counted)
        print(rows[-1], file=sys.stderr)
    return rows


def bench_trees(rounds: int) -> list[dict[str, Any]]:
    """Forward + backward of K prompts of one image, in one row and one after the other."""
    rows = []
    model = build_model("boxrl")

    def one_by_one(batches: list[dict[str, Any]]) -> None:
        for batch in batches:
            train_step(model, batch, 100, "boxrl")

    for tokens, prompts in TREES:
        together = build_batch(tokens, 100, prompts, one=True)
        apart = [build_batch(tokens, 100, 1) for _ in range(prompts)]
        calls = {
            "one by one": partial(one_by_one, apart),
            "boxrl": partial(train_step, model, together, 100, "boxrl"),
        }
        row = {"image tokens": tokens, "completion": 100, "prompts of the image": prompts}
        rows.append(row | compare(calls, rounds))
        print(rows[-1], file=sys.stderr)
    return rows


def bench_bundle(rounds: int) -> list[dict[str, Any]]:
    """Forward + backward by prompt: of one by TRL, of 4 of an image at once by boxrl."""
    rows = []
    models = build_models()
    prompts = 4
    for tokens in (256, 576, 1024):
        bundle = build_batch(tokens, 100, prompts, one=True)
        calls = {
            "trl": partial(train_step, models["trl"], build_batch(tokens, 100, 1), 100, "trl"),
            "boxrl": partial(train_step, models["boxrl"], bundle, 100, "boxrl"),
        }
        found = compare(calls, rounds)
        found["boxrl ms"] = [round(ms / prompts, 3) for ms in found["boxrl ms"]]
        found["times as fast"] = [round(times * prompts, 2) for times in found["times as fast"]]
        rows.append({"image tokens": tokens, "completion": 100, "together": prompts} | found)
        print(rows[-1], file=sys.stderr)
    return rows


def draw_answers(name: str, folder: Path) -> Tensor:
    """Of a packaged model, G answers each to the questions of 4 scenes: Long "4*G c", padded."""
    found = list(scenes(WORLDS["standard"], 4, 0, "train"))
    for scene in found:
        scene.image.save(folder / scene.sample.image)
    model, processor = load(name, "float32", "cpu")
    questions = Questions(read_family(model_folder(name)), build_prompt("standard"), folder)
    generator = Generator(model, processor, questions)
    samples = [scene.sample for scene in found for _ in range(G)]
    _, answers = generator.draw(samples, Sampling(temperature=1.0, max_new_tokens=160))
    # Numbered past the tokens that stand for images here.
    return (answers + 10).masked_fill(~until_end(answers, generator.eos), 0)


def bench_alike(rounds: int) -> list[dict[str, Any]]:
    """Forward + backward of 4 prompts and drawn answers, beginnings once or in every answer."""
    rows = []
    model = build_model("boxrl")
    for name, tokens in product(("tiny", "tiny-taught"), (256, 1024)):
        with tempfile.TemporaryDirectory() as folder:
            answers = draw_answers(name, Path(folder))
        completion = answers.shape[1]
        batch = build_batch(tokens, completion, 4)
        batch["input_ids"][:, -completion:] = answers
        batch["attention_mask"][:, -completion:] = answers != 0
        split, groups = split_rows(batch, completion), [[*range(k, k + G)] for k in (0, 8, 16, 24)]
        kept = len(pack(model, split, groups, alike=True)[1].completions)

        def apart(batch: Any = batch, completion: int = completion) -> None:
            with patch.object(shared_prefix, "split_alike", lambda own, _: keep_apart(own)):
                train_step(model, batch, completion, "boxrl")

        calls = {
            "each by itself": apart,
            "boxrl": partial(train_step, model, batch, completion, "boxrl"),
        }
        of_all = int((answers != 0).sum())
        row = {"answers of": name, "image tokens": tokens, "their tokens": of_all, "run": kept}
        rows.append(row | compare(calls, rounds))
        print(rows[-1], file=sys.stderr)
    return rows


def bench_idle(rounds: int) -> list[dict[str, Any]]:
    """Forward + backward of 4 prompts, of one of which all completions earned the same."""
    rows = []
    model = build_model("boxrl")
    for tokens in IDLE:
        batch = build_batch(tokens, 100, 4)
        split = split_rows(batch, 100)
        groups = [list(range(start, start + G)) for start in range(0, 4 * G, G)]

        def step(idle: set[int], split: Any = split, groups: Any = groups) -> None:
            model.zero_grad(set_to_none=True)
            log_probs_of_learning(model, split, groups, idle, False)[0].mean().backward()

        calls = {"all backwards": partial(step, set()), "boxrl": partial(step, set(range(G)))}
        row = {"image tokens": tokens, "completion": 100, "prompts": 4, "of equal rewards": 1}
        rows.append(row | compare(calls, rounds))
        print(rows[-1], file=sys.stderr)
    return rows


def bench_growth(rounds: int) -> list[dict[str, Any]]:
    """Forward + backward of one prompt over the three sizes that decide what sharing it saves."""
    rows = []
    models = build_models()
    for tokens, group, completion in GROWTH:
        batch = build_batch(tokens, completion, 1, group)
        calls = {path: partial(train_step, models[path], batch, completion, path) for path in PATHS}
        row = {"image tokens": tokens, "group": group, "completion": completion}
        # Its 27 rows hold each other up: fewer rounds each.
        rows.append(row | compare(calls, (rounds + 1) // 2))
        print(rows[-1], file=sys.stderr)
    return rows


def bench_memory(_rounds: int) -> list[dict[str, Any]]:
    """Peak resident memory of one step above that of the loaded model, in MB."""
    rows = []
    for tokens, completion, groups in TRAIN:
        row: dict[str, Any] = {"image tokens": tokens, "completion": completion, "groups": groups}
        for path in PATHS:
            call = [sys.executable, __file__, "--peak", path, f"{tokens},{completion},{groups}"]
            row[f"{path} MB"] = int(subprocess.check_output(call))
        row["share"] = round(row["boxrl MB"] / row["trl MB"], 2)
        rows.append(row)
        print(row, file=sys.stderr)
    return rows


def print_peak(path: str, size: str) -> None:
    """What `bench_memory` starts in a process of its own."""
    tokens, completion, groups = map(int, size.split(","))
    model, batch = build_model(path), build_batch(tokens, completion, groups)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    train_step(model, batch, completion, path)
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    print((peak - before) // 2**20)


def bench_generate(rounds: int) -> list[dict[str, Any]]:
    """60 tokens for groups of 8, or at most 60 where one token in 25 ends an answer.

    A step generates for all of its prompts at once; one prompt alone is the hardest case, for
    reading the weights, which nothing saves, takes the most of it.
    """
    rows = []
    models = {path: model.eval() for path, model in build_models().items()}
    ways = (("even", 1), ("even", 4), ("uneven", 1))
    for (lengths, prompts), tokens in product(ways, (256, 576, 1024)):
        batch = build_batch(tokens, 1, prompts)
        names = ("input_ids", "attention_mask", "mm_token_type_ids")
        inputs = {name: batch[name][:, :-1] for name in names}
        inputs |= {name: batch[name] for name in ("pixel_values", "image_grid_thw")}
        options: dict[str, Any] = {
            "max_new_tokens": 60, "pad_token_id": 0, "suppress_tokens": [IMAGE, VIDEO, START, END],
        }  # fmt: skip
        if lengths == "even":
            options |= {"min_new_tokens": 60, "do_sample": False}
        else:
            ends = list(range(10, 10 + VOCABULARY // 25))
            options |= {"do_sample": True, "top_k": 0, "eos_token_id": ends}
        outputs: dict[str, Tensor] = {}

        def repeated(inputs: Any = inputs, outputs: Any = outputs, options: Any = options) -> None:
            torch.manual_seed(0)
            with torch.no_grad():
                outputs["trl"] = models["trl"].generate(**inputs, **options)

        def once(inputs: Any = inputs, outputs: Any = outputs, options: Any = options) -> None:
            torch.manual_seed(0)
            outputs["boxrl"] = generate_groups(models["boxrl"], inputs, G, **options)

        row = {"image tokens": tokens, "new tokens": 60, "groups": prompts, "answers": lengths}
        row |= compare({"trl": repeated, "boxrl": once}, rounds)
        rows.append(row | {"same tokens": torch.equal(outputs["trl"], outputs["boxrl"])})
        print(rows[-1], file=sys.stderr)
    return rows


def bench_images(rounds: int) -> list[dict[str, Any]]:
    """Preprocessing of 2 prompts of 8 completions, as a generation asks for it."""
    processor = load_processor(model_folder("tiny")).image_processor
    rows = []
    for tokens in (256, 576, 1024):
        side = 28 * int(tokens**0.5)
        processor.size = {"shortest_edge": side**2, "longest_edge": side**2}
        generator = torch.Generator().manual_seed(0)
        noise = torch.randint(0, 256, (2, side, side, 3), generator=generator, dtype=torch.uint8)
        images = [Image.fromarray(n.numpy()).copy() for n in noise for _ in range(G)]

        def twice(images: Any = images) -> None:
            processor(images)
            processor(images, return_tensors="pt")

        def once(twice: Any = twice) -> None:
            with once_per_image(processor):
                twice()

        row = {"image tokens": tokens, "images": 2, "copies": len(images)}
        rows.append(row | compare({"trl": twice, "boxrl": once}, rounds))
        print(rows[-1], file=sys.stderr)
    return rows


def bench_step(rounds: int) -> list[dict[str, Any]]:
    """A whole GRPO step of one prompt: generation, rewards, forward, backward, optimizer."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for tokens, completion in ((256, 60), (576, 60)):
            trainers = {
                name: build_trainer(
                    Path(folder) / f"{name}{tokens}", tokens, completion, name == "boxrl"
                )
                for name in PATHS
            }
            row = {"image tokens": tokens, "completion": completion, "groups": 1}
            calls = {name: trainer.train for name, trainer in trainers.items()}
            rows.append(row | compare(calls, rounds))
            print(rows[-1], file=sys.stderr)
    return rows


def build_trainer(out: Path, tokens: int, completion: int, shared: bool) -> Any:
    """The trainer of one step on a synthetic scene, on boxrl's or on TRL's path."""
    recipe = Recipe.model_validate(
        {
            "name": "bench", "method": "grpo", "out": out, "rewards": ["format", "f1"],
            "data": {"synthetic": {"train": 4, "test": 1}},
            "train": {
                "max_steps": 1, "prompts_per_step": 1, "num_generations": G,
                "max_completion_length": completion, "save_steps": 10**6,
                "trl": {
                    "generation_kwargs": {"min_new_tokens": completion},
                    "save_strategy": "no", "logging_strategy": "no",
                },
            },
            "engine": {"device": "cpu", "dtype": "float32", "shared_prefix": shared},
        }
    )  # fmt: skip
    tiny, processor = load("tiny", "float32", "cpu")
    side = 28 * int(tokens**0.5)
    processor.image_processor.size = {"shortest_edge": side**2, "longest_edge": side**2}
    config = build_config(tiny.config.text_config.vocab_size)
    for name in ("image_token_id", "video_token_id", "vision_start_token_id"):
        setattr(config, name, getattr(tiny.config, name))
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config = tiny.generation_config
    if shared:
        use_fast_patch_embedding(model)
    samples, images = training_samples(recipe)
    family = read_family(model_folder("tiny"))
    trainer = grpo.build_trainer(recipe, model, processor, family, samples, images)
    trainer.remove_callback(PrinterCallback)
    return trainer


PARTS = {
    f"Forward and backward, {G} completions per prompt": bench_train,
    "Forward and backward of prompts of one image, together and one by one": bench_trees,
    "Forward and backward by prompt, of one by TRL and of several of an image": bench_bundle,
    "Forward and backward of answers as the tiny models draw them": bench_alike,
    "Forward and backward where a quarter of the groups earned the same": bench_idle,
    "Forward and backward of one prompt as image, group and completions grow": bench_growth,
    "Peak memory of forward and backward above the loaded model": bench_memory,
    "Generation with transformers": bench_generate,
    "Preprocessing of images as a generation asks for it": bench_images,
    "A whole step: generation, rewards, forward, backward, optimizer": bench_step,
}
NAMES = {bench.__name__.removeprefix("bench_"): title for title, bench in PARTS.items()}
"""{name on the command line: title}."""


def main() -> None:
    """Run the parts and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    quiet()
    torch.set_num_threads(args.threads)
    trl.trainer.utils._use_triton = lambda device: True
    if args.peak:
        print_peak(*args.peak)
        return
    titles = [NAMES[part] for part in args.parts]
    print_tables({title: PARTS[title](args.rounds) for title in titles}, args.json)


if __name__ == "__main__":
    main()
