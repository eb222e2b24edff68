"""Whether log-probabilities and gradients are right: one micro-batch, three ways.

Through boxrl's shared prefix, through TRL's own padded batch, and through TRL row by row, where
nothing is padded and nothing is shared. A trainer that corrupts them silently is told at once.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from trl import GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from boxrl.data.synthetic import World, scenes
from boxrl.engines.loading import load
from boxrl.engines.prefix.images import TYPES, tiles_per_row
from boxrl.engines.prefix.kernels import refuse_attention
from boxrl.engines.prefix.shared_prefix import enable, log_probs, plain_windows, unwrap
from boxrl.engines.training.batches import split_rows
from boxrl.engines.training.paths import pick_row
from boxrl.engines.training.projections import Projections, Projector, relative_difference
from boxrl.families import Family
from boxrl.prompts import PROMPTS, render_answer, render_messages
from boxrl.types import Detections

GROUP = 4
TRAINER = SimpleNamespace(accelerator=SimpleNamespace(autocast=nullcontext, is_main_process=True))

Way = tuple[Tensor, Projections]
"""Log-probabilities "b c", and gradients."""

LIMITS = (1e-4, 1e-3)
"""Largest difference of a log-probability, and of the gradients, relative, in float32."""
FLOOR = (0.1, 0.03)
"""The same in half precision, where TRL's own two ways differ by less."""
SLACK = 3.0
"""How many times as far as TRL's own two ways are apart, in half precision."""

REFERENCE = "TRL, row by row"
PAIRS = (("boxrl", REFERENCE), ("TRL, padded", REFERENCE), ("boxrl", "TRL, padded"))


def check_parity(
    folder: Path, family: Family, dtype: str, device: str, attention: str = "auto"
) -> dict[str, Any]:
    """Compare the three ways on synthetic scenes of two sizes, in the memory of a training step.

    Args:
        folder: of the model.
        family: its family.
        dtype: `auto`, `float32` or `bfloat16`; all three ways compute in it.
        device: `auto`, `cpu` or `cuda`.
        attention: the recipe's `engine.attention`.

    Returns:
        `dtype`, `log_prob` and `gradient`: per pair of ways the largest difference of a
        token's log-probability, and of the gradients, relative to their norm; `allowed` for both,
        the largest that is rounding; `ok`.

    Raises:
        UsageError: the machine does not run the attention.
    """
    model, processor = load(str(folder), dtype, device)
    refuse_attention(attention, model.device, model.dtype != torch.float32)
    model.eval()  # dropout would differ between the ways
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    enable(model, attention)
    batch, n_completion = _batch(processor, family, model.device)
    if "image_grid_thw" not in batch:
        batch["num_tiles"] = tiles_per_row(batch, unwrap(model).config.image_token_id)
    projector = Projector(model)
    found = {
        name: way(model, batch, n_completion, projector)
        for name, way in {
            "boxrl": _shared, "TRL, padded": _padded, REFERENCE: _row_by_row
        }.items()
    }  # fmt: skip
    mask = batch["attention_mask"][:, -n_completion:].bool()
    log_prob, gradient = {}, {}
    for one, other in PAIRS:
        pair = f"{one} | {other}"
        log_prob[pair] = float((found[one][0] - found[other][0])[mask].abs().max())
        gradient[pair] = relative_difference(found[one][1], found[other][1])
    name = str(model.dtype).removeprefix("torch.")
    ours, own = (f"{one} | {other}" for one, other in PAIRS[:2])
    allowed = LIMITS if name == "float32" else _allowed(log_prob[own], gradient[own])
    return {
        "dtype": name,
        "log_prob": log_prob,
        "gradient": gradient,
        "allowed": dict(zip(("log_prob", "gradient"), allowed, strict=True)),
        "ok": log_prob[ours] <= allowed[0] and gradient[ours] <= allowed[1],
    }


def _allowed(log_prob: float, gradient: float) -> tuple[float, float]:
    """Largest differences that are rounding, where TRL's own two ways differ by these."""
    return max(FLOOR[0], SLACK * log_prob), max(FLOOR[1], SLACK * gradient)


def _batch(processor: Any, family: Family, device: Any) -> tuple[dict[str, Any], int]:
    """Two questions with images of different sizes, GROUP answers of different lengths each."""
    prompts, images, answers = [], [], []
    for number, scene in enumerate(scenes(World(), 2, 0, "parity")):
        sample = scene.sample
        messages = render_messages(sample, PROMPTS["standard"], family)
        text = processor.apply_chat_template(messages, add_generation_prompt=True)
        size = (sample.width, sample.height) if number else (sample.width * 2, sample.height)
        picture = scene.image.resize(size, Image.Resampling.BILINEAR)
        objects = list(sample.objects) * GROUP
        for row in range(GROUP):
            prompts.append(text)
            images.append([picture])
            detections = Detections.from_objects(objects[: row * (number + 1)])
            answers.append(render_answer(detections, family, sample.size_wh))
    inputs = processor(text=prompts, images=images, padding=True, return_tensors="pt").to(device)
    tokenizer = processor.tokenizer
    ids = [tokenizer(a, add_special_tokens=False)["input_ids"] for a in answers]
    longest = max(map(len, ids))
    completion = torch.zeros(len(ids), longest, dtype=torch.long, device=device)
    mask = torch.zeros_like(completion)
    for row, tokens in enumerate(ids):
        completion[row, : len(tokens)] = torch.tensor(tokens, device=device)
        mask[row, : len(tokens)] = 1
    batch = dict(inputs)
    batch["input_ids"] = torch.cat([inputs["input_ids"], completion], 1)
    batch["attention_mask"] = torch.cat([inputs["attention_mask"], mask], 1)
    for name in TYPES:
        if name in batch:
            batch[name] = torch.cat([batch[name], 0 * mask], 1)
    batch["num_images"] = [1] * len(ids)
    return batch, longest


def _shared(model: Any, batch: dict[str, Any], n: int, projector: Projector) -> Way:
    rows = split_rows(batch, n)
    groups = [list(range(k, k + GROUP)) for k in range(0, len(batch["input_ids"]), GROUP)]
    with projector.collecting(model) as gradients:
        logps, _ = log_probs(model, rows, groups)
        _backward(logps, rows.completion_mask.bool(), slice(None))
    return logps.detach(), gradients


def _padded(model: Any, batch: dict[str, Any], n: int, projector: Projector) -> Way:
    with projector.collecting(model) as gradients:
        logps = _trl(model, batch, n)
        _backward(logps, batch["attention_mask"][:, -n:].bool(), slice(None))
    return logps.detach(), gradients


def _row_by_row(model: Any, batch: dict[str, Any], n: int, projector: Projector) -> Way:
    """Each row without its padding, gradients summed."""
    mask = batch["attention_mask"]
    found = torch.zeros(len(mask), n, dtype=torch.float32, device=mask.device)
    with projector.collecting(model) as gradients:
        for row in range(len(mask)):
            length = int(mask[row, -n:].sum())
            logps = _trl(model, pick_row(batch, row), length)
            _backward(logps, torch.ones_like(logps, dtype=torch.bool), slice(row, row + 1), n)
            found[row, :length] = logps.detach()[0]
    return found, gradients


def _trl(model: Any, batch: dict[str, Any], n: int) -> Tensor:
    """TRL's own method, on transformers' own attention."""
    others = {k: v for k, v in batch.items() if k not in ("input_ids", "attention_mask")}
    with plain_windows(model):
        logps: Tensor = GRPOTrainer._get_per_token_logps_and_entropies(
            TRAINER, model, batch["input_ids"], batch["attention_mask"], n, **others
        )[0]
    return logps


def _backward(logps: Tensor, mask: Tensor, rows: slice, width: int | None = None) -> None:
    """Differentiate a sum that weights every token differently."""
    width = width or logps.shape[1]
    weights = torch.randn(2 * GROUP, width, generator=torch.Generator().manual_seed(0))
    chosen = weights[rows, : logps.shape[1]].to(logps.device)
    (logps * chosen * mask).sum().backward()
