"""The packaged tiny VLM goes on learning, under words or a chat template of another kind."""

from __future__ import annotations

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
