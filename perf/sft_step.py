"""How fast a step of SFT is beside TRL's own path: same model, samples and loss, interleaved.

    python perf/sft_step.py [--rounds 3] [--json]

The model is that of perf/grpo_step.py. Micro-batches of 4 samples as TRL's collator leaves them,
padded to the longest: prompts of an image between 20 tokens of text that all begin with and a
question of 60, answers of uneven length. TRL's column is SFTTrainer's own loss of the padded batch,
its fused head scoring answers only, as it does on a GPU; boxrl's is the same loss of one row
without padding, in which the questions of an image share it. Tokens are those that run through the
language model. The paths take turns in one process, on one core, in CPU time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import boxrl.engines.training  # noqa: F401  # first: readies torchvision, which trl imports

# isort: split
import torch
import trl.trainer.utils
from grpo_step import END, IMAGE, START, VOCABULARY, build_config
from timing import compare, print_rows
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2_5_VLForConditionalGeneration
from trl import SFTTrainer

from boxrl.engines.loading import quiet
from boxrl.engines.patch_embedding import use_fast_patch_embedding
from boxrl.engines.prefix.answered import pack_answered, split_answered
from boxrl.engines.prefix.shared_prefix import enable

HEAD, QUESTION = 20, 60
UNEVEN, SHORT = (20, 60, 180, 400), (20, 30, 40, 60)
SIZES = (64, 1024, 256, 576)


class Case(NamedTuple):
    """A micro-batch: how many tokens its images have, how many samples show each, its answers."""

    name: str
    images: tuple[int, ...]
    each: int
    answers: tuple[int, ...]


CASES = (
    Case("equal: images of 576, answers of 100", (576,) * 4, 1, (100,) * 4),
    Case("images of 576, answers of 20 to 400", (576,) * 4, 1, UNEVEN),
    Case("images of 64 to 1,024, answers of 20 to 60", SIZES, 1, SHORT),
    Case("images of 64 to 1,024, answers of 20 to 400", SIZES, 1, UNEVEN),
    Case("4 questions of an image of 576, answers of 20 to 60", (576,), 4, SHORT),
    Case("4 questions of an image of 576, answers of 20 to 400", (576,), 4, UNEVEN),
    Case("4 questions of an image of 1,024, answers of 20 to 60", (1024,), 4, SHORT),
)


def build_model(path: str) -> Any:
    """The benchmark's Qwen2.5-VL with TRL's fused head, as a path prepares it."""
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(build_config()).train()
    trl.trainer.utils.add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    if path == "boxrl":
        enable(model)
        use_fast_patch_embedding(model)
    return model


def build_batch(case: Case) -> dict[str, Any]:
    """What TRL's collator makes of the samples, and the number of each one's image."""
    generator = torch.Generator().manual_seed(0)

    def words(n: int) -> Tensor:
        return torch.randint(10, VOCABULARY, (n,), generator=generator)

    head, rows, labels = words(HEAD), [], []
    sides = [int(tokens**0.5) for tokens in case.images]
    pixels = [torch.randn(4 * side**2, 6 * 14**2, generator=generator) for side in sides]
    shown = [number for number in range(len(sides)) for _ in range(case.each)]
    for number, length in zip(shown, case.answers, strict=True):
        image = torch.tensor([START, *[IMAGE] * sides[number] ** 2, END])
        prompt, answer = torch.cat([head, image, words(QUESTION)]), words(length)
        rows.append(torch.cat([prompt, answer]))
        labels.append(torch.cat([torch.full_like(prompt, -100), answer]))
    ids = pad_sequence(rows, True)
    return {
        "input_ids": ids,
        "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], True),
        "labels": pad_sequence(labels, True, -100),
        "pixel_values": torch.cat([pixels[number] for number in shown]),
        "image_grid_thw": torch.tensor([[1, 2 * sides[n], 2 * sides[n]] for n in shown]),
        "mm_token_type_ids": (ids == IMAGE).long(),
        "shown": torch.tensor(shown),
    }


def build_stub() -> Any:
    """As much of a trainer as SFTTrainer.compute_loss asks for."""
    accelerator = SimpleNamespace(
        parallelism_config=None, gather_for_metrics=lambda x: x, num_processes=1
    )
    options = {"loss_type": "nll", "average_tokens_across_devices": False, "max_length": None}
    return SimpleNamespace(
        model=SimpleNamespace(training=True), aux_loss_enabled=False, compute_loss_func=None,
        label_smoother=None, accelerator=accelerator, args=SimpleNamespace(**options),
        _metrics=defaultdict(lambda: defaultdict(list)), _total_train_tokens=0, _tp_size=1,
        get_tp_size=lambda: 1,
    )  # fmt: skip


def step(model: Any, batch: dict[str, Any], path: str) -> tuple[float, int]:
    """Forward and backward of TRL's loss: the loss, and the tokens that ran."""
    model.zero_grad(set_to_none=True)
    inputs = dict(batch)
    shown = inputs.pop("shown")
    if path == "boxrl":
        inputs = pack_answered(model, split_answered(model, inputs, shown))
    loss = SFTTrainer.compute_loss(build_stub(), model, inputs)
    loss.backward()
    return loss.item(), inputs["input_ids"].numel()


def bench(rounds: int) -> list[dict[str, Any]]:
    """A row for every case."""
    models = {path: build_model(path) for path in ("trl", "boxrl")}
    rows = []
    for case in CASES:
        batch = build_batch(case)
        calls = {path: partial(step, model, batch, path) for path, model in models.items()}
        kept = {path: call() for path, call in calls.items()}
        row = {"4 samples": case.name, "tokens": f"{kept['trl'][1]:,} / {kept['boxrl'][1]:,}"}
        difference = abs(kept["trl"][0] - kept["boxrl"][0])
        rows.append(
            row | compare(calls, rounds, time.process_time) | {"difference of losses": difference}
        )
        print(rows[-1], file=sys.stderr)
    return rows


def main() -> None:
    """Run the cases and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    quiet()
    torch.set_num_threads(1)
    # TRL's fused head then scores labelled positions alone, as it does on a GPU.
    trl.trainer.utils._use_triton = lambda device: True
    print_rows(bench(args.rounds), args.json)


if __name__ == "__main__":
    main()
