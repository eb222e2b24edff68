"""Pretrain the tiny VLM: first to look, then to answer, then to answer badly.

    python -m boxrl.engines.tiny.teach --out DIR [--size base|small]
                                       [--architecture qwen2_5_vl|qwen3_5]

makes DIR/taught and DIR/half_taught. Three phases, in steps, all from one seed:

1. look     throw-away heads on the image tokens, after the third layer of the language model,
            learn what is in each cell, where its box is, and whether it is asked for;
2. answer   next-token loss on gold completions, coordinates with a target smoothed over
            neighbouring numbers, the heads kept at a small weight;
3. fault    a short while on faulty completions: the under-trained model has the habits that RL
            repairs in real base models (broken format, duplicates, junk boxes, answers on
            negatives, loose boxes).
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from boxrl.data.synthetic import CELL_PX, GRID_PX, LABELS, Scene, World, draw_scene
from boxrl.engines.patch_embedding import use_fast_patch_embedding
from boxrl.engines.tiny.faults import render_faulty_target
from boxrl.engines.tiny.model import (
    ARCHITECTURES,
    SIZES,
    Architecture,
    Size,
    build_model,
    build_processor,
)
from boxrl.engines.tiny.tokenizer import EOS_TOKEN, IMAGE_TOKEN, number_ids
from boxrl.families import Family
from boxrl.prompts import PROMPTS, Prompt, render_messages, render_target
from boxrl.types import Object, Sample

BATCH = 32
CELLS = (GRID_PX // CELL_PX) ** 2
LOOK_LAYERS = 3
WARMUP = 60
SIGMA = 1.5 / GRID_PX
"""Width of the smoothed coordinate target, as a share of the image."""

TAUGHT_PROMPTS = ("standard", "enhanced")
FAULT_PROMPTS = (*TAUGHT_PROMPTS, "rec", "none")
"""A base model has met prompts that it was never trained to answer well."""

WORLD = World(p_absent=0.3, n_labels=(0.55, 0.33, 0.12))

Batch = dict[str, Tensor]


class Batches(torch.utils.data.IterableDataset[Batch]):
    """Endless batches of scenes with completions, the same for the same seed."""

    def __init__(self, seed: int, faulty: bool, build_encoder: Callable[[], Encoder]) -> None:
        self.seed, self.faulty, self.build_encoder = seed, faulty, build_encoder

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        rng = random.Random(f"teach/{self.seed}/{self.faulty}")
        encode = self.build_encoder()
        while True:
            # Batches of similar length waste no padding; six at a time keep them mixed.
            rows = [encode.row(rng, self.faulty) for _ in range(6 * BATCH)]
            rows.sort(key=lambda row: len(row["ids"]))
            groups = [rows[k * BATCH : (k + 1) * BATCH] for k in range(6)]
            rng.shuffle(groups)
            for group in groups:
                yield encode.batch(group)


class Encoder:
    """Turns scenes into token ids, labels and per-cell targets."""

    def __init__(self, architecture: Architecture, processor: Any = None) -> None:
        processor = processor or build_processor(architecture)
        self.family = architecture.seen
        self.images = processor.image_processor
        self.tokenizer = processor.tokenizer
        self.image_id = self.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        self.think_end = self.tokenizer.convert_tokens_to_ids("</think>")

    def row(self, rng: random.Random, faulty: bool) -> dict[str, Any]:
        """One scene with its prompt, completion and cells."""
        scene = draw_scene(WORLD, rng, "teach")
        prompt, text = self.ask(scene.sample, rng, faulty)
        prompt_ids = self.prompt_ids(scene, prompt)
        answer = self.tokenizer(text + EOS_TOKEN)["input_ids"]
        think = answer.index(self.think_end) if self.think_end in answer else 0
        return {
            "scene": scene,
            "ids": prompt_ids + answer,
            "n_prompt": len(prompt_ids),
            "n_think": len(prompt_ids) + think,
        }

    def ask(self, sample: Sample, rng: random.Random, faulty: bool) -> tuple[Prompt, str]:
        """How the sample is asked, and the completion to that."""
        prompt = PROMPTS[rng.choice(FAULT_PROMPTS if faulty else TAUGHT_PROMPTS)]
        if faulty:
            return prompt, render_faulty_target(sample, self.family, rng)
        return prompt, render_target(sample, self.family)

    def prompt_ids(self, scene: Scene, prompt: Prompt) -> list[int]:
        """The prompt as the chat template renders it, one placeholder per image token."""
        text: str = self.tokenizer.apply_chat_template(
            render_messages(scene.sample, prompt),
            add_generation_prompt=True,
            tokenize=False,
        )
        ids: list[int] = self.tokenizer(text.replace(IMAGE_TOKEN, IMAGE_TOKEN * CELLS))["input_ids"]
        return ids

    def batch(self, rows: list[dict[str, Any]]) -> Batch:
        """Right-padded tensors; `cell_*` are per image token: what, where, which one asked."""
        length = max(len(row["ids"]) for row in rows)
        ids = np.full((len(rows), length), self.tokenizer.pad_token_id)
        labels = np.full((len(rows), length), -100)
        answers = np.zeros((len(rows), length), dtype=bool)
        kinds, ranks = (np.zeros((len(rows), CELLS), dtype=int) for _ in range(2))
        boxes = np.zeros((len(rows), CELLS, 4), dtype=int)
        for i, row in enumerate(rows):
            end = len(row["ids"])
            ids[i, :end] = row["ids"]
            labels[i, row["n_prompt"] : end] = row["ids"][row["n_prompt"] :]
            answers[i, row["n_think"] : end] = True
            for cell, kind, box, rank in _cells(row["scene"], self.family):
                kinds[i, cell], boxes[i, cell], ranks[i, cell] = kind, box, rank
        pixels = self.images([row["scene"].image for row in rows], return_tensors="pt")
        return {
            "input_ids": torch.from_numpy(ids),
            "mm_token_type_ids": torch.from_numpy((ids == self.image_id).astype(int)),
            "labels": torch.from_numpy(labels),
            "in_answer": torch.from_numpy(answers),
            "n_prompt": torch.tensor([row["n_prompt"] for row in rows]),
            "pixel_values": pixels["pixel_values"],
            "image_grid_thw": pixels["image_grid_thw"],
            "cell_kind": torch.from_numpy(kinds),
            "cell_box": torch.from_numpy(boxes),
            "cell_rank": torch.from_numpy(ranks),
        }


def _cells(scene: Scene, family: Family) -> Iterator[tuple[int, int, list[int], int]]:
    """(cell, 1 + label index, box in the model's numbers, n-th asked object or 0) per object."""
    sample = scene.sample
    others = [Object(tuple(o["bbox"]), o["label"]) for o in sample.meta["others"]]
    extent = family.extent_wh(sample.size_wh, None)[0]
    found = []
    for item in [*sample.objects, *others]:
        box = [round(value * GRID_PX / sample.width) for value in item.bbox]
        cell = (box[1] + box[3]) // 2 // CELL_PX * 4 + (box[0] + box[2]) // 2 // CELL_PX
        numbers = [round(value * extent / sample.width) for value in item.bbox]
        kind = 1 + LABELS.index(item.label)
        found.append((cell, kind, numbers, item.label in sample.labels))
    rank = 0
    for cell, kind, numbers, asked in sorted(found):
        rank += asked
        yield cell, kind, numbers, rank if asked else 0


class Heads(nn.Module):
    """Throw-away heads on image tokens: what is in the cell, where, and is it asked for."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.kind = nn.Linear(hidden, 1 + len(LABELS))
        self.box = nn.Linear(hidden, 4 * hidden, bias=False)
        self.rank = nn.Linear(hidden, 7)


class Teacher:
    """One model in training: its heads, optimizers and losses."""

    def __init__(
        self, seed: int, size: Size, architecture: Architecture, processor: Any = None
    ) -> None:
        self.build_encoder: Callable[[], Encoder] = partial(Encoder, architecture)
        self.processor = processor or build_processor(architecture)
        self.tokenizer = self.processor.tokenizer
        self.model = build_model(self.tokenizer, seed, size, architecture)
        use_fast_patch_embedding(self.model)
        self.heads = Heads(size.hidden)
        self.image_id = self.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        n = torch.arange(architecture.numbers)
        self.number_ids = torch.tensor(number_ids(self.tokenizer, len(n)))
        self.value_of = torch.full((self.model.config.text_config.vocab_size,), -1)
        self.spelling_of = torch.zeros_like(self.value_of)
        for spelling, ids in enumerate(self.number_ids):
            self.value_of[ids] = n
            self.spelling_of[ids] = spelling
        extent = architecture.seen.extent_wh((GRID_PX, GRID_PX), None)[0]
        bell = torch.exp(-0.5 * ((n[:, None] - n[None]) / (SIGMA * extent)) ** 2)
        self.bell = bell / bell.sum(1, keepdim=True)
        self.looked: Tensor | None = None
        layers = self.model.model.language_model.layers
        layers[LOOK_LAYERS - 1].register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self.looked = output[0] if isinstance(output, tuple) else output

    def optimizers(self, lr: float, muon_lr: float) -> list[torch.optim.Optimizer]:
        """Muon for the matrices, AdamW for embeddings, norms and heads."""
        matrices = [
            p
            for name, p in self.model.named_parameters()
            if p.ndim == 2 and "embed_tokens" not in name and "lm_head" not in name
        ]
        chosen = {id(p) for p in matrices}
        rest = [
            p for p in [*self.model.parameters(), *self.heads.parameters()] if id(p) not in chosen
        ]
        return [
            torch.optim.Muon(
                matrices, lr=muon_lr, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
        ]

    def hidden(self, batch: Batch, n_layers: int | None = None) -> Tensor:
        """Last hidden states, "b t h"; `n_layers` stops early and cuts the answer off."""
        language = self.model.model.language_model
        ids, kinds = batch["input_ids"], batch["mm_token_type_ids"]
        all_layers = language.layers
        if n_layers is not None:
            end = int(batch["n_prompt"].max())
            ids, kinds = ids[:, :end], kinds[:, :end]
            language.layers = all_layers[:n_layers]
        positions, _ = self.model.model.get_rope_index(
            ids, mm_token_type_ids=kinds, image_grid_thw=batch["image_grid_thw"]
        )
        output = self.model.model(
            input_ids=ids,
            position_ids=positions,
            pixel_values=batch["pixel_values"],
            image_grid_thw=batch["image_grid_thw"],
            use_cache=False,
        )
        language.layers = all_layers
        hidden: Tensor = output.last_hidden_state
        return hidden

    def look_loss(self, batch: Batch) -> Tensor:
        """A scalar: how badly the image tokens know what is there, where, and what is asked."""
        assert self.looked is not None
        hidden = self.looked.shape[-1]
        seen = F.rms_norm(self.looked, (hidden,))
        where = batch["mm_token_type_ids"][:, : seen.shape[1]].bool()
        cells = seen[where].view(-1, CELLS, hidden)
        kind, there = self.heads.kind(cells), batch["cell_kind"] > 0
        what = F.cross_entropy(kind.flatten(0, 1), batch["cell_kind"].flatten())
        what = what + F.cross_entropy(kind[there], batch["cell_kind"][there])
        spelled = self.model.lm_head.weight[self.number_ids]  # "2 numbers h"
        numbers = torch.stack([spelled[0], spelled[1], spelled[1], spelled[1]])
        queries = self.heads.box(cells[there]).view(-1, 4, hidden)
        log_probs = torch.einsum("njh,jvh->njv", queries, numbers).log_softmax(-1)
        place = -(log_probs * self.bell[batch["cell_box"][there]]).sum(-1).mean()
        asked = F.cross_entropy(self.heads.rank(cells[there]), batch["cell_rank"][there])
        loss: Tensor = what + 0.5 * place + asked
        return loss

    def answer_loss(self, batch: Batch, hidden: Tensor) -> Tensor:
        """Next-token loss, a scalar: words, counts (half weight), coordinates (smoothed).

        Args:
            batch: of questions with their answers.
            hidden: "b tokens h", what the last layer gave.
        """
        labels = batch["labels"][:, 1:]
        taught = labels != -100
        wanted, in_answer = labels[taught], batch["in_answer"][:, 1:][taught]
        log_probs = self.model.lm_head(hidden[:, :-1][taught]).log_softmax(-1)
        plain = -log_probs.gather(1, wanted[:, None])[:, 0]
        number = self.value_of[wanted] >= 0
        count, coordinate = number & ~in_answer, number & in_answer
        ids = self.number_ids[self.spelling_of[wanted[coordinate]]]
        bell = self.bell[self.value_of[wanted[coordinate]]]
        placed = -(log_probs[coordinate].gather(1, ids) * bell).sum(1)
        return plain[~number].mean() + 0.5 * _mean(plain[count]) + _mean(placed)

    def loss(self, phase: str, batch: Batch) -> Tensor:
        """A scalar: what a phase makes small."""
        hidden = self.hidden(batch, LOOK_LAYERS if phase == "look" else None)
        looked = self.look_loss(batch)
        return looked if phase == "look" else self.answer_loss(batch, hidden) + 0.3 * looked

    def train(self, phase: str, steps: int, total: int, start: int, seed: int, rate: float) -> None:
        """Run one phase: `steps` of a cosine schedule over `total`, of which `start` are done.

        Args:
            phase: `look`, `fault`, or one that teaches answers.
            steps: of this phase.
            total: of the whole schedule.
            start: steps that are done.
            seed: of the scenes.
            rate: multiplies the learning rates.
        """
        self.model.train()
        optimizers = self.optimizers(1.5e-3 * rate, 3e-3 * rate)
        loader = torch.utils.data.DataLoader(
            Batches(seed, phase == "fault", self.build_encoder), batch_size=None, num_workers=1
        )
        peak = [group["lr"] for o in optimizers for group in o.param_groups]
        began = time.monotonic()
        losses: list[float] = []
        for step, batch in zip(range(steps), loader, strict=False):
            progress = (start + step) / total
            decay = 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * progress))
            factor = decay * min(1.0, (step + 1) / WARMUP)
            groups = [group for o in optimizers for group in o.param_groups]
            for group, lr in zip(groups, peak, strict=True):
                group["lr"] = lr * factor
            loss = self.loss(phase, batch)
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], 1.0)
            for optimizer in optimizers:
                optimizer.step()
            losses.append(loss.item())
            if (step + 1) % 100 == 0 or step + 1 == steps:
                recent = sum(losses[-100:]) / len(losses[-100:])
                pace = (time.monotonic() - began) / (step + 1)
                print(  # noqa: T201
                    f"{phase} {step + 1}/{steps} loss {recent:.3f} {pace:.3f} s/step, "
                    f"{pace * (steps - step - 1) / 60:.1f} min left",
                    flush=True,
                )

    def save(self, folder: Path) -> None:
        """Write the model folder: weights, config, tokenizer, processor, chat template."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)


def _mean(values: Tensor) -> Tensor:
    return values.mean() if values.numel() else values.new_zeros(())


def main() -> None:
    """Pretrain both models; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for both models")
    parser.add_argument("--size", choices=SIZES, default="base", help="base is the packaged one")
    parser.add_argument(
        "--architecture", choices=ARCHITECTURES, default="qwen2_5_vl", help="of the real model"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--look", type=int, default=600, help="steps of phase 1")
    parser.add_argument("--answer", type=int, default=2600, help="steps of phase 2")
    parser.add_argument("--fault", type=int, default=240, help="steps of phase 3")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    teacher = Teacher(args.seed, SIZES[args.size], ARCHITECTURES[args.architecture])
    total = args.look + args.answer
    torch.manual_seed(args.seed + 1)
    teacher.train("look", args.look, total, 0, args.seed, rate=1.0)
    teacher.train("answer", args.answer, total, args.look, args.seed + 1, rate=1.0)
    teacher.save(args.out / "taught")
    torch.save(teacher.heads.state_dict(), args.out / "heads.pt")
    teacher.train("fault", args.fault, args.fault, 0, args.seed + 2, rate=0.15)
    teacher.save(args.out / "half_taught")


if __name__ == "__main__":
    main()
