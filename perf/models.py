"""Which architectures share a prompt exactly: rewrites the tables of docs/models.md.

    python perf/models.py [--rounds 3] [--threads 1] [--print]

Small models of random weights, of the real classes: log-probabilities and gradients of boxrl's
shared prompt, and of TRL's own padded batch, against TRL row by row, in float32. Then the time of a
Qwen3.5 micro-batch beside TRL's path, interleaved, on models of the sizes of perf/grpo_step.py.
Exit status 1 where a shared prompt is off by more than 1e-5 in log-probability or 1e-4 in gradient.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import boxrl.engines.training  # noqa: F401  # first: readies torchvision, which trl imports

# isort: split
sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/ builds the small models

import torch
import trl.trainer.utils
from grpo_step import END, IMAGE, START, VIDEO, VOCABULARY, G, build_batch, build_config, train_step
from tests.support.random_models import Batch, build_model
from tests.support.random_models import build_batch as small_batch
from timing import compare, print_tables
from torch import Tensor
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration
from trl import GRPOTrainer

from boxrl.engines.loading import quiet
from boxrl.engines.patch_embedding import use_fast_patch_embedding
from boxrl.engines.prefix.shared_prefix import enable, log_probs
from boxrl.engines.training.batches import split_rows
from boxrl.engines.training.parity import TRAINER
from boxrl.engines.training.paths import path_of_trl, pick_row

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
BEGIN, END_MARK = "<!-- parity: begin -->", "<!-- parity: end -->"
NAMES = {
    "qwen2-vl": "Qwen2-VL",
    "qwen2.5-vl": "Qwen2.5-VL",
    "qwen3-vl": "Qwen3-VL",
    "qwen3-vl-moe": "Qwen3-VL, experts",
    "qwen3.5-linear": "Qwen3.5, linear layers alone",
    "qwen3.5": "Qwen3.5, linear and full layers",
    "qwen3.5-moe": "Qwen3.5, experts",
    "internvl": "InternVL",
    "glm-4v": "GLM-4.1V",
    "glm-4.6v": "GLM-4.6V",
    "gemma3": "Gemma 3, window longer than the prompt",
    "gemma3, short window": "Gemma 3, window shorter than the prompt",
    "gemma4": "Gemma 4, window shorter than the prompt",
    "paligemma": "PaliGemma",
    "paligemma 2": "PaliGemma 2",
    "lfm2-vl": "LFM2-VL",
    "lfm3-vl": "LFM3-VL",
}
"""Architecture of the small models -> what it is called."""
GROUPS, SIZE, LENGTHS = 2, 3, (9, 4, 1, 7, 9, 2)
NEAR, CLOSE = 1e-5, 1e-4
"""Largest differences of a log-probability and of the gradient, relative, that are exact."""
SPEED = [(576, 100)]
"""Image tokens and completion tokens."""


class Scored(NamedTuple):
    """Log-probabilities "b c", and the gradients of a weighted sum of them by name."""

    log_probs: Tensor
    gradients: dict[str, Tensor]


def score(model: Any, batch: Batch, path: str) -> Scored:
    """A micro-batch by one of the three ways."""
    n, rows = batch.n_completion, len(batch.input_ids)
    weights = torch.randn(rows, n, generator=torch.Generator().manual_seed(0))
    found = torch.zeros(rows, n)
    model.zero_grad()
    if path == "boxrl":
        groups = [list(range(k, k + SIZE)) for k in range(0, rows, SIZE)]
        parts = [(slice(None), n, log_probs(model, split_rows(batch.inputs, n), groups)[0])]
    elif path == "TRL, padded":
        parts = [(slice(None), n, trl_log_probs(model, batch.inputs, n))]
    else:
        lengths = batch.completion_mask.sum(1).tolist()
        parts = [
            (slice(k, k + 1), length, trl_log_probs(model, pick_row(batch.inputs, k), length))
            for k, length in enumerate(lengths)
        ]
    for row, length, logps in parts:
        (logps * weights[row, :length] * batch.completion_mask[row, :length]).sum().backward()
        found[row, :length] = logps.detach()
    named = model.named_parameters()
    return Scored(found, {name: p.grad.clone() for name, p in named if p.grad is not None})


def trl_log_probs(model: Any, inputs: dict[str, Any], n: int) -> Tensor:
    """TRL's own method."""
    others = {k: v for k, v in inputs.items() if k not in ("input_ids", "attention_mask")}
    logps: Tensor = GRPOTrainer._get_per_token_logps_and_entropies(
        TRAINER, model, inputs["input_ids"], inputs["attention_mask"], n, **others
    )[0]
    return logps


def differ(one: Scored, other: Scored, real: Tensor) -> tuple[float, float]:
    """Largest difference of a log-probability, and of the gradient relative to its norm."""
    error = sum((one.gradients[name] - g).square().sum() for name, g in other.gradients.items())
    total = sum(g.square().sum() for g in other.gradients.values())
    log_prob = (one.log_probs - other.log_probs)[real].abs().max()
    return float(log_prob), float((torch.as_tensor(error) / torch.as_tensor(total)).sqrt())


def measure_parity(kind: str) -> dict[str, Any]:
    """A row of the table."""
    model, batch = build_model(kind).eval(), small_batch(kind, GROUPS, SIZE, LENGTHS)
    why = path_of_trl(model, {"router_aux_loss_coef": 0.0})
    apart = score(model, batch, "TRL, row by row")
    padded = differ(score(model, batch, "TRL, padded"), apart, batch.completion_mask)
    row: dict[str, Any] = {"architecture": NAMES[kind], "prompt": "shared, exact"}
    if why:
        row["prompt"] = f"TRL's path: {why}"
    elif path_of_trl(model, {}):
        row["prompt"] = "shared, exact, with `train.trl.router_aux_loss_coef: 0`; else TRL's path"
    ours: tuple[Any, Any] = ("", "")
    if not why:
        enable(model)
        ours = differ(score(model, batch, "boxrl"), apart, batch.completion_mask)
    row |= {"log-probability": ours[0], "gradient": ours[1]}
    return row | {"TRL padded: log-probability": padded[0], "TRL padded: gradient": padded[1]}


def build_qwen3_5(path: str) -> Any:
    """A Qwen3.5 of the benchmark's sizes, three linear layers before each full one."""
    torch.manual_seed(0)
    sizes = build_config()
    text = {
        name: getattr(sizes.text_config, name)
        for name in (
            "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
            "initializer_range", "max_position_embeddings", "pad_token_id",
        )
    }  # fmt: skip
    text |= {
        "vocab_size": VOCABULARY, "num_hidden_layers": 8, "head_dim": 64,
        "linear_num_key_heads": 6, "linear_num_value_heads": 6, "linear_key_head_dim": 64,
        "linear_value_head_dim": 64,
        "layer_types": [*["linear_attention"] * 3, "full_attention"] * 2,
        "rope_parameters": {
            "rope_type": "default", "rope_theta": 1e4, "mrope_section": [12, 10, 10],
            "mrope_interleaved": True, "partial_rotary_factor": 1.0,
        },
    }  # fmt: skip
    vision = {
        "depth": 4, "hidden_size": 256, "intermediate_size": 512, "num_heads": 4,
        "out_hidden_size": 384, "patch_size": 16, "spatial_merge_size": 2,
        "temporal_patch_size": 2, "num_position_embeddings": 2304, "initializer_range": 0.03,
    }  # fmt: skip
    config = Qwen3_5Config(
        text_config=text, vision_config=vision, image_token_id=IMAGE, video_token_id=VIDEO,
        vision_start_token_id=START, vision_end_token_id=END, tie_word_embeddings=True,
    )  # fmt: skip
    model = Qwen3_5ForConditionalGeneration(config).train()
    trl.trainer.utils.add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    if path == "boxrl":
        enable(model)
        use_fast_patch_embedding(model)
    return model


def measure_speed(rounds: int) -> list[dict[str, Any]]:
    """Forward and backward of one prompt with its completions, both paths in turn."""
    models = {path: build_qwen3_5(path) for path in ("trl", "boxrl")}
    rows = []
    for tokens, completion in SPEED:
        batch = build_batch(tokens, completion, 1, patch=16)
        calls = {
            path: partial(train_step, model, batch, completion, path)
            for path, model in models.items()
        }
        kept = {path: call() for path, call in calls.items()}
        difference = float((kept["trl"] - kept["boxrl"]).abs().max())
        row = {"image tokens": tokens, "completions": G, "tokens each": completion}
        rows.append(row | compare(calls, rounds) | {"largest difference": difference})
        print(rows[-1], file=sys.stderr)
    return rows


def main() -> int:
    """Measure, and write what was measured between the marks of the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--print", action="store_true", help="leave the page as it is")
    args = parser.parse_args()
    quiet()
    torch.set_num_threads(args.threads)
    parity = [measure_parity(kind) for kind in NAMES]
    trl.trainer.utils._use_triton = lambda device: True  # as on a GPU: completions alone are scored
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        tables = {
            "Against TRL row by row": parity,
            "Forward and backward of a Qwen3.5 micro-batch": measure_speed(args.rounds),
        }
        print_tables(tables, False)
    if args.print:
        print(printed.getvalue())
    else:
        before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
        after = rest.partition(END_MARK)[2]
        text = f"{before}{BEGIN}\n{printed.getvalue().strip()}\n{END_MARK}{after}"
        PAGE.write_text(text, "utf-8")
    shared = [row for row in parity if row["log-probability"] != ""]
    return int(any(row["log-probability"] > NEAR or row["gradient"] > CLOSE for row in shared))


if __name__ == "__main__":
    sys.exit(main())
