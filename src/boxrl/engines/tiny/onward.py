"""The packaged tiny VLM goes on learning, under words or a chat template of another kind."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLProcessor

from boxrl.engines.loading import load
from boxrl.engines.tiny.model import PACKAGED, SIZES
from boxrl.engines.tiny.teach import Batch, Teacher

START = "tiny-taught"


class OnwardTeacher(Teacher):
    """Starts from the packaged model, whose tokens keep their meaning; new words mean nothing."""

    def __init__(self, seed: int, processor: Qwen2_5_VLProcessor) -> None:
        super().__init__(seed, SIZES["base"], PACKAGED, processor)
        model, old = load(START, "float32", "cpu")
        take_over(self.model, model, self.tokenizer, old.tokenizer)

    def loss(self, phase: str, batch: Batch) -> Tensor:
        """A scalar: that of the answers. The packaged model looks already."""
        return self.answer_loss(batch, self.hidden(batch))

    def teach(self, phase: str, steps: int, fault: int, seed: int, rate: float, out: Path) -> None:
        """Run a phase, then a short one on faulty answers; OUT/taught and OUT/half_taught.

        Args:
            phase: name of the first one.
            steps: of the first phase.
            fault: steps of the second.
            seed: of both.
            rate: multiplies the learning rates of the first.
            out: folder of both models.
        """
        torch.manual_seed(seed + 1)
        self.train(phase, steps, steps, 0, seed, rate)
        self.save(out / "taught")
        self.train("fault", fault, fault, 0, seed + 1, rate=0.15)
        self.save(out / "half_taught")


@torch.no_grad()
def take_over(
    model: Any, start: Any, tokenizer: PreTrainedTokenizerFast, old: PreTrainedTokenizerFast
) -> None:
    """Give `model` every weight of `start`, and each token the embedding it had there.

    Args:
        model: under `tokenizer`.
        start: of the same widths, under `old`.
        tokenizer: of the model.
        old: of `start`.
    """
    weights = {k: v for k, v in start.state_dict().items() if "embed_tokens" not in k}
    model.load_state_dict({k: v for k, v in weights.items() if "lm_head" not in k}, strict=False)
    known = old.get_vocab()
    rows = model.get_input_embeddings().weight
    for token, row in tokenizer.get_vocab().items():
        if token in known:
            rows[row] = start.get_input_embeddings().weight[known[token]]


def build_parser(doc: str | None, phase: str, steps: int, fault: int) -> argparse.ArgumentParser:
    """What every module asks that teaches a model onward.

    Args:
        doc: the module's docstring.
        phase: name of the first phase, and of the option for its steps.
        steps: of the first phase by default.
        fault: steps of the second by default.
    """
    parser = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for both models")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(f"--{phase}", type=int, default=steps, help="steps of phase 1")
    parser.add_argument("--fault", type=int, default=fault, help="steps of phase 2")
    parser.add_argument("--threads", type=int, default=1)
    return parser
