"""Which layers a prompt is shared exactly through, and what its tokens see in each kind of them.

A model says itself which of its tokens see each other: windows, image tokens that see each other
both ways, whole prompts that do. What it says is the mask that it generates with.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import masking_utils

from boxrl.errors import UsageError

NAMES = {
    "auto": "boxrl_shared_prefix",
    "sdpa": "boxrl_shared_prefix_sdpa",
    "varlen": "boxrl_shared_prefix_varlen",
    "flex": "boxrl_shared_prefix_flex",
}
"""The recipe's `engine.attention` -> what transformers knows the attention by."""
TOWER = "boxrl_flash_windows"
"""That of a vision tower; transformers hands all windows over at once where a name has flash."""
FULL, SLIDING = "full_attention", "sliding_attention"
ATTENTION = frozenset({FULL, SLIDING})
"""Kinds of layers in which a token sees others, as the model's masks say."""
RECURRENT = frozenset({"linear_attention", "conv"})
"""Kinds of layers that only look back, at a state that the prompt leaves behind."""
OF_IMAGES = frozenset({"cross_attention_mask", "image_attention_mask"})
"""Inputs of models whose tokens look at images in layers of their own: Mllama, Idefics."""


def layer_kinds(config: Any) -> list[str]:
    """The kind of every layer, in transformers' words.

    Args:
        config: of the language model.
    """
    named = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    kinds: list[str] = named or [SLIDING if window else FULL] * config.num_hidden_layers
    return kinds


def kind_of(module: Any) -> str:
    """The kind of an attention layer of transformers."""
    return layer_kinds(module.config)[module.layer_idx]


def looks_back(model: Any) -> bool:
    """Whether it has layers that only look back.

    Args:
        model: unwrapped.
    """
    return not RECURRENT.isdisjoint(layer_kinds(model.config.get_text_config()))


def unshared(model: Any) -> str | None:
    """Why a prompt cannot be shared exactly by this model; None where it can.

    Args:
        model: as it was loaded, unwrapped.
    """
    config = model.config.get_text_config()
    if model.config.is_encoder_decoder:
        return "it has an encoder"
    unknown = sorted({*layer_kinds(config)} - ATTENTION - RECURRENT)
    if unknown:
        return f"it has layers of kind {', '.join(unknown)}"
    if OF_IMAGES & inspect.signature(type(model).forward).parameters.keys():
        return "its tokens look at images in layers of their own"
    if config._attn_implementation not in ("sdpa", *NAMES.values()):
        return f"its attention is {config._attn_implementation}, not SDPA"
    return None


def sight(model: Any, prompt: int, completion: int, types: Tensor | None) -> dict[str, Tensor]:
    """What the tokens of a prompt and its completion see, by kind of attention layer.

    Args:
        model: unwrapped.
        prompt: tokens of the prompt.
        completion: tokens of the completion.
        types: Long "prompt": what the processor says of each token, such as 1 for images.

    Returns:
        Bool "n n" for n = prompt + completion tokens; kinds that are plainly causal are left out.

    Raises:
        UsageError: see `answer_type`.
    """
    whole = None
    if types is not None:
        answer = torch.full_like(types[:1], answer_type(model, types)).expand(completion)
        whole = torch.cat([types, answer])[None]
    return _masks(model, prompt + completion, whole)


def answer_type(model: Any, types: Tensor) -> int:
    """What the model calls a token of an answer: 0 or 1.

    An answer is written from left to right. Models by whose types a prompt sees itself both ways
    have one for prompts and one for answers; TRL gives answers the type 0, which is that of
    PaliGemma's prompts, and so shows every token of an answer to those before it.

    Args:
        model: unwrapped.
        types: Long "n", what the processor says of each token of a prompt.

    Raises:
        UsageError: the model's masks show it tokens of an answer before they are written.
    """
    prompt = len(types)
    for kind in (0, 1):
        masks = _masks(model, prompt + 2, F.pad(types, (0, 2), value=kind)[None])
        if not any(mask[:, prompt:].triu(1 - prompt).any() for mask in masks.values()):
            return kind
    raise UsageError(
        "the model's masks show it tokens of an answer before they are written; boxrl cannot train "
        "it on whole answers"
    )


def _masks(model: Any, length: int, types: Tensor | None) -> dict[str, Tensor]:
    """The masks of one sequence by which the model generates; see `sight`."""
    create = getattr(model, "create_masks_for_generate", masking_utils.create_masks_for_generate)
    if types is not None:
        types = types.to(model.device)  # a processor leaves them elsewhere
    # Only shape, dtype and device of the embeddings are read.
    made = create(
        model.config,
        torch.empty(1, length, 0, dtype=model.dtype, device=model.device),
        None,
        None,  # the cache, whose name changes with the version
        position_ids=None,
        token_type_ids=types,
        mm_token_type_ids=types,
        is_first_iteration=True,
    )
    kinds = set(layer_kinds(model.config.get_text_config())) & ATTENTION
    masks = made if isinstance(made, dict) else dict.fromkeys(kinds, made)
    return {kind: masks[kind][0, 0] for kind in kinds if masks.get(kind) is not None}


def keeps_last(seen: Mapping[str, Tensor], prompt: int) -> bool:
    """Whether tokens of the prompt see its last one, which then cannot be taken from them.

    Args:
        seen: of `sight`, Bool "n n" each.
        prompt: tokens of the prompt.
    """
    return any(bool(mask[: prompt - 1, prompt - 1].any()) for mask in seen.values())


class Seen(NamedTuple):
    """What the parts of a prompt and its completion see, where it is not what stands before them.

    Attributes:
        prefix: Bool "n n", tokens that other prompts begin with, too.
        rest: Bool "r n+r", those behind them.
        answer: Bool "c n+r+c".
    """

    prefix: Tensor
    rest: Tensor
    answer: Tensor

    def of_answer(self, start: int, end: int) -> Tensor:
        """Bool "m n+r+end", what m tokens of the completion see: those from `start` up to `end`."""
        rows, columns = self.answer.shape
        return self.answer[start:end, : columns - rows + end]


def split_mask(mask: Tensor, shared: int, prompt: int, keeps_last: bool) -> Seen:
    """The mask of one sequence as the parts of a packed row have it.

    Args:
        mask: Bool "n n", the prompt's tokens first, then the completion's but the last one.
        shared: tokens of the prompt that other prompts begin with, too.
        prompt: tokens of the prompt.
        keeps_last: whether the last prompt token stays among those before it, which see it. The
            completion then begins with a copy of it, which sees what it sees and is seen by nobody.
    """
    answer, end = mask[prompt - 1 :], prompt - 1
    if keeps_last:
        unseen = torch.zeros_like(answer[:, :1])
        answer, end = torch.cat([answer[:, :prompt], unseen, answer[:, prompt:]], 1), prompt
    return Seen(mask[:shared, :shared], mask[shared:end, :end], answer)
