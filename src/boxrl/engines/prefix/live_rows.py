"""Generation whose rows leave the batch as they end, where transformers runs all of them on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from boxrl.engines.prefix.images import BY_TOKEN
from boxrl.engines.prefix.kv_cache import cache_argument, draws_per_prompt, give_room, select_rows
from boxrl.engines.prefix.shared_prefix import unwrap

EVERY = 8
"""Tokens between two looks at what has ended: a look waits for the GPU."""

WORTH = 0.8
"""Rows leave where at most this share of them stays: the cache is copied for it."""


@torch.no_grad()
def generate(model: Any, **options: Any) -> Tensor:
    """`model.generate`, which runs the model on the rows that have not ended.

    Law: the same tokens, greedy, and sampled with the same random state, up to the rounding of
    batches of other sizes.

    Args:
        model: unwrapped from DDP; PEFT is fine.
        options: what `generate` takes, inputs among them.

    Returns:
        Long "b p+c": prompts and completions, as `generate` returns them.
    """
    base = unwrap(model)
    ends, cache = _setting(base, options, "eos_token_id"), cache_argument(type(base).forward)
    if ends is None or cache is None or (_setting(base, options, "num_beams") or 1) > 1:
        output: Tensor = model.generate(**options)
        return output
    rows = _LiveRows(torch.as_tensor(ends, device=base.device), cache)
    hooks = (
        base.register_forward_pre_hook(rows.before, with_kwargs=True),
        base.register_forward_hook(rows.after, with_kwargs=True),
    )
    try:
        output = model.generate(**options)
    finally:
        for hook in hooks:
            hook.remove()
    return output


def _setting(base: Any, options: dict[str, Any], name: str) -> Any:
    """What `generate` goes by: the option itself, the config among the options, the model's."""
    config = options.get("generation_config") or base.generation_config
    return options.get(name, getattr(config, name))


class _LiveRows:
    """Hooks around a model's forward: `generate` sees all rows, the model those that go on."""

    def __init__(self, ends: Tensor, cache: str) -> None:
        """End at one of `ends`, Long; `cache` is the model's argument of that name."""
        self._ends = ends
        self._cache = cache
        self._tokens = 0
        self._ended = torch.empty(0)
        self._rows = torch.empty(0)

    def before(self, _: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The inputs of the rows that go on."""
        last = kwargs["input_ids"][:, -1]
        if not self._tokens:
            self._rows = torch.arange(len(last), device=last.device)
            self._ended = torch.zeros_like(last, dtype=torch.bool)
        else:
            self._ended |= torch.isin(last, self._ends)
            cache = kwargs.get(self._cache)
            if cache is not None and self._tokens % EVERY == 0:
                self._leave(cache)
        self._tokens += 1
        if len(self._rows) == len(last):
            return args, kwargs
        return args, {name: self._of_rows(name, x) for name, x in kwargs.items()}

    def after(self, _: Any, __: Any, kwargs: dict[str, Any], output: Any) -> Any:
        """The output with a row for each of the batch; the logits of ended ones are 0."""
        cache = kwargs.get(self._cache)
        if cache is not None and self._tokens == 1:
            give_room(cache)
        if len(self._rows) < len(self._ended):
            logits = output.logits.new_zeros(len(self._ended), *output.logits.shape[1:])
            logits[self._rows] = output.logits
            output.logits = logits
        return output

    def _leave(self, cache: Any) -> None:
        """Take ended rows out of the cache; of prompts with several draws, equally many stay."""
        going = ~self._ended[self._rows].view(-1, draws_per_prompt(cache))
        draws = going.sum(1)
        most, prompts = int(draws.max()), draws.nonzero()[:, 0]
        if not 0 < most * len(prompts) <= WORTH * len(self._rows):
            return
        first = going[prompts].sort(dim=1, descending=True, stable=True).indices[:, :most]
        kept = prompts[:, None] * going.shape[1] + first
        select_rows(cache, kept)
        self._rows = self._rows[kept.flatten()]

    def _of_rows(self, name: str, x: Any) -> Any:
        if name == "position_ids" and x is not None:  # "b c", or with axes before it
            return x.index_select(-2, self._rows) if x.shape[-2] > 1 else x
        return x[self._rows] if name in BY_TOKEN and x is not None else x
